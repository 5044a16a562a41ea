"""A whole evaluation by attacks: attack, certify, measure content use, write.

    RUN/attacks/STAGE-WHICH-ATTACK-DIGEST.json            one attack's result
    RUN/attacks/STAGE-WHICH-ATTACK-DIGEST.npz             its perturbations, by row
    RUN/attacks/STAGE-WHICH-ATTACK-DIGEST.partial*        both while it runs
    RUN/attacks/STAGE-WHICH-content-DIGEST.json           use of content
    RUN/attacks/STAGE-WHICH-content-DIGEST.npz            what it was counted from, by user

The digest is over everything the numbers depend on (settings, data, parameters),
so the same command finds what is done, goes on with what is begun, and never
overwrites anything.
"""

import contextlib
import dataclasses
import functools
import pathlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from uatmc_jax import store
from uatmc_jax.attacks import (
    Attack,
    Lists,
    Options,
    Outcome,
    Victim,
    attack_batches,
    blind,
    certificate_of,
    certificate_said,
    collateral_of,
    make_victim,
    nothing_batches,
    transfer_batches,
)
from uatmc_jax.benchmark.checks import (
    check_alignment,
    check_attacks,
    check_redraw,
    check_serving,
    check_surrogates,
    chosen_attacks,
)
from uatmc_jax.benchmark.content import content_of
from uatmc_jax.benchmark.deltas import forget_parts, keep, read_done, write_deltas
from uatmc_jax.benchmark.files import FOLDER, result_file
from uatmc_jax.benchmark.rows import (
    called,
    collateral_row,
    mean_collateral,
    mean_moved,
    outcome_rows,
)
from uatmc_jax.benchmark.summary import summarize
from uatmc_jax.benchmark.targets import by_number, choose_targets, choose_users
from uatmc_jax.environment import environment
from uatmc_jax.hosts import by_writer, meet, writes
from uatmc_jax.models import Params
from uatmc_jax.opened import OpenedRun
from uatmc_jax.owner import owned
from uatmc_jax.placement import (
    Placement,
    make_placement,
    spread_lists,
    spread_options,
    spread_victim,
)
from uatmc_jax.seeds import generator, starts_key
from uatmc_jax.settings import (
    AttackRunSettings,
    as_recorded,
    result_with_new_names,
    to_dict,
)

# Settings that change no number of an attack, but for rounding.
_FREE = ("memory_mib", "attacks", "cold_count", "permutations", "mesh")
# Of results of before there were policies.
_SERVED = {"serving": "full"}


class _Job(NamedTuple):
    """Attacks on one checkpoint.

    Attributes:
      run: the checkpoint.
      settings: of the evaluation.
      attacks: by name.
      crafted_on: {attack: its surrogate}, None for the run itself.
      targets: {seed: (T,) items}.
      bar: told of every target done.
    """

    run: OpenedRun
    settings: AttackRunSettings
    attacks: Mapping[str, Attack]
    crafted_on: Mapping[str, OpenedRun | None]
    targets: Mapping[int, np.ndarray]
    bar: tqdm


def run_attacks(
    settings: AttackRunSettings,
    runs: Sequence[OpenedRun],
    *,
    only: Sequence[str] = (),
    surrogates: Mapping[str, OpenedRun] | None = None,
    show_progress: bool = True,
) -> tuple[list[dict], list[dict]]:
    """Attacks checkpoints of one data set; what is already on disk is not done again.

    Of several processes each calls it, with the same arguments and shared folders.

    Args:
      settings: the evaluation.
      runs: the checkpoints; results go to the `attacks/` of each one's folder.
      only: names of the attacks to run; by default all in the settings.
      surrogates: the models that the settings' attacks name as theirs; trained on the
        same data.
      show_progress: a bar on a terminal.

    Returns:
      The attacks' results and the content measurements, as in their files. A result's
      "file" is where it is; `deltas.read_deltas` reads the perturbations beside it.

    Raises:
      InputError: before any long work, for anything the user can mend.
    """
    attacks, data = chosen_attacks(settings.attacks, only), runs[0].data
    _placement(settings)  # that there are so many
    surrogates = surrogates or {}
    check_attacks(settings, attacks, data)
    for run in runs:
        check_serving(settings, attacks, run.model)
        check_alignment(attacks, run.model, data)
    check_redraw(settings, [run.model for run in runs])
    check_surrogates(attacks, surrogates, runs)
    targets = {seed: choose_targets(settings.targets, data, seed) for seed in settings.seeds}
    settings = dataclasses.replace(settings, targets=by_number(settings.targets, data))
    crafted_on = {name: surrogates.get(attack.surrogate) for name, attack in attacks.items()}
    results, contents = [], []
    total = len(runs) * len(attacks) * sum(map(len, targets.values()))
    disable = None if show_progress and writes() else True  # None: shown on a terminal only
    with contextlib.ExitStack() as stack:
        folders = dict.fromkeys(run.folder / FOLDER for run in runs)
        by_writer(lambda: [stack.enter_context(owned(folder)) for folder in folders])
        bar = stack.enter_context(
            tqdm(total=total, unit="target", disable=disable, dynamic_ncols=True)
        )
        for run in runs:
            contents.append(content_of(run, settings))
            results += _attack_all(_Job(run, settings, attacks, crafted_on, targets, bar))
    return results, contents


