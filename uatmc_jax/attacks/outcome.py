"""Attacking many targets, one item at a time, batch by batch: what becomes of them."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from uatmc_jax.attacks.batching import CHEAP, Options, in_batches
from uatmc_jax.attacks.listed import relist_batches
from uatmc_jax.attacks.perturb import Aim, Perturbed, aim_at, perturb
from uatmc_jax.attacks.policies import require_search
from uatmc_jax.attacks.record import (
    LISTED,
    Attack,
    Compiled,
    Outcome,
    budgets,
    in_one_program,
    one_budget,
)
from uatmc_jax.attacks.scoring.protocol import Scorer, Target
from uatmc_jax.attacks.victim import Victim, check_lists, recommendable, rows_of
from uatmc_jax.errors import InputError
from uatmc_jax.evaluation.ranking import count_at_least
from uatmc_jax.models import Modal, blind
from uatmc_jax.numerics import EXACT


def attack_batches(
    attack: Attack,
    victim: Victim,
    items: np.ndarray,
    key: jax.Array,
    weights: np.ndarray | None = None,
    options: Options | None = None,
) -> Iterator[tuple[np.ndarray, Outcome]]:
    """Attacks each target alone and yields results batch by batch.

    The result does not depend on how the targets fall into batches, but for
    floating-point rounding.

    Args:
      attack: threat model and search.
      victim: the clean model and its users.
      items: (T,) targets.
      key: target i's random starts come from fold_in(key, i).
      weights: (T, n) of the users in Phi; by default all alike.
      options: what is measured and how.

    Yields:
      (places in `items`, their `Outcome`).

    Raises:
      InputError: a K beyond the lists that the victim keeps, an item or a modality that is
        none, an attack that is crafted on a surrogate, one that cannot see what an edit does to
        this model's scores, or values that are not finite.
    """
    if attack.surrogate:
        raise InputError(
            f"attack.surrogate = '{attack.surrogate}': crafted on another model, which is not "
            "here. Give both models to attacks.transfer_batches, or leave it empty."
        )
    options = options or Options()
    why = blind(victim.model, options.serving)
    if why:
        raise InputError(f"{why}. There is nothing to attack.")
    require_search(victim.model, attack, options.serving)
    ks = options.ks or (attack.k,)
    check_lists(victim, (*ks, attack.k))
    if attack.search in LISTED:
        yield from relist_batches(attack, victim, items, options)
        return
    compiled = {cheap: in_one_program(attack, utilities=not cheap) for cheap in (True, False)}

    def run(scorer: Scorer, targets: Target, places: np.ndarray) -> dict[str, Any]:
        chosen = None if weights is None else jnp.asarray(weights[places], jnp.float32)
        measured = (ks, options.ranks)
        given = compiled[scorer in CHEAP]
        return attack_batch(given, victim, scorer, measured, targets, chosen, key)

    def numbers(result: dict[str, Any]) -> Sequence[np.ndarray]:
        names = ("values", "utility_after", "hr_before", "hr_after")
        return [result[name] for name in names]

    for scorer, places, result in in_batches(victim, items, options, run, numbers):
        result |= {
            "items": np.asarray(items)[places],
            "values": result["values"][..., : attack.steps + 1],
            "scorers": np.full(len(places), scorer.name),
        }
        yield places, Outcome(**result)


@functools.partial(jax.jit, static_argnames=("scorer", "measured"))
def attack_batch(
    attack: Compiled,
    victim: Victim,
    scorer: Scorer,
    measured: tuple[tuple[int, ...], bool],
    targets: Target,
    weights: jax.Array | None,
    key: jax.Array,
) -> dict[str, Any]:
    """`Outcome`'s fields of one batch, compiled; `values` as of `Perturbed`.

    Args:
      attack: as `in_one_program` gives it, or `as_compiled`.
      victim: the clean model and its users.
      scorer: how scores are got.
      measured: (Ks of the hit rates, whether ranks are asked for).
      targets: b of them, stacked.
      weights: (b, n) of the users in Phi; None for all alike.
      key: target i's random starts come from fold_in(key, i).
    """
    (ks, ranks), n_budgets = measured, budgets(attack)

    def under(one: Compiled, aim: Aim, key: jax.Array) -> tuple[Perturbed, jax.Array]:
        """The perturbation within one budget, and hit rates before and after it."""
        item = aim.state.item
        found = perturb(one, victim, aim, key)
        both = jax.tree.map(lambda *x: jnp.stack(x), rows_of(victim.z, item), found.z)
        return found, jax.lax.map(lambda z: hit_rates(victim, aim, z), both)

    def one(target: Target, weights: jax.Array | None):
        aim = aim_at(victim, scorer, target, attack.k, ks, weights)
        own = jax.random.fold_in(key, target.item)
        if n_budgets is None:
            return under(attack, aim, own)
        # One budget after the other: memory is that of one.
        return jax.lax.map(
            lambda place: under(one_budget(attack, place), aim, own), jnp.arange(n_budgets)
        )

    with jax.default_matmul_precision(EXACT):
        found, rates = jax.vmap(one, in_axes=(0, None if weights is None else 0))(targets, weights)
        values, before = found.values[..., 0], rates[..., 0, :]
        rank_before = rank_after = None
        if ranks:
            clean = tuple(x[targets.item][:, None] for x in victim.z)
            rank_before = mean_ranks(victim, scorer, targets, clean)
            rank_after = _ranks_after(victim, scorer, targets, found.z, n_budgets)
        return {
            "utility_before": values if n_budgets is None else values[:, 0],
            "utility_after": found.utility,
            "values": found.values,
            "hr_before": before if n_budgets is None else before[:, 0],
            "hr_after": rates[..., 1, :],
            "rank_before": rank_before,
            "rank_after": rank_after,
            "z": tuple(x[..., 0, :] for x in found.z),
            "delta": tuple(x[..., 0, :] for x in found.delta),
        }


def _ranks_after(
    victim: Victim, scorer: Scorer, targets: Target, z: Modal, n_budgets: int | None
) -> jax.Array:
    if n_budgets is None:
        return mean_ranks(victim, scorer, targets, z)
    by_budget = tuple(jnp.moveaxis(x, 1, 0) for x in z)
    return jax.lax.map(lambda z: mean_ranks(victim, scorer, targets, z), by_budget).T


def hit_rates(victim: Victim, aim: Aim, z: Modal) -> jax.Array:
    """(Ks,) the share of the users who have the target in their top K.

    Args:
      victim: the clean model.
      aim: the target.
      z: modal, (1, d), its content.
    """
    hits = aim.scorer.hits(victim, aim.state, z).astype(jnp.float32)
    return jnp.mean(jnp.where(recommendable(victim, aim.state.item)[:, None], hits, 0.0), axis=0)


def mean_ranks(victim: Victim, scorer: Scorer, targets: Target, z: Modal) -> jax.Array:
    """Each target's rank, averaged over the users it can be recommended to.

    Rank 1 is the best; ties count against the target.

    Args:
      victim: the clean model.
      scorer: how scores are got.
      targets: T of them, stacked.
      z: modal, (T, 1, d), their content.

    Returns:
      (T,).
    """
    if scorer in CHEAP:
        # Only the target's score moves: every user's scores are computed once for all targets.
        embed = jax.vmap(
            lambda t, row: scorer.embed(victim, scorer.prepare(victim, t, 1, (1,)), row).item[
                t.item
            ]
        )
        scores = victim.user @ embed(targets, z).T
        counts = count_at_least(victim.user, victim.item, victim.plan, scores, targets.item).T
    else:

        def count(inputs: tuple[Target, Modal]) -> jax.Array:
            target, row = inputs
            state = scorer.prepare(victim, target, 1, (1,))
            user, item = scorer.embed(victim, state, row)
            scores = user @ item[target.item]
            return count_at_least(user, item, victim.plan, scores[:, None], target.item[None])[:, 0]

        counts = jax.lax.map(count, (targets, z))
    seen_by = jax.vmap(lambda item: recommendable(victim, item))(targets.item)
    total = jnp.sum(jnp.where(seen_by, counts + 1, 0), axis=1)
    return total / jnp.maximum(jnp.sum(seen_by, axis=1), 1)
