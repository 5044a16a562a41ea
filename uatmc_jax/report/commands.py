"""Command lines that repeat what a program did by other means."""

import pathlib
import shlex
from collections.abc import Mapping
from typing import Any

from uatmc_jax.settings import Settings, to_dict
from uatmc_jax.settings.reading import load_config

_START = "synthetic_vbpr"


def train_command(settings: Settings, workdir: pathlib.Path) -> str | None:
    """The `uatmc_jax.train` command of these settings.

    Args:
      settings: the experiment.
      workdir: of its run.

    Returns:
      The command; None where a field has no counterpart in the config that the
      command starts from, so that flags cannot give it.
    """
    before, after = load_config(_START).to_dict(), to_dict(settings)
    own = _split_own(before["model"], after["model"])
    overrides = _overrides(before, after, "config")
    if overrides is None:
        return None
    defaults = to_dict(type(settings.model)(settings.model.name))
    told = [f"--config.model.{k}={_plain(v)}" for k, v in own.items() if v != defaults.get(k)]
    flags = [f"--config={_START}", *overrides, *told, f"--workdir={workdir}"]
    return shlex.join(["python", "-m", "uatmc_jax.train", *flags])


def _split_own(before: Mapping[str, Any], model: dict[str, Any]) -> dict[str, Any]:
    """Takes out of a model's fields those of its own, which flags may add to any config."""
    model |= model.pop("options", {})
    return {name: model.pop(name) for name in [*model] if name not in before}


def _overrides(before: Mapping[str, Any], after: Mapping[str, Any], path: str) -> list[str] | None:
    """Flags that turn one nested mapping into the other; None if none can."""
    if before.keys() != after.keys():
        return None
    flags = []
    for name, value in after.items():
        here = f"{path}.{name}"
        if isinstance(value, Mapping) and isinstance(before[name], Mapping):
            inner = _overrides(before[name], value, here)
            if inner is None:
                return None
            flags += inner
        elif _plain(before[name]) != _plain(value):
            flags.append(f"--{here}={_plain(value)}")
    return flags


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
