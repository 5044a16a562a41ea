"""Items by the names their shop gives them (ASINs), and by their titles."""

import csv
import pathlib
import re

from uatmc_jax.errors import InputError

NAMES_FILE = "i_id_mapping.csv"
TITLES_FILE = "items.csv"


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
    try:
        with open(path, encoding="utf-8", newline="") as file:
            header = file.readline()
            rows = list(csv.reader(file, delimiter="\t" if "\t" in header else ","))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a UTF-8 table ({error}). Write it again.") from None
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


def load_item_titles(folder: str | pathlib.Path) -> dict[int, str]:
    """{item id: title} of a data set's folder, without items that have none.

    The file is `uatmc_jax.prepare`'s: comma-separated with a header, columns
    `itemID` and `title` among others. {} if there is no such file.

    Raises:
      InputError: a missing column, or a line that cannot be read.
    """
    path = pathlib.Path(folder) / TITLES_FILE
    if not path.is_file():
        return {}
    titles = {}
    try:
        with open(path, encoding="utf-8", newline="") as file:
            table = csv.DictReader(file)
            if not {"itemID", "title"} <= set(table.fieldnames or ()):
                raise InputError(
                    f"{path}: the header is {table.fieldnames}; wanted itemID and title."
                )
            for row in table:
                number, title = row["itemID"] or "", row["title"]
                if title is None or not re.fullmatch("[0-9]{1,10}", number):
                    raise InputError(
                        f"{path}, line {table.line_num}: {number!r} is not an item id with a "
                        "title. Mend the line."
                    )
                if title:
                    titles[int(number)] = title
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a UTF-8 CSV file ({error}). Write it again.") from None
    return titles
