"""AIRL: the reward of a random deterministic MDP comes back, state-only exactly, state-action as the soft advantage."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from test_gcl import N_ACTIONS, N_INPUTS, batch, generator

from irl_ros.learning.airl import AdversarialInverseReinforcementLearning, expert_is_high
from irl_ros.learning.config import AdversarialConfig, RewardConfig, TrainConfig
from irl_ros.learning.discriminator import calibration_error, health, logistic_loss
from irl_ros.learning.method import Problem
from irl_ros.models.policies import GaussianPolicy
from irl_ros.models.rewards import NetworkReward, ShapedReward

# ── The oracle: a random deterministic MDP ─────────────────────────────────────────────────────────────────────────

S, A, DISCOUNT = 16, 4, 0.9


class World:
    """16 states, 4 actions, deterministic; r depends on the state alone; exact soft policies and occupancies."""

    def __init__(self, seed: int):
        rng = np.random.default_rng(seed)
        self.next_state = rng.integers(S, size=(S, A))
        self.true_reward = rng.normal(size=S)
        self.initial = np.full(S, 1 / S)

    def decomposable(self) -> bool:
        """States are linked through common predecessors, all of them (1710.11248, definition B.1)."""
        linked = np.eye(S, dtype=bool)
        for successors in self.next_state:
            linked[np.ix_(successors, successors)] = True
        return bool(np.linalg.matrix_power(linked.astype(float), S).all())

    def soft(self, reward: np.ndarray, V: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Stationary soft-optimal log π (S, A) and values of r (S, A), by policy iteration from values V (S,)."""
        while True:
            Q = reward + DISCOUNT * V[self.next_state]
            log_policy = Q - Q.max(1, keepdims=True)
            log_policy -= np.log(np.exp(log_policy).sum(1, keepdims=True))
            policy = np.exp(log_policy)
            gain = (policy * (reward - log_policy)).sum(1)
            V, before = np.linalg.solve(np.eye(S) - DISCOUNT * self.moves(policy), gain), V
            if np.abs(V - before).max() < 1e-9:
                return log_policy, V

    def moves(self, policy: np.ndarray) -> np.ndarray:
        """P(s′ | s) under `policy`, shape (S, S)."""
        return np.einsum("sa,sat->st", policy, np.eye(S)[self.next_state])

    def occupancy(self, policy: np.ndarray) -> np.ndarray:
        """Discounted occupancy ρ (S, A), which sums to 1."""
        states = np.linalg.solve(np.eye(S) - DISCOUNT * self.moves(policy).T, (1 - DISCOUNT) * self.initial)
        return states[:, None] * policy


def one_hot(index: np.ndarray, n: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.as_tensor(index.ravel()), n).double()


def learn(world: World, expert: np.ndarray, features: torch.Tensor, iterations: int) -> ShapedReward:
    """AIRL with exact expectations: tables g and h, the policy soft-optimal for f after each discriminator step."""
    g = NetworkReward(features.shape[-1], generator(0), hidden=(), bound=1e4)
    f = ShapedReward(g, S, DISCOUNT, generator(1), hidden=()).double()
    here, there = one_hot(np.repeat(np.arange(S), A), S), one_hot(world.next_state, S)
    optimiser = torch.optim.Adam(f.parameters(), 0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, iterations)
    rho_expert, V = torch.as_tensor(world.occupancy(expert)).ravel(), np.zeros(S)
    for _ in range(iterations):
        values = f(features, here, here, there)
        log_pi, V = world.soft(values.detach().numpy().reshape(S, A), V)
        rho = torch.as_tensor(world.occupancy(np.exp(log_pi))).ravel()
        logit = expert_is_high(values, torch.as_tensor(log_pi).ravel())
        loss = logistic_loss(logit, logit, rho_expert, rho)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return f


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


@pytest.mark.parametrize("seed, where", [(2, "departure"), (3, "arrival")])
def test_state_only_g_is_the_true_reward_up_to_a_constant(seed: int, where: str):
    """`arrival` is what the task files have: next(…), features of o′."""
    world = World(seed)
    assert world.decomposable()
    states = np.repeat(np.arange(S), A) if where == "departure" else world.next_state
    expert, _ = world.soft(world.true_reward[states].reshape(S, A), np.zeros(S))
    f = learn(world, np.exp(expert), one_hot(states, S), 600)
    with torch.no_grad():
        g = f.g(torch.eye(S).double(), torch.zeros(S, 1)).numpy()
    assert correlation(g, world.true_reward) >= 0.98
    assert np.std(g - world.true_reward) < 0.2 * np.std(world.true_reward)  # a constant apart: the scale is right too


