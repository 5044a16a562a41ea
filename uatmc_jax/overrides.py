"""Flags that set a config's fields: what is wrong with one of them, and what it may have meant."""

import ast
import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import ml_collections
from absl import flags
from ml_collections.config_flags import config_path, tuple_parser

from uatmc_jax.errors import InputError
from uatmc_jax.settings import load_config

Path = tuple[Any, ...]
_SUGGESTED = 3
# How alike a mistyped field and the one meant are, at least.
_ALIKE = 0.6
_WHOLE_PATHS_ALIKE = 0.75
_KINDS = {
    bool: (flags.BooleanParser(), "true or false"),
    int: (flags.IntegerParser(), "a whole number"),
    float: (flags.FloatParser(), "a number"),
    tuple: (tuple_parser.TupleParser(), "a tuple"),
}


class Override(NamedTuple):
    """One `--FLAG.FIELD=VALUE` of a command line.

    Attributes:
      place: its index.
      flag: name of the config's flag.
      field: what stands after the flag's dot.
      value: None where none is given.
    """

    place: int
    flag: str
    field: str
    value: str | None


def value_of(argv: Sequence[str], flag: str) -> tuple[int, str] | None:
    """Where a command line gives a flag its value, and which; the last counts.

    >>> value_of(["train", "--config", "test", "--config.seed=1"], "config")
    (1, 'test')

    Args:
      argv: the command line.
      flag: the flag's name.
    """
    found = None
    for place, argument in enumerate(argv):
        name, equals, value = argument.partition("=")
        if name in (f"-{flag}", f"--{flag}"):
            if equals:
                found = place, value
            elif place + 1 < len(argv):
                found = place, argv[place + 1]
    return found


def find_mistake(argv: Sequence[str], names: Sequence[str]) -> str | None:
    """What is wrong with a command line's configs, or with the fields it sets.

    Args:
      argv: the command line, with every config that has a default.
      names: of the flags that take configs.

    Returns:
      The first mistake, with its remedy; None if there is none of these.
    """
    configs = {}
    for flag in names:
        found = value_of(argv, flag)
        if found is not None:
            try:
                configs[flag] = load_config(found[1], f"--{flag}")
            except InputError as error:
                return str(error)
    for override in _overrides(argv, names):
        said = f"--{override.flag}.{override.field}"
        if override.flag not in configs:
            return (
                f"{said}: there is no --{override.flag} with this field. Name the config too: "
                f"--{override.flag} FILE before it."
            )
        config = value_of(argv, override.flag)
        if config and override.place < config[0]:
            return (
                f"{said}: stands before --{override.flag}, which would undo it. Give "
                f"--{override.flag} first."
            )
        wrong = _wrong_field(configs[override.flag], override) or _wrong_value(
            configs[override.flag], override
        )
        if wrong:
            return wrong
    return None


def _overrides(argv: Sequence[str], names: Sequence[str]) -> list[Override]:
    found = []
    pattern = re.compile(rf"--?(?:no)?({'|'.join(map(re.escape, names))})\.([^=]*)(=?)(.*)", re.S)
    for place, argument in enumerate(argv):
        match = pattern.fullmatch(argument) if names else None
        if match:
            flag, field, equals, value = match.groups()
            after = argv[place + 1] if place + 1 < len(argv) else "--"
            given = value if equals else None if after.startswith("--") else after
            found.append(Override(place, flag, field, given))
    return found


def _wrong_field(config: Any, override: Override) -> str | None:
    """The complaint about a field that is not there."""
    flag, said = override.flag, f"--{override.flag}.{override.field}"
    fields = fields_of(config)
    try:
        path = config_path.split(override.field)
    except ValueError:
        path = (override.field,)
    if path in fields or path[-2:-1] == ("model",):
        return None  # a model's own field may be no field of the config; reading it tells
    for end in range(1, len(path)):
        if path[:end] in fields and not _is_section(fields[path[:end]]):
            above = f"{flag}.{_dotted(path[:end])}"
            return (
                f"{said}: no such field; {above} is a value ({fields[path[:end]]!r}), not a "
                f"section. Set it: --{above}=VALUE."
            )
    close = [f"{flag}.{_dotted(one)}" for one in suggest(path, fields)]
    if close:
        return f"{said}: no such field; did you mean {_listed(close)}?"
    section = max((path[:n] for n in range(len(path)) if not n or path[:n] in fields), key=len)
    there = [str(one[-1]) for one in fields if one[:-1] == section]
    where = ".".join([flag, *map(str, section)])
    return f"{said}: no such field. {where} has {', '.join(there)}."


def suggest(path: Path, fields: Mapping[Path, Any]) -> list[Path]:
    """Fields that a path which is none may mean, likeliest first.

    >>> suggest(("eps",), {("seed",): 1, ("adversarial", "eps"): 0.1})
    [('adversarial', 'eps')]

    In order: fields whose path ends in it; like names in the same section; like paths; like
    names anywhere.

    Args:
      path: of no field.
      fields: as of `fields_of`.
    """
    by_depth = sorted(fields, key=len)
    below = [one for one in by_depth if one[-len(path) :] == path]
    if below:
        return below[:_SUGGESTED]
    name, texts = str(path[-1]), {_dotted(one): one for one in by_depth}
    siblings = {str(one[-1]): one for one in fields if one[:-1] == path[:-1]}
    close = difflib.get_close_matches(name, siblings, n=1, cutoff=_ALIKE)
    if close:
        return [siblings[close[0]]]
    close = difflib.get_close_matches(_dotted(path), texts, n=1, cutoff=_WHOLE_PATHS_ALIKE)
    if close:
        return [texts[close[0]]]
    names = {str(one[-1]) for one in fields}
    close = difflib.get_close_matches(name, sorted(names), n=1, cutoff=_ALIKE)
    return [one for one in by_depth if str(one[-1]) in close][:_SUGGESTED]


def fields_of(config: Any, above: Path = ()) -> dict[Path, Any]:
    """{path: value} of all fields of a config, sections included.

    Args:
      config: a ConfigDict or mapping.
      above: path of the config itself.
    """
    fields = {}
    for name, value in config.items() if _is_section(config) else ():
        fields[(*above, name)] = value
        fields |= fields_of(value, (*above, name))
    return fields


def _wrong_value(config: Any, override: Override) -> str | None:
    """The complaint about a value that is not of its field's type."""
    before = fields_of(config).get(config_path.split(override.field))
    if override.value is None or before is None:
        return None
    said = f"--{override.flag}.{override.field}={override.value}"
    if _is_section(before):
        try:
            given = ast.literal_eval(override.value)
        except (SyntaxError, ValueError):
            given = None
        if isinstance(given, dict):
            return None
        field = f"--{override.flag}.{override.field}.{next(iter(before), 'FIELD')}"
        return f"{said}: is a section. Set its fields, as in {field}=VALUE."
    parser, wanted = _KINDS.get(type(before), (None, ""))
    try:
        if parser is not None:
            parser.parse(override.value)
    except (TypeError, ValueError):
        return f"{said}: wanted {wanted}, as {before!r} is."
    return None


def _is_section(value: Any) -> bool:
    return isinstance(value, ml_collections.ConfigDict | Mapping)


def _dotted(path: Path) -> str:
    return ".".join(map(str, path))


def _listed(names: Sequence[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last
