"""What results leave on disk: whole files, journals that outlive a kill, and digests.

A file is written beside its place and renamed, so it is there whole or not at all. A
journal is JSON lines, flushed line by line; a last line cut off by a kill is dropped. Objects
are sealed: each has the digest of what it was when it was written.
"""

import hashlib
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from uatmc_jax.errors import InputError

PARTIAL = ".partial"  # ends the name of what is not whole yet
_SEAL = "sha256"
_WHOLE, _OF_A_ROW = 64, 16  # hex digits


def digest(value: Any, length: int = 10) -> str:
    """SHA-256 of a JSON value, whatever the order of its keys (`length` hex digits)."""
    text = json.dumps(value, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def hash_file(path: pathlib.Path) -> str:
    """A file's SHA-256, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a text file whole or not at all."""
    _write(path, text.encode("utf-8"))


def write_json(path: pathlib.Path, value: Any) -> None:
    """Writes a JSON file whole or not at all; an object with the digest of all of it, sealed."""
    sealed = seal(value) if isinstance(value, Mapping) else value
    write_text(path, json.dumps(sealed, indent=2) + "\n")


def read_json(
    path: pathlib.Path, *needed: str, remedy: str = "Delete it and give the command again"
) -> Any:
    """What `write_json` has written, without its seal.

    Args:
      path: the file.
      needed: keys that it must have, where it is an object.
      remedy: what to do about a file that is not whole.

    Raises:
      InputError: no such file, not JSON, lacks a key, or was changed since it was written.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file. {remedy}.") from None
    except (ValueError, RecursionError) as error:  # of bytes that are no text as well
        raise InputError(f"{path}: not JSON ({error}). {remedy}.") from None
    if not isinstance(value, dict):
        if needed:
            raise InputError(f"{path}: holds no JSON object. {remedy}.")
        return value
    value = unseal(value, str(path), remedy)
    lacking = [name for name in needed if name not in value]
    if lacking:
        raise InputError(f"{path}: has no {', '.join(map(repr, lacking))}. {remedy}.")
    return value


def seal(value: Mapping, length: int = _WHOLE) -> dict:
    """The object with the digest of its JSON under "sha256" (`length` hex digits)."""
    # As it is read again: with keys that are text.
    plain = json.loads(json.dumps({k: v for k, v in value.items() if k != _SEAL}))
    return plain | {_SEAL: digest(plain, length)}


def unseal(value: Mapping, name: str, remedy: str) -> dict:
    """A sealed object without its seal; one of older versions, without any, as it is.

    Args:
      value: as read from JSON.
      name: of the file, for the error.
      remedy: what to do.

    Raises:
      InputError: its content is not what was sealed.
    """
    plain = {name: part for name, part in value.items() if name != _SEAL}
    length = _OF_A_ROW if len(str(value.get(_SEAL))) == _OF_A_ROW else _WHOLE
    if _SEAL in value and value[_SEAL] != digest(plain, length):
        raise InputError(
            f"{name}: was changed or damaged since it was written (its {_SEAL} is of other "
            f"content). {remedy}; or delete the line {_SEAL!r} if the change is meant."
        )
    return plain


def write_arrays(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes named arrays as one `.npz`, whole or not at all."""
    partial, named = path.with_name(path.name + PARTIAL), dict[str, Any](arrays)
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
        journal.write(_lines(rows))
        journal.flush()
        os.fsync(journal.fileno())


def write_rows(path: pathlib.Path, rows: Sequence[Mapping]) -> None:
    """Writes a journal anew, whole or not at all."""
    write_text(path, _lines(rows))


def _lines(rows: Sequence[Mapping]) -> str:
    return "".join(json.dumps(seal(row, _OF_A_ROW)) + "\n" for row in rows)


def read_rows(path: pathlib.Path) -> list[dict]:
    """The objects of a journal, without their seals; [] if there is none.

    What a kill has left of a last line is dropped, in the file too, so that the next
    line does not end up behind it.

    Raises:
      InputError: a line that is not an object's JSON, or was changed since it was written.
    """
    if not path.exists():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        _write(path, whole)
    rows = []
    for number, line in enumerate(whole.split(b"\n")[:-1], start=1):
        place = f"{path}, line {number}"
        rows.append(unseal(parse_object(line, place, "Delete it"), place, "Delete it"))
    return rows


def parse_object(line: bytes, place: str, remedy: str) -> dict[str, Any]:
    """The object that a line of JSON is.

    Raises:
      InputError: it is none; names the place and the remedy.
    """
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:  # of bytes that are no text as well
        raise InputError(f"{place}: not JSON ({error}). {remedy}.") from None
    if not isinstance(found, dict):
        raise InputError(f"{place}: not a JSON object. {remedy}.")
    return found


def _write(path: pathlib.Path, content: bytes) -> None:
    partial = path.with_name(path.name + PARTIAL)
    with open(partial, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
