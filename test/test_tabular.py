"""Messages, occupancies and values of finite MDPs against the enumeration of every trajectory; refusals in words."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from scipy import sparse
from small_mdps import grid, random_mdp, trajectories

from irl_ros.learning.tabular import (
    MDP,
    TabularDemonstrations,
    TabularError,
    feature_expectations,
    occupancies,
    one_hot,
    plain_backward,
    plain_forward,
    sample,
    soft_backward,
    soft_forward,
    soft_policy,
    value_iteration,
    visits,
)

SMALL = [dict(seed=s, deterministic=d) for s in range(3) for d in (False, True)]


def random_reward(mdp: MDP, seed: int = 0, scale: float = 1.5) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, scale, (mdp.n_states, mdp.n_actions))


def total(table: np.ndarray, states, actions) -> float:
    return sum(table[s, a] for s, a in zip(states, actions))


# ── plain form: log Z, visitation and posterior policy, from every trajectory's p(τ) exp r(τ) ──────────────────────────


@pytest.mark.parametrize("case", SMALL)
def test_plain_messages_are_the_enumerated_posterior(case):
    mdp = random_mdp(**case)
    reward = random_reward(mdp)
    Z = np.zeros(mdp.n_states)
    for states, actions, chance in trajectories(mdp):
        Z[states[0]] += chance / mdp.initial[states[0]] * np.exp(total(reward, states, actions))
    mu = np.zeros((mdp.horizon, mdp.n_states, mdp.n_actions))
    for states, actions, chance in trajectories(mdp):
        weight = chance * np.exp(total(reward, states, actions)) / Z[states[0]]
        for t, (s, a) in enumerate(zip(states, actions)):
            mu[t, s, a] += weight
    log_beta, log_policy = plain_backward(mdp, reward)
    assert np.allclose(log_beta[0], np.log(Z), rtol=0, atol=1e-9)
    found = plain_forward(mdp, log_beta, log_policy)
    assert np.allclose(found, mu, rtol=0, atol=1e-9)
    reached = mu.sum(2, keepdims=True) > 1e-12
    assert np.allclose(np.where(reached, found.sum(2, keepdims=True) * np.exp(log_policy), 0), mu, rtol=0, atol=1e-9)


# ── causal form: soft value and visitation, from every trajectory under π ──────────────────────────────────────────────


@pytest.mark.parametrize("discount", [1.0, 0.8])
@pytest.mark.parametrize("case", SMALL)
def test_causal_messages_are_the_enumeration_under_the_policy(case, discount):
    mdp = dataclasses.replace(random_mdp(**case), discount=discount)
    reward = random_reward(mdp)
    V, log_policy = soft_backward(mdp, reward)
    value, mu = 0.0, np.zeros_like(log_policy)
    for states, actions, chance in trajectories(mdp):
        steps = list(enumerate(zip(states, actions)))
        probability = chance * np.exp(sum(log_policy[t, s, a] for t, (s, a) in steps))
        value += probability * sum(discount**t * (reward[s, a] - log_policy[t, s, a]) for t, (s, a) in steps)
        for t, (s, a) in steps:
            mu[t, s, a] += probability
    assert np.allclose(np.exp(log_policy).sum(2), 1, rtol=0, atol=1e-12)
    assert all(np.allclose(*pair, rtol=0, atol=1e-12) for pair in zip(soft_policy(mdp, reward), (V, np.exp(log_policy))))
    assert mdp.initial @ V[0] == pytest.approx(value, abs=1e-9)
    assert np.allclose(soft_forward(mdp, log_policy), mu, rtol=0, atol=1e-9)


@pytest.mark.parametrize("discount", [1.0, 0.8])
def test_no_policy_has_more_reward_and_entropy_than_the_soft_optimal_one(discount):
    mdp = dataclasses.replace(random_mdp(4), discount=discount)
    reward, rng = random_reward(mdp), np.random.default_rng(1)
    V, log_policy = soft_backward(mdp, reward)
    for scale in (1e-3, 0.1, 1.0):
        other = log_policy + scale * rng.normal(size=log_policy.shape)
        other -= np.log(np.exp(other).sum(2, keepdims=True))
        mu = soft_forward(mdp, other)
        gain = np.tensordot(mdp.discounts, (mu * (reward - other)).sum((1, 2)), 1)
        assert gain < mdp.initial @ V[0]


def test_the_forms_agree_where_dynamics_are_deterministic():
    mdp = grid(4, 9)
    reward = random_reward(mdp)
    (V, policy), (log_beta, plain) = soft_backward(mdp, reward), plain_backward(mdp, reward)
    assert np.allclose(V, log_beta, rtol=0, atol=1e-12) and np.allclose(policy, plain, rtol=0, atol=1e-12)


def test_gather_and_sparse_dynamics_give_the_same_messages():
    """A stochastic description of the same dynamics: one outcome in two states that behave alike."""
    mdp = grid(3, 6)
    n, half = mdp.n_states, 0.5 * mdp.transition
    twin = sparse.block_array([[half, half], [half, half]]).tocsr()
    doubled = MDP(twin, np.concatenate([mdp.initial, np.zeros(n)]), mdp.horizon)
    reward = random_reward(mdp)
    V, policy = soft_backward(mdp, reward)
    V2, policy2 = soft_backward(doubled, np.tile(reward, (2, 1)))
    mu, mu2 = soft_forward(mdp, policy), soft_forward(doubled, policy2)
    assert mdp.deterministic and not doubled.deterministic
    assert np.allclose(V2[:, :n], V, rtol=0, atol=1e-12)
    assert np.allclose(mu2[:, :n] + mu2[:, n:], mu, rtol=0, atol=1e-12)


@pytest.mark.parametrize("backward", [soft_backward, plain_backward])
def test_messages_stay_finite_far_from_zero(backward):
    mdp = grid(3, 6, slip=0.2)
    reward = 1e5 * random_reward(mdp)
    value, log_policy = backward(mdp, reward)
    mu = soft_forward(mdp, log_policy) if backward is soft_backward else plain_forward(mdp, value, log_policy)
    assert np.isfinite(value).all() and np.isfinite(log_policy).all()
    assert np.allclose(mu.sum((1, 2)), 1, rtol=0, atol=1e-9)


def test_the_plain_form_knows_no_discount():
    mdp = dataclasses.replace(random_mdp(0), discount=0.9)
    with pytest.raises(TabularError, match="no discount"):
        plain_backward(mdp, random_reward(mdp))


# ── hard values, occupancies, samples ─────────────────────────────────────────────────────────────────────────────────


def test_value_iteration_beats_every_deterministic_policy():
    mdp = dataclasses.replace(random_mdp(2, horizon=2), discount=0.9)
    reward = random_reward(mdp)
    V, greedy = value_iteration(mdp, reward)
    returns = [
        (visits(mdp, occupancies(mdp, one_hot(mdp, np.reshape(choice, (2, 3))))) * reward).sum()
        for choice in itertools.product(range(2), repeat=6)
    ]
    own = (visits(mdp, occupancies(mdp, one_hot(mdp, greedy))) * reward).sum()
    assert own == pytest.approx(max(returns), abs=1e-12)
    assert mdp.initial @ V[0] == pytest.approx(own, abs=1e-12)


def test_samples_follow_policy_and_dynamics():
    mdp = dataclasses.replace(random_mdp(5), discount=0.9)
    _, log_policy = soft_backward(mdp, random_reward(mdp))
    drawn = sample(mdp, np.exp(log_policy), 40_000, np.random.default_rng(0))
    drawn.check(mdp)
    assert np.allclose(drawn.occupancy(mdp), visits(mdp, soft_forward(mdp, log_policy)), atol=0.02)


def test_feature_expectations_by_hand():
    mdp = MDP.from_next_state(np.array([[0, 1], [1, 0]]), np.array([1.0, 0.0]), horizon=2, discount=0.5)
    shown = TabularDemonstrations([[0, 1, 1], [0, 0, 0]], [[1, 0], [0, 0]])
    features = np.arange(8.0).reshape(2, 2, 2)
    # φ(0,1) + ½ φ(1,0) = (2, 3) + (2, 2.5); φ(0,0) + ½ φ(0,0) = (0, 1) + (0, 0.5)
    assert np.allclose(feature_expectations(features, shown.occupancy(mdp)), [2.0, 3.5])


# ── refusals ──────────────────────────────────────────────────────────────────────────────────────────────────────────

LINE = MDP.from_next_state(np.array([[0, 1], [0, 2], [1, 2]]), np.array([0.5, 0.5, 0.0]), horizon=2)


@pytest.mark.parametrize(
    "states, actions, message",
    [
        ([[0, 1, 2], [0, 1, 3]], [[1, 1], [1, 1]], r"demonstration ep_b: leaves the state space at t = 2: state 3"),
        ([[0, 1, 2], [0, 1, 2]], [[1, 1], [1, 2]], r"demonstration ep_b: leaves the action space at t = 1: action 2"),
        ([[0, 1, 2], [0, 2, 2]], [[1, 1], [1, 1]], r"demonstration ep_b: impossible move at t = 0: action 1 never"),
        ([[0, 1, 2], [2, 2, 2]], [[1, 1], [1, 1]], r"demonstration ep_b: starts in state 2"),
        ([[0, 1, 2], [0, np.nan, 2]], [[1, 1], [1, 1]], r"demonstration ep_b: states\[1\] is nan"),
        ([[0, 1, 2], [0, 0.5, 2]], [[1, 1], [1, 1]], r"demonstration ep_b: states\[1\] is 0.5"),
        ([[0, 1], [0, 1]], [[1], [1]], "1 actions, the MDP's horizon is 2"),
    ],
)
def test_demonstrations_that_cannot_have_happened_are_named(states, actions, message):
    with pytest.raises(TabularError, match=message):
        TabularDemonstrations(np.array(states), np.array(actions), names=("ep_a", "ep_b")).check(LINE)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"transition": 0.9 * LINE.transition}, "state 0, action 0: its sum is 0.9"),
        ({"transition": LINE.transition * np.nan}, "state 0, action 0"),
        ({"transition": LINE.transition[:4]}, r"shape \(S·A, S\)"),
        ({"initial": np.array([1.0, 1.0, 0.0])}, "initial must hold probabilities"),
        ({"initial": np.array([1.0, 0.0])}, "initial must have shape"),
        ({"horizon": 0}, "horizon must be at least 1"),
        ({"discount": 1.5}, "discount"),
    ],
)
def test_an_mdp_that_is_none_is_refused(change, message):
    with pytest.raises(TabularError, match=message):
        dataclasses.replace(LINE, **change)


def test_tables_that_do_not_fit_are_refused():
    with pytest.raises(TabularError, match=r"must begin with \(3, 2\)"):
        soft_backward(LINE, np.zeros((2, 3)))
    with pytest.raises(TabularError, match="non-finite at state 1, action 0"):
        value_iteration(LINE, np.array([[0, 0], [np.nan, 0], [0, 0]]))
    with pytest.raises(TabularError, match="needs states"):
        TabularDemonstrations(np.zeros((2, 3), int), np.zeros((2, 3), int))
    with pytest.raises(TabularError, match="stochastic"):
        random_mdp(0).next_state
