"""What to do about observations that are unlike the demonstrations: slow down when it lasts, then give up."""

from __future__ import annotations


class Caution:
    """Slows by `slow` when the likeness has been below `threshold` (percentiles) for `grace` [s], and gives up when it
    has been for `patience` [s].

    A reward and a policy say nothing where nobody demonstrated. But the threshold is one that a state of a fresh
    demonstration misses 1 time in 100, and a good policy now and then for a second: slowing down at once would keep it
    for longer where it is unlike. For the same reason the time that counts is that of motion at full speed: at a tenth
    of it the patience lasts ten times as long, and the arm comes as far.
    """

    def __init__(self, threshold: float, patience: float = 2.0, grace: float = 1.0, slow: float = 0.5):
        if not 0.0 < slow <= 1.0 or not 0.0 <= grace <= patience:
            raise ValueError(f"slow must lie in (0, 1] and 0 <= grace <= patience, not {slow}, {grace}, {patience} s")
        self._threshold, self._patience, self._grace, self._slow = threshold, patience, grace, slow
        self.reset()

    def reset(self) -> None:
        """Forget how long it has lasted: after enable, and while a human leads."""
        self._lasted, self._last, self._share = 0.0, None, 0.0

    def pace(self, likeness: float, now: float, speed: float = 1.0) -> float:
        """Share of the step to take after an observation of this likeness at `now` [monotonic s]; `speed` is the
        operator's share."""
        if likeness >= self._threshold:
            self.reset()
            return 1.0
        if self._last is not None:
            self._lasted += (now - self._last) * self._share
        pace = self._slow if self._lasted >= self._grace else 1.0
        self._last, self._share = now, speed * pace
        return pace

    def fault(self) -> str | None:
        """Why to halt: it has lasted longer than the patience."""
        if not self._lasted > self._patience:
            return None
        return f"what is measured has been unlike the demonstrations for {self._lasted:.2f} s of motion at full speed"
