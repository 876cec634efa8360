"""Learned rewards in torch, for learning; :mod:`irl_ros.models.inference` runs them in control."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from irl_ros.models.policies import apply_network, tanh_network


class QuadraticReward(nn.Module):
    """GCL's cost c = ‖A y + b‖² + w_u‖u‖², y = f_θ(φ), as a reward r = −c (arXiv 1603.00448, section 5.2).

    The quadratic saturates at `bound`: q ↦ bound · q / (bound + q). Unbounded, its scale runs away from the
    demonstrations and the trajectory weights collapse onto one sample.
    """

    def __init__(
        self,
        n_features: int,
        generator: torch.Generator,
        hidden: tuple[int, ...] = (32, 32),
        n_outputs: int = 8,
        bound: float = 10.0,
        w_u: float = 0.01,
    ):
        super().__init__()
        self.cost = tanh_network([n_features, *hidden], generator)
        self.A = nn.Parameter(torch.empty(n_outputs, hidden[-1]))
        nn.init.orthogonal_(self.A, 0.5, generator=generator)
        self.b = nn.Parameter(torch.zeros(n_outputs))
        self._forget_the_origin(generator)
        self.register_buffer("bound", torch.tensor(bound))
        self.register_buffer("w_u", torch.tensor(w_u))

    @torch.no_grad()
    def _forget_the_origin(self, generator: torch.Generator) -> None:
        """Random biases. With zeros the cost is least at φ = 0, which for features relative to a goal is the goal: an
        untrained reward then teaches a clone to reach, and nothing shows what was learned.
        """
        for bias in (*(layer.bias for layer in self.cost), self.b):
            nn.init.uniform_(bias, -1.0, 1.0, generator=generator)

    def forward(self, features: Tensor, action: Tensor) -> Tensor:
        """Reward, shape (…,), of scaled reward features (…, n_features) and actions (…, n_actions)."""
        y = torch.tanh(apply_network(self.cost, features))
        q = (y @ self.A.T + self.b).square().sum(-1)
        u = action.clamp(-1.0, 1.0)
        return -self.bound * q / (self.bound + q) - self.w_u * u.square().sum(-1)

    def arrays(self) -> dict[str, np.ndarray]:
        """For :meth:`irl_ros.models.inference.Reward.from_arrays` and for checkpoints."""
        return {name: value.detach().cpu().numpy().copy() for name, value in self.state_dict().items()}


class NetworkReward(nn.Module):
    """A network of the transition's features φ and, with `n_actions`, of the executed action: r = b · tanh(net / b).

    Bounded by `bound` = b: a discriminator that separates a handful of demonstrations perfectly drives an unbounded
    reward to any height. Biases are drawn at random, as in :class:`QuadraticReward`.
    """

    def __init__(
        self,
        n_features: int,
        generator: torch.Generator,
        hidden: tuple[int, ...] = (32, 32),
        bound: float = 10.0,
        n_actions: int = 0,
    ):
        super().__init__()
        self.net = tanh_network([n_features + n_actions, *hidden, 1], generator)
        with torch.no_grad():
            for layer in self.net[:-1]:
                nn.init.uniform_(layer.bias, -1.0, 1.0, generator=generator)
        self.register_buffer("bound", torch.tensor(bound))
        self.register_buffer("n_actions", torch.tensor(n_actions))

    def forward(self, features: Tensor, action: Tensor) -> Tensor:
        """Reward, shape (…,), of scaled reward features (…, n_features) and actions (…, n_actions)."""
        x = torch.cat([features, action.clamp(-1.0, 1.0)], -1) if self.n_actions else features
        return self.bound * torch.tanh(apply_network(self.net, x).squeeze(-1) / self.bound)

    def arrays(self) -> dict[str, np.ndarray]:
        """For :meth:`irl_ros.models.inference.Reward.from_arrays` and for checkpoints."""
        return {name: value.detach().cpu().numpy().copy() for name, value in self.state_dict().items()}


class LinearReward(nn.Module):
    """r = ψᵀφ, of the transition's features alone; ψ starts at zero and is set, not descended to."""

    def __init__(self, n_features: int):
        super().__init__()
        self.register_buffer("psi", torch.zeros(n_features))

    def forward(self, features: Tensor, action: Tensor) -> Tensor:
        """Reward, shape (…,), of scaled reward features (…, n_features); the action counts where it is a feature."""
        return features @ self.psi

    def arrays(self) -> dict[str, np.ndarray]:
        """For :meth:`irl_ros.models.inference.Reward.from_arrays` and for checkpoints."""
        return {"psi": self.psi.cpu().numpy().copy()}


def load_reward(arrays: Mapping[str, np.ndarray]) -> nn.Module:
    """The reward whose `arrays()` these are, with its sizes, as a module of features and actions."""
    if "psi" in arrays:
        reward: nn.Module = LinearReward(len(arrays["psi"]))
    elif "net.0.weight" in arrays:
        shapes = _shapes(arrays, "net")
        n_actions = int(arrays["n_actions"])
        hidden = tuple(rows for rows, _ in shapes[:-1])
        reward = NetworkReward(shapes[0][1] - n_actions, torch.Generator(), hidden, n_actions=n_actions)
    elif "cost.0.weight" in arrays:
        shapes = _shapes(arrays, "cost")
        hidden = tuple(rows for rows, _ in shapes)
        reward = QuadraticReward(shapes[0][1], torch.Generator(), hidden, len(arrays["b"]))
    else:
        raise ValueError("these arrays hold no reward of a transition's features")
    reward.load_state_dict({name: torch.as_tensor(np.array(value)) for name, value in arrays.items()})
    return reward


def _shapes(arrays: Mapping[str, np.ndarray], prefix: str) -> list[tuple[int, int]]:
    """(outputs, inputs) of each layer."""
    n = sum(name.startswith(f"{prefix}.") and name.endswith(".weight") for name in arrays)
    return [arrays[f"{prefix}.{k}.weight"].shape for k in range(n)]


class ShapedReward(nn.Module):
    """AIRL's f = g + γ h(x′) − h(x) (arXiv 1710.11248, eq. 4): a reward g and a potential h of the policy inputs x."""

    def __init__(
        self,
        g: NetworkReward,
        n_inputs: int,
        discount: float,
        generator: torch.Generator,
        hidden: tuple[int, ...] = (32, 32),
    ):
        super().__init__()
        self.g = g
        self.h = tanh_network([n_inputs, *hidden, 1], generator)
        self.register_buffer("discount", torch.tensor(discount))

    def forward(self, features: Tensor, action: Tensor, inputs: Tensor, next_inputs: Tensor) -> Tensor:
        """f, shape (…,), of reward features, actions and the policy inputs before and after, (…, n_inputs)."""
        return self.g(features, action) + self.discount * self.potential(next_inputs) - self.potential(inputs)

    def potential(self, inputs: Tensor) -> Tensor:
        """h, shape (…,)."""
        return apply_network(self.h, inputs).squeeze(-1)
