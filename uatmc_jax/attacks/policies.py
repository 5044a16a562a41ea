"""What a recommender computes anew once an item's content is edited: the serving policy.

  frozen    nothing: content and item lists were read once, an edit changes no score.
  own_row   the edited item's own rows: its features, its list of neighbours, its embedding.
            Everybody else's are read as stored; only its own scores move.
  full      everything, as a nightly rebuild does; other items' lists too.

The embeddings here are those of the definition, dense and slow: what searches compute
cheaply is tested against them.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from uatmc_jax.attacks.victim import Victim, encoded
from uatmc_jax.checks import one_of
from uatmc_jax.errors import InputError
from uatmc_jax.models import Embeddings, Modal, Model, Served
from uatmc_jax.models.protocol import PyTree
from uatmc_jax.numerics import EXACT

POLICIES = ("frozen", "own_row", "full")


def blind(model: Model, policy: str) -> str | None:
    """Why no edit whatever changes a score; None if one may.

    >>> from uatmc_jax.models import Sizes, bm3
    >>> blind(bm3(Sizes(60, 50, {"visual": 64})), "full")
    'bm3 reads no content when it serves: no edit changes any score'

    Args:
      model: the recommender.
      policy: one of `POLICIES`.

    Raises:
      InputError: no such policy.
    """
    one_of("policy", policy, POLICIES)
    if not model.reads:
        return f"{model.name} reads no content when it serves: no edit changes any score"
    if policy == "frozen":
        return "nothing is computed anew under the policy 'frozen': no edit changes any score"
    return None


def require_projected(model: Model, level: str = "projected") -> None:
    """Raises InputError for a model whose scores an attack of this level does not see move.

    Where no projected features reach a score it would find nothing, and report a robustness
    that is none; where raw features also make lists of neighbours it would leave these stale.

    Args:
      model: the recommender.
      level: what is edited, "projected" or "feature".
    """
    if level not in model.levels:
        raise InputError(
            f"level = {level!r}: what model {model.name} reads of content is no one vector that an "
            f"edit could move there. Use level = {model.levels[0]!r}."
        )
    if "z" in model.reads:
        if level == "feature" and "raw" in model.reads:
            raise InputError(
                f"level = 'feature': raw features of model {model.name} also choose neighbours, "
                "which an ascent leaves as they are. Use level = 'projected', which edits what "
                "is read beside them; attacks.served measures an edit of raw features."
            )
        return
    if not model.reads:
        raise InputError(
            f"model {model.name}: it reads no content when it serves, so that no edit of an image "
            "or a text changes any score. There is nothing to attack."
        )
    raise InputError(
        f"model {model.name}: projected features reach no score; its content acts through lists "
        "of neighbours, which jump and have no gradient. Search with attacks.relist, and bound "
        "with attacks.certify_lists (docs/victims.md)."
    )


def served(victim: Victim, item: int, rows: Modal, policy: str) -> Embeddings:
    """Embeddings once an item has new raw features, by the policy's definition.

    Args:
      victim: the clean model.
      item: the edited one.
      rows: modal, (dim_m,), its raw features.
      policy: one of `POLICIES`.

    Returns:
      Of the victim's users, (n, D), and of all items, (|I|, D).

    Raises:
      InputError: no such policy, or own_row of a model for which it is not defined.
    """
    model, clean = victim.model, Embeddings(victim.user, victim.item)
    if blind(model, policy):
        return clean
    if policy == "own_row" and model.own_row is None and model.encode_rows is None:
        raise InputError(
            f"policy 'own_row': model {model.name} does not say what it is (own_row). Use 'full'."
        )
    features = tuple(np.array(x) for x in victim.dataset.features)
    for table, row in zip(features, rows, strict=True):
        table[item] = row
    graph = victim.graph
    if model.relate is not None:
        graph = graph.replace(relations=model.relate(features))
    z = _with_row(model, victim.projectors, victim.z, tuple(map(jnp.asarray, rows)), item)
    if policy == "own_row" and model.own_row is not None:
        before, after = Served(victim.z, victim.graph), Served(z, graph)
        own = _own_row(model, victim.encoder, before, after, item)
        return clean._replace(item=victim.item.at[item].set(own))
    # The program that made the victim: what does not move has the same bits.
    depth = min(victim.best_items.shape[1], len(victim.item))
    user, items, *_ = encoded(model, victim.encoder, z, graph, victim.users, victim.plan, depth)
    if policy == "own_row":  # no other row moves under `full` either
        return clean._replace(item=victim.item.at[item].set(items[item]))
    return Embeddings(user, items)


@functools.partial(jax.jit, static_argnames="model")
def _with_row(model: Model, projectors: PyTree, z: Modal, rows: Modal, item: jax.Array) -> Modal:
    """z with the edited item's row of raw features (dim_m,)."""
    with jax.default_matmul_precision(EXACT):
        own = model.project(projectors, tuple(x[None] for x in rows))
    return tuple(x.at[item].set(row[0]) for x, row in zip(z, own, strict=True))


@functools.partial(jax.jit, static_argnames="model")
def _own_row(
    model: Model, encoder: PyTree, before: Served, after: Served, item: jax.Array
) -> jax.Array:
    with jax.default_matmul_precision(EXACT):
        return model.own_row(encoder, before, after, item)
