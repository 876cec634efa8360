"""Keys from the terminal on stdin, one by one as they are pressed; the terminal's settings are restored in any case."""

from __future__ import annotations

import atexit
import os
import select
import sys
import termios
import threading
import tty
from collections.abc import Callable
from typing import Any


class Terminal:
    """Gives what was typed to `take`, from a thread of its own. Stdin must be a terminal."""

    def __init__(self, take: Callable[[str], None]):
        self._take, self._file = take, sys.stdin.fileno()
        self._saved: list[Any] | None = termios.tcgetattr(self._file)
        atexit.register(self.close)
        tty.setcbreak(self._file)
        threading.Thread(target=self._read, name="keyboard", daemon=True).start()

    def _read(self) -> None:
        while self._saved is not None:
            if select.select([self._file], [], [], 0.1)[0]:
                data = os.read(self._file, 64)
                if not data:
                    return
                self._take(data.decode(errors="replace"))

    def close(self) -> None:
        """Give the terminal back as it was."""
        if self._saved is not None:
            termios.tcsetattr(self._file, termios.TCSADRAIN, self._saved)
            self._saved = None