def _attack_all(job: _Job) -> list[dict]:
    """All attacks on one checkpoint; each seed's users are ranked once for all of them."""
    files = {name: _file(job, name) for name in job.attacks}
    wanted = [(seed, int(item)) for seed, items in job.targets.items() for item in items]
    done = {name: read_done(file) for name, file in files.items() if not file.exists()}
    meet()  # before one of several processes writes what the others have to find
    for name in job.attacks:
        job.bar.update(len(done[name]) if name in done else len(wanted))
    for seed in job.targets:
        left = {
            name: np.array([i for s, i in wanted if s == seed and (s, i) not in some], np.int32)
            for name, some in done.items()
        }
        left = {name: items for name, items in left.items() if len(items)}
        victims: dict[str, Victim] = {}
        for name, items in left.items():
            job.bar.set_description(f"{job.run.name} {name}, seed {seed}")
            # "" is the run itself; a surrogate is ranked for the same users.
            for key, run in (("", job.run), (job.attacks[name].surrogate, job.crafted_on[name])):
                if run is not None and key not in victims:
                    victims[key] = victim_of(run, job.settings, job.attacks, seed)
            for rows, outcome in _attack_rows(job, name, seed, victims, items):
                if writes():
                    keep(files[name], len(done[name]), rows, outcome)
                deltas = zip(*outcome.delta, strict=True)
                pairs = zip(rows, deltas, strict=True)
                done[name] |= {(row["seed"], row["item"]): (row, x) for row, x in pairs}
    for name, some in done.items():
        finished = [some[key] for key in wanted]
        by_writer(functools.partial(_finish, job, name, files[name], finished))
    return [_read_result(file, job.run) for file in files.values()]


def _finish(job: _Job, name: str, file: pathlib.Path, finished: Sequence[tuple]) -> None:
    """Writes what an attack has made of all its targets."""
    chosen = job.attacks[name].modalities or job.run.data.modalities
    write_deltas(file, [m for m in job.run.data.modalities if m in chosen], finished)
    # Written last: with it the attack is done.
    store.write_json(file, _result(job, name, [row for row, _ in finished]))
    forget_parts(file)


def victim_of(
    run: OpenedRun, settings: AttackRunSettings, attacks: Mapping[str, Attack], seed: int
) -> Victim:
    """The model under attack with one seed's users, for all of these attacks."""
    users = choose_users(run.data, settings.user_share, seed)
    lists = Lists(k=max(*settings.ks, *(attack.k for attack in attacks.values())))
    params = redrawn(run, seed) if settings.redraw else run.params
    placement = _placement(settings)
    lists = spread_lists(placement, lists)
    chosen = {"masked": settings.masked, "z": run.z, "lists": lists}
    return spread_victim(placement, make_victim(run.model, params, run.data, users, **chosen))


def _placement(settings: AttackRunSettings) -> Placement | None:
    mesh = settings.mesh
    return make_placement(mesh.devices, mesh.row_multiple, mesh.features)


def redrawn(run: OpenedRun, seed: int) -> Params:
    """The run's parameters with new draws of what its published checkpoints leave out."""
    key = jax.random.key(int(generator(seed, "redraw").integers(2**31)))
    return dataclasses.replace(run.params, encoder=run.model.redraw(run.params.encoder, key))  # type: ignore[misc]


