"""Adam, its learning rate and its clipping: what both stages are trained with."""

import dataclasses
from typing import NamedTuple

import optax

from uatmc_jax.checks import at_least, one_of, positive

SCHEDULES = ("constant", "cosine")
ROWS = ("dense", "deferred", "lazy")
SHUFFLES = ("sort", "keyed")


@dataclasses.dataclass(frozen=True)
class OptimizerSettings:
    """Adam and its learning rate.

    Attributes:
      learning_rate: peak rate.
      schedule: "constant", or "cosine" down to 0 at the stage's last epoch.
      warmup_epochs: linear from 0 before that.
      clip_norm: gradients' global norm at most; 0 for no clipping.
      rows: which rows of the tables of users and items a step writes. "dense": all of them,
        also those without a gradient. "deferred": those of the batch, the others' steps being
        made up for when they are next read; Adam as in "dense", to rounding. "lazy": those of
        the batch, the others' steps being left out; another method, with other results.
      shuffle: where an epoch's order comes from. "sort": of random numbers, one for every
        training pair. "keyed": a permutation of which each batch computes its part, so that
        an epoch needs no memory for its order; equally random, but another order. InfoNCE's
        items are drawn alike.
    """

    learning_rate: float = 1e-3
    schedule: str = "constant"
    warmup_epochs: int = 0
    clip_norm: float = 0.0
    rows: str = "dense"
    shuffle: str = "sort"

    def __post_init__(self):
        positive("SECTION.learning_rate", self.learning_rate)
        one_of("SECTION.schedule", self.schedule, SCHEDULES)
        at_least("SECTION.warmup_epochs", self.warmup_epochs, 0)
        at_least("SECTION.clip_norm", self.clip_norm, 0)
        one_of("SECTION.rows", self.rows, ROWS)
        one_of("SECTION.shuffle", self.shuffle, SHUFFLES)


class Adam(NamedTuple):
    """Adam (Kingma and Ba, ICLR 2015, Algorithm 1).

    In step t = 1, 2, ... of a gradient g

        m <- b1 m + (1 - b1) g,   v <- b2 v + (1 - b2) g^2
        x <- x - rate(t - 1) (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)

    Attributes:
      rate: steps done before -> learning rate.
      b1: beta_1.
      b2: beta_2.
      eps: of the denominator.
    """

    rate: optax.Schedule
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8


def make_adam(settings: OptimizerSettings, steps_per_epoch: int, epochs: int) -> Adam:
    """Adam under the config's schedule.

    Args:
      settings: rates and schedule.
      steps_per_epoch: of the stage.
      epochs: at most this many; the schedule's end.
    """
    rate = _rate(settings, steps_per_epoch, epochs)
    return Adam(rate if callable(rate) else optax.constant_schedule(rate))


def make_optimizer(
    settings: OptimizerSettings, steps_per_epoch: int, epochs: int
) -> optax.GradientTransformation:
    """Clipping (if any), then Adam under the config's schedule; arguments as of `make_adam`."""
    fixed = Adam._field_defaults
    adam = optax.adam(_rate(settings, steps_per_epoch, epochs), **fixed)
    return (
        optax.chain(optax.clip_by_global_norm(settings.clip_norm), adam)
        if settings.clip_norm
        else adam
    )


def _rate(settings: OptimizerSettings, steps_per_epoch: int, epochs: int) -> float | optax.Schedule:
    warmup = settings.warmup_epochs * steps_per_epoch
    if settings.schedule == "cosine":
        return optax.warmup_cosine_decay_schedule(
            0.0 if warmup else settings.learning_rate,
            settings.learning_rate,
            warmup,
            max(epochs * steps_per_epoch, warmup + 1),
        )
    if warmup:
        return optax.linear_schedule(0.0, settings.learning_rate, warmup)
    return settings.learning_rate
