"""Interactions in an engine that sorts and counts out of core (DuckDB): read, identified, cut down.

Rows lie in a database in memory, which goes to the disk where it would pass what `CONFIG`
allows. Of ids each form is looked at once.
"""

import contextlib
import itertools
import math
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import duckdb
import numpy as np

from uatmc_jax.errors import InputError
from uatmc_jax.preparation.lines import (
    SAMPLES,
    SHOWN,
    MalformedError,
    Tally,
    check_share,
    identifier,
)

CONFIG: dict[str, Any] = {
    "memory_limit": "1GB",
    "threads": "2",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}
SPILL = "spill"
_BATCH = 1 << 16
_EVENTS = """
create table events(n bigint, user_as varchar, item_as varchar, t double, r float, label tinyint)
"""
# Ids that are their one form as they are (see `data.ids`): words of these letters, which are no
# number with a point or an exponent, unless null.
_PLAIN_ID = "regexp_full_match({0}, '[A-Za-z0-9_-]{{1,256}}|[A-Za-z_][A-Za-z0-9_.@:+-]{{0,255}}')"
_NULLS = (
    "(lower({0}) in ('null', 'none', 'nan', 'na', 'nat', 'nil', 'undefined') "
    "or not regexp_matches({0}, '[A-Za-z0-9]'))"
)


class Event(NamedTuple):
    """One interaction as read; what a source lacks is None.

    Attributes:
      user: id as written, or None.
      item: id as written, or None.
      time: number, or None.
      rating: number, or None.
      label: 0, 1 or 2 where the source has splits.
    """

    user: str | None
    item: str | None
    time: float | None
    rating: float | None
    label: int | None = None


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


class Stage(NamedTuple):
    """Where interactions are while it is not known which of them stay.

    Attributes:
      db: the engine's connection.
      has: what the rows have.
    """

    db: duckdb.DuckDBPyConnection
    has: Has


@contextlib.contextmanager
def open_stage(folder: pathlib.Path, has: Has) -> Iterator[Stage]:
    """A stage whose rows go to `folder` where they need more memory than `CONFIG` allows.

    Raises:
      InputError: there is no room for them there either.
    """
    # Every row has its number, by which it is found again.
    more = {"temp_directory": str(folder / SPILL), "preserve_insertion_order": "false"}
    try:
        with duckdb.connect(":memory:", config=CONFIG | more) as db:
            db.execute(_EVENTS)
            yield Stage(db, has)
    except (duckdb.IOException, duckdb.OutOfMemoryException) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{folder}: no room to sort the interactions ({reason}). Make room on the disk of "
            "--out and give the same command again."
        ) from None


def add(stage: Stage, events: Iterable[tuple[int, Event]]) -> None:
    """Adds rows, each with its number in the source."""
    rows = iter(events)
    while batch := list(itertools.islice(rows, _BATCH)):
        numbers, listed = zip(*batch, strict=True)
        users, items, times, ratings, labels = zip(*listed, strict=True)
        columns = {
            "n": np.array(numbers, np.int64),
            "user_as": np.array(users, object),
            "item_as": np.array(items, object),
            "t": np.array([math.nan if time is None else time for time in times]),
            "r": np.array([math.nan if rating is None else rating for rating in ratings]),
            "label": np.array([-1 if label is None else label for label in labels], np.int8),
        }
        stage.db.register("batch", columns)
        stage.db.execute(
            "insert into events select n, user_as, item_as, "
            "if(isnan(t), null, t), if(isnan(r), null, r)::float, label from batch"
        )
        stage.db.unregister("batch")


class Settled(NamedTuple):
    """What is known once ids have their one form.

    Attributes:
      read: rows.
      incomplete: {why: rows} without user, item or time.
      merged: {"users", "items": (forms that are another's id, forms)}.
    """

    read: int
    incomplete: dict[str, int]
    merged: dict[str, tuple[int, int]]


def settle(stage: Stage, tally: Tally, share: float, unit: str = "line") -> Settled:
    """Gives every id its one form; rows whose id has none are malformed.

    Args:
      stage: with all rows.
      tally: of their source.
      share: of rows that may be malformed.
      unit: of the rows' numbers.

    Raises:
      InputError: too many malformed rows.
    """
    merged: dict[str, tuple[int, int]] = {}
    wrong, first = 0, list[tuple[int, str, str]]()
    for column, what in (("user_as", "users"), ("item_as", "items")):
        more, some = _identify(stage, column, what)
        wrong, first = wrong + more, first + some
        ((forms, ids),) = stage.db.execute(
            f"select count(*), count(distinct id) from {what}_as where id is not null"
        ).fetchall()
        merged[what] = forms - ids, forms
        stage.db.execute(
            f"create table {what} as select id, row_number() over () - 1 as k "
            f"from (select distinct id from {what}_as where id is not null)"
        )
    if wrong:
        tally.malformed += wrong
        tally.samples += [[f"{unit} {n}", why, form[:SHOWN]] for n, why, form in sorted(first)]
        tally.samples.sort(key=lambda sample: int(str(sample[0]).split()[-1]))
        del tally.samples[SAMPLES:]
        check_share(tally, share)
    absent = {
        "without user": "u is null",
        "without item": "u is not null and i is null",
        "without time": f"{stage.has.times} and u is not null and i is not null and t is null",
    }
    stage.db.execute("""
        create table known as
        select n, users.k::integer as u, items.k::integer as i, t, r, label
        from events join users_as on user_as is not distinct from users_as.form
        join items_as on item_as is not distinct from items_as.form
        left join users on users.id = users_as.id left join items on items.id = items_as.id
        where users_as.good and items_as.good
    """)
    stage.db.execute("drop table events")
    read = _count(stage, "known")
    incomplete = {why: _count(stage, "known", test) for why, test in absent.items()}
    stage.db.execute(f"delete from known where {' or '.join(f'({t})' for t in absent.values())}")
    return Settled(read, incomplete, merged)


