"""Reading a config's values into frozen dataclasses, with one clear error for whatever is wrong."""

import dataclasses
import difflib
import importlib.resources
import importlib.util
import os
import pathlib
import sys
import typing
from collections.abc import Mapping
from typing import Any

import ml_collections
from absl import flags
from ml_collections import config_flags

from uatmc_jax.checks import require
from uatmc_jax.errors import InputError
from uatmc_jax.models import ModelSettings
from uatmc_jax.models.own import OPTIONS
from uatmc_jax.settings.aliases import ADDED, LATER, model_section, with_new_names

_PACKAGE = "uatmc_jax.configs"  # of a checkout the folder configs/


def find_config(name: str, flag: str = "--config") -> str:
    """The path of a config, with its preset.

    >>> find_config("synthetic_vbpr:paper").replace(os.sep, "/").split("/")[-2:]
    ['configs', 'synthetic_vbpr.py:paper']

    Args:
      name: FILE, or the bare NAME of a packaged config where there is no such file;
        FILE:PRESET and NAME:PRESET for a preset.
      flag: what to name in an error.

    Raises:
      InputError: neither a file nor a packaged config.
    """
    path, colon, preset = name.partition(":")
    if os.path.isfile(path):  # as Path's, but False for a name too long for the system
        return name
    packaged = _packaged_configs()
    if path in packaged:
        return f"{packaged[path]}{colon}{preset}"
    close = difflib.get_close_matches(pathlib.Path(path).stem, packaged, n=1)
    hint = f" Did you mean {flag} {close[0]}{colon}{preset}?" if close else ""
    raise InputError(
        f"{flag} {path}: no such file. Packaged configs, by name: {', '.join(packaged)}.{hint}"
    )


def _packaged_configs() -> dict[str, pathlib.Path]:
    """{name: file} of the configs that come with the package."""
    folder = pathlib.Path(str(importlib.resources.files(_PACKAGE)))
    return {file.stem: file for file in sorted(folder.glob("[!_]*.py")) if file.stem != "base"}


def load_config(name: str, flag: str = "--config") -> ml_collections.ConfigDict:
    """What get_config() of a config gives, for those who do not take absl flags.

    Args:
      name: as of `find_config`.
      flag: what to name in an error.

    Raises:
      InputError: no such config, or it cannot be run.
    """
    path, _, preset = find_config(name, flag).partition(":")
    spec = importlib.util.spec_from_file_location("_uatmc_config", path)
    if spec is None or spec.loader is None:
        raise InputError(f"{flag} {path}: not a Python file. Wanted one with get_config().")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        return module.get_config(*([preset] if preset else []))
    # A config file is the user's code: whatever it raises is about the config.
    except Exception as error:
        raise InputError(f"{flag} {name}: {type(error).__name__}: {error}") from error


def from_values(kind: type, config: ml_collections.ConfigDict | Mapping) -> Any:
    """Reads a config (or the dict of a JSON file) into a settings dataclass.

    Raises:
      InputError: a missing, unknown or ill-typed field, or a value out of range.
    """
    values = config.to_dict() if isinstance(config, ml_collections.ConfigDict) else config
    return read(kind, values, "config")


def from_config_flag(kind: type, config: flags.FlagHolder) -> tuple[Any, pathlib.Path]:
    """The settings of a --config flag, and the path of its file.

    Raises:
      InputError: no such file, or a value that cannot be used.
    """
    name = config_flags.get_config_filename(flags.FLAGS[config.name])
    path = pathlib.Path(find_config(name, f"--{config.name}").partition(":")[0])
    try:
        return from_values(kind, config.value), path
    except InputError:
        raise
    except Exception as error:  # ml_collections holds back what get_config() raised until now
        raise InputError(f"--config {name}: {error}") from error


def to_dict(settings: Any) -> dict[str, Any]:
    """Plain nested dict for JSON; `from_values` reads it back to equal settings."""
    return dataclasses.asdict(settings)


def read(kind: type, values: Any, path: str) -> Any:
    """Makes a dataclass of a mapping, its sections included; `path` is named in errors."""
    if not isinstance(values, Mapping):
        raise InputError(f"{path} = {values!r}: wanted a section with fields.")
    values = with_new_names(kind, values, path)
    optional: tuple[str, ...] = ADDED.get(kind.__name__, ())
    # What these files say nothing of was not done when they were written.
    values = LATER.get(kind.__name__, {}) | values
    if issubclass(kind, ModelSettings):
        kind, values = model_section(values)
        values = LATER.get(kind.__name__, {}) | values
        optional = tuple(field.name for field in dataclasses.fields(kind) if field.name in OPTIONS)
    fields = {field.name: field.type for field in dataclasses.fields(kind)}
    for name in values:
        if name not in fields:
            close = difflib.get_close_matches(name, fields, n=1)
            hint = f" Did you mean '{close[0]}'?" if close else f" Fields: {', '.join(fields)}."
            raise InputError(f"{path}.{name}: no such field.{hint}")
    # Defaults are for those who write Python; a file that leaves out a field is not whole.
    missing = [name for name in fields if name not in values and name not in optional]
    if missing:
        raise InputError(f"{path}.{missing[0]} is missing. configs/base.py has every field.")
    typed = {name: _cast(fields[name], value, f"{path}.{name}") for name, value in values.items()}
    try:
        return kind(**typed)
    except InputError as error:
        # A section that occurs in several places does not know in which it is.
        raise InputError(str(error).replace("config.SECTION", path)) from None


def _cast(kind: Any, value: Any, path: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return read(kind, value, path)
    if kind in (int, float, str, bool):
        whole = isinstance(value, int) and not isinstance(value, bool)
        if kind is float and (whole or isinstance(value, float)):
            finite = abs(value) <= sys.float_info.max  # an int may be larger, NaN is not
            require(finite, path.removeprefix("config."), value, "a finite number")
            return float(value)
        right = isinstance(value, kind)
        if kind is int:
            right = whole and -(2**63) <= value < 2**63
        require(right, path.removeprefix("config."), value, f"a value of type {kind.__name__}")
        return value
    sections = [a for a in typing.get_args(kind) if dataclasses.is_dataclass(a)]
    if sections:
        require(isinstance(value, Mapping), path.removeprefix("config."), value, "named sections")
        return {k: read(sections[0], v, f"{path}.{k}") for k, v in value.items()}
    if typing.get_origin(kind) is Mapping:
        require(isinstance(value, Mapping), path.removeprefix("config."), value, "named values")
        return _with_tuples(value)
    require(
        isinstance(value, list | tuple), path.removeprefix("config."), value, "a tuple of values"
    )
    return tuple(value)


def _with_tuples(value: Any) -> Any:
    """Lists as tuples, in mappings of mappings too: JSON knows no tuples."""
    if isinstance(value, Mapping):
        return {k: _with_tuples(v) for k, v in value.items()}
    return tuple(value) if isinstance(value, list | tuple) else value
