"""One seed's independent streams of random numbers, a stream for each purpose."""

import jax
import numpy as np

_PURPOSES = ("targets", "users", "starts", "content", "survey", "redraw", "measured")


def generator(seed: int, purpose: str) -> np.random.Generator:
    """The seed's stream for one purpose.

    Args:
      seed: any non-negative integer.
      purpose: "targets", "users", "starts", "content", "survey", "redraw" or
        "measured".
    """
    return np.random.default_rng([seed, _PURPOSES.index(purpose)])


def starts_key(seed: int) -> jax.Array:
    """The key of an attack's random starts and of its random search."""
    return jax.random.key(int(generator(seed, "starts").integers(2**31)))
