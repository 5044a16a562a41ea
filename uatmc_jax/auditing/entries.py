"""The models an audit judges: trained or given, opened once and handed on.

WORKDIR/victims/CANDIDATE/     training runs of the candidates
WORKDIR/hardened/ENTRY/        training runs from the victim
WORKDIR/hardened/source.json   which state they started from
"""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import NamedTuple

from uatmc_jax import checkpoint, store
from uatmc_jax.auditing.plan import hardened_settings, victim_settings
from uatmc_jax.data import Dataset
from uatmc_jax.errors import CollapsedError, InputError
from uatmc_jax.opened import OpenedRun, open_run
from uatmc_jax.report.commands import train_command
from uatmc_jax.report.training import still_improving
from uatmc_jax.settings import AuditSettings, Settings
from uatmc_jax.settings.audit import VICTIM
from uatmc_jax.training import compatible, train_and_evaluate, train_vmapped
from uatmc_jax.training.folder import CONFIG_FILE

SOURCE_FILE = "source.json"
RECALL_K = 20
# Trainings under one `vmap`.
_VMAPPED = 4

# Told what is being done.
Say = Callable[[str], None]


class Given(NamedTuple):
    """A trained model to audit, on disk.

    Attributes:
      folder: of its training run.
      checkpoint: STAGE/WHICH.
    """

    folder: pathlib.Path
    checkpoint: str


class Entry(NamedTuple):
    """A model to be judged.

    Attributes:
      name: `VICTIM`, or that of the entry in `harden`.
      run: its checkpoint, opened.
    """

    name: str
    run: OpenedRun


class Audited(NamedTuple):
    """What an audit judges.

    Attributes:
      entries: the victim, then the hardened ones.
      candidates: {name: validation recall and the like} of the victims tried; empty for a
        model that was given.
      collapsed: {name: what happened} of candidates and hardened ones that are not among the
        entries, since all their embeddings shrank to nothing.
      source: folder whose pre-trained state the hardened ones start from; None without any.
    """

    entries: list[Entry]
    candidates: dict[str, dict]
    collapsed: dict[str, str]
    source: pathlib.Path | None


def trained_settings(given: Given) -> Settings:
    """The settings that a given model was trained with."""
    return checkpoint.load_settings(given.folder, *checkpoint.parse(given.checkpoint))


def like_given(settings: AuditSettings, given: Given) -> AuditSettings:
    """The audit of a trained model takes its model, seed and data, which may have moved."""
    trained, chosen = trained_settings(given), settings.experiment
    data = trained.data
    if chosen.data.source != "synthetic":  # the audit's default: no data were named
        moved = {name: getattr(chosen.data, name) for name in ("source", "name", "root")}
        data = dataclasses.replace(trained.data, **moved)
    experiment = dataclasses.replace(
        chosen, model=trained.model, pretrain=trained.pretrain, seed=trained.seed, data=data
    )
    return dataclasses.replace(settings, experiment=experiment)


def source_of(given: Given) -> pathlib.Path:
    """The run whose pre-trained state the given model comes from.

    Raises:
      InputError: there is no such state.
    """
    started = trained_settings(given).pretrain.init_from
    for folder in (given.folder, *([pathlib.Path(started)] if started else [])):
        if checkpoint.saved_epoch(folder, "pretrain", "best") is not None:
            return folder
    raise InputError(
        f"{given.folder}: neither it nor the run it started from ({started or 'none'}) has the "
        "pre-trained state that hardening starts from. Give --noharden to audit the model alone."
    )


def make_entries(
    settings: AuditSettings, workdir: pathlib.Path, given: Given | None, dataset: Dataset, say: Say
) -> Audited:
    """Trains what is not trained yet and opens every model once.

    Args:
      settings: the audit.
      workdir: where trainings go.
      given: a trained model to audit in place of one trained for the audit.
      dataset: the data.
      say: told what is being done.

    Raises:
      InputError: what was hardened here before started from another state.
      CollapsedError: every candidate has collapsed.
    """
    if given is None:
        victim, candidates, collapsed = _train_victim(settings, workdir, dataset, say)
    else:
        victim = open_run(given.folder, given.checkpoint, data=dataset)
        candidates, collapsed = {}, {}
    entries = [Entry(VICTIM, victim)]
    if not settings.harden:
        return Audited(entries, candidates, collapsed, None)
    source = victim
    if given is not None:
        folder = source_of(given)
        if (folder, victim.name) != (victim.folder, "pretrain/best"):
            source = open_run(folder, "pretrain/best", data=dataset)
    members = hardened_settings(settings, victim.settings, source.folder)
    hardened, lost = _harden(members, workdir / "hardened", source, say)
    return Audited(entries + hardened, candidates, collapsed | lost, source.folder)


def _train_victim(
    settings: AuditSettings, workdir: pathlib.Path, dataset: Dataset, say: Say
) -> tuple[OpenedRun, dict[str, dict], dict[str, str]]:
    """The candidate with the best validation recall, what was tried, and what collapsed."""
    candidates, collapsed = {}, {}
    for name, one in victim_settings(settings).items():
        say(f"training the recommender, candidate {name}")
        folder = workdir / "victims" / name
        resume = (folder / CONFIG_FILE).exists()
        try:
            summary = train_and_evaluate(one, folder, resume=resume, dataset=dataset)
        except CollapsedError as error:
            collapsed[name] = str(error)
            say(f"candidate {name} left out: {error}")
            continue
        stage = summary["stages"]["pretrain"]
        candidates[name] = {
            "fields": dict(settings.victims[name]),
            "valid": stage["valid"][f"recall@{RECALL_K}"],
            "epochs": stage["epochs"],
            "improving": still_improving(stage, one.pretrain.epochs),
            "seconds": stage["seconds"],
            "command": train_command(one, folder),
        }
    if not candidates:
        raise CollapsedError(
            "every candidate of config.victims has collapsed. " + " ".join(collapsed.values())
        )
    best = max(candidates, key=lambda name: candidates[name]["valid"])
    for name, tried in candidates.items():
        tried["chosen"] = name == best
    victim = open_run(workdir / "victims" / best, "pretrain/best", data=dataset)
    return victim, candidates, collapsed


def _harden(
    members: dict[str, Settings], folder: pathlib.Path, source: OpenedRun, say: Say
) -> tuple[list[Entry], dict[str, str]]:
    """The hardened models, and what happened to those that collapsed."""
    _same_source(folder / SOURCE_FILE, source)
    left, collapsed = dict(members), {}
    groups = compatible(left)
    while groups:
        group = groups.pop(0)
        say(f"hardening: {', '.join(group)}")
        try:
            train_vmapped(group, folder, vmapped=_VMAPPED, source=source)
        except CollapsedError as error:
            collapsed[error.member] = str(error)
            say(f"{error.member} left out: {error}")
            del left[error.member], group[error.member]
            groups += [group] if group else []
    entries = [
        Entry(name, open_run(folder / name, "adversarial/latest", data=source.data))
        for name in left
    ]
    return entries, collapsed


def _same_source(file: pathlib.Path, source: OpenedRun) -> None:
    """Requires that what was hardened here before started from the very same state."""
    found = {"parameters": source.where["parameters"]}
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        store.write_json(file, found | {"folder": str(source.folder)})
        return
    before = store.read_json(file, "parameters", "folder")
    if before["parameters"] != found["parameters"]:
        raise InputError(
            f"{file.parent}: hardened from another state (parameters {before['parameters']} of "
            f"{before['folder']}) than {source.folder} has ({found['parameters']}). Use another "
            "--workdir."
        )
