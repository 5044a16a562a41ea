"""Ctrl-C as a request, so that what is being computed is saved first."""

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def stop_on_interrupt() -> Iterator[Callable[[], bool]]:
    """Turns the first Ctrl-C into a request to stop after the epoch; the second acts as usual."""
    requested = []

    def note(*_: Any) -> None:
        requested.append(True)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        print(
            "\nstopping: finishing this epoch and saving (Ctrl-C again to stop at once)",
            file=sys.stderr,
            flush=True,
        )

    try:
        previous = signal.signal(signal.SIGINT, note)
    except ValueError:  # not in the main thread: signals are the caller's business
        yield lambda: False
        return
    try:
        yield lambda: bool(requested)
    finally:
        signal.signal(signal.SIGINT, previous)
