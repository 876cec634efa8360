"""Where the next joint target may lie: every joint limit of the gate, as intervals around the target before.

Hard limits hold for every target; where they leave no room the gate halts. Soft limits are tighter and look ahead, so
that the hard ones are seldom all that is left: a target that nears a bound slows down in time to stop at it within the
acceleration limit.

Positions and targets are [rad], shape (n_joints,). A *change* is that of the target in one period [rad]: its
commanded velocity times the period.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from irl_ros.contract import Contract, Safety
from irl_ros.motion import JointTrajectory

ROUNDING = 1e-9  # [rad]
UNLIMITED = 1e6
"""[rad] change of a change where a robot has no acceleration limit: finite, so that 0 times it is 0."""
RESERVE = 0.5
"""Share of the braking that the lead is planned with. The rest is for an arm that falls behind, or back, meanwhile."""


class Interval(NamedTuple):
    """A limit by name and where it lets the next target lie; each of shape (n_joints,)."""

    name: str
    lower: np.ndarray
    upper: np.ndarray


class Bounded(NamedTuple):
    """The target nearest to a wanted one within the limits, and what stood against it.

    `conflict` is the first joint whose hard limits contradict each other, None where all can be kept.
    """

    target: np.ndarray
    limited: tuple[str, ...]
    conflict: int | None
    lower: np.ndarray
    """Of the hard limits together."""
    upper: np.ndarray


def stoppable(room: np.ndarray, brake: np.ndarray) -> np.ndarray:
    """The largest change that can still be braked, by `brake` per period, to stop within `room` [rad].

    With n changes d, d − brake, d − 2·brake, … > 0 their sum is n·d − brake·n(n−1)/2. Room below zero is what lies
    beyond the bound and must be made good at once.
    """
    n = np.maximum(np.ceil((np.sqrt(1.0 + 8.0 * np.maximum(room, 0.0) / brake) - 1.0) / 2.0), 1.0)
    return np.where(room < 0.0, room, (room + brake * n * (n - 1.0) / 2.0) / n)


class JointLimits:
    """Position with its margin, velocity, acceleration, and the lead over the measured pose, joint by joint."""

    def __init__(self, contract: Contract, safety: Safety):
        robot, self._period = contract.robot, contract.task.period
        self.names = robot.joint_names
        self.lower, self.upper = np.array(robot.position_lower), np.array(robot.position_upper)
        self._inner_lower, self._inner_upper = self.lower + safety.position_margin, self.upper - safety.position_margin
        self._max_change = np.array(robot.velocity_limit) * self._period
        accelerations = np.array(safety.acceleration_limit)
        self._acceleration = accelerations if len(accelerations) else np.full(robot.n_joints, np.inf)
        self._brake = np.minimum(self._acceleration * self._period**2, UNLIMITED)
        self._brakes = np.array([1.0, 1.0, RESERVE, RESERVE])[:, None] * self._brake
        self._lead = contract.task.max_lead

    def bound(self, wanted: np.ndarray, target: np.ndarray, change: np.ndarray, measured: np.ndarray) -> Bounded:
        """The target nearest to `wanted` after `target`, which was `change` away from the one before it."""
        position = Interval("position", *self._position(target))
        hard, soft = self._hard(position, target, change, measured), self._soft(position, target, measured)
        lower, upper = _intersection(hard)
        soft_lower, soft_upper = _intersection(soft)
        conflicts = lower > upper + ROUNDING
        lower, upper = np.minimum(lower, upper), np.maximum(lower, upper)
        bounded = _between(_between(wanted, soft_lower, soft_upper), lower, upper)
        limited = self._limited(wanted, (*soft, *hard)) if (bounded != wanted).any() else ()
        return Bounded(bounded, limited, int(conflicts.argmax()) if conflicts.any() else None, lower, upper)

    def _hard(
        self, position: Interval, target: np.ndarray, change: np.ndarray, measured: np.ndarray
    ) -> tuple[Interval, ...]:
        """What every next target satisfies. An arm that is found within the margin may stay or leave it inwards."""
        return (
            position,
            Interval("lead", measured - self._lead, measured + self._lead),
            Interval("velocity", target - self._max_change, target + self._max_change),
            Interval("acceleration", target + change - self._brake, target + change + self._brake),
        )

    def _soft(self, position: Interval, target: np.ndarray, measured: np.ndarray) -> tuple[Interval, ...]:
        """From where the target can still brake to stop at the hard limit, if the arm stays where it is."""
        ahead = measured - target
        rooms = np.array([target - position.lower, position.upper - target, self._lead - ahead, self._lead + ahead])
        below, above, behind, beyond = stoppable(rooms, self._brakes)
        return Interval("position", target - below, target + above), Interval("lead", target - behind, target + beyond)

    def _position(self, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where targets after `target` may lie: within the margin where it does, else no farther out, never outside."""
        lower = _between(target, self.lower, self._inner_lower)
        return lower, _between(target, self._inner_upper, self.upper)

    def braked(self, target: np.ndarray, change: np.ndarray, bounded: Bounded) -> np.ndarray:
        """The next target of a motion that slows down as fast as it may."""
        slower = np.sign(change) * np.maximum(np.abs(change) - self._brake, 0.0)
        return _between(target + slower, bounded.lower, bounded.upper)

    def trajectory(self, previous: np.ndarray, target: np.ndarray, stop_there: bool = False) -> JointTrajectory:
        """Command for one period: the target with feed-forward velocity, then a later stop. Silence means stop.

        As :func:`irl_ros.motion.target_trajectory`, with time enough for the stop to keep the acceleration limit. The
        velocity is low enough for the stop to lie within the position limits, so that no interpolation leaves them.
        With `stop_there` the target itself is the stop.
        """
        lower, upper = self._position(previous)
        velocity = np.zeros_like(target) if stop_there else (target - previous) / self._period
        time = max(self._period, float((np.abs(velocity) / self._acceleration).max()))
        room_below, room_above = np.maximum(target - lower, 0.0), np.maximum(upper - target, 0.0)
        velocity = _between(velocity, -2 * room_below / time, 2 * room_above / time)
        stop = _between(target + velocity * time / 2, lower, upper)
        return JointTrajectory(
            np.array([self._period, self._period + time]),
            np.array([target, stop]),
            np.array([velocity, np.zeros_like(velocity)]),
        )

    def _limited(self, wanted: np.ndarray, intervals: tuple[Interval, ...]) -> tuple[str, ...]:
        found: dict[str, None] = {}
        for name, lower, upper in intervals:
            for i in np.flatnonzero((wanted < lower - ROUNDING) | (wanted > upper + ROUNDING)):
                found[f"{name} of {self.names[i]}"] = None
        return tuple(found)


def _between(value: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """np.clip, at a third of its time; `upper` wins over `lower`."""
    return np.minimum(np.maximum(value, lower), upper)


def _intersection(intervals: tuple[Interval, ...]) -> tuple[np.ndarray, np.ndarray]:
    lower, upper = intervals[0].lower, intervals[0].upper
    for interval in intervals[1:]:
        lower, upper = np.maximum(lower, interval.lower), np.minimum(upper, interval.upper)
    return lower, upper
