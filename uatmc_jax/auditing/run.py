"""A whole audit; the body of `uatmc_jax.audit`.

    WORKDIR/victims/CANDIDATE/     their training runs, attacks in the victim's
    WORKDIR/hardened/ENTRY/        training runs from the victim, each with its attacks
    WORKDIR/audit.json             everything measured
    WORKDIR/report.html            the same for people

All trainings and attacks are those of `uatmc_jax.train` and `uatmc_jax.attack`: the
same call goes on where it was interrupted, and nothing is computed twice.
"""

import dataclasses
import itertools
import json
import pathlib
import sys
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from uatmc_jax import checkpoint, logs
from uatmc_jax.attacks.results import mean_with_interval
from uatmc_jax.attacks.run import (
    Case,
    batch_memory_mib,
    check_alignment,
    check_attacks,
    open_cases,
    run_attacks,
    static_attack,
    victim_of,
)
from uatmc_jax.attacks.targets import choose_targets, generator
from uatmc_jax.attacks.verdict import suite_rows, threat_of, verdict
from uatmc_jax.auditing.measures import reached_users, survey_certificates, user_recall
from uatmc_jax.auditing.plan import fit, hardened_settings, in_company, victim_settings
from uatmc_jax.build import build_model, dataset_folder, open_dataset
from uatmc_jax.data import (
    Dataset,
    load_item_names,
    load_item_titles,
    make_csr,
    statistics,
    warm,
)
from uatmc_jax.environment import environment, peak_memory_mib
from uatmc_jax.errors import InputError
from uatmc_jax.ranking import make_plan
from uatmc_jax.report.audit import format_page
from uatmc_jax.report.commands import train_command
from uatmc_jax.settings import AuditSettings, Settings, to_dict
from uatmc_jax.training import train_and_evaluate, train_together
from uatmc_jax.training.evaluation import popularity_metrics
from uatmc_jax.training.run import CONFIG_FILE, check_ranking_depth

AUDIT_FILE = "audit.json"
REPORT_FILE = "report.html"
RECALL_K = 20
VICTIM = "victim"
# By how many of its training interactions a user is grouped.
_QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
_BAND = (0.1, 0.5, 0.9)
# Trainings under one `vmap`.
_TOGETHER = 4


class Entry(NamedTuple):
    """A model to be judged.

    Attributes:
      name: "victim", or that of the entry in `harden`.
      folder: of its training run.
      stage: of its checkpoint.
      which: of its checkpoint.
      settings: that it was trained with.
    """

    name: str
    folder: pathlib.Path
    stage: str
    which: str
    settings: Settings


class Given(NamedTuple):
    """A trained model to audit, in place of one trained for the audit.

    Attributes:
      folder: of its training run.
      stage: of the checkpoint.
      which: of the checkpoint.
    """

    folder: pathlib.Path
    stage: str
    which: str


