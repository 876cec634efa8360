"""The learning loop without an env, on batches made of random numbers: for tests of health."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from irl_ros.learning.batch import Batch
from irl_ros.learning.config import AdversarialConfig, CloneConfig, PolicyStepConfig, RewardConfig, TrainConfig
from irl_ros.learning.health import Monitor, split
from irl_ros.learning.leave_one_out import LeaveOneOut
from irl_ros.learning.method import Problem
from irl_ros.learning.methods import ALTERNATING
from irl_ros.learning.policy_step import PolicyStep
from irl_ros.models.policies import GaussianPolicy, ValueFunction

N_INPUTS, N_FEATURES, N_ACTIONS, HORIZON = 3, 2, 2, 12


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(n: int, seed: int, shift: float = 0.0, features: int = N_FEATURES, actions: float = 0.5) -> Batch:
    """Random trajectories with features about `shift` and actions of that size."""
    g, ones = generator(seed), torch.ones(n, HORIZON)
    return Batch(
        torch.randn(n, HORIZON + 1, N_INPUTS, generator=g),
        shift + torch.randn(n, HORIZON, features, generator=g),
        actions * torch.randn(n, HORIZON, N_ACTIONS, generator=g),
        ones.clone(),
        ones,
    )


def changed(batch: Batch, **parts: torch.Tensor) -> Batch:
    """The same batch but for these parts."""
    return Batch(**{**dict(zip(Batch._fields, batch)), **parts})


def same(shift: float = 1.0, n: int = 8, **more) -> Callable[[int], Batch]:
    return lambda k: batch(n, 100 + k, shift, **more)


def run(
    demonstrations: Batch,
    samples: Callable[[int], Batch],
    iterations: int = 8,
    method: str = "gcl",
    held_out: int | None = None,
    clone: int = 20,
    step: PolicyStepConfig | None = None,
    std: float = 1.0,
    left_out: bool = False,
    adversarial: AdversarialConfig = AdversarialConfig(),
    **reward,
) -> Monitor:
    """The learning loop without an env: `samples(k)` stand for the rollouts of the k-th iteration.

    With `step` the policy learns too; with `left_out` the reward is learned without single demonstrations as well.
    """
    config = TrainConfig(
        clone=CloneConfig(steps=clone), reward=RewardConfig(**reward), adversarial=adversarial, method=method
    )
    parts = split(demonstrations, held_out, generator(9))
    problem = Problem(parts.shown, config, 0.9, generator())
    learner, policy = ALTERNATING[method](problem), GaussianPolicy(N_INPUTS, N_ACTIONS, generator(1))
    monitor = Monitor(parts, LeaveOneOut(ALTERNATING[method], problem) if left_out else None)
    torch.nn.init.constant_(policy.log_std, float(np.log(std)))
    improver = PolicyStep(policy, ValueFunction(N_INPUTS, generator(2)), step) if step else None
    for k in range(iterations):
        drawn = samples(k)
        metrics = learner.update(drawn, policy, k, generator(k))
        if improver is not None:
            with torch.no_grad():
                reward_ = learner.policy_reward(drawn, policy)
            metrics.update(improver.improve(drawn, reward_, k == 0, generator(k)))
        monitor.observe(learner, drawn, policy, metrics)
    return monitor
