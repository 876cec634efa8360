"""How fast the simulated arm steps: beside panda-gym, beside PyBullet alone, and in two processes.

    python benchmark/simulation.py [--json FILE] [--peer-environment DIRECTORY]

`irl_ros/Reach-v0` against panda-gym 3.0.7's PandaReach with joint control, both at 20 actions a second and 12 physics
steps of 1/240 s per action; bare PyBullet is a world with our settings whose motors are told where to go once an
action, and `stepSimulation`; driven PyBullet tells its motors in every physics step, as a trajectory controller has to.
These take CPU time, which others on the machine leave alone for the most part: env steps/s are per core. Two processes
against one take wall time; `two_process_limit` is what bare PyBullet gains from the second, so what the machine allows.

All take turns in one run, so that a busy machine slows each of them; a ratio is that of the medians of env steps/s.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import gymnasium
import irl_ros_sim  # noqa: F401  registers the env
import numpy as np
import peers
import pybullet

ROUNDS, STEPS = 9, 400
TASK, PEER = "irl_ros/Reach-v0", "simulation_peer.py"


def step(env: gymnasium.Env, n: int) -> None:
    """`n` env steps in episodes of 50, with actions drawn beforehand."""
    actions = np.random.default_rng(0).uniform(-1, 1, (50, *env.action_space.shape))
    for k in range(n):
        if k % 50 == 0:
            env.reset(seed=k)
        env.step(actions[k % 50])


def bare(env: gymnasium.Env, n: int) -> None:
    """The physics of `n` actions alone: motors told where to go once an action, then `stepSimulation`."""
    follow_targets(env, n, told=1)


def driven(env: gymnasium.Env, n: int) -> None:
    """The same with motors told in every physics step."""
    follow_targets(env, n, told=physics_steps(env))


def follow_targets(env: gymnasium.Env, n: int, told: int) -> None:
    env.reset(seed=0)
    arm, home = env.arm, np.array(env.contract.robot.home)
    still, gains, stiffness = [0.0] * len(home), [arm.position_gain] * len(home), [arm.velocity_gain] * len(home)
    limits = [100.0] * len(home), gains, stiffness, arm.client
    for target in (home + np.random.default_rng(0).uniform(-0.3, 0.3, (n, len(home)))).tolist():
        for k in range(physics_steps(env)):
            if k < told:
                pybullet.setJointMotorControlArray(
                    arm.body, arm.joints, pybullet.POSITION_CONTROL, target, still, *limits
                )
            pybullet.stepSimulation(arm.client)


def physics_steps(env: gymnasium.Env) -> int:
    """Per action."""
    return round(env.contract.task.period / env.arm.time_step)


WORK = {"ours": step, "bare": bare, "driven": driven}


def cpu_seconds(work: Callable[[gymnasium.Env, int], None], env: gymnasium.Env, n: int) -> float:
    start = time.process_time()
    work(env, n)
    return time.process_time() - start


def serve(pipe: multiprocessing.connection.Connection) -> None:
    """A worker process with an env of its own: does (name of the work, n) when told, until it is told None."""
    env = gymnasium.make(TASK, disable_env_checker=True).unwrapped
    while order := pipe.recv():
        name, n = order
        pipe.send(WORK[name](env, n))
    env.close()


class Workers:
    """Two processes, one of which or both work at the same time."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        pairs = [context.Pipe() for _ in range(2)]
        self._pipes = [mine for mine, _ in pairs]
        self._processes = [context.Process(target=serve, args=(theirs,), daemon=True) for _, theirs in pairs]
        for process in self._processes:
            process.start()

    def seconds(self, name: str, workers: int, n: int) -> float:
        """Wall time until the first so many `workers` have done `n` env steps' work between them."""
        start = time.perf_counter()
        for pipe in self._pipes[:workers]:
            pipe.send((name, n // workers))
        for pipe in self._pipes[:workers]:
            pipe.recv()
        return time.perf_counter() - start

    def close(self) -> None:
        for pipe, process in zip(self._pipes, self._processes):
            pipe.send(None)
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
    contestants = {name: partial(cpu_seconds, work, env) for name, work in WORK.items()}
    for name in ("ours", "bare"):
        contestants[f"{name}_one_process"] = partial(workers.seconds, name, 1)
        contestants[f"{name}_two_processes"] = partial(workers.seconds, name, 2)
    peer = None
    if python:
        peer = peers.Peer(python, PEER, str(physics_steps(env)), str(env.arm.time_step))
        contestants["panda_gym"] = peer.ask
    try:
        rates = measure(contestants, arguments.rounds, arguments.steps)
    finally:
        workers.close()
        if peer:
            peer.close()
        env.close()
    figures = {
        "panda_gym_ratio": ratio(rates, "ours", "panda_gym"),
        "pybullet_ratio": ratio(rates, "ours", "bare"),
        "pybullet_driven_ratio": ratio(rates, "ours", "driven"),
        "two_worker_ratio": ratio(rates, "ours_two_processes", "ours_one_process"),
        "two_process_limit": ratio(rates, "bare_two_processes", "bare_one_process"),
        **{f"{name}_steps_per_s": rate for name, rate in rates.items()},
    }
    for name, value in figures.items():
        print(f"{name:30} {'missing' if value is None else format(value, '.4g')}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")
    if not python:
        sys.exit(f"panda_gym_ratio is missing: no panda-gym in {arguments.peer_environment}; why is above")


if __name__ == "__main__":
    main()
