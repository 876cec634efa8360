"""Who puts a peg into a hole."""

from __future__ import annotations

import numpy as np

from irl_ros_sim.experts.human import Human, towards


class PegExpert(Human):
    """Carries the peg to a point above the hole, aligns it while it sinks to the edge, and pushes it in.

    It trembles the less the nearer the hole is. At first it aims beside the hole, by a fraction `overshoot` of the
    starting distance along x and y.
    """

    gain = 4.0  # [1/s]: offset → speed
    speed = 0.18  # [m/s]
    hover = 0.06  # [m] above the goal, where the tip waits until it is above the hole
    aligned = 0.0007, 0.004  # [m] beside the hole's axis: the tip may sink all the way; it waits at `hover`

    def reset(self) -> None:
        super().reset()
        self._aside: np.ndarray | None = None

    def act(self, observation: np.ndarray) -> np.ndarray:
        task = self._contract.task
        self._shake()
        if self._rests():
            return np.zeros(self._contract.action_size)
        to_goal = self._contract.field(observation, "end_effector_to_goal")
        step = self._velocity(to_goal) * task.period
        if not task.moves_end_effector:
            step = self._joint_step(observation, step)
        calm = min(1.0, float(np.linalg.norm(to_goal)) / 0.15) ** 2
        return np.clip(step / self._contract.max_step + self._tremble * calm, -1.0, 1.0)

    def _velocity(self, to_goal: np.ndarray) -> np.ndarray:
        """How it wants to move the tip [m/s], shape (3,), from where the goal is relative to it [m]."""
        aside = float(np.hypot(*to_goal[:2]))
        sink, wait = self.aligned
        height = self.hover * np.clip((aside - sink) / (wait - sink), 0.0, 1.0)
        return towards(np.array([*(to_goal[:2] + self._aim(to_goal)), to_goal[2] + height]), self.gain, self.speed)

    def _aim(self, to_goal: np.ndarray) -> np.ndarray:
        """Where it aims at first, relative to the hole along x and y [m]; the hole itself once it is near."""
        if self._aside is None:
            self._aside = self._rng.normal(0.0, self._overshoot, 2) * np.linalg.norm(to_goal)
        if np.linalg.norm(to_goal[:2] + self._aside) < 0.01 and to_goal[2] > -2 * self.hover:
            self._aside = np.zeros(2)
        return self._aside

    def _joint_step(self, observation: np.ndarray, step: np.ndarray) -> np.ndarray:
        """Joint displacements [rad] that move the tip by `step` [m] and keep the peg upright."""
        position = self._contract.field(observation, "joint_position")
        tip = self._contract.field(observation, "end_effector_position")
        return self._kinematics.solve(position, tip + step, (1.0, 0.0, 0.0, 0.0)) - position
