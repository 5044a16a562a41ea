"""A study's trained variants: their runs, the attacks on them, what both should take."""

import json
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from configs import attack as attack_config
from experiments import content as content_use
from experiments.study import UNDEFENDED, Rows, Study, Unit, changed, of_seed
from uatmc_jax import __version__, store
from uatmc_jax.benchmark.run import run_attacks
from uatmc_jax.benchmark.summary import summarize
from uatmc_jax.models.registry import declared
from uatmc_jax.opened import OpenedRun, open_run
from uatmc_jax.settings import AttackRunSettings, Settings, as_recorded, from_values
from uatmc_jax.training import compatible, train_and_evaluate, train_vmapped
from uatmc_jax.training.epoch import steps_per_epoch
from uatmc_jax.training.folder import SUMMARY_FILE, read_summary, without_free_fields

# Trainings.


def training_settings(study: Study, variant: str) -> Settings:
    """The settings of one variant's run."""
    if variant == UNDEFENDED:
        return changed(study.settings, {"adversarial.epochs": 0})
    fields = study.variants[variant]
    chosen = {k if k == "seed" else f"adversarial.{k}": v for k, v in fields.items()}
    source = str(run_folder(study, UNDEFENDED))
    return changed(study.settings, {"pretrain.init_from": source, **chosen})


def run_folder(study: Study, variant: str) -> pathlib.Path:
    """Where the variant's run is."""
    if variant == UNDEFENDED and study.given is not None:
        return study.given
    return study.folder / "runs" / f"{variant}-{store.digest(_plain(study, variant))}"


def _plain(study: Study, variant: str) -> dict:
    """What a variant's numbers depend on."""
    if variant == UNDEFENDED and study.given is not None:
        run = store.digest(read_summary(study.given))
        return {"run": run, "data": study.dataset.fingerprint, "software": __version__}
    plain = {
        "settings": as_recorded(Settings, without_free_fields(training_settings(study, variant))),
        "data": study.dataset.fingerprint,
        "software": __version__,
    }
    # Its own settings do not tell under which seed the state it starts from was trained.
    return plain if variant == UNDEFENDED else plain | {"from": _plain(study, UNDEFENDED)}


def _summary(study: Study, variant: str) -> pathlib.Path:
    """Written last: with it, the variant's run is complete."""
    return run_folder(study, variant) / SUMMARY_FILE


def training_units(study: Study, wanted: Iterable[str], of: str = "") -> list[Unit]:
    """Units that train the wanted variants, the pre-trained model first unless it is given.

    Args:
      study: where.
      wanted: names of variants.
      of: what sets this study apart from the plan's own, for the units' names.
    """
    wanted = [v for v in dict.fromkeys(wanted) if v != UNDEFENDED]
    other = f", {of}" if of else ""
    other += f" ({study.settings.seed})" if study.settings.seed != study.seeds[0] else ""
    groups = compatible({v: training_settings(study, v) for v in wanted})
    units = [
        Unit(
            f"training/none{other}",
            _plain(study, UNDEFENDED),
            training_seconds(study, UNDEFENDED),
            lambda tell: _train_alone(study, tell),
        )
    ]
    if study.given is not None:
        units = []
    for members in map(list, groups):
        depends = {v: _plain(study, v) for v in members}
        seconds = sum(training_seconds(study, v) for v in members)
        units.append(
            Unit(
                f"training/{members[0]}"
                + (f"+{len(members) - 1}" if len(members) > 1 else "")
                + other,
                depends,
                seconds,
                lambda tell, members=members: _train_members(study, members, tell),
                (_summary(study, UNDEFENDED),),
            )
        )
    return units


def _train_alone(study: Study, tell: Callable[[float], None]) -> Rows:
    folder = run_folder(study, UNDEFENDED)
    train_and_evaluate(
        training_settings(study, UNDEFENDED),
        folder,
        resume=(folder / "config.json").exists(),
        dataset=study.dataset,
        on_epoch=lambda done, most: tell(done / most),
    )
    return [training_row(study, UNDEFENDED)]


