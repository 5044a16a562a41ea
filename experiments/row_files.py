"""Files of rows that others may add to: one JSON object a line, each field named and typed."""

import json
import math
import pathlib
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from typing import Any

from experiments.shared_rows import read_lines
from uatmc_jax import store
from uatmc_jax.errors import InputError
from uatmc_jax.settings import result_with_new_names

# {name: (type, meaning)}
Fields = Mapping[str, tuple[type, str]]


def read_rows(
    file: pathlib.Path,
    fields: Fields,
    nullable: Collection[str] = (),
    later: Collection[str] = (),
) -> list[dict]:
    """The rows of a JSON-lines file.

    Args:
      file: to read, with or without sharing (`shared_rows`).
      fields: what every row has.
      nullable: those of them that may be null.
      later: those that older rows do not have, null there.

    Raises:
      InputError: no rows; or names the line and the field that is missing, of another
        type, or not finite; or as of `shared_rows.read_lines`.
    """
    rows = []
    for number, line in read_lines(file):
        try:
            row = dict.fromkeys(later) | result_with_new_names(line)
        except InputError as error:
            raise InputError(f"{file}, line {number}: {error}") from None
        for name, (kind, meaning) in fields.items():
            value = row.get(name)
            right = isinstance(value, kind)
            if kind is float:
                right = isinstance(value, int | float) and math.isfinite(value)
            known_null = value is None and name in row
            if not right and not (name in nullable and known_null):
                raise InputError(f"{file}, line {number}: '{name}' must be there: {meaning}.")
        rows.append(row)
    if not rows:
        raise InputError(f"{file}: no rows. Delete it, or put rows into it.")
    return rows


def write_rows(
    file: pathlib.Path,
    rows: Sequence[Mapping[str, Any]],
    there: Sequence[Mapping[str, Any]],
    key: Callable[[Mapping[str, Any]], Hashable],
) -> None:
    """Rows, and after them those that are there already and are none of these.

    Args:
      file: to write; its folder is made.
      rows: new ones.
      there: what the file has.
      key: what a row is known by.
    """
    ours = {key(row) for row in rows}
    kept = [row for row in there if key(row) not in ours]
    file.parent.mkdir(parents=True, exist_ok=True)
    store.write_text(file, "".join(json.dumps(row) + "\n" for row in [*rows, *kept]))
