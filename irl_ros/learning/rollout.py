"""Trajectories from an env, sampled by workers that each hold an env of their own: processes here, or Ray's actors.

Whole episodes are handed out, not single steps: a lock-step vector env, whose members wait for one another, gave two
thirds of the steps per second. A seed belongs to an episode, not to a worker, so any workers give the same trajectories.
"""

from __future__ import annotations

import multiprocessing
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any, NamedTuple, Protocol

import gymnasium
import numpy as np

from irl_ros.learning.config import RAY, TrainConfig
from irl_ros.learning.environment import EnvSpec, flatten, to_env_action
from irl_ros.lifetime import die_with_parent
from irl_ros.models.inference import policy_from_arrays

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
    env_rewards: np.ndarray
    """The env's own rewards (H,): for the oracle that a learned reward is held against, never for learning one."""


class Outcome(NamedTuple):
    """How an evaluation episode ended: for reports, never for learning. Distance [m] is NaN where the env has none."""

    success: bool
    distance: float
    env_return: float


class EnvWorker:
    """An env, and the episodes that are drawn from it one at a time."""

    def __init__(self, spec: EnvSpec):
        self._env, self._contract = spec.make(), spec.contract

    def sample(self, policy_arrays: Arrays, seed: int) -> Trajectory:
        """By the stochastic policy."""
        env, contract = self._env, self._contract
        horizon, policy = contract.task.horizon, policy_from_arrays(policy_arrays, contract)
        rng = np.random.default_rng([seed, 1])
        observations = np.empty((horizon + 1, contract.observation_size))
        actions = np.zeros((horizon, contract.action_size))
        log_probs, env_rewards = np.zeros(horizon), np.zeros(horizon)
        observations[:] = flatten(env.reset(seed=seed)[0], contract)
        for t in range(horizon):
            actions[t], log_probs[t] = policy.sample(observations[t], rng, t)
            observation, env_rewards[t], terminated, _, _ = env.step(to_env_action(actions[t], env.action_space))
            observations[t + 1 :] = flatten(observation, contract)
            if terminated:
                return Trajectory(observations, actions, log_probs, t + 1, env_rewards)
        return Trajectory(observations, actions, log_probs, horizon, env_rewards)

    def evaluate(self, policy_arrays: Arrays, seed: int) -> Outcome:
        """By the policy's mean."""
        env, contract = self._env, self._contract
        policy = policy_from_arrays(policy_arrays, contract)
        observation, info = env.reset(seed=seed)
        total = 0.0
        for t in range(contract.task.horizon):
            action = to_env_action(policy.mean(flatten(observation, contract), t), env.action_space)
            observation, reward, terminated, _, info = env.step(action)
            total += float(reward)
            if terminated:
                break
        success = bool(info.get("success", info.get("is_success", False)))
        return Outcome(success, float(info.get("distance", np.nan)), total)


class Pool(Protocol):
    """Workers that draw episodes."""

    def draw(self, kind: str, policy: Arrays, seeds: Sequence[int]) -> list[Any]:
        """One result of EnvWorker's method `kind` per seed, in their order."""

    def close(self) -> None:
        """End the workers."""


class Rollouts:
    """Episodes of an env, drawn by a pool of workers; a context manager that ends them. ContractError where there is no
    such env."""

    def __init__(self, spec: EnvSpec, workers: int, pool: Callable[[EnvSpec, int], Pool] | None = None):
        spec.find()
        self.horizon = spec.contract.task.horizon
        self._pool = (pool or LocalPool)(spec, workers)
        self._warned = False

    def __enter__(self) -> Rollouts:
        return self

    def __exit__(self, *exception: object) -> None:
        self._pool.close()

    def sample(self, policy: Arrays, seeds: Sequence[int]) -> list[Trajectory]:
        """One trajectory per seed, drawn from the stochastic policy."""
        trajectories = self._pool.draw("sample", policy, seeds)
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
        return self._pool.draw("evaluate", policy, seeds)


def open_rollouts(spec: EnvSpec, config: TrainConfig) -> Rollouts:
    """By the workers that a training asks for. Raises ConfigError where Ray or its cluster is missing."""
    if config.rollout_backend != RAY:
        return Rollouts(spec, config.workers)
    from irl_ros.learning.ray_pool import RayPool  # Ray is an extra

    return Rollouts(spec, config.workers, partial(RayPool, address=config.ray_address))


class LocalPool:
    """Processes on this machine."""

    def __init__(self, spec: EnvSpec, workers: int):
        self._workers = workers
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # inherited by the workers: one thread each
        context = multiprocessing.get_context("spawn")  # a fork would copy torch's threads
        self._executor = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(spec,))

    def draw(self, kind: str, policy: Arrays, seeds: Sequence[int]) -> list[Any]:
        chunk = max(1, len(seeds) // (4 * self._workers))
        return list(self._executor.map(partial(_draw, kind, dict(policy)), seeds, chunksize=chunk))

    def close(self) -> None:
        self._executor.shutdown(cancel_futures=True)


_worker: EnvWorker | None = None


def _start_worker(spec: EnvSpec) -> None:
    global _worker
    die_with_parent()
    _worker = EnvWorker(spec)


def _draw(kind: str, policy: Arrays, seed: int) -> Any:
    return getattr(_worker, kind)(policy, seed)
