"""The models an audit judges: trained or given, opened once and handed on.

WORKDIR/victims/CANDIDATE/     training runs of the candidates
WORKDIR/hardened/ENTRY/        training runs from the victim
WORKDIR/hardened/source.json   which state they started from
WORKDIR/hardened/mu_0.1/       the same with a tenth of mu, where one collapsed
"""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
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

SOURCE_FILE, COLLAPSED_FILE = "source.json", "collapsed.json"
# Of the victim's mu in stage 1, tried in this order where a hardened model collapses.
_MU_SHARES = (1.0, 0.1, 0.01)
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
      notes: what was chosen otherwise than asked for, in words.
    """

    entries: list[Entry]
    candidates: dict[str, dict]
    collapsed: dict[str, str]
    source: pathlib.Path | None
    notes: list[str]


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
        return Audited(entries, candidates, collapsed, None, [])
    source = victim
    if given is not None:
        folder = source_of(given)
        if (folder, victim.name) != (victim.folder, "pretrain/best"):
            source = open_run(folder, "pretrain/best", data=dataset)
    members = hardened_settings(settings, victim.settings, source.folder)
    hardened, lost = _harden(members, workdir / "hardened", source, say)
    notes = [
        f"hardened with mu {mu:.3g}, as some collapsed under {victim.settings.pretrain.mu:.3g}"
        for mu in {one.run.settings.adversarial.mu for one in hardened}
        if mu != victim.settings.pretrain.mu
    ]
    return Audited(entries + hardened, candidates, collapsed | lost, source.folder, notes)


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
    """The hardened models, and what happened to those that collapsed.

    Where one collapses under the victim's mu, all are hardened anew with a tenth of it, so that
    they stay comparable; what has collapsed is noted, for the same call to go on from there.
    """
    _same_source(folder / SOURCE_FILE, source)
    for turn, share in enumerate(_MU_SHARES):
        chosen = {name: _with_mu(one, share) for name, one in members.items()}
        where = folder if share == 1 else folder / f"mu_{share:g}"
        note = where / COLLAPSED_FILE
        collapsed = store.read_json(note) if note.exists() else {}
        last = turn + 1 == len(_MU_SHARES)
        if not collapsed or last:
            collapsed = collapsed | _train_all(chosen, where, source, say, collapsed, last)
        if not collapsed or last:
            break
        where.mkdir(parents=True, exist_ok=True)
        store.write_json(note, collapsed)
        say(f"hardening anew with a tenth of mu: {', '.join(collapsed)} collapsed")
    entries = [
        Entry(name, open_run(where / name, "adversarial/latest", data=source.data))
        for name in chosen
        if name not in collapsed
    ]
    return entries, collapsed


def _with_mu(settings: Settings, share: float) -> Settings:
    stage = settings.adversarial
    return dataclasses.replace(
        settings, adversarial=dataclasses.replace(stage, mu=share * stage.mu)
    )


def _train_all(
    members: Mapping[str, Settings],
    folder: pathlib.Path,
    source: OpenedRun,
    say: Say,
    before: Mapping[str, str],
    whatever: bool,
) -> dict[str, str]:
    """Trains all but those that collapsed before, up to the first that collapses or
    `whatever` does; what collapses now."""
    left, collapsed = {name: one for name, one in members.items() if name not in before}, {}
    groups = compatible(left)
    while groups:
        group = groups.pop(0)
        say(f"hardening: {', '.join(group)}")
        try:
            train_vmapped(group, folder, vmapped=_VMAPPED, source=source)
        except CollapsedError as error:
            collapsed[error.member] = str(error)
            say(f"{error.member} left out: {error}")
            if not whatever:
                break
            del group[error.member]
            groups += [group] if group else []
    return collapsed


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
