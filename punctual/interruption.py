"""Signals: what is being created, removed, or published is finished, and the rest of a run is tidied up."""

import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

# A canceled CI job gets SIGTERM, a closed terminal SIGHUP. Windows has no SIGHUP.
_ENDS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


def exit_on_signals() -> AbstractContextManager[None]:
    """Let SIGTERM and SIGHUP end the block as Ctrl-C does: with every `finally`."""
    return _handled(_ENDS, lambda number: sys.exit(128 + number))


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C, SIGTERM, and SIGHUP back until the block has ended."""
    held: list[int] = []
    try:
        with _handled((signal.SIGINT, *_ENDS), held.append):
            yield
    finally:
        if held:
            signal.raise_signal(held[0])


@contextmanager
def _handled(signals: Iterable[signal.Signals], handle: Callable[[int], Any]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # Only the main thread gets signals.
        return
    handlers = {number: signal.signal(number, lambda which, _: handle(which)) for number in signals}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
