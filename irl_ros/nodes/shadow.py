"""How far a policy's actions are from those of the human who drives, while the policy only watches."""

from __future__ import annotations

import numpy as np

from irl_ros.contract import Contract
from irl_ros.kinematics import Kinematics
from irl_ros.motion import asked_action

GAP = 3.0  # periods without a command after which the human's motion starts anew


class Agreement:
    """Mean |policy's action − human's action| over the arm's elements, each in [-1, 1], since :meth:`reset`.

    The human's action is read from two joint targets in a row, as a recording's is. Times are monotonic [s].
    """

    def __init__(self, contract: Contract, kinematics: Kinematics):
        self._contract, self._kinematics = contract, kinematics
        self._target: np.ndarray | None = None
        self._action: np.ndarray | None = None
        self._received = -np.inf
        self.reset()

    def reset(self) -> None:
        """Count anew."""
        self._sum, self.count = 0.0, 0

    @property
    def mean(self) -> float | None:
        """None before anything was compared."""
        return self._sum / self.count if self.count else None

    def human(self, target: np.ndarray, now: float) -> None:
        """A joint target [rad], shape (n_joints,), that the human's command asks for."""
        previous = self._target if now - self._received <= GAP * self._contract.task.period else None
        self._target, self._received = target, now
        asked = None if previous is None else np.stack([previous, target])
        self._action = None if asked is None else asked_action(self._contract, asked, self._kinematics)[0]

    def policy(self, action: np.ndarray) -> None:
        """The action (action_size,) that the policy proposes now; compared with the human's latest, once."""
        if self._action is None:
            return
        difference = np.clip(action[: len(self._action)], -1.0, 1.0) - np.clip(self._action, -1.0, 1.0)
        self._sum, self.count, self._action = self._sum + float(np.abs(difference).mean()), self.count + 1, None
