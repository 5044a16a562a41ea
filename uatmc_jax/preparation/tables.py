"""Tables of any shop, read a row at a time: CSV, TSV, JSON lines and Parquet."""

import collections
import csv
import itertools
import pathlib
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

from uatmc_jax.data.text import NOT_UTF8, text_blocks
from uatmc_jax.errors import InputError
from uatmc_jax.preparation.lines import (
    LONGEST_LINE,
    MalformedError,
    Tally,
    finish,
    is_utf8,
    line_blocks,
    note,
    parse_lines,
)
from uatmc_jax.preparation.objects import cell_of, parse_object
from uatmc_jax.preparation.parquet import Form, find_columns, is_parquet, parquet_rows

_DELIMITERS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
T = TypeVar("T")
# A quoted cell goes on over so many lines at most; an open quote is not followed further.
_MOST_LINES = 1000
# As many objects tell which keys there are.
_FIRST_OBJECTS = 1000


class Shape(NamedTuple):
    """How the rows of a text are cut.

    Attributes:
      chosen: places of the cells that are read, from 0 on.
      width: cells of a row.
      delimiter: between cells.
    """

    chosen: list[int]
    width: int
    delimiter: str


# Of a text's shape, what takes a block of lines with the number of the first, and gives back
# those that it leaves to be read one by one; None if it takes none.
Quick = Callable[[Shape], Callable[[int, str], list[tuple[int, str]] | None]]


def read_table(
    path: pathlib.Path,
    columns: tuple[str, ...],
    form: Form,
    parse: Callable[[tuple[str, ...]], T],
    tally: Tally,
    share: float,
    quick: Quick | None = None,
) -> Iterator[tuple[int, T]]:
    """Yields (number, what `parse` makes of the cells) of each row; bad rows are counted.

    Args:
      path: a Parquet file or JSON lines (by how it begins), else text in cells, gzip or plain.
      columns: which cells, in this order; a missing value is "".
      form: of a text in cells.
      parse: of one row; what raises `MalformedError` is bad.
      tally: counts rows; while one is with the caller, it is the last counted.
      share: of rows that may be malformed.
      quick: takes the plain lines of a text away; the others are yielded.

    Raises:
      InputError: no such column, not a table, too many malformed rows, no rows.
    """
    rows = _rows_of(path)
    given = (path, columns, form, tally, share)
    unit = _UNITS[rows]
    for number, cells in rows(*given, quick) if rows is _text_rows else rows(*given):
        try:
            record = parse(cells)
        except MalformedError as error:
            note(tally, f"{unit} {number}", str(error), " | ".join(cells), share)
        else:
            yield number, record
    finish(tally, share)


def unit_of(path: pathlib.Path) -> str:
    """What the numbers of a table's rows count: lines, records or rows."""
    return _UNITS[_rows_of(path)]


def _rows_of(path: pathlib.Path) -> Callable:
    if is_parquet(path):
        return parquet_rows
    begins = next((block.lstrip()[:1] for block in text_blocks(path) if block.strip()), b"")
    if begins == b"[":
        raise InputError(
            f"{path}: is one JSON array. Write an object a line (jq -c '.[]' FILE does it)."
        )
    return _object_rows if begins == b"{" else _text_rows


def _text_rows(
    path: pathlib.Path,
    columns: tuple[str, ...],
    form: Form,
    tally: Tally,
    share: float,
    quick: Quick | None = None,
) -> Iterator[tuple[int, tuple[str, ...]]]:
    delimiter = form.delimiter or _delimiter(path)
    blocks = _decoded(path, tally, share)
    place, text = next(blocks, (1, ""))
    lines = text.split("\n")
    start = next((k for k, line in enumerate(lines) if line.strip()), 0)
    tally.blank += start
    shape = _header(path, columns, form, lines[start].removesuffix("\r"), delimiter)
    start += not form.columns
    if start < len(lines):
        blocks = itertools.chain([(place + start, "\n".join(lines[start:]))], blocks)
    add = quick(shape) if quick else None
    for place, text in blocks:
        hard = add(place, text) if add and "\0" not in text and is_utf8(text) else None
        if hard is None:
            blocks = itertools.chain([(place, text)], blocks)
            break
        tally.records += text.count("\n") + 1 - len(hard)
        yield from _rows(iter(hard), shape, tally, share)
    numbered = (pair for place, text in blocks for pair in enumerate(text.split("\n"), place))
    yield from _rows(numbered, shape, tally, share)


def _decoded(path: pathlib.Path, tally: Tally, share: float) -> Iterator[tuple[int, str]]:
    """Blocks of lines with the number of the first; bytes that are not UTF-8 are marked."""
    number = 1
    for block in line_blocks(path, tally):
        if block is None:
            tally.records += 1
            note(tally, f"line {number}", f"longer than {LONGEST_LINE >> 20} MiB", "", share)
            number += 1
        else:
            yield number, block.decode("utf-8", "surrogateescape")
            number += block.count(b"\n") + 1


