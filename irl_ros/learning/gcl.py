"""Guided cost learning (Finn, Levine, Abbeel 2016, arXiv 1603.00448).

    L = mean_i c(τ_i) + log 1/M Σ_j z_j exp(−c(τ_j)),   z_j = [1/k Σ_κ q_κ(τ_j)]⁻¹              (eq. 4, section 4.2)

over M background trajectories: the samples of the last policies and the demonstrations, which keep L bounded below.
The mixture holds the policies that drew the samples and one density fitted to the demonstrations, leave-one-out.

Deviations, each measured in docs/architecture.md:
- The weights w_j ∝ z_j exp(−c(τ_j)) are tempered, w_j ∝ (z_j exp(−c(τ_j)))^β, with the largest β ≤ 1 that keeps a
  fraction of the background effective. At β = 1 one trajectory of 50 steps × 7 joints takes all the weight. ESS and
  log Z are reported at β = 1 as well.
- The policy step is model-free (:mod:`irl_ros.learning.policy_step`), unless policy_step.kind asks for fitted local
  dynamics (:mod:`irl_ros.learning.trajectory_step`).
- The cost saturates (:class:`irl_ros.models.rewards.QuadraticReward`).
- Past policies and samples are kept over a window of batches.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from irl_ros.learning.batch import Batch
from irl_ros.learning.config import RewardConfig
from irl_ros.learning.density import DemonstrationDensity
from irl_ros.learning.fusion import FusionWindow, effective_sample_size, weight_figures
from irl_ros.learning.method import Problem
from irl_ros.learning.quadratic_cost import QuadraticCostMethod
from irl_ros.learning.regularisers import local_constant_rate, monotonic
from irl_ros.models.policies import StochasticPolicy

BISECTIONS = 40


class Weights(NamedTuple):
    """Importance weights of the background: normalised w (M,), β, effective sample size."""

    w: Tensor
    beta: float
    effective_sample_size: float


def tempered_weights(log_w: Tensor, fraction: float) -> Weights:
    """softmax(β log w) with the largest β ≤ 1 whose effective sample size is at least fraction · M."""
    target = fraction * len(log_w)
    low, high = 0.0, 1.0
    if effective_sample_size(log_w) >= target:
        low = 1.0
    else:
        for _ in range(BISECTIONS):
            middle = math.sqrt(low * high) if low > 0 else high / 10
            if effective_sample_size(middle * log_w) >= target:
                low = middle
            else:
                high = middle
    return Weights(torch.softmax(low * log_w, 0), low, effective_sample_size(low * log_w))


def ioc_loss(
    demo_cost: Tensor, background_cost: Tensor, log_z: Tensor, fraction: float, weighted: bool = True
) -> tuple[Tensor, Weights]:
    """A loss with the gradient of L: mean_i ∇c(τ_i) − Σ_j w_j ∇c(τ_j), its weights tempered (or equal: an ablation).

    demo_cost (N,), background_cost (M,) (the demonstrations among them), log_z (M,).
    """
    log_w = (log_z - background_cost).detach()
    weights = tempered_weights(log_w if weighted else torch.zeros_like(log_w), fraction)
    return demo_cost.mean() - (weights.w * background_cost).sum(), weights


def gcl_loss(
    reward: torch.nn.Module, demonstrations: Batch, samples: Batch, log_z: Tensor, config: RewardConfig
) -> tuple[Tensor, dict[str, float]]:
    """Loss and health figures; log_z (M,) belongs to samples and then, if they are in the background, demonstrations."""
    demo_cost = -reward(demonstrations.features, demonstrations.actions)
    sample_cost = -reward(samples.features, samples.actions)
    demo_total = (demo_cost * demonstrations.counted).sum(-1)
    sample_total = (sample_cost * samples.counted).sum(-1)
    background = torch.cat([sample_total, demo_total])[: len(log_z)]
    fraction, weighted = config.effective_sample_size, config.importance_weights
    loss, weights = ioc_loss(demo_total, background, log_z, fraction, weighted)
    lcr = 0.5 * (
        local_constant_rate(demo_cost, demonstrations.counted) + local_constant_rate(sample_cost, samples.counted)
    )
    mono = monotonic(demo_cost, demonstrations.counted, config.mono_margin)
    metrics = weight_figures(background, log_z, weights.beta if weighted else 0.0)
    metrics["gcl/reward_gap"] = float(sample_total.detach().mean() - demo_total.detach().mean())
    metrics.update({"gcl/loss": loss.item(), "gcl/lcr": lcr.item(), "gcl/mono": mono.item()})
    return loss + config.lcr * lcr + config.mono * mono, metrics


class GuidedCostLearning(QuadraticCostMethod):
    """GCL's reward step with its background window, as a :class:`irl_ros.learning.method.Method`."""

    def __init__(self, problem: Problem):
        super().__init__(problem)
        density = DemonstrationDensity.fit(problem.demonstrations, problem.config.clone, problem.generator)
        in_background = self._config.demonstrations_in_background
        self.window = FusionWindow(
            problem.demonstrations, density if in_background else None, self._config.background_batches
        )

    def update(
        self, samples: Batch, policy: StochasticPolicy, iteration: int, generator: torch.Generator
    ) -> dict[str, float]:
        """Add the batch that `policy` drew to the background and improve the reward; returns the health figures."""
        self.window.append(samples, policy)
        background, log_z = self.window.background, self.window.log_z()
        n = len(background)
        demos = torch.arange(n, len(log_z) if self._config.demonstrations_in_background else n)

        def loss(rows: Tensor) -> tuple[Tensor, dict[str, float]]:
            some = log_z[torch.cat([rows, demos])]
            return gcl_loss(self._reward, self._demonstrations, background[rows], some, self._config)

        return self._descend(loss, n, iteration, generator)
