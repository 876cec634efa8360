"""The box that the end effector stays in."""

from __future__ import annotations

import math
from collections.abc import Sequence
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
    limits: JointLimits, box: Box, before: list[float], change: list[float], bounded: Bounded, allowed: float
) -> tuple[Step, float]:
    """The step from `before` to the bounded target, and how far that is outside the box [m].

    Where it or the stop after it is farther outside than `allowed` [m], the step that goes as far that way from braking
    as fits; `change` [rad] is that of the target before.
    """

    def tried(target: list[float]) -> tuple[Step, float, float]:
        step = limits.step(before, target)
        return step, box.excess(step.target), box.excess(step.stop)

    step, excess, stop_excess = tried(bounded.target)
    if max(excess, stop_excess) <= allowed:
        return step, excess
    braked = limits.braked(before, change, bounded)
    fits, fails = 0.0, 1.0
    for _ in range(HALVINGS):
        share = (fits + fails) / 2.0
        inside = max(tried(_partway(braked, bounded.target, share))[1:]) <= allowed
        fits, fails = (share, fails) if inside else (fits, share)
    step, excess, stop_excess = tried(_partway(braked, bounded.target, fits))
    return step if stop_excess <= allowed else limits.at_rest(step.target), excess


def _partway(start: list[float], end: list[float], share: float) -> list[float]:
    return [a + share * (b - a) for a, b in zip(start, end)]