def _train_members(study: Study, members: list[str], tell: Callable[[float], None]) -> Rows:
    total, done = len(members) * study.settings.adversarial.epochs, 0

    def on_epochs(count: int) -> None:
        nonlocal done
        done += count
        tell(min(1.0, done / total))

    train_vmapped(
        {run_folder(study, v).name: training_settings(study, v) for v in members},
        study.folder / "runs",
        vmapped=study.plan.vmapped,
        source=open_variant(study, UNDEFENDED),
        on_epochs=on_epochs,
    )
    return [training_row(study, variant) for variant in members]


def training_row(study: Study, variant: str) -> dict[str, Any]:
    """What a variant's summary says: recommendation metrics, seed, settings, time."""
    summary = json.loads(_summary(study, variant).read_text("utf-8"))
    stages = summary["stages"]
    if variant == UNDEFENDED:
        metrics, seconds = stages["pretrain"]["test"], stages["pretrain"]["seconds"]
        epochs = stages["pretrain"]["epochs"]
    else:
        metrics, seconds = (stages["adversarial"][k] for k in ("at_last_epoch", "seconds"))
        metrics, epochs = metrics["test"], stages["adversarial"]["epochs"]
    return {
        "variant": variant,
        "seed": summary["seed"],
        "trained_with": summary["settings"],
        "training_seconds": seconds,
        "epochs": epochs,
        "trained_together": len(stages.get("adversarial", {}).get("trained_together_with", [0])),
        "test": metrics,
        "code": summary["code"],
        "versions": summary["versions"],
        "device": summary["device"],
    }


def open_variant(study: Study, variant: str) -> OpenedRun:
    """A trained variant, ready to be attacked: its best pre-trained or its last hardened epoch."""
    at = "pretrain/best" if variant == UNDEFENDED else "adversarial/latest"
    return open_run(run_folder(study, variant), at, data=study.dataset)


# Attacks.


def attack_settings(
    study: Study, seeds: Sequence[int], attacks: dict[str, dict[str, Any]]
) -> AttackRunSettings:
    """The published evaluation under the plan's targets.

    Args:
      study: names the plan.
      seeds: of the targets, the users and the random starts.
      attacks: {name: {"base": "fgsm" or "pgd", and fields to replace}}.
    """
    config = attack_config.get_config()
    config.seeds = tuple(seeds)
    config.targets.sample = study.plan.targets
    config.bootstrap = study.plan.bootstrap
    config.permutations = study.plan.permutations
    config.ranks = False
    published = {name: config.attacks[name].to_dict() for name in ("fgsm", "pgd")}
    plain = config.to_dict()
    plain["attacks"] = {
        name: published[fields["base"]] | {k: v for k, v in fields.items() if k != "base"}
        for name, fields in attacks.items()
    }
    return from_values(AttackRunSettings, plain)


def attack_variant(
    study: Study, variant: str, settings: AttackRunSettings
) -> tuple[Rows, dict[str, list[dict]]]:
    """Attacks a trained variant; what is on disk is not done again.

    Returns:
      One row per attack, without its per-target rows; and those by attack.
    """
    run = open_variant(study, variant)
    results, (content,) = run_attacks(settings, [run], show_progress=False)
    trained = training_row(study, variant)
    rows = [
        {
            **{k: trained[k] for k in ("variant", "seed", "trained_with", "test")},
            "attack": result["attack"],
            "threat_model": result["threat_model"],
            "evaluation": result["settings"],
            "checkpoint": result["checkpoint"],
            "users": result["users"],
            "summary": result["summary"],
            "certificate": result["certificate"],
            "content": content_use.of_row(content),
            "affine_in_content": result["affine_in_content"],
            "attack_seconds": result["seconds"],
            **{k: result[k] for k in ("code", "versions", "device")},
        }
        for result in results
    ]
    return rows, {result["attack"]: result["rows"] for result in results}


