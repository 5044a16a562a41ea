"""A run as large as a machine holds, on generated data: from pairs to attacked items.

    python -m experiments.large --workdir runs/large --users 1_000_000 --items 200_000 \
        --interactions 20_000_000

Each phase is a process of its own, so that its memory is its own, and leaves a line of
WORKDIR/phases.jsonl: seconds, most memory, what came out. The same command goes on after the last
one. The phases:

    generate  pairs, popular items more often, and random features, as .npy
    train     stage 1, one epoch; ends with a checkpoint
    kill      stage 2, one epoch in chunks, killed (-9) once it has written inside the epoch
    resume    the rest of it
    attack    PGD on items, within the clean rankings of a share of the users
"""

import dataclasses
import json
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
from absl import flags

from configs import attack as attack_config
from configs import base
from uatmc_jax import checkpoint, store
from uatmc_jax.benchmark.run import run_attacks
from uatmc_jax.cli import start
from uatmc_jax.data import Dataset, Interactions
from uatmc_jax.environment import peak_memory_mib
from uatmc_jax.errors import InputError
from uatmc_jax.opened import open_runs
from uatmc_jax.settings import AttackRunSettings, Settings, from_config, from_values
from uatmc_jax.training import train_and_evaluate
from uatmc_jax.training.folder import CONFIG_FILE

_WORKDIR = flags.DEFINE_string("workdir", "runs/large", "Where everything goes.")
_USERS = flags.DEFINE_integer("users", 1_000_000, "|U|.", lower_bound=100)
_ITEMS = flags.DEFINE_integer("items", 200_000, "|I|.", lower_bound=100)
_INTERACTIONS = flags.DEFINE_integer("interactions", 20_000_000, "Of all splits.", lower_bound=1000)
_WIDTHS = flags.DEFINE_list("raw_dims", ["128", "64"], "Widths of the raw features.")
_DEVICES = flags.DEFINE_integer("devices", 1, "config.mesh.devices.")
_ROWS = flags.DEFINE_string("rows", "deferred", "optimizer.rows of both stages.")
_CHUNK = flags.DEFINE_integer("chunk_steps", 1000, "config.checkpoint.chunk_steps.", lower_bound=1)
_MEASURED = flags.DEFINE_integer("measured", 10_000, "config.eval.sample.", lower_bound=1)
_SHARE = flags.DEFINE_float("user_share", 0.01, "Of the users, for the attack.")
_TARGETS = flags.DEFINE_integer("targets", 100, "Items attacked.", lower_bound=1)
_PHASE = flags.DEFINE_string("phase", "", "Run this one alone, in this process.")

_COLUMNS = [f"{split}_{column}" for split in ("train", "valid", "test") for column in "ui"]
_SECONDS = 24 * 3600


def make_pairs(n_users: int, n_items: int, n_pairs: int, seed: int = 0) -> dict[str, np.ndarray]:
    """{SPLIT_u, SPLIT_i: int32} of distinct pairs sorted by (user, item), eight tenths to train on.

    Args:
      n_users: |U|, all alike.
      n_items: |I|; an item's popularity falls as one over the root of its number.
      n_pairs: about so many, of all splits.
      seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    users = rng.integers(0, n_users, n_pairs)
    items = (n_items * rng.random(n_pairs) ** 2).astype(np.int64)
    keys = np.unique(users * n_items + items)
    split, found = rng.choice(3, len(keys), p=(0.8, 0.1, 0.1)), {}
    for n, name in enumerate(("train", "valid", "test")):
        for column, values in zip("ui", np.divmod(keys[split == n], n_items), strict=True):
            found[f"{name}_{column}"] = values.astype(np.int32)
    return found


def generate(folder: pathlib.Path) -> dict:
    """Writes the data set's arrays."""
    folder.mkdir(parents=True, exist_ok=True)
    pairs = make_pairs(_USERS.value, _ITEMS.value, _INTERACTIONS.value)
    for name, column in pairs.items():
        np.save(folder / f"{name}.npy", column)
    rng = np.random.default_rng(1)
    for name, width in zip(_modalities(), _WIDTHS.value, strict=True):
        rows = rng.standard_normal((_ITEMS.value, int(width)), np.float32)
        np.save(folder / f"{name}.npy", rows)
    return {name: len(pairs[f"{name}_u"]) for name in ("train", "valid", "test")}


def open_data(folder: pathlib.Path) -> Dataset:
    """The data set, its arrays memory-mapped."""
    columns = [np.load(folder / f"{name}.npy", mmap_mode="r") for name in _COLUMNS]
    splits = [Interactions(*columns[n : n + 2]) for n in (0, 2, 4)]
    names = _modalities()
    features = [np.load(folder / f"{name}.npy", mmap_mode="r") for name in names]
    sizes = _USERS.value, len(features[0])
    return Dataset("large", *sizes, *splits, names, tuple(features))


