"""Several processes, on one host or several, that work as one: how they meet, agree and tell.

Each runs the same command with the same settings, data and folder, on devices of its own.
Arrays that span them lie as `placement` says; files and words are the first one's
(docs/scale.md). Of a single process everything here is what it would be without.
"""

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from uatmc_jax.errors import InputError

PyTree = Any
# Seconds: for all processes to come, and without a sign of life of one until all end.
_WAIT, _SILENCE = 300, 60
# The others wait while one reads, compiles or writes: one that has died is noticed otherwise.
_MEETING = 24 * 3600
# What JAX says where another process has gone.
_LOST = ("Gloo", "NCCL", "oordination service", "Connection closed", "heartbeat")
_LEAVING = 10  # seconds for an error to be everyone's


class Processes(NamedTuple):
    """How processes find each other.

    Attributes:
      coordinator: HOST:PORT at which the first one listens.
      process: which of them this one is, from 0 on.
      processes: how many there are.
    """

    coordinator: str
    process: int
    processes: int


def join(found: Processes | None, wait: float = _WAIT, silence: int = _SILENCE) -> None:
    """Makes one of several processes; before JAX starts on any device.

    Args:
      found: where the others are; None for what the cluster's environment says, as
        `jax.distributed` finds it.
      wait: seconds for all of them to come.
      silence: seconds without a sign of life of one, after which JAX ends all of them.

    Raises:
      InputError: no such address or number, or no cluster that JAX knows.
    """
    if found is not None:
        _check(found)
    # SIGTERM stays with uatmc_jax.interrupts.
    jax.config.update("jax_enable_preemption_service", False)
    given: dict[str, Any] = {}
    if found is not None:
        given = {
            "coordinator_address": found.coordinator,
            "num_processes": found.processes,
            "process_id": found.process,
            "cluster_detection_method": "deactivate",  # all of the host's devices
        }
    where = "the cluster's first process" if found is None else f"--coordinator {found.coordinator}"
    late = (
        f"{where}: not all processes have come within {wait:.0f} s. Start the same command with "
        "each --process, and check the address and the firewall."
    )
    try:
        with _at_most(wait, late):
            jax.distributed.initialize(
                **given,
                initialization_timeout=int(wait) + 60,
                heartbeat_timeout_seconds=silence,
                shutdown_timeout_seconds=60,
            )
    except (RuntimeError, ValueError) as error:
        said = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise InputError(
            f"{where}: JAX cannot join ({said}). Give --coordinator HOST:PORT with a free port of "
            "the first process's host, --process and --processes."
        ) from None


def _check(found: Processes) -> None:
    host, _, port = found.coordinator.rpartition(":")
    if not (host and port.isascii() and port.isdigit() and 0 < int(port) < 2**16):
        raise InputError(f"--coordinator {found.coordinator}: wanted HOST:PORT, as in node0:1234.")
    if found.processes < 1 or not 0 <= found.process < found.processes:
        raise InputError(
            f"--process {found.process} --processes {found.processes}: wanted a process from 0 to "
            "--processes less 1."
        )


@contextlib.contextmanager
def _at_most(seconds: float, message: str = "", code: int = 2) -> Iterator[None]:
    """Ends the process where the block takes longer: JAX would end it with a stack, or not."""

    def give_up() -> None:
        if message:
            print(f"error: {message}", file=sys.stderr, flush=True)
        os._exit(code)

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def leave(code: int) -> None:
    """What comes before the end after an error: this process's end waits for nobody.

    Args:
      code: to end with where the others do not end, too.
    """
    if jax.distributed.is_initialized():  # not `several`: devices may be what failed
        with _at_most(_LEAVING, code=code):
            jax.distributed.shutdown()


def lost(error: Exception) -> str | None:
    """What to say of an error that another process's end has brought about; None of any other."""
    if not (any(text in str(error) for text in _LOST) and several()):
        return None
    return (
        f"process {jax.process_index()} of {jax.process_count()}: another one has ended, or cannot "
        f"be reached ({str(error).splitlines()[0][:200].rstrip('.')}). See what it says, and start "
        "all of them again."
    )


def several() -> bool:
    """Whether there is more than one process."""
    return jax.process_count() > 1


def writes() -> bool:
    """Whether this process is the one that writes files and prints."""
    return jax.process_index() == 0


def meet() -> None:
    """Waits until every process is here."""
    if not several():
        return
    import orbax.checkpoint as ocp  # seconds to import, and most commands are one process

    ocp.multihost.get_barrier_sync_fn()(key="uatmc_jax", timeout_ms=1000 * _MEETING)


def agreed(flag: bool) -> bool:
    """Whether any process says so: the same answer in all of them.

    Args:
      flag: what this one says.
    """
    if not several():
        return flag
    meet()
    return bool(multihost_utils.process_allgather(np.asarray(flag)).any())


def by_writer(function: Callable[[], object]) -> None:
    """What one process does to files, the others waiting before and after it.

    Args:
      function: what.

    Raises:
      InputError: the function does; then it is raised in every process.
    """
    if not several():
        function()
        return
    meet()
    said = ""
    if writes():
        try:
            function()
        except InputError as error:
            said = str(error)
    meet()
    told = np.frombuffer(said.encode(), np.uint8)
    length = int(multihost_utils.broadcast_one_to_all(np.int32(len(told))))
    if length:
        told = told if writes() else np.zeros(length, np.uint8)
        raise InputError(bytes(multihost_utils.broadcast_one_to_all(told)).decode())


def require_same(what: str, digest: str) -> None:
    """Requires of all processes that they have the same.

    Args:
      what: the digest is of, for the error.
      digest: this process's, in hexadecimal digits.

    Raises:
      InputError: one has another; in every process.
    """
    if not several():
        return
    meet()
    mine = np.frombuffer(bytes.fromhex(digest), np.uint8)
    found = multihost_utils.process_allgather(mine)
    others = np.flatnonzero((found != found[0]).any(axis=1))
    if len(others):
        raise InputError(
            f"process {others[0]} has other {what} than process 0. Give all processes the same "
            "command and the same files."
        )


def gathered(tree: PyTree) -> PyTree:
    """Arrays on this host, whole, also of those that span processes.

    Args:
      tree: arrays, the same in every process.
    """

    def one(x: Any) -> np.ndarray:
        if not isinstance(x, jax.Array) or x.is_fully_addressable or x.is_fully_replicated:
            return np.asarray(x)
        return multihost_utils.process_allgather(x, tiled=True)

    return jax.tree.map(one, tree)


def parts_by_rows(x: jax.Array) -> Iterator[tuple[int, np.ndarray]]:
    """First row and rows of each device's part, in order; in every process, one at a time.

    Args:
      x: on several devices, by rows.
    """
    parts = x.addressable_shards if x.is_fully_addressable else x.global_shards
    for part in sorted(parts, key=lambda part: part.index[0].start or 0):
        first = part.index[0].start or 0
        if x.is_fully_addressable:
            yield first, np.ascontiguousarray(part.data)
            continue
        shape = x.sharding.shard_shape(x.shape)
        mine = part.data is not None
        rows = np.ascontiguousarray(part.data) if mine else np.zeros(shape, x.dtype)
        # As bytes: sums over the processes make another zero of -0.
        told = multihost_utils.broadcast_one_to_all(rows.view(np.uint8), is_source=mine)
        yield first, np.asarray(told).view(x.dtype).reshape(shape)
