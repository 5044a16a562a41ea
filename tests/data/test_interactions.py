import numpy as np
import pytest

from uatmc_jax.data import DEFAULT_MODALITIES, SPLITS, load_dataset, read_inter, split_interactions
from uatmc_jax.errors import DataWarning, InputError

GOOD = "userID\titemID\tx_label\n0\t0\t0\n0\t1\t1\n1\t1\t0\n1\t2\t2\n"


def write(folder, inter=GOOD, features=None):
    folder.mkdir(exist_ok=True)
    (folder / "tiny.inter").write_text(inter)
    for name in ("image_feat.npy", "text_feat.npy"):
        np.save(folder / name, np.ones((3, 2), np.float32))
    for name, array in (features or {}).items():
        np.save(folder / name, array)
    return folder


def test_columns_are_found_by_name_in_any_order(tmp_path):
    plain = load_dataset(write(tmp_path / "a"), "tiny")
    text = "x_label\trating\titemID\tuserID\n0\t5.0\t0\t0\n1\t1.0\t1\t0\n0\t2\t1\t1\n2\tx\t2\t1\n"
    shuffled = load_dataset(write(tmp_path / "b", text), "tiny")
    assert plain.fingerprint == shuffled.fingerprint
    for split in SPLITS:
        np.testing.assert_array_equal(plain.split(split).items, shuffled.split(split).items)


ROWS = {
    "missing column": ("userID\titemID\n0\t0\n", ["0 columns named 'x_label'"]),
    "column twice": ("userID\tuserID\titemID\tx_label\n0\t0\t0\t0\n", ["2 columns named 'userID'"]),
    "spaces for tabs": ("userID itemID x_label\n0 0 0\n", ["0 columns named 'userID'"]),
    "non-integer id": (GOOD + "1.5\t0\t0\n", ["line 6", "userID is '1.5'"]),
    "whole float id": (GOOD + "1.0\t0\t0\n", ["line 6", "userID is '1.0'"]),
    "text id": (GOOD + "0\tB004\t0\n", ["line 6", "itemID is 'B004'"]),
    "negative id": (GOOD + "0\t-1\t0\n", ["line 6", "itemID is '-1'"]),
    "id beyond int32": (GOOD + "4294967296\t0\t0\n", ["line 6", "userID is '4294967296'"]),
    "id beyond int64": (GOOD + "99999999999999999999\t0\t0\n", ["line 6"]),
    "unknown label": (GOOD + "0\t2\t3\n", ["line 6", "x_label is '3'", "0, 1 or 2"]),
    "short row": (GOOD + "0\t2\n", ["line 6", "x_label is ''"]),
    "id beyond the features": (GOOD + "0\t3\t0\n", ["line 6", "itemID 3", "3 rows"]),
    "duplicate": (GOOD + "0\t0\t0\n", ["lines 2 and 6", "user 0, item 0", "twice"]),
    "two splits": (GOOD + "0\t0\t2\n", ["lines 2 and 6", "two splits (train and test)"]),
    "empty split": (GOOD.replace("2\t2", "2\t1"), ["test split (x_label 2) is empty"]),
    "no rows": ("userID\titemID\tx_label\n", ["no interactions"]),
    "empty file": ("", ["0 columns named 'userID'"]),
    "blank line": (GOOD.replace("0\t1\t1\n", "\n0\t1\t1\n"), ["line 3", "blank line"]),
    "ids never renumbered": (GOOD + "5000000\t0\t0\n", ["line 6", "userID 5000000", "3 users"]),
    "user with all items": (GOOD + "2\t0\t0\n2\t1\t0\n2\t2\t0\n", ["user 2", "all 3 items"]),
}


@pytest.mark.parametrize("name", ROWS)
def test_bad_rows_are_named(tmp_path, name):
    text, expected = ROWS[name]
    folder = write(tmp_path / "d", text)
    with pytest.raises(InputError) as caught:
        load_dataset(folder, "tiny")
    for part in ["tiny.inter", *expected]:
        assert part in str(caught.value)


def test_not_text(tmp_path):
    folder = write(tmp_path / "d")
    (folder / "tiny.inter").write_bytes(b"userID\titemID\tx_label\n1\t\xff\t0\n")
    with pytest.raises(InputError, match="line 2: not UTF-8"):
        load_dataset(folder, "tiny")


def bad_array(kind):
    array = np.ones((3, 2), np.float32)
    if kind == "nan":
        array[1, 0] = np.nan
    elif kind == "inf":
        array[2, 1] = np.inf
    return {
        "integers": np.ones((3, 2), np.int32),
        "vector": np.ones(3, np.float32),
        "rows differ": np.ones((4, 2), np.float32),
        "beyond float32": np.full((3, 2), 1e300),
        "no columns": np.ones((3, 0), np.float32),
    }.get(kind, array)


