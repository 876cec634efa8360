"""An env whose observation is what this project's policies see of it: the same inputs for us and for the peers."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from irl_ros.contract import Contract
from irl_ros.models.features import Features


class Inputs(gymnasium.Env):
    """`problem`: env (gymnasium id), contract (as a dict), both as learning.py writes them; actions in [-1, 1]."""

    def __init__(self, problem: dict[str, Any]):
        contract = Contract.from_dict(problem["contract"])
        module, separator, name = problem["env"].partition(":")
        if separator:
            __import__(module)
        options = {"contract": contract} if contract.robot is not None else {}
        self._env = gymnasium.make(name or module, disable_env_checker=True, max_episode_steps=-1, **options)
        self._contract, self._features = contract, Features(contract, contract.task.policy_inputs)
        self.horizon = contract.task.horizon
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (self._features.size,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (contract.action_size,), np.float32)

    def inputs(self, observation: Any) -> np.ndarray:
        """What a policy sees, float32."""
        if isinstance(observation, dict):
            observation = np.concatenate([np.ravel(observation[f.name]) for f in self._contract.task.fields])
        return self._features(np.asarray(observation, np.float64)).astype(np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        observation, info = self._env.reset(seed=seed, options=options)
        self._t = 0
        return self.inputs(observation), info

    def step(self, action: np.ndarray):
        """Fixed horizon: an early end would tell the learner the sign of the reward."""
        space = self._env.action_space
        scaled = space.low + (np.clip(action, -1, 1) + 1) / 2 * (space.high - space.low)
        observation, reward, _, _, info = self._env.step(scaled.astype(space.dtype))
        self._t += 1
        return self.inputs(observation), float(reward), False, self._t >= self.horizon, info
