"""Tables of any shop, read a row at a time: CSV, TSV, JSON lines and Parquet."""

import collections
import csv
import itertools
import pathlib
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

from tqdm import tqdm

from uatmc_jax.data.text import NOT_UTF8, text_blocks
from uatmc_jax.errors import InputError
from uatmc_jax.preparation.lines import (
    LONGEST_LINE,
    MalformedError,
    Tally,
    finish,
    hash_file,
    note,
    parse_lines,
    read_lines,
)
from uatmc_jax.preparation.objects import cell_of, parse_object

_DELIMITERS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
_BATCH_ROWS = 1 << 14
T = TypeVar("T")
_PARQUET_MAGIC = b"PAR1"
# A quoted cell goes on over so many lines at most; an open quote is not followed further.
_MOST_LINES = 1000
# As many objects tell which keys there are.
_FIRST_OBJECTS = 1000


class Form(NamedTuple):
    """How a table is written, where its name and content do not say it.

    Attributes:
      delimiter: between cells of a text; None goes by the name's ending.
      columns: names of a text's columns where it has no header; () if it has one.
      flag: which names the columns.
    """

    delimiter: str | None = None
    columns: tuple[str, ...] = ()
    flag: str = "--columns"


def read_table(
    path: pathlib.Path,
    columns: tuple[str, ...],
    form: Form,
    parse: Callable[[tuple[str, ...]], T],
    tally: Tally,
    share: float,
) -> Iterator[T]:
    """Yields what `parse` makes of each row's cells; its `MalformedError`s are counted.

    Args:
      path: a Parquet file or JSON lines (by how it begins), else text in cells, gzip or plain.
      columns: which cells, in this order; a missing value is "".
      form: of a text in cells.
      parse: of one row.
      tally: counts rows; while one is with the caller, it is the last counted.
      share: of rows that may be malformed.

    Raises:
      InputError: no such column, not a table, too many malformed rows, no rows.
    """
    for number, cells in _rows_of(path)(path, columns, form, tally, share):
        try:
            record = parse(cells)
        except MalformedError as error:
            note(tally, number, str(error), " | ".join(cells), share)
        else:
            yield record
    finish(tally, share)


def _rows_of(path: pathlib.Path) -> Callable:
    if is_parquet(path):
        return _parquet_rows
    begins = next((block.lstrip()[:1] for block in text_blocks(path) if block.strip()), b"")
    if begins == b"[":
        raise InputError(
            f"{path}: is one JSON array. Write an object a line (jq -c '.[]' FILE does it)."
        )
    return _object_rows if begins == b"{" else _text_rows


def is_parquet(path: pathlib.Path) -> bool:
    """Whether a file begins as Parquet does."""
    with open(path, "rb") as file:
        return file.read(len(_PARQUET_MAGIC)) == _PARQUET_MAGIC


def _text_rows(path, columns, form, tally, share) -> Iterator[tuple[str, tuple[str, ...]]]:
    delimiter = form.delimiter or _delimiter(path)
    lines = _texts(path, tally, share)
    chosen, width, ahead = _header(path, columns, form, lines, delimiter)
    while True:
        place, line = ahead.popleft() if ahead else next(lines, (None, ""))
        if place is None:
            return
        if not line:
            tally.blank += 1
            continue
        tally.records += 1
        number = f"line {place}"
        try:
            row = _cells(line, delimiter)
        except csv.Error as error:
            row = _spanning(line, (delimiter, width), ahead, lines)
            if row is None:
                reason = f"a quote that is not closed, or text after it ({error})"
                note(tally, number, reason, line, share)
                continue
        if len(row) != width:
            reason = f"{len(row)} cells under a header of {width}"
            note(tally, number, reason, " | ".join(row), share)
        elif not _utf8("".join(row)):
            note(tally, number, NOT_UTF8, " | ".join(row), share)
        else:
            yield number, tuple(row[index].strip() for index in chosen)


def _texts(path: pathlib.Path, tally: Tally, share: float) -> Iterator[tuple[int, str]]:
    """Numbered lines; bytes that are not UTF-8 are marked, and found again in their row."""
    for number, line in enumerate(read_lines(path, tally), start=1):
        if line is None:
            tally.records += 1
            note(tally, f"line {number}", f"longer than {LONGEST_LINE >> 20} MiB", "", share)
        else:
            yield number, line.removesuffix(b"\r").decode("utf-8", "surrogateescape")


def _header(path, columns, form, lines, delimiter) -> tuple[list[int], int, collections.deque]:
    """Places of the columns, the number of cells, and the lines to be read again."""
    first = next(((place, line) for place, line in lines if line.strip()), (1, ""))
    try:
        cells = [name.strip() for name in _cells(first[1], delimiter)]
    except csv.Error as error:
        raise InputError(f"{path}: the header cannot be read ({error}). Give a CSV file.") from None
    if not form.columns:
        return _find(path, cells, columns, delimiter), len(cells), collections.deque()
    if {name.casefold() for name in cells} >= {name.casefold() for name in columns}:
        raise InputError(f"{path}: has a header of its own, {cells}. Leave out {form.flag}.")
    if len(cells) != len(form.columns):
        raise InputError(
            f"{path}: {form.flag} names {len(form.columns)} columns, but the first line has "
            f"{len(cells)} cells: {first[1][:200]!r}. Name each column, or set --delimiter."
        )
    chosen = _find(path, list(form.columns), columns, delimiter)
    return chosen, len(cells), collections.deque([first] if first[1] else [])


