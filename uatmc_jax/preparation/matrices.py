"""Feature matrices on disk, written a few rows at a time.

Written as files, not through memory maps: on a full disk a file gives an error
that can be reported, a map ends the process.
"""

import contextlib
import pathlib
from collections.abc import Callable, Iterator

import numpy as np

from uatmc_jax.errors import InputError
from uatmc_jax.preparation.lines import Tally, hash_file, sync

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


def open_matrix(path: pathlib.Path) -> np.memmap:
    """Opens a feature matrix for reading, without reading it.

    Raises:
      InputError: not a `.npy` of shape (rows, dim) and a float type, or truncated.
    """
    try:
        matrix = np.lib.format.open_memmap(path, mode="r")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file. Check the path.") from None
    # Whatever the header's parser raises is about the file.
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{path}: not a readable .npy matrix ({reason}). It may be truncated; write it again "
            "with numpy.save of a float array."
        ) from None
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise InputError(f"{path}: shape {matrix.shape}, wanted (rows, dim).")
    if matrix.dtype not in (np.float16, np.float32, np.float64):
        raise InputError(f"{path}: type {matrix.dtype}, wanted float16, float32 or float64.")
    return matrix


def blocks(matrix: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yields (first row, rows) over a memory-mapped matrix."""
    step = max(1, _BLOCK_ELEMENTS // matrix.shape[1])
    for start in range(0, len(matrix), step):
        yield start, np.asarray(matrix[start : start + step])


def copy_rows(
    source: pathlib.Path, chosen: np.ndarray, n_rows: int, out: pathlib.Path, tally: Tally
) -> dict:
    """Writes the rows of a given matrix in the order of the items' ids.

    Args:
      source: `.npy`, a row per row of the items' source.
      chosen: (n_items,) the row of each item; -1 where the source lacks it.
      n_rows: of the items' source.
      out: `.npy` to write; items without a row get the mean of the others.
      tally: of the source.

    Returns:
      Counts for the manifest.

    Raises:
      InputError: another number of rows, NaN or inf in one that is used, none used.
    """
    matrix = open_matrix(source)
    if len(matrix) != n_rows:
        raise InputError(
            f"{source}: {len(matrix)} rows, but the items' source has {n_rows} (malformed ones "
            "included, blank lines not). Row i must belong to its i-th row."
        )
    tally.bytes, tally.sha256, tally.records = source.stat().st_size, hash_file(source), n_rows
    create(out, len(chosen), matrix.shape[1])
    step = max(1, _BLOCK_ELEMENTS // matrix.shape[1])
    with writer(out) as write, np.errstate(over="ignore"):
        for start in range(0, len(chosen), step):
            rows = chosen[start : start + step]
            # A float64 beyond float32's range turns inf here and is refused as such.
            block = matrix[np.maximum(rows, 0)].astype(np.float32)
            bad = (rows >= 0) & ~np.isfinite(block).all(axis=1)
            if bad.any():
                raise InputError(
                    f"{source}, row {int(rows[np.argmax(bad)])}: NaN or inf (or beyond float32's "
                    "range). Replace the row, for instance by the mean of the others."
                )
            write(start, block)
    return stand_in(out, chosen >= 0, f"{source}: no row belongs to an item that is left")


def filled_rows(path: pathlib.Path) -> np.ndarray:
    """(n_rows,) boolean: rows that are not NaN, which stands for no content until `stand_in`."""
    return np.concatenate([~np.isnan(rows[:, 0]) for _, rows in blocks(open_matrix(path))])


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
