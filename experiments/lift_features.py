"""Widens a data set's features at the same information, to measure the cost of wide ones.

    python -m experiments.lift_features --dim 4096 data/baby /tmp/wide/baby

Each modality is multiplied by a fixed random matrix with orthonormal rows,
which keeps every inner product, so a 128-d set costs what the official
4096-d one does. Another geometry of the same width, to see what a model makes of it:

    python -m experiments.lift_features --dim 0 --common 1 data/baby /tmp/common/baby

gives all rows of a modality a common part: one random vector of that length is added to
them, and they are made of unit length again.
"""

import dataclasses
import pathlib

import numpy as np
from absl import flags

from uatmc_jax.cli import start
from uatmc_jax.data import load_dataset, write_dataset
from uatmc_jax.errors import InputError

_DIM = flags.DEFINE_integer(
    "dim", 4096, "Width of the lifted features; 0 leaves it.", lower_bound=0
)
_COMMON = flags.DEFINE_float("common", 0.0, "Length of the common part.", lower_bound=0.0)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the random matrices.")


def lift(features: np.ndarray, dim: int, rng: np.random.Generator) -> np.ndarray:
    """(n, d) to (n, dim) float32, d <= dim, inner products kept."""
    columns, _ = np.linalg.qr(rng.normal(size=(dim, features.shape[1])))
    return (features @ columns.T).astype(np.float32)


def with_common(features: np.ndarray, length: float, rng: np.random.Generator) -> np.ndarray:
    """(n, d) unit rows (x + b) / ||x + b||_2, b one random (d,) vector of that length."""
    common = rng.normal(size=features.shape[1])
    moved = features + (length / np.linalg.norm(common) * common).astype(np.float32)
    return moved / np.linalg.norm(moved, axis=1, keepdims=True)


def main(argv: list[str]) -> None:
    """Two positional arguments: from and to."""
    if len(argv) != 3:
        raise InputError("give two folders. Example: --dim 4096 data/baby /tmp/wide/baby")
    source, target = map(pathlib.Path, argv[1:])
    dataset = load_dataset(source, source.resolve().name)
    widest = max(x.shape[1] for x in dataset.features)
    if 0 < _DIM.value < widest:
        raise InputError(f"--dim = {_DIM.value}: below the {widest} columns there are. Use more.")
    rng = np.random.default_rng(_SEED.value)
    features = dataset.features
    if _DIM.value:
        features = tuple(lift(x, _DIM.value, rng) for x in features)
    if _COMMON.value:
        features = tuple(with_common(x, _COMMON.value, rng) for x in features)
    write_dataset(dataclasses.replace(dataset, features=features), target)


if __name__ == "__main__":
    start(main, computes=False)