def _identify(stage: Stage, column: str, what: str) -> tuple[int, list[tuple[int, str, str]]]:
    """Makes {what}_as(form, id, good, why).

    Returns:
      How many rows have a form that is no id; the first of them, with why and the form.
    """
    plain = f"{_PLAIN_ID.format('form')} and not {_NULLS.format('form')}"
    stage.db.execute(
        f"create table {what}_as as select form, if({plain}, form, null) as id, "
        f"coalesce({plain}, form is null) as good, null::varchar as why "
        f"from (select distinct {column} as form from events)"
    )
    odd = stage.db.cursor().execute(f"select form from {what}_as where not good")
    stage.db.execute(f"create table answers as select * from {what}_as limit 0")
    while forms := [form for (form,) in odd.fetchmany(_BATCH)]:
        answers = list(map(_answer, forms))
        columns = {
            "form": np.array(forms, object),
            "id": np.array([name for name, _ in answers], object),
            "why": np.array([why for _, why in answers], object),
        }
        stage.db.register("batch", columns)
        stage.db.execute("insert into answers select form, id, why is null, why from batch")
        stage.db.unregister("batch")
    stage.db.execute(f"delete from {what}_as where not good")
    stage.db.execute(f"insert into {what}_as from answers")
    stage.db.execute("drop table answers")
    wrong = f"from events join {what}_as on {column} = form where not good"
    ((count,),) = stage.db.execute(f"select count(*) {wrong}").fetchall()
    first = f"select n, why, form {wrong} order by n limit {SAMPLES}"
    return count, stage.db.execute(first).fetchall() if count else []


def _answer(form: str) -> tuple[str | None, str | None]:
    """The id that a form means, or why it means none."""
    try:
        return identifier(form), None
    except MalformedError as error:
        return None, str(error)


def _count(stage: Stage, table: str, test: str = "true") -> int:
    return stage.db.execute(f"select count(*) from {table} where {test}").fetchall()[0][0]


def low_ratings(stage: Stage, limit: float) -> tuple[int, int]:
    """How many known rows are rated `limit` or less, of how many that are rated."""
    return _count(stage, "known", f"r <= {limit!r}"), _count(stage, "known", "r is not null")


def leave_out_low(stage: Stage, least: float) -> dict[str, int]:
    """Drops known rows without a rating, or with one below the least; returns how many."""
    below = f"r < {least!r}::float"
    dropped = {
        "without rating": _count(stage, "known", "r is null"),
        f"rated below {least:g}": _count(stage, "known", below),
    }
    stage.db.execute(f"delete from known where r is null or {below}")
    return dropped


def first_of_pairs(stage: Stage) -> tuple[int, int, int]:
    """Keeps the first row of every (user, item) pair, in `pairs`.

    Returns:
      How many rows are known; how many of the others repeat an earlier one's time as well (0
      without times); how many pairs there are.
    """
    known = _count(stage, "known")
    repeated = 0
    if stage.has.times:
        repeated = known - _count(stage, "(select distinct u, i, t from known)")
    stage.db.execute("create table pairs as select u, i, min(n) as n from known group by u, i")
    return known, repeated, _count(stage, "pairs")


def sizes(stage: Stage) -> dict[str, int]:
    """Users, items and interactions in `pairs`."""
    counts = "count(distinct u), count(distinct i), count(*)"
    (row,) = stage.db.execute(f"select {counts} from pairs").fetchall()
    return dict(zip(("users", "items", "interactions"), row, strict=True))


def most_active(stage: Stage) -> list[tuple[str, int]]:
    """The two users of `pairs` who have most of them: their ids, and how many each has."""
    return stage.db.execute(
        "select id, count(*) as many from pairs join users on users.k = u "
        "group by id order by many desc, id limit 2"
    ).fetchall()


def k_core(stage: Stage, k: int) -> int:
    """Drops pairs of users and items that have fewer than k, until none is left.

    Returns:
      The number of sweeps that dropped something; users and items are counted on the same
      pairs in each.
    """
    sweeps = 0
    while k > 1:
        before = _count(stage, "pairs")
        stage.db.execute(
            "create table left_over as select pairs.* from pairs "
            f"semi join (select u from pairs group by u having count(*) >= {k}) using (u) "
            f"semi join (select i from pairs group by i having count(*) >= {k}) using (i)"
        )
        stage.db.execute("drop table pairs")
        stage.db.execute("alter table left_over rename to pairs")
        if _count(stage, "pairs") == before:
            break
        sweeps += 1
    return sweeps
