"""What the settings of all models share; each model's own are in its file."""

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from uatmc_jax.checks import at_least, is_count, require
from uatmc_jax.data.dataset import Sizes
from uatmc_jax.models.protocol import Model

_HIDDEN = {"visual": (1024, 256), "textual": (256,)}


@dataclasses.dataclass(frozen=True)
class ModelSettings:
    """The fields that every victim has; the defaults are the published values.

    Attributes:
      name: of the registry, or "module:function".
      dim: d.
      hidden: {modality: hidden widths of its projector}.
      default_hidden: the widths for a modality not in `hidden`.
      temperature: initial tau.

    Class attributes:
      reg_by_batch: L_reg is a norm of the batch's rows over their number, so that on a row it
        weighs as much as at B = 2,048 with mu sqrt(B / 2048).
    """

    reg_by_batch: ClassVar[bool] = False

    name: str
    dim: int = 64
    hidden: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=lambda: dict(_HIDDEN))
    default_hidden: tuple[int, ...] = (256,)
    temperature: float = 0.07

    def __post_init__(self):
        at_least("model.dim", self.dim, 1)
        for name, widths in {**self.hidden, "default": self.default_hidden}.items():
            right = isinstance(widths, tuple) and all(is_count(w) for w in widths)
            require(right, f"model.hidden.{name}", widths, "a tuple of positive integers")

    @property
    def widths(self) -> tuple[int, ...]:
        """Widths of the layers; each has a tensor with at least as many values."""
        hidden = [width for widths in self.hidden.values() for width in widths]
        return (self.dim, *self.default_hidden, *hidden)

    @property
    def depth(self) -> int:
        """Layers with tensors of their own, beyond the projectors'."""
        return 1


Make = Callable[[Any, Sizes], Model]


def hidden_widths(settings: ModelSettings, sizes: Sizes) -> dict[str, tuple[int, ...]]:
    """{modality: hidden widths of its projector}, in the data's order."""
    return {m: tuple(settings.hidden.get(m, settings.default_hidden)) for m in sizes.raw_dims}


def made_once(make: Make) -> Make:
    """Lets `make` give the same functions for the same arguments.

    JAX compiles anew for new functions: what is compiled for a model then serves every
    checkpoint of it.

    Args:
      make: (settings, Sizes) -> Model; its arguments' values decide its result.
    """
    made: dict[str, Model] = {}

    @functools.wraps(make)
    def remembering(settings: ModelSettings, sizes: Sizes) -> Model:
        plain = json.dumps(dataclasses.asdict(settings), sort_keys=True)
        key = json.dumps([plain, *sizes])  # the modalities' order matters, the fields' does not
        if key not in made:
            made[key] = make(settings, sizes)
        return made[key]

    return remembering
