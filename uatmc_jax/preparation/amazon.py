"""What the Amazon collections hold: reviews, metadata, and binary image features."""

import html
import pathlib
import re
import warnings
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from uatmc_jax.errors import InputError
from uatmc_jax.preparation.interactions import rating, timestamp
from uatmc_jax.preparation.items import Item
from uatmc_jax.preparation.lines import (
    MalformedError,
    Tally,
    as_written,
    finish,
    flat,
    identifier,
    note,
    parse_lines,
    read_blocks,
)
from uatmc_jax.preparation.matrices import create, stand_in, writer
from uatmc_jax.preparation.objects import parse_object, texts_of
from uatmc_jax.preparation.stage import Event

IMAGE_DIM = 4096
_RECORD = np.dtype([("asin", "S10"), ("features", "<f4", (IMAGE_DIM,))])
_TAG = re.compile(r"<!--.*?-->|</?[a-zA-Z][^<>]*>", re.DOTALL)
# Of 2018's titles some are a script of the page.
_SCRIPT = re.compile(r"\bgetTime\(\)|\bfunction\s*\(|^\s*var \w+\s*=")


class Layout(NamedTuple):
    """The keys of a collection.

    Attributes:
      user: of a review.
      item: of reviews and metadata: the first of these that there is.
      rating: of a review.
      time: of a review.
      per_second: units of its time.
      brand: of an item.
      categories: of an item: the first of these that there is.
      literal: metadata may be Python literals; its texts are taken as they are.
    """

    user: str
    item: tuple[str, ...]
    rating: str
    time: str
    per_second: int
    brand: str
    categories: tuple[str, ...]
    literal: bool


LAYOUTS = {
    "amazon2014": Layout(
        "reviewerID", ("asin",), "overall", "unixReviewTime", 1, "brand", ("categories",), True
    ),
    "amazon2018": Layout(
        "reviewerID",
        ("asin",),
        "overall",
        "unixReviewTime",
        1,
        "brand",
        ("category", "categories"),
        False,
    ),
    # Variants of one product share the parent's id, under which the metadata are.
    "amazon2023": Layout(
        "user_id",
        ("parent_asin", "asin"),
        "rating",
        "timestamp",
        1000,
        "store",
        ("categories", "main_category"),
        False,
    ),
}


def read_reviews(
    path: pathlib.Path, layout: str, tally: Tally, share: float
) -> Iterator[tuple[int, Event]]:
    """Yields (number of the record, interaction) of a review file, times in seconds.

    Args:
      path: of the file, one JSON object a line.
      layout: of `LAYOUTS`.
      tally: of the file.
      share: of lines that may be malformed.

    Raises:
      InputError: damaged, of another layout, or too many malformed lines.
    """
    keys = LAYOUTS[layout]
    _check_layout(path, layout, (keys.user, *keys.item[-1:], keys.time))

    def parse(line: bytes) -> Event:
        fields = parse_object(line)
        time = timestamp(fields.get(keys.time))
        return Event(
            as_written(fields.get(keys.user)),
            as_written(_first(fields, keys.item)),
            time if time is None or keys.per_second == 1 else time / keys.per_second,
            rating(fields.get(keys.rating)),
        )

    return ((tally.records, event) for event in parse_lines(path, parse, tally, share))


def read_meta(
    path: pathlib.Path, layout: str, tally: Tally, share: float
) -> Iterator[tuple[str, Item]]:
    """Yields (ASIN, item) of a metadata file, in its order.

    Args:
      path: of the file, an object a line.
      layout: of `LAYOUTS`.
      tally: of the file.
      share: of lines that may be malformed.

    Raises:
      InputError: damaged, or too many malformed lines.
    """
    keys = LAYOUTS[layout]
    of_object = _item_of_2014 if keys.literal else _item

    def parse(line: bytes) -> tuple[str, Item]:
        fields = parse_object(line, keys.literal)
        asin = identifier(_first(fields, keys.item))
        if asin is None:
            raise MalformedError(f"no {keys.item[0]}")
        return asin, of_object(fields, keys)

    with warnings.catch_warnings():
        # A literal's "\d" is a warning to Python, and a backslash to everyone else.
        warnings.simplefilter("ignore")
        yield from parse_lines(path, parse, tally, share)


def _check_layout(path: pathlib.Path, layout: str, keys: tuple[str, ...]) -> None:
    """Refuses a file whose first object has not a layout's keys, and names its own."""
    objects = parse_lines(path, parse_object, Tally(path.name), 1)
    fields: dict = next(objects, {})
    objects.close()  # type: ignore[attr-defined]
    user = keys[0]
    other = [name for name, of in LAYOUTS.items() if of.user in fields and of.user != user]
    if not fields or user in fields or (not other and any(key in fields for key in keys)):
        return
    remedy = f"Try {' or '.join(other)}" if other else "Give a review file"
    raise InputError(
        f"{path}: the first line has not {', '.join(keys)}, the keys of {layout}; it has "
        f"{', '.join(map(str, list(fields)[:10]))}. {remedy}."
    )


