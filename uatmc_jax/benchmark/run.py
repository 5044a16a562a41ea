"""A whole evaluation by attacks: restore, attack, certify, measure content use, write.

    WORKDIR/attacks/STAGE-WHICH-ATTACK-DIGEST.json            one attack's result
    WORKDIR/attacks/STAGE-WHICH-ATTACK-DIGEST.partial.jsonl   its rows while it runs
    WORKDIR/attacks/STAGE-WHICH-content-DIGEST.json           content utility

The digest is over everything the numbers depend on (settings, data, parameters),
so the same command finds what is done, goes on with what is begun, and never
overwrites anything.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from uatmc_jax import __version__, checkpoint, logs
from uatmc_jax.attacks.batching import Outcome, attack_targets, list_depth
from uatmc_jax.attacks.certificates import Certificate, certify
from uatmc_jax.attacks.perturb import Attack, Strength
from uatmc_jax.attacks.transfer import check_shared_z, transfer_targets
from uatmc_jax.attacks.victim import Victim, make_victim
from uatmc_jax.benchmark.summary import summarize
from uatmc_jax.benchmark.targets import (
    by_number,
    choose_targets,
    choose_users,
    generator,
    starts_key,
)
from uatmc_jax.build import open_dataset
from uatmc_jax.data import Dataset
from uatmc_jax.data.device import DeviceData, put_on_device
from uatmc_jax.environment import environment
from uatmc_jax.errors import InputError
from uatmc_jax.evaluation.content import content_utility
from uatmc_jax.evaluation.ranking import make_plan
from uatmc_jax.models import Adjacency, Modal, Model, make_adjacency
from uatmc_jax.models.projection import project_all
from uatmc_jax.settings import AttackRunSettings, AttackSettings, to_dict

FOLDER = "attacks"
# What a training run reports, hence what is attacked unless said otherwise.
DEFAULT_CHECKPOINTS = (("pretrain", "best"), ("adversarial", "best"), ("adversarial", "latest"))
CONTENT_K = 20
# Settings that change no number of an attack.
_FREE = ("memory_mib", "attacks", "cold_count")


class Case(NamedTuple):
    """One checkpoint and the data it is attacked on.

    Attributes:
      restored: the trained model.
      where: {"stage", "which", "epoch", "parameters": a digest of them}.
      dataset: the data.
      data: the same on the device.
      adjacency: of the training graph.
    """

    restored: checkpoint.Restored
    where: dict
    dataset: Dataset
    data: DeviceData
    adjacency: Adjacency


def open_cases(
    workdir: str | pathlib.Path,
    checkpoints: Sequence[tuple[str, str]] = (),
    dataset: Dataset | None = None,
    data_root: str | None = None,
) -> list[Case]:
    """A training run's checkpoints with the data they were trained on.

    Args:
      workdir: folder of the run.
      checkpoints: (stage, which) pairs; by default those that the run's summary
        reports, as far as they exist.
      dataset: the data, if already open.
      data_root: where the data lie, if not where the run found them.

    Raises:
      InputError: a checkpoint is missing or unreadable, or the data are others.
    """
    workdir = pathlib.Path(workdir)
    pairs = checkpoints or _reported(workdir)
    restored = [checkpoint.restore(workdir, *pair) for pair in pairs]
    if dataset is None:
        chosen = restored[0].settings.data
        if data_root is not None:
            chosen = dataclasses.replace(chosen, root=data_root)
        dataset = open_dataset(chosen)
    data = put_on_device(dataset)
    adjacency = make_adjacency(dataset.train, dataset.n_users, dataset.n_items)
    return [
        _case(workdir, pair, one, dataset, data, adjacency)
        for pair, one in zip(pairs, restored, strict=True)
    ]


def _case(
    workdir: pathlib.Path,
    pair: tuple[str, str],
    restored: checkpoint.Restored,
    dataset: Dataset,
    data: DeviceData,
    adjacency: Adjacency,
) -> Case:
    checkpoint.check_data(restored.meta, dataset, workdir)
    where = {
        "stage": pair[0],
        "which": pair[1],
        "epoch": restored.meta["epoch"],
        "parameters": checkpoint.digest(restored.params),
    }
    return Case(restored, where, dataset, data, adjacency)


def run_attacks(
    settings: AttackRunSettings,
    workdir: str | pathlib.Path,
    *,
    checkpoints: Sequence[tuple[str, str]] = (),
    only: Sequence[str] = (),
    data_root: str | None = None,
    dataset: Dataset | None = None,
    surrogates: Mapping[str, tuple[str | pathlib.Path, str, str]] | None = None,
    show_progress: bool = True,
) -> tuple[list[dict], list[dict]]:
    """Attacks a training run's checkpoints; what is already on disk is not done again.

    Args:
      settings: the evaluation.
      workdir: folder of the training run; results go to its `attacks/`.
      checkpoints: (stage, which) pairs; by default those that the run's summary
        reports, as far as they exist.
      only: names of the attacks to run; by default all in the settings.
      data_root: where the data lie, if not where the run found them.
      dataset: the data, if already open.
      surrogates: {name: (folder of its training run, stage, which)} of the models
        that the settings' attacks name as theirs; trained on the same data.
      show_progress: a bar on a terminal.

    Returns:
      The attacks' results and the content measurements, as in their files.

    Raises:
      InputError: before any long work, for anything the user can mend.
    """
    workdir = pathlib.Path(workdir)
    attacks = chosen_attacks(settings.attacks, only)
    cases = open_cases(workdir, checkpoints, dataset, data_root)
    dataset = cases[0].dataset
    check_attacks(settings, attacks, dataset)
    for case in cases:
        check_alignment(attacks, case.restored.model, dataset)
    helpers = _open_surrogates(attacks, surrogates or {}, cases)
    targets = {seed: choose_targets(settings.targets, dataset, seed) for seed in settings.seeds}
    settings = dataclasses.replace(settings, targets=by_number(settings.targets, dataset))
    folder = workdir / FOLDER
    folder.mkdir(exist_ok=True)
    results, contents = [], []
    total = len(cases) * len(attacks) * sum(map(len, targets.values()))
    disable = None if show_progress else True  # None: shown on a terminal only
    with tqdm(total=total, unit="target", disable=disable, dynamic_ncols=True) as bar:
        for case in cases:
            contents.append(_content(case, settings, folder))
            results += _attack_all(case, settings, attacks, helpers, targets, folder, bar)
    return results, contents


def _reported(workdir: pathlib.Path) -> list[tuple[str, str]]:
    """The default checkpoints there are; one epoch is not attacked under two names."""
    epochs = {pair: checkpoint.saved_epoch(workdir, *pair) for pair in DEFAULT_CHECKPOINTS}
    if epochs["adversarial", "latest"] == epochs["adversarial", "best"]:
        del epochs["adversarial", "latest"]
    # With none there, restoring the first says so.
    return [p for p, epoch in epochs.items() if epoch is not None] or [DEFAULT_CHECKPOINTS[0]]


def chosen_attacks(
    attacks: Mapping[str, AttackSettings], only: Sequence[str]
) -> dict[str, AttackSettings]:
    """Those named in `only`, or all.

    Raises:
      InputError: a name there is none of.
    """
    for name in only:
        if name not in attacks:
            raise InputError(f"--attacks {name}: the config has {', '.join(attacks)}.")
    return {name: a for name, a in attacks.items() if not only or name in only}


def check_attacks(
    settings: AttackRunSettings, attacks: Mapping[str, AttackSettings], dataset: Dataset
) -> None:
    """Raises InputError for a K beyond the catalogue, or modalities the data have not."""
    longest = int(np.bincount(dataset.train.users).max()) if settings.masked else 0
    room = dataset.n_items - longest
    wanted = {"config.ks": max(settings.ks)}
    wanted |= {f"config.attacks.{name}.k": attack.k for name, attack in attacks.items()}
    for field, k in wanted.items():
        if k > room:
            masked = " that are not some user's training items" if settings.masked else ""
            raise InputError(
                f"{field}: K = {k} exceeds the {room} items of data set "
                f"'{dataset.name}'{masked}. Use a smaller K."
            )
    for name, attack in attacks.items():
        unknown = [m for m in attack.modalities if m not in dataset.modalities]
        if unknown:
            raise InputError(
                f"config.attacks.{name}.modalities: {unknown[0]!r} is not one of the data's "
                f"modalities, {', '.join(dataset.modalities)}."
            )
        if attack.beta and len(attack.modalities or dataset.modalities) < 2:
            raise InputError(
                f"config.attacks.{name}.beta = {attack.beta}: alignment needs two perturbed "
                "modalities or more. Set it to 0, or perturb another modality."
            )


def check_alignment(attacks: Mapping[str, AttackSettings], model: Model, dataset: Dataset) -> None:
    """Raises InputError for an alignment term between rows of z of unlike width."""
    params = jax.eval_shape(model.init, jax.random.key(0))
    shapes = tuple(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in dataset.features)
    z = jax.eval_shape(model.project, params.projectors, shapes)
    widths = {m: x.shape[1] for m, x in zip(dataset.modalities, z, strict=True)}
    for name, attack in attacks.items():
        wanted = {widths[m] for m in attack.modalities or dataset.modalities}
        if attack.beta and len(wanted) > 1:
            raise InputError(
                f"config.attacks.{name}.beta = {attack.beta}: alignment compares gradients of one "
                f"width, but the z of model {model.name} have {widths}. Set it to 0."
            )


def _open_surrogates(
    attacks: dict[str, AttackSettings],
    surrogates: Mapping[str, tuple[str | pathlib.Path, str, str]],
    cases: Sequence[Case],
) -> dict[str, Case]:
    """The models that the attacks name as their surrogates; they can serve all the cases."""
    opened: dict[str, Case] = {}
    for name, attack in attacks.items():
        wanted = attack.surrogate
        if wanted and wanted not in surrogates:
            raise InputError(
                f"config.attacks.{name}.surrogate = {wanted!r}: no such surrogate is given. Name "
                "its checkpoint with --surrogates."
            )
        if wanted and wanted not in opened:
            workdir, stage, which = surrogates[wanted]
            restored, first = checkpoint.restore(workdir, stage, which), cases[0]
            workdir, pair = pathlib.Path(workdir), (stage, which)
            shared = (first.dataset, first.data, first.adjacency)
            opened[wanted] = _case(workdir, pair, restored, *shared)
    carried = {a.surrogate for a in attacks.values() if a.surrogate and a.level == "projected"}
    if carried:
        z = [_project(case) for case in cases]
        for name in sorted(carried):
            other = _project(opened[name])
            for case, own in zip(cases, z, strict=True):
                check_shared_z(other, own, (name, f"{case.where['stage']}/{case.where['which']}"))
    return opened


def _project(case: Case) -> Modal:
    return project_all(case.restored.model, case.restored.params, case.data.features)


def static_attack(settings: AttackSettings, modalities: Sequence[str]) -> tuple[Attack, Strength]:
    """An attack's settings as what is compiled and what is traced.

    Args:
      settings: of the attack.
      modalities: all of the data's, in order.
    """
    chosen = settings.modalities or tuple(modalities)
    attack = Attack(
        utility=settings.utility,
        k=settings.k,
        norm=settings.norm,
        steps=settings.steps,
        restarts=settings.restarts,
        keep=settings.keep,
        aligned=settings.beta > 0,
        level=settings.level,
        modalities=tuple(n for n, name in enumerate(modalities) if name in chosen),
        search=settings.search,
    )
    scalars = (settings.eps, settings.step_size, settings.margin, settings.beta)
    return attack, Strength(*(jnp.float32(value) for value in scalars))


def batch_memory_mib(settings: AttackRunSettings) -> float:
    """The memory of a batch of targets: the setting, or what suits the device.

    On a CPU small batches, whose arrays stay in the cache, are the faster ones.
    """
    if settings.memory_mib:
        return settings.memory_mib
    return 64.0 if jax.default_backend() == "cpu" else 4096.0


def _attack_all(
    case: Case,
    settings: AttackRunSettings,
    attacks: dict[str, AttackSettings],
    surrogates: dict[str, Case],
    targets: dict[int, np.ndarray],
    folder: pathlib.Path,
    bar: tqdm,
) -> list[dict]:
    """All attacks on one checkpoint; each seed's users are ranked once for all of them."""
    crafted_on = {name: surrogates.get(attack.surrogate) for name, attack in attacks.items()}
    files = {
        name: folder / _file_name(case, name, _identity(case, settings, attack, crafted_on[name]))
        for name, attack in attacks.items()
    }
    wanted = [(seed, int(item)) for seed, items in targets.items() for item in items]
    rows = {name: _read_rows(files[name]) for name in attacks if not files[name].exists()}
    for name in attacks:
        bar.update(len(rows[name]) if name in rows else len(wanted))
    for seed in targets:
        left = {
            name: np.array([i for s, i in wanted if s == seed and (s, i) not in done], np.int32)
            for name, done in rows.items()
        }
        left = {name: items for name, items in left.items() if len(items)}
        if not left:
            continue
        victim = victim_of(case, settings, attacks, seed)
        helpers: dict[str, tuple[Case, Victim]] = {}
        for name, items in left.items():
            where = f"{case.where['stage']}/{case.where['which']}"
            bar.set_description(f"{where} {name}, seed {seed}")
            attack, other = attacks[name], crafted_on[name]
            if other is not None and attack.surrogate not in helpers:
                helpers[attack.surrogate] = other, victim_of(other, settings, attacks, seed)
            helper = helpers.get(attack.surrogate)
            batches = _attack_rows(case, settings, attack, victim, helper, items, seed, bar)
            for new in batches:
                _append_rows(files[name], new)
                rows[name] |= {(row["seed"], row["item"]): row for row in new}
    results = []
    for name, attack in attacks.items():
        if name in rows:
            done = [rows[name][key] for key in wanted]
            result = _result(case, settings, name, attack, crafted_on[name], done)
            logs.write_json(files[name], result)
            _partial(files[name]).unlink(missing_ok=True)
        result = _read_result(files[name])
        for row in result["rows"]:  # as the data set calls them now
            row |= _called(case.dataset, row["item"])
        results.append(result)
    return results


