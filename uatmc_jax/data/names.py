"""Items by the names their shop gives them (ASINs)."""

import csv
import pathlib

from uatmc_jax.errors import InputError

NAMES_FILE = "i_id_mapping.csv"


def load_item_names(folder: str | pathlib.Path) -> dict[str, int]:
    """{name: item id} of a data set's folder, in the file's order.

    The file is MMRec's: a header and two columns, `asin` and `itemID`, separated
    by tabs or commas.

    Raises:
      InputError: no such file, or a line that cannot be read.
    """
    path = pathlib.Path(folder) / NAMES_FILE
    if not path.is_file():
        raise InputError(f"{path}: no such file, so items have no names. Use item ids.")
    with open(path, encoding="utf-8", newline="") as file:
        header = file.readline()
        rows = list(csv.reader(file, delimiter="\t" if "\t" in header else ","))
    columns = [column.strip().lower() for column in header.replace(",", "\t").split("\t")]
    if "asin" not in columns or "itemid" not in columns:
        raise InputError(f"{path}: the header is {header.strip()!r}; wanted asin and itemID.")
    name, number = columns.index("asin"), columns.index("itemid")
    names = {}
    for line, row in enumerate(rows, start=2):
        if not row:
            continue
        try:
            names[row[name].strip()] = int(row[number])
        except (IndexError, ValueError):
            raise InputError(
                f"{path}, line {line}: {row!r} is not a name and an integer id. Mend the line."
            ) from None
    return names
