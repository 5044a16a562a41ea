"""What an attack leaves on disk beside its result: rows and perturbations.

    NAME.partial.jsonl, NAME.partial-PLACE.npz    while it runs: rows, and their perturbations
    NAME.npz                                      the perturbations, a result row each

A row in the journal has its perturbation on disk, whenever the process is killed.
"""

import glob
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from uatmc_jax import store
from uatmc_jax.attacks import Outcome
from uatmc_jax.errors import InputError

_DELTA = "delta_"  # and the modality's name or, in a part, its place


class Deltas(NamedTuple):
    """The perturbations of an attack's result, one a row and in their order.

    Attributes:
      seeds: (rows,).
      items: (rows,) int32.
      rows: {modality: (rows, dim_m)} of each perturbed one.
    """

    seeds: np.ndarray
    items: np.ndarray
    rows: dict[str, np.ndarray]


# (seed, item) -> the target's row, and its perturbation by modality.
Done = dict[tuple[int, int], tuple[dict, tuple[np.ndarray, ...]]]


def _journal(file: pathlib.Path) -> pathlib.Path:
    return file.with_suffix(".partial.jsonl")


def _parts(file: pathlib.Path) -> list[pathlib.Path]:
    return sorted(file.parent.glob(f"{glob.escape(file.stem)}.partial-*.npz"))


def keep(file: pathlib.Path, place: int, rows: list[dict], outcome: Outcome) -> None:
    """A batch's perturbations and then its rows.

    Args:
      file: of the attack's result.
      place: of the batch's first row among the attack's.
      rows: of the batch.
      outcome: its perturbations.
    """
    pairs = {"seed": np.array([row["seed"] for row in rows]), "item": outcome.items}
    moved = {f"{_DELTA}{m}": x for m, x in enumerate(outcome.delta)}
    store.write_arrays(file.with_suffix(f".partial-{place:06d}.npz"), pairs | moved)
    store.append_rows(_journal(file), rows)


def read_done(file: pathlib.Path) -> Done:
    """What an interrupted attack has written.

    Raises:
      InputError: files of something else; names them.
    """
    deltas: dict[tuple[int, int], tuple[np.ndarray, ...]] = {}
    reading = _journal(file)
    try:
        rows = {(row["seed"], row["item"]): row for row in store.read_rows(reading)}
        for reading in _parts(file):
            arrays = store.read_arrays(reading)
            count = sum(name.startswith(_DELTA) for name in arrays)
            columns = [arrays[f"{_DELTA}{m}"] for m in range(count)]
            pairs = zip(arrays["seed"].tolist(), arrays["item"].tolist(), strict=True)
            deltas |= dict(zip(pairs, zip(*columns, strict=True), strict=True))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{reading}: not of an attack ({error!r}). Delete it.") from None
    return {pair: (row, deltas[pair]) for pair, row in rows.items() if pair in deltas}


def write_deltas(file: pathlib.Path, modalities: Sequence[str], done: Sequence[tuple]) -> None:
    """The perturbations of a finished attack.

    Args:
      file: of its result.
      modalities: names of the perturbed ones, in the data's order.
      done: (row, perturbation by modality) of every target, in the order of the rows.
    """
    columns = zip(*(delta for _, delta in done), strict=True)
    named = zip(modalities, columns, strict=True)
    arrays = {f"{_DELTA}{m}": np.stack(column) for m, column in named}
    pairs = {field: np.array([row[field] for row, _ in done]) for field in ("seed", "item")}
    store.write_arrays(file.with_suffix(".npz"), pairs | arrays)


def forget_parts(file: pathlib.Path) -> None:
    """Deletes what the finished attack has left while it ran."""
    for part in (_journal(file), *_parts(file)):
        part.unlink(missing_ok=True)


def read_deltas(result: Mapping) -> Deltas | None:
    """The perturbations of an attack's result.

    Args:
      result: as `run_attacks` returns it.

    Returns:
      None if they are not there: results of older versions have none beside them.

    Raises:
      InputError: a file that cannot be read.
    """
    file = pathlib.Path(result["file"]).with_suffix(".npz")
    if not file.exists():
        return None
    arrays = store.read_arrays(file)
    rows = {k.removeprefix(_DELTA): x for k, x in arrays.items() if k.startswith(_DELTA)}
    return Deltas(arrays["seed"], arrays["item"].astype(np.int32), rows)
