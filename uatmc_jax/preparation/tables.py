"""Tables of any shop, read a row at a time: CSV, TSV and Parquet."""

import csv
import pathlib
import sys
from collections.abc import Callable, Iterator
from typing import TypeVar

from tqdm import tqdm

from uatmc_jax.errors import InputError
from uatmc_jax.preparation.lines import (
    LONGEST_LINE,
    MalformedError,
    Tally,
    finish,
    hash_file,
    note,
    read_lines,
)

_DELIMITERS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
_BATCH_ROWS = 1 << 14
T = TypeVar("T")
_PARQUET_MAGIC = b"PAR1"


def read_table(
    path: pathlib.Path,
    columns: tuple[str, ...],
    delimiter: str | None,
    parse: Callable[[tuple[str, ...]], T],
    tally: Tally,
    share: float,
) -> Iterator[T]:
    """Yields what `parse` makes of each row's cells; its `MalformedError`s are counted.

    Args:
      path: a Parquet file (by its first bytes), else text with a header, gzip
        or plain.
      columns: which cells, in this order; a missing value is "".
      delimiter: of a text; None goes by the name's ending.
      parse: of one row.
      tally: counts rows; while one is with the caller, it is the last counted.
      share: of rows that may be malformed.

    Raises:
      InputError: no such column, not a table, too many malformed rows, no rows.
    """
    rows = _parquet_rows if is_parquet(path) else _text_rows
    for number, cells in rows(path, columns, delimiter, tally, share):
        try:
            record = parse(cells)
        except MalformedError as error:
            note(tally, number, str(error), " | ".join(cells), share)
        else:
            yield record
    finish(tally, share)


def is_parquet(path: pathlib.Path) -> bool:
    """Whether a file begins as Parquet does."""
    with open(path, "rb") as file:
        return file.read(len(_PARQUET_MAGIC)) == _PARQUET_MAGIC


def _text_rows(path, columns, delimiter, tally, share) -> Iterator[tuple[str, tuple[str, ...]]]:
    reader = csv.reader(_texts(path, tally, share), delimiter=delimiter or _delimiter(path))
    try:
        header = next(reader, [])
    except csv.Error as error:
        raise InputError(f"{path}: the header cannot be read ({error}). Give a CSV file.") from None
    chosen = _find(path, [name.strip() for name in header], columns)
    while True:
        try:
            row = next(reader, None)
            if row is None:
                return
            if not row:
                tally.blank += 1
                continue
            tally.records += 1
        except csv.Error as error:
            tally.records += 1
            note(tally, f"line {reader.line_num}", f"not CSV: {error}", "", share)
            continue
        number = f"line {reader.line_num}"
        if len(row) != len(header):
            reason = f"{len(row)} cells under a header of {len(header)}"
            note(tally, number, reason, " | ".join(row), share)
        elif not _utf8("".join(row)):
            note(tally, number, "not UTF-8", " | ".join(row), share)
        else:
            yield number, tuple(row[index].strip() for index in chosen)


def _texts(path: pathlib.Path, tally: Tally, share: float) -> Iterator[str]:
    """The lines of a text; bytes that are not UTF-8 are marked, and found again in their row."""
    for number, line in enumerate(read_lines(path, tally), start=1):
        if line is None:
            tally.records += 1
            note(tally, f"line {number}", f"longer than {LONGEST_LINE >> 20} MiB", "", share)
        else:
            yield line.decode("utf-8", "surrogateescape") + "\n"


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
        f"{path}: neither Parquet nor named .csv or .tsv. Say what separates its cells with "
        "--delimiter."
    )


def _find(path: pathlib.Path, header: list[str], columns: tuple[str, ...]) -> list[int]:
    for name in columns:
        if header.count(name) != 1:
            shown = ", ".join(header[:20])[:500]
            raise InputError(
                f"{path}: {header.count(name)} columns are named {name!r}, one is needed; the "
                f"header is {shown!r}. Name a column of it, or set --delimiter."
            )
    return [header.index(name) for name in columns]


def _parquet_rows(path, columns, _, tally, share) -> Iterator[tuple[str, tuple[str, ...]]]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise InputError(
            f"{path}: reading Parquet needs pyarrow. pip install 'uatmc_jax[parquet]'"
        ) from None
    tally.bytes, tally.sha256 = path.stat().st_size, hash_file(path)
    try:
        with pq.ParquetFile(path) as file:
            _find(path, file.schema_arrow.names, columns)
            names = list(dict.fromkeys(columns))
            batches = file.iter_batches(_BATCH_ROWS, columns=names)
            n_batches = -(-file.metadata.num_rows // _BATCH_ROWS)
            shown = sys.stderr.isatty()
            for batch in tqdm(batches, path.name, n_batches, unit="batch", disable=not shown):
                values = {name: _cells(pa, batch.column(name)) for name in names}
                for cells in zip(*(values[name] for name in columns), strict=True):
                    tally.records += 1
                    if any(cell is None for cell in cells):
                        beginning = " | ".join(map(str, cells))
                        note(tally, f"row {tally.records}", "not UTF-8", beginning, share)
                    else:
                        yield f"row {tally.records}", cells
    except InputError:
        raise
    # Whatever the library raises is about the file.
    except Exception as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: not readable as Parquet ({reason}). Write it again.") from None


def _cells(pa, column) -> list[str | None]:
    """A column's values as text, "" for a missing one, None for bytes that are not UTF-8."""
    if pa.types.is_timestamp(column.type):
        # Python's datetimes end at microseconds.
        column = column.cast(pa.timestamp("us", tz=column.type.tz), safe=False)
    return [_cell(value) for value in column.to_pylist()]


def _cell(value: object) -> str | None:
    if value is None or value != value:  # NaN
        return ""
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8").strip()
        except UnicodeDecodeError:
            return None
    return str(value).strip()
