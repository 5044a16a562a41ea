"""Attacks on several devices: clean rankings by owning user, then each device its own targets."""

import dataclasses
import functools

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from uatmc_jax.attacks import Lists, Options, Victim
from uatmc_jax.data import Interactions
from uatmc_jax.evaluation.ranking import RankingPlan
from uatmc_jax.hosts import gathered
from uatmc_jax.models import Model
from uatmc_jax.models.protocol import PyTree
from uatmc_jax.numerics import EXACT
from uatmc_jax.placement.mesh import AXIS, Placement, place, replicate, replicate_features
from uatmc_jax.placement.pairs import OwnedPairs, own_pairs
from uatmc_jax.placement.ranking import Blocks, spread_top_k


def spread_lists(placement: Placement | None, lists: Lists) -> Lists:
    """The lists computed by owning user, the users being cut into equal parts.

    Args:
      placement: the devices; None for one.
      lists: how long they are.
    """
    if placement is None:
        return lists
    return lists._replace(encoded=functools.partial(_spread_encoded, placement))


def spread_victim(placement: Placement | None, victim: Victim) -> Victim:
    """The victim whole on every device: its embeddings and lists, its tables and features.

    Args:
      placement: the devices; None for one.
      victim: made with `spread_lists`, or on one device.
    """
    if placement is None:
        return victim
    apart = {
        "dataset": victim.dataset,
        "adjacency": victim.adjacency,
        "features": replicate_features(placement, victim.features),
    }
    return dataclasses.replace(
        replicate(placement, dataclasses.replace(victim, features=())), **apart
    )


def spread_options(placement: Placement | None, options: Options) -> Options:
    """Batches of targets of which each device works off as many as any other.

    Args:
      placement: the devices; None for one.
      options: memory being that of each device.
    """
    if placement is None:
        return options
    by_target = NamedSharding(placement.mesh, PartitionSpec(AXIS))

    def put(targets: PyTree) -> PyTree:
        return place(targets, by_target)

    return options._replace(multiple=placement.mesh.size, put=put, get=gathered)


def _spread_encoded(
    placement: Placement, model: Model, *given: PyTree, plan: RankingPlan, depth: int
) -> tuple:
    """`attacks.victim.encoded`; `given` is the encoder, z, the graph and the users."""
    n_seen, blocks = int(plan.indptr[-1]), Blocks(plan.block_users, plan.block_items)
    columns = (np.asarray(x)[:n_seen] for x in (plan.seen_users, plan.seen_items))
    pairs = Interactions(*columns)
    seen = own_pairs(placement, pairs, plan.n_users, plan.n_items, plan.block_users)
    given = replicate(placement, given)
    return _encoded(placement, model, depth, blocks, given, seen)


@functools.partial(jax.jit, static_argnames=("placement", "model", "depth", "blocks"))
def _encoded(
    placement: Placement, model: Model, depth: int, blocks: Blocks, given: tuple, seen: OwnedPairs
) -> tuple:
    encoder, z, graph, users = given
    with jax.default_matmul_precision(EXACT):
        user, item = model.encode(encoder, z, graph)
        trace = None if model.field is None else model.field.trace(encoder, z, graph)
        best = spread_top_k(placement, user[users], item, seen, depth, blocks)
    return user[users], item, best, trace
