"""Which items are attacked, and which users the attacks are crafted on and measured on."""

from collections.abc import Callable, Sequence

import jax
import numpy as np

from uatmc_jax.data import Dataset
from uatmc_jax.errors import InputError
from uatmc_jax.settings.attack import TargetSettings

_PURPOSES = ("targets", "users", "starts", "content", "survey")


def generator(seed: int, purpose: str) -> np.random.Generator:
    """The seed's stream of random numbers for one purpose; independent of the others."""
    return np.random.default_rng([seed, _PURPOSES.index(purpose)])


def starts_key(seed: int) -> jax.Array:
    """The key of the seed's random starts, as `attack_targets` takes it."""
    return jax.random.key(int(generator(seed, "starts").integers(2**31)))


def choose_targets(
    settings: TargetSettings,
    dataset: Dataset,
    seed: int,
    names: Callable[[], dict[str, int]],
) -> np.ndarray:
    """The targeted items under one seed, ascending.

    Args:
      settings: the rule.
      dataset: the data.
      seed: of the draw.
      names: gives {name: item id}; called only if an id is not a number.

    Returns:
      (T,) distinct int32 ids.

    Raises:
      InputError: an unknown id or name, or fewer candidates than are to be drawn.
    """
    counts = dataset.item_counts
    if settings.rule == "count":
        pool = np.flatnonzero(counts == settings.count)
        described = f"items with exactly {settings.count} interactions"
    elif settings.rule == "quantile":
        low, high = np.quantile(counts, settings.quantiles)
        pool = np.flatnonzero((counts >= low) & (counts <= high))
        described = f"items with {low:g} to {high:g} interactions"
    else:
        pool = _by_id(settings.ids, dataset, names)
        described = "items named"
    if not len(pool):
        raise InputError(
            f"data set '{dataset.name}' has 0 {described}, so nothing can be attacked. Change "
            "config.targets.rule, count or quantiles."
        )
    if settings.rule == "ids":
        return np.sort(pool).astype(np.int32)
    if len(pool) < settings.sample:
        raise InputError(
            f"data set '{dataset.name}' has {len(pool)} {described}, but "
            f"config.targets.sample = {settings.sample}. Draw fewer; 0 takes all there are."
        )
    if settings.sample:
        pool = generator(seed, "targets").choice(pool, settings.sample, replace=False)
    return np.sort(pool).astype(np.int32)


def _by_id(ids: Sequence, dataset: Dataset, names: Callable[[], dict[str, int]]) -> np.ndarray:
    items, known = [], None
    for name in ids:
        text = str(name)
        # An ASIN may be all digits too: "0000000012" is a name, "12" an id.
        if text.isdecimal() and text == str(int(text)) and int(text) < dataset.n_items:
            items.append(int(text))
            continue
        if known is None:
            known = names()
        if not 0 <= known.get(text, -1) < dataset.n_items:
            raise InputError(
                f"config.targets.ids: {text!r} is neither an item id below {dataset.n_items} nor "
                f"a name in the i_id_mapping.csv of data set '{dataset.name}'. Correct it."
            )
        items.append(known[text])
    if len(set(items)) < len(items):
        raise InputError("config.targets.ids names an item twice. Name each once.")
    return np.array(items)


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
