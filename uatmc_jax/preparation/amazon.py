"""What the Amazon 2014 files hold: reviews, metadata, and binary image features."""

import ast
import html
import json
import pathlib
import warnings
from collections.abc import Iterator

import numpy as np

from uatmc_jax.errors import InputError
from uatmc_jax.preparation.interactions import Event, rating, timestamp
from uatmc_jax.preparation.items import Item
from uatmc_jax.preparation.lines import (
    MalformedError,
    Tally,
    finish,
    flat,
    identifier,
    note,
    parse_lines,
    read_blocks,
)
from uatmc_jax.preparation.matrices import create, stand_in, writer

IMAGE_DIM = 4096
_RECORD = np.dtype([("asin", "S10"), ("features", "<f4", (IMAGE_DIM,))])
# Parsing a literal takes a hundred times its length in memory.
_LONGEST_LITERAL = 1 << 20


def read_reviews(path: pathlib.Path, tally: Tally, share: float) -> Iterator[Event]:
    """Yields the interactions of a review file, in its order.

    Raises:
      InputError: damaged, or too many malformed lines.
    """
    return parse_lines(path, _review, tally, share)


def _review(line: bytes) -> Event:
    fields = _object(line)
    return Event(
        identifier(fields.get("reviewerID")),
        identifier(fields.get("asin")),
        timestamp(fields.get("unixReviewTime")),
        rating(fields.get("overall")),
    )


def read_meta(path: pathlib.Path, tally: Tally, share: float) -> Iterator[tuple[str, Item]]:
    """Yields (ASIN, item) of a metadata file, in its order.

    Raises:
      InputError: damaged, or too many malformed lines.
    """
    with warnings.catch_warnings():
        # A literal's "\d" is a warning to Python, and a backslash to everyone else.
        warnings.simplefilter("ignore")
        yield from parse_lines(path, _meta, tally, share)


def _meta(line: bytes) -> tuple[str, Item]:
    fields = _object(line, literal=True)
    asin = identifier(fields.get("asin"))
    if asin is None:
        raise MalformedError("no asin")
    title, brand = (_text(fields.get(name)) for name in ("title", "brand"))
    path = _category_path(fields.get("categories"))
    description = _text(fields.get("description"))
    text = flat(" ".join(part for part in (title, brand, *path, description) if part))
    shown = (html.unescape(part) for part in (title, brand, " > ".join(path)))
    return asin, Item(*map(flat, shown), text)  # type: ignore[call-arg]


def _object(line: bytes, literal: bool = False) -> dict:
    """A line's JSON object or, if allowed, Python dict literal."""
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedError("not UTF-8") from None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError, MemoryError):
        if not literal:
            raise MalformedError("not JSON") from None
        value = _literal(text)
    if not isinstance(value, dict):
        raise MalformedError("not an object")
    return value


def _literal(text: str) -> object:
    if len(text) > _LONGEST_LITERAL:
        raise MalformedError(f"not JSON, and longer than {_LONGEST_LITERAL >> 20} MiB")
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        raise MalformedError("neither JSON nor a Python literal") from None


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
