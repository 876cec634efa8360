"""Time-varying linear-Gaussian dynamics, fitted to rollouts, and the controllers that are best on them.

Levine & Abbeel 2014, "Learning neural network policies with guided policy search under unknown dynamics", sections 3.1
to 3.3; Levine & Finn 2016 (arXiv 1504.00702), appendix A. Pure numpy in float64; z = [x, u] stacks state and action.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

Array = np.ndarray
PRIOR_WEIGHT = 20.0
"""What the neighbouring time steps are worth in a fit, in samples."""
PRIOR_REACH = 3.0
"""Time steps at which a neighbour counts half."""
RIDGE = 1e-6
"""Variance added to the regressors: inputs that never change say nothing."""
BISECTIONS = 30
LOWEST_PRICE, HIGHEST_PRICE = 1e-8, 1e8


class LinearGaussian(NamedTuple):
    """y_t ~ N(F_t z_t + c_t, Σ_t), shapes F (H, n_y, n_z), c (H, n_y), noise Σ (H, n_y, n_y)."""

    F: Array
    c: Array
    noise: Array


class Controller(NamedTuple):
    """u_t ~ N(K_t x_t + k_t, C_t), shapes K (H, m, d), k (H, m), C (H, m, m)."""

    K: Array
    k: Array
    C: Array


class Quadratic(NamedTuple):
    """½ zᵀ Z_t z + zᵀ z0_t up to a constant, shapes Z (H, n, n), z0 (H, n)."""

    Z: Array
    z0: Array


class Improved(NamedTuple):
    """The controller, its mean KL per step to the one before [nats] and the price η of that KL."""

    controller: Controller
    kl: float
    price: float


def fit(z: Array, y: Array, counted: Array, prior_weight: float = PRIOR_WEIGHT) -> LinearGaussian:
    """Regress y (B, H, n_y) on z (B, H, n_z) in each time step, where `counted` (B, H) is 1.

    A time step has few samples: the samples of all steps, weighted by 1 / (1 + (Δt / PRIOR_REACH)²), stand beside them
    as a normal-inverse-Wishart prior that is worth `prior_weight` samples.
    """
    joint, n_z, steps = np.concatenate([z, y], -1), z.shape[-1], np.arange(z.shape[1])
    closeness = 1 / (1 + np.square((steps[:, None] - steps) / PRIOR_REACH))
    # worth of a sample of step s in step t: one where s = t, besides its share of the prior
    worth = np.eye(len(steps)) + prior_weight * closeness / (closeness @ counted.sum(0))[:, None]
    total = (worth @ counted.sum(0))[:, None]
    mean = worth @ np.einsum("bt,bti->ti", counted, joint) / total
    second = np.tensordot(worth, np.einsum("bt,bti,btj->tij", counted, joint, joint), 1) / total[..., None]
    covariance = second - mean[:, :, None] * mean[:, None, :]
    regressors = covariance[:, :n_z, :n_z] + RIDGE * np.eye(n_z)
    F = np.linalg.solve(regressors, covariance[:, :n_z, n_z:]).swapaxes(1, 2)
    noise = covariance[:, n_z:, n_z:] - F @ covariance[:, :n_z, n_z:]
    c = mean[:, n_z:] - np.einsum("tij,tj->ti", F, mean[:, :n_z])
    return LinearGaussian(F, c, (noise + noise.swapaxes(1, 2)) / 2)


def surprise(controller: Controller) -> Quadratic:
    """−log p(u | x) as a quadratic of z."""
    precision = np.linalg.inv(controller.C)
    M = np.concatenate([-controller.K, np.broadcast_to(np.eye(controller.k.shape[1]), controller.C.shape)], -1)
    return Quadratic(M.swapaxes(1, 2) @ precision @ M, -np.einsum("tij,tik,tk->tj", M, precision, controller.k))


def backward(dynamics: LinearGaussian, cost: Quadratic) -> Controller:
    """The controller that minimises E[Σ cost] − entropy: C_t = Q_uu⁻¹, K_t = −Q_uu⁻¹ Q_ux, k_t = −Q_uu⁻¹ q_u."""
    horizon, d, n = dynamics.F.shape
    K, k, C = np.empty((horizon, n - d, d)), np.empty((horizon, n - d)), np.empty((horizon, n - d, n - d))
    V, v = np.zeros((d, d)), np.zeros(d)
    for t in reversed(range(horizon)):
        F, c = dynamics.F[t], dynamics.c[t]
        Q = cost.Z[t] + F.T @ V @ F
        q = cost.z0[t] + F.T @ (v + V @ c)
        C[t] = np.linalg.inv(Q[d:, d:])
        C[t] = (C[t] + C[t].T) / 2
        K[t], k[t] = -C[t] @ Q[d:, :d], -C[t] @ q[d:]
        V = Q[:d, :d] + Q[:d, d:] @ K[t]
        V, v = (V + V.T) / 2, q[:d] + Q[:d, d:] @ k[t]
    return Controller(K, k, C)


def forward(dynamics: LinearGaussian, controller: Controller, mean: Array, covariance: Array) -> tuple[Array, Array]:
    """Means (H, d) and covariances (H, d, d) of x_t from those of x_0."""
    horizon, d, n = dynamics.F.shape
    means, covariances = np.empty((horizon, d)), np.empty((horizon, d, d))
    noise = np.zeros((n, n))
    for t in range(horizon):
        means[t], covariances[t] = mean, covariance
        M = np.concatenate([np.eye(d), controller.K[t]])
        noise[d:, d:] = controller.C[t]
        F = dynamics.F[t]
        mean = F @ np.concatenate([mean, controller.K[t] @ mean + controller.k[t]]) + dynamics.c[t]
        covariance = F @ (M @ covariance @ M.T + noise) @ F.T + dynamics.noise[t]
    return means, covariances


def mean_kl(new: Controller, old: Controller, means: Array, covariances: Array) -> float:
    """E KL(new ‖ old) [nats] per step, over states of these means (H, d) and covariances (H, d, d)."""
    precision = np.linalg.inv(old.C)
    dK, dk = new.K - old.K, new.k - old.k
    offset = np.einsum("tij,tj->ti", dK, means) + dk
    spread = dK @ covariances @ dK.swapaxes(1, 2) + offset[:, :, None] * offset[:, None, :] + new.C
    log_det = np.linalg.slogdet(old.C)[1] - np.linalg.slogdet(new.C)[1]
    kl = 0.5 * (np.einsum("tij,tji->t", precision, spread) - old.k.shape[1] + log_det)
    return float(kl.mean())


def improve(
    old: Controller,
    dynamics: LinearGaussian,
    cost: Quadratic,
    start: tuple[Array, Array],
    entropy_weight: float,
    kl_bound: float,
) -> Improved:
    """min E[cost] − entropy_weight · H under mean KL(new ‖ old) ≤ kl_bound; `start` is mean and covariance of x_0.

    For a price η of the KL the solution is the backward pass on (cost − η log old) / (η + entropy_weight); the lowest
    price that keeps the bound is found by bisection.
    """
    penalty = surprise(old)

    def solve(price: float) -> Improved:
        scale = 1 / (price + entropy_weight)
        priced = Quadratic(scale * (cost.Z + price * penalty.Z), scale * (cost.z0 + price * penalty.z0))
        new = backward(dynamics, priced)
        return Improved(new, mean_kl(new, old, *forward(dynamics, new, *start)), price)

    best = solve(LOWEST_PRICE)
    if best.kl <= kl_bound:
        return best
    low, high, best = math.log(LOWEST_PRICE), math.log(HIGHEST_PRICE), solve(HIGHEST_PRICE)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        found = solve(math.exp(middle))
        low, high, best = (low, middle, found) if found.kl <= kl_bound else (middle, high, best)
    return best
