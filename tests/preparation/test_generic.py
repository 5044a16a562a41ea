"""Tables of any shop, CSV and Parquet, against pandas."""

import csv
import gzip
import json

import numpy as np
import pandas as pd
import pytest

from tests.preparation.sources import prepare, tree
from uatmc_jax.data import load_dataset, load_item_names, load_item_titles

N_ITEMS = 20


def clicks(seed=0):
    rng = np.random.default_rng(seed)
    n = 400
    return pd.DataFrame(
        {
            "when": pd.to_datetime(rng.integers(1_500_000_000, 1_600_000_000, n), unit="s"),
            "who": [f"user {u}" for u in rng.integers(0, 30, n)],
            "what": rng.integers(100, 100 + N_ITEMS, n),
            "stars": rng.integers(1, 11, n) / 2,
        }
    )


def catalogue():
    return pd.DataFrame(
        {
            "sku": range(100 + N_ITEMS, 99, -1),
            "name": [f"Thing, no.\n{n}" if n % 5 else "" for n in range(N_ITEMS + 1)],
            "maker": [f"Möbel {n % 3}" for n in range(N_ITEMS + 1)],
            "kind": "chair",
            "blurb": [f'said "{n}"' for n in range(N_ITEMS + 1)],
        }
    )


INTERACTIONS = ("--user-column", "who", "--item-column", "what")
ITEMS = ("--id-column", "sku", "--title-column", "name", "--brand-column", "maker")


def write(folder, ending, frame, name):
    path = folder / f"{name}.{ending}"
    if ending == "parquet":
        pytest.importorskip("pyarrow", reason="Parquet needs the extra parquet")
        frame.to_parquet(path)
    elif ending == "csv.gz":
        path.write_bytes(gzip.compress(frame.to_csv(index=False).encode(), mtime=0))
    elif ending == "tsv":
        # Quotes are text there, so a cell has neither tabs nor newlines.
        frame = frame.replace("\n", " ", regex=True)
        frame.to_csv(path, index=False, sep="\t", quoting=csv.QUOTE_NONE)
    elif ending == "jsonl":
        frame.to_json(path, orient="records", lines=True, date_format="iso")
    else:
        frame.to_csv(path, index=False)
    return path


def run(folder, ending="csv", *more, interactions=None, items=None):
    arguments = ["generic", *INTERACTIONS, "--out", folder / "out", "--name", "shop"]
    frame = clicks() if interactions is None else interactions
    arguments += ["--interactions", write(folder, ending, frame, "clicks")]
    if items is not False:
        frame = catalogue() if items is None else items
        arguments += [*ITEMS, "--items", write(folder, ending, frame, "things")]
    return prepare(*arguments, *more)


def read_inter(folder):
    return pd.read_csv(folder / "out" / "shop.inter", sep="\t")


def oracle(frame, columns, k=5):
    frame = frame.drop_duplicates(["who", "what"]).reset_index(drop=True)
    while True:
        users = frame["who"].map(frame["who"].value_counts())
        items = frame["what"].map(frame["what"].value_counts())
        if ((users >= k) & (items >= k)).all():
            break
        frame = frame[(users >= k) & (items >= k)]
    frame = frame.assign(
        userID=pd.factorize(frame["who"])[0], itemID=pd.factorize(frame["what"])[0]
    )
    return frame.sort_values("userID", kind="stable")[["userID", "itemID", *columns]]


@pytest.mark.parametrize("ending", ["csv", "tsv", "csv.gz", "jsonl", "parquet"])
def test_every_kind_of_table_equals_pandas(tmp_path, ending):
    assert run(tmp_path, ending, "--time-column", "when", "--rating-column", "stars") == 0
    expected = oracle(clicks(), ["stars", "when"])
    found = read_inter(tmp_path)
    assert found[["userID", "itemID"]].to_numpy().tolist() == (
        expected[["userID", "itemID"]].to_numpy().tolist()
    )
    assert found["rating"].tolist() == expected["stars"].tolist()
    seconds = (expected["when"] - pd.Timestamp(0)) // pd.Timedelta(seconds=1)
    assert found["timestamp"].tolist() == seconds.tolist()
    out = tmp_path / "out"
    names = load_item_names(out)
    items = catalogue().set_index("sku")
    titles = {
        index: " ".join(items.loc[int(name), "name"].split()) for name, index in names.items()
    }
    assert load_item_titles(out) == {index: title for index, title in titles.items() if title}
    load_dataset(out, "shop", ())