FEATURES = {
    "nan": "row 1: NaN or inf",
    "inf": "row 2: NaN or inf",
    "beyond float32": "row 0: NaN or inf",
    "integers": "type int32",
    "vector": r"shape \(3,\)",
    "no columns": r"shape \(3, 0\)",
    "rows differ": "different numbers of rows",
}


@pytest.mark.parametrize("kind", FEATURES)
def test_bad_features_are_named(tmp_path, kind):
    folder = write(tmp_path / "d", features={"text_feat.npy": bad_array(kind)})
    with pytest.raises(InputError, match=FEATURES[kind]):
        load_dataset(folder, "tiny")


def test_pickled_features_are_not_loaded(tmp_path):
    folder = write(tmp_path / "d")
    np.save(folder / "text_feat.npy", np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(InputError, match="never loaded"):
        load_dataset(folder, "tiny")


@pytest.mark.parametrize("keep", [0, 10, 100, -8])
def test_truncated_features(tmp_path, keep):
    folder = write(tmp_path / "d")
    path = folder / "image_feat.npy"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"image_feat\.npy.*truncated"):
        load_dataset(folder, "tiny")


def test_a_second_array_in_the_file_is_refused(tmp_path):
    folder = write(tmp_path / "d")
    path = folder / "image_feat.npy"
    with open(path, "ab") as file:
        np.save(file, np.load(path))
    with pytest.raises(InputError, match=r"image_feat\.npy: \d+ bytes behind a matrix of 3 rows"):
        load_dataset(folder, "tiny")


def test_missing_files_are_listed(tmp_path):
    folder = write(tmp_path / "d")
    (folder / "image_feat.npy").unlink()
    with pytest.raises(InputError, match=r"has no image_feat\.npy.*UATMC_DATA"):
        load_dataset(folder, "tiny", DEFAULT_MODALITIES)
    assert load_dataset(folder).modalities == ("textual",)
    (folder / "text_feat.npy").unlink()
    with pytest.raises(InputError, match=r"has no image_feat\.npy, text_feat\.npy"):
        load_dataset(folder)
    with pytest.raises(InputError, match="not a folder"):
        load_dataset(tmp_path / "absent", "tiny")


def test_zero_rows_warn_with_their_count(tmp_path):
    array = np.ones((3, 2), np.float32)
    array[[0, 2]] = 0
    folder = write(tmp_path / "d", features={"text_feat.npy": array})
    with pytest.warns(DataWarning, match="2 of 3 rows are all zeros"):
        load_dataset(folder, "tiny")


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_float_types_become_float32(tmp_path, dtype):
    array = np.arange(6, dtype=dtype).reshape(3, 2) + 1
    dataset = load_dataset(write(tmp_path / "d", features={"text_feat.npy": array}), "tiny")
    assert dataset.features[1].dtype == np.float32
    np.testing.assert_array_equal(dataset.features[1], array)


def test_containers_cannot_be_changed(tmp_path):
    dataset = load_dataset(write(tmp_path / "d"), "tiny")
    with pytest.raises(ValueError, match="read-only"):
        dataset.train.users[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        dataset.features[0][0] = 1
    with pytest.raises(AttributeError):
        dataset.n_users = 3


@pytest.mark.parametrize("entries", [("visual",), (":a.npy",), ("a:x.npy", "a:y.npy")])
def test_bad_modalities(tmp_path, entries):
    with pytest.raises(InputError, match=r"config\.data\.modalities"):
        load_dataset(write(tmp_path / "d"), "tiny", entries)


def test_one_and_three_modalities(tmp_path):
    folder = write(tmp_path / "d", features={"audio.npy": np.ones((3, 7), np.float32)})
    one = load_dataset(folder, "tiny", ("audio:audio.npy",))
    assert one.modalities == ("audio",)
    entries = ("textual:text_feat.npy", "audio:audio.npy", "visual:image_feat.npy")
    three = load_dataset(folder, "tiny", entries)
    assert three.modalities == ("textual", "audio", "visual")
    assert [x.shape[1] for x in three.features] == [2, 7, 2]


def test_rows_come_back_in_file_order(tmp_path):
    folder = write(tmp_path / "d")
    assert read_inter(folder / "tiny.inter").tolist() == [
        [0, 0, 0],
        [0, 1, 1],
        [1, 1, 0],
        [1, 2, 2],
    ]


def test_splits_are_sorted():
    rows = np.array([[3, 1, 0], [0, 2, 0], [3, 0, 0], [1, 1, 1], [1, 0, 2]])
    train = split_interactions(rows, "here")["train"]
    assert train.users.tolist() == [0, 3, 3] and train.items.tolist() == [2, 0, 1]
