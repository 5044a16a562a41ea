"""The unfinished output: kept beside the final folder, and taken up again by the same command.

OUT.partial/identity.json   the arguments and sources it belongs to
OUT.partial/tables.json     counts, once interactions and items are done
OUT.partial/data/           what becomes OUT
"""

import dataclasses
import os
import pathlib
import shutil

from uatmc_jax.errors import InputError
from uatmc_jax.preparation.lines import sync
from uatmc_jax.preparation.settings import Settings
from uatmc_jax.store import read_json, write_json

_FORMAT = 1
_IDENTITY, _TABLES = "identity.json", "tables.json"


def begin(settings: Settings) -> tuple[pathlib.Path, dict | None]:
    """Makes OUT.partial, or finds an interrupted one of the same arguments and sources.

    Returns:
      The folder, and the counts of its tables if they are done.

    Raises:
      InputError: OUT is not empty, or OUT.partial is of something else.
    """
    out = settings.out
    if out.is_dir() and any(out.iterdir()):
        raise InputError(f"--out {out}: the folder is not empty. Name a new one, or delete it.")
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out}: is a file. Name a new folder.")
    work, identity = out.with_name(out.name + ".partial"), _identity(settings)
    if work.exists():
        _check_same(work, identity)
        if (work / _TABLES).is_file():
            remedy = f"Delete {work} to begin anew"
            return work, read_json(work / _TABLES, "interactions", "tallies", remedy=remedy)
        shutil.rmtree(work)
    work.mkdir(parents=True)
    write_json(work / _IDENTITY, identity)
    (work / "data").mkdir()
    return work, None


def _identity(settings: Settings) -> dict:
    """Arguments, and of each source what tells whether it was changed."""
    values = dataclasses.asdict(settings)
    identity = {"format": _FORMAT, "command": type(settings).__name__}
    for name, value in values.items():
        identity[name] = list(value) if isinstance(value, tuple) else value
        if isinstance(value, pathlib.Path):
            identity[name] = str(value)
            if name != "out":
                status = value.stat()
                identity[name] = [value.name, status.st_size, status.st_mtime_ns]
    return identity


def _check_same(work: pathlib.Path, identity: dict) -> None:
    remedy = f"{work} is in the way. Delete it, or name another --out"
    stored = read_json(work / _IDENTITY, "format", "command", remedy=remedy)
    changed = sorted(
        name.replace("_", "-")
        for name in stored.keys() | identity.keys()
        if stored.get(name) != identity.get(name)
    )
    if changed:
        raise InputError(
            f"{work}: an interrupted preparation with other arguments or sources (changed: "
            f"{', '.join(changed)}). Delete it to begin anew, or name another --out."
        )


def tables_done(work: pathlib.Path, counts: dict) -> None:
    """Notes that interactions and items are on the disk and need not be read again."""
    for path in (*(work / "data").iterdir(), *work.glob("items.*")):
        sync(path)
    write_json(work / _TABLES, counts)


def discard_early(work: pathlib.Path) -> None:
    """Deletes unfinished work that a resumed run could not use."""
    if not (work / _TABLES).is_file():
        shutil.rmtree(work, ignore_errors=True)


def publish(work: pathlib.Path, out: pathlib.Path) -> None:
    """Turns the finished work into OUT, in one step."""
    for path in (work / "data").iterdir():
        sync(path)
    if out.is_dir():
        out.rmdir()
    os.rename(work / "data", out)
    shutil.rmtree(work, ignore_errors=True)