def test_columns_that_are_not_asked_for_are_not_written(tmp_path):
    assert run(tmp_path, items=False) == 0
    assert list(read_inter(tmp_path)) == ["userID", "itemID", "x_label"]
    assert load_item_titles(tmp_path / "out") == {}
    assert set(tree(tmp_path / "out")) == {
        "shop.inter",
        "shop.train.npy",
        "shop.valid.npy",
        "shop.test.npy",
        "i_id_mapping.csv",
        "u_id_mapping.csv",
        "manifest.json",
    }


def test_given_splits_are_kept(tmp_path):
    frame = clicks().drop_duplicates(["who", "what"]).reset_index(drop=True)
    frame["part"] = [("train", "0", "Valid", "1", "test", "2")[n % 6] for n in frame.index]
    columns = ("--split-column", "part", "--core", "0")
    assert run(tmp_path, "csv", *columns, interactions=frame, items=False) == 0
    expected = oracle(frame, ["part"], 0)["part"].str.lower()
    numbers = {"train": 0, "0": 0, "valid": 1, "1": 1, "test": 2, "2": 2}
    assert read_inter(tmp_path)["x_label"].tolist() == expected.map(numbers).tolist()
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["split"]["rule"] == "as given"


@pytest.mark.parametrize(
    ("cell", "time"),
    [
        ("1500000000", "1500000000"),
        ("1500000000.5", "1500000000.5"),
        ("2017-07-14T02:40:00Z", "1500000000"),
        ("2017-07-14 04:40:00+02:00", "1500000000"),
        ("2017-07-14", "1499990400"),
    ],
)
def test_times(tmp_path, cell, time):
    assert (
        run(tmp_path, "csv", "--time-column", "when", interactions=clicks().assign(when=cell)) == 0
    )
    cells = (tmp_path / "out" / "shop.inter").read_text().splitlines()[1].split("\t")
    assert cells[2] == time


def test_bad_rows_are_counted_by_reason(tmp_path):
    path = write(tmp_path, "csv", clicks(), "clicks")
    bad = [
        b"2020-01-01,user 1,101",
        b"soon,user 1,101,2",
        b"2020-01-01,us\xffer,101,2",
        b"2020-01-01,user 1,101,many",
        b"1e300,user 1,101,2",
        b"2020-01-01,user 1,1\x0001,2",
        b'2020-01-01,"' + b"x" * 200_000 + b'",101,2',
    ]
    absent = [b",user 1,101,2", b"2020-01-01,,101,2", b"2020-01-01,user 1, ,2"]
    path.write_bytes(path.read_bytes() + b"\n".join([*bad, *absent]) + b"\n")
    columns = ("--time-column", "when", "--rating-column", "stars", "--max-malformed", "0.02")
    sources = ("--interactions", path, *INTERACTIONS, "--out", tmp_path / "out")
    assert prepare("generic", *sources, *columns, "--name", "shop") == 0
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["sources"]["interactions"]["malformed"] == len(bad)
    dropped = manifest["interactions"]["dropped"]
    assert [dropped[f"without {what}"] for what in ("time", "user", "item")] == [1, 1, 1]
    log = (tmp_path / "out" / "malformed.log").read_text().splitlines()
    assert len(log) == len(bad)
    assert "clicks.csv, line 402: 3 cells under a header of 4" in log[0]
    assert read_inter(tmp_path)["itemID"].tolist() == oracle(clicks(), [])["itemID"].tolist()


