"""Behaviour cloning against least squares, and the demonstrations' density fitted leave-one-out."""

from __future__ import annotations

import math

import numpy as np
import torch

from irl_ros.learning.batch import Batch
from irl_ros.learning.bc import MIN_STD, clone, least_squares_loss
from irl_ros.learning.config import CloneConfig
from irl_ros.learning.density import MOST_FOLDS, DemonstrationDensity, trajectory_log_prob
from irl_ros.models.policies import GaussianPolicy

N_INPUTS, N_ACTIONS, HORIZON = 3, 2, 40
GAIN = torch.tensor([[0.5, -0.3, 0.2], [0.0, 0.4, -0.6]])
OFFSET = torch.tensor([0.1, -0.2])
NOISE = torch.tensor([0.1, 0.3])
PLAIN = CloneConfig(steps=400, learning_rate=3e-3, weight_decay=0.0, input_noise=0.0)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def linear_demonstrations(n: int, seed: int, noise: torch.Tensor = NOISE) -> Batch:
    """An expert that acts a = G x + g + ε; the last demonstration is 15 steps shorter, padded with nonsense."""
    g = generator(seed)
    inputs = 0.5 * torch.randn(n, HORIZON + 1, N_INPUTS, generator=g)
    actions = inputs[:, :-1] @ GAIN.T + OFFSET + noise * torch.randn(n, HORIZON, N_ACTIONS, generator=g)
    counted = torch.ones(n, HORIZON)
    counted[-1, -15:] = 0
    actions[-1, -15:] = 55.0
    return Batch(inputs, inputs[:, 1:], actions, counted.clone(), counted)


def with_actions(demos: Batch, actions: torch.Tensor) -> Batch:
    return Batch(demos.inputs, demos.features, actions, demos.executed, demos.counted)


