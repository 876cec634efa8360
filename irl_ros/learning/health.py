"""The figures that :mod:`irl_ros.learning.diagnostics` judges: measured on batches, without any true reward.

Held-out demonstrations are shown to the clone and to the policy's likeness, but never to the reward. With fewer than
six demonstrations every one of them is needed; then nothing is held out unless asked for, and the reward is learned
without single ones instead, once, for comparison (:mod:`irl_ros.learning.leave_one_out`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from irl_ros.learning.batch import Batch
from irl_ros.learning.config import ConfigError
from irl_ros.learning.diagnostics import Health
from irl_ros.learning.discriminator import calibration_error
from irl_ros.learning.leave_one_out import TOLD_APART, LeaveOneOut, return_per_step
from irl_ros.learning.method import Method
from irl_ros.models.policies import GaussianPolicy

FEWEST_TO_SPLIT = 6
ENDING = 5
"""The last steps of an episode: how it ends."""
SMOOTHED = 3
"""Iterations of a running mean: one batch of stochastic rollouts says little."""
PATIENCE = 5
"""Iterations without progress after which a training has converged."""
PROGRESS = 0.1
"""Relative improvement of the smoothed end distance that counts as progress."""
CLOSED = 0.5
"""Share of the largest reward gap that may remain in a converged training."""
MIN_RELATIVE_SCALE = 0.05
ACCURACIES = ("discriminator/accuracy_demonstrations", "discriminator/accuracy_samples")


@runtime_checkable
class Discriminator(Protocol):
    """A method that can say how much a step, or a trajectory, looks like a demonstration."""

    def judge(self, demonstrations: Batch, samples: Batch, policy: GaussianPolicy) -> tuple[Tensor, Tensor]:
        """log D − log(1 − D) of demonstrations, shape (n,), and of samples, (m,): of single steps or of trajectories.

        Above zero: rather a demonstration.
        """


class Split(NamedTuple):
    """Demonstrations that the reward sees, and those held out (none of them: an empty batch)."""

    shown: Batch
    held_out: Batch


def choose(n: int, held_out: int | None, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Indices of n demonstrations: those shown, those held out; `held_out` of them, None: one in six. ConfigError."""
    if held_out is not None and not 0 <= held_out < n:
        raise ConfigError(f"held_out is {held_out}: of {n} demonstrations, 0 to {n - 1} can be held out")
    count = n // FEWEST_TO_SPLIT if held_out is None else held_out
    order = torch.randperm(n, generator=generator) if count else torch.arange(n)
    return order[count:].sort().values, order[:count].sort().values


def split(demonstrations: Batch, held_out: int | None, generator: torch.Generator) -> Split:
    """Hold out `held_out` demonstrations, None: one in six. ConfigError when none would be left."""
    shown, kept = choose(len(demonstrations), held_out, generator)
    return Split(demonstrations[shown], demonstrations[kept])


def endings(values: Tensor, batch: Batch) -> Tensor:
    """Of each trajectory's last steps: `values` (B, H, …) → (B, ENDING or fewer, …)."""
    last = batch.counted.sum(-1).long().clamp_min(1) - 1
    steps = torch.arange(min(ENDING, values.shape[1]), device=last.device)
    rows = (last[:, None] - steps).clamp_min(0)
    return values[torch.arange(len(batch), device=last.device)[:, None], rows]


def lead(theirs: Tensor, ours: Tensor) -> float:
    """By how many standard deviations of ours (M,) the mean of theirs (N,) lies above that of ours."""
    return float(theirs.mean() - ours.mean()) / (float(ours.std()) + 1e-8)


def end_distance(samples: Batch, demonstrations: Batch) -> float:
    """How far rollouts end from how demonstrations end: mean distance of a rollout's last features to the nearest ones.

    In units of the features' spread over the demonstrations.
    """
    spread = demonstrations.features[demonstrations.counted.bool()].std(0, correction=0)
    scale = spread.clamp_min(MIN_RELATIVE_SCALE * float(spread.max()) + 1e-12)
    ours, theirs = (endings(batch.features, batch) / scale for batch in (samples, demonstrations))
    theirs = theirs.flatten(0, 1)
    return float(torch.cdist(ours, theirs.expand(len(ours), -1, -1)).min(-1).values.mean())


class Course:
    """How reward gap and end distance went over the iterations."""

    def __init__(self) -> None:
        self.gaps: list[float] = []
        self.ends: list[float] = []

    def add(self, gap: float, end_distance: float) -> None:
        """Another iteration's; a diverged one leaves no trace, the check of finite figures tells of it."""
        if math.isfinite(gap) and math.isfinite(end_distance):
            self.gaps.append(gap)
            self.ends.append(end_distance)

    @property
    def gap_remaining(self) -> float:
        """The smoothed gap as a share of its maximum so far."""
        smooth = running_mean(self.gaps)
        return smooth[-1] / max(max(smooth), 1e-8) if smooth else 1.0

    @property
    def end_drift(self) -> float:
        """The smoothed end distance in multiples of its minimum so far."""
        smooth = running_mean(self.ends)
        return smooth[-1] / max(min(smooth), 1e-8) if smooth else 1.0

    @property
    def converged(self) -> bool:
        """The smoothed end distance has not improved for PATIENCE iterations, and the reward gap has closed."""
        ends = running_mean(self.ends)
        if len(ends) < PATIENCE + SMOOTHED + 1 or self.gap_remaining > CLOSED:
            return False
        return min(ends[-PATIENCE:]) > (1 - PROGRESS) * min(ends[:-PATIENCE])


