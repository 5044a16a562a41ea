"""Measure and reduce the promotion attacks a multimodal recommender is open to.

    import uatmc_jax as um

offers what `uatmc_jax.api` names, imported when it is first used. Reading order follows
the data: `preparation` -> `data` -> `models` -> `losses` and `ascent` -> `defenses` ->
`training` -> `evaluation` -> `attacks` -> `benchmark` -> `analysis` -> `auditing` ->
`report`. Symbols and equation numbers in the docstrings are those of the UAT-MC paper
("Band Together: Untargeted Adversarial Training with Multimodal Coordination against
Evasion-based Promotion Attacks").
"""

import importlib
import sys
import types
from typing import Any

__version__ = "0.1.0"

_API = (
    "attack",
    "attacks",
    "certify",
    "defenses",
    "evaluate",
    "fit",
    "load",
    "models",
    "open_run",
    "pretrain",
    "recommend",
    "synthetic",
    "targets",
    "victim",
)


class _Package(types.ModuleType):
    """The package, whose `attack` stays the function though a command's module has its name."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "attack" or not isinstance(value, types.ModuleType):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name in _API:
        return getattr(importlib.import_module("uatmc_jax.api"), name)
    raise AttributeError(f"module 'uatmc_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_API])
