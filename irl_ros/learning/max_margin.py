"""Maximum-margin feature matching: Abbeel & Ng 2004 in the structured-margin form of Ratliff et al. 2006.

The reward is linear, r(s, a) = ψᵀφ(s, a), and the expert is known by the features that its demonstrations collect,
μ_E,i = Σ_t γ^t φ(s_t, a_t). Of all rewards under which every demonstration beats every policy by its distance, the
smallest is taken (the margin then is the largest):

    min_ψ,ξ ½‖ψ‖² + C Σ_i ξ_i   subject to   ψᵀμ_E,i ≥ max_π [ψᵀμ_i(π) + D_i(π)] − ξ_i,   ξ ≥ 0     (Ratliff, eq. 2)

D_i(π) is the part of the horizon in which π shows other features than demonstration i does at the same time, counted
by how far they are apart, ℓ_i,t(s, a) = min(1, ‖φ(s, a) − φ(s_i,t, a_i,t)‖_∞). It adds up over a trajectory, so the
inner maximum is value iteration on the loss-augmented reward ψᵀφ + ℓ_i,t / Σ_t γ^t, and its maximiser is the
constraint that is violated most. Constraints are generated until none is violated by more than ε.

Then the mixture of policies whose feature expectations are closest to the expert's is found as in Abbeel & Ng,
section 3: λ by a quadratic program, the next policy optimal for w = μ_E − Σ_k λ_k μ_k, until ‖w‖ ≤ ε or none helps.

With slack, a demonstration whose ξ_i ends above 1 is explained worse than by no reward at all (ψ = 0 has ξ_i ≤ 1). The
hinge goes on pulling for it, so it is set aside and the reward is learned again, until the set stays the same: the
ramp loss min(1, ξ_i) by the concave-convex procedure (Collobert, Sinz, Weston, Bottou 2006, "Trading convexity for
scalability").

Deviations:
- The lecture's text maximises ½‖ψ‖²; that is a slip.
- μ_i(π) and the matching start where the demonstrations started, not in the MDP's start distribution: the luck of the
  start is then no difference between expert and policy.
- D counts features, Ratliff's loss states. No reward can put a demonstration above another path of equal features;
  where such paths are far apart, all slack goes into them, and within that slack anything else is allowed.
- Abbeel & Ng leave the choice from the mixture to a person. Here the best member is the one that the learned reward
  values most; of equals the one closest to the expert.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from irl_ros.learning.config import MaxMarginConfig
from irl_ros.learning.margin_programs import (
    MAX_PASSES,
    WORSE_THAN_NO_REWARD,
    Constraint,
    Margin,
    closest_mixture,
    maximum_margin,
)
from irl_ros.learning.mdp import MDP, TabularError
from irl_ros.learning.observer import Observer, SilentObserver
from irl_ros.learning.tabular import TabularDemonstrations, TabularResult, checked_table, one_hot, value_iteration

_EQUAL = 1e-9
_USED = 1e-6
"""Mixture weights below this are the solver's rounding."""


class Member(NamedTuple):
    """A generated policy: its actions (T, S) and its feature expectations (d,) from the demonstrations' starts."""

    greedy: np.ndarray
    features: np.ndarray


class Reward(NamedTuple):
    """What constraint generation ends with; `violation` is the worst of the last round."""

    margin: Margin
    constraints: tuple[Constraint, ...]
    members: tuple[Member, ...]
    violation: float


class Mixture(NamedTuple):
    """Weights λ (K,) over members (K); `error` is ‖Σ_k λ_k μ_k − μ_E‖."""

    weights: np.ndarray
    members: tuple[Member, ...]
    error: float


