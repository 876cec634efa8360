"""Scripted demonstrators: as imperfect as a person at a joystick. They need no simulator, only kinematics."""

from __future__ import annotations

import numpy as np

from irl_ros.contract import Contract
from irl_ros.kinematics import Kinematics


class ReachExpert:
    """Moves the end effector towards the goal by differential inverse kinematics, human-like.

    It reacts late (`reaction` [s]), its hand trembles (`noise`, standard deviation of the action, low-pass filtered),
    it now and then pauses (`pause_rate` [1/s], up to half a second) and overshoots: it aims past the goal by a
    fraction `overshoot` of the starting distance until it first comes near.
    """

    gain = 2.5  # [1/s]: distance to the goal → speed
    speed = 0.35  # [m/s]

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
        self._noise, self._pause_rate, self._overshoot = noise, pause_rate, overshoot
        self._reaction = reaction
        self.reset()

    def reset(self) -> None:
        """Forget the last episode; call before each one."""
        rate = self._contract.task.rate
        self._still = round(self._rng.uniform(0.0, 2 * self._reaction) * rate)
        self._aim: np.ndarray | None = None
        self._tremble = np.zeros(self._contract.action_size)

    def act(self, observation: np.ndarray) -> np.ndarray:
        """Action in [-1, 1], shape (n_joints,), for an observation of the contract, shape (observation_size,)."""
        field, task = self._contract.field, self._contract.task
        self._tremble = 0.7 * self._tremble + 0.7 * self._rng.normal(0.0, self._noise, self._contract.action_size)
        if self._rng.random() < self._pause_rate * task.period:
            self._still = round(self._rng.uniform(0.1, 0.5) * task.rate)
        if self._still > 0:
            self._still -= 1
            return np.zeros(self._contract.action_size)
        to_goal = field(observation, "end_effector_to_goal")
        velocity = self.gain * (to_goal + self._lead(to_goal))
        velocity *= min(1.0, self.speed / max(float(np.linalg.norm(velocity)), 1e-9))
        step = self._kinematics.displacement(field(observation, "joint_position"), velocity * task.period)
        action = step / self._contract.max_step + self._tremble * min(1.0, np.linalg.norm(to_goal) / 0.1)
        return np.clip(action, -1.0, 1.0)

    def _lead(self, to_goal: np.ndarray) -> np.ndarray:
        """Where to aim, relative to the goal [m]: past it, until the hand first comes near."""
        if self._aim is None:
            self._aim = self._overshoot * to_goal
        if np.linalg.norm(to_goal + self._aim) < 0.04:
            self._aim = np.zeros(3)
        return self._aim
