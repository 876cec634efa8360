"""Maximum-entropy IRL: likelihood and gradient from enumeration, matched features, the greatest entropy, refusals."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from small_mdps import grid, random_mdp, trajectories

from irl_ros.learning.config import ConfigError
from irl_ros.learning.maxent import MaxEntConfig, NetworkReward, learn, likelihood, network_loss, posterior
from irl_ros.learning.mdp import MDP
from irl_ros.learning.observer import SilentObserver
from irl_ros.learning.tabular import (
    TabularDemonstrations,
    TabularError,
    feature_expectations,
    occupancies,
    sample,
    soft_backward,
    soft_forward,
    visits,
)


def random_features(mdp: MDP, d: int = 2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(mdp.n_states, mdp.n_actions, d))


def expert_demonstrations(mdp: MDP, reward: np.ndarray, n: int = 40, seed: int = 0) -> TabularDemonstrations:
    _, log_policy = soft_backward(mdp, reward)
    return sample(mdp, np.exp(log_policy), n, np.random.default_rng(seed))


# ── the plain form is the likelihood of trajectories ──────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("seed", [0, 1])
def test_plain_likelihood_and_gradient_are_the_enumerated_ones(seed, deterministic):
    mdp = random_mdp(seed, deterministic=deterministic)
    features, theta = random_features(mdp), np.array([0.7, -1.2])
    expert = np.array([0.3, 0.9])
    Z, expected = np.zeros(mdp.n_states), np.zeros((mdp.n_states, 2))
    for states, actions, chance in trajectories(mdp):
        phi = features[list(states[:-1]), list(actions)].sum(0)
        weight = chance / mdp.initial[states[0]] * np.exp(theta @ phi)
        Z[states[0]] += weight
        expected[states[0]] += weight * phi
    value, gradient = likelihood(theta, mdp, features, expert, "plain")
    assert theta @ expert - value == pytest.approx(mdp.initial @ np.log(Z), abs=1e-9)
    assert np.allclose(gradient, expert - mdp.initial @ (expected / Z[:, None]), rtol=0, atol=1e-9)


def test_likelihood_is_that_of_the_demonstrations_actions_where_dynamics_are_deterministic():
    mdp = grid(3, 5, start=None)
    features = random_features(mdp, 3)
    shown = expert_demonstrations(mdp, features @ np.array([1.0, -1.0, 0.5]))
    result = learn(mdp, features, shown, MaxEntConfig(iterations=5))
    steps = np.arange(mdp.horizon)
    log_probability = result.log_policy[steps, shown.states[:, :-1], shown.actions].sum(1).mean()
    assert result.metrics["maxent/log_likelihood"] == pytest.approx(log_probability, abs=1e-9)


@pytest.mark.parametrize("form, discount", [("causal", 1.0), ("causal", 0.8), ("plain", 1.0)])
def test_gradient_of_the_linear_reward_by_finite_differences(form, discount):
    mdp = dataclasses.replace(random_mdp(3, n_states=5, n_actions=3, horizon=6), discount=discount)
    features, theta, expert = random_features(mdp, 4), np.array([0.5, -1.0, 0.2, 0.8]), np.ones(4)
    gradient = likelihood(theta, mdp, features, expert, form)[1]
    for k, step in enumerate(1e-5 * np.eye(4)):
        above, below = (likelihood(theta + sign * step, mdp, features, expert, form)[0] for sign in (1, -1))
        assert gradient[k] == pytest.approx((above - below) / 2e-5, abs=1e-7)


@pytest.mark.parametrize("form", ["causal", "plain"])
def test_gradient_of_the_neural_reward_by_finite_differences(form):
    mdp = random_mdp(3, n_states=5, n_actions=3, horizon=6)
    features = torch.tensor(random_features(mdp, 4))
    visited = expert_demonstrations(mdp, features.numpy()[..., 0]).occupancy(mdp)
    config = MaxEntConfig(reward="neural", form=form, hidden=(8,), regularisation=0.1)
    network = NetworkReward(features.numpy(), config.hidden, torch.Generator().manual_seed(0))
    network_loss(network, mdp, features, visited, config)[0].backward()

    def objective() -> float:
        with torch.no_grad():
            reward = network(features).numpy()
        decay = sum(float(p.detach().square().sum()) for p in network.parameters())
        return (visited * reward).sum() - posterior(mdp, reward, form).log_z - 0.05 * decay

    for parameter in network.parameters():
        flat, gradient = parameter.data.view(-1), parameter.grad.view(-1)
        for k in range(0, len(flat), 7):
            flat[k] += 1e-5
            above = objective()
            flat[k] -= 2e-5
            below = objective()
            flat[k] += 1e-5
            assert float(gradient[k]) == pytest.approx(-(above - below) / 2e-5, abs=1e-6)


# ── learning ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("slip, form", [(0.0, "causal"), (0.0, "plain"), (0.2, "causal")])
def test_features_match_after_learning(slip, form):
    mdp = grid(5, 12, slip, start=None)
    features = random_features(mdp, 6)
    shown = expert_demonstrations(mdp, features @ np.array([1.0, -0.5, 0.3, 0.0, 0.8, -1.0]))
    result = learn(mdp, features, shown, MaxEntConfig(form=form, regularisation=0.0, tolerance=1e-7))
    starts = np.bincount(shown.states[:, 0], minlength=mdp.n_states) / len(shown)
    mu = soft_forward(dataclasses.replace(mdp, initial=starts), result.log_policy)
    matched = feature_expectations(features, visits(mdp, mu))
    assert np.allclose(matched, feature_expectations(features, shown.occupancy(mdp)), rtol=0, atol=1e-6)
    assert result.metrics["maxent/converged"] == 1.0
    assert np.allclose(features @ result.arrays["theta"], result.reward)


def test_a_linear_reward_is_recovered_where_the_features_show_it():
    """One feature less than actions and states allow: the expert's own occupancies, no sampling error."""
    mdp, theta = grid(4, 10, 0.1, start=None), np.array([1.0, -0.5, 0.3])
    features = random_features(mdp, 3)
    expert = feature_expectations(features, posterior(mdp, features @ theta).visits)
    found = minimize(
        lambda x: tuple(-part for part in likelihood(x, mdp, features, expert)), np.zeros(3), jac=True, tol=1e-10
    )
    assert np.allclose(found.x, theta, atol=1e-5)


