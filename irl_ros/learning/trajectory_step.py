"""Trajectory-centric policy step: time-varying linear-Gaussian controllers on fitted dynamics, under a KL bound.

The policy optimisation of guided cost learning's authors (arXiv 1603.00448, section 4.1): Levine & Abbeel 2014,
"Learning neural network policies with guided policy search under unknown dynamics". What differs:
- The state x is the policy's inputs, relative to the goal: one controller serves all starts and goals. x_0 has the
  moments that it has in the rollouts.
- The cost is a network of features φ of transitions and of the action. φ is fitted as a linear function of (x, u)
  beside the next state, and the cost expanded to second order in (φ, u) at every rollout; of each Hessian the part that
  curves upwards is kept, and a time step's expansion is the mean over its rollouts.
- The dynamics' prior are the neighbouring time steps, in place of a mixture of Gaussians.
- The fit is of the last BATCHES batches: one alone, 20 rollouts, now and then gave a step that lost half the success.
- As in the gradient step the reward is brought to a standard deviation of one, so that entropy_weight has no unit.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from irl_ros.learning.batch import Batch
from irl_ros.learning.config import PolicyStepConfig
from irl_ros.learning.linear_gaussian import Controller, LinearGaussian, Quadratic, fit, improve
from irl_ros.learning.method import Method
from irl_ros.models.policies import TrajectoryPolicy

BATCHES = 3
Expansion = tuple[np.ndarray, np.ndarray, np.ndarray]


class TrajectoryStep:
    """A policy of controllers and its improvement on the reward and the latest samples of `method`."""

    def __init__(self, policy: TrajectoryPolicy, config: PolicyStepConfig, method: Method):
        self.policy, self._config, self._method = policy, config, method
        self.networks: dict[str, torch.nn.Module] = {"policy": policy}
        self.optimisers: dict[str, torch.optim.Optimizer] = {}

    def improve(self, batch: Batch, reward: Tensor, first: bool, generator: torch.Generator) -> dict[str, float]:
        """One step; `batch`, with rewards `reward` (B, H), is the last of the method's window. Nothing is drawn."""
        recent = Batch.cat([samples for samples, _ in self._method.window.entries[-BATCHES:]])
        counted, x, u, phi = (_array(p) for p in (recent.executed, recent.inputs, recent.actions, recent.features))
        fitted = fit(np.concatenate([x[:, :-1], u], -1), np.concatenate([x[:, 1:], phi], -1), counted)
        d = x.shape[-1]
        dynamics = LinearGaussian(fitted.F[:, :d], fitted.c[:, :d], fitted.noise[:, :d, :d])
        features = LinearGaussian(fitted.F[:, d:], fitted.c[:, d:], fitted.noise[:, d:, d:])
        expansion = expand(self._method.learned_reward, recent)
        cost = cost_of_state(expansion, features, counted / (float(reward.std()) + 1e-8))
        start, config = (x[:, 0].mean(0), np.atleast_2d(np.cov(x[:, 0].T))), self._config
        old = Controller(*self.policy.controllers())
        new = improve(old, dynamics, cost, start, config.entropy_weight, config.kl_bound)
        self.policy.set(*new.controller)
        return {
            "policy/reward": float(reward.sum(-1).mean()),
            "policy/kl": new.kl,
            "policy/kl_price": new.price,
            "policy/entropy": self.policy.entropy().item(),
            "policy/std": self.policy.log_std.exp().mean().item(),
        }


def clone_controllers(demonstrations: Batch, std: float) -> TrajectoryPolicy:
    """Controllers regressed on the demonstrations, each time step with its neighbours, that explore by `std`."""
    x, u = _array(demonstrations.inputs[:, :-1]), _array(demonstrations.actions)
    fitted = fit(x, u, _array(demonstrations.counted))
    policy = TrajectoryPolicy(*fitted.F.shape)
    policy.set(fitted.F, fitted.c, np.broadcast_to(std**2 * np.eye(u.shape[-1]), fitted.noise.shape))
    return policy.to(demonstrations.inputs.device)


def expand(reward: Callable[[Batch], Tensor], batch: Batch) -> Expansion:
    """Cost −r about each transition: the point v = [φ, u] (B, H, n), gradient (B, H, n), Hessian (B, H, n, n).

    Of the Hessian the part with positive eigenvalues.
    """
    n = batch.features.shape[-1]
    v = torch.cat([batch.features, batch.actions], -1).detach().requires_grad_(True)
    with torch.enable_grad():
        at_v = Batch(batch.inputs, v[..., :n], v[..., n:], batch.executed, batch.counted)
        (gradient,) = torch.autograd.grad(-reward(at_v).sum(), v, create_graph=True)
        rows = [torch.autograd.grad(g.sum(), v, retain_graph=True)[0] for g in gradient.unbind(-1)]
    hessian = _array(torch.stack(rows, -2))
    values, vectors = np.linalg.eigh((hessian + hessian.swapaxes(-1, -2)) / 2)
    upwards = (vectors * np.maximum(values, 0.0)[..., None, :]) @ vectors.swapaxes(-1, -2)
    return _array(v), _array(gradient), upwards


def cost_of_state(expansion: Expansion, features: LinearGaussian, weight: np.ndarray) -> Quadratic:
    """Mean over the rollouts of weight (B, H) · cost, as a quadratic of z = [x, u], where φ_t = F_t z + c_t."""
    v, gradient, hessian = expansion
    weight = weight / np.maximum((weight > 0).sum(0), 1)
    curvature = np.einsum("bt,btij->tij", weight, hessian)
    slope = np.einsum("bt,bti->ti", weight, gradient - np.einsum("btij,btj->bti", hessian, v))
    horizon, n_features, n = features.F.shape
    m = v.shape[-1] - n_features
    J = np.zeros((horizon, n_features + m, n))  # dv/dz
    J[:, :n_features], J[:, n_features:, n - m :] = features.F, np.eye(m)
    slope += np.einsum("tij,tj->ti", curvature[..., :n_features], features.c)
    return Quadratic(J.swapaxes(1, 2) @ curvature @ J, np.einsum("tij,ti->tj", J, slope))


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().double().numpy()
