"""How good a recording is: counts, rates, gaps and losses of every topic, and what the task's thresholds say of it.

Losses are counted by the numbers that the middleware gives a publisher's messages, where it gives them (Fast DDS does):
one that never arrived leaves a hole, whoever lost it, the network, a full queue or a recorder that was too slow.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from irl_ros.contract import COMMAND_ROLES, Contract, Thresholds
from irl_ros.data.clocks import SECOND
from irl_ros.data.episode import LABELS

GAP_EDGES = (0.0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, float("inf"))
"""[s] Between these lie the bins of a gap histogram."""


class Audit:
    """What arrived on one topic, while it is recorded."""

    def __init__(self) -> None:
        self.times = array("q")
        self.missing = 0
        """Holes in the publishers' numbers."""
        self.numbered = True
        self.told_lost = 0
        """What the middleware itself reported as lost."""
        self._last: dict[bytes, int] = {}

    def add(self, time: int, publisher: bytes, number: int | None) -> None:
        """A message arrived at `time` [ns], the publisher's `number`-th; None where the middleware does not count."""
        self.times.append(time)
        if number is None:
            self.numbered = False
            return
        last = self._last.get(publisher, number)
        if number > last + 1:
            self.missing += number - last - 1
        if number >= last:
            self._last[publisher] = number

    @property
    def lost(self) -> int:
        """How many messages are known to be lost: by the holes in their numbers, else as the middleware says, which
        counts what was sent before it found the publisher, too."""
        return self.missing if self.numbered else self.told_lost

    def stream(self, start: int | None = None, end: int | None = None) -> StreamQuality:
        """The figures; with `start` and `end` [ns] the silence before the first and after the last message counts."""
        edges = [edge for edge in (start, end) if edge is not None]
        gaps = np.diff(np.sort(np.array([*edges, *self.times], dtype=np.int64))) / SECOND
        lasted = (self.times[-1] - self.times[0]) / SECOND if self.times else 0.0
        return StreamQuality(
            count=len(self.times),
            rate=(len(self.times) - 1) / lasted if lasted > 0 else 0.0,
            largest_gap=float(gaps.max(initial=0.0)),
            gaps=tuple(np.histogram(gaps, GAP_EDGES)[0].tolist()),
            lost=self.lost,
            numbered=self.numbered,
        )


@dataclass(frozen=True)
class StreamQuality:
    """One topic of an episode: messages, mean rate [Hz], the longest time between two [s], all of these in the bins of
    :data:`GAP_EDGES`, and how many are known to be lost; without numbers a loss may go unseen."""

    count: int
    rate: float
    largest_gap: float
    gaps: tuple[int, ...]
    lost: int
    numbered: bool


@dataclass(frozen=True)
class Quality:
    """One episode. `periods` of the control rate could be read of it, `clipped` of them asked for more than allowed.

    `problems` says why it is below the task's thresholds; empty where it is not.
    """

    duration: float
    """[s]"""
    streams: Mapping[str, StreamQuality]
    periods: int
    clipped: int
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """What an operator should know, though the episode is used."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; `gap_bins` [s] is where each bin of the gaps begins."""
        return {**asdict(self), "gap_bins": GAP_EDGES[:-1]}

    def line(self, name: str, label: bool | None) -> str:
        """All of it that an operator wants to see at once."""
        streams = ", ".join(f"{role} {_shown(stream)}" for role, stream in self.streams.items())
        lost = sum(stream.lost for stream in self.streams.values())
        figures = f"{lost} lost; {self.clipped} of {self.periods} periods clipped"
        return f"{name}: {LABELS[label]}; {self.duration:.1f} s; {streams}; {figures}"


def _shown(stream: StreamQuality) -> str:
    if stream.count < 2:
        return str(stream.count)
    return f"{stream.count} at {stream.rate:.0f} Hz (gap {1000 * stream.largest_gap:.0f} ms)"


def judge(quality: Quality, contract: Contract, thresholds: Thresholds, demonstrated_by: str) -> tuple[str, ...]:
    """What of an episode is below the thresholds, in words; empty where nothing is."""
    problems = []
    if quality.duration < thresholds.duration:
        problems.append(f"it lasted {quality.duration:.1f} s, at least {thresholds.duration:g} s are wanted")
    for role, stream in quality.streams.items():
        if role != "command" or demonstrated_by == "command":
            problems += _judge_stream(role, stream, contract, thresholds)
    if quality.periods and quality.clipped > thresholds.clipped * quality.periods:
        share = quality.clipped / quality.periods
        problems.append(f"{share:.0%} of its periods are clipped, at most {thresholds.clipped:.0%} may be")
    return tuple(problems)


def _judge_stream(role: str, stream: StreamQuality, contract: Contract, thresholds: Thresholds) -> Iterator[str]:
    limit = contract.topics[role].max_age
    measured = role in contract.sources and limit is not None
    rate = dict(thresholds.rates).get(role, 0.0)
    gap = dict(thresholds.gaps).get(role, limit if measured else np.inf)
    lost = stream.lost / max(stream.lost + stream.count, 1)
    if stream.rate < 0.99 * rate:  # a publisher at the very rate that is asked for has a jitter
        yield f"{role} came at {stream.rate:.1f} Hz, at least {rate:g} Hz are wanted"
    if stream.largest_gap > gap:
        yield f"a gap of {stream.largest_gap:.3f} s in {role}, at most {gap:g} s may be"
    if (role in contract.sources or role in COMMAND_ROLES) and lost > thresholds.lost:
        yield f"{stream.lost} messages of {role} are lost ({lost:.1%}), at most {thresholds.lost:.1%} may be"
