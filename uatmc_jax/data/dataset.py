"""A data set: splits and features together, read from a folder in MMRec's layout."""

import dataclasses
import functools
import hashlib
import pathlib
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from uatmc_jax.data.columns import column_files, open_columns
from uatmc_jax.data.csr import CSR, make_csr
from uatmc_jax.data.features import load_features, parse_modalities
from uatmc_jax.data.graph import Adjacency, Graph, make_adjacency, make_graph
from uatmc_jax.data.interactions import (
    SPLITS,
    Interactions,
    counts,
    of_users,
    read_inter,
    split_interactions,
)
from uatmc_jax.data.manifest import notes, require_unchanged
from uatmc_jax.data.names import NAMES_FILE, TITLES_FILE, ItemNames, load_names
from uatmc_jax.errors import InputError

DEFAULT_MODALITIES = ("visual:image_feat.npy", "textual:text_feat.npy")
# A larger share of unused user ids is taken for ids that were never renumbered.
_SPARSEST_IDS = 10


class Sizes(NamedTuple):
    """What of a catalogue shapes a model's parameters.

    Attributes:
      n_users: |U|.
      n_items: |I|.
      raw_dims: ordered {modality: width of its raw features}.
    """

    n_users: int
    n_items: int
    raw_dims: dict[str, int]


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """An immutable recommendation data set with item features.

    Attributes:
      name: short name, e.g. "baby".
      n_users: |U|; user ids are 0..n_users-1.
      n_items: |I|, the rows of the features.
      train: training interactions R.
      valid: validation interactions.
      test: test interactions.
      modalities: names in a fixed order; everything that loops over modalities
        uses this order.
      features: per modality, (n_items, dim_m) float32.
      names: what its shop calls the items; no number depends on them, nor the fingerprint.
    """

    name: str
    n_users: int
    n_items: int
    train: Interactions
    valid: Interactions
    test: Interactions
    modalities: tuple[str, ...]
    features: tuple[np.ndarray, ...]
    names: ItemNames = dataclasses.field(default_factory=ItemNames)

    def split(self, name: str) -> Interactions:
        """The split called "train", "valid" or "test"."""
        return {"train": self.train, "valid": self.valid, "test": self.test}[name]

    @property
    def raw_dims(self) -> dict[str, int]:
        """Ordered {modality: width of its features}."""
        return {m: x.shape[1] for m, x in zip(self.modalities, self.features, strict=True)}

    @property
    def sizes(self) -> Sizes:
        """|U|, |I| and the features' widths: what a model is made for."""
        return Sizes(self.n_users, self.n_items, self.raw_dims)

    @functools.cached_property
    def item_counts(self) -> np.ndarray:
        """(n_items,) interactions of each item, all splits counted."""
        return np.sum([counts(self.split(s).items, self.n_items) for s in SPLITS], axis=0)

    @functools.cached_property
    def item_train_counts(self) -> np.ndarray:
        """(n_items,) training interactions of each item: its popularity."""
        return counts(self.train.items, self.n_items)

    @functools.cached_property
    def on_device(self) -> "DeviceData":
        """What training and attacks read, on the default device; copied there once."""
        return put_on_device(self)

    @functools.cached_property
    def adjacency(self) -> Adjacency:
        """Neighbours of every node of the training graph, on the host."""
        return make_adjacency(self.train, self.n_users, self.n_items)

    def held_out(self, split: str, users: np.ndarray | None = None) -> CSR:
        """By user the items of "valid" or "test", without users who have not trained.

        Args:
          split: "valid" or "test".
          users: (n,) those whose they are, in this order; by default all.

        Raises:
          InputError: nothing is left.
        """
        pairs = warm(self.split(split), self)
        if users is None:
            return make_csr(pairs, self.n_users)
        chosen = of_users(pairs, users)
        if not len(chosen):
            raise InputError(
                f"data set '{self.name}': none of the {len(users)} users to be measured has an "
                f"interaction of the {split} split. Measure more (config.eval.sample)."
            )
        return make_csr(chosen, len(users))

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 over shapes, splits, modality names and feature values (16 hex digits)."""
        digest = hashlib.sha256(repr((self.n_users, self.n_items, self.modalities)).encode())
        for split in SPLITS:
            pairs = self.split(split)
            digest.update(np.ascontiguousarray(pairs.users, "<i4"))  # type: ignore[arg-type]
            digest.update(np.ascontiguousarray(pairs.items, "<i4"))  # type: ignore[arg-type]
        for matrix in self.features:
            digest.update(repr(matrix.shape).encode())
            digest.update(np.ascontiguousarray(matrix, "<f4"))  # type: ignore[arg-type]
        return digest.hexdigest()[:16]


@flax.struct.dataclass
class DeviceData:
    """A data set on the device.

    Attributes:
      pairs: (users, items), each (n,) int32 training interactions; on several devices what
        `placement.own_pairs` makes of them.
      seen: the same, by user; None on several devices.
      graph: the same, as a graph.
      features: modal, raw, (|I|, dim_m) float32.
    """

    pairs: Any
    seen: CSR | None
    graph: Graph
    features: tuple[jax.Array, ...]

    @property
    def n_pairs(self) -> int:
        """Training interactions."""
        return self.pairs[0].size if isinstance(self.pairs, tuple) else self.pairs.n_pairs


def put_on_device(dataset: Dataset) -> DeviceData:
    """Copies what training reads to the default device, once."""
    train = dataset.train
    return DeviceData(
        pairs=(jnp.asarray(train.users), jnp.asarray(train.items)),
        seen=make_csr(train, dataset.n_users),
        graph=make_graph(train, dataset.n_users, dataset.n_items),
        features=tuple(jnp.asarray(x) for x in dataset.features),
    )


def make_dataset(
    name: str, rows: np.ndarray, features: dict[str, np.ndarray], source: str
) -> Dataset:
    """Assembles a data set from raw rows and features, checking both.

    Args:
      name: short name.
      rows: (n, 3) integers: user, item, label (0 train, 1 validation, 2 test).
      features: ordered {modality: (n_items, dim) float32}.
      source: what to name in an error about the rows.

    Raises:
      InputError: see `split_interactions`; also features of unequal length,
        item ids beyond them, or a user who has trained on every item (no
        negative could be drawn).
    """
    lengths = {m: len(matrix) for m, matrix in features.items()}
    n_items = max(lengths.values(), default=int(rows[:, 1].max()) + 1)
    if len(set(lengths.values())) > 1:
        raise InputError(
            f"{source}: the modalities' feature files have different numbers of rows: {lengths}. "
            "Row i of each must belong to itemID i."
        )
    beyond = np.flatnonzero(rows[:, 1] >= n_items)
    if len(beyond):
        raise InputError(
            f"{source}, line {beyond[0] + 2}: itemID {rows[beyond[0], 1]} has no row in the "
            f"features, which have {n_items} rows (itemIDs 0..{n_items - 1}); {len(beyond)} such "
            "interactions. Give every item a feature row."
        )
    splits = split_interactions(rows, source)
    largest = int(rows[:, 0].argmax())
    n_users, distinct = int(rows[largest, 0]) + 1, len(np.unique(rows[:, 0]))
    if n_users > _SPARSEST_IDS * distinct + 1000:
        raise InputError(
            f"{source}, line {largest + 2}: userID {n_users - 1}, but there are only {distinct} "
            "users. Ids are rows of a table; number the users 0, 1, 2, ..."
        )
    return _assemble(name, splits, features, source)


def _assemble(
    name: str, splits: dict[str, Interactions], features: dict[str, np.ndarray], source: str
) -> Dataset:
    """The data set of sorted splits."""
    n_users = 1 + max(int(pairs.users[-1]) for pairs in splits.values())
    n_items = 1 + max(int(pairs.items.max()) for pairs in splits.values())
    rows = {len(matrix) for matrix in features.values()}
    if rows and (len(rows) > 1 or n_items > min(rows)):
        raise InputError(
            f"{source}: {n_items} items, but the features have {sorted(rows)} rows. Row i of each "
            "must belong to itemID i."
        )
    n_items = max(rows, default=n_items)
    degrees = counts(splits["train"].users, n_users)
    if degrees.max() >= n_items:
        raise InputError(
            f"{source}: user {int(degrees.argmax())} has trained on all {n_items} items, so no "
            "negative item can be drawn. Remove the user, or add items."
        )
    return Dataset(
        name=name,
        n_users=n_users,
        n_items=n_items,
        modalities=tuple(features),
        features=tuple(features.values()),
        train=splits["train"],
        valid=splits["valid"],
        test=splits["test"],
    )


def load_dataset(
    folder: str | pathlib.Path, name: str = "", modalities: tuple[str, ...] | None = None
) -> Dataset:
    """Reads `folder/name.inter`, or else the folder's only `.inter`, and one `.npy` per modality.

    Columns that `prepare` has left beside the `.inter`, and its manifest notes, are read in its
    place, memory-mapped. The items' names come along, where the folder has them (`load_names`).

    Args:
      folder: the data set's folder.
      name: the data set's name; by default the folder's.
      modalities: ("visual:image_feat.npy", ...); None for those of the default two that
        are there; () for interactions alone, which is enough for statistics but not for
        a model.

    Raises:
      InputError: anything wrong with the files; the message names file, row and remedy.
    """
    folder = pathlib.Path(folder)
    name = name or folder.resolve().name
    entries = present_modalities(folder) if modalities is None else modalities
    files = parse_modalities(tuple(entries))
    inter = _find_inter(folder, name)
    needed = [inter, *(folder / file for file in files.values())]
    _require(folder, needed)
    columns = column_files(inter).values()
    sorted_already = notes(folder, columns)
    names = folder / NAMES_FILE, folder / TITLES_FILE
    require_unchanged(folder, [*needed, *names, *columns])
    rows = None if sorted_already else read_inter(inter)
    features = {m: load_features(folder / file) for m, file in files.items()}
    if rows is None:
        dataset = _assemble(name, open_columns(inter), features, str(inter))
    else:
        dataset = make_dataset(name, rows, features, str(inter))
    return dataclasses.replace(dataset, names=load_names(folder))


def _find_inter(folder: pathlib.Path, name: str) -> pathlib.Path:
    named, there = folder / f"{name}.inter", list(folder.glob("*.inter"))
    return there[0] if len(there) == 1 else named


def present_modalities(folder: str | pathlib.Path) -> tuple[str, ...]:
    """Those of `DEFAULT_MODALITIES` whose file the folder has; all if it has none of them."""
    files = parse_modalities(DEFAULT_MODALITIES)
    there = (f"{m}:{file}" for m, file in files.items() if (pathlib.Path(folder) / file).is_file())
    return tuple(there) or DEFAULT_MODALITIES


def _require(folder: pathlib.Path, files: list[pathlib.Path]) -> None:
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        there = "has no" if folder.is_dir() else "is not a folder; it should hold"
        raise InputError(
            f"data: {folder} {there} {', '.join(missing)}. The layout is MMRec's, whose page links "
            "the Amazon sets: a tab-separated NAME.inter with userID, itemID, x_label and one .npy "
            "per modality. Set config.data.root or UATMC_DATA to the folder above, or "
            "config.data.modalities (--modalities of uatmc_jax.data, empty for none) to the "
            "features there are."
        )


def warm(pairs: Interactions, dataset: Dataset) -> Interactions:
    """Drops the pairs of users without a training interaction (cold-start filtering).

    Raises:
      InputError: nothing is left.
    """
    trained = counts(dataset.train.users, dataset.n_users) > 0
    kept = pairs.keep(trained[pairs.users])
    if not len(kept):
        raise InputError(
            f"data set '{dataset.name}': no held-out interaction belongs to a user with a training "
            "interaction, so nothing can be evaluated. Check x_label."
        )
    return kept