def victim_of(
    case: Case, settings: AttackRunSettings, attacks: dict[str, AttackSettings], seed: int
) -> Victim:
    """The model under attack with one seed's users, for all of these attacks."""
    model = case.restored.model
    users = choose_users(case.dataset, settings.user_share, seed)
    depth = max(list_depth(settings.ks, attack.k, model) for attack in attacks.values())
    seen = case.dataset.train if settings.masked else None
    return make_victim(model, case.restored.params, case.data, users, depth, seen)


def _attack_rows(
    case: Case,
    settings: AttackRunSettings,
    chosen: AttackSettings,
    victim: Victim,
    surrogate: tuple[Case, Victim] | None,
    items: np.ndarray,
    seed: int,
    bar: tqdm,
) -> Iterator[list[dict]]:
    """Rows of one attack under one seed, batch by batch."""
    model, dataset = case.restored.model, case.dataset
    attack, strength = static_attack(chosen, dataset.modalities)
    given = (items, settings.ks, starts_key(seed))
    shared = {
        "adjacency": case.adjacency,
        "path": settings.path,
        "ranks": settings.ranks,
        "memory_mib": batch_memory_mib(settings),
    }
    started = time.monotonic()
    if surrogate is None:
        batches = attack_targets(model, attack, strength, victim, *given, **shared)
    else:
        other, known = surrogate
        crafted_on = (other.restored.model, known)
        batches = transfer_targets(model, attack, strength, victim, *crafted_on, *given, **shared)
    for places, outcome in batches:
        certificate = certify(model, attack, chosen.eps, victim, outcome.items, settings.ks)
        seconds = (time.monotonic() - started) / len(places)
        rows = []
        for n in range(len(places)):
            item = int(outcome.items[n])
            rows.append(
                {
                    "seed": seed,
                    "item": item,
                    **_called(dataset, item),
                    "interactions": int(dataset.item_counts[item]),
                    "train_interactions": int(dataset.item_train_counts[item]),
                    "path": str(outcome.paths[n]),
                    "seconds": seconds,
                    **_numbers(outcome, n, settings.ks),
                    **_bounds(certificate, n, settings.ks),
                }
            )
        yield rows
        bar.update(len(rows))
        started = time.monotonic()


