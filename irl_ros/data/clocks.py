"""By whose clock samples are dated: the recorder's, when it received them, or the senders', in their headers.

The receive time is what a policy will meet when it drives, and needs no agreement between machines' clocks: it is what
an episode is aligned by unless its bag says otherwise. A bag that was recorded over a network which held messages up is
better aligned by the stamps, where every topic's sender keeps the same clock. Topics without stamps keep their receive
times (a JointTrajectory is stamped zero where it shall start at once), a latched one less what lies between the clocks.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from irl_ros.contract import Contract
from irl_ros.data.episode import EpisodeError

RECEIVE, HEADER = CLOCKS = ("receive", "header")
SECOND = 1_000_000_000


class Sample(NamedTuple):
    """One message: time [ns], order of arrival over all topics, the decoded message."""

    time: int
    order: int
    message: Any


class ClockWarning(UserWarning):
    """Stamps and receive times drift apart: one of them does not say when a sample was measured."""


def dated(name: str, samples: Mapping[str, Sequence[Sample]], contract: Contract, clock: str) -> dict[str, list[Sample]]:
    """Samples by role with the times of `clock`, from those with receive times.

    Warns (ClockWarning) where the two drift apart by more than a control period. Raises EpisodeError for another clock,
    and where stamps cannot be held against the receive times of what has no stamp.
    """
    if clock not in CLOCKS:
        raise EpisodeError(f"clock {clock!r}; valid: {', '.join(CLOCKS)}")
    latched = {role for role in contract.sources if contract.topics[role].latched}
    stamps = {role: _stamps(stream) for role, stream in samples.items()}
    delays = {r: _delays(samples[r], found) for r, found in stamps.items() if found is not None and r not in latched}
    _warn(name, delays, contract.task.period)
    if clock == RECEIVE:
        return {role: list(stream) for role, stream in samples.items()}
    _check_agreement({r for r, found in stamps.items() if found is None} - latched, delays, contract.task.period)
    apart = round(float(np.median(np.concatenate([*delays.values()]))) * SECOND) if delays else 0
    return {role: _by_stamps(stream, stamps[role], apart * (role in latched)) for role, stream in samples.items()}


def _stamps(stream: Sequence[Sample]) -> list[int] | None:
    """[ns]; None where the topic's messages have none, or zero."""
    if not stream or not hasattr(stream[0].message, "header"):
        return None
    stamps = [s.message.header.stamp for s in stream]
    found = [stamp.sec * SECOND + stamp.nanosec for stamp in stamps]
    return found if any(found) else None


def _by_stamps(stream: Sequence[Sample], stamps: Sequence[int] | None, apart: int) -> list[Sample]:
    times = [s.time - apart for s in stream] if stamps is None else stamps
    return [s._replace(time=time) for s, time in zip(stream, times)]


def _delays(stream: Sequence[Sample], stamps: Sequence[int]) -> np.ndarray:
    """From each sample's stamp to its being received [s]."""
    return np.array([s.time - stamp for s, stamp in zip(stream, stamps)], dtype=np.int64) / SECOND


def _warn(name: str, delays: Mapping[str, np.ndarray], period: float) -> None:
    for role, delay in delays.items():
        drift = float(np.abs(delay - np.median(delay)).max())
        if drift > period:
            warnings.warn(
                f"episode {name}: {role}: stamps and receive times drift apart by {drift:.3f} s, more than a control "
                f"period ({period:g} s): messages were held up on their way, or a clock was set",
                ClockWarning,
                stacklevel=4,
            )


def _check_agreement(bare: set[str], delays: Mapping[str, np.ndarray], period: float) -> None:
    for role, delay in delays.items() if bare else ():
        apart = float(np.median(delay))
        if abs(apart) > period:
            raise EpisodeError(
                f"by the header's clock: {role} is received {apart:.3f} s after its stamps, more than a control period "
                f"({period:g} s), and {', '.join(sorted(bare))} has no stamps to compare: align by the receive time"
            )
