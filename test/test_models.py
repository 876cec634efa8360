"""Networks: numpy inference against torch, densities against formulas and numbers, the reward's bounds."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from irl_ros.contract import Contract
from irl_ros.models.features import Features
from irl_ros.models.inference import Policy, Reward
from irl_ros.models.policies import GaussianPolicy, ValueFunction, gaussian_kl, gaussian_log_prob
from irl_ros.models.rewards import QuadraticReward

CONTRACT = Contract.load("panda", "reach")
INPUTS = Features(CONTRACT, CONTRACT.task.policy_inputs)
PHI = Features(CONTRACT, CONTRACT.task.reward_features)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def shaken(module: torch.nn.Module, seed: int = 1) -> torch.nn.Module:
    """Every parameter moved at random, so that no zero bias hides a mistake."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator(seed)))
    return module


def observations(n: int) -> np.ndarray:
    return np.random.default_rng(2).normal(size=(n, CONTRACT.observation_size))


def test_numpy_policy_is_the_torch_policy():
    policy = shaken(GaussianPolicy(INPUTS.size, 7, generator()))
    numpy_policy = Policy.from_arrays(policy.arrays(), CONTRACT)
    o = observations(50)
    with torch.no_grad():
        expected = policy(torch.as_tensor(INPUTS(o), dtype=torch.float32)).numpy()
    actual = np.stack([numpy_policy.mean(row) for row in o])
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


def test_samples_bring_torchs_log_probabilities_and_the_policys_distribution():
    policy = shaken(GaussianPolicy(INPUTS.size, 7, generator()))
    numpy_policy, rng = Policy.from_arrays(policy.arrays(), CONTRACT), np.random.default_rng(3)
    o = observations(1)[0]
    drawn = [numpy_policy.sample(o, rng) for _ in range(4000)]
    actions, log_probs = np.stack([a for a, _ in drawn]), np.array([p for _, p in drawn])
    x = torch.as_tensor(INPUTS(o), dtype=torch.float32).expand(len(drawn), -1)
    with torch.no_grad():
        expected = policy.log_prob(x, torch.as_tensor(actions, dtype=torch.float32)).numpy()
    np.testing.assert_allclose(log_probs, expected, rtol=1e-4, atol=1e-3)
    std = policy.log_std.exp().detach().numpy()
    np.testing.assert_allclose(actions.mean(0), numpy_policy.mean(o), atol=5 * std.max() / math.sqrt(4000))
    np.testing.assert_allclose(actions.std(0), std, rtol=0.06)


def test_numpy_reward_is_the_torch_reward():
    reward = shaken(QuadraticReward(PHI.size, generator()))
    numpy_reward = Reward.from_arrays(reward.arrays(), CONTRACT)
    o, o2 = observations(50), observations(51)[1:]
    a = 2.0 * np.random.default_rng(4).normal(size=(50, 7))
    with torch.no_grad():
        phi, action = (torch.as_tensor(x, dtype=torch.float32) for x in (PHI(o, a, o2), a))
        expected = reward(phi, action).numpy()
    np.testing.assert_allclose([numpy_reward(*row) for row in zip(o, a, o2)], expected, rtol=1e-4, atol=1e-5)


def test_equal_generators_give_equal_networks_and_others_give_others():
    first, second, third = (GaussianPolicy(5, 2, generator(seed)).arrays() for seed in (0, 0, 1))
    assert all(np.array_equal(first[k], second[k]) for k in first)
    assert any(not np.array_equal(first[k], third[k]) for k in first)


def test_log_prob_by_the_formula():
    mean, log_std = torch.tensor([1.0, -2.0]), torch.tensor([0.5, -0.3])
    action = torch.tensor([[1.5, -2.0], [0.0, 0.0]])
    expected = []
    for row in action.tolist():
        total = 0.0
        for a, m, s in zip(row, mean.tolist(), log_std.tolist()):
            total += -((a - m) ** 2) / (2 * math.exp(s) ** 2) - s - math.log(math.sqrt(2 * math.pi))
        expected.append(total)
    np.testing.assert_allclose(gaussian_log_prob(mean, log_std, action).numpy(), expected, rtol=1e-6)


