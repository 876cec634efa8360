"""GCL's fusion weights (arXiv 1603.00448, section 4.2): a mixture of everything that drew the background samples.

    z_j = [1/k Σ_κ q_κ(τ_j)]⁻¹ over the past policies and the demonstrations' own density, all in log space.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor

from irl_ros.learning.batch import Batch
from irl_ros.learning.density import DemonstrationDensity, trajectory_log_prob
from irl_ros.models.policies import StochasticPolicy


def fusion_log_z(log_q: Tensor) -> Tensor:
    """log z_j = −log 1/k Σ_κ q_κ(τ_j), shape (M,), from log q_κ(τ_j) [nats], shape (k, M)."""
    return math.log(len(log_q)) - torch.logsumexp(log_q, 0)


def log_partition(cost: Tensor, log_z: Tensor) -> Tensor:
    """Importance-sampled log Z = log 1/M Σ_j z_j exp(−c(τ_j)); arguments of shape (M,)."""
    return torch.logsumexp(log_z - cost, 0) - math.log(len(cost))


def effective_sample_size(log_w: Tensor) -> float:
    """(Σw)² / Σw² from unnormalised log-weights, shape (M,)."""
    log_w = log_w - log_w.max()  # far from zero float32 has few digits left
    return float(torch.exp(2 * torch.logsumexp(log_w, 0) - torch.logsumexp(2 * log_w, 0)))


@torch.no_grad()
def weight_figures(cost: Tensor, log_z: Tensor, beta: float) -> dict[str, float]:
    """How the weights (z_j exp(−c(τ_j)))^β stand, and how they would at β = 1; arguments of shape (M,)."""
    log_w = log_z - cost
    return {
        "weights/beta": beta,
        "weights/tempered_effective_sample_size": effective_sample_size(beta * log_w),
        "weights/effective_sample_size": effective_sample_size(log_w),
        "weights/log_z": float(log_partition(cost, log_z)),
        "weights/max_weight": float(torch.softmax(beta * log_w, 0).max()),
        "weights/sd_reward": float(cost.std()),
        "weights/sd_log_z": float(log_z.std()),
    }


class FusionWindow:
    """The last batches of samples with the policies that drew them, and the demonstrations with their density.

    Without a density the mixture is that of the policies alone.
    """

    def __init__(self, demonstrations: Batch, density: DemonstrationDensity | None, size: int):
        self._demonstrations, self._density, self._size = demonstrations, density, size
        self.entries: list[tuple[Batch, StochasticPolicy]] = []

    def append(self, samples: Batch, policy: StochasticPolicy) -> None:
        """Keep `samples` and a copy of the policy that drew them; the oldest ones go."""
        self.entries.append((samples, copy.deepcopy(policy).requires_grad_(False)))
        self.entries = self.entries[-self._size :]

    @property
    def background(self) -> Batch:
        """All samples in the window; the demonstrations come after them in :meth:`log_z`."""
        return Batch.cat([batch for batch, _ in self.entries])

    def log_z(self) -> Tensor:
        """log z_j of the samples, then of the demonstrations, shape (M,)."""
        return fusion_log_z(self.log_q())

    def log_z_of(self, batch: Batch) -> Tensor:
        """log z of trajectories that are not in the window, shape (B,), by the policies alone."""
        return fusion_log_z(torch.stack([trajectory_log_prob(policy, batch) for _, policy in self.entries]))

    def log_q(self) -> Tensor:
        """log q_κ(τ_j), shape (k, M): the window's policies, last the demonstrations' density if there is one."""
        background, demonstrations = self.background, self._demonstrations
        rows = [
            torch.cat([trajectory_log_prob(p, background), trajectory_log_prob(p, demonstrations)])
            for _, p in self.entries
        ]
        if self._density is None:
            return torch.stack(rows)
        of_samples = trajectory_log_prob(self._density.full, background)
        of_demonstrations = self._density.log_prob_demonstrations(demonstrations)
        return torch.stack([*rows, torch.cat([of_samples, of_demonstrations])])
