"""A whole audit; the body of `uatmc_jax.audit`.

    WORKDIR/victims/CANDIDATE/     their training runs, attacks in the victim's
    WORKDIR/hardened/ENTRY/        training runs from the victim, each with its attacks
    WORKDIR/hardened/source.json   which state they started from
    WORKDIR/audit.json             everything measured
    WORKDIR/report.html            the same for people

All trainings and attacks are those of `uatmc_jax.train` and `uatmc_jax.attack`: the
same call goes on where it was interrupted, and neither is done twice.
"""

import dataclasses
import itertools
import json
import os
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from uatmc_jax import checkpoint, logs
from uatmc_jax.auditing.measures import reached_users, survey_certificates, user_recall
from uatmc_jax.auditing.plan import fit, hardened_settings, name_fields, victim_settings
from uatmc_jax.auditing.recommendation import recommend, warn
from uatmc_jax.benchmark.run import (
    Case,
    batch_memory_mib,
    check_alignment,
    check_attacks,
    open_cases,
    run_attacks,
    static_attack,
    victim_of,
)
from uatmc_jax.benchmark.summary import mean_with_interval, paired_difference
from uatmc_jax.benchmark.targets import choose_targets, generator, starts_key
from uatmc_jax.benchmark.verdict import suite_rows, threat_of, verdict
from uatmc_jax.build import build_model, open_dataset
from uatmc_jax.data import Dataset, make_csr, statistics, warm
from uatmc_jax.environment import environment, peak_memory_mib
from uatmc_jax.errors import InputError
from uatmc_jax.evaluation.metrics import popularity_metrics
from uatmc_jax.evaluation.ranking import RankingPlan, make_plan
from uatmc_jax.report.audit import format_page
from uatmc_jax.report.commands import train_command
from uatmc_jax.settings import AuditSettings, Settings, to_dict
from uatmc_jax.settings.audit import VICTIM
from uatmc_jax.training import compatible, train_and_evaluate, train_vmapped
from uatmc_jax.training.run import check_ranking_depth
from uatmc_jax.training.workdir import CONFIG_FILE

AUDIT_FILE = "audit.json"
REPORT_FILE = "report.html"
SOURCE_FILE = "source.json"
RECALL_K = 20
# By how many of its training interactions a user is grouped.
_QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
_BAND = (0.1, 0.5, 0.9)
# Trainings under one `vmap`.
_TOGETHER = 4


class Checkpoint(NamedTuple):
    """A trained model on disk.

    Attributes:
      folder: of its training run.
      stage: "pretrain" or "adversarial".
      which: "best" or "latest".
    """

    folder: pathlib.Path
    stage: str
    which: str


class Entry(NamedTuple):
    """A model to be judged.

    Attributes:
      name: `VICTIM`, or that of the entry in `harden`.
      at: its checkpoint.
      settings: that it was trained with.
    """

    name: str
    at: Checkpoint
    settings: Settings


# Told what is being done.
Say = Callable[[str], None]