class Gauge:
    """Measures every iteration; what it remembers of earlier ones is JSON (:meth:`state`)."""

    def __init__(self, demonstrations: Split, leave_one_out: LeaveOneOut | None = None):
        self._demonstrations, self._leave_one_out = demonstrations, leave_one_out
        self._left_out: dict[str, float] = {}
        self._first_std: float | None = None
        self.course = Course()

    @torch.no_grad()
    def measure(
        self,
        method: Method,
        samples: Batch,
        policy: GaussianPolicy,
        metrics: Mapping[str, float],
    ) -> dict[str, float]:
        """Figures after an iteration; `metrics` are the method's own and the policy step's."""
        shown = self._demonstrations.shown
        rewards = [(method.learned_reward(batch), batch) for batch in (shown, samples)]
        theirs, ours = (return_per_step(*pair) for pair in rewards)
        gap = float(theirs.mean() - ours.mean())
        figures = {
            "health/reward_gap": gap,
            "health/gap_in_deviations": lead(theirs, ours),
            "health/end_gap_in_deviations": lead(*(endings(*pair).mean(-1) for pair in rewards)),
            "health/early_ends": float((samples.executed.sum(-1) < samples.counted.sum(-1)).float().mean()),
            "health/demonstration_length": float(shown.counted.mean()),
            "health/end_distance": end_distance(samples, shown),
        }
        figures["health/lead"] = max(figures["health/gap_in_deviations"], figures["health/end_gap_in_deviations"])
        if self._leave_one_out is not None:
            self._left_out, self._leave_one_out = self._of_left_out(samples, policy), None
        figures.update(self._left_out)
        self.course.add(gap, figures["health/end_distance"])
        figures["health/gap_remaining"] = self.course.gap_remaining
        figures["health/end_drift"] = self.course.end_drift
        if len(held_out := self._demonstrations.held_out):
            apart = gap if figures["health/gap_in_deviations"] > TOLD_APART else None
            figures.update(self._of_held_out(method, samples, policy, held_out, theirs, apart))
        return {**figures, **self._of_metrics(metrics, policy)}

    def _of_left_out(self, samples: Batch, policy: GaussianPolicy) -> dict[str, float]:
        """In the first iteration, where `policy` still is the one that drew the samples."""
        with torch.enable_grad():
            gap = self._leave_one_out.gap(samples, policy)
        return {} if gap is None else {"health/leave_one_out_gap": gap}

    def _of_held_out(
        self, method: Method, samples: Batch, policy: GaussianPolicy, held_out: Batch, shown: Tensor, gap: float | None
    ) -> dict[str, float]:
        """`shown` (N,): the return per step of the demonstrations that the reward saw, `gap` above that of rollouts; None
        where they lie too near for a share of it to say anything.
        """
        figures = {}
        if gap is not None:
            unseen = return_per_step(method.learned_reward(held_out), held_out)
            figures["health/overfit_gap"] = float(shown.mean() - unseen.mean()) / gap
        if isinstance(method, Discriminator):
            logits = method.judge(held_out, samples, policy)
            figures["health/held_out_accuracy"] = float((logits[0] > 0).float().mean())
            figures["health/held_out_calibration_error"] = calibration_error(*logits)
        return figures

    def _of_metrics(self, metrics: Mapping[str, float], policy: GaussianPolicy) -> dict[str, float]:
        figures = {}
        spread = [next((v for k, v in metrics.items() if k.endswith(f"/{n}")), None) for n in ("sd_reward", "sd_log_z")]
        if None not in spread:
            figures["health/reward_share"] = spread[0] ** 2 / (spread[0] ** 2 + spread[1] ** 2 + 1e-12)
        accuracies = [metrics[k] for k in ACCURACIES if k in metrics]
        if accuracies:
            figures["health/discriminator_accuracy"] = sum(accuracies) / len(accuracies)
        if "policy/std" in metrics:
            self._first_std = self._first_std or metrics["policy/std"]
            figures["health/std_growth"] = metrics["policy/std"] / self._first_std
            figures["health/entropy_per_action"] = metrics["policy/entropy"] / len(policy.log_std)
        return figures

    def state(self) -> dict[str, Any]:
        """For :meth:`restore`; JSON."""
        left_out = None if self._leave_one_out is not None else self._left_out  # None: still to be measured
        return {"first_std": self._first_std, "left_out": left_out, "gaps": self.course.gaps, "ends": self.course.ends}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state` gave."""
        self._first_std = state["first_std"]
        if state["left_out"] is not None:
            self._left_out, self._leave_one_out = dict(state["left_out"]), None
        self.course.gaps, self.course.ends = list(state["gaps"]), list(state["ends"])


class Monitor:
    """A training's health: measures each iteration, judges it, and says when learning has converged."""

    def __init__(self, demonstrations: Split, leave_one_out: LeaveOneOut | None = None):
        self._gauge, self.health = Gauge(demonstrations, leave_one_out), Health()

    def observe(
        self, method: Method, samples: Batch, policy: GaussianPolicy, metrics: Mapping[str, float]
    ) -> dict[str, float]:
        """The iteration's health figures, of what the method has just learned from `samples`."""
        figures = self._gauge.measure(method, samples, policy, metrics)
        self.health.observe({**metrics, **figures})
        return figures

    @property
    def converged(self) -> bool:
        """Rollouts no longer come to end more like demonstrations, and the reward gap has closed as far as it will."""
        return self._gauge.course.converged

    def state(self) -> dict[str, Any]:
        """For :meth:`restore`; JSON."""
        return {"gauge": self._gauge.state(), "health": self.health.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state` gave."""
        self._gauge.restore(state["gauge"])
        self.health.restore(state["health"])


def running_mean(values: list[float], width: int = SMOOTHED) -> list[float]:
    """Means over the last `width` values or as many as there are, one per value."""
    parts = [values[max(0, k - width + 1) : k + 1] for k in range(len(values))]
    return [sum(part) / len(part) for part in parts]
