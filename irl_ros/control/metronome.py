"""When to tick: at the control rate, and in phase with the joint states where their rate allows it.

A timer alone acts on joint states that are up to one of their intervals old. Where a whole number of these intervals
makes a control period, ticks move, a little each time, to where a joint state has just arrived. Pure; times are
monotonic seconds that the caller brings.
"""

from __future__ import annotations

import math
from collections import deque

WINDOW = 0.1
"""Share of a period by which a joint state may come before or after its tick is due and still be the one it waits
for."""
LATE = 0.25
"""Share of a period by which a tick may be late and the next still be due when it was."""
SLEW = 0.02
"""Share of a period by which the phase moves in one tick; the most by which ticks may be too fast, or too slow."""
FIT = 0.02
"""How near to a whole number of intervals a period must be, as a share of an interval."""
MEAN_OVER = 32
"""Periods over which intervals are averaged: jitter must stay well below FIT, and a stall soon be forgotten."""
MOST = 5
"""Joint states per period beyond which the newest is new enough whatever the phase."""


class Metronome:
    """Asks for a tick from :meth:`arrived` or, in its absence, at :attr:`deadline`; told of each by :meth:`ticked`."""

    def __init__(self, period: float, now: float):
        """`period` [s]; the first tick is due one period from `now`."""
        self._period, self._due = period, now + period
        self._arrivals: deque[float] = deque([-math.inf])

    @property
    def deadline(self) -> float:
        """When to tick if no joint state asks for it before."""
        return self._due + (WINDOW * self._period if self._fits else 0.0)

    @property
    def _fits(self) -> bool:
        """Whether ticks can be in phase with the joint states."""
        spanned = self._arrivals[-1] - self._arrivals[0]
        if not spanned > 0.0:
            return False
        intervals = self._period * (len(self._arrivals) - 1) / spanned
        return 1.0 - FIT < intervals < MOST + FIT and abs(intervals - round(intervals)) < FIT

    def arrived(self, now: float) -> bool:
        """A joint state came at `now`: whether to tick with it."""
        if now - self._arrivals[-1] > 2.0 * self._period:  # it had stopped
            self._arrivals.clear()
        self._arrivals.append(now)
        while now - self._arrivals[0] > MEAN_OVER * self._period:
            self._arrivals.popleft()
        return self._fits and abs(now - self._due) <= WINDOW * self._period

    def ticked(self, now: float) -> None:
        """A tick began at `now`: the next is due a period after this one was, or, where this one is late, after `now`."""
        if abs(now - self._due) > LATE * self._period:  # two ticks close together would be a jump
            self._due = now
        if self._fits:
            early = self._due - self._arrivals[-1]
            self._due -= min(max(early, -SLEW * self._period), SLEW * self._period)
        self._due += self._period
