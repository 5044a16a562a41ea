"""Fixtures shared by all tests."""

import os
import pathlib
import sys
import tempfile

import jax
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # experiments/ are not installed, configs/ under another name

from configs import test as test_config  # noqa: E402
from uatmc_jax.data import Interactions, make_synthetic  # noqa: E402
from uatmc_jax.settings import from_config  # noqa: E402

# Most of the suite's time is compiling the same few programs again; let its processes share them.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _CACHE = tempfile.TemporaryDirectory(prefix="uatmc-compiled-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _CACHE.name
jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def pytest_ignore_collect(collection_path):
    """Leaves helpers to the tests that import them: one may need what is not installed.

    --doctest-modules would import every module here, also those that only skipped tests use.
    """
    helper = collection_path.suffix == ".py" and not collection_path.name.startswith("test_")
    return True if helper else None


@pytest.fixture(scope="session")
def dataset():
    """A small synthetic data set."""
    return make_synthetic(3, n_users=60, n_items=50, n_interactions=500)


@pytest.fixture
def config():
    """configs/test.py, to be changed at will."""
    return test_config.get_config()


@pytest.fixture
def settings(config):
    """The same, typed."""
    return from_config(config)


@pytest.fixture(scope="session")
def real_data():
    """The folder of real data sets beside the repository."""
    root = ROOT.parent / "shared" / "data"
    if not root.is_dir():
        pytest.skip(f"needs the real data sets in {root}")
    return root


def make_interactions(pairs):
    """Interactions from an iterable of (user, item)."""
    array = np.array(sorted(set(pairs)), np.int32).reshape(-1, 2)
    return Interactions(array[:, 0].copy(), array[:, 1].copy())