def test_a_neural_reward_explains_what_a_linear_one_cannot():
    """The reward is high on a ring: no linear function of the coordinates."""
    mdp = grid(5, 10, 0.1, start=None)
    cells = np.stack(np.divmod(np.arange(25), 5), 1) - 2.0
    features = np.repeat(cells[:, None], mdp.n_actions, axis=1)
    ring = np.repeat(np.abs(np.linalg.norm(cells, axis=1) - 2)[:, None] < 0.3, mdp.n_actions, axis=1)
    shown = expert_demonstrations(mdp, 2.0 * ring, n=400)
    linear = learn(mdp, features, shown)
    config = MaxEntConfig(reward="neural", iterations=60)
    neural = learn(mdp, features, shown, config, np.random.default_rng(0))
    assert neural.metrics["maxent/log_likelihood"] > linear.metrics["maxent/log_likelihood"] + 1.0
    assert np.corrcoef(neural.reward[:, 0], ring[:, 0])[0, 1] > 0.75


def test_the_generator_alone_decides_the_neural_reward():
    mdp = grid(3, 5)
    features, config = random_features(mdp), MaxEntConfig(reward="neural", iterations=3)
    shown = expert_demonstrations(mdp, features[..., 0])
    first, again, other = (learn(mdp, features, shown, config, np.random.default_rng(k)).reward for k in (0, 0, 1))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


@pytest.mark.parametrize("deterministic", [False, True])
def test_the_policy_has_the_greatest_entropy_of_those_that_match_the_features(deterministic):
    """The lecture's max H(π) s.t. E_π[f] = E_π*[f], solved over occupancies by scipy alone."""
    mdp = random_mdp(1, deterministic=deterministic)
    features = random_features(mdp, 2)
    target = feature_expectations(features, posterior(mdp, 2.0 * features[..., 0] - features[..., 1] ** 2).visits)
    shape = (mdp.horizon, mdp.n_states, mdp.n_actions)

    def negative_entropy(mu: np.ndarray) -> tuple[float, np.ndarray]:
        mu = np.maximum(mu.reshape(shape), 1e-15)
        log_policy = np.log(mu / mu.sum(2, keepdims=True))
        return (mu * log_policy).sum(), log_policy.ravel()

    def violation(mu: np.ndarray) -> np.ndarray:
        mu = mu.reshape(shape)
        arrived = np.concatenate([mdp.initial[None], mu[:-1].reshape(2, -1) @ mdp.transition.toarray()])
        return np.concatenate([(mu.sum(2) - arrived).ravel(), feature_expectations(features, mu.sum(0)) - target])

    uniform = occupancies(mdp, np.full(shape, 0.5)).ravel()
    best = minimize(
        negative_entropy,
        uniform,
        jac=True,
        method="SLSQP",
        bounds=[(0, 1)] * uniform.size,
        constraints={"type": "eq", "fun": violation},
        options={"ftol": 1e-14, "maxiter": 500},
    )
    assert np.abs(violation(best.x)).max() < 1e-8

    found = minimize(
        lambda x: tuple(-part for part in likelihood(x, mdp, features, target)), np.zeros(2), jac=True, tol=1e-12
    )
    _, log_policy = soft_backward(mdp, features @ found.x)
    mu = soft_forward(mdp, log_policy)
    assert np.abs(violation(mu.ravel())).max() < 1e-6
    assert -(mu * log_policy).sum() == pytest.approx(-best.fun, abs=1e-6)
    assert np.allclose(mu.ravel(), best.x, atol=1e-4)


