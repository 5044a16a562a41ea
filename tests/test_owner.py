"""One process at a time works in a folder, and says who it is."""

import contextlib
import errno
import json
import multiprocessing
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

from tests.auditing.cases import small_folder
from tests.commands import call
from tests.conftest import ROOT
from tests.preparation.sources import amazon_arguments, prepare
from uatmc_jax.errors import InputError, InUseError
from uatmc_jax.owner import LOCK, owned

HOLD = """
import pathlib, sys, time
from uatmc_jax.owner import owned
with owned(pathlib.Path(sys.argv[1])):
    print("mine", flush=True)
    time.sleep(600)
"""


def holder(folder):
    """A process that works in the folder."""
    command = [sys.executable, "-c", HOLD, str(folder)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "mine\n"
    return process


def test_the_second_is_told_who_the_first_is_and_a_killed_owner_is_none(tmp_path):
    folder = tmp_path / "run"
    first = holder(folder)
    try:
        told = rf"run: process {first.pid} on .* works there"
        with pytest.raises(InputError, match=told), owned(folder):
            pass
        given = ("--config=test", f"--workdir={folder}")
        result = call("uatmc_jax.train", *given, "--overwrite")
        assert result.returncode == 2 and result.stderr.count("\n") == 1
        assert f"process {first.pid} on" in result.stderr
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
    with owned(folder):  # its lock went with it
        (folder / "kept").touch()
    assert {path.name for path in folder.iterdir()} == {"kept", LOCK}


def test_a_preparation_into_the_same_folder_is_refused_and_leaves_the_first_alone(tmp_path, capsys):
    arguments = amazon_arguments(tmp_path / "raw", tmp_path / "out")
    with owned(tmp_path / "out.lock"):
        assert prepare(*arguments) == 2
        told = rf"error: {tmp_path}/out: process {os.getpid()} on .* works there"
        assert re.match(told, capsys.readouterr().err)
        assert {path.name for path in tmp_path.iterdir()} == {"raw", "out.lock"}
    assert prepare(*arguments) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"raw", "out"}


def test_a_folder_made_for_nothing_goes_again(tmp_path):
    with pytest.raises(RuntimeError), owned(tmp_path / "a" / "b"):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "there").mkdir()
    with owned(tmp_path / "there"):
        pass
    assert (tmp_path / "there").is_dir()


def test_a_folder_that_a_killed_process_made_for_its_lock_goes_again(tmp_path):
    first = holder(tmp_path / "out.lock")
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert (tmp_path / "out.lock").is_dir()
    with owned(tmp_path / "out.lock"):
        pass
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "out.lock").mkdir()  # killed before it had the lock
    with owned(tmp_path / "out.lock", of=tmp_path / "out"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    below = tmp_path / "file" / "run"
    with pytest.raises(InputError, match="file/run: cannot be written"), owned(below):
        pass


def _work(folder, results):
    try:
        with owned(folder):
            time.sleep(0.3)
            results.put("worked")
    except InputError:
        results.put("refused")


def test_of_many_that_start_together_one_works(tmp_path):
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    workers = [context.Process(target=_work, args=(tmp_path / "run", results)) for _ in range(4)]
    for worker in workers:
        worker.start()
    said = [results.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
    # Those that come after the first has gone may work as well, but never two at a time.
    assert "worked" in said and set(said) <= {"worked", "refused"}


@pytest.mark.long
def test_two_trainings_started_together_leave_one_run(tmp_path):
    command = [
        sys.executable,
        "-m",
        "uatmc_jax.train",
        "--config=test",
        f"--workdir={tmp_path}/run",
    ]
    both = [
        subprocess.Popen(
            [*command, f"--config.seed={seed}"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed in (1, 2)
    ]
    ended = [(process.communicate(timeout=300), process.returncode) for process in both]
    assert sorted(code for _, code in ended) == [0, 2]
    seed = next(n for n, (_, code) in enumerate(ended, start=1) if code == 0)
    for name in ("config.json", "summary.json"):
        assert json.loads((tmp_path / "run" / name).read_text())["seed"] == seed
    (refused,) = (err for (_, err), code in ended if code == 2)
    assert refused.startswith("error: ") and refused.count("\n") == 1


def test_a_closed_pipe_is_no_error(tmp_path):
    """As `uatmc COMMAND | head -1` does it."""
    helped = [[f"uatmc_jax.{name}", "--help"] for name in ("data", "edit", "train")]
    # Where this is set nothing waits in a buffer for the way out.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    for given in (["uatmc_jax"], ["uatmc_jax.data", str(small_folder(tmp_path))], *helped):
        arguments = [sys.executable, "-m", *given]
        reading, writing = os.pipe()
        os.close(reading)
        result = subprocess.run(
            arguments,
            cwd=ROOT,
            env=environment,
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        os.close(writing)
        assert result.stderr == "" and result.returncode in (0, 141)


def test_a_device_that_is_not_there_is_one_line():
    for platform in ("cuda", "nonsense"):
        result = subprocess.run(
            [sys.executable, "-m", "uatmc_jax.train", "--config=test"],
            cwd=ROOT,
            env={**os.environ, "JAX_PLATFORMS": platform},
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 2 and result.stderr.count("\n") == 1
        assert f"JAX cannot start on JAX_PLATFORMS='{platform}'" in result.stderr


def test_a_full_disk_is_named_by_the_folder(tmp_path):
    full = OSError(errno.ENOSPC, "No space left on device")
    said = r"run: no room left on its disk.*same command"
    with pytest.raises(InputError, match=said), owned(tmp_path / "run"):
        raise full
    full.filename = "elsewhere"
    with pytest.raises(OSError, match="elsewhere"), owned(tmp_path / "run"):
        raise full


def test_a_folder_that_comes_and_goes_is_owned_by_one_at_a_time(tmp_path):
    """Several make, hold and remove it and its parents at once; none meets another's removal."""
    folder, holders, most, failed = tmp_path / "a" / "b" / "lock", [0], [0], []

    def hold():
        held = 0
        try:
            while held < 40:
                with contextlib.suppress(InUseError), owned(folder):
                    holders[0] += 1
                    time.sleep(0.0002)  # long enough for another to be let in
                    most[0] = max(most[0], holders[0])
                    held += 1
                    holders[0] -= 1
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=hold) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed and most == [1]


@pytest.mark.parametrize("times,is_owned", [(1, True), (3, True), (10_000, False)])
def test_a_folder_removed_while_it_is_locked_is_made_anew(tmp_path, monkeypatch, times, is_owned):
    left, listed = [times], pathlib.Path.iterdir

    def iterdir(path):
        if left[0]:
            left[0] -= 1
            path.rmdir()
        return listed(path)

    with monkeypatch.context() as patched:
        patched.setattr(pathlib.Path, "iterdir", iterdir)
        refused = pytest.raises(InputError, match=r"lock: cannot be written .*Name another")
        with contextlib.nullcontext() if is_owned else refused, owned(tmp_path / "lock"):
            assert is_owned and (tmp_path / "lock").is_dir()
