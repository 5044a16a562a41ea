"""Which items are attacked, and which users the attacks are crafted on and measured on."""

import dataclasses
import json
import pathlib
from collections.abc import Sequence

import numpy as np

from uatmc_jax.data import Dataset, resolve_items
from uatmc_jax.errors import InputError
from uatmc_jax.seeds import generator
from uatmc_jax.settings.attack import TargetSettings


def targets(
    dataset: Dataset,
    *,
    quantiles: tuple[float, float] | None = None,
    count: int = 5,
    ids: Sequence[str] = (),
    sample: int = 100,
    seed: int = 0,
) -> np.ndarray:
    """Items to attack: those with `count` interactions, of a range of popularity, or named.

    Args:
      dataset: the data.
      quantiles: (low, high) of the number of interactions, 0 the least popular; in place
        of `count`.
      count: interactions of an item, all splits counted; 5 as published.
      ids: shop ids, titles or "#908" for internal numbers; in place of the other two.
      sample: how many to draw; 0 for all.
      seed: of the draw.

    Returns:
      (T,) distinct int32 ids, ascending.

    Raises:
      InputError: see `choose_targets`.
    """
    rule = "ids" if len(ids) else "count" if quantiles is None else "quantile"
    chosen = TargetSettings(
        rule=rule, count=count, quantiles=quantiles or (0.0, 0.1), ids=tuple(ids), sample=sample
    )
    return choose_targets(chosen, dataset, seed)


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
    if settings.rule == "pool":
        return _draw(_pool(settings, dataset), "items in the pool", settings, dataset, seed)
    if settings.ids:
        raise InputError(
            f"config.targets.ids names items, but config.targets.rule = {settings.rule!r} does not "
            "read them. Set the rule to 'ids' or 'pool', or name none."
        )
    (low, high), counts = attacked_range(settings, dataset), dataset.item_counts
    exactly = f"exactly {low}" if low == high else f"{low} to {high}"
    pool = np.flatnonzero((counts >= low) & (counts <= high))
    return _draw(pool, f"items with {exactly} interactions", settings, dataset, seed)


def attacked_range(settings: TargetSettings, dataset: Dataset) -> tuple[int, int]:
    """The least and most interactions, all splits counted, of the items that may be drawn.

    Args:
      settings: the rule; of named items, those with the fewest and with the most count.
      dataset: the data.

    Raises:
      InputError: an unknown name.
    """
    if settings.rule == "count":
        return settings.count, settings.count
    if settings.rule == "quantile":
        low, high = np.quantile(dataset.item_counts, settings.quantiles)
        return int(np.ceil(low)), int(np.floor(high))
    found = _named(settings, dataset) if settings.rule == "ids" else _pool(settings, dataset)
    counts = dataset.item_counts[found]
    return int(counts.min()), int(counts.max())


def _draw(
    pool: np.ndarray, described: str, settings: TargetSettings, dataset: Dataset, seed: int
) -> np.ndarray:
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


def _pool(settings: TargetSettings, dataset: Dataset) -> np.ndarray:
    """The distinct items that the settings, or the file they name, list."""
    if not settings.file:
        return _named(settings, dataset)
    where = f"config.targets.file = {settings.file!r}"
    try:
        listed = json.loads(pathlib.Path(settings.file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{where}: cannot be read as JSON ({error}). Give a list.") from None
    if not isinstance(listed, list) or any(type(x) not in (int, str) for x in listed):
        raise InputError(f"{where}: wanted a list of item numbers, or of ids.")
    names = [f"#{x}" if isinstance(x, int) else x for x in listed]
    try:
        return np.unique(resolve_items(dataset.names, names, dataset.n_items))
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


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
    if settings.rule not in ("ids", "pool"):
        return settings
    found = _named(settings, dataset) if settings.rule == "ids" else _pool(settings, dataset)
    return dataclasses.replace(settings, ids=tuple(f"#{item}" for item in found), file="")


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
