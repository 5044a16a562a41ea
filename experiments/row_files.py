"""Files of rows that others may add to: one JSON object a line, each field named and typed."""

import json
import math
import pathlib
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from typing import Any

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
      file: to read.
      fields: what every row has.
      nullable: those of them that may be null.
      later: those that older rows do not have, null there.

    Raises:
      InputError: no rows; or names the line and the field that is missing, of another
        type, or not finite.
    """
    rows = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = result_with_new_names(json.loads(line))
        except ValueError as error:
            raise InputError(f"{file}, line {number}: not JSON ({error}).") from None
        if isinstance(row, dict):
            row = dict.fromkeys(later) | row
        for name, (kind, meaning) in fields.items():
            value = row.get(name) if isinstance(row, dict) else None
            right = isinstance(value, kind)
            if kind is float:
                right = isinstance(value, int | float) and math.isfinite(value)
            known_null = value is None and isinstance(row, dict) and name in row
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