def run_audit(
    settings: AuditSettings,
    workdir: str | pathlib.Path,
    *,
    given: Checkpoint | None = None,
    command: str = "",
    show_progress: bool = True,
) -> dict:
    """Trains (or takes) the victim, attacks, certifies, hardens, attacks again, reports.

    Args:
      settings: the audit.
      workdir: created if absent; what an interrupted audit left there is gone on with.
      given: a trained model to audit, in place of one trained for the audit; its attacks
        are written to its run's folder. Hardening starts from the pre-trained state of
        that run, or of the one that it started from.
      command: how this audit was called, for the report.
      show_progress: say on the terminal what is being done.

    Returns:
      What audit.json holds.

    Raises:
      InputError: before any long work, for anything the user can mend.
      DivergedError: a value that is not finite.
      Interrupted: Ctrl-C while training; the state is on disk.
    """
    started = time.monotonic()
    workdir = pathlib.Path(workdir)
    if given is not None:
        settings = _like_given(settings, given)
    dataset = open_dataset(settings.experiment.data)
    settings, notes = fit(settings, dataset, trained=given is not None)
    suite = {n: a for n, a in settings.attack.attacks.items() if n not in settings.other_threats}
    try:
        k = threat_of({name: to_dict(attack) for name, attack in suite.items()})["k"]
        _check(settings, dataset, k, given)
    except InputError as error:
        raise name_fields(error) from None
    workdir.mkdir(parents=True, exist_ok=True)

    def say(text: str) -> None:
        if show_progress:
            print(text, file=sys.stderr, flush=True)

    for note in notes:
        say(f"fitted to the data: {note}")
    victim, candidates = _victim(settings, workdir, given, dataset, say)
    entries = [victim, *_harden(settings, workdir, given, victim, dataset, say)]
    judged = []
    for entry in entries:
        say(f"attacking {entry.name}")
        judged.append(_judge(entry, settings, dataset, k, show_progress))
    for found in judged[1:]:
        found["against_victim"] = paired_difference(
            judged[0]["rows"],
            found["rows"],
            lambda row: row["hr_after"][str(k)],
            settings.attack.bootstrap,
        )
    recommended = recommend(judged, settings, k)
    for entry, found in zip(entries, judged, strict=True):
        if entry.name in (VICTIM, recommended):
            say(f"looking at the users of {entry.name}")
            found |= _look_closer(entry, found, settings, dataset, k)
    plan = _training_items_masked(dataset)
    plain = to_dict(settings)
    if given is not None:
        del plain["victims"]  # none was trained
    audit = {
        "command": command,
        "dataset": statistics(dataset),
        "settings": plain,
        "fitted": notes,
        "model": settings.experiment.model.name,
        "k": k,
        "popularity": {
            split: popularity_metrics(dataset, plan, split, (RECALL_K,))[f"recall@{RECALL_K}"]
            for split in ("valid", "test")
        },
        "candidates": candidates,
        "entries": judged,
        "recommended": recommended,
        "hardened_from": str(_source(given) if given else victim.at.folder)
        if settings.harden
        else None,
        "wall_seconds": time.monotonic() - started,
        "peak_memory_mib": peak_memory_mib(),
        **environment(),
    }
    audit["warnings"] = warn(audit)
    page = format_page(audit)
    logs.write_json(workdir / AUDIT_FILE, audit)
    logs.write_text(workdir / REPORT_FILE, page)
    return audit


def _like_given(settings: AuditSettings, given: Checkpoint) -> AuditSettings:
    """The audit of a trained model takes its model, seed and data, which may have moved."""
    trained, chosen = checkpoint.restore(*given).settings, settings.experiment
    data = trained.data
    if chosen.data.source != "synthetic":  # the audit's default: no data were named
        moved = {name: getattr(chosen.data, name) for name in ("source", "name", "root")}
        data = dataclasses.replace(trained.data, **moved)
    experiment = dataclasses.replace(
        chosen, model=trained.model, pretrain=trained.pretrain, seed=trained.seed, data=data
    )
    return dataclasses.replace(settings, experiment=experiment)


def _check(settings: AuditSettings, dataset: Dataset, k: int, given: Checkpoint | None) -> None:
    """Whatever would stop the audit later, now."""
    check_ranking_depth(settings.experiment.eval, dataset)
    check_attacks(settings.attack, settings.attack.attacks, dataset)
    if k not in settings.attack.ks:
        raise InputError(f"config.ks = {settings.attack.ks}: the suite aims at K = {k}. Add it.")
    for name, attack in settings.attack.attacks.items():
        if attack.surrogate:
            raise InputError(
                f"config.attacks.{name}.surrogate: an audit has no surrogates. Leave it empty; "
                "uatmc_jax.attack transfers attacks."
            )
    _targets(settings, dataset)
    model = build_model(
        settings.experiment.model, dataset.n_users, dataset.n_items, dataset.raw_dims
    )
    check_alignment(settings.attack.attacks, model, dataset)
    if given is None:
        trained, source = next(iter(victim_settings(settings).values())), "victim"
    else:
        trained = checkpoint.restore(*given, dataset).settings
        if not os.access(given.folder, os.W_OK):
            raise InputError(f"{given.folder}: cannot be written; the attacks go there. Copy it.")
        source = _source(given) if settings.harden else given.folder
    for name, one in hardened_settings(settings, trained, source).items():
        chosen = one.adversarial
        if chosen.defense == "exact" and not (
            model.affine_in_content and model.encode_rows is not None
        ):
            raise InputError(
                f"config.harden.{name}.defense = 'exact' needs scores that are affine in an item's "
                f"content, which model {model.name} does not declare. Take --config audit:general "
                "(or audit:mmgcn), or another defence."
            )
        if chosen.train_projector_head and model.head is None:
            raise InputError(
                f"config.harden.{name}.train_projector_head: model {model.name} names no last layer of "
                "its projectors (head). Leave it False."
            )


