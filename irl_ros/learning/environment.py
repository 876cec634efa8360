"""The env that learning samples from: any gymnasium id, a robot's task or a user's own."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np

from irl_ros.contract import Contract, ContractError, Field, Task
from irl_ros.contract_lookup import import_env
from irl_ros.data.episode import Demonstrations, Episode

MIN_SCALE = 1e-3


@dataclass(frozen=True)
class EnvSpec:
    """Everything a worker needs to make its env."""

    contract: Contract
    options: Mapping[str, Any] = field(default_factory=dict)
    """For the env's constructor: a changed world, or randomisation."""

    def find(self) -> None:
        """Import what registers the env, and look it up; raises ContractError, before processes start that need it."""
        env, name = self.contract.task.env, self.contract.task.name
        self.contract.import_env()
        try:
            gymnasium.spec(env.rpartition(":")[2])
        except gymnasium.error.Error as error:
            raise ContractError(f"task {name}: its env {env}: {error}") from None

    def make(self, **options: Any) -> gymnasium.Env:
        """Return the env, without gymnasium's per-step checks. A robot's env gets the contract itself, and `options`.

        Raises ContractError where a file named the env and no option allows its import.
        """
        kwargs = {**self.options, **options}
        if self.contract.robot is not None:
            kwargs["contract"] = self.contract
        self.contract.import_env()
        return gymnasium.make(self.contract.task.env, disable_env_checker=True, max_episode_steps=-1, **kwargs)


def env_contract(env_id: str, horizon: int | None, reward_features: Sequence[str] = ()) -> Contract:
    """The contract of any gymnasium env with Box or Dict-of-Box observations and Box actions in [-1, 1] or bounded.

    A Dict becomes one field per key, in the space's key order; a Box becomes the fields obs_0, obs_1, …
    """
    try:
        import_env(env_id, allowed=True)
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


def from_env_action(action: np.ndarray, space: gymnasium.spaces.Box) -> np.ndarray:
    """Actions (…, m) in the env's bounds carried to [-1, 1]."""
    low, high = np.ravel(space.low).astype(np.float64), np.ravel(space.high).astype(np.float64)
    return 2.0 * (action - low) / (high - low) - 1.0


def standardise(demonstrations: Demonstrations) -> Demonstrations:
    """Demonstrations of an env that is no ROS robot: actions in [-1, 1], and a contract whose fields are scaled.

    A robot's fields have units and with them scales; here the demonstrations' mean and deviation stand in.
    """
    contract = demonstrations.contract
    env = EnvSpec(contract).make()
    space = env.action_space
    env.close()
    rows = np.concatenate([e.observations for e in demonstrations])
    fields = tuple(_scaled(f, rows[:, contract.slices[f.name]]) for f in contract.task.fields)
    scaled = dataclasses.replace(contract, task=dataclasses.replace(contract.task, fields=fields))
    episodes = (
        Episode(e.name, e.observations, from_env_action(e.actions, space), e.terminated, e.truncated, e.success)
        for e in demonstrations
    )
    return Demonstrations(scaled, tuple(episodes))


def _scaled(field: Field, values: np.ndarray) -> Field:
    return dataclasses.replace(field, center=float(values.mean()), scale=max(float(values.std()), MIN_SCALE))
