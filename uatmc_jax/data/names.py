"""Items by what people call them: the ids of their shop (ASINs), and their titles."""

import csv
import dataclasses
import difflib
import io
import pathlib
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from uatmc_jax.data.ids import canonical
from uatmc_jax.data.text import read_text
from uatmc_jax.errors import InputError

NAMES_FILE = "i_id_mapping.csv"
TITLES_FILE = "items.csv"
_SUGGESTED = 3
# As many items of one title are told apart in an error.
_LISTED = 5


@dataclasses.dataclass(frozen=True)
class ItemNames:
    """What a shop calls its items, as far as it is known.

    Attributes:
      ids: {item: the shop's id of it}.
      titles: {item: title}.
    """

    ids: Mapping[int, str] = dataclasses.field(default_factory=dict)
    titles: Mapping[int, str] = dataclasses.field(default_factory=dict)


def load_names(folder: str | pathlib.Path) -> ItemNames:
    """The names in a data set's folder; a file that is not there gives none.

    Args:
      folder: the data set's folder.

    Raises:
      InputError: a file that cannot be read; see `load_item_names` and `load_item_titles`.
    """
    known = (pathlib.Path(folder) / NAMES_FILE).is_file()
    ids = {item: name for name, item in load_item_names(folder).items()} if known else {}
    return ItemNames(ids, load_item_titles(folder))


def write_names(names: ItemNames, folder: str | pathlib.Path) -> None:
    """Writes the files that `load_names` reads; none for what there is none of.

    Args:
      names: what to write.
      folder: of the data set.
    """
    for name, header, delimiter, rows in (
        (NAMES_FILE, ("asin", "itemID"), "\t", [(text, n) for n, text in names.ids.items()]),
        (TITLES_FILE, ("itemID", "title"), ",", list(names.titles.items())),
    ):
        if rows:
            with open(pathlib.Path(folder) / name, "w", encoding="utf-8", newline="") as file:
                table = csv.writer(file, delimiter=delimiter, lineterminator="\n")
                table.writerows([header, *rows])


def load_item_names(folder: str | pathlib.Path) -> dict[str, int]:
    """{name: item id} of a data set's folder, in the file's order.

    The file is MMRec's: a header and two columns, `asin` and `itemID`, separated
    by tabs or commas.

    Args:
      folder: the data set's folder.

    Raises:
      InputError: no such file, a line that cannot be read, a name of two items, or an
        item with two names.
    """
    path = pathlib.Path(folder) / NAMES_FILE
    if not path.is_file():
        raise InputError(f"{path}: no such file, so items have no names. Use item ids.")
    try:
        file = io.StringIO(read_text(path))
        header = file.readline()
        rows = list(csv.reader(file, delimiter="\t" if "\t" in header else ","))
    except csv.Error as error:
        raise InputError(f"{path}: not a table ({error}). Write it again.") from None
    columns = [column.strip().lower() for column in header.replace(",", "\t").split("\t")]
    if "asin" not in columns or "itemid" not in columns:
        raise InputError(f"{path}: the header is {header.strip()!r}; wanted asin and itemID.")
    name, number = columns.index("asin"), columns.index("itemid")
    names: dict[str, int] = {}
    named: dict[int, str] = {}
    for line, row in enumerate(rows, start=2):
        if not row:
            continue
        try:
            text, item = canonical(row[name]) or "", int(row[number])
        except (IndexError, ValueError):
            raise InputError(
                f"{path}, line {line}: {row!r} is not a name and an integer id. Mend the line."
            ) from None
        if names.setdefault(text, item) != item or named.setdefault(item, text) != text:
            raise InputError(
                f"{path}, line {line}: {text!r} is item {item}, but another line gives the name "
                "to another item, or the item another name. Leave one of the two."
            )
    return names


def load_item_titles(folder: str | pathlib.Path) -> dict[int, str]:
    """{item id: title} of a data set's folder, without items that have none.

    The file is `uatmc_jax.prepare`'s: comma-separated with a header, columns
    `itemID` and `title` among others. {} if there is no such file.

    Args:
      folder: the data set's folder.

    Raises:
      InputError: a missing column, or a line that cannot be read.
    """
    path = pathlib.Path(folder) / TITLES_FILE
    if not path.is_file():
        return {}
    titles = {}
    try:
        table = csv.DictReader(io.StringIO(read_text(path)))
        if not {"itemID", "title"} <= set(table.fieldnames or ()):
            raise InputError(f"{path}: the header is {table.fieldnames}; wanted itemID and title.")
        for row in table:
            number, title = row["itemID"] or "", row["title"]
            if title is None or not re.fullmatch("[0-9]{1,10}", number):
                raise InputError(
                    f"{path}, line {table.line_num}: {number!r} is not an item id with a title. "
                    "Mend the line."
                )
            if title:
                titles[int(number)] = title
    except csv.Error as error:
        raise InputError(f"{path}: not a CSV file ({error}). Write it again.") from None
    return titles


