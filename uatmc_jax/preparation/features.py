"""The feature matrices of a prepared data set: encoded, or taken from files given."""

import hashlib
import pathlib

from uatmc_jax.data.names import load_item_names
from uatmc_jax.errors import InputError
from uatmc_jax.preparation import amazon, images
from uatmc_jax.preparation.encoders import Encoder
from uatmc_jax.preparation.encoding import Content, encode_resumably, forget
from uatmc_jax.preparation.generic import text_columns
from uatmc_jax.preparation.items import Catalogue, look_up, open_catalogue
from uatmc_jax.preparation.lines import MalformedError, Tally, note
from uatmc_jax.preparation.matrices import Survey, check_rows, copy_rows, survey
from uatmc_jax.preparation.settings import AmazonSettings, GenericSettings, Settings

TEXT_FILE, IMAGE_FILE = "text_feat.npy", "image_feat.npy"


def survey_given(settings: AmazonSettings | GenericSettings) -> dict[str, Survey]:
    """What the given matrices hold, by modality; read before anything else is done.

    Raises:
      InputError: see `survey`.
    """
    given = {"text": settings.text_features}
    if isinstance(settings, GenericSettings):
        given["image"] = settings.image_features
    return {name: survey(path) for name, path in given.items() if path}


def write_text(
    settings: Settings,
    work: pathlib.Path,
    item_rows: int,
    encoder: Encoder | None,
    given: Survey | None = None,
) -> tuple[dict, Tally] | None:
    """Writes the items' text features, if any are asked for.

    Args:
      settings: what is asked for.
      work: the unfinished work, its tables done.
      item_rows: rows of the items' source.
      encoder: of texts, or None.
      given: of `settings.text_features`.

    Returns:
      What the manifest says of them and of their source; None if not asked for.

    Raises:
      InputError: see `encode_resumably` and `copy_rows`.
    """
    out, progress = work / "data" / TEXT_FILE, work / "text.json"
    if given:
        forget(progress)
        return _given(settings.text_features, given, work, item_rows, out)  # type: ignore[arg-type]
    if not encoder:
        forget(progress, out)
        return None
    catalogue, tally = open_catalogue(work), Tally("texts of the items")
    share = settings.max_malformed

    def fetch(rows: range, _: Tally) -> list[str | None]:
        return [look_up(catalogue, row).text or None for row in rows]

    with catalogue.file:
        n_items = len(catalogue.places)
        digest = hashlib.sha256()
        for row in range(n_items):
            digest.update(look_up(catalogue, row).text.encode() + b"\0")
        content = Content(n_items, digest.hexdigest(), fetch)
        counts = encode_resumably(encoder, content, out, progress, tally, share)
    read = {"columns": _columns(settings), "joined": "a space; runs of white space are one"}
    return {**_named(encoder), "text": read, **counts}, tally


def write_image(
    settings: AmazonSettings | GenericSettings,
    work: pathlib.Path,
    item_rows: int,
    encoder: Encoder | None,
    given: Survey | None = None,
) -> tuple[dict, Tally] | None:
    """Writes the items' image features, if any are asked for; see `write_text`."""
    out, progress = work / "data" / IMAGE_FILE, work / "image.json"
    share, source = settings.max_malformed, settings.image_features
    if isinstance(settings, AmazonSettings):
        if not source:
            forget(progress, out)
            return None
        tally = Tally(source.name)
        ids = load_item_names(work / "data")
        return amazon.write_images(source, ids, out, tally, share), tally
    if given:
        forget(progress)
        return _given(source, given, work, item_rows, out)  # type: ignore[arg-type]
    if not encoder:
        forget(progress, out)
        return None
    folder, tally = settings.images, Tally(settings.images.absolute().name)
    names = image_names(settings, work)
    images.describe(folder, names, tally)  # type: ignore[arg-type]

    def fetch(rows: range, tally: Tally) -> list:
        return [_fetch_image(folder, names[row], tally, share) for row in rows]  # type: ignore[arg-type]

    order = hashlib.sha256("\0".join(name or "" for name in names).encode()).hexdigest()
    content = Content(len(names), order, fetch)
    counts = encode_resumably(encoder, content, out, progress, tally, share)
    return {**_named(encoder), **counts}, tally


def _given(
    source: pathlib.Path, found: Survey, work: pathlib.Path, item_rows: int, out: pathlib.Path
) -> tuple[dict, Tally]:
    tally = Tally(source.name)
    catalogue = open_catalogue(work)
    catalogue.file.close()
    check_rows(source, len(found.missing), item_rows)
    return copy_rows(source, found, catalogue.places[:, 2], out, tally), tally


def _named(encoder: Encoder) -> dict:
    return {"encoder": encoder.name, "versions": encoder.versions, "recipe": dict(encoder.recipe)}


def _columns(settings: Settings) -> list[str]:
    """What of an item a text encoder reads, in this order."""
    if isinstance(settings, GenericSettings):
        return list(text_columns(settings))
    return ["title", "brand", "categories", "description"]


def image_names(settings: GenericSettings, work: pathlib.Path) -> list[str | None]:
    """Where the image of each item is, below `settings.images`; None for one without.

    Raises:
      InputError: no item has one, or one has two.
    """
    if settings.image_column:
        catalogue: Catalogue = open_catalogue(work)
        with catalogue.file:
            names = images.by_path(catalogue)
    else:
        names = images.by_id(settings.images, list(load_item_names(work / "data")))  # type: ignore[arg-type]
    if not any(names):
        wanted = "--image-column is empty" if settings.image_column else "none is called ID.jpg"
        raise InputError(
            f"--images {settings.images}: no image of any item that is left; {wanted} (or .png, "
            ".webp, ...). Check the folder."
        )
    return names


def _fetch_image(folder: pathlib.Path, name: str | None, tally: Tally, share: float):
    """An image; None where there is none, or where it cannot be read, which is counted."""
    if name is None:
        return None
    tally.records += 1
    try:
        return images.open_image(folder, name)
    except MalformedError as error:
        note(tally, f"image {tally.records}", str(error), name, share)
        return None
