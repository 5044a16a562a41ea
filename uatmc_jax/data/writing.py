"""A data set written in MMRec's layout."""

import pathlib

import numpy as np

from uatmc_jax.data.dataset import DEFAULT_MODALITIES, Dataset
from uatmc_jax.data.features import parse_modalities
from uatmc_jax.data.interactions import SPLITS
from uatmc_jax.data.names import write_names


def write_dataset(dataset: Dataset, folder: str | pathlib.Path) -> None:
    """Writes a data set in MMRec's layout; `load_dataset` reads back the same one.

    Args:
      dataset: what to write; its modalities go to the default file names, or
        `<modality>_feat.npy`.
      folder: created if absent.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rows = np.concatenate(
        [
            np.stack([pairs.users, pairs.items, np.full(len(pairs), label)], axis=1)
            for label, pairs in enumerate(dataset.split(s) for s in SPLITS)
        ]
    )
    np.savetxt(
        folder / f"{dataset.name}.inter",
        rows,
        fmt="%d",
        delimiter="\t",
        header="userID\titemID\tx_label",
        comments="",
    )
    files = parse_modalities(DEFAULT_MODALITIES)
    for modality, matrix in zip(dataset.modalities, dataset.features, strict=True):
        np.save(folder / files.get(modality, f"{modality}_feat.npy"), matrix)
    write_names(dataset.names, folder)
