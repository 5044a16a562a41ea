"""Interactions cut down to those that stay, numbered and split."""

import math
import re
from typing import Any, NamedTuple

import numpy as np

from uatmc_jax.data.ids import NULL_WORDS
from uatmc_jax.data.interactions import SPLITS
from uatmc_jax.errors import InputError
from uatmc_jax.preparation.core import SPLITTERS, Rows, renumber, take
from uatmc_jax.preparation.lines import MalformedError, Tally
from uatmc_jax.preparation.losses import LOW_RATINGS, loss
from uatmc_jax.preparation.settings import Settings
from uatmc_jax.preparation.stage import (
    Stage,
    fetch,
    first_of_pairs,
    k_core,
    leave_out_low,
    low_ratings,
    settle,
    sizes,
)

_LARGEST_TIME = 2**53
_LOW_RATING = 2
_DECIMAL_COMMA = re.compile(r"[+-]?\d[\d.' ]*,\d+")


class Chosen(NamedTuple):
    """What stays of a source's interactions.

    Attributes:
      rows: with new ids and labels, sorted by user, then by first appearance.
      users: the source's id of each user.
      items: the source's id of each item.
      counts: what was dropped at each step and why.
      n_each: of the interactions in each split.
      losses: shares of rows without what is needed, of ids merged, of low ratings.
    """

    rows: Rows
    users: list[str]
    items: list[str]
    counts: dict
    n_each: dict[str, int]
    losses: dict


def number(value: Any, what: str, limit: float = math.inf) -> float | None:
    """A finite number of a source; None if there is none, or a word that says so.

    Raises:
      MalformedError: something else, or not between -limit and limit.
    """
    if value is None or (isinstance(value, str) and value.strip().casefold() in NULL_WORDS):
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

    Args:
      stage: with all rows.
      settings: core, least rating, split and seed.
      tally: of the rows' source.
      unit: what the rows' numbers count.

    Raises:
      InputError: nothing is left, or too little to train and test on; too many rows malformed.
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
    rows, users, items = _number(*fetch(stage))
    if not has.labels:
        rows = rows._replace(labels=SPLITTERS[settings.split](rows, settings.seed))
    rows = take(rows, np.argsort(rows.users, kind="stable"))
    n_each = _check_usable(rows, len(items), has.labels)
    return Chosen(rows, users, items, counts, n_each, losses)


def _number(rows: Rows, users: list, items: list) -> tuple[Rows, list[str], list[str]]:
    new_users, old_users = renumber(rows.users)
    new_items, old_items = renumber(rows.items)
    return (
        rows._replace(users=new_users, items=new_items),
        [users[old] for old in old_users],
        [items[old] for old in old_items],
    )


def _check_usable(rows: Rows, n_items: int, labelled: bool) -> dict[str, int]:
    """Refuses what `uatmc_jax.data` would refuse later; the interactions in each split."""
    counts = map(int, np.bincount(rows.labels, minlength=len(SPLITS)))  # type: ignore[arg-type]
    n_each = dict(zip(SPLITS, counts, strict=True))
    for name, n in n_each.items():
        if not n:
            remedy = "--split-column has none" if labelled else "users have too few, raise --core"
            raise InputError(f"no {name} interaction: {remedy}. Every split needs at least one.")
    if np.bincount(rows.users[rows.labels == 0]).max() >= n_items:
        raise InputError(
            f"a user has trained on all {n_items} items that are left, so no negative item can be "
            "drawn. Give more items, or lower --core."
        )
    return n_each
