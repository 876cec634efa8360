"""Generative adversarial imitation learning (Ho, Ermon 2016, arXiv 1606.03476).

    max_D E_expert[log D] + E_π[log(1 − D)],   min_π E_π[log(1 − D)] − λ H(π)                        (eq. 15)

with D = σ(logit) high for the expert (the paper's D is high for the policy) and H the causal entropy. At the optimum
the occupancies agree and D is ½ everywhere.

Deviations, their reasons in docs/methods/gail.md:
- The policy's reward is the logit, log D − log(1 − D): −log(1 − D) is flat where D is near 0.
- The discriminator sees the reward features, and the action only if asked to; its logit is bounded and has GCL's
  local-constant-rate and monotonic regularisers.
- The policy step is PPO with a bound on the KL. Samples of the last few batches are kept.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from irl_ros.learning.batch import Batch
from irl_ros.learning.discriminator import counted, health, logistic_loss
from irl_ros.learning.fusion import FusionWindow
from irl_ros.learning.method import Problem, decay_learning_rate
from irl_ros.learning.regularisers import shape_penalty
from irl_ros.models.policies import GaussianPolicy
from irl_ros.models.rewards import NetworkReward


class GenerativeAdversarialImitation:
    """GAIL's discriminator step, as a :class:`irl_ros.learning.method.Method`."""

    reward_holds_entropy = False

    def __init__(self, problem: Problem):
        config, self._shape = problem.config.adversarial, problem.config.reward
        self._config, demos = config, problem.demonstrations
        generator = torch.Generator().manual_seed(problem.config.seed)
        n_actions = 0 if config.state_only else problem.n_actions
        self._logit = NetworkReward(problem.n_features, generator, bound=config.bound, n_actions=n_actions)
        self._logit.to(demos.inputs.device)
        optimiser = torch.optim.AdamW(self._logit.parameters(), config.learning_rate, weight_decay=config.weight_decay)
        self.networks, self.optimisers = {"discriminator": self._logit}, {"discriminator": optimiser}
        self.window, self._demonstrations = FusionWindow(demos, None, config.background_batches), demos

    def update(
        self, samples: Batch, policy: GaussianPolicy, iteration: int, generator: torch.Generator
    ) -> dict[str, float]:
        """Improve the discriminator on the window's samples and the demonstrations; returns the health figures."""
        config, optimiser = self._config, self.optimisers["discriminator"]
        decay_learning_rate(optimiser, config.learning_rate, iteration, config.step_decay)
        self.window.append(samples, policy)
        demos, background = self._demonstrations, self.window.background
        for _ in range(config.updates):
            drawn = background[torch.randperm(len(background), generator=generator)[: config.minibatch]]
            demo, sample = self.learned_reward(demos), self.learned_reward(drawn)
            loss = demos.counted.sum(-1).mean() * logistic_loss(counted(demo, demos), counted(sample, drawn))
            penalty, shape = shape_penalty(-demo, demos.counted, -sample, drawn.counted, self._shape)
            optimiser.zero_grad()
            (loss + penalty).backward()
            torch.nn.utils.clip_grad_norm_(self._logit.parameters(), 10.0)
            optimiser.step()
        return {**self._health(samples, policy), **(shape if config.updates else {})}

    @torch.no_grad()
    def _health(self, samples: Batch, policy: GaussianPolicy) -> dict[str, float]:
        logits = self.judge(self._demonstrations, samples, policy)
        return {
            **health(*logits),
            "discriminator/loss": logistic_loss(*logits).item(),
            "discriminator/reward_gap": (logits[0].mean() - logits[1].mean()).item(),
        }

    def policy_reward(self, samples: Batch, policy: GaussianPolicy) -> Tensor:
        """log D − log(1 − D); the policy step adds the entropy."""
        return self.learned_reward(samples)

    def learned_reward(self, batch: Batch) -> Tensor:
        """The logit along `batch`, shape (B, H)."""
        return self._logit(batch.features, batch.actions)

    def judge(self, demonstrations: Batch, samples: Batch, policy: GaussianPolicy) -> tuple[Tensor, Tensor]:
        """Logits of the demonstrations' steps, shape (n,), and of the samples', shape (m,), for health figures."""
        return self.expert_is_high(demonstrations, policy), self.expert_is_high(samples, policy)

    def expert_is_high(self, batch: Batch, policy: GaussianPolicy) -> Tensor:
        """log D − log(1 − D) of a batch's steps, shape (n,), for health figures."""
        return counted(self.learned_reward(batch), batch)

    def reward_arrays(self) -> dict[str, np.ndarray]:
        """The discriminator's logit: how expert-like a step is beside the last policies', no transferable reward."""
        return self._logit.arrays()