def test_features_follow_the_rows_of_the_items(tmp_path):
    matrix = np.random.default_rng(0).normal(size=(N_ITEMS + 1, 3)).astype(np.float32)
    np.save(tmp_path / "image.npy", matrix)
    np.save(tmp_path / "text.npy", matrix[:, :2].astype(np.float16))
    features = (
        "--image-features",
        tmp_path / "image.npy",
        "--text-features",
        tmp_path / "text.npy",
    )
    assert run(tmp_path, "csv", *features) == 0
    rows = {str(sku): row for row, sku in enumerate(catalogue()["sku"])}
    order = [rows[name] for name in load_item_names(tmp_path / "out")]
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "image_feat.npy"), matrix[order])
    half = matrix[order, :2].astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "text_feat.npy"), half)
    load_dataset(tmp_path / "out", "shop")


MISTAKES = {
    "no such column": (["--user-column", "whom"], "0 columns are named 'whom'"),
    "no such item column": (["--brand-column", "x"], "things.csv: 0 columns are named 'x'"),
    "wrong id column": (["--id-column", "kind"], "none of its 21 items is one of the 20"),
    "wrong delimiter": (["--delimiter", ";"], "0 columns are named 'who'"),
    "long delimiter": (["--delimiter", "ab"], "'ab' is not one character"),
    "empty column": (["--user-column", ""], "is empty or has control characters"),
    "time is text": (["--time-column", "who"], "the time is neither a number"),
    "split is text": (["--split-column", "who"], "the split is none of 0, 1, 2, train"),
    "images alone": (["--images", "."], "--images and --image-encoder need each other"),
    "no images": (["--images", "x", "--image-encoder", "m"], "--images x: no such folder"),
    "image column alone": (["--image-column", "kind"], "--image-column needs the images' folder"),
    "share": (["--max-malformed", "2"], "'2' is not between 0 and 1"),
    "seed": (["--seed", "-1"], "'-1' is not an integer from 0 on"),
    "path": (["--items", "a\nb"], "control characters"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_say_why_and_leave_nothing(tmp_path, capsys, case):
    more, message = MISTAKES[case]
    assert run(tmp_path, "csv", *more) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("error: ") and error.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} <= {"clicks.csv", "things.csv"}


def test_what_needs_the_items_table_says_so(tmp_path, capsys):
    assert run(tmp_path, "csv", "--title-column", "name", items=False) == 2
    assert "--title-column needs the items' table" in capsys.readouterr().err


def test_an_unknown_ending_asks_for_the_delimiter(tmp_path, capsys):
    clicks().to_csv(tmp_path / "clicks.dat", index=False, sep="|")
    arguments = ["--interactions", tmp_path / "clicks.dat", *INTERACTIONS]
    arguments += ["--out", tmp_path / "out"]
    assert prepare("generic", *arguments) == 2
    assert "Say what separates its cells with --delimiter" in capsys.readouterr().err
    assert prepare("generic", *arguments, "--delimiter", "|") == 0


def test_a_broken_parquet_file(tmp_path, capsys):
    path = write(tmp_path, "parquet", clicks(), "clicks")
    path.write_bytes(path.read_bytes()[:-20])
    arguments = ("--interactions", path, *INTERACTIONS, "--out", tmp_path / "out")
    assert prepare("generic", *arguments) == 2
    assert "clicks.parquet: not readable as Parquet" in capsys.readouterr().err


def test_too_little_to_split(tmp_path, capsys):
    frame = pd.DataFrame({"who": ["a", "a", "b"], "what": ["x", "y", "x"]})
    assert run(tmp_path, "csv", "--core", "1", interactions=frame, items=False) == 2
    assert "no valid interaction" in capsys.readouterr().err


@pytest.mark.parametrize("command", [[], ["amazon2014"], ["generic"]])
def test_help_fits_a_screen_and_shows_an_example(monkeypatch, capsys, command):
    monkeypatch.setenv("COLUMNS", "80")
    assert prepare(*command, "--help") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 40 and max(map(len, lines)) <= 90
    assert "example:" in lines


def test_a_wrong_column_is_told_before_a_model_is_loaded(tmp_path, capsys, monkeypatch):
    def load(*_):
        raise AssertionError("a model was loaded first")

    monkeypatch.setattr("uatmc_jax.preparation.encoders.text_encoder", load)
    wrong = ("--text-encoder", "any", "--text-columns", "nothing")
    assert run(tmp_path, "csv", *wrong, items=catalogue()) == 2
    assert "nothing" in capsys.readouterr().err and not (tmp_path / "out").exists()
