"""What the adversarial methods share: single steps as data, the logistic loss, health figures.

Every logit is `expert_is_high`: D = σ(logit) is the probability that a step (or a trajectory) is the expert's, with
demonstrations and samples equally likely beforehand.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from irl_ros.learning.batch import Batch

CALIBRATION_BINS = 10


class Steps(NamedTuple):
    """n steps: features (n, d_φ) of the transition, actions (n, m), policy inputs before and after, (n, d_x).

    executed (n,): 0 in an absorbing state, where no policy acted.
    """

    features: Tensor
    actions: Tensor
    inputs: Tensor
    next_inputs: Tensor
    executed: Tensor

    def __len__(self) -> int:
        return len(self.actions)

    def pick(self, rows: Tensor) -> Steps:
        return Steps(*(part[rows] for part in self))

    @classmethod
    def of(cls, batch: Batch) -> Steps:
        """The steps of `batch` that belong to its trajectories, in order."""
        inputs, following = batch.inputs[:, :-1], batch.inputs[:, 1:]
        parts = (batch.features, batch.actions, inputs, following, batch.executed)
        return cls(*(part[batch.counted.bool()] for part in parts))


def logistic_loss(demo_expert_is_high: Tensor, sample_expert_is_high: Tensor) -> Tensor:
    """E_expert[−log D] + E_samples[−log(1 − D)], D = σ(logit); logits (N,) and (M,), each side counts one."""
    return softplus(-demo_expert_is_high).mean() + softplus(sample_expert_is_high).mean()


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


def minibatch(steps: Steps, size: int, generator: torch.Generator) -> Tensor:
    """At most `size` different rows of `steps`."""
    return torch.randperm(len(steps), generator=generator)[:size]
