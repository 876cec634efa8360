"""Adversarial inverse reinforcement learning (Fu, Luo, Levine 2018, arXiv 1710.11248).

    D(o, a, o′) = exp f / (exp f + π(a | o)),   f = g + γ h(o′) − h(o)                               (eq. 4)
    L_D = E_expert[−log D] + E_π[−log(1 − D)],   policy reward log D − log(1 − D) = f − log π

With a state-only g, deterministic decomposable dynamics, γ < 1 and a stationary soft-optimal expert with full support,
g becomes the true reward up to a constant and h the soft value (theorems C.1 and C.2). g is what is saved.

Deviations, their reasons in docs/methods/airl.md:
- log π enters with a weight α, the temperature: f − α log π in the logit and in the policy's reward.
- g is bounded and has GCL's local-constant-rate and monotonic regularisers; (γ h′ − h)² has a price.
- The reward features may be those of o′, and h sees the policy inputs. Samples of the last few batches are kept.
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
from irl_ros.models.rewards import NetworkReward, ShapedReward


def expert_is_high(f: Tensor, log_pi: Tensor, temperature: float = 1.0) -> Tensor:
    """The logit of D, f − α log π, shape (…,)."""
    return f - temperature * log_pi


class AdversarialInverseReinforcementLearning:
    """AIRL's discriminator step, as a :class:`irl_ros.learning.method.Method`."""

    reward_holds_entropy = True

    def __init__(self, problem: Problem):
        config, self._shape = problem.config.adversarial, problem.config.reward
        self._config, demos = config, problem.demonstrations
        generator = torch.Generator().manual_seed(problem.config.seed)
        n_actions = 0 if config.state_only else problem.n_actions
        g = NetworkReward(problem.n_features, generator, bound=config.bound, n_actions=n_actions)
        self._shaped = ShapedReward(g, problem.n_inputs, problem.discount, generator).to(demos.inputs.device)
        optimiser = torch.optim.AdamW(self._shaped.parameters(), config.learning_rate, weight_decay=config.weight_decay)
        self.networks, self.optimisers = {"reward": self._shaped}, {"reward": optimiser}
        self.window, self._demonstrations = FusionWindow(demos, None, config.background_batches), demos

    def update(
        self, samples: Batch, policy: GaussianPolicy, iteration: int, generator: torch.Generator
    ) -> dict[str, float]:
        """Improve f on the window's samples and the demonstrations; returns the health figures."""
        config, optimiser = self._config, self.optimisers["reward"]
        decay_learning_rate(optimiser, config.learning_rate, iteration, config.step_decay)
        self.window.append(samples, policy)
        demos, background = self._demonstrations, self.window.background
        demo_log_pi, log_pi = log_prob(policy, demos), log_prob(policy, background)
        for _ in range(config.updates):
            rows = torch.randperm(len(background), generator=generator)[: config.minibatch]
            drawn = background[rows]
            loss = demos.counted.sum(-1).mean() * logistic_loss(
                counted(self._logit(demos, demo_log_pi), demos), counted(self._logit(drawn, log_pi[rows]), drawn)
            )
            penalty, shape = shape_penalty(
                -self.learned_reward(demos), demos.counted, -self.learned_reward(drawn), drawn.counted, self._shape
            )
            shaping = config.shaping * (self._shaping(demos) + self._shaping(drawn))
            optimiser.zero_grad()
            (loss + penalty + shaping).backward()
            torch.nn.utils.clip_grad_norm_(self._shaped.parameters(), 10.0)
            optimiser.step()
        return {**self._health(samples, policy), **(shape if config.updates else {})}

    def _f(self, batch: Batch) -> Tensor:
        return self._shaped(batch.features, batch.actions, batch.inputs[:, :-1], batch.inputs[:, 1:])

    def _shaping(self, batch: Batch) -> Tensor:
        """Σ_t (γ h(x′) − h(x))², mean over trajectories."""
        potential = self._shaped.potential(batch.inputs)
        added = self._shaped.discount * potential[:, 1:] - potential[:, :-1]
        return (added.square() * batch.counted).sum(-1).mean()

    def _logit(self, batch: Batch, log_pi: Tensor) -> Tensor:
        return expert_is_high(self._f(batch), log_pi, self._config.temperature)

    @torch.no_grad()
    def _health(self, samples: Batch, policy: GaussianPolicy) -> dict[str, float]:
        demos = self._demonstrations
        demo_logit, logit = self.judge(demos, samples, policy)
        g = [counted(self.learned_reward(batch), batch).mean().item() for batch in (demos, samples)]
        return {
            **health(demo_logit, logit),
            "discriminator/loss": logistic_loss(demo_logit, logit).item(),
            "discriminator/reward_gap": g[0] - g[1],
        }

    def policy_reward(self, samples: Batch, policy: GaussianPolicy) -> Tensor:
        """log D − log(1 − D) = f − α log π, which holds the entropy."""
        return self._logit(samples, log_prob(policy, samples))

    def learned_reward(self, batch: Batch) -> Tensor:
        """g along `batch`."""
        return self._shaped.g(batch.features, batch.actions)

    def judge(self, demonstrations: Batch, samples: Batch, policy: GaussianPolicy) -> tuple[Tensor, Tensor]:
        """Logits of the demonstrations' steps, shape (n,), and of the samples', shape (m,), for health figures."""
        return self.expert_is_high(demonstrations, policy), self.expert_is_high(samples, policy)

    def expert_is_high(self, batch: Batch, policy: GaussianPolicy) -> Tensor:
        """log D − log(1 − D) of a batch's steps, shape (n,), for health figures."""
        return counted(self._logit(batch, log_prob(policy, batch)), batch)

    def reward_arrays(self) -> dict[str, np.ndarray]:
        """g alone: h is shaping, and belongs to these dynamics."""
        return self._shaped.g.arrays()


@torch.no_grad()
def log_prob(policy: GaussianPolicy, batch: Batch) -> Tensor:
    """log π(a | o) [nats] of the present policy, shape (B, H); 0 where none acted."""
    return policy.log_prob(batch.inputs[:, :-1], batch.actions) * batch.executed
