"""These tests compile far more than they compute."""

import jax
import pytest


@pytest.fixture(autouse=True, scope="package")
def quick_compilation():
    """XLA without its costly optimisations, for this folder alone."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
