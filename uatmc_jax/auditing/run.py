"""A whole audit; the body of `uatmc_jax.audit`.

    WORKDIR/victims/, WORKDIR/hardened/    training runs, each with its attacks
    WORKDIR/audit.json                     everything measured
    WORKDIR/report.html                    the same for people

All trainings and attacks are those of `uatmc_jax.train` and `uatmc_jax.attack`: the
same call goes on where it was interrupted, and neither is done twice.
"""

import dataclasses
import os
import pathlib
import sys
import time
from collections.abc import Mapping

from uatmc_jax import store
from uatmc_jax.attacks import Attack
from uatmc_jax.auditing.edited import edit_items
from uatmc_jax.auditing.entries import (
    RECALL_K,
    Audited,
    Given,
    like_given,
    make_entries,
    source_of,
    trained_settings,
)
from uatmc_jax.auditing.judge import Judged, judge, look_closer
from uatmc_jax.auditing.plan import (
    OTHER_PRESETS,
    fit_audit,
    hardened_settings,
    name_fields,
    victim_settings,
)
from uatmc_jax.auditing.recommendation import objections, recommend, warn
from uatmc_jax.auditing.serving import by_policy
from uatmc_jax.auditing.trainings import headlines, training_seeds
from uatmc_jax.benchmark.checks import check_alignment, check_attacks, check_serving
from uatmc_jax.benchmark.content import read_hits
from uatmc_jax.benchmark.summary import paired_difference
from uatmc_jax.benchmark.targets import choose_targets
from uatmc_jax.benchmark.verdict import threat_of
from uatmc_jax.data import Dataset, open_dataset, statistics
from uatmc_jax.defenses import check_model
from uatmc_jax.edits import EditSettings, Sources, open_sources
from uatmc_jax.edits.judges import require_judge
from uatmc_jax.environment import environment, peak_memory_mib
from uatmc_jax.errors import InputError
from uatmc_jax.evaluation.content import compare_hits
from uatmc_jax.evaluation.metrics import popularity_metrics
from uatmc_jax.evaluation.ranking import make_plan
from uatmc_jax.models import build_model
from uatmc_jax.owner import owned
from uatmc_jax.report.audit import format_page
from uatmc_jax.settings import AuditSettings, to_dict
from uatmc_jax.settings.audit import VICTIM
from uatmc_jax.training.run import check_ranking_depth

AUDIT_FILE = "audit.json"
REPORT_FILE = "report.html"


