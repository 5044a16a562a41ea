"""Items that add up others' rows, of raw and of learned lists, as a direction alone."""

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
