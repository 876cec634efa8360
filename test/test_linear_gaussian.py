"""Linear-Gaussian dynamics and controllers, against linear-quadratic problems whose solution is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from linear_quadratic import D, H, M, costs, drawn, lazy, system

from irl_ros.learning.linear_gaussian import Controller, LinearGaussian, Quadratic, backward, fit, forward, improve, mean_kl
from irl_ros.models.policies import TrajectoryPolicy


def test_two_steps_of_an_integrator_by_hand():
    """x' = x + u, cost ½u² in both steps and ½x² in the second: Q_uu is 1 + 0, then 1 + 1."""
    dynamics = LinearGaussian(np.ones((2, 1, 2)), np.zeros((2, 1)), np.zeros((2, 1, 1)))
    cost = Quadratic(np.array([[[0.0, 0.0], [0.0, 1.0]], np.eye(2)]), np.zeros((2, 2)))
    found = backward(dynamics, cost)
    np.testing.assert_allclose(found.K.ravel(), [-0.5, 0.0], atol=1e-12)
    np.testing.assert_allclose(found.C.ravel(), [0.5, 1.0])  # Q_uu⁻¹
    np.testing.assert_allclose(found.k, 0.0)


def test_the_backward_pass_finds_the_best_actions_of_a_whole_trajectory():
    """Without noise the open-loop optimum is one linear system in all actions at once."""
    dynamics, cost = system(), costs()
    x0 = np.array([1.0, -0.5, 0.3])
    states, effect = x0, np.zeros((D, H * M))  # x_t = states + effect · all actions
    A, b = np.zeros((H * M, H * M)), np.zeros(H * M)
    for t in range(H):
        choose = np.zeros((M, H * M))
        choose[:, t * M : (t + 1) * M] = np.eye(M)
        Z, z = np.concatenate([effect, choose]), np.concatenate([states, np.zeros(M)])
        A += Z.T @ cost.Z[t] @ Z
        b += Z.T @ (cost.Z[t] @ z + cost.z0[t])
        states, effect = dynamics.F[t] @ z + dynamics.c[t], dynamics.F[t] @ Z
    best = -np.linalg.solve(A, b).reshape(H, M)
    controller, x = backward(dynamics, cost), x0
    for t in range(H):
        u = controller.K[t] @ x + controller.k[t]
        np.testing.assert_allclose(u, best[t], rtol=1e-8)
        x = dynamics.F[t] @ np.concatenate([x, u]) + dynamics.c[t]


def test_the_fit_recovers_a_linear_system_from_twenty_rollouts():
    changing, rng = system(), np.random.default_rng(3)
    steady = LinearGaussian(*(np.broadcast_to(part[:1], part.shape) for part in changing))
    for truth, prior_weight in ((changing, 1e-6), (steady, 20.0)):
        x, u = drawn(truth._replace(noise=np.zeros((H, D, D))), lazy(), 20, 4)
        found = fit(np.concatenate([x[:, :-1], u], -1), x[:, 1:], np.ones((20, H)), prior_weight)
        np.testing.assert_allclose(found.F, truth.F, atol=1e-4)  # the ridge biases a little
        np.testing.assert_allclose(found.c, truth.c, atol=1e-4)
        np.testing.assert_allclose(found.noise, 0.0, atol=1e-5)
    noise = 0.1 * rng.normal(size=(20_000, H, D))
    z = rng.normal(size=(20_000, H, D + M))
    y = np.einsum("tij,btj->bti", changing.F, z) + changing.c + noise
    found = fit(z, y, np.ones((20_000, H)), 1e-6)
    np.testing.assert_allclose(found.noise, 0.01 * np.broadcast_to(np.eye(D), (H, D, D)), atol=5e-4)


def test_the_prior_steadies_steps_with_fewer_rollouts_than_dimensions():
    steady = LinearGaussian(*(np.broadcast_to(part[:1], part.shape) for part in system()))
    x, u = drawn(steady, lazy(), 4, 5)  # of 5 regressors and a constant
    z, counted = np.concatenate([x[:, :-1], u], -1), np.ones((4, H))
    errors = [np.abs(fit(z, x[:, 1:], counted, w).F - steady.F).max() for w in (1e-6, 20.0)]
    assert errors[1] < 0.3 * errors[0]


def test_steps_that_were_not_executed_do_not_count():
    x, u = drawn(system(), lazy(), 20, 6)
    z, counted = np.concatenate([x[:, :-1], u], -1), np.ones((20, H))
    counted[10:, 3:] = 0
    x[10:, 4:], z[10:, 3:] = 99.0, 99.0
    found = fit(z, x[:, 1:], counted, 1e-6)
    alone = fit(z[:10, 3:], x[:10, 4:], np.ones((10, H - 3)), 1e-6)
    np.testing.assert_allclose(found.F[3:], alone.F, atol=1e-4)


def test_the_kl_is_that_of_rollouts():
    dynamics, old = system(), lazy()
    new = backward(dynamics, costs())
    x, u = drawn(dynamics, new, 100_000, 7)

    def log_prob(c: Controller) -> np.ndarray:
        policy = TrajectoryPolicy(H, M, D)
        policy.set(*c)
        return policy.log_prob(torch.as_tensor(x[:, :-1]), torch.as_tensor(u)).numpy()

    sampled = (log_prob(new) - log_prob(old)).mean()
    assert mean_kl(new, old, *forward(dynamics, new, np.zeros(D), np.eye(D))) == pytest.approx(sampled, rel=0.02)


@pytest.mark.parametrize("kl_bound", [0.01, 0.1, 1.0])
def test_the_kl_bound_is_used_up_and_held(kl_bound):
    found = improve(lazy(), system(), costs(), (np.zeros(D), np.eye(D)), 0.1, kl_bound)
    assert kl_bound * (1 - 1e-4) < found.kl <= kl_bound


def test_steps_converge_to_the_maximum_entropy_optimum():
    dynamics, cost, weight = system(), costs(), 0.1
    best = backward(dynamics, Quadratic(cost.Z / weight, cost.z0 / weight))
    controller, prices = lazy(), []
    for _ in range(60):
        controller, _, price = improve(controller, dynamics, cost, (np.zeros(D), np.eye(D)), weight, 0.5)
        prices.append(price)
    assert prices[0] > 1e-3 and prices[-1] < 1e-6  # the bound binds at first and no more at the end
    for found, known in zip(controller, best):
        np.testing.assert_allclose(found, known, rtol=1e-4, atol=1e-6)
