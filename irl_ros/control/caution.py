"""What to do about observations that are unlike the demonstrations: go slower, and stop when they last."""

from __future__ import annotations

import math


class Caution:
    """Slows by `slow` while the likeness is below `threshold` (percentiles); after `patience` [s] of it, gives up.

    A reward and a policy say nothing where nobody demonstrated. A threshold that demonstrations themselves pass 99 times
    in 100 is passed less often by a policy of its own: so a short while below only slows.
    """

    def __init__(self, threshold: float, patience: float = 1.0, slow: float = 0.5):
        if not 0.0 < slow <= 1.0 or not patience >= 0.0:
            raise ValueError(f"slow must lie in (0, 1] and patience be 0 s or more, not {slow} and {patience}")
        self._threshold, self._patience, self._slow = threshold, patience, slow
        self.reset()

    def reset(self) -> None:
        """Forget how long it has lasted: after enable, and while a human leads."""
        self._since = math.inf

    def pace(self, likeness: float, now: float) -> float:
        """Share of the step to take after an observation of this likeness at `now` [monotonic s]."""
        if likeness >= self._threshold:
            self.reset()
            return 1.0
        self._since = min(self._since, now)
        return self._slow

    def fault(self, now: float) -> str | None:
        """Why to halt: it has lasted longer than the patience."""
        lasted = now - self._since
        if not lasted > self._patience:
            return None
        return f"what is measured has been unlike the demonstrations for {lasted:.2f} s"
