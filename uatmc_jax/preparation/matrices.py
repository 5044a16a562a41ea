"""Feature matrices on disk, written a few rows at a time.

Written as files, not through memory maps: on a full disk a file gives an error
that can be reported, a map ends the process.
"""

import contextlib
import pathlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from uatmc_jax.data.features import check_scale, open_matrix
from uatmc_jax.errors import InputError
from uatmc_jax.preparation.lines import Tally, sync
from uatmc_jax.store import hash_file

_BLOCK_ELEMENTS = 1 << 22
Write = Callable[[int, np.ndarray], None]


def create(path: pathlib.Path, n_rows: int, dim: int) -> None:
    """Writes a `.npy` of zeros, (n_rows, dim) float32."""
    with open(path, "wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (n_rows, dim)}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + 4 * n_rows * dim)


@contextlib.contextmanager
def writer(path: pathlib.Path) -> Iterator[Write]:
    """Opens what `create` wrote; yields write(first row, one row or several)."""
    offset = open_matrix(path).offset
    with open(path, "r+b") as file:

        def write(first: int, rows: np.ndarray) -> None:
            file.seek(offset + 4 * first * rows.shape[-1])
            file.write(np.ascontiguousarray(rows, "<f4").data)
            file.flush()

        yield write


def blocks(matrix: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yields (first row, rows) over a memory-mapped matrix."""
    step = max(1, _BLOCK_ELEMENTS // matrix.shape[1])
    for start in range(0, len(matrix), step):
        yield start, np.asarray(matrix[start : start + step])


class Survey(NamedTuple):
    """What a given matrix holds.

    Attributes:
      missing: (rows,) boolean: rows of NaN, which say that the item has no features.
      zero_rows: how many rows are zeros.
      constant: how many columns have one value in all rows that are not missing.
      spread: root of the mean square of the others' deviations from their columns' means.
    """

    missing: np.ndarray
    zero_rows: int
    constant: int
    spread: float


def survey(path: pathlib.Path) -> Survey:
    """Reads a given matrix once, before anything else is done with it.

    Raises:
      InputError: see `open_matrix`; NaN or inf in a row that has other values, nothing but
        missing rows, all rows equal, squares that float32 does not hold.
    """
    matrix = open_matrix(path)
    missing, zero_rows = np.zeros(len(matrix), bool), 0
    least = np.full(matrix.shape[1], np.inf)
    most, total, squares = -least, np.zeros(matrix.shape[1]), np.zeros(matrix.shape[1])
    for start, rows in blocks(matrix):
        # A float64 beyond float32's range turns inf here and is refused as such.
        with np.errstate(over="ignore"):
            block = rows.astype(np.float32)
        absent = missing[start : start + len(block)] = np.isnan(block).all(axis=1)
        bad = ~absent & ~np.isfinite(block).all(axis=1)
        if bad.any():
            raise InputError(
                f"{path}, row {start + int(np.argmax(bad))}: NaN or inf (or beyond float32's "
                "range). Replace the row, or make all of it NaN if the item has no features."
            )
        block = block[~absent].astype(np.float64)
        if len(block):
            least, most = np.minimum(least, block.min(axis=0)), np.maximum(most, block.max(axis=0))
            total, squares = total + block.sum(axis=0), squares + (block**2).sum(axis=0)
            zero_rows += int((~block.any(axis=1)).sum())
    n = int((~missing).sum())
    if not n:
        raise InputError(f"{path}: NaN in every row, so no item has features. Give some.")
    largest = float(max(most.max(), -least.min()))
    check_scale(path, largest, matrix.shape[1])
    varies = most > least
    if n > 1 and not varies.any():
        raise InputError(
            f"{path}: all {n} rows are equal, so features tell no item from another. Give others."
        )
    variance = (squares / n - (total / n) ** 2)[varies]
    spread = float(np.sqrt(max(variance.mean(), 0))) if n > 1 else largest
    return Survey(missing, zero_rows, int((~varies).sum()) if n > 1 else 0, spread)


def check_rows(source: pathlib.Path, there: int, wanted: int) -> None:
    """Refuses a given matrix that does not go with the items' source.

    Raises:
      InputError: another number of rows.
    """
    if there != wanted:
        raise InputError(
            f"{source}: {there} rows, but the items' source has {wanted} (malformed ones "
            "included, blank lines not). Row i must belong to its i-th row."
        )


def copy_rows(
    source: pathlib.Path, found: Survey, chosen: np.ndarray, out: pathlib.Path, tally: Tally
) -> dict:
    """Writes the rows of a given matrix in the order of the items' ids.

    Args:
      source: `.npy`, a row per row of the items' source; NaN in all of a row is none.
      found: in it, by `survey`.
      chosen: (n_items,) the row of each item; -1 where the source lacks it.
      out: `.npy` to write; items without a row get the mean of the others.
      tally: of the source.

    Returns:
      Counts for the manifest.

    Raises:
      InputError: no row is used.
    """
    matrix = open_matrix(source)
    tally.bytes, tally.sha256 = source.stat().st_size, hash_file(source)
    tally.records = len(matrix)
    create(out, len(chosen), matrix.shape[1])
    step = max(1, _BLOCK_ELEMENTS // matrix.shape[1])
    with writer(out) as write:
        for start in range(0, len(chosen), step):
            rows = chosen[start : start + step]
            write(start, matrix[np.maximum(rows, 0)].astype(np.float32))
    present = (chosen >= 0) & ~found.missing[np.maximum(chosen, 0)]
    counts = stand_in(out, present, f"{source}: no row belongs to an item that is left")
    marked = int(((chosen >= 0) & ~present).sum())
    more = {"rows of NaN": marked, "rows of zeros": found.zero_rows}
    return {**counts, **more, "constant columns": found.constant, "spread": found.spread}


def stand_in(path: pathlib.Path, present: np.ndarray, nothing: str) -> dict:
    """Gives rows without content the mean of the others, in place.

    Args:
      path: what `create` wrote.
      present: (n_rows,) boolean.
      nothing: how the error begins where no row is present.

    Returns:
      Counts for the manifest.

    Raises:
      InputError: no row is present.
    """
    if not present.any():
        raise InputError(f"{nothing}. Check that the sources belong together.")
    matrix = open_matrix(path)
    if not present.all():
        total = np.zeros(matrix.shape[1])
        for start, rows in blocks(matrix):
            total += rows[present[start : start + len(rows)]].sum(axis=0, dtype=np.float64)
        mean = (total / present.sum()).astype(np.float32)
        with writer(path) as write:
            for row in np.flatnonzero(~present):
                write(int(row), mean)
    sync(path)
    return {
        "dim": matrix.shape[1],
        "items without": int((~present).sum()),
        "stand-in": "mean of the others",
    }
