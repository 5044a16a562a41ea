"""The Amazon recipe on raw files, against pandas."""

import csv
import hashlib
import html
import json

import numpy as np
import pandas as pd
import pytest

from tests.preparation import sources
from tests.preparation.sources import amazon_arguments, asin, prepare, tree, write
from uatmc_jax.data import load_dataset, load_item_names, load_item_titles


def oracle(entries, k=5):
    """MMRec's recipe, as pandas says it."""
    frame = pd.DataFrame(entries)[["reviewerID", "asin", "overall", "unixReviewTime"]]
    frame = frame.dropna(subset=["reviewerID", "asin", "unixReviewTime"])
    frame = frame.drop_duplicates(["reviewerID", "asin", "unixReviewTime"])
    frame = frame.drop_duplicates(["reviewerID", "asin"])
    while True:
        users = frame.groupby("reviewerID")["asin"].transform("size")
        items = frame.groupby("asin")["reviewerID"].transform("size")
        kept = frame[(users >= k) & (items >= k)]
        if len(kept) == len(frame):
            break
        frame = kept
    frame["userID"], users = pd.factorize(frame["reviewerID"])
    frame["itemID"], items = pd.factorize(frame["asin"])
    return frame.sort_values("userID", kind="stable").reset_index(drop=True), users, items


def read_inter(out):
    return pd.read_csv(out / "toys.inter", sep="\t")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("amazon")
    assert prepare(*amazon_arguments(folder / "raw", folder / "out")) == 0
    return folder / "out"


def test_interactions_equal_pandas(prepared):
    expected, users, items = oracle(sources.reviews())
    found = read_inter(prepared)
    assert list(found) == ["userID", "itemID", "rating", "timestamp", "x_label"]
    for ours, theirs in (("rating", "overall"), ("timestamp", "unixReviewTime")):
        assert found[ours].tolist() == expected[theirs].tolist()
    assert found[["userID", "itemID"]].equals(expected[["userID", "itemID"]])
    assert list(load_item_names(prepared)) == list(items)
    names = pd.read_csv(prepared / "u_id_mapping.csv", sep="\t")
    assert names["user_id"].tolist() == list(users)
    assert names["userID"].tolist() == list(range(len(users)))


