"""GAN-GCL: guided cost learning as a generative adversarial network (Finn, Christiano, Abbeel, Levine 2016, 1611.03852).

    D(τ) = p̃(τ) / (p̃(τ) + q(τ)),   p̃(τ) = exp(−c(τ)) / Z                                        (section 3)
    L_D = E_expert[−log D] + E_q[−log(1 − D)]

so that the logit is −c(τ) − log Z − log q(τ), Z is the partition function at the minimum of L_D over Z, and there
∇L_D is GCL's gradient with the fusion weights of the mixture ½ p̃ + ½ q. q is the mixture of the policies that drew the
samples; log q of demonstrations and samples is computed anew in every round. The dynamics cancel.

Deviations:
- Logits of trajectories of 50 steps × 7 joints spread over hundreds of nats: D is 0 or 1 everywhere and L_D has no
  gradient. They are tempered, β (−c − log Z − log q), with the largest β ≤ 1 that keeps their standard deviation at
  `logit_spread`, and the loss is divided by β. At β = 1 this is the paper's.
- log q of demonstrations is that of their actions with the policy's own noise, in expectation (docs/methods/gan_gcl.md).
- Z is solved for in each step (L_D is convex in log Z) instead of being learned beside the cost.
- The cost is GCL's own: saturating, with the local-constant-rate and monotonic regularisers.
- The policy's objective E[log(1 − D) − log D] = E[c] − H(q) + const is GCL's: the policy step gets −c and adds a
  weighted entropy.
- Past policies and samples are kept over a window of batches.
"""

from __future__ import annotations

import torch
from torch import Tensor

from irl_ros.learning.batch import Batch
from irl_ros.learning.config import AdversarialConfig, RewardConfig
from irl_ros.learning.discriminator import health, logistic_loss
from irl_ros.learning.fusion import FusionWindow, weight_figures
from irl_ros.learning.method import Problem
from irl_ros.learning.quadratic_cost import QuadraticCostMethod
from irl_ros.learning.regularisers import shape_penalty
from irl_ros.models.policies import GaussianPolicy

BISECTIONS = 60


@torch.no_grad()
def optimal_log_partition(demo_log_ratio: Tensor, sample_log_ratio: Tensor, beta: float = 1.0) -> Tensor:
    """The log Z that minimises L_D for log ratios −c − log q, (N,) and (M,): E_expert[1 − D] = E_q[D]; a scalar."""
    both = torch.cat([demo_log_ratio, sample_log_ratio])
    low, high = both.min() - 40 / beta, both.max() + 40 / beta
    for _ in range(BISECTIONS):
        log_z = (low + high) / 2
        doubt = torch.sigmoid(-beta * (demo_log_ratio - log_z)).mean()
        too_high = doubt > torch.sigmoid(beta * (sample_log_ratio - log_z)).mean()
        low, high = torch.where(too_high, low, log_z), torch.where(too_high, log_z, high)
    return (low + high) / 2


def mixture_deviation(demo: Tensor, sample: Tensor) -> float:
    """Standard deviation of the equal mixture of two sets of numbers, (N,) and (M,), whatever their sizes."""
    within = (demo.var(correction=0) + sample.var(correction=0)) / 2
    return (within + ((demo.mean() - sample.mean()) / 2).square()).sqrt().item()


def discriminator_loss(
    demo_cost: Tensor, sample_cost: Tensor, demo_log_q: Tensor, sample_log_q: Tensor, spread: float
) -> tuple[Tensor, dict[str, float]]:
    """L_D / β at the optimal Z, and health figures; demo_* (N,), sample_* (M,) [nats] of whole trajectories."""
    demo, sample = -demo_cost - demo_log_q, -sample_cost - sample_log_q
    deviation = mixture_deviation(demo.detach(), sample.detach())
    beta = min(1.0, spread / max(deviation, 1e-9))
    log_z = optimal_log_partition(demo, sample, beta)
    demo_logit, sample_logit = beta * (demo - log_z), beta * (sample - log_z)
    loss = logistic_loss(demo_logit, sample_logit) / beta
    metrics = {
        **health(demo_logit, sample_logit),
        **weight_figures(sample_cost, -sample_log_q, beta),
        "discriminator/loss": loss.item() * beta,
        "discriminator/log_z": log_z.item(),
        "discriminator/untempered_logit_deviation": deviation,
        "discriminator/reward_gap": (sample_cost.mean() - demo_cost.mean()).item(),
    }
    return loss, metrics


def gan_gcl_loss(
    reward: torch.nn.Module,
    demonstrations: Batch,
    samples: Batch,
    demo_log_q: Tensor,
    sample_log_q: Tensor,
    spread: float,
    config: RewardConfig,
) -> tuple[Tensor, dict[str, float]]:
    """Regularised loss and health figures; log q (N,) of demonstrations and (M,) of samples."""
    demo_cost = -reward(demonstrations.features, demonstrations.actions)
    sample_cost = -reward(samples.features, samples.actions)
    demo_total = (demo_cost * demonstrations.counted).sum(-1)
    sample_total = (sample_cost * samples.counted).sum(-1)
    loss, metrics = discriminator_loss(demo_total, sample_total, demo_log_q, sample_log_q, spread)
    penalty, shape = shape_penalty(demo_cost, demonstrations.counted, sample_cost, samples.counted, config)
    return loss + penalty, {**metrics, **shape}


class GanGuidedCostLearning(QuadraticCostMethod):
    """The discriminator's step, as a :class:`irl_ros.learning.method.Method`."""

    def __init__(self, problem: Problem):
        super().__init__(problem)
        self._adversarial: AdversarialConfig = problem.config.adversarial
        demos = problem.demonstrations
        noise = 0.5 * problem.n_actions * demos.executed.sum(-1)  # E log q(a + σε) = log q(a) − m/2 in each step
        self._noise = noise if self._adversarial.match_noise else torch.zeros_like(noise)
        self.window = FusionWindow(demos, None, self._config.background_batches)

    def update(
        self, samples: Batch, policy: GaussianPolicy, iteration: int, generator: torch.Generator
    ) -> dict[str, float]:
        """Add the batch that `policy` drew to the window and improve the cost; returns the health figures."""
        self.window.append(samples, policy)
        background, log_q = self.window.background, -self.window.log_z()
        n, spread = len(background), self._adversarial.logit_spread
        demo_log_q = log_q[n:] - self._noise

        def loss(rows: Tensor) -> tuple[Tensor, dict[str, float]]:
            drawn = background[rows]
            return gan_gcl_loss(
                self._reward, self._demonstrations, drawn, demo_log_q, log_q[rows], spread, self._config
            )

        metrics = self._descend(loss, n, iteration, generator)
        self._beta, self._log_z = metrics.get("weights/beta", 1.0), metrics.get("discriminator/log_z", 0.0)
        return metrics

    @torch.no_grad()
    def judge(self, demonstrations: Batch, samples: Batch, policy: GaussianPolicy) -> tuple[Tensor, Tensor]:
        """Tempered logits of whole trajectories, (N,) and (M,), by the last update's β and Z; for health figures."""
        noise = 0.5 * demonstrations.actions.shape[-1] * demonstrations.executed.sum(-1) * self._adversarial.match_noise
        return self._logit(demonstrations) + self._beta * noise, self._logit(samples)

    def _logit(self, batch: Batch) -> Tensor:
        """β (−c − log q − log Z), shape (B,)."""
        total = (self.learned_reward(batch) * batch.counted).sum(-1)
        return self._beta * (total + self.window.log_z_of(batch) - self._log_z)