@pytest.mark.parametrize("seed", [2])
def test_in_state_action_form_f_is_the_soft_advantage(seed: int):
    world = World(seed)
    rng = np.random.default_rng(100 + seed)
    advantage, _ = world.soft(rng.normal(size=(S, A)), np.zeros(S))
    pairs = np.arange(S * A)
    f = learn(world, np.exp(advantage), one_hot(pairs, S * A), 400)
    here, there = one_hot(np.repeat(np.arange(S), A), S), one_hot(world.next_state, S)
    with torch.no_grad():
        values = f(one_hot(pairs, S * A), here, here, there).numpy()
    assert correlation(values, advantage) >= 0.98


# ── Health figures ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_accuracy_and_calibration_by_hand():
    demo, sample = torch.tensor([2.0, 2.0, -2.0, 2.0]), torch.tensor([-2.0, 2.0])
    figures = health(demo, sample)
    assert figures["discriminator/accuracy_demonstrations"] == 0.75 and figures["discriminator/accuracy_samples"] == 0.5
    assert figures["discriminator/logit_gap"] == pytest.approx(1.0)
    D = 1 / (1 + math.exp(-2))  # P(D high) = (¾ + ½)/2, of which ¾/2 experts
    high, low = abs(0.375 - 0.625 * D), abs(0.125 - 0.375 * (1 - D))
    assert figures["discriminator/calibration_error"] == pytest.approx(high + low, rel=1e-6)


def test_a_discriminator_that_knows_the_densities_is_calibrated():
    x = torch.randn(40_000, generator=generator(0), dtype=torch.float64)
    demo, sample = x[:20_000] + 1.0, x[20_000:]
    log_ratio = [y - 0.5 for y in (demo, sample)]
    assert calibration_error(*log_ratio) < 0.02
    assert calibration_error(*(4 * r for r in log_ratio)) > 0.1  # the same one, over-confident


def test_the_weighted_loss_is_the_plain_one_on_repeated_rows():
    a, b = torch.randn(3, generator=generator(1)), torch.randn(2, generator=generator(2))
    rows = torch.tensor([0, 0, 1, 2])
    weighted = logistic_loss(a, b, torch.tensor([0.5, 0.25, 0.25]), torch.tensor([0.5, 0.5]))
    torch.testing.assert_close(weighted, logistic_loss(a[rows], b))


# ── The step ───────────────────────────────────────────────────────────────────────────────────────────────────────


def learner(demos, **options) -> AdversarialInverseReinforcementLearning:
    rough = RewardConfig(lcr=0.0, mono=0.0)  # the features are noise: nothing is smooth in them
    config = TrainConfig(method="airl", reward=rough, adversarial=AdversarialConfig(**options))
    return AdversarialInverseReinforcementLearning(Problem(demos, config, 0.9, generator(0)))


@pytest.mark.parametrize("state_only", [True, False])
def test_the_reward_of_demonstrations_rises_above_that_of_samples(state_only: bool):
    demos, policy = batch(5, 1, 0.0), GaussianPolicy(N_INPUTS, N_ACTIONS, generator(0))
    method = learner(demos, learning_rate=1e-2, state_only=state_only)
    for k in range(3):
        metrics = method.update(batch(20, 10 + k, 1.5), policy, k, generator(k))
    fresh = batch(30, 50), batch(30, 51, 1.5)
    with torch.no_grad():
        g = [method.learned_reward(b).mean().item() for b in fresh]
        logit = [method.expert_is_high(b, policy).mean().item() for b in fresh]
    assert g[0] > g[1] + 0.1 and logit[0] > 0 > logit[1]
    assert metrics["discriminator/reward_gap"] > 0 and all(math.isfinite(v) for v in metrics.values())


def test_the_policys_reward_is_the_logit_and_holds_the_entropy_once():
    demos, policy = batch(4, 1), GaussianPolicy(N_INPUTS, N_ACTIONS, generator(0))
    method, samples = learner(demos, temperature=0.7), batch(3, 5)
    with torch.no_grad():
        reward = method.policy_reward(samples, policy)
        g = method.learned_reward(samples)
        h = method.networks["reward"].potential(samples.inputs)
        log_pi = policy.log_prob(samples.inputs[:, :-1], samples.actions) * samples.executed
        logit = method.expert_is_high(samples, policy)
    torch.testing.assert_close(reward, g + 0.9 * h[:, 1:] - h[:, :-1] - 0.7 * log_pi)
    torch.testing.assert_close(reward[samples.counted.bool()], logit)
    D = torch.sigmoid(logit.double())
    torch.testing.assert_close(D.log() - (1 - D).log(), logit.double())
    assert method.reward_holds_entropy
