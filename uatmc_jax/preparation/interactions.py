"""Interactions cut down to those that stay, numbered and split."""

import math
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from uatmc_jax.data.ids import is_null
from uatmc_jax.errors import InputError
from uatmc_jax.preparation.core import Rows
from uatmc_jax.preparation.kept import blocks, names
from uatmc_jax.preparation.kept import number as number_ids
from uatmc_jax.preparation.lines import MalformedError, Tally
from uatmc_jax.preparation.losses import ALONE, LOW_RATINGS, loss
from uatmc_jax.preparation.settings import Settings
from uatmc_jax.preparation.stage import (
    Stage,
    first_of_pairs,
    k_core,
    leave_out_low,
    low_ratings,
    most_active,
    settle,
    sizes,
)

_LARGEST_TIME = 2**53
_LOW_RATING = 2
# A user with so many interactions, and so many times as many as the next, stands out.
_MANY, _OUTSTANDING = 100, 10
_DECIMAL_COMMA = re.compile(r"[+-]?\d[\d.' ]*,\d+")


class Chosen(NamedTuple):
    """What stays of a source's interactions.

    Attributes:
      blocks: of rows with new ids and splits, by user, then by first appearance.
      users: the source's id of each user; after the blocks.
      items: the source's id of each item.
      counts: what was dropped at each step and why.
      losses: shares of rows without what is needed, of ids merged, of low ratings.
    """

    blocks: Iterator[Rows]
    users: Iterator[str]
    items: list[str]
    counts: dict
    losses: dict


class SplitSizes(NamedTuple):
    """How many interactions were written.

    Attributes:
      n_each: in each split.
      most_trained: in train, of the user who has most.
    """

    n_each: dict[str, int]
    most_trained: int


def number(value: Any, what: str, limit: float = math.inf) -> float | None:
    """A finite number of a source; None if there is none, or a word that says so.

    Raises:
      MalformedError: something else, or not between -limit and limit.
    """
    if value is None or (isinstance(value, str) and is_null(value)):
        return None
    try:
        parsed = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        parsed = math.nan
    if not (math.isfinite(parsed) and abs(parsed) < limit):
        if isinstance(value, str) and _DECIMAL_COMMA.fullmatch(value.strip()):
            raise MalformedError(f"{what} has a decimal comma: write a point")
        raise MalformedError(f"{what} is not a number" + f" below {limit:g}" * (limit < math.inf))
    return parsed


def timestamp(value: object) -> float | None:
    """A time as a number; beyond 2^53 it would lose digits."""
    return number(value, "the time", _LARGEST_TIME)


def rating(value: object) -> float | None:
    """A rating as a number that float32 holds."""
    return number(value, "the rating", float(np.finfo(np.float32).max))


def choose(stage: Stage, settings: Settings, tally: Tally, unit: str) -> Chosen:
    """Drops of the rows on a stage what the recipe drops, numbers and splits the rest.

    The stage stays open until blocks and users are read.

    Args:
      stage: with all rows.
      settings: core, least rating, split and seed.
      tally: of the rows' source.
      unit: what the rows' numbers count.

    Raises:
      InputError: nothing is left, or too many rows malformed.
    """
    has, core = stage.has, settings.core
    settled = settle(stage, tally, settings.max_malformed, unit)
    losses = {f"{what} merged": loss(*found) for what, found in settled.merged.items()}
    low = {}
    if has.ratings and settings.min_rating is None:
        losses[LOW_RATINGS] = loss(*low_ratings(stage, _LOW_RATING))
    elif has.ratings:
        low = leave_out_low(stage, settings.min_rating)  # type: ignore[arg-type]
    known, repeated, _ = first_of_pairs(stage)
    unique = sizes(stage)
    sweeps = k_core(stage, core)
    after = sizes(stage)
    if not after["interactions"]:
        complete = settled.read - sum(settled.incomplete.values())
        raise InputError(
            f"no interaction is left: of {settled.read} read, {complete} have user, item (and "
            f"time), {unique['interactions']} are left without duplicates ({unique['users']} "
            f"users, {unique['items']} items), and their {core}-core is empty. Lower --core, or "
            "check the columns."
        )
    counts = {
        "read": settled.read,
        "dropped": {
            **settled.incomplete,
            **low,
            "same user, item and time": repeated,
            "same user and item": known - unique["interactions"] - repeated,
            f"below the {core}-core": unique["interactions"] - after["interactions"],
        },
        "before the core": unique,
        "core": {"k": core, "sweeps": sweeps},
        "kept": after,
    }
    losses |= _guest(stage, after["interactions"])
    number_ids(stage)
    items, users = list(names(stage, "items")), names(stage, "users")
    rows = blocks(stage, settings.split, settings.seed)
    return Chosen(rows, users, items, counts, losses)


def _guest(stage: Stage, interactions: int) -> dict:
    """The share of a user who has so many interactions that everyone without an account may be."""
    (name, most), *others = most_active(stage)
    if others and most >= max(_MANY, _OUTSTANDING * others[0][1]):
        return {f"interactions of user {name!r}, {ALONE}": loss(most, interactions)}
    return {}


def check_usable(sizes: SplitSizes, n_items: int, labelled: bool) -> None:
    """Refuses what `uatmc_jax.data` would refuse later.

    Args:
      sizes: of what was written.
      n_items: that stay.
      labelled: the source has splits.

    Raises:
      InputError: an empty split, or a user who has trained on every item.
    """
    for name, n in sizes.n_each.items():
        if not n:
            remedy = "--split-column has none" if labelled else "users have too few, raise --core"
            raise InputError(f"no {name} interaction: {remedy}. Every split needs at least one.")
    if sizes.most_trained >= n_items:
        raise InputError(
            f"a user has trained on all {n_items} items that are left, so no negative item can be "
            "drawn. Give more items, or lower --core."
        )
