"""Standard output whose reader may have gone, as with `uatmc COMMAND | head -1`."""

import contextlib
import os
import sys
from collections.abc import Iterator

EXIT_CLOSED = 141  # as a shell counts a closed pipe


def closed() -> int:
    """Whoever reads has seen enough; nothing more is to be said, not on the way out either."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return EXIT_CLOSED


@contextlib.contextmanager
def to_a_reader() -> Iterator[None]:
    """What is printed inside is read, or the process ends without a word, also where it exits."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()  # not on the way out, when it would be an error
    except BrokenPipeError:
        sys.exit(closed())
