"""Where the next joint target may lie: every joint limit of the gate, as intervals around the target before.

Hard limits hold for every target; where they leave no room the gate halts. Soft limits are tighter and look ahead, so
that the hard ones are seldom all that is left: a target that nears a bound slows down in time to stop at it within the
acceleration limit.

Positions and targets are [rad]. A *change* is that of the target in one period [rad]: its commanded velocity times the
period. Joint by joint and in plain floats: a handful of joints is too few for numpy, which took two and a half times
as long.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from irl_ros.contract import Contract, Safety
from irl_ros.motion import JointTrajectory, halt_trajectory

ROUNDING = 1e-9  # [rad]
SPLINE_PEAK = 2.5
"""Ratio of a cubic spline's peak velocity to its mean one: 1.5 from rest, more from a motion the other way."""
LIMIT_MARGIN = 0.1
"""Distance beyond a position limit that an encoder may report [rad]."""
UNLIMITED = 1e6
"""[rad] change of a change where a robot has no acceleration limit: finite, so that 0 times it is 0."""
RESERVE = 0.5
"""Share of the braking that the lead is planned with. The rest is for an arm that falls behind, or back, meanwhile."""
HARD = ("position", "lead", "velocity", "acceleration")

class Bounded(NamedTuple):
    """The target nearest to a wanted one within the limits, and what stood against it; lists of length n_joints."""

    target: list[float]
    limited: tuple[str, ...]
    """What cut it, "<position|lead|velocity|acceleration> of <joint>"."""
    conflict: int | None
    """The first joint whose hard limits contradict each other, None where all can be kept."""
    lower: list[float]
    upper: list[float]
    ranges: list[tuple[float, float]]
    """Where each joint's targets may lie by its position alone, :meth:`JointLimit.range`."""


class Step(NamedTuple):
    """A target [rad] with its feed-forward velocity [rad/s], and where and how long after it [s] each joint stops; lists
    of length n_joints."""

    target: list[float]
    velocity: list[float]
    stop: list[float]
    times: list[float]


def braking(change: float, brake: float) -> float:
    """The way [rad] of a change ≥ 0 and of those that follow it when each is smaller by `brake` than the one before.

    With n changes d, d − brake, d − 2·brake, … > 0 their sum is n·d − brake·n(n−1)/2.
    """
    n = math.ceil(change / brake)
    return n * change - brake * n * (n - 1) / 2.0


def stoppable(room: float, brake: float) -> float:
    """The largest change whose :func:`braking` takes no more than `room` [rad]. Room below zero is what lies beyond the
    bound and must be made good at once."""
    if room < 0.0:
        return room
    n = max(math.ceil((math.sqrt(1.0 + 8.0 * room / brake) - 1.0) / 2.0), 1)
    return (room + brake * n * (n - 1) / 2.0) / n


