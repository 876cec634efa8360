"""Small gymnasium envs that are no robots, for tests; `small_envs:test/<Name>-v0` makes them in any process."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete


class Drift(gymnasium.Env):
    """A point that actions in [-2, 6] push: x ← x + 0.1 · (a − 2). Reward −|x|. Ends by itself after `fall` steps."""

    observation_space = Box(-np.inf, np.inf, (2,), np.float32)
    action_space = Box(np.array([-2.0, -2.0], np.float32), np.array([6.0, 6.0], np.float32))

    def __init__(self, fall: int | None = None):
        self._fall = fall

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self._x, self._t = self.np_random.uniform(-1, 1, 2), 0
        return self._x.astype(np.float32), {}

    def step(self, action: np.ndarray):
        self._x = self._x + 0.1 * (action - 2.0)
        self._t += 1
        ended = self._fall is not None and self._t >= self._fall
        distance = float(np.linalg.norm(self._x))
        info = {"is_success": distance < 0.2, "distance": distance}
        return self._x.astype(np.float32), -distance, ended, False, info


class Parts(Drift):
    """The same point, told in parts, whose shapes differ."""

    observation_space = Dict({"speed": Box(-9, 9, ()), "image": Box(-9, 9, (2, 2)), "at": Box(-9, 9, (2,))})

    def _parts(self) -> dict[str, np.ndarray]:
        x = self._x.astype(np.float32)
        return {"image": np.outer(x, x), "at": x, "speed": np.float32(self._t)}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        return self._parts(), {}

    def step(self, action: np.ndarray):
        _, reward, ended, truncated, info = super().step(action)
        return self._parts(), reward, ended, truncated, info


class Buttons(Drift):
    action_space = Discrete(3)


class Endless(Drift):
    action_space = Box(-np.inf, np.inf, (2,))


class Nested(Drift):
    observation_space = Dict({"inner": Dict({"at": Box(-9, 9, (2,))})})


for kind in (Parts, Buttons, Endless, Nested):
    gymnasium.register(f"test/{kind.__name__}-v0", kind, max_episode_steps=12)
gymnasium.register("test/Drift-v0", Drift, max_episode_steps=12)
gymnasium.register("test/Falling-v0", Drift, max_episode_steps=12, kwargs={"fall": 4})
gymnasium.register("test/Timeless-v0", Drift)
