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
"""Share of a period by which the phase moves in one tick; the most by which ticks may be too fast."""
FALL_BACK = 0.1
"""The same where no joint state is near, towards later ticks: after a stall they are soon in phase again, and slow ones
are no danger."""
FIT = 0.02
"""How near to a whole number of intervals a period must be, as a share of an interval."""
MEAN_OVER = 32
"""Periods over which intervals are averaged: jitter must stay well below FIT, and a stall soon be forgotten."""
STOPPED = 3.5
"""Periods without a joint state after which the ones before tell nothing any more: two may be missed, and their jitter."""
TYPICAL_OF = 9
"""Last gaps between joint states, whose median tells how many were missed in a longer one."""
MOST = 5
"""Joint states per period beyond which the newest is new enough whatever the phase."""


class Metronome:
    """Asks for a tick from :meth:`arrived` or, in its absence, at :attr:`deadline`; told of each by :meth:`ticked`."""

    def __init__(self, period: float, now: float):
        """`period` [s]; the first tick is due one period from `now`."""
        self._period, self._due = period, now + period
        self._gaps: deque[float] = deque(maxlen=TYPICAL_OF)
        self._arrivals: deque[tuple[float, int]] = deque([(-math.inf, 0)])
        """When joint states came, and how many had been sent by then, those missed included."""

    @property
    def deadline(self) -> float:
        """When to tick if no joint state asks for it before."""
        return self._due + (WINDOW * self._period if self._fits else 0.0)

    @property
    def _fits(self) -> bool:
        """Whether ticks can be in phase with the joint states."""
        if not self._interval > 0.0:
            return False
        intervals = self._period / self._interval
        return 1.0 - FIT < intervals < MOST + FIT and abs(intervals - round(intervals)) < FIT

    @property
    def _interval(self) -> float:
        """Mean time between joint states [s]; 0 while there are too few."""
        (first, before), (last, by_now) = self._arrivals[0], self._arrivals[-1]
        return (last - first) / max(by_now - before, 1)

    def arrived(self, now: float) -> bool:
        """A joint state came at `now`: whether to tick with it."""
        last, count = self._arrivals[-1]
        gap = now - last
        if gap > STOPPED * self._period:
            self._gaps.clear()
            self._arrivals.clear()
        elif gap > 0.0:
            self._gaps.append(gap)
            count += round(gap / sorted(self._gaps)[len(self._gaps) // 2])
        self._arrivals.append((now, count))
        while now - self._arrivals[0][0] > MEAN_OVER * self._period:
            self._arrivals.popleft()
        return self._fits and abs(now - self._due) <= WINDOW * self._period

    def ticked(self, now: float) -> None:
        """A tick began at `now`: the next is due a period after this one was, or, where this one is late, after `now`."""
        if abs(now - self._due) > LATE * self._period:  # two ticks close together would be a jump
            self._due = now
        if self._fits:
            self._due -= self._correction()
        self._due += self._period

    def _correction(self) -> float:
        """How much earlier the tick should have been due [s], as far as the phase may move at once."""
        since = (self._due - self._arrivals[-1][0]) % self._interval
        if since > LATE * self._interval:  # nearer, in ticks, to the next one
            since -= self._interval
        slower = SLEW if since >= -WINDOW * self._period else FALL_BACK
        return min(max(since, -slower * self._period), SLEW * self._period)