class Expert:
    """The demonstrations as features in an MDP. Raises TabularError where they or the features do not fit."""

    def __init__(self, mdp: MDP, features: np.ndarray, demonstrations: TabularDemonstrations):
        demonstrations.check(mdp)
        self.mdp, self.features = mdp, checked_table(mdp, "features", features)
        if self.features.ndim != 3:
            raise TabularError(f"features: shape must be (S, A, d), got {self.features.shape}")
        self.demonstrations = demonstrations
        self._states, self._actions = demonstrations.states, demonstrations.actions
        visited = self.features[self._states[:, :-1], self._actions]
        self.each = np.einsum("t,ntd->nd", mdp.discounts, visited)
        """μ_E,i, shape (N, d)."""
        self.mean = self.each.mean(0)
        """μ_E, shape (d,)."""
        self.starts = np.bincount(self._states[:, 0], minlength=mdp.n_states) / len(self._states)
        """Where the demonstrations started, shape (S,)."""

    def subset(self, keep: np.ndarray) -> Expert:
        """Only the demonstrations that `keep`, bool (N,), names."""
        names = tuple(name for name, kept in zip(self.demonstrations.names, keep) if kept)
        some = TabularDemonstrations(self._states[keep], self._actions[keep], names)
        return Expert(self.mdp, self.features, some)

    def loss(self, i: int) -> np.ndarray:
        """ℓ_i,t / Σ_t γ^t, shape (T, S, A): its discounted sum along a trajectory is D_i, within [0, 1]."""
        shown = self.features[self._states[i, :-1], self._actions[i]]
        away = np.stack([np.abs(self.features - phi).max(-1) for phi in shown])
        return np.minimum(away, 1.0) / self.mdp.discounts.sum()

    def start(self, i: int) -> np.ndarray:
        """Demonstration i's start as a distribution, shape (S,)."""
        start = np.zeros(self.mdp.n_states)
        start[self._states[i, 0]] = 1.0
        return start

    def reward(self, psi: np.ndarray) -> np.ndarray:
        """ψᵀφ, shape (S, A)."""
        return self.features @ psi

    def best_policy(self, psi: np.ndarray) -> Member:
        """The policy that is optimal for ψᵀφ."""
        greedy = value_iteration(self.mdp, self.reward(psi))[1]
        visits = discounted_visits(self.mdp, greedy, self.starts)
        return Member(greedy, np.tensordot(visits.sum(0), self.features, 2))

    def slack(self, psi: np.ndarray) -> np.ndarray:
        """ξ_i that every demonstration needs under ψᵀφ, shape (N,)."""
        reward = self.reward(psi)
        hardest = [self.hardest_constraint(i, reward) for i in range(len(self.each))]
        return np.array([max(0.0, c.distance - psi @ c.difference) for c in hardest])

    def hardest_constraint(self, i: int, reward: np.ndarray) -> Constraint:
        """The policy that demonstration i beats by least under `reward` (S, A), given the margin that it owes it."""
        loss = self.loss(i)
        greedy = value_iteration(self.mdp, reward + loss)[1]
        visits = discounted_visits(self.mdp, greedy, self.start(i))
        difference = self.each[i] - np.tensordot(visits.sum(0), self.features, 2)
        return Constraint(i, difference, float((visits * loss).sum()))


def discounted_visits(mdp: MDP, greedy: np.ndarray, start: np.ndarray) -> np.ndarray:
    """γ^t P(s_t = s, a_t = a), shape (T, S, A), of a deterministic policy (T, S) from a start (S,).

    Follows only the states that can be reached: from one start through deterministic dynamics that is one path.
    """
    visits = np.zeros((mdp.horizon, mdp.n_states * mdp.n_actions))
    states = np.flatnonzero(start)
    chance = start[states]
    following = mdp.next_state if mdp.deterministic else None
    for t, discount in enumerate(mdp.discounts):
        actions = greedy[t, states]
        rows = states * mdp.n_actions + actions
        np.add.at(visits[t], rows, discount * chance)
        if following is not None:
            states = following[states, actions]
        else:
            arriving = chance @ mdp.transition[rows]
            states = np.flatnonzero(arriving)
            chance = arriving[states]
    return visits.reshape(mdp.horizon, mdp.n_states, mdp.n_actions)


def margin_reward(expert: Expert, config: MaxMarginConfig, observer: Observer) -> Reward:
    """The margin program by constraint generation. Raises InfeasibleMargin, only without slack."""
    n, d = expert.each.shape
    constraints: list[Constraint] = []
    members: list[Member] = []
    observer.on_phase("margin", config.rounds)
    for done in range(1, config.rounds + 1):
        margin = maximum_margin(constraints, expert.demonstrations.names, d, config.slack)
        members.append(expert.best_policy(margin.psi))
        reward = expert.reward(margin.psi)
        hardest = [expert.hardest_constraint(i, reward) for i in range(n)]
        excess = np.array([c.distance - margin.psi @ c.difference for c in hardest]) - margin.xi
        figures = {"max_margin/violation": float(excess.max()), "max_margin/objective": margin.objective}
        observer.on_progress(done, figures)
        if excess.max() <= config.tolerance or observer.should_stop():
            break
        if done < config.rounds:
            constraints += [c for c, e in zip(hardest, excess) if e > config.tolerance]
    return Reward(margin, tuple(constraints), tuple(members), float(excess.max()))


