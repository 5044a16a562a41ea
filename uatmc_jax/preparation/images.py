"""Images of the items: found in a folder, never outside it, and decoded with care."""

import hashlib
import os
import pathlib
import warnings

from uatmc_jax.data import canonical
from uatmc_jax.errors import InputError
from uatmc_jax.preparation.items import Catalogue, look_up
from uatmc_jax.preparation.lines import MalformedError, Tally
from uatmc_jax.store import hash_file

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
# Encoders shrink an image further; a batch of camera-sized ones would not fit in memory.
_LONGEST_SIDE = 1024


def by_id(folder: pathlib.Path, ids: list[str]) -> list[str | None]:
    """File names of the images called ID.jpg, ID.png, ...; None for an item without one.

    Raises:
      InputError: two images of one item.
    """
    wanted = set(ids)
    found: dict[str, str] = {}
    for entry in sorted(os.listdir(folder)):
        stem, ending = os.path.splitext(entry)
        if ending.lower() not in ENDINGS:
            continue
        try:
            stem = canonical(stem) or ""
        except ValueError:
            continue  # no id is so
        if stem not in wanted:
            continue
        if stem in found:
            raise InputError(f"{folder}: {found[stem]!r} and {entry!r} are of one item. Keep one.")
        found[stem] = entry
    return [found.get(name) for name in ids]


def by_path(catalogue: Catalogue) -> list[str | None]:
    """The paths that the items' table names; None for an item without one."""
    return [look_up(catalogue, index).image or None for index in range(len(catalogue.places))]


def describe(folder: pathlib.Path, names: list[str | None], tally: Tally) -> None:
    """Puts size and a hash over names and contents of the images there are into the tally."""
    digest = hashlib.sha256()
    tally.bytes = 0
    for name in sorted({name for name in names if name}):
        try:
            path = _inside(folder, name)
        except MalformedError:
            continue
        tally.bytes += path.stat().st_size
        digest.update(f"{name}\0{hash_file(path)}\n".encode())
    tally.sha256 = digest.hexdigest()


def open_image(folder: pathlib.Path, name: str):
    """Reads an image as RGB, reduced to 1024 pixels a side if larger.

    Raises:
      MalformedError: outside the folder, absent, not an image, or as large as a
        decompression bomb.
    """
    from PIL import Image

    path = _inside(folder, name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                image.draft("RGB", (_LONGEST_SIDE, _LONGEST_SIDE))
                image = image.convert("RGB")  # type: ignore[assignment]
        image.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
    # Whatever a decoder raises is about the image.
    except Exception as error:
        raise MalformedError(f"not a readable image ({' '.join(str(error).split())})") from None
    return image


def _inside(folder: pathlib.Path, name: str) -> pathlib.Path:
    if not name.isprintable():
        raise MalformedError("the path is not printable")
    root = os.path.realpath(folder)
    path = os.path.realpath(os.path.join(root, name))
    if os.path.commonpath((root, path)) != root:
        raise MalformedError(f"outside {folder.name}")
    if not os.path.isfile(path):
        raise MalformedError("no such file")
    return pathlib.Path(path)
