"""An episode while it is recorded: into its bag, and watched, so that its quality is known when it ends."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from irl_ros.contract import COMMAND_ROLES, Thresholds
from irl_ros.data.alignment import align
from irl_ros.data.bag import decode
from irl_ros.data.bag_writer import BagWriter
from irl_ros.data.clocks import SECOND, Sample
from irl_ros.data.episode import Episode, EpisodeError
from irl_ros.data.listing import BagError
from irl_ros.data.quality import Audit, Quality, judge
from irl_ros.motion import DifferentialKinematics

BEFORE = 1.0
"""[s] of measurements kept in memory until the first command comes."""
MORE = 2
"""Periods beyond the horizon that are kept in memory."""
TOO_LONG = 1.2
"""Horizons from which on an operator is told what training leaves out."""
PER_PERIOD = 10
"""Messages of a topic that are kept in memory of each period: of a faster topic the last one in each tenth."""


class Arrival(NamedTuple):
    """A serialized message, when the middleware received it [ns, wall clock], whose and which it is by its count."""

    role: str
    data: bytes
    wall: int
    publisher: bytes = b""
    number: int | None = None


class Take:
    """Writes into `bag` and keeps in memory what training would read of it: a horizon's worth, undecoded.

    `kinematics` None: the robot's model is not at hand, and the episode is not tried as training would.
    """

    def __init__(
        self,
        bag: BagWriter,
        thresholds: Thresholds,
        kinematics: DifferentialKinematics | None,
        demonstrated_by: str,
        began: int,
    ):
        self.bag, self.began = bag, began
        self.incompatible: dict[str, str] = {}
        """What of a publisher's QoS could not be met since it began, by role."""
        self._contract, self._thresholds, self._kinematics = bag.contract, thresholds, kinematics
        self._demonstrated_by = demonstrated_by
        self.audits = {role: Audit() for role in bag.counts}
        needed = {*self._contract.sources, *COMMAND_ROLES} & set(bag.counts)
        self._kept: dict[str, deque[tuple[int, int, bytes]]] = {role: deque() for role in needed}
        self._written = 0
        self._tenth = round(self._contract.task.period * SECOND / PER_PERIOD)
        self._first: int | None = None if demonstrated_by == "command" else began

    def write(self, arrival: Arrival, time: int) -> None:
        """Append a message, received at `time` [ns] of the recorder's clock; raises BagError."""
        self.bag.write(arrival.role, arrival.data, time)
        self.audits[arrival.role].add(time, arrival.publisher, arrival.number)
        self._written += 1
        if arrival.role in self._kept:
            self._keep(arrival.role, time, arrival.data)

    def _keep(self, role: str, time: int, data: bytes) -> None:
        """Of what is measured before the first command, only the last moment; nothing beyond the horizon."""
        kept, task = self._kept[role], self._contract.task
        if self._first is None and role == "command":
            self._first = time
        if self._first is None:
            measured = self._contract.topics[role].max_age is not None
            while measured and kept and kept[0][0] < time - BEFORE * SECOND:
                kept.popleft()
        elif time > self._first + (task.horizon + MORE) * task.period * SECOND:
            return
        if kept and kept[-1][0] // self._tenth == time // self._tenth:
            kept.pop()
        kept.append((time, self._written, data))

    def quality(self, name: str, end: int) -> Quality:
        """What was recorded until `end` [ns], held against the thresholds and tried as training would try it."""
        contract = self._contract
        timed = {r for r in contract.sources if not contract.topics[r].latched}
        edges = {role: (self.began, end) if role in timed else () for role in self.audits}
        streams = {role: audit.stream(*edges[role]) for role, audit in self.audits.items()}
        problems = [
            f"a publisher of {role} could not be heard: another {policy} is needed"
            for role, policy in self.incompatible.items()
            if role in self._kept
        ]
        episode = None
        try:
            episode = self._episode(name)
        except (EpisodeError, BagError) as error:
            problems.append(str(error).removeprefix(f"episode {name}: "))
        quality = Quality(
            duration=(end - self.began) / SECOND,
            streams=streams,
            periods=len(episode) if episode else 0,
            clipped=episode.clipped if episode else 0,
        )
        notes = tuple(self._too_long(end))
        judged = judge(quality, contract, self._thresholds, self._demonstrated_by)
        return replace(quality, problems=(*judged, *problems), notes=notes)

    def _too_long(self, end: int) -> Iterator[str]:
        """What lies beyond the task's horizon is recorded and not learned from."""
        task = self._contract.task
        lasted, horizon = (end - (end if self._first is None else self._first)) / SECOND, task.horizon * task.period
        if lasted > TOO_LONG * horizon:
            yield (
                f"training reads the first {horizon:g} s of {lasted:.1f} s: that is the task's horizon; demonstrate "
                "faster, or raise it"
            )

    def _episode(self, name: str) -> Episode | None:
        if self._kinematics is None:
            return None
        return align(name, self._samples(), self._contract, self._kinematics, self._demonstrated_by)

    def _samples(self) -> dict[str, list[Sample]]:
        """What is kept, as it would be read from the bag."""
        written = sorted((time, place, role, data) for role, kept in self._kept.items() for time, place, data in kept)
        found: dict[str, list[Sample]] = {role: [] for role in self._kept}
        for order, (time, _, role, data) in enumerate(written):
            message = decode(self.bag.final, role, self._contract.topics[role].type, data)
            found[role].append(Sample(time, order, message))
        return found
