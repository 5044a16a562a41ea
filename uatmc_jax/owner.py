"""One process at a time works in a folder."""

import contextlib
import errno
import json
import os
import pathlib
import socket
import sys
import time
from collections.abc import Iterator

import filelock

from uatmc_jax.errors import InputError, InUseError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
LOCK, _OWNER = ".lock", ".owner"
# Of a folder that someone works in; not part of what the work leaves.
FILES = (LOCK, _OWNER)
# What making a folder meets where another process removes it at the same time.
_PASSING, _ATTEMPTS = (FileNotFoundError, FileExistsError), 100


@contextlib.contextmanager
def owned(folder: pathlib.Path, of: pathlib.Path | None = None) -> Iterator[None]:
    """Keeps other processes out of a folder while the block runs.

    The lock is the system's: it goes with its process, however that ends, and a lock file
    that is left says nothing. A folder made for it goes again if nothing was put there, also
    one that a killed process has left.

    Args:
      folder: made if it is absent.
      of: what it is the lock of, if not of itself; errors name it.

    Raises:
      InUseError: another process works there; says which.
      InputError: it cannot be made, or the block finds its disk full.
    """
    named, lock = of or folder, filelock.FileLock(folder / LOCK, timeout=0)
    try:
        made = _acquire(lock, folder)
    except filelock.Timeout:
        raise InUseError(
            f"{named}: {_owner(folder)} works there. Wait for it to end, stop it, or name another "
            "folder."
        ) from None
    if of:  # it is for nothing else, whoever made it
        made = made or [folder]
    try:
        mine = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}
        (folder / _OWNER).write_text(json.dumps(mine | {"command": sys.argv[:1]}))
        yield
    except OSError as error:
        if error.errno not in _FULL or error.filename:
            raise
        raise InputError(
            f"{named}: no room left on its disk ({error.strerror}). Make room and give the same "
            "command again (train: with --resume)."
        ) from None
    finally:
        (folder / _OWNER).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            if made and {path.name for path in folder.iterdir()} <= set(FILES):
                (folder / LOCK).unlink(missing_ok=True)
                for path in made:
                    path.rmdir()
        lock.release()


def _acquire(lock: filelock.BaseFileLock, folder: pathlib.Path) -> list[pathlib.Path]:
    """Makes the folder and locks it; what had to be made, as of `_make`.

    Who lets go of a folder may remove it between the two, and its parents: begun anew then.
    """
    for _ in range(_ATTEMPTS):
        try:
            made = _make(folder)
            lock.acquire()
            return made
        except _PASSING as error:
            last = error
    raise InputError(f"{folder}: cannot be written ({last}). Name another folder.") from None


def _make(folder: pathlib.Path) -> list[pathlib.Path]:
    """The folders that had to be made, the innermost first; one that only holds a lock counts."""
    absent = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        there = {path.name for path in folder.iterdir()}
    except _PASSING:
        raise
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error}). Name another folder.") from None
    return absent or ([folder] if there and there <= set(FILES) else [])


def _owner(folder: pathlib.Path) -> str:
    try:
        found = json.loads((folder / _OWNER).read_text(encoding="utf-8"))
        return f"process {found['pid']} on {found['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
