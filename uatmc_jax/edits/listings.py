"""What sellers have put up: the pictures and texts that a data set was prepared from.

The manifest says how they were read and with what they were encoded; both are taken up
again here, and an item whose stored features these sources do not give is refused.
"""

import dataclasses
import importlib.util
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from uatmc_jax.data import Dataset
from uatmc_jax.data.features import parse_modalities
from uatmc_jax.data.ids import canonical
from uatmc_jax.data.manifest import MANIFEST_FILE
from uatmc_jax.data.source import DataSettings, dataset_folder
from uatmc_jax.edits.bridge import Coder, encode_pictures, encode_texts
from uatmc_jax.edits.settings import EditSettings
from uatmc_jax.errors import InputError
from uatmc_jax.preparation import encoders, generic, images
from uatmc_jax.preparation.encoders import Encoder
from uatmc_jax.preparation.features import IMAGE_FILE, TEXT_FILE
from uatmc_jax.preparation.lines import MalformedError, Tally, flat
from uatmc_jax.preparation.settings import GenericSettings
from uatmc_jax.store import read_json

_FILES = {"image": IMAGE_FILE, "text": TEXT_FILE}
# Of a feature's length, by how much encoding it again may miss it.
TOLERANCE = 1e-3


class Listing(NamedTuple):
    """An item as its seller has put it up.

    Attributes:
      item: its number.
      name: the shop's id.
      picture: (H, W, 3) uint8 as encoded; None where pictures are not edited.
      cells: texts of the columns that are encoded; () where texts are not edited.
      edited: which of them is edited.
    """

    item: int
    name: str
    picture: np.ndarray | None
    cells: tuple[str, ...]
    edited: int

    @property
    def title(self) -> str:
        """The text that is edited."""
        return self.cells[self.edited] if self.cells else ""


def compose(listing: Listing, title: str) -> tuple[str, int]:
    """The whole text with another title in place, and where that begins.

    As `prepare` puts it together: what is not empty, with one blank between.
    """
    cells = [*listing.cells]
    cells[listing.edited] = flat(title)
    before = " ".join(filter(None, cells[: listing.edited]))
    whole = " ".join(filter(None, cells))
    return whole, len(before) + bool(before)


def read_manifest(data: DataSettings) -> dict:
    """The manifest of a data set.

    Raises:
      InputError: data that `uatmc prepare generic` has not written, or an older one.
    """
    folder = _folder(data)
    manifest = read_json(
        folder / MANIFEST_FILE, "command", "settings", "features", remedy="Prepare it again"
    )
    if manifest["command"] != "generic":
        raise InputError(
            f"{folder}: prepared by {manifest['command']}, which encodes no pictures. Edits need "
            "data of `uatmc prepare generic`."
        )
    return manifest


def _folder(data: DataSettings) -> pathlib.Path:
    if data.source != "mmrec":
        raise InputError("the synthetic data have no pictures and no texts, so nothing to edit.")
    return dataset_folder(data)


def open_coders(data: DataSettings, manifest: Mapping, settings: EditSettings) -> dict[str, Coder]:
    """{"image" or "text": its encoder with derivative}, of the kinds to be edited.

    Args:
      data: names the modalities' files.
      manifest: of these data.
      settings: which kinds are edited.

    Raises:
      InputError: the extra is not installed, a kind without features or without recorded
        encoder, another encoder than the recorded one, or one without a derivative.
    """
    if importlib.util.find_spec("torch") is None:
        raise InputError("edits need encoders with derivatives. pip install 'uatmc_jax[edits]'")
    files = list(parse_modalities(data.modalities).values())
    wanted = {"image": settings.images, "text": settings.items}
    makers = {"image": encoders.image_encoder, "text": encoders.text_encoder}
    found = {}
    for kind, source in wanted.items():
        if source is None:
            continue
        said = manifest["features"].get(kind) or {}
        if _FILES[kind] not in files or "recipe" not in said:
            raise InputError(
                f"{_folder(data)}: its {kind} features have no encoder on record. "
                f"Prepare the data with --{kind}-encoder, by this version, and train again."
            )
        encoder = makers[kind](said["encoder"], manifest["settings"]["batch_size"])
        found[kind] = Coder(files.index(_FILES[kind]), encoder, _twin(kind, encoder, said))
    return found


def _twin(kind: str, encoder: Encoder, said: Mapping[str, Any]) -> Any:
    if encoder.twin is None:
        remedy = "Prepare with --image-encoder efficientnet-lite0"
        raise InputError(f"--{kind}-encoder {encoder.name}: has no derivative here. {remedy}.")
    changed = [name for name, value in encoder.recipe.items() if said["recipe"].get(name) != value]
    if changed:
        raise InputError(
            f"{kind} encoder {encoder.name}: is not the one the data were prepared with (changed: "
            f"{', '.join(changed)}). Install that one, or prepare again."
        )
    return encoder.twin()


