"""What the adversarial methods share: the logistic loss and its health figures.

Every logit is `expert_is_high`: D = σ(logit) is the probability that a step (or a trajectory) is the expert's, with
demonstrations and samples equally likely beforehand.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus

from irl_ros.learning.batch import Batch

CALIBRATION_BINS = 10


def counted(values: Tensor, batch: Batch) -> Tensor:
    """Of values (B, H) those of steps that belong to a trajectory, shape (n,)."""
    return values[batch.counted.bool()]


def logistic_loss(
    demo_expert_is_high: Tensor,
    sample_expert_is_high: Tensor,
    demo_weight: Tensor | None = None,
    sample_weight: Tensor | None = None,
) -> Tensor:
    """E_expert[−log D] + E_samples[−log(1 − D)], D = σ(logit); logits (N,) and (M,), each side counts one.

    The weights, of the logits' shapes, are probabilities: with exact occupancies the expectations are exact.
    """
    return _mean(softplus(-demo_expert_is_high), demo_weight) + _mean(softplus(sample_expert_is_high), sample_weight)


def _mean(x: Tensor, weight: Tensor | None) -> Tensor:
    return x.mean() if weight is None else (weight * x).sum()


@torch.no_grad()
def health(demo_expert_is_high: Tensor, sample_expert_is_high: Tensor) -> dict[str, float]:
    """Accuracy on either side, calibration error, mean logits apart, from logits (N,) and (M,)."""
    return {
        "discriminator/accuracy_demonstrations": (demo_expert_is_high > 0).float().mean().item(),
        "discriminator/accuracy_samples": (sample_expert_is_high < 0).float().mean().item(),
        "discriminator/calibration_error": calibration_error(demo_expert_is_high, sample_expert_is_high),
        "discriminator/logit_gap": (demo_expert_is_high.mean() - sample_expert_is_high.mean()).item(),
    }


@torch.no_grad()
def calibration_error(demo_expert_is_high: Tensor, sample_expert_is_high: Tensor) -> float:
    """Expected calibration error of D: Σ_bins P(bin) |share of experts − mean D| over equal bins, sides weighted alike."""
    logit = torch.cat([demo_expert_is_high, sample_expert_is_high]).double()
    n, m = len(demo_expert_is_high), len(sample_expert_is_high)
    expert = torch.cat([torch.ones(n), torch.zeros(m)]).to(logit)
    weight = torch.cat([torch.full((n,), 0.5 / n), torch.full((m,), 0.5 / m)]).to(logit)
    D = torch.sigmoid(logit)
    bins = (D * CALIBRATION_BINS).long().clamp_max(CALIBRATION_BINS - 1)
    excess = torch.zeros(CALIBRATION_BINS).to(logit).index_add_(0, bins, weight * (expert - D))
    return excess.abs().sum().item()
