"""What the faults are injected into: commands on tiny data, and what they leave, comparable."""

import io
import json
import pathlib
import shutil
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tests.auditing.cases import small_folder
from tests.commands import call
from tests.preparation import sources

# Of a run's files, what differs between two that are alike.
_VARYING = {"seconds", "wall_seconds", "peak_memory_mib", "sha256", "crc32"}
_SMALL_AUDIT = """
from configs import audit


def get_config():
    config = audit.get_config("quick")
    config.experiment.pretrain.epochs = 2
    del config.attack.attacks.apgd_sigmoid, config.attack.attacks.fgsm, config.harden.trained_on
    config.attack.ks = (5, 10)
    for attack in config.attack.attacks.values():
        attack.k = 10
    config.attack.targets.sample = 6
    config.attack.bootstrap = 50
    config.survey = 60
    return config
"""


class Command(NamedTuple):
    """A command that faults are injected into.

    Attributes:
      module: that runs it.
      arguments: its arguments.
      again: its arguments where it was interrupted.
      folder: that it writes; everything it leaves is there or beside it, with the same beginning.
      ready: puts into place what it needs.
    """

    module: str
    arguments: tuple[str, ...]
    again: tuple[str, ...]
    folder: pathlib.Path
    ready: Callable[[], object] = lambda: None


def make_commands(data, work):
    """{name: command}: their data in one folder, and what they write in another."""
    work.mkdir(parents=True, exist_ok=True)
    if not (data / "shop").exists():
        small_folder(data)
        (data / "small_audit.py").write_text(_SMALL_AUDIT)
    shop = ("--config.data.source=mmrec", "--config.data.name=shop", f"--config.data.root={data}")
    run, audit, made, trained = work / "run", work / "audit", work / "made", data / "trained"
    train = ("--config=test", *shop, "--config.checkpoint.every_seconds=0.")
    if not trained.exists():
        done = call("uatmc_jax.train", *train, f"--workdir={trained}")
        assert done.returncode == 0, done.stderr
    targets = ("--config.targets.sample=6", "--config.seeds=(0,1)", "--config.bootstrap=50")
    attack = (f"--workdir={work / 'attacked'}", *targets, "--config.memory_mib=0.2")
    audited = (f"--config={data}/small_audit.py", f"--data={data}/shop", f"--workdir={audit}")
    amazon = sources.amazon_arguments(data / "raw", made, "--text-features", data / "text.npy")
    np.save(data / "text.npy", np.random.default_rng(0).normal(size=(23, 5)).astype("f4"))
    train += (f"--workdir={run}",)
    return {
        "train": Command("uatmc_jax.train", train, (*train, "--resume"), run),
        "attack": Command(
            "uatmc_jax.attack",
            attack,
            attack,
            work / "attacked",
            lambda: shutil.copytree(trained, work / "attacked", dirs_exist_ok=True),
        ),
        "audit": Command("uatmc_jax.audit", audited, audited, audit),
        "prepare": Command("uatmc_jax.prepare", (*map(str, amazon),), (*map(str, amazon),), made),
    }


def clear(command):
    """Removes what a command has left, and puts what it needs into place."""
    for path in command.folder.parent.glob(f"{command.folder.name}*"):
        shutil.rmtree(path)
    command.ready()


def run(command, again=False, kill_when=None):
    """Calls a command."""
    arguments = command.again if again else command.arguments
    return call(command.module, *arguments, kill_when=kill_when)


def go_on(command):
    """The same command after a fault, and what its error says where it has one; how many calls."""
    done = run(command, again=True)
    if done.returncode == 0:
        return 1
    assert_one_line(done)
    if command.module.endswith("prepare"):  # it had ended
        assert "the folder is not empty" in done.stderr, done.stderr
        return 1
    assert "Drop --resume" in done.stderr, done.stderr
    done = run(command)
    assert done.returncode == 0, done.stderr
    return 2


def assert_one_line(done):
    """A clear error: one line, of a mistake that the user can mend."""
    lines = done.stderr.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert done.returncode == 2 and len(errors) == 1 and lines[-1] == errors[0], done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    assert len(errors[0]) < 1000, errors[0]


def files_of(folder):
    """The files that a command has left, without those that nothing reads."""
    unread = {"tensorboard", ".lock", ".owner", "report.html"}
    found = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in found if not unread & set(path.relative_to(folder).parts))


def outcome(folder, without=()):
    """{file: content} of what a command has left, as far as it is the same for the same command.

    Each must be whole; those `without` are left out.
    """
    found = {}
    for path in files_of(folder):
        name = str(path.relative_to(folder))
        if path in without:
            continue
        if "checkpoints" in path.relative_to(folder).parts:
            if path.parent.name == "meta" and path.name == "metadata":
                found[name] = _stripped(json.loads(path.read_text()))
        elif path.suffix == ".json":
            found[name] = _stripped(json.loads(path.read_text()))
        elif path.suffix == ".jsonl":
            found[name] = [_stripped(json.loads(line)) for line in path.read_text().splitlines()]
        elif path.suffix == ".npz":
            with np.load(io.BytesIO(path.read_bytes())) as arrays:
                found[name] = {key: arrays[key].tobytes() for key in arrays}
        else:
            found[name] = path.read_bytes()
    return found


def _stripped(value):
    if isinstance(value, dict):
        return {k: _stripped(part) for k, part in value.items() if k not in _VARYING}
    return [_stripped(part) for part in value] if isinstance(value, list) else value