def read_listings(
    data: Dataset, manifest: Mapping, settings: EditSettings, items: Sequence[int]
) -> dict[int, Listing]:
    """{item: what its seller has put up}.

    Args:
      data: that the items are of.
      manifest: of these data.
      settings: where pictures and texts are.
      items: numbers.

    Raises:
      InputError: a source that is not there, or an item without picture or text.
    """
    names = {int(item): data.names.ids.get(int(item), "") for item in items}
    read = _generic(manifest, settings)
    cells = _cells(read, names) if settings.items else dict.fromkeys(names.values(), ())
    columns = generic.text_columns(read)
    edited = settings.column or read.title_column or columns[0]
    if settings.items and edited not in columns:
        raise InputError(
            f"--column {edited}: not one of those that are encoded: {', '.join(columns)}."
        )
    place = columns.index(edited) if settings.items else 0
    pictures = _pictures(read, names) if settings.images else {}
    return {
        item: Listing(item, name, pictures.get(name), cells[name], place)
        for item, name in names.items()
    }


def _generic(manifest: Mapping, settings: EditSettings) -> GenericSettings:
    """How the sources were read, with where they are now."""
    fields = {field.name for field in dataclasses.fields(GenericSettings)}
    said = {name: value for name, value in manifest["settings"].items() if name in fields}
    nowhere = pathlib.Path()
    said |= {"out": nowhere, "interactions": nowhere, "text_columns": tuple(said["text_columns"])}
    for name in ("text_features", "image_features"):
        said[name] = None
    read = GenericSettings(**said | {"images": settings.images, "items": settings.items})
    needs_table = read.image_column and settings.images
    if needs_table and not settings.items:
        raise InputError("--items: the pictures are found by a column of that table. Give it.")
    if settings.items and not settings.items.is_file():
        raise InputError(f"--items {settings.items}: no such file. Check the path.")
    if settings.images and not settings.images.is_dir():
        raise InputError(f"--images {settings.images}: no such folder. Check the path.")
    return read


def _column(read: GenericSettings, **changes: Any) -> dict[str, Any]:
    """{item's id: its record}, the first of each, with other columns read."""
    found: dict[str, Any] = {}
    settings = dataclasses.replace(read, **changes)
    for name, record in generic.read_items(settings, Tally(read.items.name)):
        found.setdefault(name, record)
    return found


def _cells(read: GenericSettings, names: Mapping[int, str]) -> dict[str, tuple[str, ...]]:
    columns = [_column(read, text_columns=(column,)) for column in generic.text_columns(read)]
    lacking = [name for name in names.values() if name not in columns[0]]
    if lacking:
        raise InputError(f"{read.items}: has no item {lacking[0]!r}. Give the table of the data.")
    return {name: tuple(column[name].text for column in columns) for name in names.values()}


def _pictures(read: GenericSettings, names: Mapping[int, str]) -> dict[str, np.ndarray]:
    folder, wanted = read.images, list(names.values())
    if read.image_column:
        table = _column(read)
        files = [table[name].image or None if name in table else None for name in wanted]
    else:
        files = images.by_id(folder, [canonical(name) or name for name in wanted])  # type: ignore[arg-type]
    found = {}
    for name, file in zip(wanted, files, strict=True):
        try:
            if file is None:
                raise MalformedError("no picture")
            found[name] = np.array(images.open_image(folder, file))  # type: ignore[arg-type]
        except MalformedError as error:
            raise InputError(
                f"{folder}: item {name!r}: {error}. Name other items, or mend the folder."
            ) from None
    return found


def check_stored(
    data: Dataset, coders: Mapping[str, Coder], listings: Sequence[Listing]
) -> dict[str, float]:
    """Encodes items again and compares with the stored features.

    Returns:
      {kind: the largest share of its length by which a feature is missed}.

    Raises:
      InputError: one is missed by more than `TOLERANCE`: other sources, or another encoder.
    """
    largest = {}
    for kind, coder in coders.items():
        if kind == "image":
            found = encode_pictures(coder, [one.picture for one in listings])  # type: ignore[misc]
        else:
            found = encode_texts(coder, [compose(one, one.title)[0] for one in listings])
        stored = data.features[coder.place][[one.item for one in listings]]
        length = np.maximum(np.linalg.norm(stored, axis=1), 1e-12)
        missed = np.linalg.norm(found - stored, axis=1) / length
        worst = int(missed.argmax())
        if missed[worst] > TOLERANCE:
            raise InputError(
                f"item {listings[worst].name!r}: its {kind} encoded again is "
                f"{missed[worst]:.2%} of its length away from the stored feature. Give the sources "
                "and the encoder that the data were prepared with, or prepare again."
            )
        largest[kind] = float(missed[worst])
    return largest
