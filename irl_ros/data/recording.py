"""The states of an episode while it is recorded, the simulated clock, the numbering of episodes. No ROS here."""

from __future__ import annotations

import re
from bisect import bisect_right
from enum import Enum
from pathlib import Path

from irl_ros.data.bag_lock import in_use

DROPPED = ".dropped"
"""Where dropped episodes lie, inside their data set."""
_NUMBERED = re.compile(r"\.?episode_(\d+)(\.partial|\.broken)?(_repaired)?")
"""Unfinished recordings and what repairs leave and make keep their number."""


class Refused(RuntimeError):
    """A request that does not fit the present state; the message says what would."""


class State(str, Enum):
    IDLE = "idle"
    WAITING = "waiting"
    RECORDING = "recording"
    SAVING = "saving"


class EpisodeStates:
    """idle → (waiting →) recording → saving → idle. Every method raises Refused where it does not fit.

    `label` belongs to the current episode, `last` is the directory of the episode saved before, while it may still be
    labelled or discarded: a discarded episode takes that place away, so that its label cannot land on another one.
    """

    def __init__(self) -> None:
        self.state = State.IDLE
        self.name: str | None = None
        self.label: bool | None = None
        self.last: Path | None = None

    def check_start(self) -> None:
        """Refuse what :meth:`start` would refuse."""
        if self.state not in (State.IDLE, State.WAITING):
            raise Refused(f"already {self.state.value} {self.name}: stop or discard it first")

    def wait(self) -> None:
        """Wait for what shall start an episode."""
        self.check_start()
        self.state = State.WAITING

    def start(self, name: str) -> None:
        self.check_start()
        self.state, self.name, self.label = State.RECORDING, name, None

    def stop(self) -> None:
        if self.state is not State.RECORDING:
            raise Refused(f"nothing to stop, the recorder is {self.state.value}: start an episode first")
        self.state = State.SAVING

    def saved(self, directory: Path) -> None:
        """The bag of the stopped episode is complete in `directory`."""
        if self.state is not State.SAVING:
            raise Refused(f"nothing is being saved, the recorder is {self.state.value}")
        self.state, self.name, self.last = State.IDLE, None, directory

    def discard(self) -> Path | None:
        """Give up what is recorded or waited for, else the saved episode that is returned."""
        if self.state not in (State.RECORDING, State.WAITING) and self.last is None:
            raise Refused(f"nothing to discard, the recorder is {self.state.value}: start an episode first")
        idle, last = self.state is State.IDLE, self.last
        if self.state is State.WAITING:
            self.state = State.IDLE
        else:
            self._forget()
        return last if idle else None

    def fail(self) -> None:
        """Give the current episode up, whatever the state."""
        self._forget()

    def label_current(self, success: bool) -> bool:
        """Label the episode being recorded; False when it is the saved episode `last` that must be labelled."""
        if self.state is State.RECORDING:
            self.label = success
            return True
        if self.last is None:
            raise Refused("no episode to label: start one first")
        return False

    def _forget(self) -> None:
        self.state, self.name, self.label, self.last = State.IDLE, None, None, None


class SimTime:
    """Simulated receive times, from the wall times at which the middleware received messages and ticks of /clock.

    Simulated time can run much faster than real time: a message must be stamped by when it arrived, not by when a busy
    process got around to it. All times are in nanoseconds; stamps are floored to the clock's period.
    """

    history = 20_000
    """Ticks kept: what may lie between a message's arrival and its stamping."""

    def __init__(self) -> None:
        self._wall: list[int] = []
        self._sim: list[int] = []

    def __bool__(self) -> bool:
        """Whether there is a time yet."""
        return bool(self._wall)

    def tick(self, wall: int, sim: int) -> None:
        """/clock said `sim` at `wall`; ticks come in the order of arrival."""
        self._wall.append(wall)
        self._sim.append(sim)
        if len(self._wall) > 2 * self.history:
            del self._wall[: -self.history], self._sim[: -self.history]

    def at(self, wall: int) -> int:
        """Simulated time at `wall`; every tick that arrived before must have been given."""
        return self._sim[max(bisect_right(self._wall, wall) - 1, 0)]


def next_episode(directory: Path) -> str:
    """`episode_0000`, or the number after the highest in `directory`, what was dropped there included."""
    dropped = directory / DROPPED
    paths = [*directory.iterdir(), *(dropped.iterdir() if dropped.is_dir() else ())]
    found = (_NUMBERED.fullmatch(path.name) for path in paths)
    return f"episode_{max((int(match[1]) for match in found if match), default=-1) + 1:04d}"


def unfinished(directory: Path) -> list[Path]:
    """Return what recorders that were killed left in `directory`."""
    return [path for path in _partial(directory) if not in_use(path)]


def under_way(directory: Path) -> list[Path]:
    """Return the episodes that other programs are recording, importing or repairing in `directory`."""
    return [path for path in _partial(directory) if in_use(path)]


def _partial(directory: Path) -> list[Path]:
    return sorted(p for p in directory.glob(".*.partial") if _NUMBERED.fullmatch(p.name))