def run_audit(
    settings: AuditSettings,
    workdir: str | pathlib.Path,
    *,
    given: Given | None = None,
    edits: EditSettings | None = None,
    command: str = "",
    seeds: int = 1,
    show_progress: bool = True,
) -> dict:
    """Trains (or takes) the victim, attacks, certifies, hardens, attacks again, reports.

    Args:
      settings: the audit.
      workdir: created if absent; what an interrupted audit left there is gone on with.
      given: a trained model to audit, in place of one trained for the audit; its attacks
        are written to its run's folder. Hardening starts from the pre-trained state of
        that run, or of the one that it started from.
      edits: real pictures and titles to edit too, against the model audited and the one
        recommended; K and the budget held against are the audit's.
      command: how this audit was called, for the report.
      seeds: trainings of everything, each under a seed of its own: the settings' first, then
        1, 2 and so on. Recommended is what nothing speaks against in any of them.
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
    if seeds < 1 or (given is not None and seeds > 1):
        wanted = "1 where a trained model is given" if given else "at least one training"
        raise InputError(f"--seeds = {seeds}: wanted {wanted}.")
    if given is not None:
        settings = like_given(settings, given)
    dataset = open_dataset(settings.experiment.data)
    settings, notes = fit_audit(settings, dataset, trained=given is not None)
    suite = {n: a for n, a in settings.attack.attacks.items() if n not in settings.other_threats}
    try:
        k = threat_of({name: to_dict(attack) for name, attack in suite.items()})["k"]
        _check(settings, dataset, k, given)
    except InputError as error:
        raise name_fields(error) from None
    sources = None if edits is None else _sources(edits, settings, suite, dataset)
    with owned(workdir):

        def say(text: str) -> None:
            if show_progress:
                print(text, file=sys.stderr, flush=True)

        for note in notes:
            say(f"fitted to the data: {note}")

        def of_training(seed: int, folder: pathlib.Path) -> tuple[Audited, list[Judged]]:
            experiment = dataclasses.replace(settings.experiment, seed=seed)
            seeded = dataclasses.replace(settings, experiment=experiment)
            audited, judged = make_entries(seeded, folder, given, dataset, say), []
            for entry in audited.entries:
                say(f"attacking {entry.name}")
                judged.append(judge(entry, settings, k, show_progress))
            _against_victim(judged, settings, k)
            return audited, judged

        trained = training_seeds(settings.experiment.seed, seeds)
        audited, judged = of_training(trained[0], workdir)
        trainings = [headlines([one.found for one in judged], trained[0], k)]
        for seed in trained[1:]:
            say(f"training seed {seed}")
            folder = workdir / f"seed_{seed}"
            folder.mkdir(exist_ok=True)
            others = [one.found for one in of_training(seed, folder)[1]]
            trainings.append(headlines(others, seed, k))
        recommended = recommend(trainings, settings)
        for entry, one in zip(audited.entries, judged, strict=True):
            if entry.name in (VICTIM, recommended):
                say(f"looking at the users of {entry.name}")
                one.found.update(look_closer(entry, one, settings, k))
            if entry.name == VICTIM:
                say("looking at an edit under each serving policy")
                one.found["serving"] = by_policy(entry, one, settings, k, show_progress)
        edited = {}
        if sources is not None:
            say("editing pictures and titles")
            chosen = [one for one in audited.entries if one.name in (VICTIM, recommended)]
            edited["edits"] = edit_items(chosen, sources, show_progress)
        audit = {
            "command": command,
            **_audit(settings, dataset, audited, [one.found for one in judged], k),
            "seeds": trained,
            "by_training": trainings,
            "fitted": notes + audited.notes,
            "recommended": recommended,
            **edited,
            "wall_seconds": time.monotonic() - started,
            "peak_memory_mib": peak_memory_mib(),
            **environment(),
        }
        audit["warnings"] = warn(audit)
        page = format_page(audit)
        store.write_json(workdir / AUDIT_FILE, audit)
        store.write_text(workdir / REPORT_FILE, page)
        return audit


def _sources(
    edits: EditSettings, settings: AuditSettings, suite: Mapping[str, Attack], dataset: Dataset
) -> Sources:
    """What is edited, opened before any training."""
    threat, serving = threat_of({n: to_dict(a) for n, a in suite.items()}), settings.attack.serving
    model = build_model(settings.experiment.model, dataset.sizes)
    try:
        require_judge(model, serving, dataset.n_items)
    except InputError as error:
        raise InputError(f"--edits, with config.attack.serving = {serving!r}: {error}") from None
    edits = dataclasses.replace(edits, k=threat["k"], eps=threat["eps"], serving=serving)
    return open_sources(edits, dataset, settings.experiment.data)


def _audit(
    settings: AuditSettings, dataset: Dataset, audited: Audited, entries: list[dict], k: int
) -> dict:
    """The part of audit.json that depends on data, settings and models alone."""
    plan = make_plan(dataset.train, dataset.n_users, dataset.n_items)
    plain = to_dict(settings)
    if not audited.candidates:
        del plain["victims"]  # none was trained
    return {
        "dataset": statistics(dataset),
        "settings": plain,
        "model": settings.experiment.model.name,
        "k": k,
        "popularity": {
            split: popularity_metrics(dataset, plan, split, (RECALL_K,))[f"recall@{RECALL_K}"]
            for split in ("valid", "test")
        },
        "candidates": audited.candidates,
        "collapsed": audited.collapsed,
        "entries": entries,
        "hardened_from": None if audited.source is None else str(audited.source),
    }


def _against_victim(judged: list[Judged], settings: AuditSettings, k: int) -> None:
    """Adds to each hardened entry what it has more or less than the victim, and what speaks
    against it: users reached, and held-out validation interactions found."""
    victim, count = judged[0], settings.attack.bootstrap
    before = read_hits(victim.found["content"])
    for one in judged[1:]:
        one.found["against_victim"] = paired_difference(
            victim.found["rows"], one.found["rows"], lambda row: row["hr_after"][str(k)], count
        )
        hits = read_hits(one.found["content"])
        one.found["compared"] = {
            part: compare_hits(before, hits, "valid", part, count) for part in ("all", "attacked")
        }
        one.found["objections"] = objections(one.found, victim.found, settings, k)


def _check(settings: AuditSettings, dataset: Dataset, k: int, given: Given | None) -> None:
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
    choose_targets(settings.attack.targets, dataset, settings.attack.seeds[0])
    model = build_model(settings.experiment.model, dataset.sizes)
    try:
        check_serving(settings.attack, settings.attack.attacks, model)
    except InputError as error:
        raise InputError(f"{error} (Presets for other models: {OTHER_PRESETS}.)") from None
    check_alignment(settings.attack.attacks, model, dataset)
    if given is None:
        trained, source = next(iter(victim_settings(settings).values())), "victim"
    else:
        trained = trained_settings(given)
        if not os.access(given.folder, os.W_OK):
            raise InputError(f"{given.folder}: cannot be written; the attacks go there. Copy it.")
        source = source_of(given) if settings.harden else given.folder
    for name, one in hardened_settings(settings, trained, source).items():
        try:
            check_model(one.adversarial, model, dataset.raw_dims)
        except InputError as error:
            text = str(error).replace("config.adversarial", f"config.harden.{name}")
            raise InputError(f"{text} (Presets for other models: {OTHER_PRESETS}.)") from None
