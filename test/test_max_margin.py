"""Maximum margin: programs solved by hand, margins against every trajectory, matched features, wrong demonstrations."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from small_mdps import grid, random_mdp, trajectories

from irl_ros.learning.config import ConfigError
from irl_ros.learning.margin_programs import Constraint, InfeasibleMargin, closest_mixture, maximum_margin
from irl_ros.learning.max_margin import Expert, MaxMarginConfig, best_member, discounted_visits, learn, margin_reward
from irl_ros.learning.mdp import MDP
from irl_ros.learning.observer import SilentObserver
from irl_ros.learning.tabular import (
    TabularDemonstrations,
    TabularError,
    feature_expectations,
    next_states,
    occupancies,
    one_hot,
    sample,
    value_iteration,
    visits,
)

HARD, SOFT = MaxMarginConfig(slack=None), MaxMarginConfig(slack=1.0)


def state_features(mdp: MDP) -> np.ndarray:
    return np.repeat(np.eye(mdp.n_states)[:, None], mdp.n_actions, axis=1)


def true_reward(mdp: MDP, rng: np.random.Generator) -> np.ndarray:
    """A goal in the last corner, costs in as many cells as the grid is wide."""
    reward = np.zeros((mdp.n_states, mdp.n_actions))
    reward[-1] = 1.0
    reward[rng.choice(mdp.n_states - 1, round(mdp.n_states**0.5), replace=False)] = -1.0
    return reward


def follow(mdp: MDP, greedy: np.ndarray, starts: np.ndarray, rng: np.random.Generator) -> TabularDemonstrations:
    """One demonstration of a deterministic policy (T, S) from each of `starts`."""
    states, actions = [np.asarray(starts)], []
    for t in range(mdp.horizon):
        actions.append(greedy[t, states[-1]])
        states.append(next_states(mdp, states[-1], actions[-1], rng))
    return TabularDemonstrations(np.stack(states, 1), np.stack(actions, 1))


def value(mdp: MDP, policy: np.ndarray, reward: np.ndarray) -> float:
    return float((visits(mdp, occupancies(mdp, policy)) * reward).sum())


def expert_world(side: int, horizon: int, seed: int, n: int = 30):
    """A gridworld, its true reward, its optimal policy (T, S) and that policy's demonstrations from `n` starts."""
    rng = np.random.default_rng(seed)
    mdp = grid(side, horizon, start=None)
    reward = true_reward(mdp, rng)
    greedy = value_iteration(mdp, reward)[1]
    starts = rng.permutation(mdp.n_states)[: min(n, mdp.n_states)]
    return mdp, reward, greedy, follow(mdp, greedy, starts, rng)


def corrupted(mdp: MDP, demonstrations: TabularDemonstrations, part: float, seed: int) -> TabularDemonstrations:
    """The last `part` of the demonstrations replaced by trajectories of random actions."""
    n = round(part * len(demonstrations))
    uniform = np.full((mdp.horizon, mdp.n_states, mdp.n_actions), 1 / mdp.n_actions)
    wrong = sample(mdp, uniform, n, np.random.default_rng(seed))
    states = np.concatenate([demonstrations.states[:-n], wrong.states])
    return TabularDemonstrations(states, np.concatenate([demonstrations.actions[:-n], wrong.actions]))


# ── the programs, solved by hand ──────────────────────────────────────────────────────────────────────────────────────

TWO = (Constraint(0, np.array([1.0, 0.0]), 2.0), Constraint(1, np.array([1.0, 1.0]), 3.0))


def test_hard_margin_of_two_constraints():
    """ψ₁ ≥ 2, ψ₁ + ψ₂ ≥ 3: both bind, with multipliers (1, 1)."""
    margin = maximum_margin(TWO, ("a", "b"), 2, None)
    assert np.allclose(margin.psi, [2, 1], atol=1e-7)
    assert np.array_equal(margin.xi, [0, 0])
    assert margin.objective == pytest.approx(2.5, abs=1e-6)


