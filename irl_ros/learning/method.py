"""What a method brings to the loop of :mod:`irl_ros.learning.train`: its reward step."""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from irl_ros.learning.batch import Batch
from irl_ros.learning.config import TrainConfig
from irl_ros.learning.fusion import FusionWindow
from irl_ros.models.policies import GaussianPolicy


class Problem(NamedTuple):
    """What a method is made from. `generator` serves whatever is drawn while it is built."""

    demonstrations: Batch
    config: TrainConfig
    discount: float
    generator: torch.Generator

    @property
    def n_inputs(self) -> int:
        return self.demonstrations.inputs.shape[-1]

    @property
    def n_features(self) -> int:
        return self.demonstrations.features.shape[-1]

    @property
    def n_actions(self) -> int:
        return self.demonstrations.actions.shape[-1]


class Method(Protocol):
    """A method's learned parts and its reward step. Everything a resumed run needs lies in the attributes."""

    networks: dict[str, torch.nn.Module]
    optimisers: dict[str, torch.optim.Optimizer]
    window: FusionWindow | None
    reward_holds_entropy: bool
    """policy_reward contains −log π: the policy step must not add its entropy bonus again."""

    def update(
        self, samples: Batch, policy: GaussianPolicy, iteration: int, generator: torch.Generator
    ) -> dict[str, float]:
        """Improve the reward on `samples` that `policy` has just drawn; returns health figures by name."""

    def policy_reward(self, samples: Batch, policy: GaussianPolicy) -> Tensor:
        """What the policy step maximises, shape (B, H), of samples that `policy` drew; called without gradients.

        The step adds its entropy bonus, unless `reward_holds_entropy`.
        """

    def learned_reward(self, batch: Batch) -> Tensor:
        """The reward of :meth:`reward_arrays` along any trajectories, shape (B, H); for health figures."""

    def reward_arrays(self) -> dict[str, np.ndarray]:
        """For :meth:`irl_ros.models.inference.Reward.from_arrays`: the reward that is saved, shown and published."""


@runtime_checkable
class Selective(Protocol):
    """A method that keeps policies on the way and says which of them the run ends with."""

    def chosen_policy(self) -> GaussianPolicy:
        """The policy to be saved and evaluated in place of the last one."""


def decay_learning_rate(optimiser: torch.optim.Optimizer, rate: float, iteration: int, step_decay: float) -> None:
    """Set the learning rate of the `iteration`-th reward step: rate / (1 + iteration / step_decay); 0: no decay."""
    for group in optimiser.param_groups:
        group["lr"] = rate / (1 + iteration / step_decay) if step_decay else rate
