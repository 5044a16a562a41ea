"""Which items are attacked, and which users the attacks are crafted on and measured on."""

import dataclasses

import jax
import numpy as np

from uatmc_jax.data import Dataset, resolve_items
from uatmc_jax.errors import InputError
from uatmc_jax.settings.attack import TargetSettings

_PURPOSES = ("targets", "users", "starts", "content", "survey")


def generator(seed: int, purpose: str) -> np.random.Generator:
    """The seed's stream of random numbers for one purpose; independent of the others."""
    return np.random.default_rng([seed, _PURPOSES.index(purpose)])


def starts_key(seed: int) -> jax.Array:
    """The key of the seed's random starts, as `attack_targets` takes it."""
    return jax.random.key(int(generator(seed, "starts").integers(2**31)))


def choose_targets(settings: TargetSettings, dataset: Dataset, seed: int) -> np.ndarray:
    """The targeted items under one seed, ascending.

    Args:
      settings: the rule.
      dataset: the data.
      seed: of the draw.

    Returns:
      (T,) distinct int32 ids.

    Raises:
      InputError: an unknown name, names that the rule does not read, or fewer candidates
        than are to be drawn.
    """
    if settings.rule == "ids":
        return _named(settings, dataset)
    if settings.ids:
        raise InputError(
            f"config.targets.ids names items, but config.targets.rule = {settings.rule!r} does not "
            "read them. Set the rule to 'ids', or name none."
        )
    counts = dataset.item_counts
    if settings.rule == "count":
        pool = np.flatnonzero(counts == settings.count)
        described = f"items with exactly {settings.count} interactions"
    else:
        low, high = np.quantile(counts, settings.quantiles)
        pool = np.flatnonzero((counts >= low) & (counts <= high))
        described = f"items with {low:g} to {high:g} interactions"
    if not len(pool):
        raise InputError(
            f"data set '{dataset.name}' has 0 {described}, so nothing can be attacked. Change "
            "config.targets.rule, count or quantiles."
        )
    if len(pool) < settings.sample:
        raise InputError(
            f"data set '{dataset.name}' has {len(pool)} {described}, but "
            f"config.targets.sample = {settings.sample}. Draw fewer; 0 takes all there are."
        )
    if settings.sample:
        pool = generator(seed, "targets").choice(pool, settings.sample, replace=False)
    return np.sort(pool).astype(np.int32)


def _named(settings: TargetSettings, dataset: Dataset) -> np.ndarray:
    try:
        return np.sort(resolve_items(dataset.names, settings.ids, dataset.n_items))
    except InputError as error:
        raise InputError(f"config.targets.ids (--items): {error}") from None


def by_number(settings: TargetSettings, dataset: Dataset) -> TargetSettings:
    """The same targets by their internal numbers.

    A result's identity must not depend on how its items were called, nor stay the same
    where a name has come to mean another item.

    Args:
      settings: the rule.
      dataset: the data.

    Raises:
      InputError: see `choose_targets`.
    """
    if settings.rule != "ids":
        return settings
    numbers = tuple(f"#{item}" for item in _named(settings, dataset))
    return dataclasses.replace(settings, ids=numbers)


def choose_users(dataset: Dataset, share: float, seed: int) -> np.ndarray:
    """A random share of the users with a training interaction, ascending int32 ids.

    Args:
      dataset: the data.
      share: in (0, 1]; at least one user is drawn.
      seed: of the draw.
    """
    trained = np.unique(dataset.train.users)
    size = max(1, round(share * len(trained)))
    drawn = generator(seed, "users").choice(trained, size, replace=False)
    return np.sort(drawn).astype(np.int32)
