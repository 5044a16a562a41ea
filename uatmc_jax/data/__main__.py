"""Prints a data set's statistics, or writes the synthetic one.

python -m uatmc_jax.data data/baby
python -m uatmc_jax.data --json data/baby
python -m uatmc_jax.data --write_synthetic /tmp/synthetic
"""

import json
import pathlib

from absl import flags

from uatmc_jax.cli import start
from uatmc_jax.data import (
    DEFAULT_MODALITIES,
    format_statistics,
    load_dataset,
    make_synthetic,
    statistics,
    write_dataset,
)
from uatmc_jax.errors import InputError

_NAME = flags.DEFINE_string("name", None, "NAME of NAME.inter; by default the folder's own name.")
_MODALITIES = flags.DEFINE_list(
    "modalities", list(DEFAULT_MODALITIES), "Feature files, as name:file.npy,name:file.npy."
)
_JSON = flags.DEFINE_bool("json", False, "Print JSON instead of a table.")
_WRITE = flags.DEFINE_bool("write_synthetic", False, "Write the synthetic data set to DIR first.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of --write_synthetic.")


def main(argv: list[str]) -> None:
    """One positional argument: the data set's folder."""
    if len(argv) != 2:
        raise InputError("give one folder. Example: python -m uatmc_jax.data data/baby")
    folder = pathlib.Path(argv[1])
    if _WRITE.value:
        dataset = make_synthetic(_SEED.value)
        inter = folder / f"{dataset.name}.inter"
        if inter.exists():
            raise InputError(f"{inter}: exists already. Name a new folder, or delete this one.")
        write_dataset(dataset, folder)
    else:
        name = _NAME.value or folder.resolve().name
        dataset = load_dataset(folder, name, tuple(_MODALITIES.value))
    stats = statistics(dataset)
    print(json.dumps(stats, indent=2) if _JSON.value else format_statistics(stats))


if __name__ == "__main__":
    start(main, computes=False)
