"""The switches of guided cost learning's ablation: each really changes what the loss sees, and only that."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_gcl import N_FEATURES, Known, batch, flat, generator, learner, policies

from irl_ros.learning import gcl
from irl_ros.learning.batch import Batch
from irl_ros.learning.config import RewardConfig
from irl_ros.learning.density import trajectory_log_prob
from irl_ros.learning.fusion import fusion_log_z
from irl_ros.learning.gcl import GuidedCostLearning, gcl_loss, ioc_loss
from irl_ros.models.rewards import QuadraticReward

DEMOS, SAMPLES = batch(3, 1, dtype=torch.float64), batch(8, 2, 0.5, dtype=torch.float64)
PLAIN = {"effective_sample_size": 0.0, "lcr": 0.0, "mono": 0.0}


def reward() -> QuadraticReward:
    return QuadraticReward(N_FEATURES, generator(4), bound=2.0).double()


def gradient(loss: torch.Tensor, of: torch.nn.Module) -> torch.Tensor:
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(of.parameters()), retain_graph=True)])


def totals(of: torch.nn.Module, b: Batch) -> torch.Tensor:
    """Cost of each trajectory."""
    return (-of(b.features, b.actions) * b.counted).sum(-1)


# ── No importance weights ──────────────────────────────────────────────────────────────────────────────────────────


def test_without_importance_weights_every_background_trajectory_weighs_the_same():
    r, log_z = reward(), 20 * torch.randn(11, generator=generator(3), dtype=torch.float64)
    without = RewardConfig(importance_weights=False, **PLAIN)
    loss, _ = gcl_loss(r, DEMOS, SAMPLES, log_z, without)
    demo, background = totals(r, DEMOS), torch.cat([totals(r, SAMPLES), totals(r, DEMOS)])
    torch.testing.assert_close(gradient(loss, r), gradient(demo.mean() - background.mean(), r))
    again, _ = gcl_loss(r, DEMOS, SAMPLES, -log_z, without)  # whatever drew the samples
    torch.testing.assert_close(gradient(again, r), gradient(loss, r))


def test_with_them_the_weights_are_those_of_the_paper_and_differ():
    r, log_z = reward(), 20 * torch.randn(11, generator=generator(3), dtype=torch.float64)
    loss, _ = gcl_loss(r, DEMOS, SAMPLES, log_z, RewardConfig(**PLAIN))
    demo, background = totals(r, DEMOS), torch.cat([totals(r, SAMPLES), totals(r, DEMOS)])
    w = torch.softmax(log_z - background, 0).detach()
    torch.testing.assert_close(gradient(loss, r), gradient(demo.mean() - (w * background).sum(), r))
    assert w.max() > 0.5
    assert not torch.allclose(gradient(loss, r), gradient(demo.mean() - background.mean(), r), rtol=0.1)


def background_gradient(m: int, repeats: int, weighted: bool) -> np.ndarray:
    """d log Z / d center as the loss estimates it from m samples; truly 0, a shifted Gaussian has the same integral."""
    g, found = generator(0), []
    for _ in range(repeats):
        x = Known.sample(m, g)
        center = torch.tensor(Known.center, dtype=x.dtype, requires_grad=True)
        cost = ((x - center) ** 2).sum(-1) / (2 * Known.width**2)
        loss, _ = ioc_loss(torch.zeros(1), cost, fusion_log_z(Known.log_q(x)), 0.0, weighted)
        loss.backward()
        found.append(center.grad.item())
    return np.array(found)


def test_the_losss_gradient_of_log_z_is_consistent_with_weights_and_not_without():
    small, large = (background_gradient(m, 30, True) for m in (1_200, 12_000))
    assert np.sqrt(np.mean(large**2)) < 0.5 * np.sqrt(np.mean(small**2))  # √10 ≈ 3.2
    assert abs(large.mean()) < 0.05
    biased = [background_gradient(m, 30, False).mean() for m in (1_200, 12_000)]
    expected = Known.steps * (np.mean([m for m, _ in Known.proposals]) - Known.center) / Known.width**2
    assert expected > 0.5 and biased == pytest.approx([expected] * 2, abs=0.1)


# ── No demonstrations in the background ────────────────────────────────────────────────────────────────────────────


def seen(method: GuidedCostLearning, monkeypatch: pytest.MonkeyPatch) -> tuple[Batch, torch.Tensor, list[Batch]]:
    """The samples and log z that the loss is handed in the second of two reward steps, and the batches drawn."""
    calls, drawn = [], [batch(3, 10), batch(3, 11)]

    def spy(r: torch.nn.Module, demonstrations: Batch, samples: Batch, log_z: torch.Tensor, config: RewardConfig):
        calls.append((samples, log_z))
        return gcl_loss(r, demonstrations, samples, log_z, config)

    monkeypatch.setattr(gcl, "gcl_loss", spy)
    for k, (samples, policy) in enumerate(zip(drawn, policies(2))):
        method.update(samples, policy, k, generator(k))
    return *calls[-1], drawn


def test_without_demonstrations_in_the_background_the_loss_sees_samples_and_their_policies_alone(monkeypatch):
    method = learner(batch(4, 1), updates=1, demonstrations_in_background=False)
    samples, log_z, drawn = seen(method, monkeypatch)
    assert method.window.log_q().shape[0] == 2  # no density of the demonstrations in the mixture
    assert len(log_z) == len(samples) == 6  # no demonstrations in the batch
    expected = fusion_log_z(torch.stack([trajectory_log_prob(p, samples) for p in policies(2)]))
    torch.testing.assert_close(log_z, expected)
    sums = [b.features.sum((1, 2)).sort().values for b in (samples, Batch.cat(drawn))]
    torch.testing.assert_close(*sums)


def test_with_them_the_demonstrations_come_last_and_their_density_is_in_the_mixture(monkeypatch):
    method = learner(batch(4, 1), updates=1)
    samples, log_z, _ = seen(method, monkeypatch)
    assert method.window.log_q().shape[0] == 3 and len(samples) == 6 and len(log_z) == 6 + 4
    torch.testing.assert_close(log_z[6:], method.window.log_z()[6:])


def test_the_loss_without_them_is_that_of_the_samples_alone():
    r, log_z = reward(), torch.randn(8, generator=generator(3), dtype=torch.float64)
    loss, _ = gcl_loss(r, DEMOS, SAMPLES, log_z, RewardConfig(**PLAIN))
    w = torch.softmax(log_z - totals(r, SAMPLES), 0).detach()
    torch.testing.assert_close(gradient(loss, r), gradient(totals(r, DEMOS).mean() - (w * totals(r, SAMPLES)).sum(), r))


@pytest.mark.parametrize("options", [{"importance_weights": False}, {"demonstrations_in_background": False}])
def test_either_switch_changes_the_reward_that_is_learned(options):
    learned = []
    for switch in ({}, options):
        method = learner(batch(4, 1), updates=5, **switch)
        method.update(batch(6, 10), policies(1)[0], 0, generator(0))
        learned.append(flat(method.networks["reward"]))
    assert not torch.allclose(*learned)