def _rows(
    lines: Iterator[tuple[int, str]], shape: Shape, tally: Tally, share: float
) -> Iterator[tuple[int, tuple[str, ...]]]:
    ahead: collections.deque[tuple[int, str]] = collections.deque()
    while True:
        place, line = ahead.popleft() if ahead else next(lines, (0, ""))
        if not place:
            return
        line = line.removesuffix("\r")
        if not line:
            tally.blank += 1
            continue
        tally.records += 1
        try:
            row = _cells(line, shape.delimiter)
        except csv.Error as error:
            spanning = _spanning(line, shape, ahead, lines)
            if spanning is None:
                reason = f"a quote that is not closed, or text after it ({error})"
                note(tally, f"line {place}", reason, line, share)
                continue
            row = spanning
        if len(row) != shape.width:
            reason = f"{len(row)} cells under a header of {shape.width}"
            note(tally, f"line {place}", reason, " | ".join(row), share)
        elif not is_utf8("".join(row)):
            note(tally, f"line {place}", NOT_UTF8, " | ".join(row), share)
        else:
            yield place, tuple(row[index].strip() for index in shape.chosen)


def _header(
    path: pathlib.Path, columns: tuple[str, ...], form: Form, line: str, delimiter: str
) -> Shape:
    """Where the columns are, by the header or by what `form` names."""
    try:
        cells = [name.strip() for name in _cells(line, delimiter)]
    except csv.Error as error:
        raise InputError(f"{path}: the header cannot be read ({error}). Give a CSV file.") from None
    if not form.columns:
        return Shape(find_columns(path, cells, columns, delimiter), len(cells), delimiter)
    if {name.casefold() for name in cells} >= {name.casefold() for name in columns}:
        raise InputError(f"{path}: has a header of its own, {cells}. Leave out {form.flag}.")
    if len(cells) != len(form.columns):
        raise InputError(
            f"{path}: {form.flag} names {len(form.columns)} columns, but the first line has "
            f"{len(cells)} cells: {line[:200]!r}. Name each column, or set --delimiter."
        )
    return Shape(find_columns(path, list(form.columns), columns, delimiter), len(cells), delimiter)


def _cells(line: str, delimiter: str) -> list[str]:
    """The cells of a record; quotes are text where tabs, or two characters, separate them.

    Raises:
      csv.Error: a quote that is not closed, or is followed by text.
    """
    if '"' not in line or not _has_quotes(delimiter):
        return line.split(delimiter)
    return next(csv.reader([line], delimiter=delimiter, strict=True))


def quoted(shape: Shape) -> bool:
    """Whether quotes around a cell are not its text."""
    return _has_quotes(shape.delimiter)


def _has_quotes(delimiter: str) -> bool:
    return delimiter != "\t" and len(delimiter) == 1


def _spanning(
    line: str,
    shape: Shape,
    ahead: collections.deque[tuple[int, str]],
    lines: Iterator[tuple[int, str]],
) -> list[str] | None:
    """The cells of a record with a quoted cell that goes on over lines; None if it is none.

    What was looked at stays `ahead` unless it belongs to the record, so that a quote never
    closed costs its own line and no other. A quoted cell that makes one record of lines that
    are each one alone is none.
    """
    parts, quotes = [line], line.count('"')
    while quotes % 2:
        if len(parts) > _MOST_LINES:
            return None
        if len(parts) > len(ahead):
            following = next(lines, None)
            if following is None:
                return None
            ahead.append(following)
        parts.append(ahead[len(parts) - 1][1].removesuffix("\r"))
        quotes += parts[-1].count('"')
    if all(part.count(shape.delimiter) == shape.width - 1 for part in parts):
        return None
    try:
        row = _cells("\n".join(parts), shape.delimiter)
    except csv.Error:
        return None
    if len(row) != shape.width:
        return None
    for _ in parts[1:]:
        ahead.popleft()
    return row


def _delimiter(path: pathlib.Path) -> str:
    name = path.name.lower().removesuffix(".gz").removesuffix(".zst")
    for ending, delimiter in _DELIMITERS.items():
        if name.endswith(ending):
            return delimiter
    raise InputError(
        f"{path}: neither Parquet nor JSON lines nor named .csv or .tsv. Say what separates its "
        "cells with --delimiter."
    )


def _object_rows(path, columns, form, tally, share) -> Iterator[tuple[int, tuple[str, ...]]]:
    if form.columns:
        raise InputError(f"{path}: JSON lines name their cells. Leave out {form.flag}.")
    first = itertools.islice(parse_lines(path, parse_object, Tally(path.name), 1), _FIRST_OBJECTS)
    keys = list(dict.fromkeys(key for record in first for key in record))
    if keys:  # else what is wrong with the lines is said by their reader
        find_columns(path, keys, columns)
    for record in parse_lines(path, parse_object, tally, share):
        yield tally.records, tuple(cell_of(record.get(name)) for name in columns)


_UNITS = {_text_rows: "line", _object_rows: "record", parquet_rows: "row"}
