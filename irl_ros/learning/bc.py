"""Behaviour cloning: maximum likelihood of the demonstrations' actions under a Gaussian policy.

With a fixed σ this is least squares. It is the honest baseline (same inputs, regularised), the start of every other
method, and, fitted leave-one-out, the demonstrations' own density in GCL's fusion weights.
"""

from __future__ import annotations

import torch
from torch import Tensor

from irl_ros.learning.batch import Batch
from irl_ros.learning.config import CloneConfig
from irl_ros.models.policies import GaussianPolicy

MIN_STD = 0.05
MINIBATCH = 1000
"""Rows of a gradient step, drawn anew for each; up to as many are all used in every step."""


def least_squares_loss(policy: GaussianPolicy, inputs: Tensor, actions: Tensor) -> tuple[Tensor, dict[str, float]]:
    """½ E‖a − mean(x)‖²; inputs (N, d_x), actions (N, m)."""
    loss = 0.5 * (policy(inputs) - actions).square().sum(-1).mean()
    return loss, {"bc/loss": loss.item()}


def clone(demonstrations: Batch, config: CloneConfig, generator: torch.Generator) -> GaussianPolicy:
    """A policy fitted to the counted steps of `demonstrations`; its σ is the residuals' root mean square."""
    counted = demonstrations.counted.bool()
    inputs, actions = demonstrations.inputs[:, :-1][counted], demonstrations.actions[counted]
    policy = GaussianPolicy(inputs.shape[-1], actions.shape[-1], generator).to(inputs.device)
    optimiser = torch.optim.AdamW(policy.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.steps)
    for _ in range(config.steps):
        x, a = _minibatch(inputs, actions, generator)
        noise = config.input_noise * torch.randn(x.shape, generator=generator).to(x.device)
        loss, _ = least_squares_loss(policy, x + noise, a)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        residual = (policy(inputs) - actions).square().mean(0).sqrt()
        policy.log_std.copy_(residual.clamp_min(MIN_STD).log())
    return policy


def _minibatch(inputs: Tensor, actions: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    if len(inputs) <= MINIBATCH:
        return inputs, actions
    rows = torch.randint(len(inputs), (MINIBATCH,), generator=generator).to(inputs.device)
    return inputs[rows], actions[rows]
