"""How a step's cost grows with the number of users, by `optimizer.rows`, as JSON.

    python -m experiments.row_steps --users 20000,200000,1000000
    python -m experiments.row_steps --config configs/baby_vbpr.py --config.model.name=linear_vbpr \
        --config.adversarial.defense=uat --config.pretrain.alpha=0 --config.pretrain.epochs=12

Without a config: stage 2 of VBPR (UAT-MC, the published sizes, batches of 2,048) on random
interactions of so many users and a fifth as many items, after 5,000 steps. Epochs of
`--steps` steps and of a fifth of them are timed in turn, the fastest of `--repeats` each; the
difference is the steps', the rest is what an epoch has to pay once: shuffling and, with
"deferred", making up for all rows at its end. Compiling is left out.

With a config: stage 1 of the config under every way of `rows`, and its best validation recall@20.
"""

import dataclasses
import json
import platform
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from ml_collections import config_flags
from optax import tree_utils

from configs import base
from uatmc_jax.cli import start
from uatmc_jax.data import Dataset, Interactions, open_dataset
from uatmc_jax.defenses import coefficients
from uatmc_jax.environment import peak_memory_mib
from uatmc_jax.errors import InputError
from uatmc_jax.models import build_model
from uatmc_jax.optimizer import ROWS
from uatmc_jax.settings import Settings, from_config, from_flag
from uatmc_jax.training.epoch import compile_epoch
from uatmc_jax.training.fit import fit
from uatmc_jax.training.stages import adversarial_parts, init_params

_CONFIG = config_flags.DEFINE_config_file("config", None, "The experiment whose recall is asked.")
_USERS = flags.DEFINE_list("users", ["20000", "200000"], "Numbers of users to time steps with.")
_STEPS = flags.DEFINE_integer("steps", 50, "Of the longer epoch.", lower_bound=5)
_REPEATS = flags.DEFINE_integer("repeats", 3, "Timed epochs of each kind.", lower_bound=1)
_ROWS = flags.DEFINE_list("rows", list(ROWS), "Ways of optimizer.rows.")
_DONE = 5_000  # steps before: past Adam's first ones, which deferred rows take one by one


class _Timed(NamedTuple):
    """An epoch compiled, what it reads, and its seconds."""

    run: jax.stages.Compiled
    fixed: tuple
    data: object
    seconds: list[float]


def random_data(n_users: int, n_pairs: int, seed: int = 0) -> Dataset:
    """Distinct random interactions, and features of 8 numbers.

    Args:
      n_users: |U|; |I| is a fifth of it.
      n_pairs: training interactions.
      seed: of the draws.
    """
    rng, n_items = np.random.default_rng(seed), n_users // 5
    keys = np.unique(rng.integers(0, n_users * n_items, 2 * n_pairs))
    keys = np.sort(rng.choice(keys, n_pairs, replace=False))
    pairs = Interactions(*(x.astype(np.int32) for x in np.divmod(keys, n_items)))
    features = tuple(rng.normal(size=(n_items, 8)).astype(np.float32) for _ in range(2))
    return Dataset("random", n_users, n_items, pairs, pairs, pairs, ("visual", "textual"), features)


def measure_steps(n_users: int, steps: int, repeats: int, kinds: list[str]) -> dict:
    """Milliseconds of a step, and of what an epoch pays once.

    Args:
      n_users: |U|.
      steps: of the longer epoch.
      repeats: timed epochs of each length.
      kinds: of `ROWS`.

    Returns:
      {kind: {"ms_per_step", "ms_per_epoch_beside"}}.
    """
    config = base.get_config()
    config.model.hidden.update(visual=(16,), textual=(16,))
    batch_size, lengths = config.adversarial.batch_size, (max(steps // 5, 1), steps)
    sets = [random_data(n_users, batch_size * n) for n in lengths]
    found = {}
    for kind in kinds:
        config.adversarial.optimizer.rows = kind
        settings = from_config(config)
        model = build_model(settings.model, sets[0].sizes)
        params = init_params(settings, model)  # of both epochs: they fill the memory
        state, timed = None, []
        for dataset in sets:
            data = dataset.on_device
            parts = adversarial_parts(settings, model, params, data)
            if state is None:
                state = parts.first_state(0)
                optimizer = tree_utils.tree_set(state.optimizer, count=jnp.int32(_DONE))
                state = state.replace(optimizer=optimizer)  # type: ignore[attr-defined]
            fixed = parts.frozen, coefficients(settings.adversarial)
            run = compile_epoch(parts.epoch).lower(state, fixed, data).compile()  # type: ignore[attr-defined]
            timed.append(_Timed(run, fixed, data, []))
        for _ in range(repeats + 1):
            for one in timed:
                begun = time.perf_counter()
                state, *_ = jax.block_until_ready(one.run(state, one.fixed, one.data))
                one.seconds.append(time.perf_counter() - begun)
        short, long = (min(one.seconds[1:]) for one in timed)
        step = (long - short) / (lengths[1] - lengths[0])
        found[kind] = {
            "ms_per_step": round(1e3 * step, 2),
            "ms_per_epoch_beside": round(1e3 * (short - lengths[0] * step), 1),
        }
    return found


def measure_recall(settings: Settings, kinds: list[str]) -> dict:
    """Stage 1's best validation recall@20 and its epoch.

    Args:
      settings: the experiment.
      kinds: of `ROWS`.

    Returns:
      {kind: {"best_recall@20", "best_epoch", "loss"}}, the loss of the last epoch.
    """
    dataset, found = open_dataset(settings.data), {}
    model = build_model(settings.model, dataset.sizes)
    for kind in kinds:
        optimizer = dataclasses.replace(settings.pretrain.optimizer, rows=kind)
        stage = dataclasses.replace(settings.pretrain, optimizer=optimizer)
        records: list[dict] = []
        fit(model, dataset, stage, seed=settings.seed, on_epoch=records.append)
        last = records[-1]
        found[kind] = {name: last[name] for name in ("best_recall@20", "best_epoch")}
        found[kind]["loss"] = last["losses"]["loss"]
    return found


def main(argv: list[str]) -> None:
    """Flags in, JSON out."""
    del argv
    unknown = [kind for kind in _ROWS.value if kind not in ROWS]
    if unknown:
        raise InputError(f"--rows {unknown[0]}: wanted some of {', '.join(ROWS)}.")
    if _CONFIG.value is None:
        found = {
            users: measure_steps(int(users), _STEPS.value, _REPEATS.value, _ROWS.value)
            for users in _USERS.value
        }
    else:
        found = measure_recall(from_flag(_CONFIG)[0], _ROWS.value)
    device = jax.devices()[0]
    about = {
        "peak_memory_mib": peak_memory_mib(),
        "device": f"{device.platform} ({device.device_kind}), {platform.machine()}",
        "jax": jax.__version__,
    }
    print(json.dumps({"found": found, **about}, indent=2))


if __name__ == "__main__":
    start(main)
