"""A prepared data set's splits as sorted columns, read where they lie.

    NAME.train.npy, NAME.valid.npy, NAME.test.npy    (2, n) int32: users, and items

beside NAME.inter, sorted by (user, item). They hold nothing that the `.inter` does not; whoever
opens them memory-mapped has of n pairs in memory what is read of them.
"""

import contextlib
import pathlib
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import numpy as np

from uatmc_jax.data.interactions import SPLITS, Interactions
from uatmc_jax.errors import InputError

T = TypeVar("T")
_TYPE = np.dtype("<i4")


def column_files(inter: pathlib.Path) -> dict[str, pathlib.Path]:
    """{split: its file} beside an `.inter` file."""
    return {split: inter.with_name(f"{inter.stem}.{split}.npy") for split in SPLITS}


def with_columns(inter: pathlib.Path, blocks: Iterable[T]) -> Iterator[T]:
    """Yields blocks of interactions as they are, and writes their columns once all are out.

    Args:
      inter: the file whose columns they are.
      blocks: each of whole users, ascending, with `users`, `items` and `labels`, (n,) each and
        no pair twice; no two of one user.
    """
    counts = dict.fromkeys(SPLITS, 0)
    with contextlib.ExitStack() as stack:

        def unnamed() -> Any:
            return stack.enter_context(tempfile.TemporaryFile(dir=inter.parent))

        parts = {split: (unnamed(), unnamed()) for split in SPLITS}
        for block in blocks:
            users, items, labels = (getattr(block, name) for name in ("users", "items", "labels"))
            order = np.lexsort((items, users))
            for label, split in enumerate(SPLITS):
                chosen = order[labels[order] == label]
                counts[split] += len(chosen)
                for file, column in zip(parts[split], (users, items), strict=True):
                    file.write(column[chosen].astype(_TYPE).tobytes())
            yield block
        for split, path in column_files(inter).items():
            with open(path, "wb") as file:
                shape = {"descr": _TYPE.str, "fortran_order": False, "shape": (2, counts[split])}
                np.lib.format.write_array_header_1_0(file, shape)
                for part in parts[split]:
                    part.seek(0)
                    shutil.copyfileobj(part, file)


def open_columns(inter: pathlib.Path) -> dict[str, Interactions]:
    """The splits, memory-mapped.

    Args:
      inter: the file beside which `with_columns` has written them.

    Raises:
      InputError: a file that is not such columns.
    """
    found = {}
    for split, path in column_files(inter).items():
        try:
            pairs = np.lib.format.open_memmap(path, mode="r")
        except Exception as error:  # of a damaged header NumPy's reader raises many kinds
            raise InputError(f"{path}: not a readable .npy ({error}). Delete it.") from None
        if pairs.dtype != _TYPE or pairs.ndim != 2 or len(pairs) != 2 or not pairs.size:
            raise InputError(
                f"{path}: shape {pairs.shape} of {pairs.dtype}, wanted (2, n) of int32. Delete it: "
                f"{inter.name} has the same."
            )
        found[split] = Interactions(pairs[0], pairs[1])
    return found
