"""imitation's BC, GAIL and AIRL on one env, run by learning.py in the peers' environment.

    python learning_peer.py PROBLEM.json

Learners are PPO with the settings of imitation's documentation, four envs of 256 steps a round in place of eight of
2048, so that there are rounds within the budget. Prints one line of JSON: success of the deterministic policy by env
steps, and the process' CPU seconds.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from imitation.algorithms.adversarial.airl import AIRL
from imitation.algorithms.adversarial.gail import GAIL
from imitation.algorithms.bc import BC
from imitation.data.types import Trajectory
from imitation.rewards.reward_nets import BasicRewardNet, BasicShapedRewardNet
from imitation.util.networks import RunningNorm
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv
from task_inputs import Inputs

ENVS, ROUND_STEPS = 4, 256


def make(problem: dict[str, Any]) -> gymnasium.Env:
    """The env with the policy inputs of ours as its observation."""
    return Inputs(problem)


def success(env: gymnasium.Env, act: Any, seeds: range) -> float:
    """Share of episodes that end in success."""
    count = 0
    for seed in seeds:
        observation, info = env.reset(seed=seed)
        for _ in range(env.horizon):
            observation, _, terminated, truncated, info = env.step(act(observation))
            if terminated or truncated:
                break
        count += bool(info.get("success", info.get("is_success", False)))
    return count / len(seeds)


def trainer(problem: dict[str, Any], venv: DummyVecEnv, demonstrations: list[Trajectory]) -> GAIL | AIRL:
    """GAIL or AIRL as imitation's documentation sets them up."""
    gail, spaces = problem["method"] == "gail", (venv.observation_space, venv.action_space)
    transitions = sum(len(t) for t in demonstrations)
    learner = PPO(
        "MlpPolicy",
        venv,
        n_steps=ROUND_STEPS,
        batch_size=64,
        ent_coef=0.0,
        learning_rate=4e-4 if gail else 5e-4,
        gamma=0.95,
        n_epochs=5,
        seed=problem["seed"],
        **({} if gail else {"clip_range": 0.1, "vf_coef": 0.1}),
    )
    reward = (BasicRewardNet if gail else BasicShapedRewardNet)(*spaces, normalize_input_layer=RunningNorm)
    return (GAIL if gail else AIRL)(
        demonstrations=demonstrations,
        demo_batch_size=min(1024 if gail else 2048, transitions),
        gen_replay_buffer_capacity=512,
        n_disc_updates_per_round=8 if gail else 16,
        venv=venv,
        gen_algo=learner,
        reward_net=reward,
    )


def main() -> None:
    problem = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(1)
    torch.manual_seed(problem["seed"])  # BC draws its network from the global generator
    data = np.load(problem["demonstrations"])
    demonstrations = [
        Trajectory(obs=data[f"inputs_{k}"], acts=data[f"actions_{k}"], infos=None, terminal=False)
        for k in range(problem["count"])
    ]
    venv = DummyVecEnv([lambda: make(problem)] * ENVS)
    env = make(problem)
    seeds = range(problem["evaluation_seed"], problem["evaluation_seed"] + problem["episodes"])
    curve: dict[int, float] = {}
    spent = 0.0  # on evaluation
    start = time.process_time()
    if problem["method"] == "bc":
        rng = np.random.default_rng(problem["seed"])
        learner = BC(
            observation_space=venv.observation_space,
            action_space=venv.action_space,
            rng=rng,
            demonstrations=demonstrations,
        )
        learner.train(n_epochs=problem["bc_epochs"], progress_bar=False)
        cpu = time.process_time() - start
        curve[0] = success(env, lambda o: learner.policy.predict(o, deterministic=True)[0], seeds)
    else:
        learner = trainer(problem, venv, demonstrations)

        def evaluate(done: int) -> None:
            nonlocal spent
            steps = (done + 1) * ENVS * ROUND_STEPS
            last = steps + ENVS * ROUND_STEPS > problem["steps"]
            if last or steps // problem["every"] > (steps - ENVS * ROUND_STEPS) // problem["every"]:
                before = time.process_time()
                curve[steps] = success(env, lambda o: learner.policy.predict(o, deterministic=True)[0], seeds)
                spent += time.process_time() - before

        learner.train(problem["steps"], callback=evaluate)
        cpu = time.process_time() - start - spent
    print(json.dumps({"curve": curve, "cpu_s": cpu}), flush=True)


if __name__ == "__main__":
    main()
