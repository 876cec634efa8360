"""An MDP as gymnasium envs: whoever learns from them sees states and nothing of the dynamics."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector.utils import batch_space

from irl_ros.learning.mdp import MDP, next_states


class TabularEnvs(gymnasium.vector.VectorEnv):
    """`n` independent copies, stepped together; truncated after the MDP's horizon, reward always 0."""

    metadata = {"autoreset_mode": gymnasium.vector.AutoresetMode.DISABLED}

    def __init__(self, mdp: MDP, n: int):
        self._mdp, self._generator = mdp, np.random.default_rng()
        self.num_envs = n
        self.single_observation_space = gymnasium.spaces.Discrete(mdp.n_states)
        self.single_action_space = gymnasium.spaces.Discrete(mdp.n_actions)
        self.observation_space = batch_space(self.single_observation_space, n)
        self.action_space = batch_space(self.single_action_space, n)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        if seed is not None:
            self._generator = np.random.default_rng(seed)
        initial = self._mdp.initial
        self._t = 0
        self._states = self._generator.choice(self._mdp.n_states, size=self.num_envs, p=initial / initial.sum())
        return self._states, {}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict]:
        self._states = next_states(self._mdp, self._states, np.asarray(actions), self._generator)
        self._t += 1
        over = np.full(self.num_envs, self._t >= self._mdp.horizon)
        return self._states, np.zeros(self.num_envs), np.zeros_like(over), over, {}
