"""The scoreboard's trainings, attacks and rows; `scoreboard` is its command line.

Every model is attacked on z by the fixed suite (uatmc_jax/benchmark/suite.py), transfers
from the undefended model and from one trained on under another seed among them. A model
that has learned a z of its own shares it with no surrogate, so for it these are left out.

A z of its own could also hide what edits of the raw features do: so every model is
attacked there as well, by PGD-10 in the l2 ball (the paper's reading of the budget).
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from configs import attack as attack_config
from experiments import content as content_use
from experiments import plots, row_files, runner
from experiments.scoreboard import page, pareto
from experiments.study import (
    CONTROL,
    UNDEFENDED,
    Rows,
    Study,
    Unit,
    make_study,
    recorded,
)
from experiments.variants import (
    cost_class,
    measuring_unit,
    open_variant,
    training_row,
    training_settings,
    training_units,
)
from uatmc_jax import store
from uatmc_jax.benchmark.run import run_attacks
from uatmc_jax.benchmark.suite import suite_settings
from uatmc_jax.benchmark.verdict import verdict
from uatmc_jax.checks import at_least, require
from uatmc_jax.data import Dataset
from uatmc_jax.errors import InputError
from uatmc_jax.settings import AttackRunSettings, Settings, from_config, from_values, to_dict
from uatmc_jax.training.folder import without_free_fields

PAGE = "SCOREBOARD.md"
# Trained on like the control, under another seed: a model to transfer from.
RESEEDED = "reseeded"
# PGD-10 on the raw features, beside the suite.
FEATURE = "feature"


@dataclasses.dataclass(frozen=True)
class Board:
    """What is compared; the fields are explained in configs/scoreboard.py."""

    pretrain_epochs: int
    nce_items: int
    adversarial_epochs: int
    vmapped: int
    seeds: tuple[int, ...]
    target_seed: int
    targets: int
    bootstrap: int
    norm: str
    eps: float
    k: int
    members: tuple[str, ...]
    entries: Mapping[str, Any]

    def __post_init__(self):
        for field in ("adversarial_epochs", "vmapped", "targets", "bootstrap"):
            at_least(field, getattr(self, field), 1)
        for field in ("pretrain_epochs", "nce_items"):
            at_least(field, getattr(self, field), 0)
        right = len(self.seeds) > 0 and len(set(self.seeds)) == len(self.seeds)
        require(right, "seeds", self.seeds, "at least one seed, each once")
        taken = {UNDEFENDED, CONTROL, RESEEDED} & set(self.entries)
        require(not taken, "entries", sorted(taken), "other names: these are always there")
        seeded = [name for name, fields in self.entries.items() if "seed" in fields]
        require(not seeded, "entries", seeded, "entries without a seed: the board's are taken")
        known = tuple(suite_settings(surrogates=(UNDEFENDED, RESEEDED)))
        right = set(self.members) <= set(known)
        require(right, "members", self.members, f"some of {', '.join(known)}; none for all")
        right = not self.members or "pgd" in self.members
        require(right, "members", self.members, "pgd among them")


def studies_of(
    name: str, settings: Settings, board: Board, out: pathlib.Path, dataset: Dataset
) -> list[Study]:
    """The board's trainings under each of its seeds, which share one folder."""
    studies = []
    for seed in board.seeds:
        variants = {
            CONTROL: {"defense": "none"},
            RESEEDED: {"defense": "none", "seed": (seed + 1) % 2**32},
            **{entry: dict(fields) for entry, fields in board.entries.items()},
        }
        seeded = dataclasses.replace(settings, seed=seed)
        studies.append(make_study(name, seeded, board, out, dataset, variants))
    return studies


def evaluation(board: Board, own_z: bool) -> AttackRunSettings:
    """The suite and `FEATURE` on the board's targets, otherwise the published evaluation.

    Args:
      board: what is compared.
      own_z: the model shares z with no surrogate.
    """
    members = suite_settings(
        norm=board.norm, eps=board.eps, k=board.k, surrogates=(UNDEFENDED, RESEEDED)
    )
    if board.members:
        members = {name: members[name] for name in board.members}
    if own_z:
        members = {name: attack for name, attack in members.items() if not attack.surrogate}
    members[FEATURE] = members["pgd"].replace(level="feature", norm="l2")
    published = from_values(AttackRunSettings, attack_config.get_config())
    plain = to_dict(published) | {
        "seeds": (board.target_seed,),
        "bootstrap": board.bootstrap,
        "ranks": False,
        "ks": tuple(sorted({10, 20, board.k})),
        "attacks": {name: to_dict(attack) for name, attack in members.items()},
    }
    plain["targets"]["sample"] = board.targets
    return from_values(AttackRunSettings, plain)


def units_of(study: Study) -> list[Unit]:
    """One seed's trainings, and a unit of measurements for each of them."""
    trained = [UNDEFENDED, *study.variants]
    units = training_units(study, trained)
    for variant in trained:
        if variant == RESEEDED:
            continue
        own_z = study.variants.get(variant, {}).get("train_projector_head", False)
        settings = evaluation(study.plan, own_z)
        units.append(
            measuring_unit(
                study,
                f"suite/{variant}/seed{study.settings.seed}",
                (variant, UNDEFENDED, RESEEDED),
                recorded(settings),
                20.0 * board_cost(study),
                lambda tell, v=variant, settings=settings: [measure(study, v, settings)],
            )
        )
    return units


