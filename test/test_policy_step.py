"""The policy step: advantages by hand, its KL bound, its entropy bonus, and that it improves what can be improved."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from irl_ros.learning.batch import Batch
from irl_ros.learning.config import PolicyStepConfig
from irl_ros.learning.policy_step import PolicyStep, advantages, ppo_loss
from irl_ros.models.policies import GaussianPolicy, ValueFunction, gaussian_kl

N_INPUTS, N_ACTIONS, HORIZON = 2, 2, 10
GOOD = torch.tensor([0.8, -0.5])
"""The action that the bandit rewards most."""


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def learner(config: PolicyStepConfig = PolicyStepConfig(), std: float = 0.5) -> PolicyStep:
    policy = GaussianPolicy(N_INPUTS, N_ACTIONS, generator(1), hidden=(16,))
    with torch.no_grad():
        policy.log_std.fill_(math.log(std))
    return PolicyStep(policy, ValueFunction(N_INPUTS, generator(2), hidden=(16,)), config)


def drawn(policy: GaussianPolicy, n: int, seed: int, executed: torch.Tensor | None = None) -> Batch:
    """n trajectories of random states, which the actions do not change."""
    g = generator(seed)
    inputs = torch.randn(n, HORIZON + 1, N_INPUTS, generator=g)
    with torch.no_grad():
        actions = policy(inputs[:, :-1]) + policy.log_std.exp() * torch.randn(n, HORIZON, N_ACTIONS, generator=g)
    ones = torch.ones(n, HORIZON)
    return Batch(inputs, inputs[:, 1:], actions, ones if executed is None else executed, ones)


def bandit_reward(batch: Batch) -> torch.Tensor:
    return -(batch.actions - GOOD).square().sum(-1)


def test_advantages_by_hand():
    reward, value = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[0.5, 0.4, 0.3, 0.2]])
    d2 = 3 + 0.9 * 0.2 - 0.3  # the horizon truncates: the last value is bootstrapped
    d1 = 2 + 0.9 * 0.3 - 0.4
    d0 = 1 + 0.9 * 0.4 - 0.5
    a2, a1 = d2, d1 + 0.9 * 0.8 * d2
    expected = [[d0 + 0.9 * 0.8 * a1, a1, a2]]
    np.testing.assert_allclose(advantages(reward, value, 0.9, 0.8).numpy(), expected, rtol=1e-6)


def test_advantages_at_lambda_one_are_discounted_returns_less_the_value_and_at_zero_one_step_errors():
    g = generator()
    reward, value = torch.randn(4, 6, generator=g), torch.randn(4, 7, generator=g)
    for t in range(6):
        ahead = sum(0.8**k * reward[:, t + k] for k in range(6 - t)) + 0.8 ** (6 - t) * value[:, 6]
        torch.testing.assert_close(advantages(reward, value, 0.8, 1.0)[:, t], ahead - value[:, t])
    torch.testing.assert_close(advantages(reward, value, 0.8, 0.0), reward + 0.8 * value[:, 1:] - value[:, :-1])


def test_ppo_loss_by_hand():
    config = PolicyStepConfig(clip=0.2, entropy_weight=0.1)
    ratio, advantage = torch.tensor([1.5, 1.5, 0.5, 0.5, 1.1]), torch.tensor([1.0, -1.0, 1.0, -1.0, 2.0])
    surrogate = (1.2 - 1.5 + 0.5 - 0.8 + 2.2) / 5  # the clipped one only where it is smaller
    loss = ppo_loss(ratio.log(), torch.zeros(5), advantage, torch.tensor(3.0), config)
    assert loss.item() == pytest.approx(-surrogate - 0.3, rel=1e-6)


@pytest.mark.parametrize("bound", [0.001, 0.02])
@pytest.mark.parametrize("rate", [1e-3, 0.1])
def test_the_kl_bound_holds_after_every_step(bound: float, rate: float):
    step = learner(PolicyStepConfig(kl_bound=bound, learning_rate=rate, minibatch=50))
    for k in range(4):
        batch = drawn(step.policy, 20, k)
        with torch.no_grad():
            old_mean, old_log_std = step.policy(batch.inputs[:, :-1]), step.policy.log_std.clone()
        metrics = step.improve(batch, bandit_reward(batch), k == 0, generator(k))
        with torch.no_grad():
            mean = step.policy(batch.inputs[:, :-1])
            kl = gaussian_kl(old_mean, old_log_std, mean, step.policy.log_std).mean().item()
        assert 0 < kl <= bound and metrics["policy/kl"] == pytest.approx(kl, rel=1e-3, abs=1e-7)


def bandit(config: PolicyStepConfig, steps: int = 40) -> tuple[PolicyStep, dict[str, float]]:
    step, metrics = learner(config), {}
    for k in range(steps):
        batch = drawn(step.policy, 20, k)
        metrics = step.improve(batch, bandit_reward(batch), k == 0, generator(k))
    return step, metrics


def test_a_bandit_is_solved():
    step, metrics = bandit(PolicyStepConfig(learning_rate=3e-3, entropy_weight=0.0))
    with torch.no_grad():
        mean = step.policy(torch.randn(200, N_INPUTS, generator=generator(99)))
    torch.testing.assert_close(mean.mean(0), GOOD, atol=0.15, rtol=0)
    assert metrics["policy/std"] < 0.4  # and it grows surer
    assert metrics["policy/std"] == pytest.approx(step.policy.log_std.exp().mean().item())
    assert metrics["policy/entropy"] == pytest.approx(step.policy.entropy().item())


def test_a_larger_entropy_weight_keeps_more_entropy():
    entropy = [bandit(PolicyStepConfig(entropy_weight=w), 15)[1]["policy/entropy"] for w in (0.0, 0.3)]
    assert entropy[1] > entropy[0] + 0.1


def test_what_comes_later_counts_as_far_as_the_discount_reaches():
    """Only the last step is rewarded, for the action of the step before: γ = 0 cannot know, γ > 0 learns it."""

    def learned(discount: float) -> float:
        config = PolicyStepConfig(discount=discount, learning_rate=3e-3, entropy_weight=0.0, kl_bound=1.0)
        step = learner(config)
        for k in range(25):
            batch = drawn(step.policy, 30, k)
            reward = torch.zeros(30, HORIZON)
            reward[:, 1:] = batch.actions[:, :-1, 0]
            step.improve(batch, reward, k == 0, generator(k))
        with torch.no_grad():
            return step.policy(torch.zeros(1, N_INPUTS))[0, 0].item()

    assert learned(0.9) > 0.3 and abs(learned(0.0)) < 0.15


def test_steps_in_an_absorbing_state_do_not_teach_the_policy():
    """Where the policy did not act its recorded action is meaningless."""
    executed = torch.ones(20, HORIZON)
    executed[:, 5:] = 0
    policies = []
    for nonsense in (0.0, 7.0):
        step = learner()
        batch = drawn(step.policy, 20, 3, executed)
        batch.actions[:, 5:] = nonsense
        reward = bandit_reward(batch) * executed
        step.improve(batch, reward, True, generator(5))
        policies.append(step.policy.arrays())
    assert all(np.array_equal(policies[0][k], policies[1][k]) for k in policies[0])


def test_the_policy_waits_until_the_value_function_has_learned():
    """The first step fits the value function beforehand; in a task where the state alone is rewarded it explains it."""
    explained = {}
    for warm_up in (0, 60):
        step = learner(PolicyStepConfig(value_warmup_epochs=warm_up, learning_rate=1e-2, discount=0.0))
        batch = drawn(step.policy, 40, 0)
        metrics = step.improve(batch, batch.inputs[:, :-1].sum(-1), True, generator(0))
        explained[warm_up] = metrics["policy/value_explained"]
    assert explained[60] > 0.9 > explained[0]


def test_neither_shift_nor_scale_of_the_reward_matters():
    policies = []
    for scale, shift in ((1.0, 0.0), (64.0, 0.0), (1.0, 300.0)):
        step = learner()
        batch = drawn(step.policy, 20, 3)
        step.improve(batch, scale * bandit_reward(batch) + shift, True, generator(5))
        policies.append(torch.cat([p.flatten() for p in step.policy.parameters()]).detach())
    torch.testing.assert_close(policies[0], policies[1], atol=1e-3, rtol=0)
    torch.testing.assert_close(policies[0], policies[2], atol=1e-2, rtol=0)


def test_a_flat_reward_moves_the_policy_by_entropy_alone_and_stays_finite():
    step = learner(replace(PolicyStepConfig(), entropy_weight=0.0))
    batch = drawn(step.policy, 20, 3)
    metrics = step.improve(batch, torch.zeros(20, HORIZON), True, generator(5))
    assert all(math.isfinite(v) for v in metrics.values())


def test_equal_generators_give_equal_steps():
    results = []
    for _ in range(2):
        step = learner()
        batch = drawn(step.policy, 20, 3)
        step.improve(batch, bandit_reward(batch), True, generator(5))
        results.append(step.policy.arrays())
    assert all(np.array_equal(results[0][k], results[1][k]) for k in results[0])
