"""What all entry points share: a user's mistake ends in one line, not in a traceback."""

import functools
import sys
from collections.abc import Callable

from absl import flags, logging

from uatmc_jax.errors import DivergedError, InputError, Interrupted

EXIT_DIVERGED = 1
EXIT_INPUT_ERROR = 2
EXIT_INTERRUPTED = 130


def run(main: Callable[[list[str]], int | None]) -> Callable[[list[str]], int | None]:
    """Wraps an absl `main`.

    An InputError or DivergedError is printed as `error: ...`, and exits with 2
    or 1; an interruption says how to go on, and exits with 130.
    """

    @functools.wraps(main)
    def wrapped(argv: list[str]) -> int | None:
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.WARNING)  # orbax logs every file it touches
        try:
            return main(argv)
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
            return EXIT_INPUT_ERROR
        except DivergedError as error:
            print(f"error: {error}", file=sys.stderr)
            return EXIT_DIVERGED
        except Interrupted as stop:
            print(f"{stop}; saved. Go on with the same command and --resume", file=sys.stderr)
            return EXIT_INTERRUPTED
        except KeyboardInterrupt:
            print("interrupted; --resume goes on from the last checkpoint", file=sys.stderr)
            return EXIT_INTERRUPTED

    return wrapped
