"""A training on eight simulated devices that Ctrl-C stops after its first epoch.

python -m tests.placement.interrupted WORKDIR
"""

import os
import signal
import sys

from tests.placement.on_devices import dataset, settings_for
from uatmc_jax.errors import Interrupted
from uatmc_jax.training import train_and_evaluate


def stop(epoch, epochs):
    """Asks for a stop, as a user does."""
    del epoch, epochs
    os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    try:
        train_and_evaluate(settings_for(8), sys.argv[1], dataset=dataset(), on_epoch=stop)
    except Interrupted:
        sys.exit(0)
    sys.exit("it was not stopped")