def attack_trainings(
    study: Study, variant: str, settings: AttackRunSettings
) -> tuple[Rows, dict[str, list[dict]]]:
    """`attack_variant` on the models of all training seeds, their targets' rows put together.

    Returns:
      One row per attack, what it measured averaged over the trainings, the first with
      "by_training", which has what of each training is the same for all attacks; and all
      per-target rows by attack, with "training_seed" where there are several.
    """
    found = [attack_variant(of_seed(study, seed), variant, settings) for seed in study.seeds]
    if len(found) == 1:
        return found[0]
    by_attack = {
        name: [
            row | {"training_seed": seed}
            for seed, (_, rows) in zip(study.seeds, found, strict=True)
            for row in rows[name]
        ]
        for name in found[0][1]
    }
    merged = []
    for n, first in enumerate(found[0][0]):
        same = [rows[n] for rows, _ in found]
        summary = summarize(by_attack[first["attack"]], settings.ks, settings.bootstrap)
        merged.append(
            first
            | {
                "training_seeds": list(study.seeds),
                "summary": summary,
                "test": _means([row["test"] for row in same]),
                "content": content_use.merged([row["content"] for row in same]),
            }
        )
    merged[0]["by_training"] = [
        {"seed": row["seed"], "test": row["test"], "content": row["content"]}
        for row, *_ in (rows for rows, _ in found)
    ]
    return merged, by_attack


def _means(some: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([one[name] for one in some])) for name in some[0]}


def measuring_unit(
    study: Study,
    name: str,
    wanted: Iterable[str],
    plan: dict,
    seconds: float,
    run: Callable[[Callable[[float], None]], Rows],
    *,
    trainings: bool = False,
) -> Unit:
    """A unit that measures trained variants.

    Args:
      study: where.
      name: of the unit.
      wanted: variants it needs.
      plan: what else its rows depend on.
      seconds: expected.
      run: as of `Unit`.
      trainings: whether those of all training seeds, not of the study's own alone.
    """
    wanted = list(wanted)
    trained = {v: _plain(study, v) for v in wanted}
    needs = [_summary(study, v) for v in wanted]
    for seed in study.seeds[1:] if trainings else ():
        other = of_seed(study, seed)
        trained |= {f"{v} ({seed})": _plain(other, v) for v in wanted}
        needs += [_summary(other, v) for v in wanted]
    return Unit(name, {"trained": trained, "plan": plan}, seconds, run, tuple(needs))


# Expected times: seconds on two CPU cores, measured on Baby and taken as proportional to the
# number of training interactions (trainings) and of users attacked (attacks).
_BABY_INTERACTIONS, _BABY_USERS = 118_551, 7_778
_STEP = {
    "rows": {"pretrain": 0.16, "adversarial": 0.013},
    "graph": {"pretrain": 0.4, "adversarial": 0.6},
}
_PER_TARGET = {"rows": {"fgsm": 0.002, "pgd": 0.004}, "graph": {"fgsm": 0.1, "pgd": 0.3}}
_CONTENT = {"rows": 5.0, "graph": 8.0}  # opening, ranking and content utility of one checkpoint


def cost_class(settings: Settings) -> str:
    """How a model's costs grow: "rows" if it encodes the rows in play alone, else "graph"."""
    model = declared(settings.model)
    return "rows" if model is not None and model.encode_rows is not None else "graph"


def training_seconds(study: Study, variant: str) -> float:
    """Expected time of one variant's own stage."""
    settings, pairs = training_settings(study, variant), len(study.dataset.train)
    stage = "pretrain" if variant == UNDEFENDED else "adversarial"
    chosen = getattr(settings, stage)
    steps = steps_per_epoch(pairs, chosen.batch_size) * chosen.epochs
    cost = cost_class(settings)
    wider = pairs / _BABY_INTERACTIONS if cost == "graph" else 1.0
    return steps * _STEP[cost][stage] * wider


def attack_seconds(study: Study, n_variants: int, seeds: Sequence[int], **counts: int) -> float:
    """Expected time of attacks on some variants; counts of "fgsm" and "pgd" attacks each."""
    cost = cost_class(study.settings)
    users = 0.4 * study.dataset.n_users / _BABY_USERS
    each = sum(n * _PER_TARGET[cost][base] for base, n in counts.items())
    return n_variants * (_CONTENT[cost] + len(seeds) * study.plan.targets * users * each)
