"""A checkpoint at work: observation → action, the reward of a transition, the likeness to the demonstrations."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from irl_ros.checkpoint import Checkpoint, CheckpointError
from irl_ros.contract import Contract
from irl_ros.kinematics import Kinematics
from irl_ros.models.demonstrated import PATHS, DemonstratedReturns
from irl_ros.models.features import Features
from irl_ros.models.inference import policy_from_arrays, reward_from_arrays
from irl_ros.models.likeness import Likeness, LikenessError
from irl_ros.models.tables import TableReward


class Controller:
    """The deployed policy: its mean, without noise. Knows no torch.

    Raises CheckpointError when the checkpoint's networks do not fit its contract.
    """

    def __init__(self, checkpoint: Checkpoint):
        self.contract: Contract = checkpoint.contract
        self.kinematics = Kinematics(self.contract.robot, checkpoint.urdf or None)
        self._inputs = Features(self.contract, self.contract.task.policy_inputs)
        try:
            self._policy = policy_from_arrays(checkpoint.policy_arrays, self.contract)
            learned = checkpoint.reward_arrays  # behaviour cloning learns none
            self._reward = reward_from_arrays(learned, self.contract) if learned else None
            self._likeness = Likeness.from_arrays(checkpoint.likeness_arrays)
            self.demonstrated = DemonstratedReturns(checkpoint.likeness_arrays)
            self.demonstrated_paths: np.ndarray = _paths(checkpoint.likeness_arrays.get(PATHS, np.zeros((0, 0, 3))))
            """End effector positions [m] along a few demonstrations, shape (N, P, 3); N = 0 in an older checkpoint."""
        except (KeyError, LikenessError) as error:
            raise CheckpointError(f"the checkpoint's arrays are incomplete: {error}") from None
        except ValueError as error:
            raise CheckpointError(f"the checkpoint's arrays do not fit its contract: {error}") from None
        self._try_out()

    @property
    def likeness_threshold(self) -> float:
        """Percentile [0, 100] below which a state is unlike the demonstrations; calibrated at training time."""
        return self._likeness.threshold

    def observe(self, measured: Mapping[str, np.ndarray]) -> np.ndarray:
        """The contract's observation, shape (observation_size,), of measured quantities by name."""
        return self.contract.observe(measured, self.kinematics)

    def end_effector(self, joint_position: np.ndarray) -> np.ndarray:
        """End effector in the base frame [m], shape (3,)."""
        return self.kinematics.position(joint_position)

    def act(self, observation: np.ndarray, step: int = 0) -> np.ndarray:
        """Mean action, shape (action_size,), `step` periods after the start; not yet clipped to [-1, 1]."""
        return self._policy.mean(observation, step)

    def reward(self, observation: np.ndarray, action: np.ndarray, next_observation: np.ndarray) -> float | None:
        """Learned reward of executing `action` at `observation`; None where the method learns no reward."""
        return None if self._reward is None else self._reward(observation, action, next_observation)

    @property
    def reward_map(self) -> np.ndarray | None:
        """Learned reward of each cell of the task's grid, shape (n_states,); None where it is no table over cells."""
        return self._reward.map if isinstance(self._reward, TableReward) else None

    def likeness(self, observation: np.ndarray) -> float:
        """Percentile [0, 100] of the distance to the nearest demonstrated state; 100 is as close as any."""
        return self._likeness(self._inputs(observation))

    def _try_out(self) -> None:
        """One pass through every network: better an error now than on a moving arm."""
        observation = np.zeros(self.contract.observation_size)
        try:
            action = self.act(observation)
            reward = self.reward(observation, action, observation)
            results = np.array([*action, reward if reward is not None else 0.0, self.likeness(observation)])
        except (ValueError, IndexError, TypeError) as error:
            raise CheckpointError(f"the checkpoint's networks do not fit its contract: {error}") from None
        if action.shape != (self.contract.action_size,) or not np.isfinite(results).all():
            raise CheckpointError(
                f"the checkpoint's networks do not fit its contract: action of shape {action.shape} for "
                f"{self.contract.action_size} actions, values {results}"
            )


def _paths(array: np.ndarray) -> np.ndarray:
    if array.ndim != 3 or array.shape[2] != 3 or not np.isfinite(array).all():
        raise ValueError(f"{PATHS}: finite positions of shape (N, P, 3) are needed, not {array.shape}")
    return array