def _called(dataset: Dataset, item: int) -> dict:
    """A row's shop id and title of its item; None for what is not known."""
    return {"name": dataset.names.ids.get(item), "title": dataset.names.titles.get(item)}


def _numbers(outcome: Outcome, n: int, ks: Sequence[int]) -> dict:
    numbers = {
        "utility_before": float(outcome.utility_before[n]),
        "utility_after": float(outcome.utility_after[n]),
        "utility_by_step": [float(value) for value in outcome.values[n]],
        "hr_before": _by_k(outcome.hr_before[n], ks),
        "hr_after": _by_k(outcome.hr_after[n], ks),
    }
    if outcome.rank_before is not None:
        numbers["rank_before"] = float(outcome.rank_before[n])
        numbers["rank_after"] = float(outcome.rank_after[n])
    return numbers


def _bounds(certificate: Certificate | None, n: int, ks: Sequence[int]) -> dict:
    if certificate is None:
        return {}
    bounds = {"any_content_certificate": _by_k(certificate.any_content[n], ks)}
    if certificate.budget is not None:
        bounds["budget_certificate"] = _by_k(certificate.budget[n], ks)
    return bounds


def _by_k(shares: np.ndarray, ks: Sequence[int]) -> dict[str, float]:
    return {str(k): float(share) for k, share in zip(ks, shares, strict=True)}