def _cells(line: str, delimiter: str) -> list[str]:
    """The cells of a record; quotes are text where tabs, or two characters, separate them.

    Raises:
      csv.Error: a quote that is not closed, or is followed by text.
    """
    if '"' not in line or delimiter == "\t" or len(delimiter) > 1:
        return line.split(delimiter)
    return next(csv.reader([line], delimiter=delimiter, strict=True))


def _spanning(line, shape, ahead, lines) -> list[str] | None:
    """The cells of a record with a quoted cell that goes on over lines; None if it is none.

    What was looked at stays `ahead` unless it belongs to the record, so that a quote never
    closed costs its own line and no other. A quoted cell that makes one record of lines that
    are each one alone is none.
    """
    delimiter, width = shape
    parts, quotes = [line], line.count('"')
    while quotes % 2:
        if len(parts) > _MOST_LINES:
            return None
        if len(parts) > len(ahead):
            following = next(lines, None)
            if following is None:
                return None
            ahead.append(following)
        parts.append(ahead[len(parts) - 1][1])
        quotes += parts[-1].count('"')
    if all(part.count(delimiter) == width - 1 for part in parts):
        return None
    try:
        row = _cells("\n".join(parts), delimiter)
    except csv.Error:
        return None
    if len(row) != width:
        return None
    for _ in parts[1:]:
        ahead.popleft()
    return row


def _utf8(text: str) -> bool:
    try:
        return text.isascii() or bool(text.encode("utf-8"))
    except UnicodeEncodeError:
        return False


def _delimiter(path: pathlib.Path) -> str:
    name = path.name.lower().removesuffix(".gz")
    for ending, delimiter in _DELIMITERS.items():
        if name.endswith(ending):
            return delimiter
    raise InputError(
        f"{path}: neither Parquet nor JSON lines nor named .csv or .tsv. Say what separates its "
        "cells with --delimiter."
    )


def _find(
    path: pathlib.Path, header: list[str], columns: tuple[str, ...], delimiter: str = ""
) -> list[int]:
    for name in columns:
        if header.count(name) != 1:
            shown = ", ".join(header[:20])[:500]
            remedy = "Name a column of it, or set --delimiter"
            other = next((d for d in (";", "\t", "|", ",") if d != delimiter and d in shown), None)
            if delimiter and len(header) == 1 and other:
                remedy = f"Its cells may be separated by {other!r}: set --delimiter"
            elif delimiter and not any(any(map(str.isalpha, cell)) for cell in header):
                remedy = "If that is a row, name the columns with --columns"
            raise InputError(
                f"{path}: {header.count(name)} columns are named {name!r}, one is needed; the "
                f"header is {shown!r}. {remedy}."
            )
    return [header.index(name) for name in columns]


def _object_rows(path, columns, form, tally, share) -> Iterator[tuple[str, tuple[str, ...]]]:
    if form.columns:
        raise InputError(f"{path}: JSON lines name their cells. Leave out {form.flag}.")
    first = itertools.islice(parse_lines(path, parse_object, Tally(path.name), 1), _FIRST_OBJECTS)
    keys = list(dict.fromkeys(key for record in first for key in record))
    _find(path, keys, columns)
    for record in parse_lines(path, parse_object, tally, share):
        yield f"record {tally.records}", tuple(cell_of(record.get(name)) for name in columns)


def _parquet_rows(path, columns, form, tally, share) -> Iterator[tuple[str, tuple[str, ...]]]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise InputError(
            f"{path}: reading Parquet needs pyarrow. pip install 'uatmc_jax[parquet]'"
        ) from None
    if form.columns:
        raise InputError(f"{path}: Parquet names its columns. Leave out {form.flag}.")
    tally.bytes, tally.sha256 = path.stat().st_size, hash_file(path)
    try:
        with pq.ParquetFile(path) as file:
            _find(path, file.schema_arrow.names, columns)
            names = list(dict.fromkeys(columns))
            batches = file.iter_batches(_BATCH_ROWS, columns=names)
            n_batches = -(-file.metadata.num_rows // _BATCH_ROWS)
            shown = sys.stderr.isatty()
            for batch in tqdm(batches, path.name, n_batches, unit="batch", disable=not shown):
                values = {name: _values(pa, batch.column(name)) for name in names}
                for cells in zip(*(values[name] for name in columns), strict=True):
                    tally.records += 1
                    if any(cell is None for cell in cells):
                        beginning = " | ".join(map(str, cells))
                        note(tally, f"row {tally.records}", NOT_UTF8, beginning, share)
                    else:
                        yield f"row {tally.records}", cells
    except InputError:
        raise
    # Whatever the library raises is about the file.
    except Exception as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: not readable as Parquet ({reason}). Write it again.") from None


def _values(pa, column) -> list[str | None]:
    """A column's values as text, "" for a missing one, None for bytes that are not UTF-8."""
    if pa.types.is_timestamp(column.type):
        # Python's datetimes end at microseconds.
        column = column.cast(pa.timestamp("us", tz=column.type.tz), safe=False)
    return [_value(value) for value in column.to_pylist()]


def _value(value: object) -> str | None:
    if value is None or value != value:  # NaN
        return ""
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8").strip()
        except UnicodeDecodeError:
            return None
    return str(value).strip()
