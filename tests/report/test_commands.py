"""The commands a report gives, read back as the program reads them."""

import dataclasses
import pathlib
import shlex

import pytest
from absl import flags
from ml_collections import config_flags

from configs import base, sports_mmgcn
from uatmc_jax.models import MMGCNSettings, OwnModelSettings
from uatmc_jax.report.commands import train_command
from uatmc_jax.settings import find_config, from_config


def settings_of(command, monkeypatch):
    """The settings that the words of a train command amount to."""
    words = shlex.split(command)
    assert words[:3] == ["python", "-m", "uatmc_jax.train"]
    values = flags.FlagValues()
    config = config_flags.DEFINE_config_file(
        "config", flag_values=values, lock_config=False, accept_new_attributes=True
    )  # as uatmc_jax.train
    workdir = flags.DEFINE_string("workdir", None, "", flag_values=values)
    named = words[3].replace("--config=", "")
    argv = ["train", f"--config={find_config(named)}", *words[4:]]
    monkeypatch.setattr("sys.argv", argv)  # where a config flag looks for its overrides
    values(argv)
    return from_config(config.value), pathlib.Path(workdir.value)


def changed(settings, **sections):
    """The settings with fields of their sections replaced."""
    return dataclasses.replace(
        settings,
        **{
            name: dataclasses.replace(getattr(settings, name), **fields)
            for name, fields in sections.items()
        },
    )


BASE = from_config(base.get_config())


@pytest.mark.parametrize(
    "settings",
    [
        BASE,
        from_config(sports_mmgcn.get_config("paper")),
        changed(BASE, data={"name": "it's a shop", "root": "/some where/else"}),
        changed(
            BASE, data={"modalities": ("textual:text_feat.npy",)}, adversarial={"defense": "uat"}
        ),
        changed(BASE, adversarial={"modalities": ("visual",), "defense": "exact", "epochs": 3}),
        changed(BASE, adversarial={"train_projector_head": True, "eps": 0.015, "norm": "linf"}),
        dataclasses.replace(BASE, model=MMGCNSettings(latent_dims={"visual": 12}, fuse="add")),
        dataclasses.replace(BASE, model=OwnModelSettings("my_models:make")),
        dataclasses.replace(
            BASE, model=OwnModelSettings("my_models:make", dim=8, options={"heads": 4})
        ),
    ],
)
def test_the_command_gives_the_very_settings(settings, monkeypatch):
    workdir = pathlib.Path("runs/an audit")
    assert settings_of(train_command(settings, workdir), monkeypatch) == (settings, workdir)


def test_no_command_where_flags_cannot_give_the_settings():
    hidden = changed(BASE, model={"hidden": {"audio": (16,)}})
    assert train_command(hidden, pathlib.Path("x")) is None
