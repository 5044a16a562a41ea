"""Rows as JSON lines in which what is alike in several rows is said once.

    {"$shared": 1, "study": "baby_vbpr", "model": "vbpr", "versions": {"jax": "0.10.2", ...}}
    {"$shared": 2, "recall@10": 0.0436, "recall@20": 0.0687, ...}
    {"$as": 1, "artefact": "training", "unit": "training/none", "seed": 999, "test": {"$as": 2}}

A line with "$shared" is no row: it gives an object a number. Where "$as" and that number stand
in an object, on a later line and at any depth, the object has those keys too. Lines without
either are rows as they are, so files from before there was sharing are read alike.

    grep '"unit": "table2/uat"' rows/table2.jsonl     # rows
    grep '"$shared": 12,' rows/table2.jsonl           # what "$as": 12 stands for

Numbers are given anew whenever a file is written; a row that is added by hand need not use them.
"""

import copy
import json
import pathlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from uatmc_jax import store
from uatmc_jax.errors import InputError

_SHARED, _AS = "$shared", "$as"
# What `study.do_unit` gives every row, and most rows of a study have alike. The artefact and the
# unit stay where rows can be searched for them.
_HEAD = ("study", "model", "dataset", "experiments", "versions", "code", "device")
_REMEDY = "Bring the file back, or measure anew"
_LEAST = 40  # characters; to share a shorter object saves nothing


def format_rows(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as text, one a line, behind what they share.

    Args:
      rows: JSON-able; `read_lines` gives equal ones back.

    Raises:
      InputError: a key in a row is one of those that sharing is written with.
    """
    times: Counter[str] = Counter()
    heads = [{key: row[key] for key in _HEAD if key in row} for row in rows]
    rests = [{key: row[key] for key in row if key not in _HEAD} for row in rows]
    for head, rest in zip(heads, rests, strict=True):
        _check_keys(rest)
        for value in (head, *rest.values()):
            _count(value, times)
    numbers: dict[str, int] = {}
    lines: list[str] = []

    def shorten(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [shorten(one) for one in value]
        if not isinstance(value, Mapping):
            return value
        text = json.dumps(value)
        if text not in numbers:
            own = {key: shorten(one) for key, one in value.items()}
            if times[text] < 2:
                return own
            numbers[text] = len(numbers) + 1
            lines.append(json.dumps({_SHARED: numbers[text], **own}))
        return {_AS: numbers[text]}

    for head, rest in zip(heads, rests, strict=True):
        row = shorten(head) | {key: shorten(value) for key, value in rest.items()}
        lines.append(json.dumps(row))
    return "".join(line + "\n" for line in lines)


def read_lines(file: pathlib.Path) -> list[tuple[int, dict[str, Any]]]:
    """(line number, row) of every row in a file, with all that it shares as its own.

    Raises:
      InputError: names the line that is no JSON object, gives a number that is none or is given
        already, has a shared key twice, or names an object that no line before it gives.
    """
    shared: dict[int, dict[str, Any]] = {}
    rows = []
    for number, line in enumerate(file.read_bytes().splitlines(), start=1):
        place = f"{file}, line {number}"
        found = store.parse_object(line, place, _REMEDY)
        if _SHARED not in found:
            rows.append((number, _unfolded(found, shared, place)))
            continue
        given = found.pop(_SHARED)
        if type(given) is not int or given in shared:
            raise InputError(f"{place}: '{_SHARED}' must be a number of its own, not {given!r}.")
        shared[given] = _unfolded(found, shared, place)
    return rows


def _count(value: Any, times: Counter[str]) -> None:
    """Counts the objects in a value by their JSON; what is in one that was met before, once."""
    if isinstance(value, Mapping):
        _check_keys(value)
        text = json.dumps(value)
        if len(text) >= _LEAST:
            times[text] += 1
            if times[text] > 1:
                return
    if isinstance(value, Mapping | list | tuple):
        for one in value.values() if isinstance(value, Mapping) else value:
            _count(one, times)


def _check_keys(keys: Collection[str]) -> None:
    if _SHARED in keys or _AS in keys:
        raise InputError(f"a row has '{_SHARED}' or '{_AS}', which say what rows share. Rename it.")


def _unfolded(found: dict[str, Any], shared: Mapping[int, dict], place: str) -> dict[str, Any]:
    try:
        return _whole(found, shared, place)
    except RecursionError:
        raise InputError(f"{place}: objects too deep within each other. {_REMEDY}.") from None


def _whole(value: Any, shared: Mapping[int, dict[str, Any]], place: str) -> Any:
    """The value with its own copy of every shared object that it names."""
    if isinstance(value, list):
        return [_whole(one, shared, place) for one in value]
    if not isinstance(value, dict):
        return value
    own = {key: _whole(one, shared, place) for key, one in value.items() if key != _AS}
    if _SHARED in own:
        raise InputError(f"{place}: '{_SHARED}' within an object. It gives a whole line a number.")
    if _AS not in value:
        return own
    given = value[_AS]
    if type(given) is not int or given not in shared:
        raise InputError(
            f"{place}: '{_AS}' names {given!r}, and no line before it has '{_SHARED}': {given!r}."
        )
    if twice := shared[given].keys() & own.keys():
        raise InputError(f"{place}: {min(twice)!r} is there, and in '{_SHARED}': {given} too.")
    return copy.deepcopy(shared[given]) | own
