"""Planar reach: a three-link arm in the plane to a goal (after guided cost learning's, arXiv 1603.00448)."""

from __future__ import annotations

import numpy as np

from irl_ros_sim.tasks.reach import ReachEnv

START_NOISE = 0.4  # [rad]
INNER, OUTER = 0.25, 0.6  # [m] from the base: where the arm reaches without folding up or stretching out


class PlanarReachEnv(ReachEnv):
    """A goal drawn from the robot's workspace, in the plane that its end effector moves in.

    The env's own reward is minus the distance to the goal [m]; ``info["success"]``: within 2 cm.
    """

    task = "planar_reach"
    success_distance = 0.02
    start_noise = START_NOISE
    camera = (0.3, -0.55, 1.05), (0.3, -0.02, 0.0)

    def draw_goal(self, hand: np.ndarray) -> np.ndarray:
        while True:
            goal = super().draw_goal(hand)
            goal[2] = hand[2]
            far = np.linalg.norm(goal - hand) > 5 * self.success_distance
            if far and INNER < np.linalg.norm(goal[:2]) < OUTER:
                return goal