def _result(
    case: Case,
    settings: AttackRunSettings,
    name: str,
    attack: AttackSettings,
    surrogate: Case | None,
    rows: list[dict],
) -> dict:
    model, dataset = case.restored.model, case.dataset
    trained = case.restored.settings
    if not model.affine_in_content:
        certificate = f"no certificate for {model.name}: it declares no linear scores"
    elif attack.level == "feature":
        certificate = "any content; no budget certificate for attacks on raw features"
    else:
        certificate = "budget"
    return {
        "attack": name,
        "threat_model": to_dict(attack),
        "settings": _shared(settings),
        "model": model.name,
        "affine_in_content": model.affine_in_content,
        "defense": trained.adversarial.defense if case.where["stage"] == "adversarial" else None,
        "trained_with": to_dict(trained),
        "checkpoint": case.where,
        "surrogate": None if surrogate is None else surrogate.where,
        "dataset": {"name": dataset.name, "fingerprint": dataset.fingerprint},
        "users": len(choose_users(dataset, settings.user_share, settings.seeds[0])),
        "certificate": certificate,
        "summary": summarize(rows, settings.ks, settings.bootstrap),
        "seconds": sum(row["seconds"] for row in rows),
        **environment(),
        "rows": rows,
    }


def _content(case: Case, settings: AttackRunSettings, folder: pathlib.Path) -> dict:
    """Content utility of one checkpoint, from its file if it is there."""
    dataset, seed = case.dataset, settings.seeds[0]
    identity = {
        "software": _software(),
        "cold_count": settings.cold_count,
        "k": CONTENT_K,
        "seed": seed,
        "dataset": dataset.fingerprint,
        "checkpoint": case.where,
    }
    file = folder / _file_name(case, "content", identity)
    if not file.exists():
        measured = content_utility(
            case.restored.model,
            case.restored.params,
            dataset,
            case.data,
            make_plan(dataset.train, dataset.n_users, dataset.n_items),
            min(CONTENT_K, dataset.n_items),
            settings.cold_count,
            generator(seed, "content"),
        )
        found = {
            "checkpoint": case.where,
            "dataset": {"name": dataset.name, "fingerprint": dataset.fingerprint},
            "seed": seed,
        }
        logs.write_json(file, found | measured | environment())
    return _read_result(file)


