"""Any shop's tables as interactions and items."""

import datetime
from collections.abc import Callable, Iterator

from uatmc_jax.preparation.cutting import Places, text_adder
from uatmc_jax.preparation.interactions import rating, timestamp
from uatmc_jax.preparation.items import Item
from uatmc_jax.preparation.lines import MalformedError, Tally, as_written, flat, identifier
from uatmc_jax.preparation.settings import GenericSettings
from uatmc_jax.preparation.stage import Event, Stage, add
from uatmc_jax.preparation.tables import Form, Quick, Shape, quoted, read_table, unit_of

_LABELS = {"0": 0, "1": 1, "2": 2, "train": 0, "valid": 1, "test": 2}


def check_columns(settings: GenericSettings) -> None:
    """Reads each table's first row, so that a wrong column is known at once.

    Raises:
      InputError: see `read_table`.
    """
    for read, path in ((_read_events, settings.interactions), (read_items, settings.items)):
        if path is not None:
            next(read(settings, Tally(path.name)), None)  # type: ignore[operator]


def stage_events(settings: GenericSettings, tally: Tally, stage: Stage) -> str:
    """Puts the interactions of a table on a stage.

    Returns:
      What the numbers of its rows count.

    Raises:
      InputError: see `read_table`.
    """

    def quick(shape: Shape) -> Callable[[int, str], list | None]:
        user, item, *rest = shape.chosen
        time, score, label = (rest.pop(0) if name else None for name in _optional(settings))
        cut = shape.width, shape.delimiter, quoted(shape)
        places = Places(user, item, time, score, label, *cut)
        return text_adder(stage, places)

    add(stage, _read_events(settings, tally, quick))
    return unit_of(settings.interactions)


def _optional(settings: GenericSettings) -> tuple[str | None, ...]:
    return settings.time_column, settings.rating_column, settings.split_column


def _read_events(
    settings: GenericSettings, tally: Tally, quick: Quick | None = None
) -> Iterator[tuple[int, Event]]:
    """Yields the interactions of a table, in its order, without those that `quick` takes."""
    optional = _optional(settings)
    columns = (settings.user_column, settings.item_column, *filter(None, optional))

    def parse(cells: tuple[str, ...]) -> Event:
        user, item, *rest = cells
        time, score, label = (rest.pop(0) if name else None for name in optional)
        return Event(as_written(user), as_written(item), _time(time), rating(score), _label(label))

    path, share = settings.interactions, settings.max_malformed
    form = Form(settings.delimiter, settings.columns)
    return read_table(path, columns, form, parse, tally, share, quick)


def _time(cell: str | None) -> float | None:
    """Seconds or whatever number there is; ISO 8601 becomes seconds since 1970, UTC by default."""
    try:
        return timestamp(cell)
    except MalformedError as error:
        try:
            moment = datetime.datetime.fromisoformat(cell)  # type: ignore[arg-type]
        except ValueError:
            if "decimal comma" in str(error):
                raise error from None
            raise MalformedError("the time is neither a number below 2^53 nor ISO 8601") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return (moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)).total_seconds()


def _label(cell: str | None) -> int | None:
    if cell is None:
        return None
    if cell.lower() not in _LABELS:
        raise MalformedError(f"the split is none of {', '.join(_LABELS)}")
    return _LABELS[cell.lower()]


def read_items(settings: GenericSettings, tally: Tally) -> Iterator[tuple[str, Item]]:
    """Yields (id, item) of the items' table, in its order.

    Raises:
      InputError: see `read_table`.
    """
    shown = (settings.title_column, settings.brand_column, settings.category_column)
    names = (settings.id_column, *shown, settings.image_column, *text_columns(settings))
    columns = tuple(filter(None, names))

    def parse(cells: tuple[str, ...]) -> tuple[str, Item]:
        rest = list(cells)
        name, title, brand, category, image = (rest.pop(0) if n else "" for n in names[:5])
        name = identifier(name)  # type: ignore[assignment]
        if name is None:
            raise MalformedError("no id")
        text = flat(" ".join(filter(None, rest)))
        return name, Item(*map(flat, (title, brand, category)), text, image)  # type: ignore[call-arg]

    path, share = settings.items, settings.max_malformed
    form = Form(settings.delimiter, settings.item_columns, "--item-columns")
    rows = read_table(path, columns, form, parse, tally, share)  # type: ignore[arg-type]
    return (item for _, item in rows)


def text_columns(settings: GenericSettings) -> tuple[str, ...]:
    """The columns a text encoder reads."""
    shown = (settings.title_column, settings.brand_column, settings.category_column)
    return settings.text_columns or tuple(filter(None, shown))