class JointLimit:
    """Position with its margin, velocity, acceleration, and the lead over the measured pose, of one joint.

    `max_change` and `brake` are the most that the target and its change may change in one period [rad].
    """

    def __init__(self, lower: float, upper: float, margin: float, max_change: float, brake: float, lead: float):
        self.lower, self.upper = lower, upper
        self._inner_lower, self._inner_upper = lower + margin, upper - margin
        self._max_change, self._brake, self._lead = max_change, brake, lead

    def hard(
        self, target: float, change: float, measured: float, bottom: float, top: float
    ) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Lower and upper bounds of every next target, in the order of HARD; `bottom` and `top` are the target's
        :meth:`range`."""
        return (
            (bottom, measured - self._lead, target - self._max_change, target + change - self._brake),
            (top, measured + self._lead, target + self._max_change, target + change + self._brake),
        )

    def soft(
        self, wanted: float, target: float, measured: float, bottom: float, top: float
    ) -> tuple[float, tuple[str, ...]]:
        """`wanted`, or as far that way as the target can still brake to stop at the hard limit, if the arm stays where
        it is; and the limits that shortened it. `bottom` and `top` as for :meth:`hard`."""
        if wanted > target:
            step, to_end, to_lead = wanted - target, top - target, self._lead + (measured - target)
        else:
            step, to_end, to_lead = target - wanted, target - bottom, self._lead - (measured - target)
        most, names = step, ()
        for name, room, brake in (("position", to_end, self._brake), ("lead", to_lead, RESERVE * self._brake)):
            if braking(step, brake) > room:
                shorter = stoppable(room, brake)
                names = (*names, name) if shorter < step - ROUNDING else names
                most = min(most, shorter)
        if most >= step:
            return wanted, ()
        return (target + most if wanted > target else target - most), names

    def range(self, target: float) -> tuple[float, float]:
        """Where targets after `target` may lie: within the margin where it does, else no farther out, never outside. An
        arm that is found within the margin may stay or leave it inwards."""
        return _between(target, self.lower, self._inner_lower), _between(target, self._inner_upper, self.upper)

    def braked(self, target: float, change: float) -> float:
        """The next target of a motion that slows down as fast as it may."""
        return target + math.copysign(max(abs(change) - self._brake, 0.0), change)


class JointLimits:
    """The limits of every joint, in the contract's order."""

    def __init__(self, contract: Contract, safety: Safety):
        robot, period = contract.robot, contract.task.period
        self.names, self._period = robot.joint_names, period
        self._speeds = np.array(robot.velocity_limit)
        self._accelerations = safety.acceleration_limit or (math.inf,) * robot.n_joints
        self._joints = [
            JointLimit(
                lower,
                upper,
                safety.position_margin,
                velocity * period,
                min(acceleration * period**2, UNLIMITED),
                min(contract.task.max_lead, safety.lead),
            )
            for lower, upper, velocity, acceleration in zip(
                robot.position_lower, robot.position_upper, robot.velocity_limit, self._accelerations
            )
        ]

    def bound(
        self, wanted: Sequence[float], target: Sequence[float], change: Sequence[float], measured: Sequence[float]
    ) -> Bounded:
        """The target nearest to `wanted`, finite, after `target`, which was `change` away from the one before it."""
        nearest, lowest, highest, ranges, limited, conflict = [], [], [], [], [], None
        for i, joint in enumerate(self._joints):
            bottom, top = room = joint.range(target[i])
            lowers, uppers = joint.hard(target[i], change[i], measured[i], bottom, top)
            lower, upper = max(lowers), min(uppers)
            if lower > upper:
                conflict = i if conflict is None and lower > upper + ROUNDING else conflict
                lower, upper = upper, lower
            softened, names = joint.soft(wanted[i], target[i], measured[i], bottom, top)
            bounded = _between(softened, lower, upper)
            if bounded != wanted[i]:
                names = dict.fromkeys((*names, *_cuts(wanted[i], lowers, uppers)))
                limited += [f"{name} of {self.names[i]}" for name in names]
            nearest.append(bounded)
            lowest.append(lower)
            highest.append(upper)
            ranges.append(room)
        return Bounded(nearest, tuple(limited), conflict, lowest, highest, ranges)

    def braked(self, last: Step, change: Sequence[float], bounded: Bounded) -> tuple[list[float], list[float]]:
        """The next target of a motion that slows down after its `last` step, whose target changed by `change`: on the
        way to that step's stop, and as fast as each joint may."""
        stopping, fastest = [], []
        rooms = zip(bounded.lower, bounded.upper)
        for joint, end, moved, time, room in zip(self._joints, last.target, change, last.times, rooms):
            stopping.append(_between(end + max(1.0 - self._period / time, 0.0) * moved, *room))
            fastest.append(_between(joint.braked(end, moved), *room))
        return stopping, fastest

    def step(self, previous: Sequence[float], target: list[float], ranges: Sequence[tuple[float, float]]) -> Step:
        """One period of motion from `previous`, with its `ranges`, to `target`, and the stop after it. Silence means stop.

        As :func:`irl_ros.motion.target_trajectory`, with time enough for the stop to keep the acceleration limit. All
        joints stop together, so that they keep their direction, but for those that have not the room: they stop in the
        time in which they can, and their velocity is low enough for it.
        """
        fastest = [(end - start) / self._period for start, end in zip(previous, target)]
        together = max(self._period, *(abs(v) / most for v, most in zip(fastest, self._accelerations)))
        velocity, stop, times = [], [], []
        for (lower, upper), end, v, most in zip(ranges, target, fastest, self._accelerations):
            time = together
            room = max(upper - end if v > 0.0 else end - lower, 0.0)
            if abs(v) * time / 2.0 > room:
                time = max(math.sqrt(2.0 * room / most), self._period)
                v = math.copysign(min(abs(v), 2.0 * room / time), v)
            velocity.append(v)
            stop.append(_between(end + v * time / 2.0, lower, upper))
            times.append(time)
        return Step(target, velocity, stop, times)

    def at_rest(self, target: Sequence[float]) -> Step:
        """The step that ends in its target."""
        return Step(list(target), [0.0] * len(target), list(target), [self._period] * len(target))

    def trajectory(self, step: Step) -> JointTrajectory:
        """The command for one period."""
        if min(step.times) == max(step.times):
            times, positions, velocities = [step.times[0]], [step.stop], [[0.0] * len(step.stop)]
        else:
            times, positions, velocities = halt_trajectory(np.array(step.target), np.array(step.stop), step.times)
        return JointTrajectory(
            np.array([self._period, *(self._period + time for time in times)]),
            np.array([step.target, *positions]),
            np.array([step.velocity, *velocities]),
        )

    def range(self, joint: int) -> tuple[float, float]:
        """Lowest and highest position of a joint, without its margin."""
        return self._joints[joint].lower, self._joints[joint].upper

    def travel_times(self, way: np.ndarray) -> np.ndarray:
        """Return the time [s] in which a joint's spline over each `way` [rad] keeps its velocity, shape (n_joints,)."""
        return SPLINE_PEAK * np.abs(way) / self._speeds

    def within(self, position: np.ndarray) -> np.ndarray:
        """Return the pose inside the position limits that is nearest to `position` [rad], shape (n_joints,)."""
        limits = [(joint.lower, joint.upper) for joint in self._joints]
        return np.array([_between(value, *limit) for value, limit in zip(position.tolist(), limits)])

    def impossible(self, position: Sequence[float]) -> str | None:
        """Return which joint is farther outside its limits than an encoder may report, None where none is."""
        for name, value, joint in zip(self.names, position, self._joints):
            if not joint.lower - LIMIT_MARGIN <= value <= joint.upper + LIMIT_MARGIN:
                return f"{name} is at {value:.4g} rad, outside [{joint.lower}, {joint.upper}]"
        return None


def _cuts(wanted: float, lowers: Sequence[float], uppers: Sequence[float]) -> list[str]:
    """Names of the hard limits that `wanted` does not keep."""
    outside = (wanted < lower - ROUNDING or wanted > upper + ROUNDING for lower, upper in zip(lowers, uppers))
    return [name for name, out in zip(HARD, outside) if out]


def _between(value: float, lower: float, upper: float) -> float:
    """`value`, or the bound that it is beyond; `upper` wins over `lower`. What is no number stays so."""
    return min(max(value, lower), upper)
