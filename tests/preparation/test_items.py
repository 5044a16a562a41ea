"""Titles by item id, read back from the table that the preparation writes."""

import pytest

from uatmc_jax.data import load_item_titles
from uatmc_jax.errors import InputError


def write(folder, content):
    (folder / "items.csv").write_bytes(content)
    return folder


def test_no_table_no_titles(tmp_path):
    assert load_item_titles(tmp_path) == {}


def test_titles_with_commas_quotes_and_gaps(tmp_path):
    content = 'brand,itemID,title\nx,0,"a, ""b"""\nx,1,\nx,2,ünï\n'.encode()
    assert load_item_titles(write(tmp_path, content)) == {0: 'a, "b"', 2: "ünï"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "wanted itemID and title"),
        (b"id,title\n", "wanted itemID and title"),
        (b"itemID,title\n0,a\nx,b\n", "line 3: 'x' is not an item id"),
        (b"itemID,title\n0\n", "line 2: '0' is not an item id"),
        (b"title,itemID\na\n", "line 2: '' is not an item id"),
        (b"itemID,title\n0,\xff\n", "line 2: not UTF-8 text; perhaps Latin-1"),
        (b"itemID,title\n0," + b"x" * 200_000, "not a CSV file"),
    ],
)
def test_bad_tables_are_named(tmp_path, content, message):
    with pytest.raises(InputError, match=r"items\.csv") as caught:
        load_item_titles(write(tmp_path, content))
    assert message in str(caught.value)
