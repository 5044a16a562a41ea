"""Balls shaped by harmless edits: wide where a crop or a new word moves content, narrow elsewhere.

A round ball counts every direction of z alike. What sellers do moves z in few: with delta_e
the displacements that harmless edits e of items i(e) cause,

    S = mean_e delta_e delta_e' / ||z_i(e)||^2,    C = (1 - rho) S + rho (tr S / d) I

the shaped ball of item i and size eps is {delta : delta' C^-1 delta <= (eps ||z_i||)^2}, the
image of a round one under A with A A' = C, so that

    max <w, delta> over it = eps ||z_i|| ||A' w||_2

eps counts harmless edits: sqrt(tr C) = sqrt(tr S) is the root mean square of their lengths,
and any of them alone is within the ball of a size of at most sqrt(E / (1 - rho)) if there
are E. rho keeps some width in directions that none of those measured has taken.
"""

import jax.numpy as jnp
import numpy as np

# rho, the share of the squared length that goes to all directions alike.
ROUND = 0.1


def shape_of(z: np.ndarray, edited: np.ndarray, round_share: float = ROUND) -> jnp.ndarray:
    """(d, d) symmetric A, A A = C.

    >>> import numpy as np
    >>> shape_of(np.array([[2.0, 0.0]]), np.array([[2.0, 1.0]]), 0.0).tolist()
    [[0.0, 0.0], [0.0, 0.5]]

    Args:
      z: (E, d) content before each harmless edit.
      edited: (E, d) after it.
      round_share: rho.
    """
    length = np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)
    moved = (np.asarray(edited, np.float64) - z) / length
    second = moved.T @ moved / len(moved)
    d = second.shape[0]
    mixed = (1 - round_share) * second + round_share * np.trace(second) / d * np.eye(d)
    values, vectors = np.linalg.eigh(mixed)
    root = vectors * np.sqrt(np.maximum(values, 0.0)) @ vectors.T
    return jnp.asarray(root, jnp.float32)
