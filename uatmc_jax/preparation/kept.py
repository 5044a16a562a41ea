"""The interactions that stay: numbered and ordered by the engine, split a block at a time.

A block is of whole users, so that memory holds as many rows as a block has, however many there are.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from uatmc_jax.preparation.core import (
    Rows,
    split,
    split_by_global_time,
    split_by_user_time,
    time_places,
)
from uatmc_jax.preparation.stage import Stage, sizes

_BLOCK_ROWS = 1 << 20
_NAMES_AT_ONCE = 1 << 14


def number(stage: Stage) -> None:
    """Numbers the users and items of `pairs` by first appearance; their rows are then `kept`."""
    for what, column in (("users", "u"), ("items", "i")):
        stage.db.execute(
            f"create table {what}_kept as "
            "select id, x.k as k, row_number() over (order by first) - 1 as number from "
            f"(select {column} as k, min(n) as first from pairs group by {column}) as x "
            f"join {what} on {what}.k = x.k"
        )
        stage.db.execute(f"drop table {what}")
    stage.db.execute(
        "create table kept as select users_kept.number::integer as userid, "
        "items_kept.number::integer as itemid, n, t, r, label from known "
        "semi join pairs using (n) join users_kept on users_kept.k = u "
        "join items_kept on items_kept.k = i"
    )
    stage.db.execute("drop table known")


def names(stage: Stage, what: str) -> Iterator[str]:
    """Yields the ids of the "users" or "items" that stay, in the order of their numbers."""
    found = stage.db.execute(f"select id from {what}_kept order by number")
    while some := found.fetchmany(_NAMES_AT_ONCE):
        yield from (name for (name,) in some)


def blocks(stage: Stage, rule: str, seed: int) -> Iterator[Rows]:
    """Yields the rows that stay, by user and then in the source's order, with their splits.

    Args:
      stage: after `number`; its tables are used up.
      rule: of `core.SPLIT_RULES`, unless the source has splits.
      seed: of the rule "random".
    """
    has, key = stage.has, rule == "random" and not stage.has.labels
    if key:
        _draw_keys(stage, seed)
    stage.db.execute("create table ordered as select * from kept order by userid, n")
    stage.db.execute("drop table kept")
    limits = _time_limits(stage) if rule == "global-time" and not has.labels else ()
    columns = ["userid", "itemid", *("t",) * has.times, *("r",) * has.ratings]
    columns += ["label"] * has.labels + ["key"] * key
    for first, last in _whole_users(stage):
        found: dict[str, Any] = stage.db.execute(
            f"select {', '.join(columns)} from ordered "
            "where userid >= $1 and userid < $2 order by userid, n",
            [first, last],
        ).fetchnumpy()
        rows = Rows(
            found["userid"],
            found["itemid"],
            np.asarray(found["t"], np.float64) if has.times else None,
            np.ma.filled(found["r"].astype(np.float32), np.nan) if has.ratings else None,
        )
        if has.labels:
            labels = np.asarray(found["label"], np.int8)
        elif key:
            labels = split(rows.users - first, found["key"])
        elif limits:
            labels = split_by_global_time(rows.times, *limits)  # type: ignore[arg-type]
        else:
            labels = split_by_user_time(rows.users - first, rows.times)  # type: ignore[arg-type]
        yield rows._replace(labels=labels)


def _draw_keys(stage: Stage, seed: int) -> None:
    """Adds a random number to every row, drawn in the source's order."""
    rng = np.random.default_rng(seed)
    stage.db.execute("create table by_n as select * from kept order by n")
    stage.db.execute("create or replace table kept as select *, 0::double as key from kept limit 0")
    ((least, most),) = stage.db.execute("select min(n), max(n) from by_n").fetchall()
    for first in range(least, most + 1, _BLOCK_ROWS):
        within = f"n >= {first} and n < {first + _BLOCK_ROWS}"
        found = stage.db.execute(f"select n from by_n where {within} order by n").fetchnumpy()["n"]
        stage.db.register("batch", {"n": found, "key": rng.random(len(found))})
        stage.db.execute(
            "insert into kept select by_n.*, batch.key from by_n join batch using (n) "
            f"where by_n.{within.replace(' n ', ' by_n.n ')}"
        )
        stage.db.unregister("batch")
    stage.db.execute("drop table by_n")


def _time_limits(stage: Stage) -> tuple[float, ...]:
    """Times from which on rows are validation, and test."""
    places = time_places(sizes(stage)["interactions"])
    query = "select t from ordered order by t limit 1 offset {}"
    return tuple(stage.db.execute(query.format(place)).fetchall()[0][0] for place in places)


def _whole_users(stage: Stage) -> Iterator[tuple[int, int]]:
    """Yields (first user, past the last) of blocks; a user alone may have more rows than others."""
    counts = stage.db.execute(
        "select count(*) as rows from ordered group by userid order by userid"
    ).fetchnumpy()["rows"]
    ends, first = np.cumsum(counts), 0
    while first < len(ends):
        before = int(ends[first - 1]) if first else 0
        last = max(first + 1, int(np.searchsorted(ends, before + _BLOCK_ROWS, side="right")))
        yield first, last
        first = last
