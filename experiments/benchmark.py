"""Milliseconds per training step and propagation, and attacks per second, as JSON.

    python -m experiments.benchmark --config configs/baby_vbpr.py --config.pretrain.nce_items=2048
    python -m experiments.benchmark --attack runs/baby_vbpr,runs/baby_mmgcn

A step is a batch inside the epoch's compiled scan, sampling and shuffling
included; the time is the fastest of `--epochs` whole epochs after compilation,
divided by their steps. GFLOP a step are what XLA counts in the epoch's compiled program,
whose loop over batches it counts once. A propagation sums 64 floats over the neighbours of every
node, edges grouped and one by one. Peak memory is this process's on the host.

An attack is the published PGD-10 (linf, 10 %) on one item with 40 % of the users,
hit rates before and after included, on the run's best pre-trained state; targets
are drawn as configs/attack.py does. The exact scorer attacks `--targets` of them,
the dense one the first `--dense_targets`; both times are of a second pass, after
compilation. What both compute is compared.
"""

import collections
import dataclasses
import json
import platform
import time

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from ml_collections import config_flags

from configs import attack as attack_config
from uatmc_jax.attacks import Victim, attack_batches, join
from uatmc_jax.benchmark.run import options_of, victim_of
from uatmc_jax.benchmark.targets import choose_targets
from uatmc_jax.cli import start
from uatmc_jax.data import open_dataset
from uatmc_jax.defenses import coefficients
from uatmc_jax.environment import peak_memory_mib
from uatmc_jax.errors import InputError
from uatmc_jax.models import Graph, Modal, Params, build_model, make_graph, sum_neighbours
from uatmc_jax.opened import open_run
from uatmc_jax.settings import AttackRunSettings, Settings, from_flag, from_values
from uatmc_jax.training.epoch import TrainState, compile_epochs, steps_per_epoch
from uatmc_jax.training.stage import Stage
from uatmc_jax.training.stages import (
    adversarial_parts,
    adversarial_stage,
    init_params,
    pretrain_stage,
)

_CONFIG = config_flags.DEFINE_config_file("config", None, "The experiment.")
_EPOCHS = flags.DEFINE_integer("epochs", 3, "Timed epochs of each stage.", lower_bound=1)
_ATTACK = flags.DEFINE_list("attack", [], "Folders of trained runs to time attacks on.")
_TARGETS = flags.DEFINE_integer("targets", 100, "Targets on the exact path.", lower_bound=1)
_DENSE_TARGETS = flags.DEFINE_integer("dense_targets", 3, "On the dense path.", lower_bound=1)
_DATA_ROOT = flags.DEFINE_string("data_root", None, "Where the attacked runs' data sets are.")
_VMAPPED = flags.DEFINE_list(
    "vmapped", [], "Also time stage 2 of so many trainings under one vmap, e.g. 1,2,4."
)
_STAGES = flags.DEFINE_list("stages", ["pretrain", "adversarial"], "Which stages to time.")


def measure(settings: Settings, stages: list[str], epochs: int) -> dict:
    """Times the stages from fresh parameters.

    Args:
      settings: the experiment.
      stages: names of the stages to time.
      epochs: timed epochs of each.

    Returns:
      Settings that matter, the device, and for each stage milliseconds a step.
    """
    dataset = open_dataset(settings.data)
    model = build_model(settings.model, dataset.sizes)
    data = dataset.on_device
    params = init_params(settings, model)
    builders = {"pretrain": pretrain_stage, "adversarial": adversarial_stage}
    results = {}
    for name in stages:
        stage, state = builders[name](settings, model, params, data, _no_validation)
        steps = steps_per_epoch(len(dataset.train), getattr(settings, name).batch_size)
        gflop, (first, *timed) = _time_epochs(stage, state, data, epochs)
        results[name] = {
            "ms_per_step": round(1e3 * min(timed) / steps, 3),
            "gflop_per_step": round(gflop, 2),
            "ms_per_step_all": [round(1e3 * seconds / steps, 3) for seconds in timed],
            "steps_per_epoch": steps,
            "first_epoch_seconds_with_compilation": round(first, 2),
        }
    grouped, single = data.graph, make_graph(dataset.train, dataset.n_users, dataset.n_items, 1)
    device = jax.devices()[0]
    return {
        "dataset": dataset.name,
        "fingerprint": dataset.fingerprint,
        "feature_dims": dataset.raw_dims,
        "model": settings.model.name,
        "defense": settings.adversarial.defense,
        "batch_size": settings.adversarial.batch_size,
        "nce_items": settings.pretrain.nce_items,
        "stages": results,
        "propagation": {
            "edges": 2 * len(dataset.train),
            "group_widths": [len(side.senders) for side in (grouped.users, grouped.items)],
            "grouped_ms": _time_propagation(grouped),
            "one_by_one_ms": _time_propagation(single),
        },
        "peak_memory_mib": peak_memory_mib(),
        "device": f"{device.platform} ({device.device_kind}), {platform.machine()}",
        "jax": jax.__version__,
    }


