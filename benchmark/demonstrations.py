"""Demonstrations of a scripted expert, made in memory: for benchmarks of learning, which need no bags."""

from __future__ import annotations

from typing import Protocol

import irl_ros_sim  # noqa: F401  registers the env
import numpy as np
from irl_ros_sim.experts import make_expert

from irl_ros.contract import Contract
from irl_ros.data.episode import Demonstrations, Episode
from irl_ros.kinematics import Kinematics
from irl_ros.learning.environment import EnvSpec, flatten, to_env_action

FAILURES = 20
"""Failed episodes in all after which an expert is given up."""


class Expert(Protocol):
    """Whoever demonstrates."""

    def reset(self) -> None:
        """Forget the last episode; call before each one."""

    def act(self, observation: np.ndarray) -> np.ndarray:
        """Action in [-1, 1], shape (action_size,), for an observation of the contract."""


def scripted(contract: Contract, count: int, seed: int) -> Demonstrations:
    """`count` episodes of the contract's own demonstrator, start poses, goals and its faults all from `seed`."""
    expert = make_expert(contract, Kinematics(contract.robot), np.random.default_rng(seed))
    return demonstrate(contract, expert, count, seed)


def demonstrate(contract: Contract, expert: Expert, count: int, seed: int) -> Demonstrations:
    """`count` successful episodes of `expert`; a person too throws a failed one away and shows another."""
    env = EnvSpec(contract).make()
    episodes: list[Episode] = []
    for k in range(count + FAILURES):
        if len(episodes) == count:
            break
        observation, info = env.reset(seed=1000 * seed + k)
        expert.reset()
        observations, actions = [flatten(observation, contract)], []
        for _ in range(contract.task.horizon):
            actions.append(expert.act(observations[-1]))
            observation, _, _, _, info = env.step(to_env_action(actions[-1], env.action_space))
            observations.append(flatten(observation, contract))
        if info.get("success", info.get("is_success")):
            episodes.append(Episode(f"expert_{k}", np.array(observations), np.array(actions), success=True))
    env.close()
    if len(episodes) < count:
        raise RuntimeError(f"the expert of {contract.task.name} failed in more than {FAILURES} of its episodes")
    return Demonstrations(contract, tuple(episodes))
