"""Raw features to z: one small network per modality, its output on the unit sphere."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from uatmc_jax.models.protocol import Modal, ProjectorHead, PyTree
from uatmc_jax.numerics import normalize_rows

LAYER_NORM_EPSILON = 1e-5


class Projector(nn.Module):
    """Dense, ReLU, LayerNorm per hidden width, then Dense to `dim`.

    Attributes:
      hidden: widths of the hidden layers.
      dim: width of the output.
    """

    hidden: Sequence[int]
    dim: int

    @nn.compact
    def __call__(self, x: jax.Array, output: bool = True) -> jax.Array:
        """(n, raw dim) to (n, dim); without `output` to what the last Dense reads."""
        kernel_init = nn.initializers.xavier_normal()
        for width in self.hidden:
            x = nn.relu(nn.Dense(width, kernel_init=kernel_init)(x))
            x = nn.LayerNorm(epsilon=LAYER_NORM_EPSILON)(x)
        return nn.Dense(self.dim, kernel_init=kernel_init)(x) if output else x


def init_projectors(
    key: jax.Array, raw_dims: dict[str, int], hidden: dict[str, tuple[int, ...]], dim: int
) -> dict[str, dict]:
    """Xavier-normal parameters of each modality's projector, by modality name."""
    keys = jax.random.split(key, len(raw_dims))
    return {
        name: Projector(hidden[name], dim).init(k, jnp.zeros((1, raw)))
        for k, (name, raw) in zip(keys, raw_dims.items(), strict=True)
    }


def project(
    params: dict[str, dict],
    features: Modal,
    hidden: dict[str, tuple[int, ...]],
    dim: int,
) -> Modal:
    """z_i^m = normalize(MLP^m(raw feature of item i)).

    Args:
      params: from `init_projectors`.
      features: modal, (n, raw dim_m), in the order of `hidden`.
      hidden: {modality: hidden widths}, in the data set's order.
      dim: d.

    Returns:
      Modal, (n, d), rows of length one.
    """
    return tuple(
        normalize_rows(Projector(widths, dim).apply(params[name], x))
        for (name, widths), x in zip(hidden.items(), features, strict=True)
    )


def make_projector_head(hidden: dict[str, tuple[int, ...]], dim: int) -> ProjectorHead:
    """The projectors' last Dense and what comes before it; arguments as of `project`."""

    def layer(widths: tuple[int, ...]) -> str:
        return f"Dense_{len(widths)}"  # Flax counts the layers of a kind

    def split(projectors: dict[str, dict]) -> PyTree:
        return {name: projectors[name]["params"][layer(w)] for name, w in hidden.items()}

    def join(projectors: dict[str, dict], output: PyTree) -> dict[str, dict]:
        return {
            name: {"params": projectors[name]["params"] | {layer(w): output[name]}}
            for name, w in hidden.items()
        }

    def read(projectors: dict[str, dict], features: Modal) -> Modal:
        return tuple(
            Projector(widths, dim).apply(projectors[name], x, output=False)
            for (name, widths), x in zip(hidden.items(), features, strict=True)
        )

    def apply(output: PyTree, rows: Modal) -> Modal:
        return tuple(
            normalize_rows(nn.Dense(dim).apply({"params": output[name]}, x))
            for name, x in zip(hidden, rows, strict=True)
        )

    return ProjectorHead(split, join, read, apply)
