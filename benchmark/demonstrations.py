"""Demonstrations of the scripted expert, made in memory: for benchmarks of learning, which need no bags."""

from __future__ import annotations

import irl_ros_sim  # noqa: F401  registers the env
import numpy as np
from irl_ros_sim.experts import make_expert

from irl_ros.contract import Contract
from irl_ros.data.episode import Demonstrations, Episode
from irl_ros.kinematics import Kinematics
from irl_ros.learning.environment import EnvSpec


def scripted(contract: Contract, count: int, seed: int) -> Demonstrations:
    """`count` episodes of the contract's env, start poses, goals and the demonstrator's faults all from `seed`."""
    env = EnvSpec(contract).make()
    expert = make_expert(contract, Kinematics(contract.robot), np.random.default_rng(seed))
    episodes = []
    for k in range(count):
        observation, info = env.reset(seed=1000 * seed + k)
        expert.reset()
        observations, actions = [observation], []
        for _ in range(contract.task.horizon):
            actions.append(expert.act(observation))
            observation, _, _, _, info = env.step(actions[-1])
            observations.append(observation)
        episodes.append(Episode(f"expert_{k}", np.array(observations), np.array(actions), success=info["success"]))
    env.close()
    return Demonstrations(contract, tuple(episodes))
