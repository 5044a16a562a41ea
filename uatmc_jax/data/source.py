"""Where a data set comes from: a folder of files, or the generator."""

import dataclasses
import os
import pathlib

from uatmc_jax.checks import one_of, require
from uatmc_jax.data.dataset import DEFAULT_MODALITIES, Dataset, load_dataset
from uatmc_jax.data.features import parse_modalities
from uatmc_jax.data.synthetic import make_synthetic
from uatmc_jax.errors import InputError

DEFAULT_ROOT = "data"


@dataclasses.dataclass(frozen=True)
class DataSettings:
    """Where the data comes from.

    Attributes:
      source: "mmrec" (files) or "synthetic".
      name: the folder below `root` and the NAME of NAME.inter.
      root: folder of the data sets; the environment's UATMC_DATA wins over the default.
      modalities: ("name:file.npy", ...), in the order models use.
      synthetic_seed: of the synthetic generator.
    """

    source: str = "mmrec"
    name: str = ""
    root: str = DEFAULT_ROOT
    modalities: tuple[str, ...] = DEFAULT_MODALITIES
    synthetic_seed: int = 0

    def __post_init__(self):
        one_of("data.source", self.source, ("mmrec", "synthetic"))
        require(
            len(self.modalities) > 0 and all(isinstance(m, str) for m in self.modalities),
            "data.modalities",
            self.modalities,
            "at least one 'name:file.npy'",
        )

    @property
    def modality_names(self) -> tuple[str, ...]:
        """The modalities without their files."""
        return tuple(named.partition(":")[0] for named in self.modalities)


def open_dataset(settings: DataSettings) -> Dataset:
    """Reads or draws the data set a config names.

    Raises:
      InputError: see `load_dataset`.
    """
    if settings.source == "synthetic":
        dataset = make_synthetic(settings.synthetic_seed)
        named = tuple(parse_modalities(settings.modalities))
        if named != dataset.modalities:
            raise InputError(
                f"config.data.modalities names {named}, but the synthetic data has "
                f"{dataset.modalities}. Leave the field as it is, or use files."
            )
        return dataset
    return load_dataset(dataset_folder(settings), settings.name, settings.modalities)


def dataset_folder(settings: DataSettings) -> pathlib.Path:
    """Where a data set's files are: below `root`, or UATMC_DATA in place of its default."""
    root = settings.root
    if root == DEFAULT_ROOT:
        root = os.environ.get("UATMC_DATA", root)
    return pathlib.Path(root) / settings.name
