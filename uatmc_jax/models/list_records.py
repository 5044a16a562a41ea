"""What bounds need of models whose items add up others' rows otherwise than plainly."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from uatmc_jax.data.graph import Graph
from uatmc_jax.models.neighbours import Neighbours
from uatmc_jax.numerics import Modal


class ListParts(NamedTuple):
    """What an item's embedding is added up of.

    Attributes:
      base: (|I|, D) what no content reaches.
      table: (|I|, D) the rows that are added up.
      raw: S_m, cosine-valued, of raw features, one a modality.
      learned: P by modality, of z, all with the sums of their mixture.
      shares: (M,) w, summing to 1.
    """

    base: jax.Array
    table: jax.Array
    raw: tuple[Neighbours, ...]
    learned: tuple[Neighbours, ...]
    shares: jax.Array


class NormedLists(NamedTuple):
    """h_i = base_i + norm(sum_j H_ij table_j), H = (1 - lambda) P + lambda sum_m w_m S_m.

    z = W_m x + b_m; users, base and table read no content.

    Attributes:
      raw_share: lambda.
      parts: (Params.encoder, z, Graph) -> ListParts.
      lengths: Params.projectors -> by modality the 2-norm of W_m, on the host.
    """

    raw_share: float
    parts: Callable[[Any, Modal, Graph], ListParts]
    lengths: Callable[[Any], tuple[np.floating, ...]]


class GatedParts(NamedTuple):
    """What an item's embedding is added up of, where two modalities are weighed against each other.

    Attributes:
      base: (|I|, d) what no content reaches.
      table: (|I|, d) e.
      logits: modal, (|I|, d), of which the gates are the logistics.
      preferences: modal, (|I|, d) p^m.
      raw: S_m, cosine-valued, one a modality.
    """

    base: jax.Array
    table: jax.Array
    logits: Modal
    preferences: Modal
    raw: tuple[Neighbours, ...]


class GatedLists(NamedTuple):
    """h_i = base_i + (rho_i (.) h_i^1 + (1 - rho_i) (.) h_i^2) / 3 of two modalities, where

        h^m = S_m (table (.) logistic(logits^m)),    rho = (1 - a) p^1 + a (1 - p^2)

    with a in [0, 1], which content moves; it moves the lists and the item's own logits too.

    Attributes:
      parts: (Params.encoder, z, Graph) -> GatedParts.
      lengths: (Params.encoder, Params.projectors) -> by modality (d,), the 2-norms of the rows
        that the raw features are multiplied by on their way to the logits, on the host.
    """

    parts: Callable[[Any, Modal, Graph], GatedParts]
    lengths: Callable[[Any, Any], tuple[np.ndarray, ...]]