def board_cost(study: Study) -> float:
    """A suite's expected time in that of Baby VBPR's 100 targets on two CPU cores."""
    heavier = 10.0 if cost_class(study.settings) == "graph" else 1.0
    return heavier * study.plan.targets / 100 * study.dataset.n_users / 19_445


def measure(study: Study, variant: str, settings: AttackRunSettings) -> dict[str, Any]:
    """One trained model's row, but for what every row of a unit has."""
    board = study.plan
    named = {attack.surrogate for attack in settings.attacks.values()} - {""}
    results, (content,) = run_attacks(
        settings,
        [open_variant(study, variant)],
        surrogates={name: open_variant(study, name) for name in sorted(named)},
        show_progress=False,
    )
    attacked = content["test"]["attacked"]
    (edited,) = (result for result in results if result["attack"] == FEATURE)
    results.remove(edited)
    found = verdict(results, board.k, board.bootstrap)
    suite = found["suite"][f"hr@{board.k}"]
    bound = suite.get("budget_certificate")
    trained = training_row(study, variant)
    return {
        "format": 1,
        "victim": study.settings.model.name,
        "entry": variant,
        "defense": _defense(study, variant),
        "seed": study.settings.seed,
        "threat_model": found["threat_model"],
        "evaluation": {
            "targets": found["suite"]["targets"],
            "users": results[0]["users"],
            "settings": results[0]["settings"],
        },
        "members": list(found["members"]),
        "recall@20": content_use.recall(content),
        **{name: content_use.value(content, name) for name in content_use.HEADER},
        "attacked_contribution": content_use.value(content, "contribution", "attacked"),
        "attacked_hit_rate": attacked["hits"]["own"] / max(attacked["interactions"], 1),
        "content": content_use.of_row(content),
        "gain": suite["gain"]["value"],
        "gain_over_targets": suite["gain"]["over_targets"],
        "pgd_gain": found["members"]["pgd"]["gain"]["value"],
        "feature_gain": edited["summary"][f"hr@{board.k}"]["gain"]["value"],
        "certificate": bound["value"] if bound else None,
        "hr_before": suite["before"]["value"],
        "hr_after": suite["after"]["value"],
        "wins": found["wins"],
        "masking": found["masking"],
        "training_seconds": trained["training_seconds"],
        "trained_together": trained["trained_together"],
        "epochs": trained["epochs"],
        "test": trained["test"],
        "trained_with": without_free_fields(from_config(trained["trained_with"])),
    }


def _defense(study: Study, variant: str) -> dict[str, Any]:
    """Every setting of the hardening; of the undefended model, none."""
    if variant == UNDEFENDED:
        return {"defense": "none", "epochs": 0}
    return to_dict(training_settings(study, variant).adversarial)


def write(name: str, rows: Rows, results: pathlib.Path) -> None:
    """A study's rows; what others have added under other entries stays."""
    file = results / f"{name}.jsonl"
    there = pareto.read_rows(file) if file.exists() else []
    row_files.write_rows(file, rows, there, lambda row: (row["entry"], row["seed"]))


def check_rows(name: str, study: Study, results: pathlib.Path) -> None:
    """Raises InputError if the results hold rows that the study's could not stand beside."""
    file = results / f"{name}.jsonl"
    if not file.exists():
        return
    ours = {variant: _plain(_defense(study, variant)) for variant in (UNDEFENDED, *study.variants)}
    judged = _plain(to_dict(evaluation(study.plan, own_z=False)))
    for number, row in enumerate(pareto.read_rows(file), start=1):
        theirs = row["evaluation"].get("settings", {})
        wrong = [f"evaluation ({field})" for field in theirs if theirs[field] != judged.get(field)]
        if row["dataset"]["fingerprint"] != study.dataset.fingerprint:
            wrong.append("dataset")
        if any(row["threat_model"].get(f) != getattr(study.plan, f) for f in ("norm", "eps", "k")):
            wrong.append("threat_model")
        if row["defense"] != ours.get(row["entry"], row["defense"]):
            wrong.append("defense")
        if wrong:
            raise InputError(
                f"{file}, line {number}: entry '{row['entry']}' has another {wrong[0]} than this "
                "board. Name another --results, or give the entry another name."
            )


def _plain(value: Any) -> Any:
    """A value as it comes back from JSON."""
    return json.loads(json.dumps(value))


def rebuild(results: pathlib.Path) -> None:
    """Page and figures from the rows that are there.

    Raises:
      InputError: no rows, or one that lacks a field.
    """
    files = sorted(results.glob("*.jsonl"))
    if not files:
        raise InputError(f"{results}: no STUDY.jsonl. Run the scoreboard first, or name --results.")
    studies = {file.stem: pareto.read_rows(file) for file in files}
    text = page.page(studies)  # raises before anything is written
    for name, rows in studies.items():
        entries = pareto.entries_of(rows)
        best = {entry.name for entry in pareto.pareto_front(entries)}
        plots.pareto(results / f"{name}.png", name, entries, best)
    store.write_text(results / PAGE, text)


def run_board(
    name: str,
    plan: Sequence[tuple[Study, Unit]],
    results: pathlib.Path | None,
    minutes: float | None = None,
) -> bool:
    """Does what is not done yet and writes the board, also of a part; see `runner.run_units`.

    Without `results` another process writes it.
    """
    if results is None:
        return runner.run_units(plan, minutes)
    check_rows(name, plan[0][0], results)

    def add(rows: Rows) -> None:
        write(name, rows, results)
        rebuild(results)

    return runner.run_and_write(plan, minutes, "suite/", add)
