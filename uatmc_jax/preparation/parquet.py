"""Parquet as rows of text, and what all kinds of tables share."""

import pathlib
import sys
from collections.abc import Iterator
from typing import NamedTuple

from tqdm import tqdm

from uatmc_jax.data.text import NOT_UTF8
from uatmc_jax.errors import InputError
from uatmc_jax.preparation.lines import Tally, note
from uatmc_jax.store import hash_file

_BATCH_ROWS = 1 << 14
_PARQUET_MAGIC = b"PAR1"


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


def find_columns(
    path: pathlib.Path, header: list[str], columns: tuple[str, ...], delimiter: str = ""
) -> list[int]:
    """Places of the columns in a header.

    Args:
      path: of the table.
      header: names in it.
      columns: names to find.
      delimiter: of a text.

    Raises:
      InputError: one is not there, or twice; with what the header may mean.
    """
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


def is_parquet(path: pathlib.Path) -> bool:
    """Whether a file begins as Parquet does."""
    with open(path, "rb") as file:
        return file.read(len(_PARQUET_MAGIC)) == _PARQUET_MAGIC


def parquet_rows(
    path: pathlib.Path, columns: tuple[str, ...], form: Form, tally: Tally, share: float
) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yields (number, cells) of a Parquet file's rows; see `tables.read_table`.

    Raises:
      InputError: pyarrow is absent, no such column, not readable.
    """
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
            find_columns(path, file.schema_arrow.names, columns)
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
                        yield tally.records, cells
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
