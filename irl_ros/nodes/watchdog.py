"""A thread that asks the same question again and again: a blocked executor fires no timers."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Watchdog:
    """Calls `check` every `interval` [s] of the monotonic clock from start() to stop()."""

    def __init__(self, check: Callable[[], None], interval: float = 0.01):
        self._check, self._interval = check, interval
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether it checks; a check that raised has ended it."""
        return self._thread.is_alive()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Return when no check is running any more, nor will again."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._interval):
            self._check()
