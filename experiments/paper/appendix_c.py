"""Appendix C: what the alignment term costs, and what per-user gradients would, as |U| grows."""

import time
from collections.abc import Callable

import jax
import numpy as np

from experiments.paper.artefact import FAILS, HOLDS, Artefact, Claim, nothing_to_draw
from experiments.study import Rows, Study, Unit, changed, recorded
from experiments.variants import attack_settings, cost_class
from uatmc_jax.analysis.mismatch import contributions, make_shares, user_gradients
from uatmc_jax.attacks import Lists, make_victim
from uatmc_jax.attacks.batching import scorer_of
from uatmc_jax.attacks.record import as_compiled
from uatmc_jax.attacks.scoring.dense import DENSE
from uatmc_jax.attacks.scoring.protocol import Target
from uatmc_jax.data import Dataset, make_synthetic
from uatmc_jax.defenses import coefficients
from uatmc_jax.models import Model, Params, build_model
from uatmc_jax.report.text import table
from uatmc_jax.training.epoch import compile_epoch, steps_per_epoch
from uatmc_jax.training.stages import adversarial_parts, init_params

N_ITEMS = 2_000
K = 50
REPEATS = 3


def _units(study: Study) -> list[Unit]:
    sizes = study.plan.cost_users

    def run(tell: Callable[[float], None]) -> Rows:
        rows = []
        for done, n_users in enumerate(sizes, start=1):
            rows.append({"users": n_users, "seed": 0, **_measure(study, n_users)})
            tell(done / len(sizes))
        return rows

    plain = {
        "users": list(sizes),
        "items": N_ITEMS,
        "model": recorded(study.settings.model),
        "adversarial": recorded(study.settings.adversarial),
    }
    each = 25.0 if cost_class(study.settings) == "rows" else 90.0
    return [Unit("appendix_c/cost", plain, each * len(sizes), run)]


def _measure(study: Study, n_users: int) -> dict:
    dataset = make_synthetic(
        0, n_users=n_users, n_items=N_ITEMS, n_interactions=max(5 * n_users, 20_000)
    )
    settings = changed(
        study.settings,
        {"data.source": "synthetic", "data.name": "synthetic", "adversarial.batch_size": 2048},
    )
    model = build_model(settings.model, dataset.sizes)
    data = dataset.on_device
    params = init_params(settings, model)
    found: dict = {"interactions": len(dataset.train), "batch_size": 2048}
    steps = steps_per_epoch(len(dataset.train), 2048)
    for defense in ("none", "uat", "uat_mc"):
        chosen = changed(settings, {"adversarial.defense": defense})
        parts = adversarial_parts(chosen, model, params, data)
        epoch, fixed = compile_epoch(parts.epoch), (parts.frozen, coefficients(chosen.adversarial))
        state, seconds = parts.first_state(0), []
        for _ in range(REPEATS + 1):
            start = time.perf_counter()
            state, *_ = jax.block_until_ready(epoch(state, fixed, data))
            seconds.append(time.perf_counter() - start)
        found[f"{defense}_ms_per_step"] = 1e3 * min(seconds[1:]) / steps
    found |= _user_wise(study, dataset, model, params)
    return found


def _user_wise(study: Study, dataset: Dataset, model: Model, params: Params) -> dict:
    """Milliseconds to find every user's part in one item's gradients, in two ways."""
    settings = attack_settings(study, (0,), {"fgsm": {"base": "fgsm", "utility": "elu"}})
    attack = as_compiled(settings.attacks["fgsm"])
    victim = make_victim(model, params, dataset, np.arange(dataset.n_users), lists=Lists(k=K))
    # A receptive field would have to be drawn up first; the dense scorer is the general one.
    scorer = scorer_of(model) if model.encode_rows is not None else DENSE

    @jax.jit
    def explicit(victim, item):
        shares, start = make_shares(attack, victim, scorer, Target(item))
        return user_gradients(shares, start, dataset.n_users)

    @jax.jit
    def directional(victim, item):
        shares, start = make_shares(attack, victim, scorer, Target(item))
        gradient = jax.grad(lambda delta: shares(delta).sum())(start)
        return contributions(shares, start, gradient)

    found, item = {}, np.int32(0)
    for name, function in (("per_user_gradients", explicit), ("directional", directional)):
        if name == "per_user_gradients" and scorer is DENSE:
            continue  # a backward pass of the whole graph for every user: hours
        seconds = []
        for _ in range(REPEATS + 1):
            start = time.perf_counter()
            jax.block_until_ready(function(victim, item))
            seconds.append(time.perf_counter() - start)
        found[f"{name}_ms_per_item"] = 1e3 * min(seconds[1:])
    return found


def _section(rows: Rows) -> list[str]:
    header = ["users", "step w/o AT, ms", "UAT, ms", "UAT-MC, ms", "alignment adds"]
    header += ["per-user gradients of one item, ms", "directional contributions of one item, ms"]

    def shown(row: dict, key: str) -> str:
        return f"{row[key]:,.1f}" if key in row else "not run"

    body = [
        [
            f"{row['users']:,}",
            *(f"{row[f'{d}_ms_per_step']:.1f}" for d in ("none", "uat", "uat_mc")),
            f"{row['uat_mc_ms_per_step'] / row['uat_ms_per_step'] - 1:+.0%}",
            shown(row, "per_user_gradients_ms_per_item"),
            shown(row, "directional_ms_per_item"),
        ]
        for row in rows
    ]
    device = rows[0]["device"]
    return [
        *table(header, body),
        "",
        f"Synthetic data with {N_ITEMS:,} items, steps of 2,048 triples ({device['kind']}, best "
        f"of {REPEATS} after compilation). A batch has up to 4,096 items, so per-user gradients "
        "would cost that many times their column at every step. The last column is how this "
        "library finds the same c_u^m: one Jacobian-vector product a modality.",
    ]


def _claims(rows: Rows) -> list[Claim]:
    small, large = rows[0], rows[-1]
    ratio = [r["uat_mc_ms_per_step"] / r["uat_ms_per_step"] for r in (small, large)]
    growth = large["users"] / small["users"]
    claims = [
        Claim(
            "C",
            "The alignment term costs a factor that does not grow by half with the users.",
            HOLDS if ratio[1] < 1.5 * ratio[0] else FAILS,
            f"UAT-MC's step takes {ratio[0]:.2f} times UAT's with {small['users']:,} users, "
            f"{ratio[1]:.2f} times with {large['users']:,}",
        )
    ]
    if "per_user_gradients_ms_per_item" in small:
        times = [r["per_user_gradients_ms_per_item"] for r in (small, large)]
        claims.append(
            Claim(
                "C",
                "Explicit per-user gradients grow with the users (half as fast, or more).",
                HOLDS if times[1] / times[0] > growth / 2 else FAILS,
                f"{times[0]:,.1f} ms an item with {small['users']:,} users, {times[1]:,.1f} ms "
                f"with {large['users']:,} ({growth:g} times as many)",
            )
        )
    return claims


ARTEFACT = Artefact(
    name="appendix_c",
    title="Appendix C: cost",
    trainings=lambda study: [],
    units=_units,
    section=_section,
    claims=_claims,
    draw=nothing_to_draw,
)
