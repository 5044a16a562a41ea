"""What a preparation has noted of the files it wrote, and whether they are still those."""

import pathlib
from collections.abc import Iterable

from uatmc_jax.errors import InputError
from uatmc_jax.store import hash_file, read_json

MANIFEST_FILE = "manifest.json"


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
    if not path.is_file():
        return
    remedy = "Prepare the data again, or delete it if the data are meant to be as they are"
    manifest = read_json(path, remedy=remedy)
    noted = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(noted, dict):
        return
    for file in files:
        entry = noted.get(file.name)
        if not (isinstance(entry, dict) and "sha256" in entry and file.is_file()):
            continue
        if hash_file(file) != entry["sha256"]:
            raise InputError(
                f"{file}: was changed or damaged since it was prepared ({MANIFEST_FILE} has "
                f"another sha256). Prepare the data again, or delete {path} if the change is meant."
            )
