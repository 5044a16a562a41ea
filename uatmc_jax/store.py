"""What results leave on disk: whole files, journals that outlive a kill, and digests.

A file is written beside its place and renamed, so it is there whole or not at all. A
journal is JSON lines, flushed line by line; a last line cut off by a kill is dropped.
"""

import hashlib
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from uatmc_jax.errors import InputError


def digest(value: Any, length: int = 10) -> str:
    """SHA-256 of a JSON value, whatever the order of its keys (`length` hex digits)."""
    text = json.dumps(value, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a text file whole or not at all."""
    _write(path, text.encode("utf-8"))


def write_json(path: pathlib.Path, value: Any) -> None:
    """Writes a JSON file whole or not at all."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_json(path: pathlib.Path) -> Any:
    """What `write_json` has written.

    Raises:
      InputError: not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error}). Delete it.") from None


def write_arrays(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes named arrays as one `.npz`, whole or not at all."""
    partial, named = path.with_name(path.name + ".partial"), dict[str, Any](arrays)
    with open(partial, "wb") as file:
        np.savez(file, **named)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def read_arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
    """What `write_arrays` has written.

    Raises:
      InputError: no such file, or not a readable `.npz`.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except Exception as error:  # of a damaged archive NumPy's reader raises many kinds
        raise InputError(f"{path}: not a readable .npz ({error}). Delete it.") from None


def append_rows(path: pathlib.Path, rows: Sequence[Mapping]) -> None:
    """Appends objects to a journal and sees them to the disk."""
    with open(path, "a", encoding="utf-8") as journal:
        journal.write("".join(json.dumps(row) + "\n" for row in rows))
        journal.flush()
        os.fsync(journal.fileno())


def read_rows(path: pathlib.Path) -> list[dict]:
    """The objects of a journal; [] if there is none.

    What a kill has left of a last line is dropped, in the file too, so that the next
    line does not end up behind it.

    Raises:
      InputError: a line that is not JSON.
    """
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        write_text(path, whole)
    rows = []
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise InputError(f"{path}, line {number}: not JSON ({error}). Delete it.") from None
    return rows


def _write(path: pathlib.Path, content: bytes) -> None:
    partial = path.with_name(path.name + ".partial")
    with open(partial, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
