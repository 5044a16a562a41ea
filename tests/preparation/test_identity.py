"""An id is one id, in whichever table, file name or mapping, and however it is written there."""

import json
import unicodedata

import pandas as pd

from tests.preparation.sources import prepare
from tests.preparation.test_generic import clicks, read_inter, run
from uatmc_jax.data import load_names, resolve_items


def test_guests_are_nobody(tmp_path):
    """Purchases without a customer's id are not all of one customer."""
    frame = clicks()
    frame["who"] = frame["who"].astype(object)
    words = ["NULL", "None", "nan", "\\N", "", " null ", "N/A", "undefined", "--"]
    guests = frame.index[: 7 * len(words)]
    frame.loc[guests, "who"] = words * 7
    run(tmp_path, interactions=frame, items=False)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["interactions"]["dropped"]["without user"] == len(guests)
    users = pd.read_csv(tmp_path / "out" / "u_id_mapping.csv", sep="\t")["user_id"]
    assert users.str.startswith("user ").all()


def test_a_user_who_may_be_everyone_is_told(tmp_path, capsys):
    """A word for guests that no list has: seen by what they have bought."""
    frame = clicks()
    guests = pd.DataFrame({"who": "shop front", "what": range(150)})
    frame = pd.concat([frame[["who", "what"]], guests], ignore_index=True)
    assert run(tmp_path, "csv", "--core", "1", interactions=frame, items=False) == 0
    assert "interactions of user 'shop front', ten times as many as the next: 150 of" in (
        capsys.readouterr().err
    )


def test_whole_floats_and_composed_letters_are_what_they_mean(tmp_path):
    """Items as pandas writes them where one was missing, and names as two systems write them."""
    frame = clicks()
    people = [f"Zoë {name}" for name in frame["who"]]
    forms = ("NFC", "NFD")
    frame["who"] = [unicodedata.normalize(forms[n % 2], name) for n, name in enumerate(people)]
    frame["what"] = [f"{item}.0" if n % 2 else item for n, item in enumerate(frame["what"])]
    assert run(tmp_path, "csv", "--max-lost", "1", interactions=frame) == 0
    (tmp_path / "plain").mkdir()
    run(tmp_path / "plain")
    mine, theirs = read_inter(tmp_path), read_inter(tmp_path / "plain")
    assert mine.equals(theirs)
    names = load_names(tmp_path / "out")
    assert set(names.ids.values()) <= {str(n) for n in range(100, 120)}
    first = names.ids[0]
    assert resolve_items(names, [f"{first}.0"], len(names.ids)).tolist() == [0]


def test_an_image_is_found_by_its_items_id_however_its_name_is_composed(tmp_path):
    from uatmc_jax.preparation.images import by_id

    composed = "Café"
    (tmp_path / f"{unicodedata.normalize('NFD', composed)}.jpg").touch()
    (tmp_path / "12.0.png").touch()
    found = by_id(tmp_path, [composed, "12", "13"])
    assert found[0].endswith(".jpg") and found[1:] == ["12.0.png", None]


def test_a_float_that_has_lost_digits_is_counted_and_named(tmp_path):
    frame = clicks()
    frame["what"] = frame["what"].astype(object)
    frame.loc[0, "what"] = "90071992547409931.0"
    source = tmp_path / "clicks.csv"
    frame.to_csv(source, index=False)
    columns = ("--user-column", "who", "--item-column", "what")
    assert prepare("generic", *columns, "--interactions", source, "--out", tmp_path / "out") == 0
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["sources"]["interactions"]["malformed"] == 1
    told = "".join(path.read_text() for path in (tmp_path / "out").glob("malformed*"))
    assert "lost digits" in told
