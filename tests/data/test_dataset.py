import numpy as np
import pytest

from tests.auditing.cases import small_folder
from tests.conftest import make_interactions
from uatmc_jax import store
from uatmc_jax.data import (
    DEFAULT_MODALITIES,
    SPLITS,
    format_statistics,
    load_dataset,
    make_dataset,
    make_synthetic,
    present_modalities,
    statistics,
    warm,
    write_dataset,
)
from uatmc_jax.data.names import ItemNames, write_names
from uatmc_jax.data.synthetic import CORE
from uatmc_jax.errors import InputError


def test_written_data_reads_back_the_same(dataset, tmp_path):
    write_dataset(dataset, tmp_path / "synthetic")
    again = load_dataset(tmp_path / "synthetic", "synthetic")
    assert again.fingerprint == dataset.fingerprint
    for a, b in zip(again.features, dataset.features, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ["shop.inter", "text_feat.npy", "i_id_mapping.csv", "items.csv"])
def test_prepared_data_that_were_changed_since_are_refused_with_the_file(name, tmp_path):
    names = ItemNames({0: "A", 1: "B"}, {0: "Cup"})
    folder = small_folder(tmp_path)
    write_names(names, folder)
    files = {path.name: {"sha256": store.hash_file(path)} for path in folder.iterdir()}
    store.write_json(folder / "manifest.json", {"files": files})
    load_dataset(folder)
    content = bytearray((folder / name).read_bytes())
    content[-2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"{name}: was changed or damaged since it was prepared"):
        load_dataset(folder)
    (folder / "manifest.json").write_text("{")
    with pytest.raises(InputError, match=r"manifest\.json: not JSON"):
        load_dataset(folder)
    (folder / "manifest.json").write_text('["of something else"]')
    if name.endswith(".npy"):
        load_dataset(folder)


def test_fingerprint_sees_every_part():
    rows = np.array([[0, 0, 0], [0, 1, 1], [1, 1, 0], [1, 2, 2]])
    features = {"visual": np.ones((3, 2), np.float32)}
    base = make_dataset("a", rows, features, "x").fingerprint
    moved = rows.copy()
    moved[0, 1] = 2
    changed = {"visual": features["visual"] + np.eye(3, 2, dtype=np.float32) * 1e-6}
    others = [
        make_dataset("a", moved, features, "x"),
        make_dataset("a", rows, changed, "x"),
        make_dataset("a", rows, {"audio": features["visual"]}, "x"),
        make_dataset("another name", rows[::-1], features, "another source"),
    ]
    assert [o.fingerprint == base for o in others] == [False, False, False, True]


def test_synthetic_default_keeps_its_promises():
    dataset = make_synthetic()
    pairs = np.concatenate(
        [np.stack([dataset.split(s).users, dataset.split(s).items]) for s in SPLITS], axis=1
    )
    assert pairs.shape[1] == 20_000 == len(np.unique(pairs, axis=1).T)
    assert (dataset.n_users, dataset.n_items) == (2000, 1000)
    assert [x.shape for x in dataset.features] == [(1000, 64), (1000, 32)]
    assert np.bincount(pairs[0]).min() >= CORE and dataset.item_counts.min() >= CORE
    assert (dataset.item_counts == CORE).sum() >= 100
    assert dataset.item_counts.max() > 10 * np.median(dataset.item_counts)  # a heavy tail
    assert np.bincount(dataset.train.users, minlength=2000).min() > 0


def test_synthetic_is_repeatable_and_seeded():
    sizes = {"n_users": 60, "n_items": 50, "n_interactions": 500}
    assert make_synthetic(1, **sizes).fingerprint == make_synthetic(1, **sizes).fingerprint
    assert make_synthetic(1, **sizes).fingerprint != make_synthetic(2, **sizes).fingerprint
    with pytest.raises(ValueError, match="n_interactions"):
        make_synthetic(0, n_users=60, n_items=50, n_interactions=100)


def test_statistics_by_hand():
    rows = np.array([[0, 0, 0], [0, 1, 1], [2, 1, 0], [2, 3, 2], [2, 0, 0]])
    features = {"visual": np.array([[3, 4], [0, 1], [1, 0], [0, 2]], np.float32)}
    stats = statistics(make_dataset("hand", rows, features, "x"))
    assert (stats["users"], stats["items"]) == (2, 3)  # user 1 and item 2 never occur
    assert stats["interactions"] == {"train": 3, "valid": 1, "test": 1, "all": 5}
    assert stats["sparsity"] == pytest.approx(1 - 5 / 6)
    assert stats["features"]["visual"]["row_norm"] == {"min": 1.0, "mean": 2.25, "max": 5.0}
    assert stats["items_with_5_interactions"] == 0
    assert stats["degree_quantiles"]["user"] == pytest.approx([0, 1, 2, 2.5, 2.8, 2.98, 3])
    assert "sparsity" in format_statistics(stats)


def test_cold_users_are_dropped(dataset):
    pairs = make_interactions([(0, 0), (1, 1)])
    assert len(warm(pairs, dataset)) == 2
    rows = np.array([[0, 0, 0], [1, 1, 1], [0, 1, 1], [1, 2, 2]])
    cold = make_dataset("cold", rows, {"visual": np.ones((3, 2), np.float32)}, "x")
    assert warm(cold.valid, cold).users.tolist() == [0]
    with pytest.raises(InputError, match="nothing can be evaluated"):
        warm(cold.test, cold)


def test_real_baby_has_the_counts_of_its_page(real_data):
    dataset = load_dataset(real_data / "baby", "baby")
    counts = [len(dataset.split(s)) for s in SPLITS]
    assert (dataset.n_users, dataset.n_items, counts) == (19445, 7050, [118551, 21682, 20559])


def test_interactions_alone_need_no_features(real_data):
    dataset = load_dataset(real_data / "clothing", "clothing", ())
    assert statistics(dataset)["interactions"]["all"] == 278_677


def test_a_folders_only_inter_is_its_own_whatever_it_is_called(tmp_path, dataset):
    write_dataset(dataset, tmp_path / "renamed")
    found = load_dataset(tmp_path / "renamed", "renamed")
    assert (found.name, found.fingerprint) == ("renamed", dataset.fingerprint)
    (tmp_path / "renamed" / "other.inter").write_text("")
    with pytest.raises(InputError, match=r"has no renamed\.inter"):
        load_dataset(tmp_path / "renamed", "renamed")


def test_present_modalities_are_those_with_a_file(tmp_path, dataset):
    assert present_modalities(tmp_path) == DEFAULT_MODALITIES
    write_dataset(dataset, tmp_path)
    assert present_modalities(tmp_path) == DEFAULT_MODALITIES
    (tmp_path / "image_feat.npy").unlink()
    assert present_modalities(tmp_path) == ("textual:text_feat.npy",)
