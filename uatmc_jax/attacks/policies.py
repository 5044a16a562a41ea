"""What a recommender serves once an item's content is edited, by policy (`models.POLICIES`).

The embeddings here are those of the definition, dense and slow: what searches compute
cheaply is tested against them.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from uatmc_jax.attacks.record import LISTED, Attack
from uatmc_jax.attacks.victim import Victim, encoded
from uatmc_jax.errors import InputError
from uatmc_jax.models import Embeddings, Modal, Model, Served, blind, no_edit_at, undefined
from uatmc_jax.models.protocol import PyTree
from uatmc_jax.numerics import EXACT


def require_search(model: Model, attack: Attack, policy: str) -> None:
    """Raises InputError for an attack that cannot see what an edit does to the model's scores.

    Args:
      model: the recommender, not blind under the policy.
      attack: how it searches, and at which level.
      policy: of `POLICIES`.
    """
    lacking = undefined(model, policy)
    if lacking:
        raise InputError(lacking)
    if attack.search not in LISTED:
        require_projected(model, attack.level)
    elif attack.search == "neighbours" and not chosen(model, policy):
        raise InputError(
            f"search = 'neighbours': those of model {model.name} are not chosen under '{policy}', "
            "but of lists that are all its content does (lists), and under own_row of lists that "
            "are added up as a direction (normed_lists). Use search = 'relist'."
        )
    elif not copied(model):
        raise InputError(
            f"search = 'relist': model {model.name} declares no item lists (lists), so there are "
            "no neighbours to choose by copying a listing. Use another search."
        )


def copied(model: Model) -> bool:
    """Whether a listing can be copied into it: content acts through lists of raw features."""
    beside = model.own_row is not None and model.relate_rows is not None
    return model.lists is not None or ("raw" in model.reads and beside)


def chosen(model: Model, policy: str) -> bool:
    """Whether neighbours beyond a copy's can be searched for under the policy."""
    by_direction = model.normed_lists is not None and policy == "own_row"
    return model.lists is not None or by_direction


def require_projected(model: Model, level: str = "projected") -> None:
    """Raises InputError for a model whose scores an attack of this level does not see move.

    Where no projected features reach a score it would find nothing, and report a robustness
    that is none; where raw features also make lists of neighbours it would leave these stale.

    Args:
      model: the recommender.
      level: what is edited, "projected" or "feature".
    """
    reason = no_edit_at(model, level)
    if reason:
        raise InputError(f"level = {level!r}: {reason}. Use level = {model.levels[0]!r}.")
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
        "of neighbours, which jump and have no gradient. Search with attacks.relist (--config "
        "attack:lists), and bound with attacks.certify_lists (docs/victims.md)."
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
    lacking = undefined(model, policy)
    if lacking:
        raise InputError(lacking)
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
