"""MMGCN's parameters as pytrees, and what it keeps of a pass."""

import flax.struct
import jax

from uatmc_jax.models.protocol import Embeddings


@flax.struct.dataclass
class Affine:
    """x -> x kernel + bias; kernel (in, out), bias (out,)."""

    kernel: jax.Array
    bias: jax.Array

    def __call__(self, x: jax.Array) -> jax.Array:
        """(n, in) to (n, out)."""
        return x @ self.kernel + self.bias


@flax.struct.dataclass
class Layer:
    """One propagation layer, from width w to d.

    Attributes:
      neighbour: (w, w) W_l.
      own: A_l, w to d.
      fuse: B_l, w + d (concat) or w (add) to d.
    """

    neighbour: jax.Array
    own: Affine
    fuse: Affine


@flax.struct.dataclass
class Tower:
    """One modality's network.

    Attributes:
      preference: (|U|, w) P^m.
      widen: M^m, d to w; None where w = d and M^m is the identity.
      layers: the propagation layers.
    """

    preference: jax.Array
    widen: Affine | None
    layers: tuple[Layer, ...]


@flax.struct.dataclass
class MMGCNEncoder:
    """MMGCN's own parameters.

    Attributes:
      identity: (|U|+|I|, d) E.
      towers: one per modality, in order.
    """

    identity: jax.Array
    towers: tuple[Tower, ...]


@flax.struct.dataclass
class FieldRows:
    """What a receptive field reads of the clean pass, by shell.

    Attributes:
      towers: by tower and layer (x, mean), each by shell (n_k, width).
      identity: by shell (n_k, d) rows of E.
      degrees: by shell (n_k, 1) number of neighbours, at least 1.
    """

    towers: tuple
    identity: tuple[jax.Array, ...]
    degrees: tuple[jax.Array, ...]


@flax.struct.dataclass
class Prepared:
    """What does not depend on content, computed once for several passes.

    Attributes:
      encoder: the parameters.
      first: by tower, what layer 1 adds up and no item's content reaches: of the users
        (|U|, d) their own part, of the items (|I|, d) what they hear.
    """

    encoder: MMGCNEncoder
    first: tuple[Embeddings, ...]
