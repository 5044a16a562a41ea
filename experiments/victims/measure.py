"""The units of the comparison, and what is measured of one trained model under each policy."""

import time
from collections.abc import Callable
from typing import Any

from configs import attack as attack_config
from experiments import content as content_use
from experiments.study import UNDEFENDED, Rows, Study, Unit, recorded
from experiments.variants import measuring_unit, open_variant, training_row, training_units
from experiments.victims.plan import Comparison, Victim, policies_of, same_policy, searches
from uatmc_jax.attacks import LISTED, Attack
from uatmc_jax.benchmark.looks import evaluations
from uatmc_jax.benchmark.run import batches_of, options_of, run_attacks, victim_of
from uatmc_jax.benchmark.targets import choose_targets
from uatmc_jax.benchmark.verdict import verdict
from uatmc_jax.errors import InputError
from uatmc_jax.models import Model, blind
from uatmc_jax.models.registry import build_model
from uatmc_jax.opened import OpenedRun
from uatmc_jax.seeds import starts_key
from uatmc_jax.settings import AttackRunSettings, from_config, from_values, to_dict
from uatmc_jax.training.folder import without_free_fields

# Looks of ten steps of PGD, which `Victim.seconds` counts a target in.
_PGD_LOOKS = 11
_DENSE = "dense"  # the scorer that encodes and ranks everything at every step


def units_of(study: Study) -> list[Unit]:
    """One victim's trainings under one seed, and a unit of measurements for each of them."""
    board, victim = study.plan.board, study.plan.victim
    model = build_model(study.settings.model, study.dataset.sizes)
    units = [_timed(unit, victim) for unit in training_units(study, study.variants)]
    judged = {
        policy: recorded(evaluation(board, victim, model, policy))
        for policy in policies_of(board, model)
    }
    return units + [
        measuring_unit(
            study,
            f"measured/{variant}/seed{study.settings.seed}",
            (variant, UNDEFENDED),
            {"policies": judged, "timed": board.timed},
            _seconds(board, victim, model),
            lambda tell, variant=variant: measure(study, variant, tell),
        )
        for variant in (UNDEFENDED, *study.variants)
    ]


def evaluation_of(board: Comparison) -> dict[str, Any]:
    """What rows that stand beside each other must share."""
    fields = ("k", "target_seed", "targets", "quantiles", "user_share", "masked", "permutations")
    plain = {field: getattr(board, field) for field in fields}
    threats = {name: to_dict(threat) for name, threat in board.threats.items()}
    return plain | {"quantiles": list(board.quantiles), "threats": threats}


def evaluation(board: Comparison, victim: Victim, model: Model, policy: str) -> AttackRunSettings:
    """All threats' searches under one policy, each named THREAT_MEMBER.

    Raises:
      InputError: no member of the plan sees what an edit does to the model's scores.
    """
    named = {
        f"{threat}_{member}": attack
        for threat, members in _searches(board, victim, model, policy).items()
        for member, attack in members.items()
    }
    if not named:
        raise InputError(
            f"config.members: none of {', '.join(victim.members or board.members)} sees what an "
            f"edit does to the scores of model {model.name} under '{policy}'. Add relist."
        )
    plain = to_dict(from_values(AttackRunSettings, attack_config.get_config())) | {
        "seeds": (board.target_seed,),
        "user_share": board.user_share,
        "masked": board.masked,
        "permutations": board.permutations,
        "bootstrap": board.bootstrap,
        "ranks": False,
        "ks": tuple(sorted({10, 20, board.k})),
        "serving": policy,
        "attacks": {name: to_dict(attack) for name, attack in named.items()},
    }
    plain["targets"] |= {
        "rule": "quantile",
        "quantiles": board.quantiles,
        "sample": board.targets,
    }
    return from_values(AttackRunSettings, plain)


def _searches(
    board: Comparison, victim: Victim, model: Model, policy: str
) -> dict[str, dict[str, Attack]]:
    """`searches`; where no edit moves anything, one that is not run."""
    if not blind(model, policy):
        return searches(board, victim, model, policy)
    threat, of = next(iter(board.threats.items()))
    still = Attack(level=of.level, norm=of.norm, eps=of.eps, k=board.k)
    return {threat: {"still": still}}


def measure(study: Study, variant: str, tell: Callable[[float], None]) -> Rows:
    """A row for each policy, but for what every row of a unit has."""
    run = open_variant(study, variant)
    named = {
        policy: same_policy(run.model, policy)
        for policy in policies_of(study.plan.board, run.model)
    }
    wanted, found = dict.fromkeys(named.values()), {}
    for policy in wanted:
        found[policy] = _measured(study, variant, run, policy)
        tell(len(found) / len(wanted))
    return [found[same] | {"serving": policy} for policy, same in named.items()]


