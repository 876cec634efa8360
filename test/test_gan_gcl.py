"""GAN-GCL: its gradient is GCL's at the optimal Z, Z is the partition function, and it learns where logits saturate."""

from __future__ import annotations

import math

import pytest
import torch
from test_gcl import N_ACTIONS, N_FEATURES, N_INPUTS, Known, batch, flat, generator, moved

from irl_ros.learning.batch import Batch
from irl_ros.learning.config import AdversarialConfig, RewardConfig, TrainConfig
from irl_ros.learning.density import trajectory_log_prob
from irl_ros.learning.discriminator import logistic_loss
from irl_ros.learning.fusion import fusion_log_z, log_partition
from irl_ros.learning.gan_gcl import GanGuidedCostLearning, discriminator_loss, gan_gcl_loss, optimal_log_partition
from irl_ros.learning.gcl import ioc_loss
from irl_ros.learning.method import Problem
from irl_ros.models.policies import GaussianPolicy
from irl_ros.models.rewards import QuadraticReward

UNTEMPERED = math.inf


def network() -> QuadraticReward:
    return QuadraticReward(N_FEATURES, generator(4), hidden=(5,), n_outputs=3, bound=2.0, w_u=0.3).double()


def totals(reward: torch.nn.Module, n: int, m: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Costs of n demonstrations and m samples, differentiable."""
    demos, samples = batch(n, 1, dtype=torch.float64), batch(m, 2, 0.7, dtype=torch.float64)
    return tuple(-(reward(b.features, b.actions) * b.counted).sum(-1) for b in (demos, samples))


def log_q(n: int, m: int, spread: float = 2.0) -> tuple[torch.Tensor, torch.Tensor]:
    g = generator(7)
    return tuple(spread * torch.randn(k, generator=g, dtype=torch.float64) - 3.0 for k in (n, m))


def gradient(loss: torch.Tensor, reward: torch.nn.Module) -> torch.Tensor:
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(reward.parameters()), retain_graph=True)])


# ── The oracle: GCL ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("spread", [0.5, 2.0, 10.0])
def test_at_the_optimal_z_the_gradient_is_gcls_with_the_weights_of_the_equal_mixture(spread: float):
    """1611.03852, section 3.2: the mixture is ½ p̃ + ½ q, half of the background are demonstrations, half samples."""
    reward = network()
    demo_cost, sample_cost = totals(reward, 8, 8)
    demo_log_q, sample_log_q = log_q(8, 8, spread)
    loss, metrics = discriminator_loss(demo_cost, sample_cost, demo_log_q, sample_log_q, UNTEMPERED)
    background, q = torch.cat([sample_cost, demo_cost]), torch.cat([sample_log_q, demo_log_q])
    log_z = fusion_log_z(torch.stack([q, -background.detach() - metrics["discriminator/log_z"]]))
    gcl, weights = ioc_loss(demo_cost, background, log_z, 1e-6)
    assert metrics["weights/beta"] == weights.beta == 1.0
    torch.testing.assert_close(gradient(loss, reward), gradient(gcl, reward), rtol=1e-10, atol=1e-12)
    # and that Z is the importance-sampled partition function under the mixture
    assert log_partition(background.detach(), log_z).item() == pytest.approx(metrics["discriminator/log_z"], abs=1e-10)


def test_at_another_z_the_gradients_differ():
    reward = network()
    demo_cost, sample_cost = totals(reward, 8, 8)
    demo_log_q, sample_log_q = log_q(8, 8)
    z = optimal_log_partition((-demo_cost - demo_log_q).detach(), (-sample_cost - sample_log_q).detach()) + 1.0
    loss = logistic_loss(-demo_cost - demo_log_q - z, -sample_cost - sample_log_q - z)
    right, _ = discriminator_loss(demo_cost, sample_cost, demo_log_q, sample_log_q, UNTEMPERED)
    assert (gradient(loss, reward) - gradient(right, reward)).norm() > 0.05 * gradient(right, reward).norm()


@pytest.mark.parametrize("n, m, beta", [(5, 5, 1.0), (5, 80, 1.0), (5, 80, 0.03)])
def test_the_optimal_z_minimises_the_loss(n: int, m: int, beta: float):
    demo, sample = (-q for q in log_q(n, m, 20.0))
    best = optimal_log_partition(demo, sample, beta)
    losses = [logistic_loss(beta * (demo - z), beta * (sample - z)) for z in (best - 0.1 / beta, best, best + 0.1 / beta)]
    assert losses[1] < losses[0] and losses[1] < losses[2]
    doubt = torch.sigmoid(-beta * (demo - best)).mean()
    assert doubt.item() == pytest.approx(torch.sigmoid(beta * (sample - best)).mean().item(), abs=1e-12)


def test_z_is_the_partition_function_of_a_known_density():
    """An expert that is exp(−c)/Z itself, and samples of another density q: the optimal Z is the true one."""
    g, (mean, deviation) = generator(0), Known.proposals[1]
    expert = Known.center + Known.width * torch.randn(20_000, Known.steps, generator=g, dtype=torch.float64)
    drawn = mean + deviation * torch.randn(20_000, Known.steps, generator=g, dtype=torch.float64)
    ratios = [-Known.cost(x) - Known.log_q(x)[1] for x in (expert, drawn)]
    assert optimal_log_partition(*ratios).item() == pytest.approx(Known.log_z, abs=0.03)


# ── Tempering ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_where_the_papers_logits_saturate_the_tempered_ones_teach():
    demo_cost = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    sample_cost = torch.zeros(80, dtype=torch.float64, requires_grad=True)
    demo_log_q, sample_log_q = log_q(5, 80, 30.0)
    demo_log_q = demo_log_q - 400  # the demonstrations are unlike anything the policy does
    slopes = []
    for spread in (UNTEMPERED, 2.0):
        loss, metrics = discriminator_loss(demo_cost, sample_cost, demo_log_q, sample_log_q, spread)
        slopes.append(torch.autograd.grad(loss, demo_cost)[0].sum().item())
    assert 0 <= slopes[0] < 1e-9 and slopes[1] > 0.1
    assert 0 < metrics["weights/beta"] < 0.1
    assert metrics["discriminator/untempered_logit_deviation"] > 50


def test_the_tempered_gradient_is_the_loss_finite_differences():
    demos, samples, reward = batch(3, 1, dtype=torch.float64), batch(8, 2, 0.5, dtype=torch.float64), network()
    q = log_q(3, 8, 30.0)
    config = RewardConfig(lcr=3.0, mono=5.0, mono_margin=0.01)

    def value(parameters: torch.Tensor) -> float:
        """β is held, as the gradient holds it."""
        other = moved(network(), parameters)
        costs = [-(other(b.features, b.actions) * b.counted).sum(-1).detach() for b in (demos, samples)]
        ratios = [-cost - lq for cost, lq in zip(costs, q)]
        z = optimal_log_partition(*ratios, beta)
        plain = logistic_loss(*(beta * (r - z) for r in ratios)) / beta
        regularised, _ = gan_gcl_loss(other, demos, samples, *q, 1.0, config)
        bare, _ = gan_gcl_loss(other, demos, samples, *q, 1.0, RewardConfig(lcr=0.0, mono=0.0))
        return (plain + regularised - bare).item()

    loss, metrics = gan_gcl_loss(reward, demos, samples, *q, 1.0, config)
    beta, start, g = metrics["weights/beta"], flat(reward), generator(5)
    assert beta < 0.1
    for _ in range(5):
        direction = torch.randn(len(start), generator=g, dtype=torch.float64)
        up, down = (value(start + sign * 1e-5 * direction) for sign in (1, -1))
        assert (gradient(loss, reward) @ direction).item() == pytest.approx((up - down) / 2e-5, rel=1e-4, abs=1e-7)


# ── The step ───────────────────────────────────────────────────────────────────────────────────────────────────────


def learner(demos, match_noise: bool = True, **options) -> GanGuidedCostLearning:
    config = TrainConfig(
        method="gan_gcl", reward=RewardConfig(**options), adversarial=AdversarialConfig(match_noise=match_noise)
    )
    return GanGuidedCostLearning(Problem(demos, config, 0.9, generator(0)))


def test_the_reward_of_demonstrations_rises_above_that_of_samples():
    demos, policy = batch(5, 1, 0.0), GaussianPolicy(N_INPUTS, N_ACTIONS, generator(0))
    method = learner(demos, learning_rate=2e-2, updates=25, lcr=0.0, mono=0.0)
    metrics = {}
    for k in range(3):
        metrics = method.update(batch(20, 10 + k, 1.5), policy, k, generator(k))
    with torch.no_grad():
        demo, sample = (method.policy_reward(b, policy).mean().item() for b in (batch(30, 50), batch(30, 51, 1.5)))
    assert demo > sample + 0.1 and metrics["discriminator/reward_gap"] > 0
    assert all(math.isfinite(v) for v in metrics.values())


def test_log_q_is_that_of_the_policies_that_drew_the_window_computed_anew():
    demos = batch(4, 1)
    method = learner(demos, updates=1, background_batches=2)
    drew = [GaussianPolicy(N_INPUTS, N_ACTIONS, generator(k)) for k in range(3)]
    for k, policy in enumerate(drew):
        method.update(batch(3, 10 + k), policy, k, generator(k))
    everything = Batch.cat([batch(3, 11), batch(3, 12), demos])
    expected = torch.stack([trajectory_log_prob(p, everything) for p in drew[1:]])
    torch.testing.assert_close(method.window.log_q(), expected)


def test_matched_noise_is_the_mean_of_log_q_over_noisy_actions():
    """E log N(a + σε; μ, σ²) = log N(a; μ, σ²) − m/2 in every executed step."""
    demos, policy = batch(3, 1), GaussianPolicy(N_INPUTS, N_ACTIONS, generator(0))
    with torch.no_grad():
        policy.log_std.fill_(math.log(0.4))
    inputs, features, actions, *masks = demos
    g, noisy = generator(1), []
    for _ in range(800):
        shaken = actions + 0.4 * torch.randn(actions.shape, generator=g)
        noisy.append(trajectory_log_prob(policy, Batch(inputs, features, shaken, *masks)))
    expected = trajectory_log_prob(policy, demos) - 0.5 * N_ACTIONS * demos.executed.sum(-1)
    torch.testing.assert_close(torch.stack(noisy).mean(0), expected, rtol=0.02, atol=0.4)