def closed_form(batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    """Least squares with an intercept: predictions for the counted steps, and the residuals' root mean square."""
    rows = batch.counted.bool()
    x, a = batch.inputs[:, :-1][rows].numpy(), batch.actions[rows].numpy()
    design = np.hstack([x, np.ones((len(x), 1))])
    fitted = design @ np.linalg.lstsq(design, a, rcond=None)[0]
    return fitted, np.sqrt(np.square(fitted - a).mean(0))


def test_a_linear_gaussian_expert_is_found_again():
    demos = linear_demonstrations(50, 0)
    policy = clone(demos, PLAIN, generator(1))
    fitted, residual = closed_form(demos)
    with torch.no_grad():
        mean = policy(demos.inputs[:, :-1][demos.counted.bool()]).numpy()
    assert np.sqrt(np.square(mean - fitted).mean()) < 0.06  # a network has room to follow some of the noise
    np.testing.assert_allclose(policy.log_std.exp().detach().numpy(), residual, rtol=0.1)
    np.testing.assert_allclose(policy.log_std.exp().detach().numpy(), NOISE.numpy(), rtol=0.15)


def test_a_clone_generalises_to_fresh_states():
    policy = clone(linear_demonstrations(12, 0), CloneConfig(), generator(1))
    fresh = linear_demonstrations(10, 77, noise=torch.zeros(2))
    rows = fresh.counted.bool()
    with torch.no_grad():
        error = policy(fresh.inputs[:, :-1][rows]) - fresh.actions[rows]
    assert error.square().mean().sqrt().item() < 0.12


def test_deviation_never_falls_below_its_floor():
    demos = linear_demonstrations(4, 0, noise=torch.zeros(2))
    constant = with_actions(demos, torch.zeros_like(demos.actions))
    std = clone(constant, PLAIN, generator(0)).log_std.exp()
    torch.testing.assert_close(std, torch.full((2,), MIN_STD))


def test_loss_by_hand():
    policy = GaussianPolicy(1, 2, generator())
    with torch.no_grad():
        for layer in policy.mean:
            layer.weight.zero_()
        policy.mean[-1].bias.copy_(torch.tensor([1.0, 2.0]))
    loss, metrics = least_squares_loss(policy, torch.zeros(2, 1), torch.tensor([[1.0, 0.0], [2.0, 2.0]]))
    assert loss.item() == 0.5 * (4 + 1) / 2 and metrics == {"bc/loss": loss.item()}


def test_equal_generators_give_equal_clones():
    demos = linear_demonstrations(3, 0)
    first, second = (clone(demos, CloneConfig(steps=30), generator(4)).arrays() for _ in range(2))
    assert all(np.array_equal(first[k], second[k]) for k in first)


def test_trajectory_log_prob_sums_over_the_steps_that_were_acted():
    policy = GaussianPolicy(N_INPUTS, N_ACTIONS, generator())
    demos = linear_demonstrations(3, 0)
    with torch.no_grad():
        each = policy.log_prob(demos.inputs[:, :-1], demos.actions)
        expected = [each[0].sum(), each[1].sum(), each[2, :-15].sum()]
    torch.testing.assert_close(trajectory_log_prob(policy, demos), torch.stack(expected))


SHORT = CloneConfig(steps=150, weight_decay=0.0, input_noise=0.0)


def quirky_demonstrations() -> Batch:
    """Four demonstrations, each with a habit of its own that the others do not show."""
    demos = linear_demonstrations(4, 0)
    habits = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    return with_actions(demos, demos.actions + habits[:, None] * torch.sign(demos.inputs[:, :-1, :1]))


def test_a_held_out_demonstration_is_less_likely_than_under_its_own_fit():
    demos = quirky_demonstrations()
    density = DemonstrationDensity.fit(demos, SHORT, generator(1))
    held_out = density.log_prob_demonstrations(demos)
    own = trajectory_log_prob(density.full, demos)
    assert held_out.shape == (4,) and len(density.held_out) == 4
    assert (held_out < own).all()


def test_many_demonstrations_are_held_out_in_folds():
    demos = linear_demonstrations(MOST_FOLDS + 3, 0)
    habit = torch.zeros(len(demos))
    habit[[1, MOST_FOLDS + 1]] = 1.0  # these two are of one fold
    demos = with_actions(demos, demos.actions + habit[:, None, None])
    density = DemonstrationDensity.fit(demos, SHORT, generator(1))
    assert len(density.held_out) == len(demos) and len({id(p) for p in density.held_out}) == MOST_FOLDS
    assert density.held_out[1] is density.held_out[MOST_FOLDS + 1]
    with torch.no_grad():
        bias = [(p(demos.inputs[i, :-1]) - demos.actions[i]).mean() for i, p in enumerate(density.held_out)]
    assert bias[1] < -0.9 and bias[MOST_FOLDS + 1] < -0.9  # neither vouches for the other


def test_the_densitys_deviation_is_that_of_held_out_residuals():
    demos = quirky_demonstrations()
    density = DemonstrationDensity.fit(demos, SHORT, generator(1))
    squares, count = torch.zeros(2), 0
    with torch.no_grad():
        for i, policy in enumerate(density.held_out):
            rows = demos.counted[i].bool()
            residual = (policy(demos.inputs[i, :-1]) - demos.actions[i])[rows]
            squares, count = squares + residual.square().sum(0), count + len(residual)
    expected = (squares / count).sqrt().log()
    for policy in (density.full, *density.held_out):
        torch.testing.assert_close(policy.log_std.detach(), expected)
    with torch.no_grad():
        rows = demos.counted.bool()
        fitted = (density.full(demos.inputs[:, :-1]) - demos.actions)[rows].square().mean(0).sqrt()
    assert (expected.exp() > fitted).all()  # the fit's own residuals flatter


def test_each_held_out_fit_ignores_the_demonstration_it_judges():
    demos = quirky_demonstrations()
    changed = with_actions(demos, demos.actions.clone())
    changed.actions[0] += 3.0
    first, second = (DemonstrationDensity.fit(d, SHORT, generator(1)) for d in (demos, changed))
    x = demos.inputs[0, :-1]
    with torch.no_grad():
        assert torch.equal(first.held_out[0](x), second.held_out[0](x))
        assert not torch.equal(first.held_out[1](x), second.held_out[1](x))


def test_a_single_demonstration_has_only_its_own_fit():
    demos = linear_demonstrations(2, 0)[0:1]
    density = DemonstrationDensity.fit(demos, SHORT, generator(1))
    assert density.held_out == (density.full,)
    assert math.isfinite(density.log_prob_demonstrations(demos).item())