def resolve_items(names: ItemNames, texts: Sequence[str], n_items: int) -> np.ndarray:
    """The items that texts name: by the shop's ids, else by titles, else by `#number`.

    >>> names = ItemNames({0: "330", 1: "B7", 2: "7"}, {1: "Soap, red"})
    >>> resolve_items(names, ["330", "soap, RED", "#2"], 3).tolist()
    [0, 1, 2]
    >>> resolve_items(names, ["B7,330"], 3).tolist()
    [1, 0]

    A title counts as it is written, or else in any case if it is one item's alone. A bare
    number is never an internal one: in a shop whose ids are numbers it would be another item.

    Args:
      names: of the data set.
      texts: each an id, a title or `#number`; or, if it is none of them as a whole, several
        of them with commas between, quoted as in a CSV file where they contain commas.
      n_items: |I|; internal numbers are below it.

    Returns:
      (T,) distinct int32 items, in the order of the texts.

    Raises:
      InputError: a text that names no item, or two, or an item named before.
    """
    index = _index(names, n_items)
    found: dict[int, str] = {}
    for text in texts:
        if not isinstance(text, str):
            raise InputError(
                f"item {text!r}: a number alone does not say whose. Write the shop's id in quotes, "
                f"'{text}', or '#{text}' for the internal number."
            )
        for part in _parts(index, text):
            item = _find(index, part)
            if item is None:
                raise InputError(_unknown(index, part, text))
            if item in found:
                raise InputError(
                    f"item {part!r}: is item #{item}, which {found[item]!r} names already. Name "
                    "each item once."
                )
            found[item] = part
    return np.array(list(found), np.int32)


class _Index(NamedTuple):
    """Names the other way round: what text belongs to which items."""

    ids: dict[str, int]
    titles: dict[str, list[int]]
    folded: dict[str, list[int]]
    names: ItemNames
    n_items: int


def _index(names: ItemNames, n_items: int) -> _Index:
    titles: dict[str, list[int]] = {}
    folded: dict[str, list[int]] = {}
    for item, title in names.titles.items():
        if item < n_items:
            titles.setdefault(title.strip(), []).append(item)
            folded.setdefault(title.strip().casefold(), []).append(item)
    ids = {_as_id(text): item for item, text in names.ids.items()}
    return _Index(ids, titles, folded, names, n_items)


def _as_id(text: str) -> str:
    """An id in its one form; as it is where it has none."""
    try:
        return canonical(text) or text.strip()
    except ValueError:
        return text.strip()


def _parts(index: _Index, text: str) -> list[str]:
    """The text, or what a line of a CSV file with this text has in its cells."""
    whole = unicodedata.normalize("NFC", text).strip()
    if _find(index, whole) is not None:
        return [whole]
    try:
        cells = next(csv.reader([whole], skipinitialspace=True), None)
    except csv.Error:
        cells = None
    return [cell.strip() for cell in cells or [whole]]


def _find(index: _Index, text: str) -> int | None:
    """The item of this name; None if there is none."""
    if _as_id(text) in index.ids:
        item = index.ids[_as_id(text)]
        if not 0 <= item < index.n_items:
            raise InputError(
                f"item {text!r}: {NAMES_FILE} says item {item}, but {_numbers(index)}. Mend the "
                "file."
            )
        return item
    for items in (index.titles.get(text), index.folded.get(text.casefold())):
        if items and len(items) > 1:
            shown = [f"{index.names.ids.get(i, 'no id')} (#{i})" for i in items[:_LISTED]]
            more = ", ..." if len(items) > _LISTED else ""
            raise InputError(
                f"item {text!r}: {len(items)} items have this title: {', '.join(shown)}{more}. "
                "Name one by its id or #number."
            )
        if items:
            return items[0]
    if not re.fullmatch("#[0-9]{1,10}", text):
        return None
    item = int(text[1:])
    if item >= index.n_items:
        raise InputError(f"item {text!r}: no such number; {_numbers(index)}.")
    return item


def _unknown(index: _Index, part: str, text: str) -> str:
    """What to say of a text that names nothing."""
    if not part:
        return f"item {text!r}: an empty name. Leave the comma out."
    bare = re.fullmatch("[0-9]{1,10}", part) and int(part) < index.n_items
    number = f" Write '#{int(part)}' for the internal number." if bare else ""
    if not index.ids and not index.titles:
        lacking = f"the data set has neither {NAMES_FILE} nor {TITLES_FILE}, so no names"
        return f"item {part!r}: {lacking}.{number or f' Items go by number: {_numbers(index)}.'}"
    close = list(dict.fromkeys([*_close(index, text.strip()), *_close(index, part)]))
    hint = f" Did you mean {' or '.join(map(repr, close[:_SUGGESTED]))}?" if close else ""
    other = "" if close or number else f" Internal numbers have a #: {_numbers(index)}."
    return f"item {part!r}: no item has this id or title.{hint}{number}{other}"


def _close(index: _Index, text: str) -> list[str]:
    """Ids and titles that a mistyped text may mean."""
    there = (name for name, item in index.ids.items() if item < index.n_items)
    known = {name.casefold(): name for name in (*index.titles, *there)}
    close = difflib.get_close_matches(text.casefold(), known, n=_SUGGESTED)
    return [known[name] for name in close]


def _numbers(index: _Index) -> str:
    return f"the items are #0 to #{index.n_items - 1}"