def settings_of(stages: int) -> Settings:
    """VBPR, an epoch of the first stage or of both."""
    config = base.get_config()
    config.data.name = "large"
    config.data.modalities = tuple(f"{name}:{name}.npy" for name in _modalities())
    config.model.hidden = {}
    config.model.default_hidden = (256,)
    for stage in (config.pretrain, config.adversarial):
        stage.epochs = 1
        stage.optimizer.update(rows=_ROWS.value, shuffle="keyed")
    config.adversarial.epochs = stages - 1
    config.eval.sample = _MEASURED.value
    config.checkpoint.update(chunk_steps=_CHUNK.value, every_seconds=0.0)
    config.mesh.devices = _DEVICES.value
    return from_config(config)


def train(folder: pathlib.Path, stage: int, resume: bool = False) -> dict:
    """Runs one stage, in a folder of its own."""
    data, settings = open_data(folder / "data"), settings_of(stage)
    if stage == 2:
        pretrain = dataclasses.replace(settings.pretrain, init_from=str(folder / "stage1"))
        settings = dataclasses.replace(settings, pretrain=pretrain)
    summary = train_and_evaluate(settings, folder / f"stage{stage}", dataset=data, resume=resume)
    name = "pretrain" if stage == 1 else "adversarial"
    found = summary["stages"][name]
    return {
        "recall@20": found["test"]["recall@20"],
        "popularity": summary["popularity"]["test"]["recall@20"],
        "stage_seconds": found["seconds"],
        "losses": found["losses"],
    }


def attack(folder: pathlib.Path) -> dict:
    """Attacks the hardened model."""
    config = attack_config.get_config()
    del config.attacks.fgsm
    config.targets.update(rule="quantile", quantiles=(0.0, 0.5), sample=_TARGETS.value)
    config.update(user_share=_SHARE.value, ranks=False, permutations=1)
    config.mesh.devices = _DEVICES.value
    settings: AttackRunSettings = from_values(AttackRunSettings, config)
    where = folder / "stage2", [("adversarial", "latest")]
    runs = open_runs(*where, data=open_data(folder / "data"))
    (result,), _ = run_attacks(settings, runs)
    return {"users": result["users"], "seconds_of_targets": result["seconds"]}


def kill(folder: pathlib.Path) -> dict:
    """Starts stage 2 in a process of its own and kills it inside the epoch."""
    if (folder / "stage2" / CONFIG_FILE).exists():
        raise InputError(f"{folder / 'stage2'}: not empty. Remove it and give the command again.")
    within = checkpoint.folder(folder / "stage2", "adversarial", checkpoint.WITHIN)
    with subprocess.Popen([*_command(), "--phase=stage2"]) as process:
        deadline = time.monotonic() + _SECONDS
        # By name: opening what another process writes would tidy up after it.
        while not any(path.name.isdigit() for path in within.glob("*")):
            if process.poll() is not None or time.monotonic() > deadline:
                raise InputError(
                    f"--chunk_steps {_CHUNK.value}: stage 2 ended before it wrote inside an epoch. "
                    "Lower it."
                )
            time.sleep(0.2)
        process.send_signal(signal.SIGKILL)
    meta = checkpoint.load_meta(folder / "stage2", "adversarial", checkpoint.WITHIN)
    return {"steps_done": meta["step"]}


def _modalities() -> tuple[str, ...]:
    return tuple(f"modality{n}" for n in range(len(_WIDTHS.value)))


def _command() -> list[str]:
    """This very command, in a process of its own."""
    return [sys.executable, "-m", "experiments.large", *sys.argv[1:]]


PHASES: dict[str, Callable[[pathlib.Path], dict]] = {
    "generate": lambda folder: generate(folder / "data"),
    "train": lambda folder: train(folder, 1),
    "kill": kill,
    "resume": lambda folder: train(folder, 2, resume=True),
    "attack": attack,
}


def main(argv: list[str]) -> None:
    """Flags in; a line of WORKDIR/phases.jsonl for each phase."""
    del argv
    folder = pathlib.Path(_WORKDIR.value)
    if _PHASE.value == "stage2":
        train(folder, 2)
        return
    if _PHASE.value:
        begun = time.monotonic()
        found = PHASES[_PHASE.value](folder)
        line = {"phase": _PHASE.value, "seconds": round(time.monotonic() - begun, 3)}
        line |= {"peak_memory_mib": peak_memory_mib()} | found
        store.append_rows(folder / "phases.jsonl", [line])
        print(json.dumps(line), flush=True)
        return
    done = {line["phase"] for line in store.read_rows(folder / "phases.jsonl")}
    for phase in PHASES:
        if phase not in done and subprocess.run([*_command(), f"--phase={phase}"]).returncode:
            raise InputError(f"phase {phase} failed; what it said is above. Mend it and go on.")


if __name__ == "__main__":
    start(main, "the same command goes on after the last whole phase", computes=False)
