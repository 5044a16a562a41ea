"""How the scores of a model under attack are got: what every scorer must answer.

A scorer is four pure functions of one target. `prepare` gathers what does not
depend on the perturbation; the others take it with the target's perturbed
content z_t. All may be `vmap`ped over targets. NaN means that the scorer cannot
tell; the dense one always can.

A tie counts against the target: it is in a user's top K when fewer than K other
items score at least as much.
"""

from collections.abc import Callable
from typing import NamedTuple

import flax.struct
import jax

from uatmc_jax.attacks.victim import Victim
from uatmc_jax.models import Embeddings, Modal
from uatmc_jax.models.protocol import PyTree


@flax.struct.dataclass
class Target:
    """One targeted item.

    Attributes:
      item: () int32.
      field: its receptive field (models/field.py); None unless the scorer needs it.
    """

    item: jax.Array
    field: PyTree = None


class Scorer(NamedTuple):
    """Scores under attack.

    Attributes:
      name: recorded with results.
      prepare: (victim, Target, K of the attack, Ks of the evaluation) -> state, which
        has the target's `item`.
      excess: (victim, state, z_t modal (1, d)) -> (n,) x_u = y'_ut - s_u^(K),
        differentiable in z_t to second order.
      hits: (victim, state, z_t) -> (n, Ks) true (1) where the target is in the user's top K.
      embed: (victim, state, z_t) -> Embeddings of the n users and of all items.
      bytes_per_target: (victim, sizes of the padded shells) -> rough memory of one
        target in a batch, for the choice of the batch.
    """

    name: str
    prepare: Callable[[Victim, Target, int, tuple[int, ...]], PyTree]
    excess: Callable[[Victim, PyTree, Modal], jax.Array]
    hits: Callable[[Victim, PyTree, Modal], jax.Array]
    embed: Callable[[Victim, PyTree, Modal], Embeddings]
    bytes_per_target: Callable[[Victim, tuple[int, ...]], int]
