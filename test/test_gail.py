"""GAIL: on a discrete toy the occupancy becomes the expert's; the logit's sign, and its numpy twin."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from test_gcl import N_ACTIONS, N_INPUTS, batch, generator

from irl_ros.contract import Contract
from irl_ros.learning.config import AdversarialConfig, RewardConfig, TrainConfig
from irl_ros.learning.discriminator import logistic_loss
from irl_ros.learning.gail import GenerativeAdversarialImitation
from irl_ros.learning.method import Problem
from irl_ros.models.features import Features
from irl_ros.models.inference import Reward
from irl_ros.models.policies import GaussianPolicy
from irl_ros.models.rewards import NetworkReward

# ── The oracle: a discrete toy ─────────────────────────────────────────────────────────────────────────────────────

S, A, DISCOUNT = 10, 3, 0.9


class Toy:
    """Ten states, three actions, stochastic dynamics; exact occupancies and values."""

    def __init__(self, seed: int):
        rng = np.random.default_rng(seed)
        self.transition = rng.dirichlet(np.full(S, 0.3), size=(S, A))
        self.expert = rng.dirichlet(np.full(A, 0.5), size=S)
        self.initial = np.full(S, 1 / S)

    def occupancy(self, policy: np.ndarray) -> np.ndarray:
        """Discounted ρ (S, A), which sums to 1."""
        move = np.einsum("sa,sat->st", policy, self.transition)
        states = np.linalg.solve(np.eye(S) - DISCOUNT * move.T, (1 - DISCOUNT) * self.initial)
        return states[:, None] * policy

    def action_values(self, policy: np.ndarray, reward: np.ndarray, entropy_weight: float) -> np.ndarray:
        """Q (S, A) of the reward with causal entropy."""
        bonus = reward - entropy_weight * np.log(policy)
        move = np.einsum("sa,sat->st", policy, self.transition)
        V = np.linalg.solve(np.eye(S) - DISCOUNT * move, (policy * bonus).sum(1))
        return bonus + DISCOUNT * self.transition @ V


def jensen_shannon_distance(p: np.ndarray, q: np.ndarray) -> float:
    """The square root of the divergence [bits]: 0 for equal distributions, 1 for disjoint ones."""
    middle = (p + q) / 2
    return math.sqrt(0.5 * ((p * np.log2(p / middle)).sum() + (q * np.log2(q / middle)).sum()))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_occupancy_becomes_the_experts(seed: int):
    toy = Toy(seed)
    rho_expert = torch.as_tensor(toy.occupancy(toy.expert)).ravel()
    pairs, nothing = torch.eye(S * A).double(), torch.zeros(S * A, 1)
    discriminator = NetworkReward(S * A, generator(seed), hidden=(), bound=10.0).double()
    optimiser = torch.optim.Adam(discriminator.parameters(), 0.05)
    policy = np.full((S, A), 1 / A)
    start = jensen_shannon_distance(rho_expert.numpy(), toy.occupancy(policy).ravel())
    for _ in range(300):
        rho = torch.as_tensor(toy.occupancy(policy)).ravel()
        for _ in range(5):
            logit = discriminator(pairs, nothing)
            loss = logistic_loss(logit, logit, rho_expert, rho)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        reward = discriminator(pairs, nothing).detach().numpy().reshape(S, A)
        policy = policy * np.exp(0.1 * toy.action_values(policy, reward, 1e-3))  # a small KL-bounded step
        policy /= policy.sum(1, keepdims=True)
    end = jensen_shannon_distance(rho_expert.numpy(), toy.occupancy(policy).ravel())
    assert start > 0.4 and end < 0.02


# ── The step ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("state_only", [True, False])
def test_demonstrations_get_the_higher_logit(state_only: bool):
    demos, policy = batch(5, 1, 0.0), GaussianPolicy(N_INPUTS, N_ACTIONS, generator(0))
    adversarial = AdversarialConfig(learning_rate=1e-2, state_only=state_only)
    config = TrainConfig(method="gail", reward=RewardConfig(lcr=0.0, mono=0.0), adversarial=adversarial)
    method = GenerativeAdversarialImitation(Problem(demos, config, 0.9, generator(0)))
    for k in range(3):
        metrics = method.update(batch(20, 10 + k, 1.5), policy, k, generator(k))
    with torch.no_grad():
        demo, sample = (method.expert_is_high(b, policy).mean().item() for b in (batch(30, 50), batch(30, 51, 1.5)))
        reward = method.policy_reward(batch(3, 51, 1.5), policy)
    assert demo > 0 > sample and reward.shape == (3, 6)
    assert metrics["discriminator/reward_gap"] > 0 and all(math.isfinite(v) for v in metrics.values())


# ── The network in control ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("n_actions", [0, 7])
def test_the_numpy_reward_is_the_torch_one(n_actions: int):
    contract = Contract.load("panda", "reach")
    phi = Features(contract, contract.task.reward_features)
    reward, rng = NetworkReward(phi.size, generator(3), bound=2.0, n_actions=n_actions), np.random.default_rng(0)
    twin = Reward.from_arrays(reward.arrays(), contract)
    for _ in range(5):
        o, o2 = (rng.normal(size=contract.observation_size) for _ in range(2))
        a = 2 * rng.normal(size=contract.action_size)
        with torch.no_grad():
            features = torch.as_tensor(phi(o, a, o2), dtype=torch.float32)
            expected = reward(features, torch.as_tensor(a, dtype=torch.float32)).item()
        assert twin(o, a, o2) == pytest.approx(expected, abs=1e-5) and abs(expected) < 2.0
