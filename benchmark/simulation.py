"""How fast the simulated arm steps: beside panda-gym, beside bare PyBullet, and in two processes.

    python benchmark/simulation.py [--json FILE] [--peer-environment DIRECTORY]

`irl_ros/Reach-v0` against panda-gym 3.0.7's PandaReach with joint control, both at 20 actions a second and 12 physics
steps of 1/240 s per action; bare PyBullet is a world with our settings whose motors are told where to go once an
action, and `stepSimulation`. All take turns in one run, so that a busy machine slows each of them; a ratio is that of the medians of env steps/s.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import gymnasium
import irl_ros_sim  # noqa: F401  registers the env
import numpy as np
import peers
import pybullet

ROUNDS, STEPS = 9, 400
TASK, PEER = "irl_ros/Reach-v0", "simulation_peer.py"


def step(env: gymnasium.Env, n: int) -> float:
    """Seconds of `n` env steps in episodes of 50, with actions drawn beforehand."""
    actions = np.random.default_rng(0).uniform(-1, 1, (50, *env.action_space.shape))
    start = time.perf_counter()
    for k in range(n):
        if k % 50 == 0:
            env.reset(seed=k)
        env.step(actions[k % 50])
    return time.perf_counter() - start


def bare(env: gymnasium.Env, n: int) -> float:
    """Seconds of the physics of `n` actions alone: motors told where to go once an action, then `stepSimulation`."""
    env.reset(seed=0)
    arm, home = env.arm, np.array(env.contract.robot.home)
    targets = (home + np.random.default_rng(0).uniform(-0.3, 0.3, (n, len(home)))).tolist()
    start = time.perf_counter()
    for target in targets:
        pybullet.setJointMotorControlArray(
            arm.body, arm.joints, pybullet.POSITION_CONTROL, targetPositions=target, physicsClientId=arm.client
        )
        for _ in range(physics_steps(env)):
            pybullet.stepSimulation(physicsClientId=arm.client)
    return time.perf_counter() - start


def physics_steps(env: gymnasium.Env) -> int:
    """Per action."""
    return round(env.contract.task.period / env.arm.time_step)


def serve(pipe: multiprocessing.connection.Connection) -> None:
    """A worker process with an env of its own: steps when told, until it is told 0."""
    env = gymnasium.make(TASK, disable_env_checker=True).unwrapped
    while n := pipe.recv():
        pipe.send(step(env, n))
    env.close()


class Workers:
    """Two processes that step at the same time."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        pairs = [context.Pipe() for _ in range(2)]
        self._pipes = [mine for mine, _ in pairs]
        self._processes = [context.Process(target=serve, args=(theirs,), daemon=True) for _, theirs in pairs]
        for process in self._processes:
            process.start()

    def step(self, n: int) -> float:
        """Seconds until both have made `n` / 2 env steps."""
        start = time.perf_counter()
        for pipe in self._pipes:
            pipe.send(n // 2)
        for pipe in self._pipes:
            pipe.recv()
        return time.perf_counter() - start

    def close(self) -> None:
        for pipe, process in zip(self._pipes, self._processes):
            pipe.send(0)
            process.join()


def measure(contestants: Mapping[str, Callable[[int], float]], rounds: int, steps: int) -> dict[str, float]:
    """Median env steps/s of each, taking turns."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for contestant in contestants.values():
        contestant(steps)  # warm
    for _ in range(rounds):
        for name, contestant in contestants.items():
            seconds[name].append(contestant(steps))
    return {name: steps / statistics.median(values) for name, values in seconds.items()}


def ratio(rates: Mapping[str, float], one: str, other: str) -> float | None:
    return rates[one] / rates[other] if other in rates else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="turns of each")
    parser.add_argument("--steps", type=int, default=STEPS, help="env steps in a turn")
    peers.add_argument(parser)
    arguments = parser.parse_args()
    env = gymnasium.make(TASK, disable_env_checker=True).unwrapped
    python, workers = peers.python(arguments.peer_environment), Workers()
    ours = {"ours": lambda n: step(env, n), "bare": lambda n: bare(env, n), "two_workers": workers.step}
    peer = None
    if python:
        peer = peers.Peer(python, PEER, str(physics_steps(env)), str(env.arm.time_step))
        ours["panda_gym"] = peer.ask
    try:
        rates = measure(ours, arguments.rounds, arguments.steps)
    finally:
        workers.close()
        if peer:
            peer.close()
        env.close()
    figures = {
        "panda_gym_ratio": ratio(rates, "ours", "panda_gym"),
        "pybullet_ratio": ratio(rates, "ours", "bare"),
        "two_worker_ratio": ratio(rates, "two_workers", "ours"),
        **{f"{name}_steps_per_s": rate for name, rate in rates.items()},
    }
    for name, value in figures.items():
        print(f"{name:26} {'missing' if value is None else format(value, '.4g')}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")
    if not python:
        sys.exit(f"panda_gym_ratio is missing: no panda-gym in {arguments.peer_environment}; why is above")


if __name__ == "__main__":
    main()
