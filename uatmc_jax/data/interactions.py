"""Interactions: the `.inter` file, its checks, and the three splits.

An `.inter` file is tab-separated with a header; the columns `userID`, `itemID`
and `x_label` (0 train, 1 validation, 2 test) are found by name, others are
ignored, in any order (MMRec's layout).
"""

import dataclasses
import io
import pathlib
import re
import warnings

import numpy as np

from uatmc_jax.data.text import read_text
from uatmc_jax.errors import InputError

SPLITS = ("train", "valid", "test")
_BLOCK = 1 << 24  # ids counted at a time
_COLUMNS = ("userID", "itemID", "x_label")
_BLANK_LINE = re.compile(r"\n[^\S\n]*\n|\A[^\S\n]*\n")


@dataclasses.dataclass(frozen=True, eq=False)
class Interactions:
    """User-item pairs, sorted by (user, item), each pair once.

    Attributes:
      users: (n,) int32 user ids.
      items: (n,) int32 item ids.
    """

    users: np.ndarray
    items: np.ndarray

    def __post_init__(self):
        self.users.setflags(write=False)
        self.items.setflags(write=False)

    def __len__(self) -> int:
        return len(self.users)

    def keep(self, mask: np.ndarray) -> "Interactions":
        """The pairs where the (n,) boolean `mask` holds, in the same order."""
        return Interactions(self.users[mask], self.items[mask])


def read_inter(path: pathlib.Path) -> np.ndarray:
    """Reads the three columns of an `.inter` file.

    Returns:
      (n, 3) int64 rows of userID, itemID, x_label, in file order.

    Raises:
      InputError: no such file, a missing column, or a cell that is not a
        non-negative integer (x_label: not 0, 1 or 2); names file and line.
    """
    if not path.is_file():
        raise InputError(
            f"{path}: no such file. Put the data set's .inter file there, or point "
            "config.data.root (or UATMC_DATA) at the folder that holds it."
        )
    text = read_text(path)
    file = io.StringIO(text)
    columns = _find_columns(path, file.readline().rstrip("\r\n").split("\t"))
    try:
        # One C-level pass; the slow reading below runs only to name the bad line.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # no rows: said better below
            rows = np.loadtxt(
                file, dtype=np.int64, delimiter="\t", usecols=columns, ndmin=2, comments=None
            )
    except (ValueError, IndexError, OverflowError) as error:
        raise InputError(_explain_bad_row(path, text, columns) or f"{path}: {error}") from None
    bad = np.flatnonzero((rows < 0).any(axis=1) | (rows[:, 2] > 2) | (rows.max(axis=1) >= 2**31))
    if len(bad):
        raise InputError(_explain_bad_row(path, text, columns) or f"{path}: bad row {bad[0] + 2}")
    blank = _first_blank_line(text) if len(rows) else None
    if blank:
        raise InputError(f"{path}, line {blank}: blank line between rows. Delete it.")
    if not len(rows):
        raise InputError(f"{path}: no interactions below the header. Give at least one a split.")
    return rows


def _find_columns(path: pathlib.Path, header: list[str]) -> tuple[int, ...]:
    for name in _COLUMNS:
        if header.count(name) != 1:
            raise InputError(
                f"{path}: the header has {header.count(name)} columns named '{name}', one is "
                f"needed; it reads {header}. Expected a tab-separated header with "
                f"{', '.join(_COLUMNS)}."
            )
    return tuple(header.index(name) for name in _COLUMNS)


def _first_blank_line(text: str) -> int | None:
    """Blank lines are skipped by the reader and would shift every line number after them."""
    found = _BLANK_LINE.search(text, 0, len(text.rstrip()))
    return text.count("\n", 0, found.end()) if found else None


def _explain_bad_row(path: pathlib.Path, text: str, columns: tuple[int, ...]) -> str | None:
    for number, line in enumerate(text.split("\n")[1:], start=2):
        if not line.strip():
            continue
        cells = line.rstrip("\r").split("\t")
        for name, column in zip(_COLUMNS, columns, strict=True):
            cell = cells[column].strip() if column < len(cells) else ""
            limit = 3 if name == "x_label" else 2**31
            if not (cell.isascii() and cell.isdigit() and len(cell) <= 10 and int(cell) < limit):
                wanted = "0, 1 or 2" if name == "x_label" else "an integer in [0, 2^31)"
                return f"{path}, line {number}: {name} is '{cell}', not {wanted}. Mend the row."
    return None


def split_interactions(rows: np.ndarray, source: str) -> dict[str, Interactions]:
    """Checks (n, 3) rows of user, item, label and splits them by label.

    Args:
      rows: (n, 3) integers, in file order.
      source: what to name in an error, the file's path.

    Raises:
      InputError: a pair twice in one split, a pair in two splits, an empty split.
    """
    users, items, labels = rows.T
    order = np.lexsort((items, users))
    same = (np.diff(users[order]) == 0) & (np.diff(items[order]) == 0)
    if same.any():
        first, second = order[np.flatnonzero(same)[0] + np.array([0, 1])]
        what = (
            "is there twice (a duplicate interaction)"
            if labels[first] == labels[second]
            else f"is in two splits ({SPLITS[labels[first]]} and {SPLITS[labels[second]]})"
        )
        raise InputError(
            f"{source}, lines {first + 2} and {second + 2}: the pair user {users[first]}, item "
            f"{items[first]} {what}; {int(same.sum())} such pairs in all. Keep one row of each."
        )
    splits = {}
    for label, name in enumerate(SPLITS):
        chosen = order[labels[order] == label]
        if not len(chosen):
            raise InputError(
                f"{source}: the {name} split (x_label {label}) is empty. "
                "Every split needs at least one interaction."
            )
        splits[name] = Interactions(users[chosen].astype(np.int32), items[chosen].astype(np.int32))
    return splits


def counts(ids: np.ndarray, n: int) -> np.ndarray:
    """(n,) how often each id is there; of memory-mapped ids a block is read at a time.

    Args:
      ids: int32, below n.
      n: how many ids there are.
    """
    found = np.zeros(n, np.int64)
    for start in range(0, len(ids), _BLOCK):
        found += np.bincount(ids[start : start + _BLOCK], minlength=n)[:n]
    return found


def of_users(pairs: Interactions, users: np.ndarray) -> Interactions:
    """The pairs of some users, with places in `users` for ids.

    Args:
      pairs: of all users.
      users: (n,) ids, in any order; one may be there twice.
    """
    users = np.asarray(users, np.int32)  # of another type, all pairs' users would be copied
    starts = np.searchsorted(pairs.users, users)
    ends = np.searchsorted(pairs.users, users, side="right")
    places = np.repeat(np.arange(len(users)), ends - starts).astype(np.int32)
    runs = [pairs.items[a:b] for a, b in zip(starts, ends, strict=True)]
    return Interactions(places, np.concatenate([np.zeros(0, np.int32), *runs]))
