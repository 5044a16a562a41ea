"""The losses of pre-training and of the adversarial stage; none can overflow.

z^m are the projected features of modality m, B the batch, tau the temperature.
"""

import itertools

import jax
import jax.numpy as jnp

from uatmc_jax.errors import InputError
from uatmc_jax.numerics import Modal, safe_norm, weighted_mean

_VANISHING = 1e-25


def bpr_loss(
    user: jax.Array, positive: jax.Array, negative: jax.Array, weights: jax.Array
) -> jax.Array:
    """L_BPR = mean softplus(-(y_up - y_un)) (Eq. 2), y the inner product.

    Args:
      user: (B, D) embeddings.
      positive: (B, D).
      negative: (B, D).
      weights: (B,) 1, or 0 for padding.
    """
    margin = jnp.sum(user * (positive - negative), axis=-1)
    return weighted_mean(jax.nn.softplus(-margin), weights)


def info_nce(a: jax.Array, b: jax.Array, temperature: jax.Array, block: int = 2048) -> jax.Array:
    """Symmetric InfoNCE: row i of `a` belongs to row i of `b` and to no other.

    With logits s = exp(tau) a b^T, the mean over i of
    (logsumexp_j s_ij + logsumexp_j s_ji) / 2 - s_ii. Row blocks are computed
    one at a time and again in the backward pass, so memory is block x n.

    Args:
      a: (n, d).
      b: (n, d).
      temperature: scalar tau.
      block: rows at a time.
    """
    n = a.shape[0]
    scale = jnp.exp(temperature)
    own = scale * jnp.sum(a * b, axis=1)

    def rows(start_column, inputs):
        a_block, valid = inputs
        logits = jnp.where(valid[:, None], scale * (a_block @ b.T), -jnp.inf)
        by_row = jax.nn.logsumexp(jnp.where(valid[:, None], logits, 0.0), axis=1)
        column = jnp.logaddexp(start_column, jax.nn.logsumexp(logits, axis=0))
        return column, jnp.sum(jnp.where(valid, by_row, 0.0))

    if n <= block:
        logits = scale * (a @ b.T)
        by_row = jnp.sum(jax.nn.logsumexp(logits, axis=1))
        by_column = jnp.sum(jax.nn.logsumexp(logits, axis=0))
        return ((by_row + by_column) / 2 - jnp.sum(own)) / n
    n_blocks = -(-n // block)
    padded = jnp.pad(a, ((0, n_blocks * block - n), (0, 0))).reshape(n_blocks, block, -1)
    valid = (jnp.arange(n_blocks * block) < n).reshape(n_blocks, block)
    start = jnp.full(n, -jnp.finfo(a.dtype).max)
    columns, by_row = jax.lax.scan(jax.checkpoint(rows), start, (padded, valid))
    return ((jnp.sum(by_row) + jnp.sum(columns)) / 2 - jnp.sum(own)) / n


def modal_info_nce(z: Modal, temperature: jax.Array) -> jax.Array:
    """L_NCE: `info_nce` averaged over the pairs of modalities; 0 for a single one.

    Modalities of unlike width cannot be compared; such pairs are left out.

    Args:
      z: modal, (n, d), distinct items.
      temperature: scalar tau.
    """
    pairs = [(a, b) for a, b in itertools.combinations(z, 2) if a.shape == b.shape]
    return sum((info_nce(a, b, temperature) for a, b in pairs), jnp.zeros(())) / max(len(pairs), 1)


def gradient_alignment(gradients: Modal, rows: jax.Array, over: int | None = None) -> jax.Array:
    """One half of L_align (Eq. 12): the mean over `rows` of cos(g^v, g^t).

    For other than two modalities, the mean over their pairs. A row in which
    either gradient vanishes (largest entry below 1e-25) carries none and does
    not count. Each row is first divided by its largest entry, which leaves the
    cosine and its derivative as they are and keeps squares of tiny gradients
    (of triples long since ranked right) from underflowing.

    Args:
      gradients: modal, (n, d).
      rows: (n,) bool.
      over: divide the sum of the cosines by this, instead of by the number of rows that count.

    Returns:
      Scalar in [-1, 1]; 0 if no row counts.

    Raises:
      InputError: modalities of unlike width, whose gradients have no cosine.
    """
    if len({g.shape for g in gradients}) > 1:
        raise InputError(
            f"L_align compares gradients of one width, but z has {[g.shape[-1] for g in gradients]}"
            ". Set beta to 0, or use the defence 'uat'."
        )
    largest = [jax.lax.stop_gradient(jnp.max(jnp.abs(g), axis=-1)) for g in gradients]
    scaled = [
        g / jnp.where(size > _VANISHING, size, 1.0)[:, None]
        for g, size in zip(gradients, largest, strict=True)
    ]
    terms = []
    for i, j in itertools.combinations(range(len(gradients)), 2):
        carrying = rows & (largest[i] > _VANISHING) & (largest[j] > _VANISHING)
        product = safe_norm(scaled[i]) * safe_norm(scaled[j])
        dot = jnp.sum(scaled[i] * scaled[j], axis=-1)
        cosine = jnp.where(carrying, dot / jnp.where(carrying, product, 1.0), 0.0)
        if over is None:
            terms.append(weighted_mean(cosine, carrying.astype(cosine.dtype)))
        else:
            terms.append(jnp.sum(cosine) / over)
    return sum(terms, jnp.zeros(())) / max(len(terms), 1)