def test_soft_margin_of_two_constraints():
    """With C = ½ both multipliers stop at ½: ψ = ½ (1, 0) + ½ (1, 1), and the slack is what is left."""
    margin = maximum_margin(TWO, ("a", "b"), 2, 0.5)
    assert np.allclose(margin.psi, [1, 0.5], atol=1e-7)
    assert np.allclose(margin.xi, [1, 1.5], atol=1e-7)
    assert margin.objective == pytest.approx(0.625 + 1.25, abs=1e-6)


def test_slack_belongs_to_a_demonstration_not_to_a_constraint():
    """ψ ≥ 1 and ψ ≥ 3 of one demonstration share one ξ: with C = ½, ψ = ½ and ξ = 2.5."""
    twice = (Constraint(0, np.array([1.0]), 1.0), Constraint(0, np.array([1.0]), 3.0))
    margin = maximum_margin(twice, ("a",), 1, 0.5)
    assert margin.psi == pytest.approx(0.5, abs=1e-7)
    assert margin.xi == pytest.approx(2.5, abs=1e-7)


def test_contradiction_is_told_in_words():
    against = (*TWO, Constraint(2, np.array([-1.0, 0.0]), 1.0))
    with pytest.raises(InfeasibleMargin, match=r"no linear reward of the 2 features.*worst first: liar\. Use slack") as e:
        maximum_margin(against, ("a", "b", "liar"), 2, None)
    assert e.value.conflicts == (2,)
    assert maximum_margin(against, ("a", "b", "liar"), 2, 1.0).xi[2] > 1


def test_closest_mixture_inside_and_outside_the_hull():
    members = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert np.allclose(closest_mixture(members, np.array([0.25, 0.25])), [0.5, 0.25, 0.25], atol=1e-4)
    assert np.allclose(closest_mixture(members, np.array([1.0, 1.0])), [0, 0.5, 0.5], atol=1e-4)


# ── margins against every trajectory ──────────────────────────────────────────────────────────────────────────────────


def every_constraint(expert: Expert, mdp: MDP, demonstrations: TabularDemonstrations) -> list[Constraint]:
    """One constraint per demonstration and trajectory from its start, D counted by hand; state features."""
    found = []
    for states, actions, _ in trajectories(mdp):
        phi = mdp.discounts @ expert.features[list(states[:-1]), list(actions)]
        for i in np.flatnonzero(demonstrations.states[:, 0] == states[0]):
            elsewhere = [s != shown for s, shown in zip(states[:-1], demonstrations.states[i])]
            distance = mdp.discounts @ elsewhere / mdp.discounts.sum()
            found.append(Constraint(int(i), expert.each[i] - phi, float(distance)))
    return found


@pytest.mark.parametrize(("config", "wrong"), [(HARD, 0.0), (SOFT, 0.0), (SOFT, 0.4), (MaxMarginConfig(slack=0.02), 0.4)])
def test_generated_constraints_solve_the_program_over_all_trajectories(config, wrong):
    mdp, _, _, demonstrations = expert_world(3, 5, seed=0, n=5)
    if wrong:
        demonstrations = corrupted(mdp, demonstrations, wrong, seed=1)
    expert = Expert(mdp, state_features(mdp), demonstrations)
    config = dataclasses.replace(config, tolerance=1e-7)
    reward = margin_reward(expert, config, SilentObserver())
    everything = every_constraint(expert, mdp, demonstrations)
    psi, xi = reward.margin.psi, reward.margin.xi
    worst = max(c.distance - psi @ c.difference - xi[c.demonstration] for c in everything)
    assert worst <= 1e-6
    full = maximum_margin(everything, demonstrations.names, mdp.n_states, config.slack)
    assert reward.margin.objective == pytest.approx(full.objective, rel=1e-5, abs=1e-7)
    assert np.allclose(psi, full.psi, atol=1e-3)


