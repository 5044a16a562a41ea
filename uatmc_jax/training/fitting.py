"""Settings fitted to the size of a data set."""

import dataclasses
import math
from collections.abc import Collection, Sequence

import numpy as np

from uatmc_jax.data import Dataset
from uatmc_jax.errors import InputError
from uatmc_jax.models import build_model, unmet
from uatmc_jax.settings import Settings

STAGES = ("pretrain", "adversarial")
_BATCH = (256, 2048)
# Rows of users and items from which on a step that writes the batch's alone is faster; measured,
# docs/scale.md.
_MANY_ROWS = 100_000
_SELECTED_AT = 20  # K of the recall that selects epochs: lists cannot be shorter


def fit_settings(
    settings: Settings, dataset: Dataset, steps: int, fixed: Collection[str] = ()
) -> tuple[Settings, list[str]]:
    """The settings with batch sizes, rows to write and K that suit the data.

    Args:
      settings: the experiment.
      dataset: the data.
      steps: wanted in an epoch.
      fixed: dotted names of the fields to be left as they are.

    Returns:
      The settings, and what was changed, in words.

    Raises:
      InputError: too few items to rank.
    """
    free = [stage for stage in STAGES if f"{stage}.batch_size" not in fixed]
    settings, notes = fit_batches(settings, dataset, steps, free)
    for stage in free:
        if f"{stage}.mu" not in fixed:
            settings = _scale_mu(settings, stage)
    share = mu_share(settings, free[0]) if free else 1.0
    if share != 1:
        notes.append(f"mu times {share:.3g} with these batches, where it was not given")
    free = [stage for stage in STAGES if f"{stage}.optimizer.rows" not in fixed]
    settings, said = fit_rows(settings, dataset, free)
    notes += said
    if "eval.ks" in fixed:
        return settings, notes
    fitted = fit_ks(settings, dataset)
    if fitted != settings:
        notes.append(f"lists of at most {max(fitted.eval.ks)} items ranked")
    return fitted, notes


def fit_batches(
    settings: Settings, dataset: Dataset, steps: int, stages: Sequence[str] = STAGES
) -> tuple[Settings, list[str]]:
    """The settings with the power of two from 256 to 2,048 nearest to `steps` steps an epoch.

    Args:
      settings: the experiment.
      dataset: the data.
      steps: wanted in an epoch.
      stages: those whose batch size is set.

    Returns:
      The settings, and what was changed, in words.
    """
    exponent = round(math.log2(max(len(dataset.train) / steps, 1)))
    size = int(np.clip(2**exponent, *_BATCH))
    chosen = {s: dataclasses.replace(getattr(settings, s), batch_size=size) for s in stages}
    return dataclasses.replace(settings, **chosen), [f"batches of {size:,}"] if stages else []


def fit_rows(
    settings: Settings, dataset: Dataset, stages: Sequence[str] = STAGES
) -> tuple[Settings, list[str]]:
    """The settings with steps that write the rows they read where there are many.

    Deferred rows give what dense ones do, to rounding.

    Args:
      settings: the experiment.
      dataset: the data.
      stages: those that are to be fitted.

    Returns:
      The settings, and what was changed, in words.
    """
    n_rows = dataset.n_users + dataset.n_items
    # Of a model without `reg_by_batch` L_reg may read whole tables.
    if n_rows < _MANY_ROWS or not settings.model.reg_by_batch:
        return settings, []
    if unmet(build_model(settings.model, dataset.sizes), "rows"):
        return settings, []
    chosen = {}
    for stage in stages:
        of = getattr(settings, stage)
        if of.optimizer.rows == "dense":
            rows = dataclasses.replace(of.optimizer, rows="deferred")
            chosen[stage] = dataclasses.replace(of, optimizer=rows)
    said = f"of {n_rows:,} users and items a step writes those it reads (optimizer.rows deferred)"
    return dataclasses.replace(settings, **chosen), [said] if chosen else []


def mu_share(settings: Settings, stage: str) -> float:
    """What of mu, as it is chosen for batches of 2,048, weighs as much in this stage's.

    L_reg of VBPR is a Frobenius norm over the batch size B: on a row its gradient is
    1 / sqrt(B) as large as L_BPR's. With mu = 1 in batches of 256 it draws all embeddings to
    nothing on data on which it does not in batches of 2,048.

    Args:
      settings: the experiment.
      stage: of `STAGES`.
    """
    size = getattr(settings, stage).batch_size
    return math.sqrt(size / _BATCH[1]) if settings.model.reg_by_batch else 1.0


def _scale_mu(settings: Settings, stage: str) -> Settings:
    of = getattr(settings, stage)
    scaled = dataclasses.replace(of, mu=of.mu * mu_share(settings, stage))
    return dataclasses.replace(settings, **{stage: scaled})


def fit_ks(settings: Settings, dataset: Dataset) -> Settings:
    """The settings with no K beyond the catalogue.

    Args:
      settings: the experiment.
      dataset: the data.

    Raises:
      InputError: fewer items than the K of the recall that selects epochs.
    """
    ks = tuple(k for k in settings.eval.ks if k <= dataset.n_items)
    if _SELECTED_AT not in ks:
        raise InputError(
            f"data set '{dataset.name}' has {dataset.n_items} items; epochs are selected by the "
            f"best {_SELECTED_AT} of at least {_SELECTED_AT}. Give more items."
        )
    return dataclasses.replace(settings, eval=dataclasses.replace(settings.eval, ks=ks))
