"""What is known of the items: gathered from a stream, kept on disk, written as a table.

The source's order is not that of the item ids, and texts can be larger than
memory: each item's record goes to a file as it comes, with its place noted.
"""

import csv
import json
import pathlib
from collections.abc import Iterable
from typing import BinaryIO, NamedTuple

import numpy as np

from uatmc_jax.data.names import TITLES_FILE
from uatmc_jax.errors import InputError
from uatmc_jax.preparation.lines import Tally

_TITLE_CHARACTERS = 200
_RECORDS, _PLACES = "items.jsonl", "items.npy"


class Item(NamedTuple):
    """One item's record, each part on one line and "" where there is none.

    Attributes:
      title: shown to people.
      brand: shown to people.
      category: shown to people.
      text: what a text encoder reads.
      image: path of its image.
    """

    title: str
    brand: str
    category: str
    text: str
    image: str = ""


NO_ITEM = Item("", "", "", "")


class Catalogue(NamedTuple):
    """The gathered records, open for reading.

    Attributes:
      file: of the records.
      places: (n_items, 3) int64: where a record begins, its length, its row in
        the source; -1 where the source has no such item.
    """

    file: BinaryIO
    places: np.ndarray


def gather(
    records: Iterable[tuple[str, Item]], ids: dict[str, int], tally: Tally, folder: pathlib.Path
) -> dict:
    """Writes the records of the items that are left below `folder`.

    Args:
      records: (source's id, record), in the source's order.
      ids: {source's id: item id}.
      tally: of the source; counts rows.
      folder: of the unfinished work.

    Returns:
      Counts for the manifest.

    Raises:
      InputError: the source knows none of the items.
    """
    places = np.full((len(ids), 3), -1, np.int64)
    others = repeated = untitled = textless = 0
    with open(folder / _RECORDS, "wb") as file:
        for name, item in records:
            index = ids.get(name)
            if index is None:
                others += 1
            elif places[index, 0] >= 0:
                repeated += 1
            else:
                record = json.dumps(item).encode()
                places[index] = file.tell(), len(record), tally.records - 1
                file.write(record)
                untitled += not item.title
                textless += not item.text
    np.save(folder / _PLACES, places)
    without = int((places[:, 0] < 0).sum())
    if without == len(ids):
        raise InputError(
            f"{tally.file}: none of its {tally.records} items is one of the {len(ids)} with "
            "interactions. Check that the files belong together, and the columns of the ids."
        )
    return {
        "rows": tally.records,
        "of items not kept": others,
        "repeated": repeated,
        "items without a row": without,
        "items without a title": without + untitled,
        "items without a text": without + textless,
    }


def open_catalogue(folder: pathlib.Path) -> Catalogue:
    """Opens what `gather` wrote; close `file` after use."""
    return Catalogue(open(folder / _RECORDS, "rb"), np.load(folder / _PLACES))


def look_up(catalogue: Catalogue, index: int) -> Item:
    """One item's record; `NO_ITEM` where the source has none."""
    start, length, _ = map(int, catalogue.places[index])
    if start < 0:
        return NO_ITEM
    catalogue.file.seek(start)
    return Item(*json.loads(catalogue.file.read(length)))


def write_items(catalogue: Catalogue, folder: pathlib.Path) -> None:
    """Writes the table of all items, in the order of their ids."""
    with open(folder / TITLES_FILE, "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("itemID", "title", "brand", "category"))
        for index in range(len(catalogue.places)):
            title, *others, _, _ = look_up(catalogue, index)
            shown = (part[:_TITLE_CHARACTERS].strip() for part in (title, *others))
            table.writerow((index, *shown))
