"""Defences that shape the model itself: no perturbation of items is looked at.

    spectral  sum over the matrices that content passes through of ||W||_2^2
    mirror    Mirror Gradient (Zhong et al., WWW 2024): after a step against the
              gradient, a smaller one along it, so that sharp minima are left

Both are known baselines and certify nothing: a model may answer a small ||W||_2
with larger user vectors.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from uatmc_jax.models import Model
from uatmc_jax.models.protocol import PyTree


def spectral_term(model: Model, encoder: PyTree) -> jax.Array:
    """sum_W ||W||_2^2 over the model's `content_kernels`, ||.||_2 the largest singular value."""
    return sum(jnp.linalg.norm(w, ord=2) ** 2 for w in model.content_kernels(encoder))  # type: ignore[misc, return-value]


def mirror_term(loss: Callable[[PyTree], jax.Array], trained: PyTree, step: jax.Array) -> jax.Array:
    """-L(theta - step * grad L(theta)), the shift held fixed.

    Added with weight lambda to L, its gradient is grad L(theta) - lambda grad L(theta'),
    theta' = theta - step * grad L(theta): to first order that of
    (1 - lambda) L + lambda step / 2 ||grad L||^2, which wants lambda < 1.

    Args:
      loss: L, of the trained parameters.
      trained: theta.
      step: length of the step down, eta alpha_1 in the paper; lambda is alpha_2 / alpha_1.
    """
    down = jax.lax.stop_gradient(jax.grad(loss)(trained))
    return -loss(jax.tree.map(lambda x, g: x - step * g, trained, down))