@pytest.mark.parametrize("slip", [0.0, 0.2])
def test_features_and_distance_of_a_constraint_are_those_of_its_policy(slip):
    mdp = dataclasses.replace(grid(3, 6, slip, start=None), discount=0.9)
    rng = np.random.default_rng(0)
    demonstrations = follow(mdp, value_iteration(mdp, true_reward(mdp, rng))[1], np.arange(4), rng)
    expert = Expert(mdp, rng.normal(size=(mdp.n_states, mdp.n_actions, 3)), demonstrations)
    reward = expert.reward(rng.normal(size=3))
    constraint = expert.hardest_constraint(2, reward)
    from_start = dataclasses.replace(mdp, initial=expert.start(2))
    greedy = value_iteration(mdp, reward + expert.loss(2))[1]
    mu = occupancies(from_start, one_hot(mdp, greedy)) * mdp.discounts[:, None, None]
    assert np.allclose(discounted_visits(mdp, greedy, from_start.initial), mu, atol=1e-12)
    assert np.allclose(constraint.difference, expert.each[2] - feature_expectations(expert.features, mu.sum(0)))
    assert constraint.distance == pytest.approx((mu * expert.loss(2)).sum())
    assert 0 <= constraint.distance <= 1
    best = (mu * (reward + expert.loss(2))).sum()
    assert best == pytest.approx(value_iteration(mdp, reward + expert.loss(2))[0][0, demonstrations.states[2, 0]])


def test_the_distance_is_that_of_the_features_at_the_same_time():
    """Nothing where the reward sees no difference, by how much where it sees one, at most one step's share."""
    mdp, _, _, demonstrations = expert_world(3, 5, seed=0, n=2)
    seen = np.eye(mdp.n_states * mdp.n_actions).reshape(mdp.n_states, mdp.n_actions, -1)
    state, action = demonstrations.states[0, 0], demonstrations.actions[0, 0]
    by_pair, by_state, faint, strong = (
        Expert(mdp, f, demonstrations).loss(0)[0]
        for f in (seen, state_features(mdp), 0.3 * state_features(mdp), 7 * state_features(mdp))
    )
    assert by_pair[state, action] == 0 and np.count_nonzero(by_pair == 1 / mdp.horizon) == by_pair.size - 1
    elsewhere = np.arange(mdp.n_states) != state
    assert (by_state[state] == 0).all() and (by_state[elsewhere] == 1 / mdp.horizon).all()
    assert np.allclose(faint, 0.3 * by_state) and np.array_equal(strong, by_state)


def test_equally_good_paths_take_no_slack():
    """A goal 8 moves away and 4 of 12 steps left at it: whoever misses k of these has D = k / 12, so ψ = 1 / 12."""
    mdp, at_goal = grid(5, 12), np.arange(25) == 24
    along, across = [0] * 4 + [2] * 4 + [0] * 4, [2] * 4 + [0] * 4 + [0] * 4
    states = [[0, 5, 10, 15, 20, 21, 22, 23, *[24] * 5], [0, 1, 2, 3, 4, 9, 14, 19, *[24] * 5]]
    demonstrations = TabularDemonstrations(states, [along, across])
    features = np.repeat(at_goal[:, None, None].astype(float), mdp.n_actions, axis=1)
    result = learn(mdp, features, demonstrations, HARD)
    assert result.arrays["psi"] == pytest.approx([1 / 12], abs=1e-6)
    assert np.argmax(result.reward.max(axis=1)) == 24


