"""Ctrl-C, and SIGTERM as a scheduler sends it, as a request: what is computed is saved first."""

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

_ASKED_BY = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def stop_on_interrupt() -> Iterator[Callable[[], bool]]:
    """Turns the first of these into a request to stop after the epoch; the second acts as usual."""
    requested = []

    def note(*_: Any) -> None:
        requested.append(True)
        restore(at_once)
        print(
            "\nstopping: finishing this epoch and saving (Ctrl-C again to stop at once)",
            file=sys.stderr,
            flush=True,
        )

    def restore(handlers: Mapping[signal.Signals, Any]) -> None:
        for number, handler in handlers.items():
            signal.signal(number, handler)

    at_once = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    try:
        previous = {number: signal.signal(number, note) for number in _ASKED_BY}
    except ValueError:  # not in the main thread: signals are the caller's business
        yield lambda: False
        return
    try:
        yield lambda: bool(requested)
    finally:
        restore(previous)
