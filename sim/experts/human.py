"""What every scripted demonstrator has of a person: it reacts late, pauses, trembles, overshoots."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from irl_ros.contract import Contract
from irl_ros.kinematics import Kinematics


class Human(ABC):
    """A demonstrator of a task, `rng` behind all its faults.

    It reacts late (`reaction` [s], on average), now and then pauses (`pause_rate` [1/s], up to half a second), and its
    hand trembles (`noise`, standard deviation of the action, low-pass filtered). What `overshoot` means is the task's.
    """

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
        self._tremble = np.zeros(self._contract.task.arm_action_size)

    @abstractmethod
    def act(self, observation: np.ndarray) -> np.ndarray:
        """Action in [-1, 1], shape (action_size,), for an observation of the contract, shape (observation_size,)."""

    def _rests(self) -> bool:
        """Whether it does nothing in this period; a pause may begin."""
        task = self._contract.task
        if self._rng.random() < self._pause_rate * task.period:
            self._still = round(self._rng.uniform(0.1, 0.5) * task.rate)
        self._still, resting = max(self._still - 1, 0), self._still > 0
        return resting

    def _shake(self) -> None:
        """The tremble of the next period."""
        self._tremble = 0.7 * self._tremble + 0.7 * self._rng.normal(0.0, self._noise, len(self._tremble))


def towards(offset: np.ndarray, gain: float, speed: float) -> np.ndarray:
    """A velocity [m/s] along `offset` [m], proportional to it and at most `speed`."""
    velocity = gain * offset
    return velocity * min(1.0, speed / max(float(np.linalg.norm(velocity)), 1e-9))
