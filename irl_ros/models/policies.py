"""Gaussian policy and value function in torch, for learning; :mod:`irl_ros.models.inference` runs them in control."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn


def tanh_network(sizes: list[int], generator: torch.Generator, last_gain: float = 1.0) -> nn.ModuleList:
    """Linear layers of a tanh network, orthogonally initialised from `generator`."""
    layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes, sizes[1:]))
    for k, layer in enumerate(layers):
        gain = last_gain if k == len(layers) - 1 else math.sqrt(2.0)
        nn.init.orthogonal_(layer.weight, gain, generator=generator)
        nn.init.zeros_(layer.bias)
    return layers


def apply_network(layers: nn.ModuleList, x: Tensor) -> Tensor:
    """tanh between layers, linear last layer."""
    for layer in layers[:-1]:
        x = torch.tanh(layer(x))
    return layers[-1](x)


class GaussianPolicy(nn.Module):
    """π(a | x) = N(mean(x), diag σ²) with learned, state-independent σ; x are the scaled policy inputs."""

    def __init__(self, n_inputs: int, n_actions: int, generator: torch.Generator, hidden: tuple[int, ...] = (64, 64)):
        super().__init__()
        self.mean = tanh_network([n_inputs, *hidden, n_actions], generator, last_gain=0.01)
        self.log_std = nn.Parameter(torch.zeros(n_actions))

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> GaussianPolicy:
        """The policy whose :meth:`arrays` these are, with its sizes."""
        n = sum(name.startswith("mean.") and name.endswith(".weight") for name in arrays)
        shapes = [arrays[f"mean.{k}.weight"].shape for k in range(n)]
        hidden = tuple(rows for rows, _ in shapes[:-1])
        policy = cls(shapes[0][1], shapes[-1][0], torch.Generator(), hidden)
        policy.load_state_dict({name: torch.as_tensor(np.array(value)) for name, value in arrays.items()})
        return policy

    def forward(self, x: Tensor) -> Tensor:
        """Mean action, shape (…, n_actions), for inputs (…, n_inputs)."""
        return apply_network(self.mean, x)

    def log_prob(self, x: Tensor, action: Tensor) -> Tensor:
        """log π(a | x) [nats] of unclipped actions, shape (…,)."""
        return gaussian_log_prob(self(x), self.log_std, action)

    def entropy(self) -> Tensor:
        """Differential entropy [nats] of the unclipped Gaussian."""
        return (self.log_std + 0.5 * math.log(2 * math.pi * math.e)).sum()

    def arrays(self) -> dict[str, np.ndarray]:
        """For :meth:`irl_ros.models.inference.Policy.from_arrays` and for checkpoints."""
        return {name: value.detach().cpu().numpy().copy() for name, value in self.state_dict().items()}


class TrajectoryPolicy(nn.Module):
    """π_t(a | x) = N(K_t x + k_t, C_t): a linear-Gaussian controller per time step; set, not descended to."""

    def __init__(self, horizon: int, n_actions: int, n_inputs: int):
        super().__init__()
        self.register_buffer("K", torch.zeros(horizon, n_actions, n_inputs, dtype=torch.float64))
        self.register_buffer("k", torch.zeros(horizon, n_actions, dtype=torch.float64))
        self.register_buffer("C", torch.eye(n_actions, dtype=torch.float64).repeat(horizon, 1, 1))

    def set(self, K: np.ndarray, k: np.ndarray, C: np.ndarray) -> None:
        """Take other controllers: gains (H, m, d), offsets (H, m), covariances (H, m, m)."""
        for name, value in (("K", K), ("k", k), ("C", C)):
            getattr(self, name).copy_(torch.as_tensor(np.array(value)))

    def controllers(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """K, k, C as in :meth:`set`."""
        return tuple(getattr(self, name).cpu().numpy().copy() for name in ("K", "k", "C"))

    @property
    def log_std(self) -> Tensor:
        """Of each action, over all time steps, shape (m,)."""
        return 0.5 * self.C.diagonal(dim1=-2, dim2=-1).log().mean(0).float()

    def log_prob(self, x: Tensor, action: Tensor) -> Tensor:
        """log π_t(a | x) [nats], shape (…, H), of whole trajectories (…, H, n_inputs): time is the place in them."""
        mean = (self.K @ x.double().unsqueeze(-1)).squeeze(-1) + self.k
        distribution = torch.distributions.MultivariateNormal(mean, self.C, validate_args=False)
        return distribution.log_prob(action.double()).float()

    def entropy(self) -> Tensor:
        """Differential entropy [nats], mean over the time steps."""
        m = self.C.shape[-1]
        return 0.5 * torch.logdet(self.C).mean() + 0.5 * m * math.log(2 * math.pi * math.e)

    def arrays(self) -> dict[str, np.ndarray]:
        """For :meth:`irl_ros.models.inference.TrajectoryPolicy.from_arrays` and for checkpoints."""
        return {name: value.detach().cpu().numpy().copy() for name, value in self.state_dict().items()}


StochasticPolicy = GaussianPolicy | TrajectoryPolicy


class ValueFunction(nn.Module):
    """V(x) of the learned reward."""

    def __init__(self, n_inputs: int, generator: torch.Generator, hidden: tuple[int, ...] = (64, 64)):
        super().__init__()
        self.value = tanh_network([n_inputs, *hidden, 1], generator)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (…,) for inputs (…, n_inputs)."""
        return apply_network(self.value, x).squeeze(-1)


def gaussian_log_prob(mean: Tensor, log_std: Tensor, action: Tensor) -> Tensor:
    """log N(action; mean, diag exp(2 log_std)), summed over the last axis."""
    z = (action - mean) / log_std.exp()
    return (-0.5 * z * z - log_std - 0.5 * math.log(2 * math.pi)).sum(-1)


def gaussian_kl(mean_p: Tensor, log_std_p: Tensor, mean_q: Tensor, log_std_q: Tensor) -> Tensor:
    """KL(p ‖ q) [nats] of diagonal Gaussians, shape (…,)."""
    variance_ratio = (2 * (log_std_p - log_std_q)).exp()
    z = (mean_p - mean_q) / log_std_q.exp()
    return (log_std_q - log_std_p + 0.5 * (variance_ratio + z * z) - 0.5).sum(-1)
