"""Scripted demonstrations made in memory, for tests of learning that need no bags."""

from __future__ import annotations

import numpy as np

from irl_ros.contract import Contract
from irl_ros.data.episode import Demonstrations, Episode
from irl_ros.kinematics import Kinematics
from irl_ros.learning.environment import EnvSpec


def demonstrations(contract: Contract, count: int = 5, seed: int = 0) -> Demonstrations:
    """`count` episodes of the scripted expert in the contract's env, all from `seed`."""
    import irl_ros_sim  # noqa: F401  registers the env
    from irl_ros_sim.experts import make_expert

    env = EnvSpec(contract).make()
    expert = make_expert(contract, Kinematics(contract.robot), np.random.default_rng(seed))
    try:
        return Demonstrations(contract, tuple(_episode(env, expert, contract, 1000 * seed + k) for k in range(count)))
    finally:
        env.close()


def _episode(env, expert, contract: Contract, seed: int) -> Episode:
    observation, info = env.reset(seed=seed)
    expert.reset()
    observations, actions = [observation], []
    for _ in range(contract.task.horizon):
        actions.append(expert.act(observation))
        observation, _, _, _, info = env.step(actions[-1])
        observations.append(observation)
    return Episode(f"expert_{seed}", np.array(observations), np.array(actions), success=info["success"])
