"""A small data set in files, and the settings of a run on it."""

import dataclasses

import pytest

from uatmc_jax.data import load_dataset, write_dataset
from uatmc_jax.settings import from_config


@pytest.fixture(scope="session")
def data_root(dataset, tmp_path_factory):
    """The folder of data sets, with "synthetic" in it."""
    root = tmp_path_factory.mktemp("data")
    write_dataset(dataset, root / "synthetic")
    return root


@pytest.fixture
def settings(config, data_root):
    """configs/test.py on the files."""
    config.data.source, config.data.root = "mmrec", str(data_root)
    return from_config(config)


@pytest.fixture
def with_modalities(settings):
    """(the settings, the data set) with other modalities, or their order."""

    def change(*entries):
        data = dataclasses.replace(settings.data, modalities=entries)
        changed = dataclasses.replace(
            settings,
            data=data,
            adversarial=dataclasses.replace(settings.adversarial, defense="uat"),
        )
        return changed, load_dataset(f"{data.root}/{data.name}", data.name, entries)

    return change