def run_audit(
    settings: AuditSettings,
    workdir: str | pathlib.Path,
    *,
    given: Given | None = None,
    command: str = "",
    show_progress: bool = True,
) -> dict:
    """Trains (or takes) the victim, attacks, certifies, hardens, attacks again, reports.

    Args:
      settings: the audit.
      workdir: created if absent; what an interrupted audit left there is gone on with.
      given: a trained model to audit; hardening then starts from the pre-trained state
        of its run.
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
    settings = fit(settings, dataset)
    suite = {n: a for n, a in settings.attack.attacks.items() if n not in settings.beside}
    k = threat_of({name: to_dict(attack) for name, attack in suite.items()})["k"]
    _check(settings, dataset, k, given)
    workdir.mkdir(parents=True, exist_ok=True)

    def say(text: str) -> None:
        if show_progress:
            print(text, file=sys.stderr, flush=True)

    victim, candidates = _victim(settings, workdir, given, dataset, say)
    hardened = _harden(settings, workdir, given, victim, say)
    popular = {
        name: popularity_metrics(dataset, _plan(dataset), name, (RECALL_K,))[f"recall@{RECALL_K}"]
        for name in ("valid", "test")
    }
    names = _names(dataset, settings)
    judged = []
    for entry in (victim, *hardened):
        say(f"attacking {entry.name}")
        judged.append(_judge(entry, settings, dataset, names, k, show_progress))
    recommended = recommend(judged, settings.accept_recall, settings.accept_content, k)
    for entry, found in zip((victim, *hardened), judged, strict=True):
        if entry.name in (VICTIM, recommended):
            say(f"looking at the users of {entry.name}")
            found |= _look_closer(entry, found, settings, dataset, k)
    audit = {
        "command": command,
        "dataset": statistics(dataset),
        "settings": to_dict(settings),
        "model": settings.experiment.model.name,
        "k": k,
        "popularity": popular,
        "candidates": candidates,
        "entries": judged,
        "recommended": recommended,
        "users": len(np.unique(dataset.train.users)),
        "wall_seconds": time.monotonic() - started,
        "peak_memory_mib": peak_memory_mib(),
        **environment(),
    }
    logs.write_json(workdir / AUDIT_FILE, audit)
    logs.write_text(workdir / REPORT_FILE, format_page(audit))
    return audit


def recommend(
    judged: Sequence[dict], accept_recall: float, accept_content: float, k: int
) -> str | None:
    """The hardened entry that is hardest to fool among those good enough to be used.

    Good enough: on the validation split at least `accept_recall` of the victim's
    recall, and at least `accept_content` of its content utility.

    Args:
      judged: the victim, then the others.
      accept_recall: share of the victim's recall@20.
      accept_content: share of the victim's content utility.
      k: K of the hit rates.

    Returns:
      Its name; None if there is none, or none resists better than the victim.
    """
    victim, *others = judged
    least_recall = accept_recall * victim["recall"]["valid"]["value"]
    least_content = accept_content * victim["content"]["content_utility"]

    def after(entry: dict) -> float:
        return entry["verdict"]["suite"][f"hr@{k}"]["after"]["value"]

    good = [
        entry
        for entry in others
        if entry["recall"]["valid"]["value"] >= least_recall
        and entry["content"]["content_utility"] >= least_content
        and entry["defense"] != "none"
        and after(entry) < after(victim)
    ]
    return min(good, key=after)["name"] if good else None


def _like_given(settings: AuditSettings, given: Given) -> AuditSettings:
    """The audit of a trained model takes its model, seed and, unless told others, data."""
    trained = checkpoint.restore(*given).settings
    chosen = settings.experiment
    data = trained.data if chosen.data.source == "synthetic" else chosen.data
    experiment = dataclasses.replace(
        chosen, model=trained.model, pretrain=trained.pretrain, seed=trained.seed, data=data
    )
    return dataclasses.replace(settings, experiment=experiment)


def _check(settings: AuditSettings, dataset: Dataset, k: int, given: Given | None) -> None:
    """Whatever would stop the audit later, now."""
    check_ranking_depth(settings.experiment.eval, dataset)
    check_attacks(settings.attack, settings.attack.attacks, dataset)
    if k not in settings.attack.ks:
        raise InputError(
            f"config.attack.ks = {settings.attack.ks}: the suite aims at K = {k}. Add it."
        )
    for name, attack in settings.attack.attacks.items():
        if attack.surrogate:
            raise InputError(
                f"config.attack.attacks.{name}.surrogate: an audit has no surrogates. Leave it "
                "empty; uatmc_jax.attack transfers attacks."
            )
    _targets(settings, dataset)
    model = build_model(
        settings.experiment.model, dataset.n_users, dataset.n_items, dataset.raw_dims
    )
    nowhere = pathlib.Path("victim")
    check_alignment(settings.attack.attacks, model, dataset)
    candidates = victim_settings(settings)
    hardened = hardened_settings(settings, next(iter(candidates.values())), nowhere)
    for name, one in hardened.items():
        if one.adversarial.defense == "exact" and not model.linear:
            raise InputError(
                f"config.harden.{name}.defense = 'exact' needs scores that are affine in an item's "
                f"content, which model {model.name}'s are not. Take --config "
                "configs/audit.py:general, or another defence."
            )
        if one.adversarial.train_output and model.output is None:
            raise InputError(
                f"config.harden.{name}.train_output: model {model.name} names no last layer of "
                "its projectors (output). Leave it False."
            )
    if given is not None:
        checkpoint.restore(*given, dataset)


def _targets(settings: AuditSettings, dataset: Dataset) -> np.ndarray:
    attack, data = settings.attack, settings.experiment.data
    return choose_targets(
        attack.targets, dataset, attack.seeds[0], lambda: load_item_names(dataset_folder(data))
    )


def _victim(
    settings: AuditSettings,
    workdir: pathlib.Path,
    given: Given | None,
    dataset: Dataset,
    say,
) -> tuple[Entry, dict[str, dict]]:
    """The model to audit, and the validation recall of all candidates."""
    if given is not None:
        restored = checkpoint.restore(*given, dataset)
        return Entry(VICTIM, *given, restored.settings), {}
    candidates = {}
    for name, one in victim_settings(settings).items():
        say(f"training the recommender, candidate {name}")
        folder = workdir / "victims" / name
        resume = (folder / CONFIG_FILE).exists()
        summary = train_and_evaluate(one, folder, resume=resume)
        candidates[name] = {
            "fields": dict(settings.victims[name]),
            "valid": summary["stages"]["pretrain"]["valid"][f"recall@{RECALL_K}"],
            "epochs": summary["stages"]["pretrain"]["epochs"],
            "seconds": summary["stages"]["pretrain"]["seconds"],
            "command": train_command(one, folder),
        }
    best = max(candidates, key=lambda name: candidates[name]["valid"])
    for name, tried in candidates.items():
        tried["chosen"] = name == best
    folder, trained = workdir / "victims" / best, victim_settings(settings)[best]
    return Entry(VICTIM, folder, "pretrain", "best", trained), candidates


def _harden(
    settings: AuditSettings, workdir: pathlib.Path, given: Given | None, victim: Entry, say
) -> list[Entry]:
    source = victim.folder if given is None else given.folder
    members = hardened_settings(settings, victim.settings, source)
    folder = workdir / "hardened"
    for group in in_company(members):
        say(f"hardening: {', '.join(group)}")
        train_together(group, folder, together=_TOGETHER)
    return [
        Entry(name, folder / name, "adversarial", "latest", one) for name, one in members.items()
    ]


def _plan(dataset: Dataset):
    return make_plan(dataset.train, dataset.n_users, dataset.n_items)


def _names(dataset: Dataset, settings: AuditSettings) -> dict[int, str]:
    """{item id: title, or else the shop's name}, as far as the data set has them."""
    data = settings.experiment.data
    if data.source != "mmrec":
        return {}
    folder = dataset_folder(data)
    try:
        named = {item: name for name, item in load_item_names(folder).items()}
    except InputError:
        named = {}  # names adorn the report; it can do without
    return named | {item: t for item, t in load_item_titles(folder).items() if t}


def _judge(
    entry: Entry,
    settings: AuditSettings,
    dataset: Dataset,
    names: dict[int, str],
    k: int,
    show_progress: bool,
) -> dict:
    """Attacks, certificates, content use and recall of one model."""
    pair = [(entry.stage, entry.which)]
    results, contents = run_attacks(
        settings.attack,
        entry.folder,
        checkpoints=pair,
        dataset=dataset,
        show_progress=show_progress,
    )
    suite = [r for r in results if r["attack"] not in settings.beside]
    rows = suite_rows(suite, settings.attack.ks)
    for row in rows:
        row["name"] = names.get(row["item"])
        row["interactions"] = int(dataset.item_counts[row["item"]])
    (case,) = open_cases(entry.folder, pair, dataset)
    stepped = next(r for r in results if r["attack"] == settings.steps_of)
    by_step = np.array([row["utility_by_step"] for row in stepped["rows"]])
    defended = entry.settings.adversarial if entry.stage == "adversarial" else None
    return {
        "name": entry.name,
        "folder": str(entry.folder),
        "checkpoint": case.where,
        "defense": None if defended is None else defended.defense,
        "adversarial": None if defended is None else to_dict(defended),
        "train_command": train_command(entry.settings, entry.folder) if defended else None,
        "recall": _recall(case, settings.attack.bootstrap),
        "content": contents[0],
        "certificate": suite[0]["certificate"],
        "linear": suite[0]["linear"],
        "attacked_users": suite[0]["users"],
        "verdict": verdict(suite, k, settings.attack.bootstrap),
        "beside": {
            r["attack"]: {"threat_model": r["threat_model"], "summary": r["summary"]}
            for r in results
            if r["attack"] in settings.beside
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
    found = user_recall(model, params, case.data, _plan(dataset), held_out, RECALL_K)
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
    (case,) = open_cases(entry.folder, [(entry.stage, entry.which)], dataset)
    model, seed = case.restored.model, settings.attack.seeds[0]
    wins = found["verdict"]["wins"]
    strongest = max(wins, key=wins.get)
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
        jax.random.key(int(generator(seed, "starts").integers(2**31))),
        adjacency=case.adjacency,
        path=settings.attack.path,
        memory_mib=batch_memory_mib(settings.attack),
    )
    trained = np.bincount(dataset.train.users, minlength=dataset.n_users)[np.asarray(victim.users)]
    rng = np.random.default_rng([seed, 1])
    size = min(settings.survey, dataset.n_items)
    drawn = np.sort(rng.choice(dataset.n_items, size, replace=False)).astype(np.int32)
    survey = survey_certificates(model, attack, chosen.eps, victim, drawn, k) if size else None
    return {
        "users_reached": {
            "attack": strongest,
            "targets": len(items),
            "histogram_before": np.bincount(reached.before, minlength=len(items) + 1).tolist(),
            "histogram_after": np.bincount(reached.after, minlength=len(items) + 1).tolist(),
            "by_activity": _by_activity(trained, reached.before, reached.after, len(items)),
        },
        "survey": None
        if survey is None
        else {
            "items": len(survey.items),
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


def read_audit(workdir: str | pathlib.Path) -> dict:
    """What a finished audit measured.

    Raises:
      InputError: there is none, or it cannot be read.
    """
    file = pathlib.Path(workdir) / AUDIT_FILE
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"{file}: no such file. Run python -m uatmc_jax.audit --workdir {workdir} first."
        ) from None
    except ValueError as error:
        raise InputError(f"{file}: not JSON ({error}). Run the audit again.") from None