def grid(mean: float, std: float) -> torch.Tensor:
    return torch.linspace(mean - 12 * std, mean + 12 * std, 200_001, dtype=torch.float64)


def test_density_integrates_to_one_and_entropy_is_the_integral():
    policy = GaussianPolicy(3, 1, generator()).double()
    with torch.no_grad():
        policy.log_std.fill_(0.4)
    x, a = torch.randn(3, generator=generator(5), dtype=torch.float64), grid(0.0, math.exp(0.4))
    log_p = policy.log_prob(x, a[:, None]).detach()
    assert torch.trapezoid(log_p.exp(), a).item() == pytest.approx(1.0, abs=1e-8)
    assert policy.entropy().item() == pytest.approx(-torch.trapezoid(log_p.exp() * log_p, a).item(), abs=1e-7)


def test_kl_is_the_integral_summed_over_dimensions_zero_for_equals_and_not_symmetric():
    p = torch.tensor([0.3, -1.0], dtype=torch.float64), torch.tensor([-0.5, 0.2], dtype=torch.float64)
    q = torch.tensor([-0.2, 0.0], dtype=torch.float64), torch.tensor([0.1, -0.1], dtype=torch.float64)
    expected = 0.0
    for k in range(2):
        a = grid(p[0][k].item(), math.exp(p[1][k].item()))[:, None]
        log_p, log_q = (gaussian_log_prob(m[k : k + 1], s[k : k + 1], a) for m, s in (p, q))
        expected += torch.trapezoid(log_p.exp() * (log_p - log_q), a[:, 0]).item()
    assert gaussian_kl(*p, *q).item() == pytest.approx(expected, abs=1e-7)
    assert gaussian_kl(*p, *p).item() == pytest.approx(0.0, abs=1e-12)
    assert gaussian_kl(*q, *p).item() != pytest.approx(expected, abs=1e-3)


def test_policy_starts_near_zero_with_unit_deviation():
    policy = GaussianPolicy(10, 4, generator())
    with torch.no_grad():
        assert policy(torch.randn(100, 10, generator=generator(6))).abs().max() < 0.1
    assert policy.log_std.exp().tolist() == [1.0] * 4


def test_value_function_gives_one_number_per_row():
    assert ValueFunction(5, generator())(torch.zeros(3, 4, 5)).shape == (3, 4)


def test_quadratic_reward_is_bounded_below_by_bound_and_action_penalty_and_above_by_zero():
    reward = QuadraticReward(4, generator(), bound=3.0, w_u=0.1)
    with torch.no_grad():
        reward.A.mul_(1e3)
        r = reward(1e3 * torch.randn(1000, 4, generator=generator(7)), 1e3 * torch.ones(1000, 2))
    assert r.min() >= -3.0 - 0.1 * 2 - 1e-5 and r.max() <= 0.0
    assert r.min() < -3.0  # the bound is reached, and the action counts as executed


def test_quadratic_reward_by_hand():
    reward = QuadraticReward(1, generator(), hidden=(1,), n_outputs=2, bound=2.0, w_u=0.5)
    with torch.no_grad():
        reward.cost[0].weight.fill_(2.0)
        reward.cost[0].bias.fill_(0.1)
        reward.A.copy_(torch.tensor([[1.0], [-2.0]]))
        reward.b.copy_(torch.tensor([0.5, 0.0]))
        value = reward(torch.tensor([0.3]), torch.tensor([0.4, -9.0])).item()
    y = math.tanh(2.0 * 0.3 + 0.1)
    q = (y + 0.5) ** 2 + (2 * y) ** 2
    assert value == pytest.approx(-2.0 * q / (2.0 + q) - 0.5 * (0.4**2 + 1.0), rel=1e-6)


def test_an_untrained_reward_knows_nothing_of_the_goal():
    """Without biases its cost would vanish at φ = 0, which is the goal: it would teach reaching before any learning."""
    phi = torch.cat([torch.zeros(1, 4), torch.randn(500, 4, generator=generator(8))])
    action, ranks = torch.zeros(501, 7), []
    for seed in range(40):
        with torch.no_grad():
            r = QuadraticReward(4, generator(seed))(phi, action)
        ranks.append((r[0] > r[1:]).float().mean().item())
    assert 0.2 < np.mean(ranks) < 0.8