def _shared(settings: AttackRunSettings) -> dict:
    """The settings that all attacks of a run share and that their numbers depend on."""
    return {name: value for name, value in to_dict(settings).items() if name not in _FREE}


def _identity(
    case: Case, settings: AttackRunSettings, attack: AttackSettings, surrogate: Case | None
) -> dict:
    return {
        "software": _software(),
        "attack": to_dict(attack),
        "settings": _shared(settings),
        "dataset": case.dataset.fingerprint,
        "checkpoint": case.where,
        "surrogate": None if surrogate is None else surrogate.where,
    }


def _software() -> tuple:
    """What may move the last digits, so that one file is the work of one of them."""
    return __version__, jax.__version__, jax.default_backend()


def _file_name(case: Case, name: str, identity: dict) -> str:
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:10]
    return f"{case.where['stage']}-{case.where['which']}-{name}-{digest}.json"


def _partial(file: pathlib.Path) -> pathlib.Path:
    return file.with_suffix(".partial.jsonl")


def _append_rows(file: pathlib.Path, rows: list[dict]) -> None:
    with open(_partial(file), "a", encoding="utf-8") as journal:
        journal.write("".join(json.dumps(row) + "\n" for row in rows))
        journal.flush()
        os.fsync(journal.fileno())


def _read_rows(file: pathlib.Path) -> dict[tuple[int, int], dict]:
    """What an interrupted attack has written; a line cut off by a kill is dropped for good."""
    journal = _partial(file)
    if not journal.exists():
        return {}
    text = journal.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        mended = journal.with_name(journal.name + ".mended")
        mended.write_text(whole, encoding="utf-8")
        os.replace(mended, journal)
    try:
        rows = [json.loads(line) for line in whole.splitlines()]
        return {(row["seed"], row["item"]): row for row in rows}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{journal}: not JSON lines ({error}). Delete it.") from None


def _read_result(file: pathlib.Path) -> dict:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{file}: not JSON ({error}). Delete it.") from None
