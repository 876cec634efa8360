"""Policies and rewards in numpy, for control and for rollout workers: the same networks as in the torch modules.

A batched matrix product changes its last bits with the batch size, so everything here acts on one row: a trajectory
does not depend on how many others were sampled beside it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from irl_ros.contract import Contract
from irl_ros.models import tables
from irl_ros.models.features import Features

Arrays = Mapping[str, np.ndarray]
_LOG_2PI = float(np.log(2 * np.pi))


def mlp_layers(arrays: Arrays, prefix: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """The (weight (out, in), bias (out,)) pairs saved as `<prefix>.<k>.weight` and `.bias`, in float64."""
    layers, k = [], 0
    while f"{prefix}.{k}.weight" in arrays:
        layers.append(tuple(np.asarray(arrays[f"{prefix}.{k}.{part}"], np.float64) for part in ("weight", "bias")))
        k += 1
    return layers


def mlp(layers: list[tuple[np.ndarray, np.ndarray]], x: np.ndarray) -> np.ndarray:
    """Tanh network with a linear last layer; x has shape (in,)."""
    for weight, bias in layers[:-1]:
        x = np.tanh(weight @ x + bias)
    weight, bias = layers[-1]
    return weight @ x + bias


def policy_from_arrays(arrays: Arrays, contract: Contract) -> Policy | TrajectoryPolicy | tables.TablePolicy:
    """The policy that a checkpoint's arrays hold: a network's, controllers by time step, or a table over grid cells."""
    kinds = {tables.LOG_POLICY: tables.TablePolicy, "K": TrajectoryPolicy}
    return next((kind for key, kind in kinds.items() if key in arrays), Policy).from_arrays(arrays, contract)


def reward_from_arrays(
    arrays: Arrays, contract: Contract
) -> Reward | NetworkReward | LinearReward | tables.TableReward:
    """The reward that a checkpoint's arrays hold."""
    return (tables.TableReward if tables.REWARD in arrays else Reward).from_arrays(arrays, contract)


class Policy:
    """Gaussian policy π(a | o) = N(mean(o), diag σ²); σ does not depend on o. log π is of the unclipped sample."""

    def __init__(self, features: Features, layers: list[tuple[np.ndarray, np.ndarray]], log_std: np.ndarray):
        self._features, self._layers = features, layers
        self.log_std = np.asarray(log_std, np.float64)
        self._std = np.exp(self.log_std)

    @classmethod
    def from_arrays(cls, arrays: Arrays, contract: Contract) -> Policy:
        """From :meth:`irl_ros.models.policies.GaussianPolicy.arrays`."""
        return cls(Features(contract, contract.task.policy_inputs), mlp_layers(arrays, "mean"), arrays["log_std"])

    def mean(self, observation: np.ndarray, step: int = 0) -> np.ndarray:
        """Mean action, shape (action_size,), of one observation (observation_size,); the same in every time step."""
        return mlp(self._layers, self._features(observation))

    def sample(self, observation: np.ndarray, rng: np.random.Generator, step: int = 0) -> tuple[np.ndarray, float]:
        """An unclipped action and its log-density [nats]."""
        noise = rng.standard_normal(len(self._std))
        log_prob = -0.5 * float(noise @ noise) - float(self.log_std.sum()) - 0.5 * len(noise) * _LOG_2PI
        return self.mean(observation) + self._std * noise, log_prob


class TrajectoryPolicy:
    """π_t(a | o) = N(K_t x + k_t, C_t), as :class:`irl_ros.models.policies.TrajectoryPolicy`; x: policy inputs of o.

    The step t comes from the caller. From the horizon on the last controller stays in force.
    """

    def __init__(self, features: Features, K: np.ndarray, k: np.ndarray, C: np.ndarray):
        self._features, self._K, self._k = features, K, k
        self._chol = np.linalg.cholesky(C)

    @classmethod
    def from_arrays(cls, arrays: Arrays, contract: Contract) -> TrajectoryPolicy:
        """From :meth:`irl_ros.models.policies.TrajectoryPolicy.arrays`."""
        K, k, C = (np.asarray(arrays[name], np.float64) for name in ("K", "k", "C"))
        return cls(Features(contract, contract.task.policy_inputs), K, k, C)

    def mean(self, observation: np.ndarray, step: int = 0) -> np.ndarray:
        """Mean action, shape (action_size,), of one observation (observation_size,) in time step `step`."""
        t = min(step, len(self._k) - 1)
        return self._K[t] @ self._features(observation) + self._k[t]

    def sample(self, observation: np.ndarray, rng: np.random.Generator, step: int = 0) -> tuple[np.ndarray, float]:
        """An unclipped action and its log-density [nats]."""
        chol = self._chol[min(step, len(self._k) - 1)]
        noise = rng.standard_normal(len(chol))
        log_prob = -0.5 * float(noise @ noise) - float(np.log(chol.diagonal()).sum()) - 0.5 * len(noise) * _LOG_2PI
        return self.mean(observation, step) + chol @ noise, log_prob


class Reward:
    """Learned reward r(o, a, o′) of one transition, as in :mod:`irl_ros.models.rewards`."""

    def __init__(self, features: Features, arrays: Arrays):
        self._features = features
        self._layers = mlp_layers(arrays, "cost")
        self._a, self._b = (np.asarray(arrays[k], np.float64) for k in ("A", "b"))
        self._w_u, self._bound = float(arrays["w_u"]), float(arrays["bound"])

    @classmethod
    def from_arrays(cls, arrays: Arrays, contract: Contract) -> Reward | NetworkReward | LinearReward:
        """From `arrays()` of a reward in :mod:`irl_ros.models.rewards`; the keys say of which."""
        kinds = {"net.0.weight": NetworkReward, "psi": LinearReward}
        kind = next((kind for key, kind in kinds.items() if key in arrays), cls)
        return kind(Features(contract, contract.task.reward_features), arrays)

    def __call__(self, observation: np.ndarray, action: np.ndarray, next_observation: np.ndarray) -> float:
        y = np.tanh(mlp(self._layers, self._features(observation, action, next_observation)))
        z = self._a @ y + self._b
        q = float(z @ z)
        u = np.clip(action, -1.0, 1.0)
        return -self._bound * q / (self._bound + q) - self._w_u * float(u @ u)


class NetworkReward:
    """Learned reward r(o, a, o′) of one transition, as :class:`irl_ros.models.rewards.NetworkReward`."""

    def __init__(self, features: Features, arrays: Arrays):
        self._features, self._layers = features, mlp_layers(arrays, "net")
        self._bound, self._uses_action = float(arrays["bound"]), bool(arrays["n_actions"])

    def __call__(self, observation: np.ndarray, action: np.ndarray, next_observation: np.ndarray) -> float:
        x = self._features(observation, action, next_observation)
        if self._uses_action:
            x = np.concatenate([x, np.clip(action, -1.0, 1.0)])
        return self._bound * float(np.tanh(mlp(self._layers, x)[0] / self._bound))


class LinearReward:
    """Learned reward r(o, a, o′) = ψᵀφ of one transition, as :class:`irl_ros.models.rewards.LinearReward`."""

    def __init__(self, features: Features, arrays: Arrays):
        self._features, self._psi = features, np.asarray(arrays["psi"], np.float64)

    def __call__(self, observation: np.ndarray, action: np.ndarray, next_observation: np.ndarray) -> float:
        return float(self._psi @ self._features(observation, action, next_observation))
