"""Trajectories as tensors: policy inputs, reward features, actions, all on one device."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from irl_ros.contract import Contract
from irl_ros.data.episode import Demonstrations, Episode
from irl_ros.learning.rollout import Trajectory
from irl_ros.models.features import Features

PART = 256
"""Demonstrations whose observations are in memory at once while their features are taken."""


class Batch(NamedTuple):
    """B trajectories of H steps.

    inputs (B, H+1, d_x), features (B, H, d_φ) of the transitions, actions (B, H, m) unclipped, executed (B, H): 1
    where the policy acted, 0 in an absorbing state, counted (B, H): 1 where the step belongs to the trajectory (a
    demonstration may be shorter than the horizon).
    """

    inputs: Tensor
    features: Tensor
    actions: Tensor
    executed: Tensor
    counted: Tensor

    def __len__(self) -> int:
        return len(self.actions)

    @classmethod
    def cat(cls, batches: Sequence[Batch]) -> Batch:
        return cls(*(torch.cat(parts) for parts in zip(*batches)))

    def __getitem__(self, index: Tensor | slice) -> Batch:  # type: ignore[override]
        return Batch(*(part[index] for part in self.parts()))

    def parts(self) -> tuple[Tensor, ...]:
        return tuple(self)


class Featurizer:
    """Contract's features of trajectories and demonstrations, as a Batch."""

    def __init__(self, contract: Contract, device: torch.device):
        self._inputs = Features(contract, contract.task.policy_inputs)
        self._features = Features(contract, contract.task.reward_features)
        if self._inputs.needs_transition:
            raise ValueError("policy inputs cannot depend on the action or on the next observation")
        self.n_inputs, self.n_features = self._inputs.size, self._features.size
        self._horizon, self._device = contract.task.horizon, device

    def inputs(self, observations: np.ndarray) -> np.ndarray:
        """Policy inputs, shape (…, d_x)."""
        return self._inputs(observations)

    def trajectories(self, trajectories: Sequence[Trajectory]) -> Batch:
        observations = np.stack([t.observations for t in trajectories])
        actions = np.stack([t.actions for t in trajectories])
        executed = np.stack([np.arange(self._horizon) < t.length for t in trajectories])
        return self._batch(observations, actions, executed, np.ones_like(executed))

    def demonstrations(self, demonstrations: Demonstrations) -> Batch:
        """Padded to the horizon with their last observation; the padding is not counted, longer ones are cut.

        Gone through once and in parts: what is kept of a large data set are its features.
        """
        episodes = iter(demonstrations)
        parts = iter(lambda: list(islice(episodes, PART)), [])
        return Batch.cat([self._padded(part) for part in parts])

    def _padded(self, episodes: Sequence[Episode]) -> Batch:
        horizon = self._horizon
        length = np.array([min(len(e), horizon) for e in episodes])
        steps = np.arange(horizon)
        rows = np.minimum(np.arange(horizon + 1), length[:, None])
        observations = np.stack([e.observations[r] for e, r in zip(episodes, rows)])
        counted = steps < length[:, None]
        actions = np.stack([e.actions[np.minimum(steps, n - 1)] for e, n in zip(episodes, length)])
        return self._batch(observations, actions * counted[..., None], counted, counted)

    def _batch(
        self, observations: np.ndarray, actions: np.ndarray, executed: np.ndarray, counted: np.ndarray
    ) -> Batch:
        features = self._features(observations[:, :-1], actions, observations[:, 1:])
        arrays = (self._inputs(observations), features, actions, executed, counted)
        return Batch(*(torch.as_tensor(np.asarray(a, np.float32), device=self._device) for a in arrays))