def test_splits_have_the_published_shares(prepared):
    counts = read_inter(prepared).groupby("userID")["x_label"].value_counts().unstack(fill_value=0)
    n = counts.sum(axis=1)
    held = n // 5
    test = (held // 2).where(n >= 10, 1)
    valid = (held - held // 2).where(n >= 10, 1)
    assert counts[2].tolist() == test.tolist() and counts[1].tolist() == valid.tolist()
    assert (n >= 10).any() and (n < 10).any()


def test_missing_metadata_and_images(prepared):
    names = load_item_names(prepared)
    entries = {entry["asin"]: entry for entry in sources.meta()}
    titles = {
        names[name]: " ".join(html.unescape(entry["title"]).split())[:200].strip()
        for name, entry in entries.items()
        if "title" in entry and name in names
    }
    assert load_item_titles(prepared) == titles
    with open(prepared / "items.csv", encoding="utf-8", newline="") as file:
        table = list(csv.reader(file))
    assert table[0] == ["itemID", "title", "brand", "category"]
    assert [int(row[0]) for row in table[1:]] == list(range(len(names)))
    for name, index in names.items():
        entry = entries.get(name, {})
        path = entry.get("categories", [[]])[0]
        assert table[index + 1][2:] == [entry.get("brand", ""), " > ".join(path)]
    records = np.frombuffer(
        sources.image_records(range(20)), np.dtype([("asin", "S10"), ("x", "<f4", (4096,))])
    )
    given = {record["asin"].decode(): record["x"] for record in records}
    present = [given[name] for name in names if name in given]
    mean = np.mean(present, axis=0, dtype=np.float64).astype(np.float32)
    features = np.load(prepared / "image_feat.npy")
    assert features.dtype == np.float32 and len(present) < len(names)
    for name, index in names.items():
        if name in given:
            np.testing.assert_array_equal(features[index], given[name])
        else:
            np.testing.assert_allclose(features[index], mean, rtol=1e-6)


def test_the_data_set_loads(prepared):
    dataset = load_dataset(prepared, "toys", ("visual:image_feat.npy",))
    assert sum(len(dataset.split(s)) for s in ("train", "valid", "test")) == len(
        read_inter(prepared)
    )


def test_the_manifest_accounts_for_every_row_and_file(prepared):
    manifest = json.loads((prepared / "manifest.json").read_text())
    interactions = manifest["interactions"]
    assert interactions["read"] == 500 == manifest["sources"]["reviews"]["records"]
    kept = interactions["kept"]["interactions"]
    assert interactions["read"] - sum(interactions["dropped"].values()) == kept
    assert sum(manifest["split"][name] for name in ("train", "valid", "test")) == kept
    frame = pd.DataFrame(sources.reviews())
    keys = ["reviewerID", "asin", "unixReviewTime"]
    triples = frame.duplicated(keys).sum()
    assert interactions["dropped"]["same user, item and time"] == triples
    pairs = frame.drop_duplicates(keys).duplicated(keys[:2]).sum()
    assert interactions["dropped"]["same user and item"] == pairs
    hashes = {
        name: hashlib.sha256(content).hexdigest()
        for name, content in tree(prepared).items()
        if name != "manifest.json"
    }
    assert {name: entry["sha256"] for name, entry in manifest["files"].items()} == hashes
    raw = prepared.parent / "raw"
    for source in manifest["sources"].values():
        content = (raw / source["file"]).read_bytes()
        assert source["sha256"] == hashlib.sha256(content).hexdigest()
    assert manifest["items"]["items without a row"] == 2
    assert manifest["features"]["image"]["items without"] == 5


def test_twice_is_byte_identical_and_the_seed_moves_only_labels(prepared, tmp_path):
    assert prepare(*amazon_arguments(tmp_path / "raw", tmp_path / "again")) == 0
    assert tree(tmp_path / "again") == tree(prepared)
    assert prepare(*amazon_arguments(tmp_path / "raw", tmp_path / "other", "--seed", 1)) == 0
    ours, other = read_inter(prepared), read_inter(tmp_path / "other")
    assert ours.drop(columns="x_label").equals(other.drop(columns="x_label"))
    assert not ours["x_label"].equals(other["x_label"])


def test_the_published_split_of_baby_has_our_sizes(real_data, tmp_path):
    """Each user's share of the three splits, on the real interactions."""
    published = pd.read_csv(real_data / "baby" / "baby.inter", sep="\t")
    entries = [
        {"reviewerID": f"U{user}", "asin": f"B{item}", "overall": 5.0, "unixReviewTime": 1}
        for user, item in zip(published["userID"], published["itemID"], strict=True)
    ]
    write(tmp_path / "reviews", sources.json_lines(entries))
    write(tmp_path / "meta", b"{'asin': 'B0'}\n")
    arguments = ("--reviews", tmp_path / "reviews", "--meta", tmp_path / "meta")
    arguments += ("--max-lost", "1")  # no item has a title
    assert prepare("amazon2014", *arguments, "--name", "toys", "--out", tmp_path / "out") == 0
    ours = read_inter(tmp_path / "out")
    assert len(ours) == 160_792 and ours["itemID"].nunique() == 7_050
    sizes = [frame.groupby(["userID", "x_label"]).size() for frame in (ours, published)]
    assert sizes[0].equals(sizes[1])


def test_plain_files_give_the_same_data(prepared, tmp_path):
    assert prepare(*amazon_arguments(tmp_path / "raw", tmp_path / "out", packed=False)) == 0
    ours, theirs = tree(tmp_path / "out"), tree(prepared)
    assert ours.pop("manifest.json") != theirs.pop("manifest.json")
    assert ours == theirs


@pytest.mark.parametrize("core", [0, 2, 3, 7])
def test_other_cores_equal_pandas(tmp_path, core):
    assert prepare(*amazon_arguments(tmp_path / "raw", tmp_path / "out", "--core", core)) == 0
    expected, _, items = oracle(sources.reviews(), core)
    found = read_inter(tmp_path / "out")
    assert found[["userID", "itemID"]].equals(expected[["userID", "itemID"]])
    assert list(load_item_names(tmp_path / "out")) == list(items)


def test_bad_lines_are_dropped_counted_and_logged(tmp_path):
    good = sources.reviews()
    bad = [
        b"",
        b"{'reviewerID': 'U', 'asin': 'B', 'unixReviewTime': 1}",
        b"[1, 2]",
        b'{"reviewerID": "\xff"}',
        b'{"reviewerID": "U", "asin": "B", "unixReviewTime": "yesterday"}',
        b'{"reviewerID": "U", "asin": "B", "unixReviewTime": NaN}',
        b'{"reviewerID": "U", "asin": "B", "unixReviewTime": 1, "overall": "five"}',
        b'{"reviewerID": ["U"], "asin": "B", "unixReviewTime": 1}',
        b"[" * 100_000,
    ]
    absent = [
        b'{"asin": "B", "unixReviewTime": 1}',
        b'{"reviewerID": "U", "asin": null, "unixReviewTime": 1}',
        b'{"reviewerID": "U", "asin": "B"}',
    ]
    lines = sources.json_lines(good).split(b"\n")
    content = b"\n".join(lines[:100] + bad + lines[100:200] + absent + lines[200:])
    arguments = amazon_arguments(tmp_path / "raw", tmp_path / "out", "--max-malformed", "0.02")
    write(tmp_path / "raw" / "reviews.json.gz", content)
    assert prepare(*arguments) == 0
    expected, _, _ = oracle(good)
    assert read_inter(tmp_path / "out")["itemID"].tolist() == expected["itemID"].tolist()
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    counts = manifest["sources"]["reviews"]
    assert (counts["records"], counts["blank"], counts["malformed"]) == (511, 1, 8)
    dropped = manifest["interactions"]["dropped"]
    assert [dropped[f"without {what}"] for what in ("user", "item", "time")] == [1, 1, 1]
    log = (tmp_path / "out" / "malformed.log").read_text().splitlines()
    assert len(log) == 8
    assert log[0].startswith("reviews.json.gz, line 102: not JSON: \"{'reviewerID': 'U'")
    assert max(map(len, log)) < 300


def test_python_literals_are_read_and_never_run(tmp_path):
    hostile = f"__import__('pathlib').Path({str(tmp_path / 'run')!r}).touch()"
    lines = [
        hostile,
        f"{{'asin': {hostile}}}",
        "{'asin': 'B' * 1000000000}",
        "{[]: 1}",
        "(" * 50_000,
        "{'asin': " + "-" * 200_000 + "1}",
        "'" * (2 << 20),
    ]
    content = sources.literal_lines(sources.meta()) + "\n".join(lines).encode()
    arguments = amazon_arguments(tmp_path / "raw", tmp_path / "out", "--max-malformed", "0.4")
    write(tmp_path / "raw" / "meta.json.gz", content)
    assert prepare(*arguments) == 0
    assert not (tmp_path / "run").exists()
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["sources"]["meta"]["malformed"] == len(lines)


IMAGES = sources.image_records(range(20))
NAN = b"B000000003" + b"\xff\xff\xff\x7f" * 4096

FAILURES = {
    "all reviews malformed": (
        {"reviews.json": b"no\n" * 20},
        [],
        "reviews.json: 20 of 20 records are malformed",
    ),
    "no core": ({}, ["--core", "99"], "their 99-core is empty. Lower --core"),
    "reviews empty": ({"reviews.json": b""}, [], "reviews.json: holds no records"),
    "meta of another shop": (
        {"meta.json": b"{'asin': 'Z'}\n"},
        [],
        "meta.json: none of its 1 items is one of the 25",
    ),
    "image file cut": ({"image.b": IMAGES[:-1]}, [], "image.b: 327879 bytes are not a whole"),
    "images of another shop": (
        {"image.b": sources.image_records(range(900, 903))},
        [],
        "image.b: no record of any item left",
    ),
    "images not finite": (
        {"image.b": NAN + IMAGES},
        ["--max-malformed", "0.01"],
        "image.b: 1 of 21 records are malformed",
    ),
    "reviews missing": ({}, ["--reviews", "nowhere.gz"], "--reviews nowhere.gz: no such file"),
    "text features malformed": (
        {"text.npy": b"PK\3\4 no"},
        ["--text-features", "RAW/text.npy"],
        "text.npy: not a readable .npy matrix",
    ),
    "both texts": (
        {"text.npy": b""},
        ["--text-features", "RAW/text.npy", "--text-encoder", "m"],
        "--text-encoder and --text-features exclude each other",
    ),
    "name": ({}, ["--name", "a/b"], "--name: 'a/b' is not letters"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_failures_say_why_and_leave_nothing(tmp_path, capsys, case):
    files, more, message = FAILURES[case]
    raw, out = tmp_path / "raw", tmp_path / "out"
    more = [value.replace("RAW", str(raw)) for value in more]
    arguments = amazon_arguments(raw, out, *more, packed=False)
    for name, content in files.items():
        write(raw / name, content)
    assert prepare(*arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("error: ") and error.count("\n") == 1
    assert not out.exists()


def test_a_packed_image_file_that_ends_within_a_record(tmp_path, capsys):
    arguments = amazon_arguments(tmp_path / "raw", tmp_path / "out")
    write(tmp_path / "raw" / "image.b.gz", IMAGES[:-5])
    assert prepare(*arguments) == 2
    assert "ends within record 20: truncated" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_given_text_features_follow_the_metadata_rows(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    arguments = amazon_arguments(raw, out, "--text-features", raw / "text.npy")
    matrix = np.random.default_rng(0).normal(size=(23, 6))
    np.save(raw / "text.npy", matrix)
    assert prepare(*arguments) == 0
    features, names = np.load(out / "text_feat.npy"), load_item_names(out)
    used = [names[asin(row)] for row in range(23)]
    np.testing.assert_array_equal(features[used], matrix.astype(np.float32))
    others = [names[asin(row)] for row in (23, 24)]
    np.testing.assert_allclose(features[others], [matrix.mean(axis=0)] * 2, rtol=1e-5)
    load_dataset(out, "toys")


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.eye(22, 3), "22 rows, but the items' source has 23"),
        (np.full((23, 3), np.nan), ": NaN in every row"),
        (np.full((23, 3), 1e300), ": NaN or inf"),
        (np.where(np.eye(23, 3), np.nan, 1.0), "row 0: NaN or inf"),
        (1e25 * np.eye(23, 3), "squares overflow in float32"),
        (1e-25 * np.eye(23, 3), "squares vanish in float32"),
        (np.ones((23, 3)), "all 23 rows are equal"),
        (np.ones((23, 3), int), "type int64"),
        (np.ones(23), "shape (23,)"),
    ],
)
def test_given_features_are_checked(tmp_path, capsys, matrix, message):
    raw, out = tmp_path / "raw", tmp_path / "out"
    arguments = amazon_arguments(raw, out, "--text-features", raw / "text.npy")
    np.save(raw / "text.npy", matrix)
    assert prepare(*arguments) == 2
    error = capsys.readouterr().err
    assert "text.npy" in error and message in error
    assert not out.exists()


def test_the_output_folder_is_never_overwritten(tmp_path, capsys):
    arguments = amazon_arguments(tmp_path / "raw", tmp_path / "out")
    (tmp_path / "out").mkdir()
    assert prepare(*arguments) == 0
    before = tree(tmp_path / "out")
    assert prepare(*arguments) == 2
    assert "the folder is not empty" in capsys.readouterr().err
    assert tree(tmp_path / "out") == before
    assert not (tmp_path / "out.partial").exists()
