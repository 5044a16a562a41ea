"""Faults while it works: killed, out of room, or with what it wrote damaged.

Whatever happens, the same command then finishes with an undisturbed run's results, or says in one
line what is wrong. The seeds are fixed; moments depend on the machine, so the counts are printed.
"""

import collections
import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tests import faults
from tests.conftest import ROOT

pytestmark = pytest.mark.slow
KILLS = {"train": 14, "attack": 12, "audit": 8, "prepare": 16}


def work_of(pid):
    """Seconds of processor time that a process has used, which others do not move."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # it has ended
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def noting(seconds):
    """Never holds; appends what a process has used."""
    return lambda pid: seconds.append(work_of(pid))


def after(moment):
    """Holds once a process has used so much."""
    return lambda pid: work_of(pid) >= moment


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """{name: (command, its outcome, the processor seconds it takes)}."""
    data, work = (tmp_path_factory.mktemp(name) for name in ("data", "work"))
    found = {}
    for name, command in faults.make_commands(data, work).items():
        for _ in range(2):  # the first compiles
            faults.clear(command)
            seconds = []
            done = faults.run(command, kill_when=noting(seconds))
            assert done.returncode == 0, done.stderr
        found[name] = command, faults.outcome(command.folder), max(seconds)
    return found


@pytest.mark.skipif(not pathlib.Path("/proc/self/stat").exists(), reason="reads Linux's /proc")
@pytest.mark.parametrize("name", KILLS)
def test_killed_at_any_moment_it_goes_on_to_the_same_result(name, undisturbed):
    command, expected, seconds = undisturbed[name]
    left = {path.name for path in command.folder.parent.iterdir()}
    rng, counts = np.random.default_rng(0), collections.Counter()
    for turn in range(KILLS[name]):
        faults.clear(command)
        moment = seconds * (turn + rng.random()) / KILLS[name]
        killed = faults.run(command, kill_when=after(moment))
        counts["killed" if killed.returncode < 0 else "ended sooner"] += 1
        if turn % 2:  # on the way back, too
            moment = seconds * rng.random()
            again = faults.run(command, again=True, kill_when=after(moment))
            counts["killed again"] += again.returncode < 0
        counts["calls to the end"] += faults.go_on(command)
        assert faults.outcome(command.folder) == expected, f"killed after {moment:.2f} s"
        assert {path.name for path in command.folder.parent.iterdir()} == left
    print(f"\n{name}, {seconds:.1f} s of work undisturbed: {dict(counts)}")
    assert counts["killed"] > KILLS[name] / 2


NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount"]


def may_mount(folder):
    """Whether a disk of one's own may be had here."""
    try:
        tried = [*NAMESPACE, "mount", "-t", "tmpfs", "tmpfs", str(folder)]
        return subprocess.run(tried, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@pytest.mark.parametrize(
    ("name", "turns"), [("train", 6), ("attack", 6), ("audit", 3), ("prepare", 5)]
)
def test_a_disk_that_fills_up_is_one_error_and_with_room_it_goes_on(name, turns, tmp_path):
    mount, data = tmp_path / "disk", tmp_path / "data"
    mount.mkdir()
    data.mkdir()
    if not may_mount(mount):
        pytest.skip("no disk of one's own: unshare cannot mount a tmpfs here")
    call = [*NAMESPACE, sys.executable, "-m", "tests.full_disk", data, mount, name, turns]
    done = subprocess.run(
        list(map(str, call)), cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    print(f"\n{name}, {found['needed']} bytes: {found['counts']}", *found["said"], sep="\n  ")
    assert found["counts"]["full"] > turns / 2


def killed_when(command, glob):
    """Calls a command and ends it with kill -9 once it has left such a file."""
    faults.clear(command)
    done = faults.run(command, kill_when=lambda pid: any(command.folder.parent.glob(glob)))
    assert done.returncode < 0, done.stderr


def without_second_stage(folder):
    """A finished run as it was between its stages."""
    (folder / "summary.json").unlink()
    shutil.rmtree(folder / "checkpoints" / "adversarial")


# {state: (command, how it comes about, cases)}
DAMAGED = {
    "a finished run, resumed": ("train", None, 6),
    "a run between its stages, resumed": ("train", without_second_stage, 8),
    "a run, attacked": ("attack", lambda folder: shutil.rmtree(folder / "attacks"), 8),
    "results, shown again": ("attack", None, 8),
    "an attack begun": ("attack", "attacked/attacks/*.partial.jsonl", 8),
    "an audit, shown again": ("audit", None, 6),
    "prepared data, loaded": ("prepare", None, 12),
}


@pytest.mark.parametrize("state", DAMAGED)
def test_a_damaged_file_is_named_or_makes_no_difference(state, undisturbed, tmp_path):
    name, comes_about, cases = DAMAGED[state]
    command, expected, _ = undisturbed[name]
    if isinstance(comes_about, str):
        killed_when(command, comes_about)
    else:
        faults.clear(command)
        assert faults.run(command).returncode == 0
        if comes_about:
            comes_about(command.folder)
    whole = shutil.copytree(command.folder, tmp_path / "whole")
    if name == "prepare":
        command = command._replace(module="uatmc_jax.data", again=("--json", str(command.folder)))
    said = faults.run(command, again=True)
    assert said.returncode == 0, said.stderr
    rng, counts = np.random.default_rng(2), collections.Counter()
    for turn in range(cases):
        shutil.rmtree(command.folder)
        shutil.copytree(whole, command.folder)
        files = [path for path in faults.files_of(command.folder) if path.stat().st_size]
        file = files[rng.integers(len(files))]
        damage(file, rng, turn % 3 == 0)
        done = faults.run(command, again=True)
        if done.returncode:
            faults.assert_one_line(done)
            assert is_named(file, command.folder, done.stderr), (file, done.stderr)
            counts["refused"] += 1
        else:
            assert done.stdout == said.stdout, file
            after = faults.outcome(command.folder, without=[file])
            assert after == {name: expected[name] for name in after}, file
            counts["right"] += 1
    print(f"\n{state}: {dict(counts)}")


def damage(file, rng, cut):
    """Cuts a file short, or flips bits of one byte."""
    content = bytearray(file.read_bytes())
    place = rng.integers(len(content))
    content[place] ^= rng.integers(1, 256)
    file.write_bytes(content[:place] if cut else content)


def is_named(file, folder, text):
    """Whether an error names a file, or the checkpoint that it is a part of."""
    parts = file.relative_to(folder).parts
    depth = parts.index("checkpoints") + 3 if "checkpoints" in parts else len(parts)
    return str(folder.joinpath(*parts[:depth])) in text
