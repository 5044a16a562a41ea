"""Fixtures shared by all tests."""

import functools
import gc
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # experiments/ are not installed, configs/ under another name


def compile_quickly():
    """Most of the suite's time is compiling small programs: plainly, and once for all processes.

    It is set in the environment, before JAX is imported, so that subprocesses have it too.
    """
    os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
    if "XLA_FLAGS" not in os.environ:
        os.environ["XLA_FLAGS"] = PLAIN_FUSIONS if xla_takes(PLAIN_FUSIONS) else ""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        folder = tempfile.TemporaryDirectory(prefix="uatmc-compiled-")
        os.environ["JAX_COMPILATION_CACHE_DIR"] = folder.name
        return folder  # removed with it
    return None


# Halves the time of compiling; not every version of jaxlib has it.
PLAIN_FUSIONS = "--xla_cpu_use_fusion_emitters=false"


@functools.cache
def xla_takes(flags):
    """Whether jaxlib knows the flags; XLA ends the process at one that it does not know."""
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    tried = [sys.executable, "-c", "import jax; jax.devices()"]
    return subprocess.run(tried, env=environment, capture_output=True, check=False).returncode == 0


# XLA cuts a program up to compile its parts at once; an operation's last bit may depend on the cut.
ONE_PART = "--xla_cpu_parallel_codegen_split_count=1"


def simulated(count):
    """The environment of a process with so many simulated devices whose bits can be compared."""
    several = f"--xla_force_host_platform_device_count={count}"
    chosen = f"{os.environ.get('XLA_FLAGS', '')} {ONE_PART if xla_takes(ONE_PART) else ''}"
    flags = f"{chosen.strip()} {several}"
    return {**os.environ, "XLA_FLAGS": flags, "NPROC": "2", "JAX_PLATFORMS": "cpu"}


_COMPILED = compile_quickly()

import jax  # noqa: E402

from configs import test as test_config  # noqa: E402
from uatmc_jax.data import Interactions, make_synthetic  # noqa: E402
from uatmc_jax.settings import from_config  # noqa: E402

# A process may have 65,530 mappings of memory; every compiled program has some, and compiling
# with none left ends the process.
MANY_MAPPINGS = 20_000


def mappings():
    """How many mappings of memory this process has; 0 where the system does not say."""
    file = pathlib.Path("/proc/self/maps")
    return len(file.read_bytes().splitlines()) if file.exists() else 0


@pytest.fixture(autouse=True, scope="module")
def forget_programs():
    """Frees compiled programs once there are very many; those needed again are in the cache."""
    yield
    if mappings() > MANY_MAPPINGS:
        jax.clear_caches()
        gc.collect()


# Fixtures that are commands from end to end, and what needs them long.
WHOLE = {"reproduced", "audited"}


def pytest_ignore_collect(collection_path):
    """Leaves helpers to the tests that import them: one may need what is not installed.

    --doctest-modules would import every module here, also those that only skipped tests use.
    """
    helper = collection_path.suffix == ".py" and not collection_path.name.startswith("test_")
    return True if helper else None


# Files that take longest, to be given out first: then no process is left alone with one at the end.
LONG = (
    "experiments/test_reproduce",
    "auditing/test_audit",
    "models/test_oracle",
    "training/test_run",
    "attacks/test_perturb",
    "training/test_vmapped",
    "defenses/test_objective",
    "attacks/test_scoring",
    "benchmark/test_run",
    "test_docs",
)


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their marks
def pytest_collection_modifyitems(items):
    """Marks what is long, and orders whole files; within one, tests stay as they stand."""
    for item in items:
        if WHOLE.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.long)

    def place(item):
        found = [n for n, name in enumerate(LONG) if item.nodeid.startswith(f"tests/{name}.py")]
        return found[0] if found else len(LONG)

    items.sort(key=place)


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
