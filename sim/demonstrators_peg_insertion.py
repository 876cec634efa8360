"""A scripted demonstrator of peg insertion. It needs no simulator."""

from __future__ import annotations

import numpy as np

from irl_ros.contract import Contract
from irl_ros.kinematics import Kinematics


class PegExpert:
    """Carries the peg to a point above the hole, aligns it while it sinks to the edge, and pushes it in; human-like.

    It reacts late (`reaction` [s]), now and then pauses (`pause_rate` [1/s], up to half a second), and its hand
    trembles (`noise`, standard deviation of the action, low-pass filtered) the less the nearer the hole is. At first
    it aims beside the hole, by a fraction `overshoot` of the starting distance along x and y.
    """

    gain = 4.0  # [1/s]: offset → speed
    speed = 0.18  # [m/s]
    hover = 0.06  # [m] above the goal, where the tip waits until it is above the hole
    aligned = 0.0007, 0.004  # [m] beside the hole's axis: the tip may sink all the way; it waits at `hover`

    def __init__(
        self,
        contract: Contract,
        kinematics: Kinematics,
        rng: np.random.Generator,
        noise: float = 0.1,
        pause_rate: float = 0.15,
        overshoot: float = 0.1,
        reaction: float = 0.15,
    ):
        self._contract, self._kinematics, self._rng = contract, kinematics, rng
        self._noise, self._pause_rate, self._overshoot, self._reaction = noise, pause_rate, overshoot, reaction
        self.reset()

    def reset(self) -> None:
        """Forget the last episode; call before each one."""
        self._still = round(self._rng.uniform(0.0, 2 * self._reaction) * self._contract.task.rate)
        self._aside: np.ndarray | None = None
        self._tremble = np.zeros(self._contract.action_size)

    def act(self, observation: np.ndarray) -> np.ndarray:
        """Action in [-1, 1], shape (action_size,), for an observation of the contract, shape (observation_size,)."""
        task = self._contract.task
        self._tremble = 0.7 * self._tremble + 0.7 * self._rng.normal(0.0, self._noise, self._contract.action_size)
        if self._rng.random() < self._pause_rate * task.period:
            self._still = round(self._rng.uniform(0.1, 0.5) * task.rate)
        if self._still > 0:
            self._still -= 1
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
        velocity = self.gain * np.array([*(to_goal[:2] + self._aim(to_goal)), to_goal[2] + height])
        return velocity * min(1.0, self.speed / max(float(np.linalg.norm(velocity)), 1e-9))

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
