"""Items by id, title or number: what is read, what a text names, what is refused."""

import dataclasses
import pathlib
import tempfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uatmc_jax.data import (
    ItemNames,
    load_dataset,
    load_item_names,
    load_names,
    resolve_items,
    write_dataset,
)
from uatmc_jax.data.ids import canonical
from uatmc_jax.data.names import write_names
from uatmc_jax.errors import InputError

# A shop whose ids are numbers, and none of them the item's own.
SHOP = ItemNames(
    {0: "330", 1: "0", 2: "B00X", 3: "3,5", 4: "1", 99: "B00Z"},
    {0: "Mug", 1: "Soap, red", 2: "Spoon", 3: "Spoon", 5: "SALT", 6: "Salt", 7: "Tea"},
)


def resolved(*texts, names=SHOP, n_items=10):
    return resolve_items(names, texts, n_items).tolist()


@pytest.mark.parametrize(
    ("texts", "items"),
    [
        (["330"], [0]),
        (["1"], [4]),  # an id, not item 1
        (["0", "1"], [1, 4]),
        ([" 330 ", "#2"], [0, 2]),
        (["Mug"], [0]),
        (["mUG"], [0]),
        (["Salt", "SALT"], [6, 5]),  # exact before any case
        (["3,5"], [3]),  # an id with a comma
        (["Soap, red"], [1]),
        (["soap, RED"], [1]),
        (["330,Tea"], [0, 7]),
        (["330, Tea ,#9"], [0, 7, 9]),
        (['330,"Soap, red"'], [0, 1]),
        (['"Mug"'], [0]),
        (["Tea", "330,#8"], [7, 0, 8]),
        (["#0"], [0]),
    ],
)
def test_what_texts_name(texts, items):
    assert resolved(*texts) == items


def test_ids_come_before_titles_and_both_before_numbers():
    names = ItemNames({0: "#3", 1: "Mug"}, {2: "Mug", 4: "#5"})
    assert resolved("#3", "Mug", "#5", "#2", names=names) == [0, 1, 4, 2]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["2"], "item '2': no item has this id or title. Write '#2' for the internal number."),
        (
            [330],
            "item 330: a number alone does not say whose. Write the shop's id in quotes, '330'",
        ),
        (["2000"], "no item has this id or title. Internal numbers have a #: the items are #0"),
        (["#10"], "item '#10': no such number; the items are #0 to #9"),
        (["#99999999999"], "no item has this id"),
        (["#-1"], "no item has this id or title. Internal numbers have a #: the items are #0 to"),
        (["B00Z"], "item 'B00Z': i_id_mapping.csv says item 99, but the items are #0 to #9"),
        (["Spoon"], "2 items have this title: B00X (#2), 3,5 (#3). Name one by its id or #number"),
        (["salt"], "2 items have this title: no id (#5), no id (#6)"),
        (["B00Y"], "item 'B00Y': no item has this id or title. Did you mean 'B00X'"),
        (["Soap, rad"], "item 'Soap': no item has this id or title. Did you mean 'Soap, red'?"),
        (["spon"], "Did you mean 'Spoon'?"),
        (["Mug", "#0"], "item '#0': is item #0, which 'Mug' names already. Name each item once."),
        (["Mug,Mug"], "item 'Mug': is item #0, which 'Mug' names already"),
        (["Mug,"], "item 'Mug,': an empty name. Leave the comma out."),
        ([""], "item '': an empty name"),
        (['"Mug\nTea'], "no item has this id or title"),
    ],
)
def test_what_names_nothing_is_refused_with_a_remedy(texts, message):
    with pytest.raises(InputError) as caught:
        resolved(*texts)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("3", "neither i_id_mapping.csv nor items.csv, so no names. Write '#3' for the internal"),
        ("330", "so no names. Items go by number: the items are #0 to #9."),
        ("B00X", "so no names. Items go by number: the items are #0 to #9."),
    ],
)
def test_a_bare_number_is_never_an_internal_one(text, message):
    with pytest.raises(InputError, match=message):
        resolved(text, names=ItemNames())
    assert resolved("#3", names=ItemNames()) == [3]


TEXTS = st.one_of(st.text(max_size=8), st.from_regex(r"#?[0-9]{1,3}", fullmatch=True))


@given(
    st.dictionaries(st.integers(0, 12), TEXTS, max_size=6),
    st.dictionaries(st.integers(0, 12), TEXTS, max_size=6),
    st.lists(TEXTS, max_size=4),
)
def test_any_text_is_an_item_or_refused(ids, titles, texts):
    try:
        items = resolve_items(ItemNames(ids, titles), texts, 10)
    except InputError:
        return
    assert items.dtype == np.int32 and len(set(items.tolist())) == len(items) >= len(texts)
    assert all(0 <= item < 10 for item in items)


def one_form(text):
    """An id as it is compared; "" for one that has no form."""
    try:
        return canonical(text) or ""
    except ValueError:
        return ""


@given(
    st.lists(
        st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=12).map(one_form),
        min_size=1,
        max_size=8,
        unique=True,
    ).filter(all)
)
def test_every_id_written_is_read_and_names_its_item(ids):
    names = ItemNames(dict(enumerate(reversed(ids))), {0: "Mug"})
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder)
        write_names(names, path)
        assert load_names(path) == names
    for item, text in names.ids.items():
        assert resolve_items(names, [text], len(ids)).tolist() == [item]


def test_names_travel_with_the_data_and_change_no_number(dataset, tmp_path):
    named = dataclasses.replace(dataset, names=ItemNames({0: "7", 3: "B,3"}, {3: 'a "b",\nc'}))
    assert dataset.names == ItemNames() and named.fingerprint == dataset.fingerprint
    write_dataset(named, tmp_path / "named")
    read = load_dataset(tmp_path / "named", named.name)
    assert read.names == named.names and read.fingerprint == dataset.fingerprint
    write_dataset(dataset, tmp_path / "plain")
    assert load_dataset(tmp_path / "plain", dataset.name).names == ItemNames()
    assert not list((tmp_path / "plain").glob("*.csv"))


@pytest.mark.parametrize("file", ["i_id_mapping.csv", "items.csv"])
def test_a_damaged_file_of_names_is_one_error(file, dataset, tmp_path):
    write_dataset(dataset, tmp_path)
    (tmp_path / file).write_text("x\n")
    with pytest.raises(InputError, match=file):
        load_dataset(tmp_path, dataset.name)


@pytest.mark.parametrize("separator", ["\t", ","])
def test_names_file(tmp_path, separator):
    rows = [("asin", "itemID"), ("B00X", 0), ("0000000012", 1), ("B00X", 0)]
    text = "".join(separator.join(map(str, row)) + "\n" for row in rows)
    (tmp_path / "i_id_mapping.csv").write_text(text)
    assert load_item_names(tmp_path) == {"B00X": 0, "0000000012": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "i_id_mapping.csv: no such file"),
        ("name\tnumber\nB\t0\n", "wanted asin and itemID"),
        ("asin\titemID\nB\tx\n", "line 2"),
        ("asin\titemID\nB\n", "line 2"),
        ("asin\titemID\nB\t0\nB\t1\n", "line 3: 'B' is item 1, but another line gives"),
        ("asin\titemID\nB\t0\nC\t0\n", "line 3: 'C' is item 0, but another line gives"),
    ],
)
def test_bad_names_file(tmp_path, text, message):
    if text is not None:
        (tmp_path / "i_id_mapping.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        load_item_names(tmp_path)


def test_the_case_study_item_is_known(real_data):
    names = load_item_names(real_data / "baby")
    assert 0 <= names["B004203QQ4"] < 7050
