"""The plain lines of a text, cut by the engine; what is not plain comes back.

A line is plain if its cells say the same to any reader: no quotes, or one pair around a cell,
numbers of digits and a point, times of one form. The others are read one by one (`tables`), so
that whatever is odd is judged in one place.
"""

from collections.abc import Callable
from typing import NamedTuple

from uatmc_jax.preparation.stage import Stage

# So short that neither value nor digits leave what floats hold.
_NUMBER = "length({0}) <= 15 and regexp_full_match({0}, '-?[0-9]+([.][0-9]+)?')"
_MOMENT = "[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}:[0-9]{2}Z?"
_LABELS = "['0', '1', '2', 'train', 'valid', 'test']"
_QUOTES = "length(line) - length(replace(line, '\"', ''))"
_ONE_PAIR = 'regexp_full_match(x, \'"[^"]*"|[^"]*\')'
_LONGEST_ID = 1024


class Places(NamedTuple):
    """Where a text has what (cells from 0 on), and how it is cut.

    Attributes:
      user: cell.
      item: cell.
      time: cell, or None.
      rating: cell, or None.
      label: cell, or None.
      width: cells of a row.
      delimiter: between them.
      quotes: of a cell are not its text.
    """

    user: int
    item: int
    time: int | None
    rating: int | None
    label: int | None
    width: int
    delimiter: str
    quotes: bool


def text_adder(stage: Stage, places: Places) -> Callable[[int, str], list | None]:
    """What adds the plain lines of a block of text to a stage.

    Args:
      stage: to add to.
      places: of the cells.

    Returns:
      Given the number of the first line and the lines, [number, line] of those that are not
      plain, blank ones among them; None, with nothing added, if a quote is open at the end of
      a line: it may go on in the next.
    """
    plainer = places._replace(quotes=False)
    ways = {quotes: (_cut(of), _insert(of)) for quotes, of in ((False, plainer), (True, places))}

    def add_block(first: int, text: str) -> list | None:
        quotes = places.quotes and '"' in text
        cut, insert = ways[quotes]
        stage.db.execute(cut, [places.delimiter, first, text])
        if quotes:
            found = stage.db.execute(f"select count(*) from cut where ({_QUOTES}) % 2 = 1")
            if found.fetchall()[0][0]:
                return None
        stage.db.execute(insert)
        return stage.db.execute("select n, line from cut where not plain order by n").fetchall()

    return add_block


def _cut(places: Places) -> str:
    """SQL that makes rows (n, line, c, plain) of a delimiter, a number and a text."""
    tests = [f"line <> '' and len(c) = {places.width}"]
    if places.quotes:
        odd = f"len(list_filter(c, lambda x: not {_ONE_PAIR}))"
        tests.append(f"(not contains(line, '\"') or {odd} = 0)")
    user, item = _cell(places, places.user), _cell(places, places.item)
    tests += [f"length({cell}) <= {_LONGEST_ID}" for cell in (user, item)]
    if places.time is not None:
        cell = _cell(places, places.time)
        moment = f"(regexp_full_match({cell}, '{_MOMENT}') and {_moment(cell)} is not null)"
        tests.append(f"({cell} = '' or {_NUMBER.format(cell)} or {moment})")
    if places.rating is not None:
        cell = _cell(places, places.rating)
        tests.append(f"({cell} = '' or {_NUMBER.format(cell)})")
    if places.label is not None:
        tests.append(f"{_label(_cell(places, places.label))} is not null")
    return f"""
        create or replace temp table cut as
        select n, line, c, coalesce({" and ".join(tests)}, false) as plain from (
          select $2::bigint + o - 1 as n, line, string_split(line, $1) as c from (
            select rtrim(unnest(l), chr(13)) as line, generate_subscripts(l, 1) as o
            from (select string_split($3, chr(10)) as l)))
    """


def _insert(places: Places) -> str:
    """SQL that adds the plain rows of `cut` to the stage's events."""
    time = rating = "null"
    label = "-1"
    if places.time is not None:
        cell = _cell(places, places.time)
        time = f"coalesce(try_cast({cell} as double), epoch({_moment(cell)}))"
    if places.rating is not None:
        rating = f"try_cast({_cell(places, places.rating)} as double)::float"
    if places.label is not None:
        label = f"(({_label(_cell(places, places.label))} - 1) % 3)"
    ids = f"{_cell(places, places.user)}, {_cell(places, places.item)}"
    return f"insert into events select n, {ids}, {time}, {rating}, {label} from cut where plain"


def _cell(places: Places, place: int) -> str:
    text = f"c[{place + 1}]"
    if places.quotes:
        text = f"if(starts_with({text}, '\"'), {text}[2:-2], {text})"
    return f"trim({text})"


def _moment(cell: str) -> str:
    return f"try_cast(rtrim({cell}, 'Z') as timestamp)"


def _label(cell: str) -> str:
    return f"list_position({_LABELS}, lower({cell}))"
