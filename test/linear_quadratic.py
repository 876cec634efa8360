"""A linear-quadratic problem for tests: H steps, D states, M actions."""

from __future__ import annotations

import numpy as np

from irl_ros.learning.linear_gaussian import Controller, LinearGaussian, Quadratic

H, D, M = 6, 3, 2


def system(seed: int = 0) -> LinearGaussian:
    """A dynamics of its own in every time step."""
    rng = np.random.default_rng(seed)
    F = np.concatenate([np.eye(D) + 0.2 * rng.normal(size=(H, D, D)), rng.normal(size=(H, D, M))], -1)
    return LinearGaussian(F, 0.1 * rng.normal(size=(H, D)), np.broadcast_to(0.01 * np.eye(D), (H, D, D)))


def costs(seed: int = 1) -> Quadratic:
    root = np.random.default_rng(seed).normal(size=(H, D + M, D + M))
    return Quadratic(root @ root.swapaxes(1, 2), np.random.default_rng(seed + 1).normal(size=(H, D + M)))


def lazy(std: float = 0.5) -> Controller:
    return Controller(np.zeros((H, M, D)), np.zeros((H, M)), np.broadcast_to(std**2 * np.eye(M), (H, M, M)).copy())


def drawn(dynamics: LinearGaussian, controller: Controller, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """States (n, H+1, D) and actions (n, H, M) of rollouts."""
    rng = np.random.default_rng(seed)
    x, u = np.empty((n, H + 1, D)), np.empty((n, H, M))
    x[:, 0] = rng.normal(size=(n, D))
    for t in range(H):
        mean = x[:, t] @ controller.K[t].T + controller.k[t]
        u[:, t] = mean + rng.multivariate_normal(np.zeros(M), controller.C[t], n)
        z = np.concatenate([x[:, t], u[:, t]], -1)
        x[:, t + 1] = z @ dynamics.F[t].T + dynamics.c[t] + rng.multivariate_normal(np.zeros(D), dynamics.noise[t], n)
    return x, u
