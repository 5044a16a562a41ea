"""What a preparation has noted of the files it wrote, and whether they are still those."""

import pathlib
from collections.abc import Iterable

from uatmc_jax.errors import InputError
from uatmc_jax.store import hash_file, read_json

MANIFEST_FILE = "manifest.json"


def notes(folder: pathlib.Path, files: Iterable[pathlib.Path]) -> bool:
    """Whether the folder has all of these files, and a manifest that says of each what it was.

    Args:
      folder: of a data set.
      files: in it.

    Raises:
      InputError: a damaged manifest.
    """
    noted = _noted(folder)
    return all(file.is_file() and "sha256" in _entry(noted, file) for file in files)


def require_unchanged(folder: pathlib.Path, files: Iterable[pathlib.Path]) -> None:
    """Compares files with what the folder's manifest says of them.

    Nothing is said of files that it does not name, nor without a manifest: other people's
    folders have none.

    Args:
      folder: of a data set.
      files: in it; those that are not there are passed over.

    Raises:
      InputError: a file that is not the one that was written, or a damaged manifest.
    """
    path = folder / MANIFEST_FILE
    noted = _noted(folder)
    for file in files:
        entry = _entry(noted, file)
        if not ("sha256" in entry and file.is_file()):
            continue
        if hash_file(file) != entry["sha256"]:
            raise InputError(
                f"{file}: was changed or damaged since it was prepared ({MANIFEST_FILE} has "
                f"another sha256). Prepare the data again, or delete {path} if the change is meant."
            )


def _noted(folder: pathlib.Path) -> dict:
    """What the manifest says of files; nothing where there is none."""
    path = folder / MANIFEST_FILE
    if not path.is_file():
        return {}
    remedy = "Prepare the data again, or delete it if the data are meant to be as they are"
    manifest = read_json(path, remedy=remedy)
    noted = manifest.get("files") if isinstance(manifest, dict) else None
    return noted if isinstance(noted, dict) else {}


def _entry(noted: dict, file: pathlib.Path) -> dict:
    entry = noted.get(file.name)
    return entry if isinstance(entry, dict) else {}
