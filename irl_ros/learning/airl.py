"""Adversarial inverse reinforcement learning (Fu, Luo, Levine 2018, arXiv 1710.11248).

    D(o, a, o′) = exp f / (exp f + π(a | o)),   f = g + γ h(o′) − h(o)                               (eq. 4)
    L_D = E_expert[−log D] + E_π[−log(1 − D)],   policy reward log D − log(1 − D) = f − log π

With a state-only g, deterministic decomposable dynamics, γ < 1 and a stationary soft-optimal expert with full support,
g becomes the true reward up to a constant and h the soft value (theorems C.1 and C.2). g is what is saved.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from irl_ros.learning.batch import Batch
from irl_ros.learning.discriminator import Steps, health, logistic_loss, minibatch
from irl_ros.learning.fusion import FusionWindow
from irl_ros.learning.method import Problem, decay_learning_rate
from irl_ros.models.policies import GaussianPolicy
from irl_ros.models.rewards import NetworkReward, ShapedReward


def expert_is_high(f: Tensor, log_pi: Tensor, temperature: float = 1.0) -> Tensor:
    """The logit of D, f − α log π, shape (…,)."""
    return f - temperature * log_pi


class AdversarialInverseReinforcementLearning:
    """AIRL's discriminator step, as a :class:`irl_ros.learning.method.Method`."""

    reward_holds_entropy = True

    def __init__(self, problem: Problem):
        config = self._config = problem.config.adversarial
        generator = torch.Generator().manual_seed(problem.config.seed)
        device = problem.demonstrations.inputs.device
        n_actions = 0 if config.state_only else problem.n_actions
        g = NetworkReward(problem.n_features, generator, bound=config.bound, n_actions=n_actions)
        self._shaped = ShapedReward(g, problem.n_inputs, problem.discount, generator).to(device)
        optimiser = torch.optim.AdamW(self._shaped.parameters(), config.learning_rate, weight_decay=config.weight_decay)
        self.networks, self.optimisers = {"reward": self._shaped}, {"reward": optimiser}
        self.window = FusionWindow(problem.demonstrations, None, config.background_batches)
        self._demonstrations = Steps.of(problem.demonstrations)

    def update(
        self, samples: Batch, policy: GaussianPolicy, iteration: int, generator: torch.Generator
    ) -> dict[str, float]:
        """Improve f on the window's samples and the demonstrations; returns the health figures."""
        config, optimiser = self._config, self.optimisers["reward"]
        decay_learning_rate(optimiser, config.learning_rate, iteration, config.step_decay)
        self.window.append(samples, policy)
        demos, background = self._demonstrations, Steps.of(self.window.background)
        demo_log_pi, background_log_pi = self._demo_log_pi(policy), _log_pi(policy, background)
        for _ in range(config.updates):
            d, s = (minibatch(steps, config.minibatch, generator) for steps in (demos, background))
            loss = logistic_loss(
                self._logit(demos.pick(d), demo_log_pi[d]), self._logit(background.pick(s), background_log_pi[s])
            )
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self._shaped.parameters(), 10.0)
            optimiser.step()
        return self._health(samples, policy)

    def _logit(self, steps: Steps, log_pi: Tensor) -> Tensor:
        f = self._shaped(steps.features, steps.actions, steps.inputs, steps.next_inputs)
        return expert_is_high(f, log_pi, self._config.temperature)

    def _demo_log_pi(self, policy: GaussianPolicy) -> Tensor:
        """log π of the demonstrations; E log π(a + σε) = log π(a) − m/2."""
        demos = self._demonstrations
        noise = 0.5 * demos.actions.shape[-1] * demos.executed
        return _log_pi(policy, demos) - (noise if self._config.match_noise else 0.0)

    @torch.no_grad()
    def _health(self, samples: Batch, policy: GaussianPolicy) -> dict[str, float]:
        demos, drawn = self._demonstrations, Steps.of(samples)
        logits = self._logit(demos, self._demo_log_pi(policy)), self._logit(drawn, _log_pi(policy, drawn))
        g = [self._shaped.g(steps.features, steps.actions).mean().item() for steps in (demos, drawn)]
        return {
            **health(*logits),
            "discriminator/loss": logistic_loss(*logits).item(),
            "discriminator/reward_gap": g[0] - g[1],
        }

    def policy_reward(self, samples: Batch, policy: GaussianPolicy) -> Tensor:
        """log D − log(1 − D) = f − α log π, which holds the entropy."""
        f = self._shaped(samples.features, samples.actions, samples.inputs[:, :-1], samples.inputs[:, 1:])
        log_pi = policy.log_prob(samples.inputs[:, :-1], samples.actions) * samples.executed
        return expert_is_high(f, log_pi, self._config.temperature)

    def learned_reward(self, batch: Batch) -> Tensor:
        return self._shaped.g(batch.features, batch.actions)

    @torch.no_grad()
    def expert_is_high(self, batch: Batch, policy: GaussianPolicy) -> Tensor:
        """Logits of any trajectories' steps, shape (n,); for health figures on demonstrations it was not shown."""
        steps = Steps.of(batch)
        return self._logit(steps, _log_pi(policy, steps))

    def learned_reward(self, batch: Batch) -> Tensor:
        """g along `batch`."""
        return self._shaped.g(batch.features, batch.actions)

    def expert_is_high(self, batch: Batch, policy: GaussianPolicy) -> Tensor:
        """log D − log(1 − D) of a batch's steps, shape (n,), for health figures."""
        steps = Steps.of(batch)
        return self._logit(steps, _log_pi(policy, steps))

    def reward_arrays(self) -> dict[str, np.ndarray]:
        """g alone: h is shaping, and belongs to these dynamics."""
        return self._shaped.g.arrays()


@torch.no_grad()
def _log_pi(policy: GaussianPolicy, steps: Steps) -> Tensor:
    """log π(a | o) [nats] of the present policy, shape (n,); 0 where none acted."""
    return policy.log_prob(steps.inputs, steps.actions) * steps.executed