def _source(given: Checkpoint) -> pathlib.Path:
    """The run whose pre-trained state the given model comes from."""
    started = checkpoint.restore(*given).settings.pretrain.init_from
    for folder in (given.folder, *([pathlib.Path(started)] if started else [])):
        if checkpoint.saved_epoch(folder, "pretrain", "best") is not None:
            return folder
    raise InputError(
        f"{given.folder}: neither it nor the run it started from ({started or 'none'}) has the "
        "pre-trained state that hardening starts from. Give --noharden to audit the model alone."
    )


def _targets(settings: AuditSettings, dataset: Dataset) -> np.ndarray:
    return choose_targets(settings.attack.targets, dataset, settings.attack.seeds[0])


def _victim(
    settings: AuditSettings,
    workdir: pathlib.Path,
    given: Checkpoint | None,
    dataset: Dataset,
    say: Say,
) -> tuple[Entry, dict[str, dict]]:
    """The model to audit, and the validation recall of all candidates."""
    if given is not None:
        return Entry(VICTIM, given, checkpoint.restore(*given, dataset).settings), {}
    members, candidates = victim_settings(settings), {}
    for name, one in members.items():
        say(f"training the recommender, candidate {name}")
        folder = workdir / "victims" / name
        resume = (folder / CONFIG_FILE).exists()
        stage = train_and_evaluate(one, folder, resume=resume)["stages"]["pretrain"]
        candidates[name] = {
            "fields": dict(settings.victims[name]),
            "valid": stage["valid"][f"recall@{RECALL_K}"],
            "epochs": stage["epochs"],
            "seconds": stage["seconds"],
            "command": train_command(one, folder),
        }
    best = max(candidates, key=lambda name: candidates[name]["valid"])
    for name, tried in candidates.items():
        tried["chosen"] = name == best
    at = Checkpoint(workdir / "victims" / best, "pretrain", "best")
    return Entry(VICTIM, at, members[best]), candidates


def _harden(
    settings: AuditSettings,
    workdir: pathlib.Path,
    given: Checkpoint | None,
    victim: Entry,
    dataset: Dataset,
    say: Say,
) -> list[Entry]:
    if not settings.harden:
        return []
    source = victim.at.folder if given is None else _source(given)
    folder = workdir / "hardened"
    _same_source(folder / SOURCE_FILE, source, dataset)
    members = hardened_settings(settings, victim.settings, source)
    for group in compatible(members):
        say(f"hardening: {', '.join(group)}")
        train_vmapped(group, folder, together=_TOGETHER)
    return [
        Entry(name, Checkpoint(folder / name, "adversarial", "latest"), one)
        for name, one in members.items()
    ]


def _same_source(file: pathlib.Path, source: pathlib.Path, dataset: Dataset) -> None:
    """Requires that what was hardened here before started from the very same state."""
    params = checkpoint.restore(source, "pretrain", "best", dataset).params
    found = {"parameters": checkpoint.digest(params)}
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        logs.write_json(file, found | {"folder": str(source)})
        return
    before = json.loads(file.read_text(encoding="utf-8"))
    if before["parameters"] != found["parameters"]:
        raise InputError(
            f"{file.parent}: hardened from another state (parameters {before['parameters']} of "
            f"{before['folder']}) than {source} has ({found['parameters']}). Use another --workdir."
        )


def _training_items_masked(dataset: Dataset) -> RankingPlan:
    return make_plan(dataset.train, dataset.n_users, dataset.n_items)


def _judge(
    entry: Entry,
    settings: AuditSettings,
    dataset: Dataset,
    k: int,
    show_progress: bool,
) -> dict:
    """Attacks, certificates, content use and recall of one model."""
    folder, pair = entry.at.folder, [entry.at[1:]]
    results, contents = run_attacks(
        settings.attack,
        folder,
        checkpoints=pair,
        dataset=dataset,
        show_progress=show_progress,
    )
    suite = [r for r in results if r["attack"] not in settings.other_threats]
    rows = suite_rows(suite, settings.attack.ks)
    for row in rows:
        row["shop_id"] = dataset.names.ids.get(row["item"])
        row["title"] = dataset.names.titles.get(row["item"])
        row["name"] = row["title"] or row["shop_id"]
        row["interactions"] = int(dataset.item_counts[row["item"]])
    (case,) = open_cases(folder, pair, dataset)
    stepped = next(r for r in results if r["attack"] == settings.steps_of)
    by_step = np.array([row["utility_by_step"] for row in stepped["rows"]])
    defended = entry.settings.adversarial if entry.at.stage == "adversarial" else None
    return {
        "name": entry.name,
        "folder": str(folder),
        "checkpoint": case.where,
        "defense": None if defended is None else defended.defense,
        "adversarial": None if defended is None else to_dict(defended),
        "train_command": train_command(entry.settings, folder) if defended else None,
        "recall": _recall(case, settings.attack.bootstrap),
        "content": contents[0],
        "certificate": suite[0]["certificate"],
        "affine_in_content": suite[0]["affine_in_content"],
        "attacked_users": suite[0]["users"],
        "verdict": verdict(suite, k, settings.attack.bootstrap),
        "other_threats": {
            r["attack"]: {"threat_model": r["threat_model"], "summary": r["summary"]}
            for r in results
            if r["attack"] in settings.other_threats
        },
        "rows": rows,
        "steps": {
            "attack": settings.steps_of,
            "quantiles": list(_BAND),
            "utility": np.quantile(by_step, _BAND, axis=0).tolist(),
        },
    }


