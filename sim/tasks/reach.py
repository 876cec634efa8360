"""Reach: bring the end effector to a goal position."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from irl_ros_sim.tasks.arm_env import ArmEnv

SUCCESS_DISTANCE = 0.05
START_NOISE = 0.1


class ReachEnv(ArmEnv):
    """A goal drawn from the robot's workspace box, an arm near its home pose.

    The env's own reward is minus the distance to the goal [m]; ``info["success"]``: within 5 cm.
    """

    task = "reach"
    success_distance = SUCCESS_DISTANCE
    start_noise = START_NOISE
    """[rad] of every joint about its home."""

    def __init__(self, **options: Any):
        """`options` as in :class:`ArmEnv`."""
        super().__init__(**options)
        self._marker: int | None = None
        self.goal = np.array(self.contract.robot.workspace_lower)

    def begin(self) -> np.ndarray:
        robot = self.contract.robot
        start = np.array(robot.home) + self.np_random.uniform(-self.start_noise, self.start_noise, robot.n_joints)
        start = np.clip(start, robot.position_lower, robot.position_upper)
        self.goal = self.draw_goal(self.kinematics.position(start))
        return start

    def draw_goal(self, hand: np.ndarray) -> np.ndarray:
        """A goal that the arm has not reached already: farther than twice the success distance."""
        robot = self.contract.robot
        while True:
            goal = self.np_random.uniform(robot.workspace_lower, robot.workspace_upper)
            if np.linalg.norm(goal - hand) > 2 * self.success_distance:
                return goal

    def judge(self) -> tuple[float, dict[str, Any]]:
        distance = math.dist(self.end_effector(), self.goal)
        return -distance, {"success": distance < self.success_distance, "distance": distance}

    def measured(self) -> dict[str, np.ndarray]:
        return {**super().measured(), "goal_position": self.goal}

    def show(self) -> None:
        if self._marker is None:
            self._marker = self.arm.add_marker(self.goal)
        self.arm.move_marker(self._marker, self.goal)
