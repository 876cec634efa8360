"""What GCL and GAN-GCL share: GCL's saturating quadratic cost as the reward, and gradient steps on minibatches."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from irl_ros.learning.batch import Batch
from irl_ros.learning.method import Problem, decay_learning_rate
from irl_ros.models.policies import StochasticPolicy
from irl_ros.models.rewards import QuadraticReward

Loss = Callable[[Tensor], tuple[Tensor, dict[str, float]]]
MAX_GRADIENT_NORM = 10.0


class QuadraticCostMethod:
    """The parts of a :class:`irl_ros.learning.method.Method` whose reward is minus a quadratic cost."""

    reward_holds_entropy = False

    def __init__(self, problem: Problem):
        config = self._config = problem.config.reward
        self._demonstrations = problem.demonstrations
        generator = torch.Generator().manual_seed(problem.config.seed)
        self._reward = QuadraticReward(problem.n_features, generator, bound=config.bound, w_u=config.w_u)
        self._reward.to(problem.demonstrations.inputs.device)
        optimiser = torch.optim.AdamW(self._reward.parameters(), config.learning_rate, weight_decay=config.weight_decay)
        self.networks, self.optimisers = {"reward": self._reward}, {"reward": optimiser}

    def _descend(self, loss: Loss, n: int, iteration: int, generator: torch.Generator) -> dict[str, float]:
        """The `iteration`-th reward step: updates on minibatches of the `n` samples, by `loss` of their rows."""
        config, optimiser = self._config, self.optimisers["reward"]
        decay_learning_rate(optimiser, config.learning_rate, iteration, config.step_decay)
        metrics: dict[str, float] = {}
        for _ in range(0 if config.constant else config.updates):
            value, metrics = loss(torch.randperm(n, generator=generator)[: config.minibatch])
            optimiser.zero_grad()
            value.backward()
            torch.nn.utils.clip_grad_norm_(self._reward.parameters(), MAX_GRADIENT_NORM)
            optimiser.step()
        return metrics

    def policy_reward(self, samples: Batch, policy: StochasticPolicy) -> Tensor:
        """−c: the policy step adds the entropy itself."""
        return self._reward(samples.features, samples.actions)

    def learned_reward(self, batch: Batch) -> Tensor:
        return self._reward(batch.features, batch.actions)

    def reward_arrays(self) -> dict[str, np.ndarray]:
        return self._reward.arrays()
