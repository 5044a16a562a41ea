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

from uatmc_jax.attacks.batching import Options, in_batches, join
from uatmc_jax.attacks.outcome import Outcome, attack_batches, hit_rates, mean_ranks
from uatmc_jax.attacks.perturb import aim_at, make_utility, perturbed_content
from uatmc_jax.attacks.record import Attack, Compiled, in_one_program, require_one_budget
from uatmc_jax.attacks.scoring.protocol import Scorer, Target
from uatmc_jax.attacks.victim import Victim, check_items, check_lists, rows_of
from uatmc_jax.errors import InputError
from uatmc_jax.models import Modal
from uatmc_jax.numerics import EXACT


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


def transfer_batches(
    attack: Attack,
    victim: Victim,
    surrogate: Victim,
    items: np.ndarray,
    key: jax.Array,
    *,
    names: tuple[str, str] = ("model", "model"),
    options: Options | None = None,
) -> Iterator[tuple[np.ndarray, Outcome]]:
    """Attacks each target on the surrogate and yields what that does to the victim.

    Args:
      attack: threat model and search, one budget, for the surrogate.
      victim: the model under attack, clean.
      surrogate: the model to craft on, clean, on the same data.
      items: (T,) targets.
      key: as of `attack_batches`.
      names: of the surrogate and of the victim, for messages.
      options: what is measured and how.

    Yields:
      (places in `items`, their `Outcome` on the victim; `values` are Phi before
      and after).

    Raises:
      InputError: several budgets, an item that is none, perturbed z that the two do not
        share, or values that are not finite.
    """
    require_one_budget(attack)
    options = options or Options()
    if attack.level == "projected":
        check_shared_z(surrogate.z, victim.z, names)
    crafting = options._replace(ranks=False)
    here = attack.replace(surrogate="")
    crafted = join(list(attack_batches(here, surrogate, items, key, options=crafting)))
    yield from measure_batches(attack, victim, items, crafted.delta, options)


def measure_batches(
    attack: Attack,
    victim: Victim,
    items: np.ndarray,
    delta: Sequence[np.ndarray],
    options: Options | None = None,
) -> Iterator[tuple[np.ndarray, Outcome]]:
    """What given perturbations do to a model; nothing is searched for.

    Args:
      attack: its level, modalities, utility, margin and k matter; nothing else does.
      victim: the clean model.
      items: (T,) targets.
      delta: (T, dim_m) for each of the attack's modalities, at its level.
      options: what is measured and how.

    Yields:
      (places in `items`, their `Outcome`; `values` are Phi before and after).

    Raises:
      InputError: several budgets, an item that is none, or values that are not finite.
    """
    require_one_budget(attack)
    options, items = options or Options(), check_items(victim, items)
    ks = options.ks or (attack.k,)
    check_lists(victim, (*ks, attack.k))
    names = ("level", "modalities", "utility", "margin", "k")
    # What does not matter is the same in all: they share one program.
    chosen = in_one_program(Attack(**{name: getattr(attack, name) for name in names}))

    def run(scorer: Scorer, targets: Target, places: np.ndarray) -> dict[str, Any]:
        moved = tuple(jnp.asarray(rows[places])[:, None] for rows in delta)
        return _measure_batch(chosen, victim, scorer, (ks, options.ranks), targets, moved)

    def numbers(result: dict[str, Any]) -> Sequence[np.ndarray]:
        return [result[name] for name in ("values", "hr_before", "hr_after")]

    for scorer, places, result in in_batches(victim, items, options, run, numbers):
        rows = {
            "items": items[places],
            "utility_before": result["values"][:, 0],
            "utility_after": result["values"][:, 1],
            "delta": tuple(x[places] for x in delta),
            "scorers": np.full(len(places), scorer.name),
        }
        yield places, Outcome(**rows, **result)


@functools.partial(jax.jit, static_argnames=("scorer", "measured"))
def _measure_batch(
    attack: Compiled,
    victim: Victim,
    scorer: Scorer,
    measured: tuple[tuple[int, ...], bool],
    targets: Target,
    delta: Modal,
) -> dict[str, Any]:
    """Those of `Outcome`'s fields of one batch that need the model; delta modal, (b, 1, dim_m)."""
    ks, ranks = measured

    def one(target: Target, delta: Modal) -> tuple[Modal, jax.Array, jax.Array]:
        aim = aim_at(victim, scorer, target, attack.k, ks)
        utility = make_utility(attack, victim, aim)
        z = perturbed_content(attack, victim, target.item, delta)
        both = jax.tree.map(lambda *x: jnp.stack(x), rows_of(victim.z, target.item), z)

        def look(z: Modal) -> tuple[jax.Array, jax.Array]:
            return utility(z), hit_rates(victim, aim, z)

        return z, *jax.lax.map(look, both)

    with jax.default_matmul_precision(EXACT):
        z, values, rates = jax.vmap(one)(targets, delta)
        rank_before = rank_after = None
        if ranks:
            clean = tuple(x[targets.item][:, None] for x in victim.z)
            rank_before = mean_ranks(victim, scorer, targets, clean)
            rank_after = mean_ranks(victim, scorer, targets, z)
        return {
            "values": values,
            "hr_before": rates[:, 0],
            "hr_after": rates[:, 1],
            "rank_before": rank_before,
            "rank_after": rank_after,
            "z": tuple(x[:, 0] for x in z),
        }
