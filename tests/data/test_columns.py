"""Sorted columns beside an `.inter`: the same splits, read where they lie."""

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.preparation.test_generic import run
from uatmc_jax.data import SPLITS, load_dataset, split_interactions
from uatmc_jax.data.columns import column_files, open_columns, with_columns
from uatmc_jax.data.interactions import counts
from uatmc_jax.errors import InputError


class Block(NamedTuple):
    users: np.ndarray
    items: np.ndarray
    labels: np.ndarray


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.integers(1, 4), min_size=1, max_size=5))
def test_columns_are_the_splits_of_the_rows(tmp_path_factory, seed, users_of_blocks):
    """Blocks of whole users, their rows in any order, against the splits of all rows at once."""
    rng, inter = np.random.default_rng(seed), tmp_path_factory.mktemp("data") / "shop.inter"
    blocks, first = [], 0
    for count in users_of_blocks:
        pairs = [(u, i) for u in range(first, first + count) for i in range(5)]
        kept = rng.permutation(pairs)[: max(3, len(pairs) // 2)]
        order = np.argsort(kept[:, 0], kind="stable")
        # Every split has one.
        labels = np.concatenate([[0, 1, 2], rng.integers(0, 3, len(kept) - 3)])
        blocks.append(Block(*kept[order].T.astype(np.int32), labels.astype(np.int8)))
        first += count
    assert list(with_columns(inter, blocks)) == blocks
    expected = split_interactions(np.concatenate([np.stack(b, axis=1) for b in blocks]), "rows")
    for split, pairs in open_columns(inter).items():
        assert isinstance(pairs.users, np.memmap) and pairs.users.dtype == np.int32
        np.testing.assert_array_equal(pairs.users, expected[split].users)
        np.testing.assert_array_equal(pairs.items, expected[split].items)
    assert {path.name for path in inter.parent.iterdir()} == {f"shop.{s}.npy" for s in SPLITS}


def test_prepared_data_are_read_from_their_columns_and_are_the_same(tmp_path):
    """Absent columns, or no manifest that vouches for them: the `.inter` is read."""
    assert run(tmp_path) == 0
    out = tmp_path / "out"
    files = column_files(out / "shop.inter")
    mapped = load_dataset(out, "shop", ())
    assert isinstance(mapped.train.users, np.memmap)
    # Computed now: what is mapped changes with its file.
    expected, item_counts = (mapped.fingerprint, mapped.sizes), mapped.item_counts

    def same(other):
        assert not isinstance(other.train.users, np.memmap)
        assert (other.fingerprint, other.sizes) == expected
        np.testing.assert_array_equal(other.item_counts, item_counts)

    content = files["valid"].read_bytes()
    files["valid"].write_bytes(content[:-4] + b"\0\0\0\1")
    with pytest.raises(InputError, match=r"shop\.valid\.npy: was changed or damaged"):
        load_dataset(out, "shop", ())
    files["valid"].unlink()
    same(load_dataset(out, "shop", ()))
    files["valid"].write_bytes(content)
    (out / "manifest.json").unlink()
    same(load_dataset(out, "shop", ()))


@pytest.mark.parametrize("found", (np.zeros((2, 0), np.int32), np.zeros((2, 3)), None))
def test_files_that_are_no_columns(tmp_path, found):
    inter = tmp_path / "shop.inter"
    for path in column_files(inter).values():
        if found is None:
            path.write_bytes(b"no array")
        else:
            np.save(path, found)
    with pytest.raises(InputError, match=r"shop\.train\.npy: .*Delete it"):
        open_columns(inter)


@pytest.mark.parametrize("block", (1, 3, 100))
def test_ids_are_counted_by_blocks(monkeypatch, block):
    monkeypatch.setattr("uatmc_jax.data.interactions._BLOCK", block)
    ids = np.array([0, 2, 2, 5, 1, 2], np.int32)
    np.testing.assert_array_equal(counts(ids, 7), np.bincount(ids, minlength=7))