# ── an exact expert ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("side", "horizon", "seed"), [(5, 12, 0), (5, 12, 1), (5, 12, 2), (8, 20, 0)])
def test_exact_expert_is_matched_and_every_constraint_holds(side, horizon, seed):
    mdp, reward, greedy, demonstrations = expert_world(side, horizon, seed)
    features = state_features(mdp)
    result = learn(mdp, features, demonstrations, HARD, np.random.default_rng(0))
    weights, members = result.arrays["mixture_weights"], result.arrays["members"]
    assert weights.min() >= 0 and weights.sum() == pytest.approx(1)
    starts = np.bincount(demonstrations.states[:, 0], minlength=mdp.n_states) / len(demonstrations)
    there = dataclasses.replace(mdp, initial=starts)
    mixed = sum(w * visits(there, occupancies(there, one_hot(mdp, m))) for w, m in zip(weights, members))
    expert = feature_expectations(features, demonstrations.occupancy(mdp))
    assert np.linalg.norm(feature_expectations(features, mixed) - expert) < 1e-3
    assert value(there, np.exp(result.log_policy), reward) == pytest.approx(value(there, one_hot(mdp, greedy), reward))

    generated = margin_reward(Expert(mdp, features, demonstrations), HARD, SilentObserver())
    assert generated.violation <= HARD.tolerance
    psi = generated.margin.psi
    assert min(psi @ c.difference - c.distance for c in generated.constraints) > -1e-7
    assert np.array_equal(psi, result.arrays["psi"])


@pytest.mark.parametrize(("side", "horizon", "seed"), [*((5, 12, seed) for seed in range(4)), (7, 16, 0)])
def test_slack_survives_a_fifth_of_wrong_demonstrations_and_the_hard_margin_names_some(side, horizon, seed):
    mdp, reward, greedy, clean = expert_world(side, horizon, seed)
    demonstrations = corrupted(mdp, clean, 0.2, seed)
    wrong = set(range(len(clean) - round(0.2 * len(clean)), len(clean)))
    features = state_features(mdp)
    assert learn(mdp, features, clean, HARD).metrics["max_margin/slack_max"] <= HARD.tolerance

    with pytest.raises(InfeasibleMargin, match="hard margin is infeasible.*Use slack") as error:
        learn(mdp, features, demonstrations, HARD)
    assert wrong & set(error.value.conflicts)

    result = learn(mdp, features, demonstrations, SOFT)
    attained, expert = value(mdp, np.exp(result.log_policy), reward), value(mdp, one_hot(mdp, greedy), reward)
    assert expert > 0 and attained >= 0.98 * expert
    set_aside = set(np.flatnonzero(result.arrays["slack"] > 1))
    assert set_aside <= wrong and len(set_aside) >= len(wrong) - 1
    assert result.metrics["max_margin/set_aside"] == len(set_aside)


def test_setting_aside_can_be_switched_off_and_then_all_demonstrations_are_matched():
    mdp, _, _, clean = expert_world(5, 12, seed=0)
    demonstrations = corrupted(mdp, clean, 0.2, seed=0)
    features = state_features(mdp)
    hinge = learn(mdp, features, demonstrations, MaxMarginConfig(slack=1.0, set_aside=False))
    assert hinge.metrics["max_margin/set_aside"] == 0
    assert np.allclose(hinge.arrays["expert_features"], demonstrations.occupancy(mdp).sum(1))
    kept = hinge.arrays["slack"] <= 1
    assert not kept.all() and hinge.arrays["slack"].mean() <= 1
    ramp = learn(mdp, features, demonstrations, SOFT)
    of_kept = TabularDemonstrations(clean.states[:20], clean.actions[:20]).occupancy(mdp).sum(1)
    assert np.allclose(ramp.arrays["expert_features"], of_kept)


def test_mixture_matches_an_expert_that_no_single_policy_matches():
    mdp = grid(4, 8, start=0)
    uniform = np.full((mdp.horizon, mdp.n_states, mdp.n_actions), 1 / mdp.n_actions)
    demonstrations = sample(mdp, uniform, 12, np.random.default_rng(0))
    result = learn(mdp, state_features(mdp), demonstrations, SOFT)
    assert result.metrics["max_margin/matching_error"] < 1e-3
    distance = np.linalg.norm(result.arrays["member_features"] - result.arrays["expert_features"], axis=1)
    assert distance.min() > 0.5
    mixed = result.arrays["mixture_weights"] @ result.arrays["member_features"]
    assert np.allclose(mixed, result.arrays["expert_features"], atol=1e-3)


