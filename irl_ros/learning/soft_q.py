"""Soft Q-learning in a table (Haarnoja et al. 2017, arXiv 1702.08165), from episodes sampled in gymnasium envs."""

from __future__ import annotations

from typing import NamedTuple

import gymnasium
import numpy as np

from irl_ros.learning.mdp import TabularError


class Samples(NamedTuple):
    """Episodes side by side: states (B, T+1), actions (B, T)."""

    states: np.ndarray
    actions: np.ndarray


class SoftQ:
    """Q_t(s, a), shape (T, S, A), of the maximum-entropy problem, learned from samples; exact for reward 0."""

    def __init__(self, horizon: int, n_states: int, n_actions: int, discount: float):
        self._gamma = discount
        later = np.array([sum(discount**k for k in range(1, horizon - t)) for t in range(horizon)])
        self.q = np.zeros((horizon, n_states, n_actions)) + (later * np.log(n_actions))[:, None, None]
        self._visits = np.zeros_like(self.q)
        self._reward = np.zeros((n_states, n_actions))

    def change_reward(self, reward: np.ndarray) -> None:
        """Of every Q the part paid at once is known; what follows is learned again."""
        self.q += reward - self._reward
        self._reward = reward
        self._visits[:] = 0

    def value(self, t: int, states: np.ndarray) -> np.ndarray:
        """V_t of states (B,), 0 at the horizon."""
        return np.zeros(len(states)) if t == len(self.q) else _log_sum_exp(self.q[t, states])

    def log_policy(self) -> np.ndarray:
        """log π (T, S, A)."""
        return self.q - _log_sum_exp(self.q)[..., None]

    def targets(self, samples: Samples, t: int) -> np.ndarray:
        """r(s_t, a_t) + γ V_{t+1}(s_{t+1}), shape (B,)."""
        states, actions = samples
        return self._reward[states[:, t], actions[:, t]] + self._gamma * self.value(t + 1, states[:, t + 1])

    def update(self, samples: Samples, power: float) -> float:
        """One sweep, last step first; returns by how much the policy moved, mean KL(old ‖ new) over visits [nats]."""
        horizon, n_states, n_actions = self.q.shape
        before = self.log_policy()
        for t in reversed(range(horizon)):
            index = samples.states[:, t] * n_actions + samples.actions[:, t]
            count = np.bincount(index, minlength=n_states * n_actions)
            seen = np.flatnonzero(count)
            mean = np.bincount(index, self.targets(samples, t), n_states * n_actions)[seen] / count[seen]
            visits, q = self._visits[t].reshape(-1), self.q[t].reshape(-1)
            visits[seen] += count[seen]
            q[seen] += (count[seen] / visits[seen]) ** power * (mean - q[seen])
        kl = (np.exp(before) * (before - self.log_policy())).sum(-1)
        return float(kl[np.arange(horizon), samples.states[:, :-1]].mean())

    def residual(self, samples: Samples) -> float:
        """Mean over episodes of Σ_t γ^t (Q_t − target): what the start's value promises beyond what its policy gets."""
        promised = 0.0
        for t in range(len(self.q)):
            own = self.q[t, samples.states[:, t], samples.actions[:, t]]
            promised += self._gamma**t * float((own - self.targets(samples, t)).mean())
        return promised


def _log_sum_exp(q: np.ndarray) -> np.ndarray:
    best = q.max(-1)
    return best + np.log(np.exp(q - best[..., None]).sum(-1))


class Sampler:
    """Draws episodes of a policy in `envs` and counts the env steps they take."""

    def __init__(self, envs: gymnasium.vector.VectorEnv, horizon: int, generator: np.random.Generator):
        self._envs, self._horizon, self._generator = envs, horizon, generator
        self.steps = 0
        self._seed: int | None = int(generator.integers(2**31))

    def draw(self, policy: np.ndarray) -> Samples:
        """One episode in every env, under π (T, S, A). TabularError where an env ends before the horizon."""
        states, _ = self._envs.reset(seed=self._seed)
        self._seed = None
        seen, done = [np.array(states)], []
        for t in range(self._horizon):
            chance = policy[t, seen[-1]].cumsum(1)
            actions = (self._generator.random((len(chance), 1)) * chance[:, -1:] >= chance).sum(1)
            states, _, terminated, truncated, _ = self._envs.step(actions)
            if np.any(terminated) or (t + 1 < self._horizon and np.any(truncated)):
                raise TabularError(f"maxent_sampled: an env ended at step {t + 1}, its horizon is {self._horizon}")
            seen.append(np.array(states))
            done.append(actions)
            self.steps += len(actions)
        return Samples(np.stack(seen, 1), np.stack(done, 1))
