"""Interactions gathered from a stream into columns, and cut down to those that stay."""

import array
import math
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from uatmc_jax.data.interactions import SPLITS
from uatmc_jax.errors import InputError
from uatmc_jax.preparation.core import SPLITTERS, Rows, first_of_pairs, k_core, renumber, take
from uatmc_jax.preparation.lines import MalformedError
from uatmc_jax.preparation.losses import LOW_RATINGS, loss
from uatmc_jax.preparation.settings import Settings

_LARGEST_TIME = 2**53
_LOW_RATING = 2
_DECIMAL_COMMA = re.compile(r"[+-]?\d[\d.' ]*,\d+")


class Event(NamedTuple):
    """One interaction as read; what a source lacks is None.

    Attributes:
      user: id, or None.
      item: id, or None.
      time: number, or None.
      rating: number, or None.
      label: 0, 1 or 2 where the source has splits.
    """

    user: str | None
    item: str | None
    time: float | None
    rating: float | None
    label: int | None = None


class Forms(NamedTuple):
    """How the ids of a source are written: {as written: in its one form, or None}.

    Attributes:
      users: of the users.
      items: of the items.
    """

    users: dict[str, str | None]
    items: dict[str, str | None]


def new_forms() -> Forms:
    """None seen so far."""
    return Forms({}, {})


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
    """A finite number of a source; None if there is none.

    Raises:
      MalformedError: something else, or not between -limit and limit.
    """
    if value is None or value == "":
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


class Has(NamedTuple):
    """What a source's rows have.

    Attributes:
      times: a row without one is dropped.
      ratings: written, NaN where a row has none.
      labels: `Event.label` is the split.
    """

    times: bool
    ratings: bool
    labels: bool


def choose(events: Iterable[Event], settings: Settings, has: Has, forms: Forms) -> Chosen:
    """Reads interactions, drops what the recipe drops, numbers and splits the rest.

    Only ids and numbers are kept in memory: about 20 bytes a row, and the names.

    Args:
      events: in the source's order.
      settings: core, least rating, split and seed.
      has: what the rows have.
      forms: of the ids, filled while `events` are read.

    Raises:
      InputError: nothing is left, or too little to train and test on.
    """
    rows, names, incomplete = _read(events, has)
    complete = len(rows.users)
    read = complete + sum(incomplete.values())
    low = {}
    if has.ratings:
        low, rows = _leave_out_low(rows, settings.min_rating)
    liked = len(rows.users)
    first, repeated = first_of_pairs(rows)
    rows = take(rows, first)
    unique = _sizes(rows)
    kept, sweeps = k_core(rows.users, rows.items, settings.core)
    rows = take(rows, kept)
    if not len(rows.users):
        raise InputError(
            f"no interaction is left: of {read} read, {complete} have user, item (and time), "
            f"{unique['interactions']} are left without duplicates ({unique['users']} users, "
            f"{unique['items']} items), and their {settings.core}-core is empty. Lower --core, or "
            "check the columns."
        )
    after = _sizes(rows)
    counts = {
        "read": read,
        "dropped": {
            **incomplete,
            **low.pop("dropped", {}),
            "same user, item and time": repeated,
            "same user and item": liked - unique["interactions"] - repeated,
            f"below the {settings.core}-core": unique["interactions"] - after["interactions"],
        },
        "before the core": unique,
        "core": {"k": settings.core, "sweeps": sweeps},
        "kept": after,
    }
    losses = {"users merged": _merged(forms.users), "items merged": _merged(forms.items), **low}
    rows, users, items = _number(rows, *names)
    if not has.labels:
        rows = rows._replace(labels=SPLITTERS[settings.split](rows, settings.seed))
    rows = take(rows, np.argsort(rows.users, kind="stable"))
    n_each = _check_usable(rows, len(items), has.labels)
    return Chosen(rows, users, items, counts, n_each, losses)


def _leave_out_low(rows: Rows, least: float | None) -> tuple[dict, Rows]:
    """What is said of the ratings, and the rows of which none is below the least."""
    if least is None:
        rated = int((~np.isnan(rows.ratings)).sum())  # type: ignore[arg-type]
        return {LOW_RATINGS: loss(int((rows.ratings <= _LOW_RATING).sum()), rated)}, rows
    unrated = int(np.isnan(rows.ratings).sum())  # type: ignore[arg-type]
    enough = rows.ratings >= np.float32(least)
    below = len(enough) - int(enough.sum()) - unrated
    dropped = {"without rating": unrated, f"rated below {least:g}": below}
    return {"dropped": dropped}, take(rows, enough)


def _merged(forms: dict[str, str | None]) -> dict:
    """The ids that differ as written from another form of the same."""
    named = [form for form in forms.values() if form is not None]
    return loss(len(named) - len(set(named)), len(named))


def _read(
    events: Iterable[Event], has: Has
) -> tuple[Rows, tuple[list[str], list[str]], dict[str, int]]:
    """Complete events as columns, the ids by their numbers, and counts of the incomplete ones."""
    users: dict[str, int] = {}
    items: dict[str, int] = {}
    columns: Any = Rows(*(array.array(code) for code in "iidfb"))  # type: ignore[arg-type]
    incomplete = {"without user": 0, "without item": 0, "without time": 0}
    for event in events:
        if event.user is None or event.item is None or (has.times and event.time is None):
            absent = "user" if event.user is None else "item" if event.item is None else "time"
            incomplete[f"without {absent}"] += 1
            continue
        columns.users.append(users.setdefault(event.user, len(users)))
        columns.items.append(items.setdefault(event.item, len(items)))
        if has.times:
            columns.times.append(event.time)
        if has.ratings:
            columns.ratings.append(math.nan if event.rating is None else event.rating)
        if has.labels:
            columns.labels.append(event.label)
    rows = Rows(
        np.frombuffer(columns.users, np.int32),
        np.frombuffer(columns.items, np.int32),
        np.frombuffer(columns.times, np.float64) if has.times else None,
        np.frombuffer(columns.ratings, np.float32) if has.ratings else None,
        np.frombuffer(columns.labels, np.int8) if has.labels else None,
    )
    return rows, (list(users), list(items)), incomplete


def _sizes(rows: Rows) -> dict:
    return {
        "users": len(np.unique(rows.users)),
        "items": len(np.unique(rows.items)),
        "interactions": len(rows.users),
    }


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
