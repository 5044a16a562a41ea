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
    before = load_config(_START).to_dict()
    overrides = _overrides(before, to_dict(settings), "config")
    if overrides is None:
        return None
    flags = [f"--config={_START}", *overrides, f"--workdir={workdir}"]
    return shlex.join(["python", "-m", "uatmc_jax.train", *flags])


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
