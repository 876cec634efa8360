"""The box that the end effector stays in."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from operator import sub

from irl_ros.contract import ForwardKinematics, Safety
from irl_ros.control.limits import Bounded, JointLimits, Step

TOLERANCE = 0.01
"""[m] that the measured end effector may be outside: an arm overshoots its targets a little."""
ROUNDING = 1e-9  # [m]
HALVINGS = 6
"""How finely a step that leaves the box is shortened."""


class Box:
    """How far outside a pose is; a robot without a box is always inside."""

    def __init__(self, safety: Safety, kinematics: ForwardKinematics | None):
        self._lower, self._upper, self._kinematics = safety.box_lower, safety.box_upper, kinematics

    def excess(self, joint_position: Sequence[float]) -> float:
        """Distance [m], along one axis, of the end effector from the box at joint positions [rad]; 0 inside."""
        if not self._lower:
            return 0.0
        hand = self._kinematics.position(joint_position).tolist()
        if not math.isfinite(sum(hand)):  # compares with nothing
            return math.inf
        return max(0.0, *map(sub, self._lower, hand), *map(sub, hand, self._upper))

    def fault(self, joint_position: Sequence[float]) -> str | None:
        """Why no motion may go on from these measured joint positions [rad]."""
        excess = self.excess(joint_position)
        if excess <= TOLERANCE:
            return None
        return f"the end effector is {excess:.3f} m outside its box from {self._lower} to {self._upper} m"


def fit(
    limits: JointLimits, box: Box, last: Step, change: list[float], bounded: Bounded, allowed: float
) -> tuple[Step, float]:
    """The step to the bounded target after the `last` one, and how far that is outside the box [m].

    Where it or the stop after it is farther outside than `allowed` [m], the step that goes as far that way from braking
    as fits; `change` [rad] is that of the last target. Where braking itself does not fit, it ends in its target.
    """
    step = limits.step(last.target, bounded.target, bounded.ranges)
    excess, stop_excess = box.excess(step.target), box.excess(step.stop)
    if max(excess, stop_excess) <= allowed:
        return step, excess

    def inside(step: Step) -> bool:
        return max(box.excess(step.target), box.excess(step.stop)) <= allowed

    for slowest in limits.braked(last, change, bounded):
        step = _longest(partial(_towards, limits, last.target, slowest, bounded), inside)
        if inside(step):
            return step, box.excess(step.target)
    return limits.at_rest(step.target), box.excess(step.target)


def _longest(make: Callable[[float], Step], fits: Callable[[Step], bool]) -> Step:
    """Of the steps that `make` gives for shares in [0, 1], the largest that fits, as far as :data:`HALVINGS` finds it."""
    share, fails = 0.0, 1.0
    for _ in range(HALVINGS):
        middle = (share + fails) / 2.0
        share, fails = (middle, fails) if fits(make(middle)) else (share, middle)
    return make(share)


def _towards(limits: JointLimits, start: list[float], slowest: list[float], bounded: Bounded, share: float) -> Step:
    return limits.step(start, [a + share * (b - a) for a, b in zip(slowest, bounded.target)], bounded.ranges)
