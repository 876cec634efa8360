"""Who reaches for a goal."""

from __future__ import annotations

import numpy as np

from irl_ros_sim.experts.human import Human, towards


class ReachExpert(Human):
    """Moves the end effector towards the goal by differential inverse kinematics.

    It overshoots: it aims past the goal by a fraction `overshoot` of the starting distance until it first comes near.
    """

    gain = 2.5  # [1/s]: distance to the goal → speed
    speed = 0.35  # [m/s]

    def reset(self) -> None:
        super().reset()
        self._aim: np.ndarray | None = None

    def act(self, observation: np.ndarray) -> np.ndarray:
        field, task = self._contract.field, self._contract.task
        self._shake()
        if self._rests():
            return np.zeros(self._contract.action_size)
        step = self.velocity(observation) * task.period
        if not task.moves_end_effector:
            step = self._kinematics.displacement(field(observation, "joint_position"), step)
        calm = min(1.0, float(np.linalg.norm(field(observation, "end_effector_to_goal"))) / 0.1)
        return np.clip(step / self._contract.max_step + self._tremble * calm, -1.0, 1.0)

    def velocity(self, observation: np.ndarray) -> np.ndarray:
        """How it wants to move the end effector [m/s], shape (3,)."""
        to_goal = self._contract.field(observation, "end_effector_to_goal")
        return towards(to_goal + self._lead(to_goal), self.gain, self.speed)

    def _lead(self, to_goal: np.ndarray) -> np.ndarray:
        """Where to aim, relative to the goal [m]: past it, until the hand first comes near."""
        if self._aim is None:
            self._aim = self._overshoot * to_goal
        if np.linalg.norm(to_goal + self._aim) < 0.04:
            self._aim = np.zeros(3)
        return self._aim