def _recall(case: Case, bootstrap: int) -> dict[str, dict]:
    """Mean recall@20 over users with its bootstrap 95 % interval, by split."""
    dataset = case.dataset
    splits = ("valid", "test")
    held_out = [make_csr(warm(dataset.split(s), dataset), dataset.n_users) for s in splits]
    model, params = case.restored.model, case.restored.params
    plan = _training_items_masked(dataset)
    found = user_recall(model, params, case.data, plan, held_out, RECALL_K)
    entries = {}
    for split, values in zip(splits, found, strict=True):
        mean = mean_with_interval(values, bootstrap)
        entries[split] = {
            "value": mean["value"],
            "over_users": mean["over_targets"],
            "users": len(values),
        }
    return entries


def _look_closer(
    entry: Entry, found: dict, settings: AuditSettings, dataset: Dataset, k: int
) -> dict[str, Any]:
    """Which users are reached, and what is certified of items of any popularity."""
    (case,) = open_cases(entry.at.folder, [entry.at[1:]], dataset)
    model, seed = case.restored.model, settings.attack.seeds[0]
    members, threat = found["verdict"]["members"], found["verdict"]["threat_model"]
    strongest = max(members, key=lambda name: members[name]["after"]["value"])
    chosen = settings.attack.attacks[strongest]
    attack, strength = static_attack(chosen, dataset.modalities)
    victim = victim_of(case, settings.attack, {strongest: chosen}, seed)
    items = _targets(settings, dataset)
    reached = reached_users(
        model,
        attack,
        strength,
        victim,
        items,
        k,
        starts_key(seed),
        adjacency=case.adjacency,
        path=settings.attack.path,
        memory_mib=batch_memory_mib(settings.attack),
    )
    trained = np.bincount(dataset.train.users, minlength=dataset.n_users)[np.asarray(victim.users)]
    size = min(settings.survey, dataset.n_items)
    drawn = generator(seed, "survey").choice(dataset.n_items, size, replace=False)
    drawn = np.sort(drawn).astype(np.int32)
    survey = survey_certificates(model, attack, threat["eps"], victim, drawn, k) if size else None
    return {
        "users_reached": {
            "attack": strongest,
            "targets": len(items),
            "histogram_before": np.bincount(reached.before, minlength=len(items) + 1).tolist(),
            "histogram_after": np.bincount(reached.after, minlength=len(items) + 1).tolist(),
            "histogram_gained": np.bincount(reached.gained, minlength=len(items) + 1).tolist(),
            "by_activity": _by_activity(trained, reached.before, reached.after, len(items)),
        },
        "survey": None
        if survey is None
        else {
            "items": survey.items.tolist(),
            "shown": survey.shown.tolist(),
            "bound": survey.bound.tolist(),
        },
    }


def _by_activity(
    trained: np.ndarray, before: np.ndarray, after: np.ndarray, targets: int
) -> list[dict]:
    """Mean shares of the targets in the top K, for users of like many training interactions."""
    edges = np.quantile(trained, _QUANTILES, method="nearest")
    rows = []
    for low, high in itertools.pairwise(edges):
        inside = (trained >= low if not rows else trained > low) & (trained <= high)
        if inside.any():
            rows.append(
                {
                    "interactions": [int(trained[inside].min()), int(trained[inside].max())],
                    "users": int(inside.sum()),
                    "before": float(before[inside].mean() / targets),
                    "after": float(after[inside].mean() / targets),
                    "never": float((after[inside] == 0).mean()),
                }
            )
    return rows
