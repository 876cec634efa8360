"""2D navigation: a point mass to a goal among obstacles (the first task of guided cost learning, arXiv 1603.00448)."""

from __future__ import annotations

from typing import Any

import numpy as np

from irl_ros_sim.discs import NAVIGATION_OBSTACLES
from irl_ros_sim.tasks.keep_out import KeepOutEnv

GOAL = (0.4, 0.25)
START_LOWER, START_UPPER = (-0.45, -0.4), (-0.3, 0.4)
POINT_RADIUS = 0.02
"""[m] Obstacles look this much smaller than the discs that the point's middle must keep out of."""
STONE = [0.85, 0.3, 0.2, 1.0]


class Navigate2DEnv(KeepOutEnv):
    """Obstacles and goal are always the same; the point starts somewhere along the left side.

    Nothing tells where the obstacles are: the policy and the reward know their own place, as in the paper. A collision
    stops nothing, but the episode is no success.
    """

    task = "navigate2d"
    camera = (0.03, -0.45, 1.35), (0.03, -0.02, 0.0)

    def __init__(self, **options: Any):
        """`options` as in :class:`ArmEnv`."""
        super().__init__(**options)
        self._shown = False

    def begin(self) -> np.ndarray:
        start = self.np_random.uniform(START_LOWER, START_UPPER)
        self.goal = np.array([*GOAL, self.kinematics.position(start)[2]])
        return start

    def inside(self, hand: np.ndarray) -> bool:
        return any(disc.contains(hand) for disc in NAVIGATION_OBSTACLES)

    def show(self) -> None:
        if not self._shown:
            self.arm.add_marker(self.goal)
            for disc in NAVIGATION_OBSTACLES:
                self.arm.add_cylinder(disc.centre, disc.radius - POINT_RADIUS, 0.05, STONE)
        self._shown = True
