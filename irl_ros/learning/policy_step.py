"""KL-bounded maximum-entropy policy step on the learned reward (GCL's `min E[c] − H(q)` under a KL bound).

Proximal policy optimisation (Schulman et al. 2017, arXiv 1707.06347) with generalised advantages (1506.02438); then
the whole step is shortened until the exact mean KL(old ‖ new) is within its bound.
"""

from __future__ import annotations

import torch
from torch import Tensor

from irl_ros.learning.batch import Batch
from irl_ros.learning.config import PolicyStepConfig
from irl_ros.models.policies import GaussianPolicy, ValueFunction, gaussian_kl, gaussian_log_prob

SHORTEN = 0.7


def advantages(reward: Tensor, value: Tensor, discount: float, gae_lambda: float) -> Tensor:
    """Generalised advantage estimates (B, H) from rewards (B, H) and values (B, H+1).

    The horizon truncates, it does not terminate: the last value is bootstrapped.
    """
    delta = reward + discount * value[:, 1:] - value[:, :-1]
    result = torch.zeros_like(reward)
    running = torch.zeros_like(reward[:, 0])
    for t in reversed(range(reward.shape[1])):
        running = delta[:, t] + discount * gae_lambda * running
        result[:, t] = running
    return result


def ppo_loss(
    log_prob: Tensor, old_log_prob: Tensor, advantage: Tensor, entropy: Tensor, config: PolicyStepConfig
) -> Tensor:
    """Clipped surrogate minus the weighted entropy; arguments (N,) and a scalar entropy [nats]."""
    ratio = (log_prob - old_log_prob).exp()
    clipped = ratio.clamp(1 - config.clip, 1 + config.clip)
    return -torch.minimum(ratio * advantage, clipped * advantage).mean() - config.entropy_weight * entropy


class PolicyStep:
    """Policy, value function and their optimisers."""

    def __init__(self, policy: GaussianPolicy, value: ValueFunction, config: PolicyStepConfig):
        self.policy, self.value, self._config = policy, value, config
        self.policy_optimiser = torch.optim.Adam(policy.parameters(), config.learning_rate)
        self.value_optimiser = torch.optim.Adam(value.parameters(), config.learning_rate)
        self.networks: dict[str, torch.nn.Module] = {"policy": policy, "value": value}
        self.optimisers = {"policy": self.policy_optimiser, "value": self.value_optimiser}

    def improve(self, batch: Batch, reward: Tensor, first: bool, generator: torch.Generator) -> dict[str, float]:
        """One step on rewards (B, H); in the `first` the value function learns alone beforehand."""
        config = self._config
        metrics = {"policy/reward": float(reward.sum(-1).mean())}
        # Under a fixed horizon neither shift nor scale of the reward changes the task; the value network likes unit ones.
        reward = (reward - reward.mean()) / (reward.std() + 1e-8)
        if first:
            self._fit_value(batch, reward, config.value_warmup_epochs, generator)
        with torch.no_grad():
            value = self.value(batch.inputs)
            advantage = advantages(reward, value, config.discount, config.gae_lambda)
            returns = advantage + value[:, :-1]
        explained = 1.0 - float((returns - value[:, :-1]).var() / returns.var().clamp_min(1e-8))
        metrics.update(self._fit_policy(batch, advantage, generator))
        self._fit_value(batch, reward, config.epochs, generator)
        return {**metrics, "policy/value_explained": explained}

    def _fit_value(self, batch: Batch, reward: Tensor, epochs: int, generator: torch.Generator) -> None:
        config, inputs = self._config, batch.inputs[:, :-1].flatten(0, 1)
        with torch.no_grad():
            value = self.value(batch.inputs)
            returns = advantages(reward, value, config.discount, config.gae_lambda) + value[:, :-1]
        returns = returns.flatten()
        for _ in range(epochs):
            for rows in self._minibatches(len(inputs), generator):
                loss = (self.value(inputs[rows]) - returns[rows]).square().mean()
                _update(self.value_optimiser, loss, self.value)

    def _fit_policy(self, batch: Batch, advantage: Tensor, generator: torch.Generator) -> dict[str, float]:
        acted = batch.executed.bool()
        inputs, actions = batch.inputs[:, :-1][acted], batch.actions[acted]
        advantage = advantage[acted]
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        old = {name: p.detach().clone() for name, p in self.policy.named_parameters()}
        with torch.no_grad():
            old_mean, old_log_std = self.policy(inputs), self.policy.log_std.clone()
            old_log_prob = gaussian_log_prob(old_mean, old_log_std, actions)
        kl = 0.0
        for _ in range(self._config.epochs):
            for rows in self._minibatches(len(inputs), generator):
                log_prob = self.policy.log_prob(inputs[rows], actions[rows])
                loss = ppo_loss(log_prob, old_log_prob[rows], advantage[rows], self.policy.entropy(), self._config)
                _update(self.policy_optimiser, loss, self.policy)
            kl = self._kl(inputs, old_mean, old_log_std)
            if kl > self._config.kl_bound:
                kl = self._shorten(old, inputs, old_mean, old_log_std)
                break
        return {
            "policy/kl": kl,
            "policy/entropy": self.policy.entropy().item(),
            "policy/std": self.policy.log_std.exp().mean().item(),
        }

    @torch.no_grad()
    def _kl(self, inputs: Tensor, old_mean: Tensor, old_log_std: Tensor) -> float:
        return gaussian_kl(old_mean, old_log_std, self.policy(inputs), self.policy.log_std).mean().item()

    @torch.no_grad()
    def _shorten(self, old: dict[str, Tensor], inputs: Tensor, old_mean: Tensor, old_log_std: Tensor) -> float:
        """Move the parameters back towards `old` until the KL bound holds."""
        kl = self._kl(inputs, old_mean, old_log_std)
        while kl > self._config.kl_bound:
            for name, parameter in self.policy.named_parameters():
                parameter.copy_(old[name] + SHORTEN * (parameter - old[name]))
            kl = self._kl(inputs, old_mean, old_log_std)
        return kl

    def _minibatches(self, n: int, generator: torch.Generator) -> list[Tensor]:
        return list(torch.randperm(n, generator=generator).split(self._config.minibatch))


def _update(optimiser: torch.optim.Optimizer, loss: Tensor, module: torch.nn.Module) -> None:
    optimiser.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
    optimiser.step()
