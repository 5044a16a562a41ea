"""Lines that are objects: JSON, or the Python literals of 2014's metadata."""

import ast
import json
from collections.abc import Iterator

from uatmc_jax.data.text import NOT_UTF8
from uatmc_jax.preparation.lines import MalformedError

# Parsing a literal takes a hundred times its length in memory.
_LONGEST_LITERAL = 1 << 20


def parse_object(line: bytes, literal: bool = False) -> dict:
    """A line's JSON object or, if allowed, Python dict literal, which is never run.

    Raises:
      MalformedError: neither.
    """
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedError(NOT_UTF8) from None
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


def texts_of(value: object) -> Iterator[str]:
    """The texts in a value: itself, or those of a list, a list's lists, an object's values."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from texts_of(part)
    elif isinstance(value, dict):
        yield from texts_of(list(value.values()))


def cell_of(value: object) -> str:
    """A JSON value as a table's cell: "" for null, a list's texts with blanks between."""
    if value is None or value != value:
        return ""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    return " ".join(texts_of(value))
