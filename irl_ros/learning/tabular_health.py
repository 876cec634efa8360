"""Health of a training on a table, judged at its end by :data:`irl_ros.learning.checks.TABULAR_CHECKS`.

Where the dynamics are known everything is exact and nothing needs a sample. Returns are compared from one start each:
the regret of a demonstration is how far it lies below the best policy from where it started, in units of what the best
policy is above a uniformly random one; summed over the demonstrations, so that starts at the goal weigh nothing.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from irl_ros.learning.mdp import MDP
from irl_ros.learning.tabular import (
    TabularDemonstrations,
    TabularResult,
    feature_expectations,
    occupancies,
    value_iteration,
    visits,
)


def figures(
    mdp: MDP,
    features: np.ndarray,
    shown: TabularDemonstrations,
    held_out: TabularDemonstrations | None,
    result: TabularResult,
) -> dict[str, float]:
    """Of what was learned from `shown`; features (S, A, d). Never of a true reward."""
    starts = np.bincount(shown.states[:, 0], minlength=mdp.n_states) / len(shown)
    mu = occupancies(dataclasses.replace(mdp, initial=starts), np.exp(result.log_policy))
    missed = shown.occupancy(mdp) - visits(mdp, mu)
    unlike = regret(mdp, result.reward, shown)
    found = {"health/reward_gap": float((result.reward * missed).sum()), "health/regret": unlike}
    if "members" in result.arrays:
        found.update(_of_margin(result, len(shown)))
    else:
        found["health/entropy_share"] = entropy_share(mu, result.log_policy)
        found["health/feature_gap"] = float(np.abs(feature_expectations(features, missed)).max())
    if held_out is not None:
        found["health/overfit_gap"] = regret(mdp, result.reward, held_out) - unlike
    found["health/feature_gap"] /= float(mdp.discounts.sum())
    return found


def regret(mdp: MDP, reward: np.ndarray, demonstrations: TabularDemonstrations) -> float:
    """By `reward` (S, A): 0 where demonstrations are as good as the best policy, 1 where they are as good as random."""
    starts = demonstrations.states[:, 0]
    best = value_iteration(mdp, reward)[0][0][starts]
    random = uniform_value(mdp, reward)[starts]
    earned = reward[demonstrations.states[:, :-1], demonstrations.actions] @ mdp.discounts
    return float((best - earned).sum() / max((best - random).sum(), 1e-12))


def uniform_value(mdp: MDP, reward: np.ndarray) -> np.ndarray:
    """What a uniformly random policy earns from each start, shape (S,)."""
    value = np.zeros(mdp.n_states)
    for _ in range(mdp.horizon):
        value = (reward + mdp.discount * (mdp.transition @ value).reshape(reward.shape)).mean(1)
    return value


def entropy_share(mu: np.ndarray, log_policy: np.ndarray) -> float:
    """The policy's mean entropy where it goes, as a share of a uniform policy's; μ and log π of shape (T, S, A)."""
    entropy = -(mu * np.maximum(log_policy, -1e9)).sum() / mu.sum()
    return float(entropy / np.log(log_policy.shape[-1]))


def _of_margin(result: TabularResult, n: int) -> dict[str, float]:
    """The margin is 1 / ‖ψ‖; its mixture, not its best member, is what matches the demonstrations."""
    norm = float(np.linalg.norm(result.arrays["psi"]))
    return {
        "max_margin/norm": norm,
        "max_margin/margin": 1.0 / max(norm, 1e-12),
        "health/set_aside": result.metrics["max_margin/set_aside"] / n,
        "health/feature_gap": result.metrics["max_margin/matching_error"],
    }