# ── optimism, refusals, observers ─────────────────────────────────────────────────────────────────────────────────────


def lottery() -> MDP:
    """In state 0 action 0 is sure and dull, action 1 wins state 2 with one chance in ten, else loses to state 1."""
    chances = np.zeros((6, 3))
    chances[0, 0], chances[1, 2], chances[1, 1] = 1, 0.1, 0.9
    chances[[2, 3], 1] = chances[[4, 5], 2] = 1
    return MDP(chances, np.array([1.0, 0.0, 0.0]), horizon=2)


def test_the_plain_posterior_is_optimistic_and_the_causal_one_is_not():
    mdp, reward = lottery(), np.array([[0.0, 0.0], [-4.0, -4.0], [4.0, 4.0]])
    plain, causal = (posterior(mdp, reward, form) for form in ("plain", "causal"))
    assert plain.policy[0, 0, 1] > 0.7 > 0.1 > causal.policy[0, 0, 1]
    wins = plain.visits[2].sum()
    assert wins > 0.1  # more often than the dynamics let any policy win
    mu = occupancies(mdp, plain.policy)
    assert visits(mdp, mu)[2].sum() < 0.1


def test_plain_on_stochastic_dynamics_is_refused_unless_asked_for():
    mdp = lottery()
    features = np.array([[0.0, 0.0], [-1.0, -1.0], [1.0, 1.0]])[..., None]
    shown = TabularDemonstrations([[0, 0, 0], [0, 1, 1]], [[0, 0], [1, 0]])
    with pytest.raises(TabularError, match="optimistic.*use form causal"):
        learn(mdp, features, shown, MaxEntConfig(form="plain"))
    asked = learn(mdp, features, shown, MaxEntConfig(form="plain", optimistic=True))
    assert asked.metrics["maxent/converged"] == 1.0


@pytest.mark.parametrize(
    "options, message",
    [
        ({"form": "casual"}, "causal"),
        ({"reward": "quadratic"}, "linear"),
        ({"iterations": 0}, "iterations"),
        ({"regularisation": -1.0}, "regularisation"),
    ],
)
def test_contradictory_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        MaxEntConfig(**options)


def test_input_that_does_not_fit_is_refused_before_learning():
    mdp = lottery()
    shown = TabularDemonstrations([[0, 0, 0]], [[0, 0]])
    with pytest.raises(TabularError, match="features: shape"):
        learn(mdp, np.zeros((2, 2, 1)), shown)
    with pytest.raises(TabularError, match="features: non-finite"):
        learn(mdp, np.full((3, 2, 1), np.nan), shown)
    with pytest.raises(TabularError, match="impossible move"):
        learn(mdp, np.zeros((3, 2, 1)), TabularDemonstrations([[0, 1, 1]], [[0, 0]]))


class Impatient(SilentObserver):
    """Stops after two iterations; keeps what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[int, dict[str, float]]] = []

    def on_progress(self, done: int, metrics: dict[str, float]) -> None:
        self.told.append((done, metrics))

    def should_stop(self) -> bool:
        return len(self.told) >= 2


@pytest.mark.parametrize("reward", ["linear", "neural"])
def test_an_observer_sees_progress_and_can_stop(reward):
    mdp = grid(4, 8)
    features = random_features(mdp, 5)
    shown, observer = expert_demonstrations(mdp, features[..., 0]), Impatient()
    result = learn(mdp, features, shown, MaxEntConfig(reward=reward), observer=observer)
    assert [done for done, _ in observer.told] == [1, 2]
    assert result.metrics["maxent/cancelled"] == 1.0 and result.metrics["maxent/converged"] == 0.0
    assert "maxent/feature_gap" in observer.told[0][1]
