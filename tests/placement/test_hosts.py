"""Two processes of two devices each are as one process of four, and as one device."""

import signal
import socket
import subprocess
import sys
import time
import types

import jax
import numpy as np
import pytest

from tests.conftest import ROOT, simulated
from tests.placement.on_devices import dataset, settings_for
from tests.placement.on_hosts import DEVICES, STAGES, STOPPED
from tests.placement.test_spread import assert_as_on_one_device, what_devices_make
from uatmc_jax import checkpoint, host_flags, hosts, logs
from uatmc_jax.errors import InputError
from uatmc_jax.models import build_model
from uatmc_jax.placement import make_placement

SECONDS = 900  # at most, of anything waited for


def start(processes, *arguments):
    """Starts processes of two devices each, or with 0 one of as many as they have together."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    environment = simulated(2 if processes else DEVICES)
    return [
        subprocess.Popen(
            [sys.executable, "-m", "tests.placement.on_hosts", address, str(n), str(processes)]
            + [str(argument) for argument in arguments],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for n in range(processes or 1)
    ]


def finish(started):
    """Exit codes and what was said on stderr, each within its time."""
    try:
        said = [one.communicate(timeout=SECONDS)[1] for one in started]
    finally:
        for one in started:
            one.kill()
    return [one.returncode for one in started], said


def run(processes, *arguments):
    codes, said = finish(start(processes, *arguments))
    assert not any(codes), said


def when(started, path):
    """Waits until a path is there, while all processes run."""
    begun = time.monotonic()
    while not path.exists():
        assert time.monotonic() - begun < SECONDS, path
        if any(one.poll() is not None for one in started):
            raise AssertionError(finish(started))
        time.sleep(0.05)


@pytest.mark.long  # a process of eight devices, and two of two
def test_two_processes_are_as_one(tmp_path):
    """Losses, metrics, lists, hit rates and checkpoints; bits are those of four devices."""
    one, two = tmp_path / "one", tmp_path / "two"
    two.mkdir()
    one.mkdir()
    here = what_devices_make(one, f"1,{DEVICES}", ",".join(STAGES))
    run(2, "compare", two, one / str(DEVICES))
    there = dict(np.load(two / "found.npz"))
    for name, value in there.items():
        np.testing.assert_array_equal(value, here[name], err_msg=name)
    assert_as_on_one_device(here | there, DEVICES, STAGES)
    model = build_model(settings_for(1).model, dataset().sizes)
    like = jax.eval_shape(model.init, jax.random.key(0))
    written = checkpoint.load_params(two / str(DEVICES), "adversarial", "best", like)
    read = np.load(two / "read.npz")
    for n, x in enumerate(jax.tree.leaves(written)):
        expected = here[f"{DEVICES}/params/{n}"]
        np.testing.assert_array_equal(x, expected)  # written by two, read by one
        np.testing.assert_array_equal(read[str(n)], expected)  # and conversely


@pytest.mark.slow  # four times two processes, minutes
def test_two_processes_stopped_and_killed_are_as_never(tmp_path):
    """SIGTERM to one, -9 to both, -9 to one: what is resumed has the bits of one process's run."""
    begun, whole = tmp_path / "begun", tmp_path / "whole"
    run(0, "train", whole)
    within = {stage: begun / "checkpoints" / stage / "within" for stage in STAGES}

    started = start(2, "train", begun)
    when(started, within["pretrain"])
    started[1].send_signal(signal.SIGTERM)
    codes, said = finish(started)
    assert codes == [STOPPED, STOPPED], said

    started = start(2, "train", begun, "resume")
    when(started, within["adversarial"])
    for one in started:
        one.kill()
    finish(started)

    started = start(2, "train", begun, "resume")
    when(started, begun / "checkpoints" / "adversarial" / "latest")
    started[1].kill()
    codes, said = finish(started)
    assert codes[0], said  # it does not wait for ever

    run(2, "train", begun, "resume")
    for stage in STAGES:
        for which in checkpoint.WHICH:
            a, b = (checkpoint.restore(folder, stage, which) for folder in (begun, whole))
            assert a.meta["epoch"] == b.meta["epoch"]
            jax.tree.map(np.testing.assert_array_equal, a.params, b.params)
    for a, b in zip(*map(logs.read_records, (begun, whole)), strict=True):
        assert {**a, "seconds": 0} == {**b, "seconds": 0}


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (("node0", 0, 2), "wanted HOST:PORT"),
        ((":80", 0, 2), "wanted HOST:PORT"),
        (("node0:port", 0, 2), "wanted HOST:PORT"),
        (("node0:99999", 0, 2), "wanted HOST:PORT"),
        (("node0:80", 2, 2), "--process 2 --processes 2"),
        (("node0:80", -1, 2), "--process -1"),
        (("node0:80", 0, 0), "--processes 0"),
    ],
)
def test_addresses_and_numbers_that_are_none(found, said):
    with pytest.raises(InputError, match=said):
        hosts.join(hosts.Processes(*found))


@pytest.mark.parametrize(
    ("coordinator", "process", "processes", "distributed", "joined"),
    [
        (None, None, None, False, []),
        (None, None, None, True, [None]),
        ("node0:80", 0, 2, False, [hosts.Processes("node0:80", 0, 2)]),
        ("node0:80", 0, 2, True, InputError),
        ("node0:80", None, 2, False, InputError),
        (None, 1, None, False, InputError),
        (None, 1, None, True, InputError),
    ],
)
def test_flags_that_join(monkeypatch, coordinator, process, processes, distributed, joined):
    given = {"coordinator": coordinator, "process": process, "processes": processes}
    for name, value in (given | {"distributed": distributed}).items():
        monkeypatch.setattr(host_flags, f"_{name.upper()}", types.SimpleNamespace(value=value))
    found = []
    monkeypatch.setattr(host_flags, "join", found.append)
    if joined is InputError:
        with pytest.raises(InputError, match="go together"):
            host_flags.join_as_flagged()
    else:
        host_flags.join_as_flagged()
        assert found == joined


def test_several_processes_use_all_devices(monkeypatch):
    monkeypatch.setattr("uatmc_jax.placement.mesh.several", lambda: True)
    monkeypatch.setattr(jax, "devices", lambda: jax.local_devices() * 2)
    with pytest.raises(InputError, match=r"config\.mesh\.devices = 1: .*Set it to -1"):
        make_placement(1, 64)


def test_one_process_agrees_with_itself(tmp_path):
    """Without others nothing waits and nothing is told."""
    done = []
    hosts.by_writer(lambda: done.append(1))
    hosts.meet()
    hosts.require_same("settings", "ab")
    assert done and hosts.writes() and not hosts.several()
    assert hosts.agreed(True) and not hosts.agreed(False)
    assert hosts.lost(RuntimeError("Gloo all-reduce failed")) is None
    with pytest.raises(InputError, match="as it is"):
        hosts.by_writer(lambda: raised("as it is"))


def raised(text):
    raise InputError(text)


def test_nobody_comes():
    """One line, in its time, where JAX would end with a stack."""
    code = "from uatmc_jax import hosts; hosts.join(hosts.Processes('127.0.0.1:9', 1, 2), wait=1)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: --coordinator 127.0.0.1:9: not all")
