"""Generative adversarial imitation learning (Ho, Ermon 2016, arXiv 1606.03476).

    max_D E_expert[log D] + E_π[log(1 − D)],   min_π E_π[log(1 − D)] − λ H(π)                        (eq. 15)

with D = σ(logit) high for the expert (the paper's D is high for the policy) and H the causal entropy. At the optimum
the occupancies agree and D is ½ everywhere.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from irl_ros.learning.batch import Batch
from irl_ros.learning.discriminator import Steps, health, logistic_loss, minibatch
from irl_ros.learning.fusion import FusionWindow
from irl_ros.learning.method import Problem, decay_learning_rate
from irl_ros.models.policies import GaussianPolicy
from irl_ros.models.rewards import NetworkReward


def imitation_reward(expert_is_high: Tensor) -> Tensor:
    """−log(1 − D), shape (…,): what the policy maximises beside its entropy."""
    return softplus(expert_is_high)


class GenerativeAdversarialImitation:
    """GAIL's discriminator step, as a :class:`irl_ros.learning.method.Method`."""

    reward_holds_entropy = False

    def __init__(self, problem: Problem):
        config = self._config = problem.config.adversarial
        generator = torch.Generator().manual_seed(problem.config.seed)
        n_actions = 0 if config.state_only else problem.n_actions
        self._logit = NetworkReward(problem.n_features, generator, bound=config.bound, n_actions=n_actions)
        self._logit.to(problem.demonstrations.inputs.device)
        optimiser = torch.optim.AdamW(self._logit.parameters(), config.learning_rate, weight_decay=config.weight_decay)
        self.networks, self.optimisers = {"discriminator": self._logit}, {"discriminator": optimiser}
        self.window = FusionWindow(problem.demonstrations, None, config.background_batches)
        self._demonstrations = Steps.of(problem.demonstrations)

    def update(
        self, samples: Batch, policy: GaussianPolicy, iteration: int, generator: torch.Generator
    ) -> dict[str, float]:
        """Improve the discriminator on the window's samples and the demonstrations; returns the health figures."""
        config, optimiser = self._config, self.optimisers["discriminator"]
        decay_learning_rate(optimiser, config.learning_rate, iteration, config.step_decay)
        self.window.append(samples, policy)
        demos, background = self._demonstrations, Steps.of(self.window.background)
        for _ in range(config.updates):
            rows = (minibatch(steps, config.minibatch, generator) for steps in (demos, background))
            d, s = (steps.pick(r) for steps, r in zip((demos, background), rows))
            loss = logistic_loss(self._logit(d.features, d.actions), self._logit(s.features, s.actions))
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self._logit.parameters(), 10.0)
            optimiser.step()
        return self._health(samples)

    @torch.no_grad()
    def _health(self, samples: Batch) -> dict[str, float]:
        logits = [self._logit(s.features, s.actions) for s in (self._demonstrations, Steps.of(samples))]
        return {
            **health(*logits),
            "discriminator/loss": logistic_loss(*logits).item(),
            "discriminator/reward_gap": (logits[0].mean() - logits[1].mean()).item(),
        }

    def policy_reward(self, samples: Batch, policy: GaussianPolicy) -> Tensor:
        """−log(1 − D); the policy step adds the entropy."""
        return imitation_reward(self._logit(samples.features, samples.actions))

    def learned_reward(self, batch: Batch) -> Tensor:
        return self._logit(batch.features, batch.actions)

    @torch.no_grad()
    def expert_is_high(self, batch: Batch, policy: GaussianPolicy) -> Tensor:
        """Logits of any trajectories' steps, shape (n,); for health figures on demonstrations it was not shown."""
        steps = Steps.of(batch)
        return self._logit(steps.features, steps.actions)

    def learned_reward(self, batch: Batch) -> Tensor:
        """The logit along `batch`."""
        return self._logit(batch.features, batch.actions)

    def expert_is_high(self, batch: Batch, policy: GaussianPolicy) -> Tensor:
        """log D − log(1 − D) of a batch's steps, shape (n,), for health figures."""
        steps = Steps.of(batch)
        return self._logit(steps.features, steps.actions)

    def reward_arrays(self) -> dict[str, np.ndarray]:
        """The discriminator's logit: how expert-like a step is beside the last policies', no transferable reward."""
        return self._logit.arrays()