def test_best_member_is_the_one_that_the_learned_reward_values_most():
    mdp, _, _, demonstrations = expert_world(4, 8, seed=0)
    expert = Expert(mdp, state_features(mdp), demonstrations)
    members = tuple(expert.best_policy(psi) for psi in np.random.default_rng(0).normal(size=(5, mdp.n_states)))
    assert best_member(members[3].features - members[1].features, members[1:4:2], expert) is members[3]
    nearest = min(members, key=lambda m: np.linalg.norm(m.features - expert.mean))
    assert best_member(np.zeros(mdp.n_states), members, expert) is nearest


def test_stochastic_dynamics_with_slack():
    rng = np.random.default_rng(0)
    mdp = grid(4, 8, slip=0.2, start=None)
    reward = true_reward(mdp, rng)
    greedy = value_iteration(mdp, reward)[1]
    demonstrations = follow(mdp, greedy, np.tile(np.arange(mdp.n_states), 2), rng)
    result = learn(mdp, state_features(mdp), demonstrations, SOFT)
    assert result.metrics["max_margin/converged"] == 1
    assert value(mdp, np.exp(result.log_policy), reward) > 0.9 * value(mdp, one_hot(mdp, greedy), reward)


# ── observers, repetition, refusals ───────────────────────────────────────────────────────────────────────────────────


class Recorder(SilentObserver):
    def __init__(self, stop_after: int | None = None):
        self.phases, self.progress, self._stop_after = [], [], stop_after

    def on_phase(self, name, total):
        self.phases.append((name, total))

    def on_progress(self, done, metrics):
        self.progress.append((self.phases[-1][0], done, metrics))

    def should_stop(self):
        return self._stop_after is not None and len(self.progress) >= self._stop_after


def test_observer_sees_both_phases_and_can_stop():
    mdp, _, _, demonstrations = expert_world(5, 12, seed=0)
    watched = Recorder()
    result = learn(mdp, state_features(mdp), demonstrations, SOFT, observer=watched)
    assert watched.phases == [("margin", SOFT.rounds), ("matching", SOFT.matching_rounds)]
    margin = [(done, m) for phase, done, m in watched.progress if phase == "margin"]
    assert [done for done, _ in margin] == list(range(1, len(margin) + 1))
    assert margin[0][1]["max_margin/violation"] > margin[-1][1]["max_margin/violation"]
    assert len(margin) == result.metrics["max_margin/rounds"]

    stopped = learn(mdp, state_features(mdp), demonstrations, SOFT, observer=Recorder(stop_after=2))
    assert stopped.metrics["max_margin/rounds"] == 2
    assert stopped.metrics["max_margin/converged"] == 0


def test_same_figures_every_time():
    mdp, _, _, demonstrations = expert_world(5, 12, seed=3)
    first, second = (learn(mdp, state_features(mdp), demonstrations, SOFT, np.random.default_rng(k)) for k in range(2))
    assert first.metrics == second.metrics
    assert np.array_equal(first.log_policy, second.log_policy)
    assert first.log_policy.shape == (mdp.horizon, mdp.n_states, mdp.n_actions)
    assert np.allclose(np.exp(first.log_policy).sum(-1), 1)


def test_refusals_name_what_is_wrong():
    mdp = random_mdp(0, deterministic=True)
    demonstrations = sample(mdp, np.full((3, 3, 2), 0.5), 2, np.random.default_rng(0))
    features = state_features(mdp)
    with pytest.raises(TabularError, match="features: non-finite"):
        learn(mdp, np.full_like(features, np.nan), demonstrations)
    with pytest.raises(TabularError, match=r"features: shape must be \(S, A, d\)"):
        learn(mdp, features[..., 0], demonstrations)
    with pytest.raises(TabularError, match="leaves the state space"):
        learn(mdp, features, TabularDemonstrations(demonstrations.states + 7, demonstrations.actions))
    with pytest.raises(ConfigError, match="slack must be positive"):
        MaxMarginConfig(slack=0.0)
    with pytest.raises(ConfigError, match="rounds"):
        MaxMarginConfig(rounds=0)
