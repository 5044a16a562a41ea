"""Parquet as rows of text, and what all kinds of tables share."""

import pathlib
import re
from collections.abc import Iterator
from typing import NamedTuple

import duckdb

from uatmc_jax.data.text import NOT_UTF8
from uatmc_jax.errors import InputError
from uatmc_jax.preparation.lines import Tally, note
from uatmc_jax.preparation.objects import cell_of
from uatmc_jax.preparation.stage import CONFIG
from uatmc_jax.store import hash_file

_BATCH_ROWS = 1 << 14
_PARQUET_MAGIC = b"PAR1"
_SPECIAL = re.compile(r"[*?\[]")


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
            raise InputError(
                f"{path}: {header.count(name)} columns are named {name!r}, one is needed; the "
                f"header is {shown!r}. {_remedy(header, name, delimiter)}."
            )
    return [header.index(name) for name in columns]


def _remedy(header: list[str], name: str, delimiter: str) -> str:
    close = [known for known in header if known.casefold() == name.casefold() != known]
    shown = ", ".join(header)
    other = next((d for d in (";", "\t", "|", ",") if d != delimiter and d in shown), None)
    if not any(header):
        return "The file is empty: give another"
    if close and name not in header:
        return f"Perhaps {' or '.join(map(repr, close))} is meant"
    if shown.casefold().startswith("sep="):
        return "That line is Excel's: delete it, and set --delimiter"
    if delimiter and len(header) == 1 and other:
        return f"Its cells may be separated by {other!r}: set --delimiter"
    if delimiter and not any(any(map(str.isalpha, cell)) for cell in header):
        return "If that is a row, name the columns with --columns"
    return "Name a column of it, or set --delimiter"


def is_parquet(path: pathlib.Path) -> bool:
    """Whether a file begins as Parquet does."""
    with open(path, "rb") as file:
        return file.read(len(_PARQUET_MAGIC)) == _PARQUET_MAGIC


def parquet_rows(
    path: pathlib.Path, columns: tuple[str, ...], form: Form, tally: Tally, share: float
) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yields (number, cells) of a Parquet file's rows; see `tables.read_table`.

    Raises:
      InputError: no such column, not readable.
    """
    if form.columns:
        raise InputError(f"{path}: Parquet names its columns. Leave out {form.flag}.")
    tally.bytes, tally.sha256 = path.stat().st_size, hash_file(path)
    try:
        with duckdb.connect(":memory:", config=CONFIG) as db:
            source = "read_parquet($1, hive_partitioning = false)"
            place = [_SPECIAL.sub(r"[\g<0>]", str(path))]  # it is no pattern
            about = db.execute(f"describe select * from {source}", place).fetchall()
            types = {name: kind for name, kind, *_ in about}
            find_columns(path, list(types), columns)
            names = list(dict.fromkeys(columns))
            values = ", ".join(_value_of(name, types[name]) for name in names)
            found = db.execute(f"select {values} from {source}", place)
            places = [names.index(name) for name in columns]
            while rows := found.fetchmany(_BATCH_ROWS):
                for row in rows:
                    tally.records += 1
                    cells = tuple(_text(row[place]) for place in places)
                    if None in cells:
                        beginning = " | ".join(map(str, cells))
                        note(tally, f"row {tally.records}", NOT_UTF8, beginning, share)
                    else:
                        yield tally.records, cells  # type: ignore[misc]
    except duckdb.Error as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{path}: not readable as Parquet ({reason}). Write it again.") from None


def _value_of(name: str, kind: str) -> str:
    """SQL of a column; of times with a zone those of UTC."""
    quoted = '"' + name.replace('"', '""') + '"'
    return f"make_timestamp(epoch_us({quoted}))" if kind.endswith("TIME ZONE") else quoted


def _text(value: object) -> str | None:
    """A value as a table's cell; None for bytes that are not UTF-8."""
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8").strip()
        except UnicodeDecodeError:
            return None
    return cell_of(value) if isinstance(value, list | dict | float | None) else str(value).strip()