def options_of(settings: AttackRunSettings) -> Options:
    """What an evaluation measures of a target, and how targets are worked off."""
    placement = _placement(settings)
    options = Options(
        tuple(settings.ks),
        settings.ranks,
        settings.scorer,
        settings.memory_mib,
        serving=settings.serving,
    )
    return spread_options(placement, options)


def batches_of(
    attack: Attack, victim: Victim, items: np.ndarray, key: jax.Array, options: Options
) -> Iterator[tuple[np.ndarray, Outcome]]:
    """`attack_batches`, or `nothing_batches` where no edit changes anything: nothing is run."""
    if blind(victim.model, options.serving):
        return nothing_batches(attack, victim, items, options)
    return attack_batches(attack, victim, items, key, options=options)


def _attack_rows(
    job: _Job, name: str, seed: int, victims: Mapping[str, Victim], items: np.ndarray
) -> Iterator[tuple[list[dict], Outcome]]:
    """Rows of one attack under one seed, batch by batch."""
    attack, victim, settings = job.attacks[name], victims[""], job.settings
    key, options = starts_key(seed), options_of(settings)
    started = time.monotonic()
    if attack.surrogate and not blind(victim.model, settings.serving):
        surrogate = victims[attack.surrogate]
        batches = transfer_batches(attack, victim, surrogate, items, key, options=options)
    else:
        batches = batches_of(attack, victim, items, key, options)
    for places, outcome in batches:
        given = attack, victim, outcome.items, settings.ks, settings.serving
        certificate = certificate_of(*given)
        seconds = (time.monotonic() - started) / len(places)
        head = {"seed": seed, "serving": settings.serving, "seconds": seconds}
        rows = outcome_rows(outcome, certificate, settings.ks, job.run, head)
        if settings.collateral:
            edits = outcome.items, outcome.delta, outcome.z
            others = collateral_of(attack, victim, *edits, max(settings.ks))
            rows = [
                row | {"collateral": collateral_row(one, job.run.data)}
                for row, one in zip(rows, others, strict=True)
            ]
        yield rows, outcome
        job.bar.update(len(places))
        started = time.monotonic()


def _result(job: _Job, name: str, rows: list[dict]) -> dict:
    run, settings, attack = job.run, job.settings, job.attacks[name]
    model, surrogate = run.model, job.crafted_on[name]
    hardened = run.where["stage"] == "adversarial"
    why = blind(model, settings.serving)
    return {
        "attack": name,
        "threat_model": to_dict(attack),
        "settings": _shared(settings),
        "model": model.name,
        "serving": settings.serving,
        "reads": list(model.reads),
        "blind": why,
        "affine_in_content": model.affine_in_content,
        "defense": run.settings.adversarial.defense if hardened else None,
        "trained_with": to_dict(run.settings),
        "checkpoint": run.where,
        "surrogate": None if surrogate is None else surrogate.where,
        "dataset": {"name": run.data.name, "fingerprint": run.data.fingerprint},
        "users": len(choose_users(run.data, settings.user_share, settings.seeds[0])),
        "certificate": certificate_said(attack, model, settings.serving),
        "summary": summarize(rows, settings.ks, settings.bootstrap),
        "moved": mean_moved(rows),
        "collateral": mean_collateral(rows),
        "seconds": sum(row["seconds"] for row in rows),
        **environment(),
        "rows": rows,
    }


def _shared(settings: AttackRunSettings) -> dict:
    """The settings that all attacks of a run share and that their numbers depend on."""
    return {name: value for name, value in to_dict(settings).items() if name not in _FREE}


def _file(job: _Job, name: str) -> pathlib.Path:
    """Where an attack's result is, or will be."""
    surrogate = job.crafted_on[name]
    identity = {
        "attack": as_recorded(Attack, to_dict(job.attacks[name])),
        "settings": as_recorded(AttackRunSettings, _shared(job.settings)),
        "dataset": job.run.data.fingerprint,
        "checkpoint": job.run.where,
        "surrogate": None if surrogate is None else surrogate.where,
    }
    return result_file(job.run, name, identity)


def _read_result(file: pathlib.Path, run: OpenedRun) -> dict:
    """A result with its items as the data set calls them now, and where it is."""
    result = result_with_new_names(store.read_json(file, "rows", "settings", "summary"))
    result["rows"] = [_SERVED | row | called(run.data, row["item"]) for row in result["rows"]]
    before = _SERVED | {"reads": list(run.model.reads), "blind": None}
    return before | result | {"file": str(file)}
