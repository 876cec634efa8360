"""The box that the end effector stays in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import sub

from irl_ros.contract import ForwardKinematics, Safety

TOLERANCE = 0.01
"""[m] that the measured end effector may be outside: an arm overshoots its targets a little."""
ROUNDING = 1e-9  # [m]


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
