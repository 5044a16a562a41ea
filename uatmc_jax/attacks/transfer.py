"""Perturbations crafted on one model and measured on another: transfer, from a surrogate.

The attacker knows the surrogate (other parameters or another architecture,
trained on the same data) and asks the model under attack nothing. At level
"feature" the raw features z^m = P^m(v^m + delta) are edited, and each model
projects them by itself. At level "projected" delta moves z, so it means the
same to both models only if they share z: the same frozen projectors.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from uatmc_jax.attacks.batching import (
    Outcome,
    attack_targets,
    hit_rates,
    in_batches,
    join,
    mean_ranks,
    path_of,
)
from uatmc_jax.attacks.perturb import Attack, Strength, make_utility, perturbed_content
from uatmc_jax.attacks.scoring.protocol import Path, Target
from uatmc_jax.attacks.victim import EXACT, Victim, recommendable, rows_of
from uatmc_jax.errors import InputError
from uatmc_jax.models import Adjacency, Modal, Model


def check_shared_z(surrogate: Modal, victim: Modal, names: tuple[str, str]) -> None:
    """Raises InputError unless both models have the very same z, each modal (|I|, d).

    Args:
      surrogate: z of the model to craft on.
      victim: z of the model under attack.
      names: of the two, for the message.
    """
    same = len(surrogate) == len(victim) and all(
        a.shape == b.shape and bool(jnp.array_equal(a, b))
        for a, b in zip(surrogate, victim, strict=True)
    )
    if not same:
        raise InputError(
            f"surrogate {names[0]} and victim {names[1]} do not share z, so a perturbation of z "
            "does not carry over. Take a surrogate with the victim's frozen projectors (trained "
            "with --config.pretrain.init_from), or attack the raw features: level = 'feature'."
        )


def transfer_targets(
    model: Model,
    attack: Attack,
    strength: Strength,
    victim: Victim,
    surrogate_model: Model,
    surrogate: Victim,
    items: np.ndarray,
    ks: Sequence[int],
    key: jax.Array,
    *,
    names: tuple[str, str] = ("model", "model"),
    adjacency: Adjacency | None = None,
    path: str = "auto",
    ranks: bool = False,
    memory_mib: float = 1024.0,
) -> Iterator[tuple[np.ndarray, Outcome]]:
    """Attacks each target on the surrogate and yields what that does to the victim.

    Args:
      model: the recommender under attack.
      attack: static choices, for the surrogate.
      strength: eps, step size, margin, beta, for the surrogate.
      victim: its clean model, with `list_depth` best items kept.
      surrogate_model: the recommender to craft on.
      surrogate: its clean model, on the same data.
      items: (T,) targets.
      ks: K of the hit rates.
      key: as of `attack_targets`.
      names: of the surrogate and of the victim, for messages.
      adjacency: of the training graph; needed by models with `field`.
      path: "auto" or "dense".
      ranks: also give mean ranks.
      memory_mib: for a batch.

    Yields:
      (places in `items`, their `Outcome` on the victim; `values` are Phi before
      and after).

    Raises:
      InputError: perturbed z that the two do not share, or values that are not finite.
    """
    if attack.level == "projected":
        check_shared_z(surrogate.z, victim.z, names)
    shared = {"adjacency": adjacency, "path": path, "memory_mib": memory_mib}
    crafted = join(
        list(attack_targets(surrogate_model, attack, strength, surrogate, items, ks, key, **shared))
    )
    yield from measure_targets(
        model, attack, strength, victim, items, crafted.delta, ks, ranks=ranks, **shared
    )


def measure_targets(
    model: Model,
    attack: Attack,
    strength: Strength,
    victim: Victim,
    items: np.ndarray,
    delta: Sequence[np.ndarray],
    ks: Sequence[int],
    *,
    adjacency: Adjacency | None = None,
    path: str = "auto",
    ranks: bool = False,
    memory_mib: float = 1024.0,
) -> Iterator[tuple[np.ndarray, Outcome]]:
    """What given perturbations do to a model; nothing is searched for.

    Args:
      model: the recommender.
      attack: its level, modalities, utility and k matter; nothing else does.
      strength: its margin matters.
      victim: the clean model, with `list_depth` best items kept.
      items: (T,) targets.
      delta: (T, dim_m) for each of the attack's modalities, at its level.
      ks: K of the hit rates.
      adjacency: of the training graph; needed by models with `field`.
      path: "auto" or "dense".
      ranks: also give mean ranks.
      memory_mib: for a batch.

    Yields:
      (places in `items`, their `Outcome`; `values` are Phi before and after).

    Raises:
      InputError: values that are not finite.
    """
    ks = tuple(ks)

    def run(path: Path, targets: Target, places: np.ndarray) -> dict[str, Any]:
        moved = tuple(jnp.asarray(rows[places])[:, None] for rows in delta)
        return _measure_batch(model, path, attack, ks, ranks, victim, strength, targets, moved)

    def numbers(result: dict[str, Any]) -> Sequence[np.ndarray]:
        return [result[name] for name in ("values", "hr_before", "hr_after")]

    parts = in_batches(
        model, victim, adjacency, items, path_of(model, path), memory_mib, run, numbers
    )
    for kind, places, result in parts:
        rows = {
            "items": items[places],
            "utility_before": result["values"][:, 0],
            "utility_after": result["values"][:, 1],
            "delta": tuple(x[places] for x in delta),
            "paths": np.full(len(places), kind.name),
        }
        yield places, Outcome(**rows, **result)


@functools.partial(jax.jit, static_argnames=("model", "path", "attack", "ks", "ranks"))
def _measure_batch(
    model: Model,
    path: Path,
    attack: Attack,
    ks: tuple[int, ...],
    ranks: bool,
    victim: Victim,
    strength: Strength,
    targets: Target,
    delta: Modal,
) -> dict[str, Any]:
    """Those of `Outcome`'s fields of one batch that need the model; delta modal, (b, 1, dim_m)."""

    def one(target: Target, delta: Modal) -> tuple[Modal, jax.Array, jax.Array]:
        item = target.item
        site = path.prepare(model, victim, target, attack.k, ks)
        weights = recommendable(victim, item).astype(jnp.float32)
        utility = make_utility(model, path, attack, victim, strength, site, weights)
        z = perturbed_content(model, attack, victim, item, delta)
        both = jax.tree.map(lambda *x: jnp.stack(x), rows_of(victim.z, item), z)

        def look(z: Modal) -> tuple[jax.Array, jax.Array]:
            return utility(z), hit_rates(model, path, victim, site, item, z)

        return z, *jax.lax.map(look, both)

    with jax.default_matmul_precision(EXACT):
        z, values, rates = jax.vmap(one)(targets, delta)
        rank_before = rank_after = None
        if ranks:
            clean = tuple(x[targets.item][:, None] for x in victim.z)
            rank_before = mean_ranks(model, path, victim, targets, clean)
            rank_after = mean_ranks(model, path, victim, targets, z)
        return {
            "values": values,
            "hr_before": rates[:, 0],
            "hr_after": rates[:, 1],
            "rank_before": rank_before,
            "rank_after": rank_after,
            "z": tuple(x[:, 0] for x in z),
        }