def _first(fields: dict, keys: tuple[str, ...]) -> object:
    return next((fields[key] for key in keys if fields.get(key) is not None), None)


def _item_of_2014(fields: dict, keys: Layout) -> Item:
    title, brand = (_text(fields.get(name)) for name in ("title", keys.brand))
    path = _category_path(fields.get("categories"))
    description = _text(fields.get("description"))
    text = flat(" ".join(part for part in (title, brand, *path, description) if part))
    shown = (html.unescape(part) for part in (title, brand, " > ".join(path)))
    return Item(*map(flat, shown), text)  # type: ignore[call-arg]


def _item(fields: dict, keys: Layout) -> Item:
    """An item whose texts are HTML: without tags, and with the characters that entities mean."""
    title, brand = (_plain(fields.get(name)) for name in ("title", keys.brand))
    if _SCRIPT.search(title):
        title = ""
    path = [_plain(part) for part in texts_of(_first(fields, keys.categories) or [])]
    others = (_plain(fields.get(name)) for name in ("description", "features", "feature"))
    text = flat(" ".join(filter(None, (title, brand, *path, *others))))
    return Item(title, brand, " > ".join(filter(None, path)), text)


def _plain(value: object) -> str:
    """The texts in a value on one line, without HTML; entities may hide tags, so twice."""
    text = html.unescape(_TAG.sub(" ", _text(value)))
    return flat(html.unescape(_TAG.sub(" ", text)))


def _text(value: object) -> str:
    """Text as it is; of a list the texts in it; anything else is none."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return " ".join(part for part in value if isinstance(part, str))
    return ""


def _category_path(value: object) -> list[str]:
    """The first path of a list of paths, or the path itself."""
    if isinstance(value, list) and value and isinstance(value[0], list):
        value = value[0]
    return [part for part in value if isinstance(part, str)] if isinstance(value, list) else []


def check_image_size(path: pathlib.Path) -> None:
    """Refuses a plain file that cannot consist of whole records.

    Raises:
      InputError: its size says so.
    """
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    size = path.stat().st_size
    if not packed and (size % _RECORD.itemsize or not size):
        raise InputError(
            f"{path}: {size} bytes are not a whole number of records of {_RECORD.itemsize} bytes "
            f"(a 10-byte ASIN and {IMAGE_DIM} float32): truncated. Fetch it again."
        )


def write_images(
    source: pathlib.Path, ids: dict[str, int], out: pathlib.Path, tally: Tally, share: float
) -> dict:
    """Writes the binary file's features in the order of the items' ids.

    Args:
      source: records of a 10-byte ASIN and 4096 little-endian float32.
      ids: {ASIN: item id}.
      out: `.npy` to write, (items, 4096) float32; items without a record get
        the mean of the others.
      tally: of the source.
      share: of malformed records allowed.

    Returns:
      Counts of the records and items.

    Raises:
      InputError: truncated, too many malformed records, no record of any item.
    """
    counts = {"records of other items": 0, "repeated records": 0}
    present = np.zeros(len(ids), bool)
    create(out, len(ids), IMAGE_DIM)
    with writer(out) as write:
        for asin, features in _records(source, tally, share):
            item = ids.get(asin)
            if item is None:
                counts["records of other items"] += 1
            elif present[item]:
                counts["repeated records"] += 1
            else:
                write(item, features)
                present[item] = True
    finish(tally, share)
    return {**counts, **stand_in(out, present, f"{source}: no record of any item left")}


def _records(source: pathlib.Path, tally: Tally, share: float) -> Iterator[tuple[str, np.ndarray]]:
    rest = b""
    for block in read_blocks(source, tally):
        rest += block
        records = np.frombuffer(rest, _RECORD, len(rest) // _RECORD.itemsize)
        rest = rest[records.nbytes :]
        finite = np.isfinite(records["features"]).all(axis=1)
        for (asin, features), good in zip(records, finite, strict=True):
            tally.records += 1
            if good and asin.isascii():
                yield asin.decode("ascii"), features
            else:
                reason = "an ASIN is not ASCII" if good else "NaN or inf among the features"
                shown = asin.decode("ascii", "backslashreplace")
                note(tally, f"record {tally.records}", reason, shown, share)
    if rest:
        raise InputError(
            f"{source}: ends within record {tally.records + 1}: truncated. Fetch it again."
        )