def robust_reward(expert: Expert, config: MaxMarginConfig, observer: Observer) -> tuple[Expert, Reward]:
    """The demonstrations that the reward explains, and the reward learned from them: the ramp loss."""
    explained = np.ones(len(expert.demonstrations), dtype=bool)
    for _ in range(MAX_PASSES):
        kept = expert.subset(explained)
        reward = margin_reward(kept, config, observer)
        before, explained = explained, expert.slack(reward.margin.psi) <= WORSE_THAN_NO_REWARD
        settled = (explained == before).all()
        if settled or config.slack is None or not config.set_aside or observer.should_stop():
            break
    return kept, reward


def match(expert: Expert, members: tuple[Member, ...], config: MaxMarginConfig, observer: Observer) -> Mixture:
    """The mixture of policies closest to the expert; starts from `members` and generates what it lacks."""
    found = list(members)
    observer.on_phase("matching", config.matching_rounds)
    for done in range(1, config.matching_rounds + 1):
        weights = closest_mixture(np.stack([m.features for m in found]), expert.mean)
        mixed = weights @ np.stack([m.features for m in found])
        w = expert.mean - mixed
        error = float(np.linalg.norm(w))
        observer.on_progress(done, {"max_margin/matching_error": error})
        if error <= config.tolerance or observer.should_stop() or done == config.matching_rounds:
            break
        candidate = expert.best_policy(w)
        if w @ (candidate.features - mixed) <= config.tolerance * error:  # no policy lies nearer the expert
            break
        found.append(candidate)
    return Mixture(weights, tuple(found), error)


def best_member(psi: np.ndarray, members: tuple[Member, ...], expert: Expert) -> Member:
    """The member with the largest ψᵀμ; of equals the closest to the expert, and of these the first."""
    values = np.array([psi @ m.features for m in members])
    distance = np.array([np.linalg.norm(m.features - expert.mean) for m in members])
    beaten = values < values.max() - _EQUAL * (1 + abs(values.max()))
    return members[int(np.where(beaten, np.inf, distance).argmin())]


def learn(
    mdp: MDP,
    features: np.ndarray,
    demonstrations: TabularDemonstrations,
    config: MaxMarginConfig = MaxMarginConfig(),
    generator: np.random.Generator | None = None,
    observer: Observer | None = None,
) -> TabularResult:
    """Reward and policy from features (S, A, d). Nothing here is random: `generator` stays untouched.

    The policy is the best member, deterministic: log_policy holds 0 and −inf. arrays: psi (d,), slack (N,), above 1
    for those set aside, mixture_weights (K,), members (K, T, S) the actions of the mixture's policies, member_features
    (K, d), expert_features (d,) of the demonstrations kept.
    Raises TabularError for demonstrations or features that do not fit, InfeasibleMargin without slack.
    """
    observer = observer or SilentObserver()
    expert = Expert(mdp, features, demonstrations)
    kept, reward = robust_reward(expert, config, observer)
    psi = reward.margin.psi
    # The last member is optimal for the learned reward from every state: of equals it comes first.
    mixture = match(kept, reward.members[::-1], config, observer)
    best = best_member(psi, mixture.members, kept)
    with np.errstate(divide="ignore"):
        log_policy = np.log(one_hot(mdp, best.greedy))
    slack = expert.slack(psi)
    metrics = {
        **_metrics(reward, mixture),
        "max_margin/converged": float(reward.violation <= config.tolerance),
        "max_margin/slack_max": float(slack.max()),
        "max_margin/slack_demonstrations": float((slack > config.tolerance).sum()),
        "max_margin/set_aside": float(len(slack) - len(kept.demonstrations)),
    }
    return TabularResult(expert.reward(psi), log_policy, {"slack": slack, **_arrays(reward, mixture, kept)}, metrics)


def _arrays(reward: Reward, mixture: Mixture, expert: Expert) -> dict[str, np.ndarray]:
    used = np.flatnonzero(mixture.weights > _USED)
    weights = mixture.weights[used]
    return {
        "psi": reward.margin.psi,
        "mixture_weights": weights / weights.sum(),
        "members": np.stack([mixture.members[k].greedy for k in used]),
        "member_features": np.stack([mixture.members[k].features for k in used]),
        "expert_features": expert.mean,
    }


def _metrics(reward: Reward, mixture: Mixture) -> dict[str, float]:
    return {
        "max_margin/violation": reward.violation,
        "max_margin/objective": reward.margin.objective,
        "max_margin/constraints": float(len(reward.constraints)),
        "max_margin/rounds": float(len(reward.members)),
        "max_margin/matching_error": mixture.error,
        "max_margin/members": float((mixture.weights > _USED).sum()),
    }