def measure_vmapped(settings: Settings, sizes: list[int], epochs: int) -> dict:
    """Times stage 2 of several trainings under one `vmap`, from fresh parameters.

    Args:
      settings: the experiment, for all of them.
      sizes: numbers of trainings to run at a time.
      epochs: timed epochs of each.

    Returns:
      {trainings: milliseconds a step and training}.
    """
    dataset = open_dataset(settings.data)
    model = build_model(settings.model, dataset.sizes)
    data = dataset.on_device
    parts = adversarial_parts(settings, model, init_params(settings, model), data)
    run_epochs = compile_epochs(parts.epoch, (None, 0))
    steps = steps_per_epoch(len(dataset.train), settings.adversarial.batch_size)
    found = {}
    for size in sizes:
        states = [parts.first_state(seed) for seed in range(size)]
        state, weights = (
            jax.tree.map(lambda *x: jnp.stack(x), *some)
            for some in (states, [coefficients(settings.adversarial)] * size)
        )
        seconds = []
        for _ in range(epochs + 1):
            start = time.perf_counter()
            state, *_ = jax.block_until_ready(run_epochs(state, (parts.frozen, weights), data))
            seconds.append(time.perf_counter() - start)
        found[str(size)] = round(1e3 * min(seconds[1:]) / steps / size, 3)
    return found


def measure_attack(
    workdir: str, n_targets: int, n_dense: int, data_root: str | None = None
) -> dict:
    """Times the published PGD on a trained run, with the exact scorer and with the dense one.

    Args:
      workdir: of the training run.
      n_targets: attacked with the exact scorer.
      n_dense: attacked with the dense scorer.
      data_root: where the data are, if not where the run found them.

    Returns:
      Seconds of the clean ranking, and for each scorer targets per second.
    """
    settings = from_values(AttackRunSettings, attack_config.get_config())
    run, seed = open_run(workdir, "pretrain/best", data_root=data_root), settings.seeds[0]
    drawn = dataclasses.replace(settings.targets, sample=n_targets)
    items = choose_targets(drawn, run.data, seed)
    chosen = {"pgd": settings.attacks["pgd"]}

    def clean() -> Victim:
        return jax.block_until_ready(victim_of(run, settings, chosen, seed))

    clean()
    start = time.perf_counter()
    victim = clean()
    result = {
        "model": run.model.name,
        "dataset": run.data.name,
        "fingerprint": run.data.fingerprint,
        "users": len(victim.users),
        "seed": seed,
        "clean_ranking_seconds": round(time.perf_counter() - start, 3),
    }
    outcomes = {}
    for name, scorer, some in (("exact", "auto", items), ("dense", "dense", items[:n_dense])):
        options = options_of(settings)._replace(scorer=scorer, ranks=False)
        for _ in range(2):
            start = time.perf_counter()
            found = attack_batches(chosen["pgd"], victim, some, jax.random.key(0), options=options)
            outcome = outcomes[name] = join(list(found))
            seconds = time.perf_counter() - start
        result[name] = {
            "scorers": dict(collections.Counter(outcome.scorers.tolist())),
            "targets": len(some),
            "seconds": round(seconds, 3),
            "targets_per_second": round(len(some) / seconds, 3),
            "seconds_per_target": round(seconds / len(some), 4),
        }
    exact, dense = (outcomes[name].hr_after[:n_dense] for name in ("exact", "dense"))
    result["largest_difference_of_hit_rates"] = float(np.abs(exact - dense).max())
    return result


def _no_validation(params: Params, z: Modal | None) -> dict[str, jax.Array]:
    return {}


def _time_propagation(graph: Graph, width: int = 64, repeats: int = 10) -> float:
    """Milliseconds of the fastest of `repeats` calls of `sum_neighbours`."""
    x = jax.random.normal(jax.random.key(0), (graph.n_users + graph.n_items, width))
    propagate = jax.jit(sum_neighbours)
    jax.block_until_ready(propagate(graph, x))
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(propagate(graph, x))
        seconds.append(time.perf_counter() - start)
    return round(1e3 * min(seconds), 3)


def _time_epochs(stage: Stage, state: TrainState, data, epochs: int) -> tuple[float, list[float]]:
    """GFLOP a step as XLA counts them, a loop's body once; seconds of each epoch."""
    seconds = []
    start = time.perf_counter()
    epoch = stage.run_epoch.lower(state, stage.fixed, data).compile()  # type: ignore[attr-defined]
    for _ in range(epochs + 1):
        state, *_ = jax.block_until_ready(epoch(state, stage.fixed, data))
        seconds.append(time.perf_counter() - start)
        start = time.perf_counter()
    return epoch.cost_analysis()["flops"] / 1e9, seconds


def main(argv: list[str]) -> None:
    """Flags in, JSON out."""
    del argv
    if _ATTACK.value:
        device = jax.devices()[0]
        results = {
            workdir: measure_attack(workdir, _TARGETS.value, _DENSE_TARGETS.value, _DATA_ROOT.value)
            for workdir in _ATTACK.value
        }
        found = {
            "attacks": results,
            "peak_memory_mib": peak_memory_mib(),
            "device": f"{device.platform} ({device.device_kind}), {platform.machine()}",
            "jax": jax.__version__,
        }
    else:
        if _CONFIG.value is None:
            raise InputError("give --config FILE to time training, or --attack WORKDIR.")
        settings, _ = from_flag(_CONFIG)
        found = measure(settings, _STAGES.value, _EPOCHS.value)
        if _VMAPPED.value:
            sizes = [int(size) for size in _VMAPPED.value]
            found["together_ms_per_step_and_training"] = measure_vmapped(
                settings, sizes, _EPOCHS.value
            )
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    start(main)
