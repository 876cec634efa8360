"""What a report looks at: the policy at work in its env, and the learned reward along episodes and around the goal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import gymnasium
import numpy as np

from irl_ros.checkpoint import Checkpoint
from irl_ros.contract import Contract
from irl_ros.data.episode import Episode
from irl_ros.learning.environment import EnvSpec, flatten, to_env_action
from irl_ros.models.inference import Policy, Reward, policy_from_arrays

PICTURES = 24
"""Pictures taken of an episode; a few of them are shown."""


class Picture(NamedTuple):
    """What the env looked like after `step` control periods; pixels uint8 (H, W, 3)."""

    step: int
    pixels: np.ndarray


class Playback(NamedTuple):
    """Episodes driven by a policy's mean; pictures of the first one, or why there are none."""

    episodes: list[Episode]
    pictures: list[Picture]
    no_pictures: str


def play(checkpoint: Checkpoint, seeds: Sequence[int]) -> Playback:
    """One episode per seed. Raises gymnasium.error.Error, ImportError or ContractError where the env cannot be made."""
    contract = checkpoint.contract
    policy = policy_from_arrays(checkpoint.policy_arrays, contract)
    env, reason = _open(contract)
    try:
        every = 0 if reason else max(1, contract.task.horizon // PICTURES)
        first, pictures = _drive(env, contract, policy, seeds[0], every)
        return Playback([first, *(_drive(env, contract, policy, s, 0)[0] for s in seeds[1:])], pictures, reason)
    finally:
        env.close()


def _open(contract: Contract) -> tuple[gymnasium.Env, str]:
    """The env, one that gives pictures if it can, else the reason why it cannot."""
    env, spec = None, EnvSpec(contract)
    try:
        env = spec.make(render_mode="rgb_array")
        env.reset(seed=0)
        if isinstance(env.render(), np.ndarray):
            return env, ""
        reason = "it renders no array of pixels"
    # Envs refuse to render by exceptions of their own libraries: no screen, no pygame, an unknown mode.
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
    if env is not None:
        env.close()
    return spec.make(), reason


def _drive(
    env: gymnasium.Env, contract: Contract, policy: Policy, seed: int, every: int
) -> tuple[Episode, list[Picture]]:
    """One episode, and a picture `every` control periods and at its end; 0: none."""
    observation, info = env.reset(seed=seed)
    observations, actions, pictures = [flatten(observation, contract)], [], []
    terminated = False
    while not terminated and len(actions) < contract.task.horizon:
        if every and len(actions) % every == 0:
            pictures.append(Picture(len(actions), env.render()))
        actions.append(np.clip(policy.mean(observations[-1], len(actions)), -1.0, 1.0))
        observation, _, terminated, _, info = env.step(to_env_action(actions[-1], env.action_space))
        observations.append(flatten(observation, contract))
    if every:
        pictures.append(Picture(len(actions), env.render()))
    success = info.get("success", info.get("is_success"))
    label = None if success is None else bool(success)
    name = f"rollout {seed}"
    return Episode(name, observations, actions, bool(terminated), not terminated, label), pictures


def highlights(pictures: Sequence[Picture], episode: Episode, contract: Contract, count: int = 4) -> list[Picture]:
    """Up to `count` of the pictures: first, last, and at equal parts of the way, for most episodes end in rest."""
    scale = np.concatenate([np.full(f.size, f.scale) for f in contract.task.fields])
    moving = contract.slices.get("joint_position", slice(None))
    states = (episode.observations / scale)[:, moving]
    to_go = np.linalg.norm(states - states[-1], axis=-1)[[p.step for p in pictures]]
    levels = to_go[0] * np.linspace(1.0, 0.0, count)[1:-1]
    chosen = {int(np.abs(to_go - level).argmin()) for level in levels}
    return [pictures[k] for k in sorted({0, *chosen, len(pictures) - 1})]


def rewards(reward: Reward, episode: Episode) -> np.ndarray:
    """Learned reward of each transition, shape (T,)."""
    o, a = episode.observations, episode.actions
    return np.array([reward(*transition) for transition in zip(o[:-1], a, o[1:])])
