"""Adam, its learning rate and its clipping: what both stages are trained with."""

import dataclasses

import optax

from uatmc_jax.checks import at_least, one_of, positive

SCHEDULES = ("constant", "cosine")


@dataclasses.dataclass(frozen=True)
class OptimizerSettings:
    """Adam and its learning rate.

    Attributes:
      learning_rate: peak rate.
      schedule: "constant", or "cosine" down to 0 at the stage's last epoch.
      warmup_epochs: linear from 0 before that.
      clip_norm: gradients' global norm at most; 0 for no clipping.
    """

    learning_rate: float = 1e-3
    schedule: str = "constant"
    warmup_epochs: int = 0
    clip_norm: float = 0.0

    def __post_init__(self):
        positive("SECTION.learning_rate", self.learning_rate)
        one_of("SECTION.schedule", self.schedule, SCHEDULES)
        at_least("SECTION.warmup_epochs", self.warmup_epochs, 0)
        at_least("SECTION.clip_norm", self.clip_norm, 0)


def make_optimizer(
    settings: OptimizerSettings, steps_per_epoch: int, epochs: int
) -> optax.GradientTransformation:
    """Clipping (if any), then Adam under the config's schedule.

    Args:
      settings: rates, schedule and clipping.
      steps_per_epoch: of the stage.
      epochs: at most this many; the schedule's end.
    """
    rate: float | optax.Schedule = settings.learning_rate
    warmup = settings.warmup_epochs * steps_per_epoch
    if settings.schedule == "cosine":
        rate = optax.warmup_cosine_decay_schedule(
            0.0 if warmup else settings.learning_rate,
            settings.learning_rate,
            warmup,
            max(epochs * steps_per_epoch, warmup + 1),
        )
    elif warmup:
        rate = optax.linear_schedule(0.0, settings.learning_rate, warmup)
    adam = optax.adam(rate)
    return (
        optax.chain(optax.clip_by_global_norm(settings.clip_norm), adam)
        if settings.clip_norm
        else adam
    )
