"""Densities of trajectories under policies, and the demonstrations' own, fitted leave-one-out."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from irl_ros.learning.batch import Batch
from irl_ros.learning.bc import MIN_STD, clone
from irl_ros.learning.config import CloneConfig
from irl_ros.models.policies import GaussianPolicy, StochasticPolicy


MOST_FOLDS = 5
"""Up to as many demonstrations each is left out alone; of more, every fifth together: fifty clones take minutes."""


class DemonstrationDensity(NamedTuple):
    """Clones as densities: `full` for samples, `held_out[i]`, fitted without demonstration i, for demonstration i."""

    full: GaussianPolicy
    held_out: tuple[GaussianPolicy, ...]

    @classmethod
    def fit(cls, demonstrations: Batch, config: CloneConfig, generator: torch.Generator) -> DemonstrationDensity:
        """Leave-one-out (see MOST_FOLDS): σ is the held-out residuals' root mean square, so that no demonstration vouches for itself."""
        n = len(demonstrations)
        full = clone(demonstrations, config, generator)
        if n == 1:
            return cls(full, (full,))
        fold = torch.arange(n) % MOST_FOLDS
        fits = [clone(demonstrations[fold != k], config, generator) for k in range(min(n, MOST_FOLDS))]
        held_out = tuple(fits[k] for k in fold)
        residuals = [
            (p(demonstrations.inputs[i, :-1]) - demonstrations.actions[i])[demonstrations.counted[i].bool()]
            for i, p in enumerate(held_out)
        ]
        with torch.no_grad():
            log_std = torch.cat(residuals).square().mean(0).sqrt().clamp_min(MIN_STD).log()
            for policy in (full, *held_out):
                policy.log_std.copy_(log_std)
        return cls(full, held_out)

    def log_prob_demonstrations(self, demonstrations: Batch) -> Tensor:
        """log q_demo(τ_i) under the fit without i, shape (N,)."""
        rows = [trajectory_log_prob(p, demonstrations[i : i + 1]) for i, p in enumerate(self.held_out)]
        return torch.cat(rows)


@torch.no_grad()
def trajectory_log_prob(policy: StochasticPolicy, batch: Batch) -> Tensor:
    """Σ_t log π(a_t | o_t) over the steps where a policy acted [nats], shape (B,); the dynamics cancel in ratios."""
    return (policy.log_prob(batch.inputs[:, :-1], batch.actions) * batch.executed).sum(-1)
