"""The flags with which a command is one of several processes."""

from absl import flags

from uatmc_jax.errors import InputError
from uatmc_jax.hosts import Processes, join

_COORDINATOR = flags.DEFINE_string(
    "coordinator",
    None,
    "HOST:PORT of the first of several processes that work as one; every one gets the same command "
    "with its own --process.",
)
_PROCESS = flags.DEFINE_integer("process", None, "Which of --processes this one is, from 0 on.")
_PROCESSES = flags.DEFINE_integer("processes", None, "How many processes there are.")
_DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "Be one of the processes that the cluster's environment says there are."
)


def join_as_flagged() -> None:
    """Makes the command one of several processes where its flags say so.

    Raises:
      InputError: they do not go together, or the others cannot be joined.
    """
    coordinator, process, processes = _COORDINATOR.value, _PROCESS.value, _PROCESSES.value
    if coordinator is None and process is None and processes is None:
        if _DISTRIBUTED.value:
            join(None)
        return
    if _DISTRIBUTED.value or coordinator is None or process is None or processes is None:
        raise InputError(
            "--coordinator, --process and --processes go together, and without --distributed. Give "
            "all three, or --distributed alone for what the cluster's environment says."
        )
    join(Processes(coordinator, process, processes))
