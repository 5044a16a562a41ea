"""A checkpoint as files: whether the disk holds it, and whether it is as it was written."""

import pathlib
import shutil
from typing import Any

import jax

from uatmc_jax import store
from uatmc_jax.errors import InputError

DAMAGED = "Restore it from a copy, or train anew"
_FILES = "files.json"
# What orbax writes beside the numbers, at most.
_ROOM_OF_A_LEAF, _ROOM_OF_ALL = 1 << 13, 1 << 18


def require_room(workdir: pathlib.Path, arrays: Any) -> None:
    """Refuses what the disk cannot hold, before orbax's threads each find it out.

    Args:
      workdir: the run's folder.
      arrays: pytree of what is to be written.

    Raises:
      InputError: no room for it.
    """
    leaves = jax.tree.leaves(arrays)
    needed = sum(leaf.nbytes for leaf in leaves) + len(leaves) * _ROOM_OF_A_LEAF + _ROOM_OF_ALL
    there = next(path for path in (workdir, *workdir.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise InputError(
            f"{workdir}: a checkpoint takes {needed / 2**20:.1f} MiB, and its disk has no more "
            f"room than {free / 2**20:.1f}. Make room and give the same command again (train: with "
            "--resume)."
        )


def seal_files(path: pathlib.Path) -> None:
    """Writes the digests of all files of a checkpoint beside them."""
    files = {str(f.relative_to(path)): f for f in sorted(path.rglob("*")) if f.is_file()}
    store.write_json(path / _FILES, {name: store.hash_file(f) for name, f in files.items()})


def check_files(path: pathlib.Path) -> None:
    """Refuses a damaged file before orbax's threads stumble over it.

    A checkpoint without digests is older, or was written by a call that was killed right then.

    Raises:
      InputError: names the file that is gone or not as it was written.
    """
    if not (path / _FILES).is_file():
        return
    for name, digest in store.read_json(path / _FILES, remedy=DAMAGED).items():
        file = path / name
        if not file.is_file() or store.hash_file(file) != digest:
            raise InputError(f"{file}: was damaged since it was written. {DAMAGED}.")
