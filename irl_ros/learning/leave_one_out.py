"""What the reward makes of a demonstration that it has not seen, where there are too few to hold one out for good.

A method of the same kind learns from all demonstrations but one, on the same rollouts, for one reward step; how far the
one that was left out lies below the others, on the way down to the rollouts, is averaged over a few of them. Where the
demonstrations do not cover the reward's features this shows in the very first iteration, on the clone's rollouts, and
costs about as much as three reward steps.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import torch
from torch import Tensor

from irl_ros.learning.batch import Batch
from irl_ros.learning.method import Method, Problem
from irl_ros.models.policies import GaussianPolicy

FOLDS = 3
"""Demonstrations that are left out, one after the other."""
CLONE_STEPS = 60
"""Of the clones that stand for the demonstrations' density: a rough one will do here, a good one takes seconds."""
TOLD_APART = 0.5
"""Standard deviations of the rollouts' returns that the demonstrations must lie above them: nearer than this a reward
tells neither demonstrations nor the one left out from rollouts, and the share would be noise by noise."""


def return_per_step(reward: Tensor, batch: Batch) -> Tensor:
    """Mean reward over each trajectory's counted steps, shape (B,), from rewards (B, H)."""
    return (reward * batch.counted).sum(-1) / batch.counted.sum(-1).clamp_min(1.0)


class LeaveOneOut:
    """Refits a reward without single demonstrations; `problem` holds all that the reward may see, two at least."""

    def __init__(self, build: Callable[[Problem], Method], problem: Problem):
        clone = dataclasses.replace(problem.config.clone, steps=min(CLONE_STEPS, problem.config.clone.steps))
        self._build = build
        self._problem = problem._replace(config=dataclasses.replace(problem.config, clone=clone))

    def gap(self, samples: Batch, policy: GaussianPolicy) -> float | None:
        """How far down to the rollouts a demonstration lies that was left out: 0 with the others, 1 with the rollouts.

        None where the reward does not tell demonstrations from rollouts at all. `policy` drew the samples.
        """
        order = torch.randperm(len(self._problem.demonstrations), generator=self._generator())
        folds = [self._fold(int(i), samples, policy) for i in order[:FOLDS]]
        below, apart, spread = (sum(parts) / len(folds) for parts in zip(*folds))
        told_apart = math.isfinite(below) and apart > TOLD_APART * spread
        return below / apart if told_apart else None

    def _fold(self, i: int, samples: Batch, policy: GaussianPolicy) -> tuple[float, float, float]:
        """How far demonstration i and the rollouts lie below the others, and the rollouts' standard deviation."""
        demonstrations = self._problem.demonstrations
        others = torch.arange(len(demonstrations)) != i
        problem = self._problem._replace(demonstrations=demonstrations[others], generator=self._generator())
        method = self._build(problem)
        method.update(samples, policy, 0, self._generator())
        with torch.no_grad():
            parts = (demonstrations[others], demonstrations[~others], samples)
            shown, left_out, ours = (return_per_step(method.learned_reward(part), part) for part in parts)
        return float(shown.mean() - left_out.mean()), float(shown.mean() - ours.mean()), float(ours.std())

    def _generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(self._problem.config.seed)
