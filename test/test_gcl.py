"""Guided cost learning: its estimator of log Z against known densities, its gradient, its regularisers, its step."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from irl_ros.learning.batch import Batch
from irl_ros.learning.config import CloneConfig, RewardConfig, TrainConfig
from irl_ros.learning.density import DemonstrationDensity, trajectory_log_prob
from irl_ros.learning.fusion import effective_sample_size, fusion_log_z, log_partition
from irl_ros.learning.gcl import (
    GuidedCostLearning,
    gcl_loss,
    ioc_loss,
    local_constant_rate,
    monotonic,
    tempered_weights,
)
from irl_ros.learning.method import Problem
from irl_ros.models.policies import GaussianPolicy
from irl_ros.models.rewards import QuadraticReward

N_INPUTS, N_FEATURES, N_ACTIONS, HORIZON = 3, 2, 2, 6


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(n: int, seed: int, shift: float = 0.0, dtype: torch.dtype = torch.float32) -> Batch:
    """Random trajectories whose features are about `shift`; the first is one step shorter than the others."""
    g, ones = generator(seed), torch.ones(n, HORIZON, dtype=dtype)
    counted = ones.clone()
    counted[0, -1] = 0
    return Batch(
        torch.randn(n, HORIZON + 1, N_INPUTS, generator=g, dtype=dtype),
        shift + torch.randn(n, HORIZON, N_FEATURES, generator=g, dtype=dtype),
        0.5 * torch.randn(n, HORIZON, N_ACTIONS, generator=g, dtype=dtype),
        counted.clone(),
        counted,
    )


# ── log Z against a known density (the paper's Appendix B) ─────────────────────────────────────────────────────────


class Known:
    """Trajectories of five steps of one number; cost Σ_t (x_t − 1)² / (2 · 0.7²), so that log Z is known."""

    steps, center, width = 5, 1.0, 0.7
    log_z = 0.5 * steps * math.log(2 * math.pi * width**2)
    proposals = ((0.0, 0.6), (1.2, 0.5), (2.0, 1.5))
    """Mean and deviation of the sampling distributions; the first alone hardly covers exp(−c)."""

    @classmethod
    def cost(cls, x: torch.Tensor) -> torch.Tensor:
        return ((x - cls.center) ** 2).sum(-1) / (2 * cls.width**2)

    @classmethod
    def log_q(cls, x: torch.Tensor) -> torch.Tensor:
        """Shape (k, M)."""
        return torch.stack([torch.distributions.Normal(m, s).log_prob(x).sum(-1) for m, s in cls.proposals])

    @classmethod
    def sample(cls, m: int, g: torch.Generator) -> torch.Tensor:
        """`m` trajectories, as many from each proposal."""
        per = m // len(cls.proposals)
        parts = [a + s * torch.randn(per, cls.steps, generator=g, dtype=torch.float64) for a, s in cls.proposals]
        return torch.cat(parts)


def fusion_error(m: int, repeats: int, weighted: bool = True) -> tuple[float, float]:
    """Root mean square error and mean error of log Z from m samples."""
    g, errors = generator(0), []
    for _ in range(repeats):
        x = Known.sample(m, g)
        log_z = fusion_log_z(Known.log_q(x)) if weighted else torch.zeros(len(x), dtype=x.dtype)
        errors.append(log_partition(Known.cost(x), log_z).item() - Known.log_z)
    return float(np.sqrt(np.mean(np.square(errors)))), float(np.mean(errors))


def test_the_fusion_estimate_of_log_z_is_consistent():
    small, middle, large = (fusion_error(m, 30)[0] for m in (120, 1_200, 12_000))
    assert middle < 0.5 * small and large < 0.5 * middle and large < 0.03  # √10 ≈ 3.2 each time
    assert abs(fusion_error(12_000, 30)[1]) < 0.01


def test_without_weights_the_estimate_is_biased_however_many_samples():
    errors = [fusion_error(m, 10, weighted=False)[1] for m in (1_200, 12_000)]
    assert all(abs(e) > 1.0 for e in errors) and abs(errors[0] - errors[1]) < 0.2


def test_weights_of_one_proposal_alone_are_far_worse_than_the_mixtures():
    g, alone, fused = generator(1), [], []
    for _ in range(40):
        x = Known.sample(300, g)
        log_q, cost = Known.log_q(x), Known.cost(x)
        own = slice(0, len(x) // 3)
        alone.append(log_partition(cost[own], -log_q[0, own]).item() - Known.log_z)
        fused.append(log_partition(cost, fusion_log_z(log_q)).item() - Known.log_z)
    assert np.sqrt(np.mean(np.square(fused))) < 0.5 * np.sqrt(np.mean(np.square(alone)))


def test_a_density_that_is_the_target_gives_log_z_from_one_sample():
    cost = torch.tensor([3.0])
    assert log_partition(cost, fusion_log_z(-cost[None] - 1.5)).item() == pytest.approx(1.5)


def test_fusion_weights_of_two_policies_by_hand():
    q = torch.tensor([[0.2, 0.5], [0.6, 0.1]])
    np.testing.assert_allclose(fusion_log_z(q.log()).exp().numpy(), [1 / 0.4, 1 / 0.3], rtol=1e-6)
    far = torch.tensor([[-2000.0, 900.0], [-2001.0, -900.0]])  # beyond the range of exp
    expected = [2000 + math.log(2) - math.log1p(math.exp(-1)), -900 + math.log(2)]
    np.testing.assert_allclose(fusion_log_z(far).numpy(), expected, rtol=1e-6)


def test_log_partition_by_hand_and_far_from_zero():
    cost, log_z = torch.tensor([1.0, 2.0]), torch.tensor([0.5, -0.5])
    expected = math.log(0.5 * (math.exp(0.5 - 1) + math.exp(-0.5 - 2)))
    assert log_partition(cost, log_z).item() == pytest.approx(expected, rel=1e-6)
    assert log_partition(cost + 5000, log_z).item() == pytest.approx(expected - 5000, rel=1e-6)


# ── Weights ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_effective_sample_size_by_hand():
    assert effective_sample_size(torch.zeros(7)) == pytest.approx(7.0, rel=1e-6)
    assert effective_sample_size(torch.tensor([0.0, 0.0, -math.inf])) == pytest.approx(2.0)
    w = torch.tensor([0.5, 0.3, 0.2])
    assert effective_sample_size(w.log() + 400) == pytest.approx(1 / (0.25 + 0.09 + 0.04), rel=1e-4)


@pytest.mark.parametrize("spread", [2.0, 30.0, 800.0])
@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
def test_tempered_weights_keep_the_share_asked_for_and_no_more(spread: float, fraction: float):
    log_w = spread * torch.randn(100, generator=generator(), dtype=torch.float64)
    weights = tempered_weights(log_w, fraction)
    assert weights.beta < 1 and weights.w.sum().item() == pytest.approx(1.0)
    assert weights.effective_sample_size == pytest.approx(100 * fraction, rel=1e-3)
    assert effective_sample_size(1.02 * weights.beta * log_w) < 100 * fraction  # a larger β would not
    torch.testing.assert_close(weights.w, torch.softmax(weights.beta * log_w, 0))
    assert 1 / weights.w.square().sum().item() == pytest.approx(weights.effective_sample_size, rel=1e-6)


def test_weights_that_are_spread_enough_are_not_tempered():
    log_w = 0.1 * torch.randn(50, generator=generator())
    weights = tempered_weights(log_w, 0.5)
    assert weights.beta == 1.0
    torch.testing.assert_close(weights.w, torch.softmax(log_w, 0))
    assert tempered_weights(torch.full((5,), -700.0), 1.0).beta == 1.0


# ── Loss ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def flat(module: torch.nn.Module) -> torch.Tensor:
    return torch.nn.utils.parameters_to_vector(module.parameters()).detach()


def moved(module: torch.nn.Module, to: torch.Tensor) -> torch.nn.Module:
    torch.nn.utils.vector_to_parameters(to, module.parameters())
    return module


def paper_loss(reward: torch.nn.Module, demos: Batch, samples: Batch, log_z: torch.Tensor, lcr: float, mono: float):
    """mean_i c(τ_i) + log 1/M Σ_j z_j exp(−c_j) and the regularisers, step by step in plain loops."""
    with torch.no_grad():
        costs = [(-reward(b.features, b.actions)).numpy() for b in (demos, samples)]
    demo, both = (costs[0] * demos.counted.numpy()).sum(1), []
    for cost, b in zip(costs[::-1], (samples, demos)):  # samples come first in the background
        both.extend((cost * b.counted.numpy()).sum(1))
    loss = demo.mean() + math.log(np.mean(np.exp(log_z.numpy() - np.array(both))))
    for cost, b in zip(costs, (demos, samples)):
        rates = [
            (c[t + 1] - 2 * c[t] + c[t - 1]) ** 2 * b.counted[i, t + 1].item()
            for i, c in enumerate(cost)
            for t in range(1, HORIZON - 1)
        ]
        loss += lcr * 0.5 * sum(rates) / len(cost)
    rises = [
        max(0.0, c[t] - c[t - 1] - 0.01) ** 2 * demos.counted[i, t].item()
        for i, c in enumerate(costs[0])
        for t in range(1, HORIZON)
    ]
    return loss + mono * sum(rises) / len(demo)


@pytest.mark.parametrize("lcr, mono", [(0.0, 0.0), (3.0, 0.0), (0.0, 5.0), (3.0, 5.0)])
def test_the_gradient_at_beta_one_is_that_of_the_papers_loss(lcr: float, mono: float):
    demos, samples = batch(3, 1, dtype=torch.float64), batch(8, 2, 0.5, dtype=torch.float64)
    log_z = torch.randn(11, generator=generator(3), dtype=torch.float64)
    reward = QuadraticReward(N_FEATURES, generator(4), hidden=(5,), n_outputs=3, bound=2.0, w_u=0.3).double()
    config = RewardConfig(effective_sample_size=1e-6, lcr=lcr, mono=mono, mono_margin=0.01)
    loss, metrics = gcl_loss(reward, demos, samples, log_z, config)
    assert metrics["weights/beta"] == 1.0
    gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(reward.parameters()))])
    start, h, g = flat(reward), 1e-6, generator(5)
    for _ in range(12):
        direction = torch.randn(len(start), generator=g, dtype=torch.float64)
        up, down = (
            paper_loss(moved(reward, start + sign * h * direction), demos, samples, log_z, lcr, mono)
            for sign in (1, -1)
        )
        assert (gradient @ direction).item() == pytest.approx((up - down) / (2 * h), rel=1e-5, abs=1e-8)


def test_reported_figures_are_those_at_beta_one():
    demos, samples = batch(3, 1), batch(8, 2)
    log_z = 20 * torch.randn(11, generator=generator(3))
    reward = QuadraticReward(N_FEATURES, generator(4))
    _, metrics = gcl_loss(reward, demos, samples, log_z, RewardConfig(effective_sample_size=0.5))
    with torch.no_grad():
        costs = [(-reward(b.features, b.actions) * b.counted).sum(-1) for b in (samples, demos)]
    background = torch.cat(costs)
    assert metrics["weights/log_z"] == pytest.approx(log_partition(background, log_z).item(), rel=1e-5)
    at_one = effective_sample_size(log_z - background)
    assert metrics["weights/effective_sample_size"] == pytest.approx(at_one, rel=1e-4)
    assert metrics["weights/tempered_effective_sample_size"] == pytest.approx(5.5, rel=1e-2)
    assert metrics["weights/beta"] < 1
    assert metrics["gcl/reward_gap"] == pytest.approx((costs[0].mean() - costs[1].mean()).item(), rel=1e-4)


def test_ioc_loss_lowers_the_demonstrations_cost_and_raises_that_of_likely_samples():
    demo, background = torch.zeros(2, requires_grad=True), torch.zeros(3, requires_grad=True)
    loss, _ = ioc_loss(demo, background, torch.tensor([0.0, math.log(2.0), 0.0]), 1e-6)
    loss.backward()
    assert demo.grad.tolist() == [0.5, 0.5]
    np.testing.assert_allclose(background.grad.numpy(), [-0.25, -0.5, -0.25], rtol=1e-6)


def test_local_constant_rate_by_hand():
    cost = torch.tensor([[0.0, 1.0, 2.0, 3.0], [0.0, 1.0, 3.0, 2.0]])
    assert local_constant_rate(cost, torch.ones(2, 4)).item() == (0 + (1**2 + 3**2)) / 2
    counted = torch.tensor([[1.0] * 4, [1.0, 1.0, 1.0, 0.0]])  # the last step is padding
    assert local_constant_rate(cost, counted).item() == 1 / 2


@pytest.mark.parametrize("margin, expected", [(0.0, 4 + 1), (1.0, 1 + 0), (-1.0, (9 + 4 + 0) + 1 * 0)])
def test_monotonic_by_hand(margin: float, expected: float):
    cost = torch.tensor([[0.0, 2.0, 3.0, 2.0]])  # rises of 2, 1 and −1
    assert monotonic(cost, torch.ones(1, 4), margin).item() == expected
    assert monotonic(cost, torch.tensor([[1.0, 0.0, 0.0, 0.0]]), margin).item() == 0.0


# ── The step ───────────────────────────────────────────────────────────────────────────────────────────────────────

CLONE = CloneConfig(steps=40)


def learner(demos: Batch, **options) -> GuidedCostLearning:
    config = TrainConfig(clone=CLONE, reward=RewardConfig(**options))
    return GuidedCostLearning(Problem(demos, config, 0.9, generator(0)))


def policies(n: int) -> list[GaussianPolicy]:
    return [GaussianPolicy(N_INPUTS, N_ACTIONS, generator(k)) for k in range(n)]


def test_the_reward_of_demonstrations_rises_above_that_of_samples():
    demos, (policy,) = batch(5, 1, 0.0), policies(1)
    method = learner(demos, learning_rate=1e-2, updates=60, lcr=0.0, mono=0.0)
    metrics = {}
    for k in range(3):
        metrics = method.update(batch(20, 10 + k, 1.5), policy, k, generator(k))
    fresh_demos, fresh_samples = batch(30, 50, 0.0), batch(30, 51, 1.5)
    with torch.no_grad():
        demo, sample = (method.policy_reward(b, policy).mean().item() for b in (fresh_demos, fresh_samples))
    assert demo > sample + 0.1
    assert metrics["gcl/reward_gap"] > 0 and all(math.isfinite(v) for v in metrics.values())


def test_the_background_is_a_window_of_batches_with_the_policies_that_drew_them():
    demos = batch(4, 1)
    method = learner(demos, background_batches=2, updates=1)
    drawn, drew = [batch(3, 10 + k) for k in range(3)], policies(3)
    for k, (samples, policy) in enumerate(zip(drawn, drew)):
        method.update(samples, policy, k, generator(k))
        with torch.no_grad():
            policy.log_std.add_(1.0)  # what is kept must be a copy
    assert len(method.window.entries) == 2
    for (samples, kept), expected, policy in zip(method.window.entries, drawn[1:], drew[1:]):
        assert all(torch.equal(a, b) for a, b in zip(samples, expected))
        assert torch.equal(kept.log_std, policy.log_std - 1.0)


def test_the_mixture_holds_the_windows_policies_and_the_demonstrations_density_left_out_one_by_one():
    demos = batch(4, 1)
    method = learner(demos, updates=1)
    drew = policies(2)
    for k, policy in enumerate(drew):
        method.update(batch(3, 10 + k), policy, k, generator(k))
    samples = Batch.cat([b for b, _ in method.window.entries])
    log_q = method.window.log_q()
    assert log_q.shape == (3, 6 + 4)
    for row, policy in zip(log_q, drew):
        torch.testing.assert_close(row[:6], trajectory_log_prob(policy, samples))
        torch.testing.assert_close(row[6:], trajectory_log_prob(policy, demos))
    density = DemonstrationDensity.fit(demos, CLONE, generator(0))
    torch.testing.assert_close(log_q[-1, :6], trajectory_log_prob(density.full, samples))
    torch.testing.assert_close(log_q[-1, 6:], density.log_prob_demonstrations(demos))


def test_equal_seeds_give_equal_rewards_and_a_constant_reward_stays():
    demos, (policy,) = batch(4, 1), policies(1)
    first, second, still = (learner(demos, constant=c) for c in (False, False, True))
    start = still.reward_arrays()
    for method in (first, second, still):
        method.update(batch(5, 9), policy, 0, generator(3))
    assert all(np.array_equal(first.reward_arrays()[k], second.reward_arrays()[k]) for k in start)
    assert all(np.array_equal(still.reward_arrays()[k], start[k]) for k in start)
    assert any(not np.array_equal(first.reward_arrays()[k], start[k]) for k in start)


def test_options_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        RewardConfig().lcr = 3.0
