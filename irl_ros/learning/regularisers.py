"""Regularisers of a trajectory's costs (Finn, Levine, Abbeel 2016, arXiv 1603.00448, section 5.3)."""

from __future__ import annotations

import torch
from torch import Tensor

from irl_ros.learning.config import RewardConfig

def local_constant_rate(cost: Tensor, counted: Tensor) -> Tensor:
    """Σ_t [(c_{t+1} − c_t) − (c_t − c_{t−1})]², mean over trajectories; cost and counted (B, H)."""
    second = cost[:, 2:] - 2 * cost[:, 1:-1] + cost[:, :-2]
    return (second.square() * counted[:, 2:]).sum(-1).mean()


def monotonic(cost: Tensor, counted: Tensor, margin: float) -> Tensor:
    """Σ_t max(0, c_t − c_{t−1} − margin)², mean over demonstrations; cost and counted (N, H)."""
    rise = torch.relu(cost[:, 1:] - cost[:, :-1] - margin)
    return (rise.square() * counted[:, 1:]).sum(-1).mean()


def shape_penalty(
    demo_cost: Tensor, demo_counted: Tensor, sample_cost: Tensor, sample_counted: Tensor, config: RewardConfig
) -> tuple[Tensor, dict[str, float]]:
    """Both regularisers, weighted, and their values; costs and counted of shapes (N, H) and (M, H)."""
    lcr = 0.5 * (local_constant_rate(demo_cost, demo_counted) + local_constant_rate(sample_cost, sample_counted))
    mono = monotonic(demo_cost, demo_counted, config.mono_margin)
    return config.lcr * lcr + config.mono * mono, {"regulariser/lcr": lcr.item(), "regulariser/mono": mono.item()}