def _measured(study: Study, variant: str, run: OpenedRun, policy: str) -> dict[str, Any]:
    board, victim = study.plan.board, study.plan.victim
    settings = evaluation(board, victim, run.model, policy)
    results, (content,) = run_attacks(settings, [run], show_progress=False)
    why = blind(run.model, policy)
    threats = {}
    for name in board.threats:
        of = results if why else [r for r in results if r["attack"].startswith(f"{name}_")]
        threats[name] = _threat(of, board) if of else None
    trained = training_row(study, variant)
    moved = next(entry for entry in threats.values() if entry)
    return {
        "format": 1,
        "victim": study.name,
        "model": run.model.name,
        "reads": list(run.model.reads),
        "variant": variant,
        "defense": dict(study.variants.get(variant, {"defense": "none"})),
        "seed": study.settings.seed,
        "blind": why,
        "evaluation": evaluation_of(board),
        "users": results[0]["users"],
        "recall@20": trained["test"]["recall@20"],
        **{name: content_use.value(content, name) for name in content_use.HEADER},
        "cold_contribution": content_use.value(content, "contribution", "cold"),
        "hr_before": moved["before"],
        "threats": threats,
        "training_seconds": trained["training_seconds"],
        "epochs": trained["epochs"],
        "target_seconds": None if why or variant != UNDEFENDED else _timing(run, settings, board),
        "test": trained["test"],
        "trained_with": without_free_fields(from_config(trained["trained_with"])),
    }


def _threat(results: list[dict], board: Comparison) -> dict[str, Any]:
    """The strongest search on each target, and what bounds it."""
    names = {result["attack"]: result["attack"].partition("_")[2] for result in results}
    named = [result | {"attack": names[result["attack"]]} for result in results]
    found = verdict(named, board.k, board.bootstrap)
    suite = found["suite"][f"hr@{board.k}"]
    bounds = {
        name: suite[name]["value"] if name in suite else None
        for name in ("budget_certificate", "any_content_certificate")
    }
    return {
        "members": list(found["members"]),
        "targets": found["suite"]["targets"],
        "before": suite["before"]["value"],
        "after": suite["after"]["value"],
        "over_targets": suite["after"]["over_targets"],
        "gain": suite["gain"]["value"],
        **bounds,
        "wins": found["wins"],
        "masking": found["masking"],
        "unsearched": found["unsearched"],
    }


def _timing(run: OpenedRun, settings: AttackRunSettings, board: Comparison) -> dict[str, Any]:
    """Seconds of a target of one search with hit rates, compiled before; and by the dense way.

    On the clock and, as others may share the machine, of this process's CPUs.
    """
    attacks, seed = settings.attacks, settings.seeds[0]
    name = next((n for n in attacks if n.endswith("_pgd")), next(iter(attacks)))
    items = choose_targets(settings.targets, run.data, seed)[: board.timed]
    victim, options = victim_of(run, settings, attacks, seed), options_of(settings)

    def seconds(scorer: str) -> tuple[tuple[float, float], set[str]]:
        chosen, taken = options._replace(scorer=scorer), set()
        for _ in range(2):  # the first compiles
            started, worked = time.monotonic(), time.process_time()
            for _, outcome in batches_of(attacks[name], victim, items, starts_key(seed), chosen):
                taken |= set(outcome.scorers.tolist())
        took = time.monotonic() - started, time.process_time() - worked
        return (took[0] / len(items), took[1] / len(items)), taken

    unknown = None, None
    exact, dense = unknown, unknown
    took, scorers = seconds("auto")
    if scorers == {_DENSE}:
        dense = took
    else:
        exact = took
        if attacks[name].search not in LISTED and settings.serving == "full":
            dense, _ = seconds(_DENSE)
    found = {"exact": exact[0], "dense": dense[0], "exact_cpu": exact[1], "dense_cpu": dense[1]}
    return {"search": name, "targets": len(items), **found}


def _timed(unit: Unit, victim: Victim) -> Unit:
    """A training unit with the plan's own expectation."""
    if unit.name.startswith(f"training/{UNDEFENDED}"):
        return unit._replace(seconds=victim.seconds["epoch"] * victim.pretrain.get("epochs", 100))
    each = victim.seconds["hardening"] * victim.hardened_epochs
    return unit._replace(seconds=each * len(unit.depends_on))


def _seconds(board: Comparison, victim: Victim, model: Model) -> float:
    """Expected of one model's measurements."""
    looks = 0
    for policy in {same_policy(model, p) for p in policies_of(board, model)}:
        if not blind(model, policy):
            for members in searches(board, victim, model, policy).values():
                looks += sum(evaluations(to_dict(attack)) for attack in members.values())
    return 20.0 + board.targets * victim.seconds["target"] * looks / _PGD_LOOKS
