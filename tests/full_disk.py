"""Runs commands on a disk that fills up, a tmpfs of its own; prints what happened as JSON.

unshare --user --map-root-user --mount python -m tests.full_disk DATA MOUNT NAME TURNS
"""

import collections
import json
import pathlib
import shutil
import subprocess
import sys

import numpy as np

from tests import faults

ROOM = 256 << 20


def resize(mount, size):
    """Makes the tmpfs so large."""
    size = -(-size // 4096) * 4096
    subprocess.run(["mount", "-o", f"remount,size={size}", mount], check=True)


def main(data, mount, name, turns):
    """Fills the disk at random sizes, and goes on with room."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", mount], check=True)
    command = faults.make_commands(pathlib.Path(data), pathlib.Path(mount))[name]
    faults.clear(command)
    before = shutil.disk_usage(mount).used
    done = faults.run(command)
    assert done.returncode == 0, done.stderr
    needed, expected = shutil.disk_usage(mount).used - before, faults.outcome(command.folder)
    rng, counts, said = np.random.default_rng(1), collections.Counter(), []
    for turn in range(int(turns)):
        resize(mount, ROOM)
        faults.clear(command)
        before = shutil.disk_usage(mount).used
        resize(mount, before + int(needed * (turn + rng.random()) / int(turns)))
        done = faults.run(command)
        counts["full" if done.returncode else "enough room"] += 1
        if done.returncode:
            faults.assert_one_line(done)
            said.append(done.stderr.splitlines()[-1])
            assert mount in said[-1] and ("space" in said[-1] or "room" in said[-1]), done.stderr
            unfinished = [path for path in faults.files_of(command.folder) if is_partial(path)]
            faults.outcome(command.folder, without=unfinished)
        resize(mount, ROOM)
        counts["calls to the end"] += faults.go_on(command)
        assert faults.outcome(command.folder) == expected
    print(json.dumps({"needed": needed, "counts": counts, "said": said}))


def is_partial(path):
    """Whether the name says that the file is not whole, or it is a journal, which tells itself."""
    return "partial" in path.name or "orbax-checkpoint-tmp" in str(path) or path.suffix == ".jsonl"


if __name__ == "__main__":
    main(*sys.argv[1:])
