"""Maximum-margin feature matching where dynamics are unknown: the policy step in place of value iteration.

The programs are those of :mod:`irl_ros.learning.max_margin`: a linear reward r(o, a, o′) = ψᵀφ(o, a, o′),

    min_ψ,ξ ½‖ψ‖² + C Σ_i ξ_i   subject to   ψᵀμ_E,i ≥ ψᵀμ_i(π_k) + D(π_k) − ξ_i for every policy π_k so far, ξ ≥ 0

(Ratliff, Bagnell, Zinkevich 2006, eq. 2), and the mixture Σ_k λ_k μ(π_k) nearest to μ_E (Abbeel & Ng 2004, section 3).
After some policy steps on ψᵀφ the policy becomes π_k, its rollouts give the next constraints, and ψ is learned again.

μ is the mean of φ over an episode's steps times the horizon. Deviations from value iteration's form:
- π_k is a few KL-bounded steps further up ψᵀφ and its entropy, not the maximum of ψᵀφ + D: its constraint is a violated
  one, not the most violated. Waiting until the policy step gains no more leaves 20,000 env steps with two of them.
- Rollouts do not start where demonstrations did. μ_i(π_k), from demonstration i's start, is read off a ridge
  regression of the rollouts' μ on the features of their first steps; without it the luck of the starts, which no policy
  can change, would be larger than what tells a good policy from the expert.
- D(π_k) is soft: the mean over π_k's steps of 1 − exp(−½ δ²), δ the distance of φ to the nearest demonstrated one, in
  units of the demonstrations' spread; less what one demonstration shows against the others, for other starts alone make
  that difference. A policy that goes where demonstrations go owes no margin: else the noise of its features, divided by
  itself, would outweigh every real difference.
- The best member is the one whose feature expectations lie nearest to the expert's. By ψᵀμ it would be the one that
  the expert beats by least in the direction of ψ alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from irl_ros.learning.batch import Batch
from irl_ros.learning.config import MaxMarginConfig
from irl_ros.learning.fusion import FusionWindow
from irl_ros.learning.margin_programs import Constraint, closest_mixture, robust_margin
from irl_ros.learning.method import Problem
from irl_ros.models.policies import GaussianPolicy
from irl_ros.models.rewards import LinearReward

MOST_MEMBERS = 100
"""Policies kept, with the rollouts that they were judged by; older ones go."""
MIN_RELATIVE_SPREAD = 0.05
"""Of the largest feature's spread: one that hardly varies in the demonstrations must not make up all of D."""

MOST_USUAL = 0.9
"""Of D's range, what the demonstrations' own differences may take: from unlike demonstrations there is D still."""


class Member(NamedTuple):
    """What is known of a policy: feature expectations from each demonstration's start (N, d), and D."""

    features: np.ndarray
    distance: float


class Expert:
    """The demonstrations' features: `each` μ_E,i (N, d), `mean` μ_E (d,), `starts` φ of their first steps (N, d)."""

    def __init__(self, demonstrations: Batch):
        self.each, self.starts = trajectory_features(demonstrations), first_features(demonstrations)
        self.mean = self.each.mean(0)
        self._shown = demonstrations.features[demonstrations.counted.bool()]
        spread = self._shown.std(0, correction=0)
        self._spread = spread.clamp_min(MIN_RELATIVE_SPREAD * float(spread.max()) + 1e-12)
        self._usual = _usual_distance(demonstrations, self._spread)

    def judge(self, samples: Batch) -> Member:
        """The policy that drew `samples`."""
        features = from_starts(trajectory_features(samples), first_features(samples), self.starts)
        return Member(features, self.distance(samples))

    def distance(self, samples: Batch) -> float:
        """D, in [0, 1]."""
        each = [unlike(one[counted], self._shown, self._spread) for one, counted in _trajectories(samples)]
        return max(0.0, float(np.mean(each)) - self._usual) / (1.0 - self._usual)

    def constraints(self, member: Member) -> list[Constraint]:
        """One for each demonstration."""
        return [Constraint(i, d, member.distance) for i, d in enumerate(self.each - member.features)]


def unlike(visited: Tensor, shown: Tensor, spread: Tensor) -> float:
    """Mean over visited φ (n, d) of 1 − exp(−½ δ²), δ the distance to the nearest of shown (m, d), per spread (d,)."""
    away = torch.cdist(visited / spread, shown / spread).min(-1).values
    return float((1 - (-0.5 * away.square()).exp()).mean())


def _usual_distance(demonstrations: Batch, spread: Tensor) -> float:
    """How unlike the others a demonstration is, on average; 0 for a single one."""
    shown = [features[counted] for features, counted in _trajectories(demonstrations)]
    others = [torch.cat(shown[:i] + shown[i + 1 :]) for i in range(len(shown))] if len(shown) > 1 else []
    each = [unlike(one, rest, spread) for one, rest in zip(shown, others)]
    return min(float(np.mean(each)), MOST_USUAL) if each else 0.0


def _trajectories(batch: Batch) -> Iterable[tuple[Tensor, Tensor]]:
    """φ (H, d) of each trajectory and which of its steps count (H,)."""
    return zip(batch.features, batch.counted.bool())


