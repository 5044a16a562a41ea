"""Item-item lists of projected features, which change with the parameters.

Each item's k nearest by the cosine of z, itself first, then the larger cosine, then the lower
number. Unlike lists of raw features (`neighbours`) they are made on the device, in float32:
that a cosine is equal is decided there.
"""

import jax
import jax.numpy as jnp

from uatmc_jax.models.neighbours import Neighbours
from uatmc_jax.models.protocol import Modal
from uatmc_jax.numerics import EXACT, normalize_rows, take

_BLOCK = 512  # items compared with all others at a time


def nearest_ids(z: jax.Array, k: int) -> jax.Array:
    """(|I|, k) int32, each item's list; no gradient passes.

    Args:
      z: (|I|, d).
      k: at most |I|.
    """
    units = normalize_rows(jax.lax.stop_gradient(z))
    n = len(units)
    n_blocks = -(-n // _BLOCK)
    own = jnp.minimum(jnp.arange(n_blocks * _BLOCK), n - 1).reshape(n_blocks, _BLOCK)

    def block(own: jax.Array) -> jax.Array:
        # That the choice of a neighbour is the same in every program.
        found = jnp.matmul(units[own], units.T, precision=EXACT)
        found = found.at[jnp.arange(_BLOCK), own].set(jnp.inf)
        return jax.lax.top_k(found, k)[1]

    return jax.lax.map(block, own).reshape(-1, k)[:n].astype(jnp.int32)


def mixed_lists(z: Modal, ids: tuple[jax.Array, ...], shares: jax.Array) -> tuple[Neighbours, ...]:
    """P_ij = K_ij / sqrt(c_i c_j), by modality, of the mixture K = sum_m share_m K^m.

    K^m_ij is the cosine of z_i^m and z_j^m for j in the item's list, 0 elsewhere; c_i is the row
    sum of the mixture. A row whose cosines sum to less than 0 has no root: NaN.

    Args:
      z: modal, (|I|, d), through which gradients pass.
      ids: modal, (|I|, k).
      shares: (M,).

    Returns:
      One graph a modality, whose sum is P; all with the sums c.
    """
    units = tuple(map(normalize_rows, z))
    parts = tuple(
        share * jnp.einsum("id,ikd->ik", x, take(x, listed))
        for share, x, listed in zip(shares, units, ids, strict=True)
    )
    sums = sum((jnp.sum(part, axis=1) for part in parts), jnp.zeros(len(z[0])))
    root = jnp.sqrt(sums)
    return tuple(
        Neighbours(listed, part / (root[:, None] * take(root, listed)), sums)
        for listed, part in zip(ids, parts, strict=True)
    )


def mixed_row(
    z: Modal,
    rows: Modal,
    stored: tuple[Neighbours, ...],
    shares: jax.Array,
    item: jax.Array,
) -> tuple[Neighbours, ...]:
    """Row t of `mixed_lists` of edited content, its new sum beside the others' stored ones.

    Args:
      z: modal, (|I|, d), clean.
      rows: modal, (d,), the item's as edited.
      stored: the lists of the clean content.
      shares: (M,).
      item: () int32.

    Returns:
      One graph of one row, (1, k), a modality.
    """
    ids, parts = [], []
    for x, row, share, clean in zip(z, rows, shares, stored, strict=True):
        units, unit = normalize_rows(x), normalize_rows(row[None])[0]
        found = jnp.matmul(units, unit, precision=EXACT)
        _, listed = jax.lax.top_k(found.at[item].set(jnp.inf), clean.ids.shape[1])
        ids.append(listed.astype(jnp.int32))
        parts.append(share * jnp.matmul(take(units, listed).at[0].set(unit), unit))
    total = sum((jnp.sum(part) for part in parts), jnp.zeros(()))
    root = jnp.sqrt(stored[0].sums.at[item].set(total))  # of the mixture: all have the same
    return tuple(
        Neighbours(listed[None], (part / (root[item] * take(root, listed)))[None])
        for listed, part in zip(ids, parts, strict=True)
    )
