"""Raw files as streams: hashed, unpacked and cut into lines in one pass; bad lines are counted."""

import dataclasses
import hashlib
import math
import os
import pathlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

from tqdm import tqdm

from uatmc_jax.data import canonical
from uatmc_jax.data.text import text_blocks, unpacked_blocks
from uatmc_jax.errors import InputError

LONGEST_LINE = 16 << 20
SAMPLES = 100
SHOWN = 200
# Below this many records, a few bad ones at the top say nothing of the whole file.
_EARLIEST_STOP = 1000


class MalformedError(ValueError):
    """One record of a source cannot be used; the message says why."""


@dataclasses.dataclass
class Tally:
    """What was read of one source so far.

    Attributes:
      file: its name, without folders.
      bytes: as stored.
      sha256: of the whole file, once it is read.
      records: lines, rows or images, malformed ones included, blank lines not.
      blank: blank lines.
      malformed: records that could not be used.
      samples: [number of the line or row, why, how it begins] of the first ones.
    """

    file: str
    bytes: int = 0
    sha256: str = ""
    records: int = 0
    blank: int = 0
    malformed: int = 0
    samples: list = dataclasses.field(default_factory=list)


def note(tally: Tally, number: int | str, reason: str, beginning: str, share: float) -> None:
    """Counts a malformed record and stops the run early where there are too many.

    Raises:
      InputError: see `check_share`.
    """
    tally.malformed += 1
    if len(tally.samples) < SAMPLES:
        tally.samples.append([number, reason, beginning[:SHOWN]])
    if tally.records > _EARLIEST_STOP:
        check_share(tally, share)


def check_share(tally: Tally, share: float) -> None:
    """Refuses a source of which too much is malformed.

    Raises:
      InputError: more than `share` of the records; names the first one.
    """
    if tally.malformed > share * tally.records:
        number, reason, beginning = tally.samples[0]
        raise InputError(
            f"{tally.file}: {tally.malformed} of {tally.records} records are malformed "
            f"({tally.malformed / tally.records:.1%}, allowed {share:.1%}); the first is {number}: "
            f"{reason}: {beginning!r}. Mend the file, or raise --max-malformed."
        )


def read_blocks(
    path: pathlib.Path, tally: Tally, open_blocks: Callable = unpacked_blocks
) -> Iterator[bytes]:
    """Yields a file's content in blocks as `open_blocks` unpacks it, counted and hashed.

    Raises:
      InputError: see `uatmc_jax.data.text`.
    """
    digest, shown = hashlib.sha256(), sys.stderr.isatty()
    tally.bytes, size = 0, path.stat().st_size
    with tqdm(total=size, desc=path.name, unit="B", unit_scale=True, disable=not shown) as bar:

        def watch(block: bytes) -> None:
            digest.update(block)
            tally.bytes += len(block)
            bar.update(len(block))

        yield from open_blocks(path, watch)
    tally.sha256 = digest.hexdigest()


def line_blocks(path: pathlib.Path, tally: Tally) -> Iterator[bytes | None]:
    """Yields a text in blocks of whole lines; None for a line longer than `LONGEST_LINE`."""
    rest, skipping = b"", False
    for block in read_blocks(path, tally, text_blocks):
        ends = block.rfind(b"\n")
        if skipping:
            begins = block.find(b"\n")
            if begins < 0:
                continue
            skipping = False
            yield None
            block, ends = block[begins + 1 :], ends - begins - 1
        if ends >= 0:
            whole = rest + block[:ends]
            rest = block[ends + 1 :]
            if len(whole) <= LONGEST_LINE or max(map(len, whole.split(b"\n"))) <= LONGEST_LINE:
                yield whole
            else:
                for line in whole.split(b"\n"):
                    yield line if len(line) <= LONGEST_LINE else None
        else:
            rest += block
        if len(rest) > LONGEST_LINE:
            rest, skipping = b"", True
    if skipping:
        yield None
    elif rest:
        yield rest


def read_lines(path: pathlib.Path, tally: Tally) -> Iterator[bytes | None]:
    """Yields a file's lines without their ends; None for one longer than `LONGEST_LINE`."""
    for block in line_blocks(path, tally):
        if block is None:
            yield None
        else:
            yield from block.split(b"\n")


def parse_lines(
    path: pathlib.Path, parse: Callable[[bytes], Any], tally: Tally, share: float
) -> Iterator[Any]:
    """Yields what `parse` makes of each line; its `MalformedError`s are counted.

    While a record is with the caller, `tally.records` counts it as the last one.

    Raises:
      InputError: more malformed records than the share allows, or no record at all.
    """
    for number, line in enumerate(read_lines(path, tally), start=1):
        if line is not None and not line.strip():
            tally.blank += 1
            continue
        tally.records += 1
        try:
            if line is None:
                raise MalformedError(f"longer than {LONGEST_LINE >> 20} MiB")
            record = parse(line)
        except MalformedError as error:
            beginning = (line or b"")[: 4 * SHOWN].decode("utf-8", "backslashreplace")
            note(tally, f"line {number}", str(error), beginning, share)
        else:
            yield record
    finish(tally, share)


def finish(tally: Tally, share: float) -> None:
    """Checks a source that is read to its end.

    Raises:
      InputError: no record at all, or see `check_share`.
    """
    if not tally.records:
        raise InputError(f"{tally.file}: holds no records. Give a file with one record a line.")
    check_share(tally, share)


def sync(path: pathlib.Path) -> None:
    """Sees a file to the disk."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_BLANKS = dict.fromkeys((*range(32), 127), " ")
_LONGEST_ID = 256


def as_written(value: object) -> str | None:
    """A user's or item's id as a source has it, which is not yet its one form; None without one.

    Raises:
      MalformedError: neither text nor a number, too long, or not printable.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, float):  # of JSON
        if not value.is_integer():
            raise MalformedError("an id is a number with decimals")
        return repr(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**64:
        return str(value)
    if not isinstance(value, str):
        raise MalformedError("an id is neither text nor an integer")
    if len(value) > 4 * _LONGEST_ID:
        raise MalformedError(f"an id is longer than {_LONGEST_ID} characters")
    if "\0" in value or not is_utf8(value):
        raise MalformedError("an id is not printable")
    return value


def identifier(value: object) -> str | None:
    """A user's or item's id in its one form (`data.canonical`); None if there is none.

    Raises:
      MalformedError: neither text nor a number, too long, a float that has lost digits, or
        with characters that cannot be printed (they would break the tables written).
    """
    written = as_written(value)
    if written is None:
        return None
    try:
        text = canonical(written) or ""
    except ValueError as error:
        raise MalformedError(str(error)) from None
    if len(text) > _LONGEST_ID or not text.isprintable():
        raise MalformedError(f"an id is longer than {_LONGEST_ID} characters or not printable")
    return text or None


def is_utf8(text: str) -> bool:
    """Whether UTF-8 can hold it: no half characters, nor what stands for other bytes."""
    try:
        return text.isascii() or bool(text.encode("utf-8"))
    except UnicodeEncodeError:
        return False


def flat(text: str) -> str:
    """Text on one line, runs of blanks as one, without what UTF-8 cannot hold."""
    text = text.encode("utf-8", "replace").decode("utf-8").translate(_BLANKS)
    return " ".join(text.split())
