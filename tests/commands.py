"""Command lines as a user types them, without importing JAX anew for each.

A server process has the library imported, no more; each call is a fork of it.
"""

import multiprocessing
import os
import pathlib
import runpy
import signal
import subprocess
import sys
import tempfile

from tests.conftest import ROOT

_FORKS = multiprocessing.get_context("forkserver")
# What commands share. Commands themselves are not in it: their flags would be in each other's way.
_FORKS.set_forkserver_preload(
    ["tests.commands", "uatmc_jax.cli", "uatmc_jax.auditing.run", "uatmc_jax.training.fitting"]
)


def call(module, *arguments, cwd=ROOT, kill_when=None):
    """What `python -m MODULE ARGUMENTS` would end with, UATMC_DATA unset.

    Once `kill_when(pid)` holds, if it is given, it is ended with kill -9.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = [pathlib.Path(folder) / name for name in ("stdout", "stderr")]
        for file in files:
            file.touch()  # a process can be killed before it has begun
        process = _FORKS.Process(target=_run, args=(module, arguments, str(cwd), files))
        process.start()
        while kill_when and process.exitcode is None:
            if kill_when(process.pid):
                os.kill(process.pid, signal.SIGKILL)
                break
            process.join(0.005)
        process.join(300)
        assert process.exitcode is not None, "still running after 300 s"
        texts = (file.read_text(encoding="utf-8") for file in files)
        return subprocess.CompletedProcess((module, *arguments), process.exitcode, *texts)


def _run(module, arguments, cwd, files):
    for number, file in enumerate(files, start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
    os.environ.pop("UATMC_DATA", None)
    os.chdir(cwd)
    sys.path.insert(0, cwd)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
