"""The unfinished output: kept beside the final folder, and taken up again by the same command.

OUT.partial/identity.json   the arguments and sources it belongs to
OUT.partial/tables.json     counts, once interactions and items are done
OUT.partial/data/           what becomes OUT
"""

import dataclasses
import os
import pathlib
import shutil

from uatmc_jax.data.manifest import MANIFEST_FILE
from uatmc_jax.errors import InputError
from uatmc_jax.preparation.features import IMAGE_FILE, TEXT_FILE
from uatmc_jax.preparation.lines import sync
from uatmc_jax.preparation.settings import Settings
from uatmc_jax.preparation.stage import SPILL
from uatmc_jax.preparation.writing import MALFORMED_FILE
from uatmc_jax.store import hash_file, read_json, write_json

_FORMAT = 1
_IDENTITY, _TABLES = "identity.json", "tables.json"
_ENCODED = ("text.json", "image.json")
# What these arguments change is not in the tables.
_OF_FEATURES = {
    "text_encoder",
    "text_features",
    "image_encoder",
    "image_features",
    "images",
    "batch_size",
    "max_lost",
}


def finished(settings: Settings) -> dict | None:
    """The manifest of what the same call has published, if it was stopped right after that."""
    out, work = settings.out, settings.out.with_name(settings.out.name + ".partial")
    manifest = out / MANIFEST_FILE
    if not (manifest.is_file() and (work / _IDENTITY).is_file()) or (work / "data").exists():
        return None
    if _changed(work, _identity(settings)):
        return None
    shutil.rmtree(work)
    return read_json(manifest, "losses", "features", "interactions")


def begin(settings: Settings) -> tuple[pathlib.Path, dict | None]:
    """Makes OUT.partial, or finds an interrupted one.

    What a changed argument or source does not touch stays: tables where only features
    change, and vectors of texts and images in any case, which are encoded anew only if
    what they are of has changed.

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
        changed = _changed(work, identity)
        if changed <= _OF_FEATURES and (work / _TABLES).is_file():
            write_json(work / _IDENTITY, identity)
            remedy = f"Delete {work} to begin anew"
            tables = read_json(work / _TABLES, "interactions", "tallies", "files", remedy=remedy)
            if tables.pop("files") == _digests(work):
                return work, tables
        _delete_tables(work)
    (work / "data").mkdir(parents=True, exist_ok=True)
    write_json(work / _IDENTITY, identity)
    return work, None


def _delete_tables(work: pathlib.Path) -> None:
    """Leaves vectors, finished or not, and what is noted of them."""
    (work / _TABLES).unlink(missing_ok=True)
    shutil.rmtree(work / SPILL, ignore_errors=True)
    for path in (*work.glob("items.*"), *(work / "data").glob("*")):
        if path.name not in (TEXT_FILE, IMAGE_FILE):
            path.unlink()


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


def _changed(work: pathlib.Path, identity: dict) -> set[str]:
    """The arguments and sources that are others than those of the unfinished work."""
    remedy = f"{work} is in the way. Delete it, or name another --out"
    stored = read_json(work / _IDENTITY, "format", "command", remedy=remedy)
    names = stored.keys() | identity.keys()
    changed = {name for name in names if stored.get(name) != identity.get(name)}
    if changed & {"format", "command"}:
        raise InputError(
            f"{work}: an interrupted preparation of another kind ({stored['command']}). Delete it "
            "to begin anew, or name another --out."
        )
    return changed


def tables_done(work: pathlib.Path, counts: dict) -> None:
    """Notes that interactions and items are on the disk and need not be read again."""
    for path in _table_files(work):
        sync(path)
    write_json(work / _TABLES, counts | {"files": _digests(work)})


def _table_files(work: pathlib.Path) -> list[pathlib.Path]:
    """What the tables of the work consist of: neither vectors, nor what is written after all."""
    later = (TEXT_FILE, IMAGE_FILE, MANIFEST_FILE, MALFORMED_FILE)
    of_data = [path for path in (work / "data").iterdir() if not path.name.startswith(later)]
    return sorted((*of_data, *work.glob("items.*")))


def _digests(work: pathlib.Path) -> dict[str, str]:
    return {path.name: hash_file(path) for path in _table_files(work)}


def discard_early(work: pathlib.Path) -> None:
    """Deletes unfinished work that a resumed run could not use."""
    if not any((work / name).is_file() for name in (_TABLES, *_ENCODED)):
        shutil.rmtree(work, ignore_errors=True)


def publish(work: pathlib.Path, out: pathlib.Path) -> None:
    """Turns the finished work into OUT, in one step."""
    for path in (work / "data").iterdir():
        sync(path)
    if out.is_dir():
        out.rmdir()
    os.rename(work / "data", out)
    shutil.rmtree(work, ignore_errors=True)
