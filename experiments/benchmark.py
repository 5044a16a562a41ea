"""Milliseconds per training step of both stages, and per propagation, as JSON.

    python -m experiments.benchmark --config configs/baby_vbpr.py --config.pretrain.nce_items=2048

A step is a batch inside the epoch's compiled scan, sampling and shuffling
included; the time is the fastest of `--epochs` whole epochs after compilation,
divided by their steps. A propagation sums 64 floats over the neighbours of every
node, edges grouped and one by one. Peak memory is this process's on the host.
"""

import json
import platform
import time

import jax
from absl import flags
from ml_collections import config_flags

from uatmc_jax.build import build_model, open_dataset
from uatmc_jax.cli import start
from uatmc_jax.models import Graph, Modal, Params, make_graph, sum_neighbours
from uatmc_jax.settings import Settings, from_flag
from uatmc_jax.training.epoch import TrainState, steps_per_epoch
from uatmc_jax.training.objectives import put_on_device
from uatmc_jax.training.run import peak_memory_mib
from uatmc_jax.training.stage import Stage
from uatmc_jax.training.stages import adversarial_stage, init_params, pretrain_stage

_CONFIG = config_flags.DEFINE_config_file("config", None, "The experiment.")
_EPOCHS = flags.DEFINE_integer("epochs", 3, "Timed epochs of each stage.", lower_bound=1)
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
    model = build_model(settings.model, dataset.n_users, dataset.n_items, dataset.raw_dims)
    data = put_on_device(dataset)
    params = init_params(settings, model)
    builders = {"pretrain": pretrain_stage, "adversarial": adversarial_stage}
    results = {}
    for name in stages:
        stage, state = builders[name](settings, model, params, data, _no_validation)
        steps = steps_per_epoch(len(dataset.train), getattr(settings, name).batch_size)
        first, *timed = _time_epochs(stage, state, data, epochs)
        results[name] = {
            "ms_per_step": round(1e3 * min(timed) / steps, 3),
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
            "group_width": len(grouped.senders),
            "grouped_ms": _time_propagation(grouped),
            "one_by_one_ms": _time_propagation(single),
        },
        "peak_memory_mib": peak_memory_mib(),
        "device": f"{device.platform} ({device.device_kind}), {platform.machine()}",
        "jax": jax.__version__,
    }


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


def _time_epochs(stage: Stage, state: TrainState, data, epochs: int) -> list[float]:
    seconds = []
    for _ in range(epochs + 1):
        start = time.perf_counter()
        state, *_ = jax.block_until_ready(stage.run_epoch(state, stage.fixed, data))
        seconds.append(time.perf_counter() - start)
    return seconds


def main(argv: list[str]) -> None:
    """Flags in, JSON out."""
    del argv
    settings, _ = from_flag(_CONFIG)
    print(json.dumps(measure(settings, _STAGES.value, _EPOCHS.value), indent=2))


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    start(main)
