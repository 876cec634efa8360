"""Trajectories from an env, sampled in worker processes that each hold an env of their own.

Whole episodes are handed out, not single steps: lock-step vector envs spend a third of the time waiting for one
another. A seed belongs to an episode, not to a worker, so any number of workers gives the same trajectories.
"""

from __future__ import annotations

import multiprocessing
import os
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import gymnasium
import numpy as np

from irl_ros.contract import Contract, ContractError, Field, Task
from irl_ros.models.inference import Policy

Arrays = Mapping[str, np.ndarray]


class Trajectory(NamedTuple):
    """One episode at fixed horizon H.

    observations (H+1, n), actions (H, m) unclipped, log_probs (H,) [nats]; `length` ≤ H steps were executed, after an
    env's own termination the last observation repeats with zero actions (an absorbing state).
    """

    observations: np.ndarray
    actions: np.ndarray
    log_probs: np.ndarray
    length: int


class Outcome(NamedTuple):
    """How an evaluation episode ended: for reports, never for learning. Distance [m] is NaN where the env has none."""

    success: bool
    distance: float
    env_return: float


@dataclass(frozen=True)
class EnvSpec:
    """Everything a worker needs to make its env."""

    contract: Contract

    def make(self) -> gymnasium.Env:
        """The env, without gymnasium's per-step checks; a robot's env gets the contract itself."""
        kwargs = {"contract": self.contract} if self.contract.robot is not None else {}
        return gymnasium.make(self.contract.task.env, disable_env_checker=True, max_episode_steps=-1, **kwargs)


def env_contract(env_id: str, horizon: int | None, reward_features: Sequence[str] = ()) -> Contract:
    """The contract of any gymnasium env with Box or Dict-of-Box observations and Box actions in [-1, 1] or bounded.

    A Dict becomes one field per key, in the space's key order; a Box becomes the fields obs_0, obs_1, …
    """
    try:
        env = gymnasium.make(env_id)
    except (gymnasium.error.Error, ImportError) as error:
        raise ContractError(f"env {env_id!r}: {error}") from None
    space, actions = env.observation_space, env.action_space
    horizon = horizon or (env.spec.max_episode_steps if env.spec is not None else None)
    env.close()
    if not isinstance(actions, gymnasium.spaces.Box) or not np.isfinite([actions.low, actions.high]).all():
        raise ContractError(f"env {env_id!r}: actions must be a Box with finite bounds, not {actions}")
    if horizon is None:
        raise ContractError(f"env {env_id!r} has no time limit of its own: give a horizon")
    fields = _box_fields(space, env_id)
    inputs = tuple(f.name for f in fields)
    return Contract(
        None,
        Task(
            name=env_id,
            env=env_id,
            rate=1.0,
            horizon=int(horizon),
            action_kind="env",
            action_size=int(np.prod(actions.shape)),
            fields=fields,
            policy_inputs=inputs,
            reward_features=tuple(reward_features) or inputs,
        ),
    )


def _box_fields(space: gymnasium.Space, env_id: str) -> tuple[Field, ...]:
    if isinstance(space, gymnasium.spaces.Box):
        return tuple(Field(f"obs_{k}", 1) for k in range(int(np.prod(space.shape))))
    if isinstance(space, gymnasium.spaces.Dict) and all(isinstance(s, gymnasium.spaces.Box) for s in space.values()):
        return tuple(Field(name, int(np.prod(inner.shape))) for name, inner in space.items())
    raise ContractError(f"env {env_id!r}: observations must be a Box or a Dict of Boxes, not {space}")


class Rollouts:
    """A pool of env workers; a context manager that ends them."""

    def __init__(self, spec: EnvSpec, workers: int):
        self.horizon, self._workers = spec.contract.task.horizon, workers
        context = multiprocessing.get_context("spawn")  # a fork would copy torch's threads
        self._pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(spec,))
        self._warned = False

    def __enter__(self) -> Rollouts:
        return self

    def __exit__(self, *exception: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def sample(self, policy: Arrays, seeds: Sequence[int]) -> list[Trajectory]:
        """One trajectory per seed, drawn from the stochastic policy."""
        trajectories = self._map(partial(_sample, dict(policy)), seeds)
        if not self._warned and any(t.length < self.horizon for t in trajectories):
            self._warned = True
            warnings.warn(
                "this env ends episodes by itself; they run on to the fixed horizon in their last state, because the "
                "moment of termination would tell the learner the sign of the reward",
                stacklevel=2,
            )
        return trajectories

    def evaluate(self, policy: Arrays, seeds: Sequence[int]) -> list[Outcome]:
        """One outcome per seed, of the policy's mean."""
        return self._map(partial(_evaluate, dict(policy)), seeds)

    def _map(self, function: Any, seeds: Sequence[int]) -> list[Any]:
        chunk = max(1, len(seeds) // (4 * self._workers))
        return list(self._pool.map(function, seeds, chunksize=chunk))


class _Worker(NamedTuple):
    env: gymnasium.Env
    contract: Contract


_worker: _Worker | None = None


def _start_worker(spec: EnvSpec) -> None:
    global _worker
    os.environ["OMP_NUM_THREADS"] = "1"
    _worker = _Worker(spec.make(), spec.contract)


def flatten(observation: Any, contract: Contract) -> np.ndarray:
    """A Box or Dict observation as one vector in the contract's order."""
    if isinstance(observation, Mapping):
        return np.concatenate([np.ravel(observation[f.name]) for f in contract.task.fields]).astype(np.float64)
    return np.ravel(observation).astype(np.float64)


def to_env_action(action: np.ndarray, space: gymnasium.spaces.Box) -> np.ndarray:
    """An action in [-1, 1] (clipped) carried to the env's bounds."""
    low, high = space.low, space.high
    scaled = low + (np.clip(action, -1.0, 1.0).reshape(space.shape) + 1.0) * 0.5 * (high - low)
    return scaled.astype(space.dtype)


def _sample(policy_arrays: Arrays, seed: int) -> Trajectory:
    env, contract = _worker
    horizon, policy = contract.task.horizon, Policy.from_arrays(policy_arrays, contract)
    rng = np.random.default_rng([seed, 1])
    observations = np.empty((horizon + 1, contract.observation_size))
    actions, log_probs = np.zeros((horizon, contract.action_size)), np.zeros(horizon)
    observations[:] = flatten(env.reset(seed=seed)[0], contract)
    for t in range(horizon):
        actions[t], log_probs[t] = policy.sample(observations[t], rng)
        observation, _, terminated, _, _ = env.step(to_env_action(actions[t], env.action_space))
        observations[t + 1 :] = flatten(observation, contract)
        if terminated:
            return Trajectory(observations, actions, log_probs, t + 1)
    return Trajectory(observations, actions, log_probs, horizon)


def _evaluate(policy_arrays: Arrays, seed: int) -> Outcome:
    env, contract = _worker
    policy = Policy.from_arrays(policy_arrays, contract)
    observation, info = env.reset(seed=seed)
    total = 0.0
    for _ in range(contract.task.horizon):
        action = to_env_action(policy.mean(flatten(observation, contract)), env.action_space)
        observation, reward, terminated, _, info = env.step(action)
        total += float(reward)
        if terminated:
            break
    success = bool(info.get("success", info.get("is_success", False)))
    return Outcome(success, float(info.get("distance", np.nan)), total)