def trajectory_features(batch: Batch) -> np.ndarray:
    """H times the mean of φ over each trajectory's counted steps, shape (B, d): a shorter one weighs as much."""
    horizon, counted = batch.counted.shape[1], batch.counted[..., None]
    mean = (batch.features * counted).sum(1) / counted.sum(1).clamp_min(1.0)
    return (horizon * mean).double().cpu().numpy()


def first_features(batch: Batch) -> np.ndarray:
    """φ of each trajectory's first step, shape (B, d)."""
    return batch.features[:, 0].double().cpu().numpy()


def from_starts(values: np.ndarray, starts: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """`values` (B, d) of trajectories from `starts` (B, d), as expected from starts `wanted` (N, d): shape (N, d).

    Ridge regression, as strong as d trajectories.
    """
    d, centred = starts.shape[1], starts - starts.mean(0)
    gram = centred.T @ centred
    ridge = d * np.trace(gram) / (d * len(starts)) + 1e-12
    slope = np.linalg.solve(gram + ridge * np.eye(d), centred.T @ (values - values.mean(0)))
    return values.mean(0) + (wanted - starts.mean(0)) @ slope


class SampledMaxMargin:
    """Margin programs with policy steps between them, as a :class:`irl_ros.learning.method.Method`."""

    reward_holds_entropy = False

    def __init__(self, problem: Problem):
        self._config: MaxMarginConfig = problem.config.max_margin
        self._expert = Expert(problem.demonstrations)
        self._names = tuple(f"demonstration {i}" for i in range(len(problem.demonstrations)))
        self._reward = LinearReward(problem.n_features).to(problem.demonstrations.inputs.device)
        self.networks = {"reward": self._reward}
        self.optimisers: dict[str, torch.optim.Optimizer] = {}
        self.window = FusionWindow(problem.demonstrations, None, MOST_MEMBERS)
        self._members: list[Member] = []

    def update(
        self, samples: Batch, policy: GaussianPolicy, iteration: int, generator: torch.Generator
    ) -> dict[str, float]:
        """The margin program, of `policy` as a member, after so many policy steps; returns the health figures."""
        now = self._expert.judge(samples)
        if iteration % self._config.policy_steps == 0:
            self._members = [*self._known(), now][-MOST_MEMBERS:]
            self.window.append(samples, policy)
            self._solve()
        return self._figures(now)

    def _solve(self) -> None:
        """ψ of the constraints of all members."""
        constraints = [c for member in self._known() for c in self._expert.constraints(member)]
        margin = robust_margin(constraints, self._names, len(self._expert.mean), self._config)
        self._reward.psi.copy_(torch.as_tensor(margin.psi))

    def _known(self) -> list[Member]:
        """The window's policies, judged; a resumed run has the window alone."""
        if len(self._members) != len(self.window.entries):
            self._members = [self._expert.judge(samples) for samples, _ in self.window.entries]
        return self._members

    def _figures(self, now: Member) -> dict[str, float]:
        members, expert, psi = self._known(), self._expert, self._reward.psi.double().cpu().numpy()
        ahead = np.array([psi @ (expert.mean - m.features.mean(0)) for m in members])
        needed = np.array([m.distance - (expert.each - m.features) @ psi for m in members]).max(0)
        slack = np.maximum(needed, 0.0)
        return {
            "max_margin/margin": float(ahead.min() / (np.linalg.norm(psi) + 1e-12)),
            "max_margin/slack_max": float(slack.max()),
            "max_margin/slack_mean": float(slack.mean()),
            "max_margin/policy_distance": now.distance,
            "max_margin/feature_distance": float(np.linalg.norm(expert.mean - now.features.mean(0))),
            "max_margin/matching_error": float(np.linalg.norm(expert.mean - self._mixture() @ self._means())),
            "max_margin/members": float(len(members)),
        }

    def _means(self) -> np.ndarray:
        """μ(π_k), shape (K, d)."""
        return np.stack([member.features.mean(0) for member in self._known()])

    def _mixture(self) -> np.ndarray:
        """λ, shape (K,)."""
        return closest_mixture(self._means(), self._expert.mean)

    @property
    def best(self) -> int:
        """Which member's feature expectations lie nearest to the expert's."""
        return int(np.linalg.norm(self._means() - self._expert.mean, axis=1).argmin())

    def chosen_policy(self) -> GaussianPolicy:
        """The best member."""
        return self.window.entries[self.best][1]

    def policy_reward(self, samples: Batch, policy: GaussianPolicy) -> Tensor:
        """The policy step adds the entropy."""
        return self.learned_reward(samples)

    def learned_reward(self, batch: Batch) -> Tensor:
        return self._reward(batch.features, batch.actions)

    def reward_arrays(self) -> dict[str, np.ndarray]:
        """ψ, the mixture's weights λ (K,) and features (K, d), and as `members.<k>.…` its policies' own arrays."""
        arrays = {**self._reward.arrays(), "mixture.weights": self._mixture(), "mixture.features": self._means()}
        arrays["expert.features"] = self._expert.mean
        for k, (_, policy) in enumerate(self.window.entries):
            arrays.update({f"members.{k}.{name}": value for name, value in policy.arrays().items()})
        return arrays
