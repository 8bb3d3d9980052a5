"""Ctrl-C: once to stop gently, twice to stop now."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


@contextmanager
def interruptible(stop: Callable[[], None]) -> Iterator[None]:
    """Ctrl-C and SIGTERM call `stop`; a second one cancels the task."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    names = (signal.SIGINT, signal.SIGTERM)
    asked = False

    def interrupt() -> None:
        nonlocal asked
        if asked and task:
            task.cancel()
        asked = True
        stop()

    with suppress(NotImplementedError, RuntimeError, ValueError):  # not in the main thread, or not on this platform
        for name in names:
            loop.add_signal_handler(name, interrupt)
    try:
        yield
    finally:
        with suppress(NotImplementedError, RuntimeError, ValueError):
            for name in names:
                loop.remove_signal_handler(name)
