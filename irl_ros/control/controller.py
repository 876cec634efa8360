"""A checkpoint at work: observation → action, the reward of a transition, how much a state is like the demonstrations."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from irl_ros.checkpoint import Checkpoint
from irl_ros.contract import Contract
from irl_ros.kinematics import Kinematics
from irl_ros.models.features import Features
from irl_ros.models.inference import Policy, Reward
from irl_ros.models.likeness import Likeness


class Controller:
    """The deployed policy: its mean, without noise. Knows no torch."""

    def __init__(self, checkpoint: Checkpoint):
        self.contract: Contract = checkpoint.contract
        self._kinematics = Kinematics(self.contract.robot, checkpoint.urdf or None)
        self._policy = Policy.from_arrays(checkpoint.policy_arrays, self.contract)
        self._reward = Reward.from_arrays(checkpoint.reward_arrays, self.contract)
        self._inputs = Features(self.contract, self.contract.task.policy_inputs)
        self._likeness = Likeness.from_arrays(checkpoint.likeness_arrays)

    @property
    def likeness_threshold(self) -> float:
        """Percentile [0, 100] below which a state is unlike the demonstrations; calibrated at training time."""
        return self._likeness.threshold

    def observe(self, measured: Mapping[str, np.ndarray]) -> np.ndarray:
        """The contract's observation, shape (observation_size,), of measured quantities by name."""
        return self.contract.observe(measured, self._kinematics)

    def end_effector(self, joint_position: np.ndarray) -> np.ndarray:
        """End effector in the base frame [m], shape (3,)."""
        return self._kinematics.position(joint_position)

    def act(self, observation: np.ndarray) -> np.ndarray:
        """The policy's mean action, shape (action_size,); not yet clipped to [-1, 1]."""
        return self._policy.mean(observation)

    def reward(self, observation: np.ndarray, action: np.ndarray, next_observation: np.ndarray) -> float:
        """Learned reward of executing `action` at `observation`."""
        return self._reward(observation, action, next_observation)

    def likeness(self, observation: np.ndarray) -> float:
        """Percentile [0, 100] of the distance to the nearest demonstrated state; 100 is as close as any."""
        return self._likeness(self._inputs(observation))
