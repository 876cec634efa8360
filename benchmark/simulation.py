"""How fast the simulated arm steps: beside panda-gym, beside PyBullet alone, and in two processes.

    python benchmark/simulation.py [--json FILE] [--peer-environment DIRECTORY]

`irl_ros/Reach-v0` against panda-gym 3.0.7's PandaReach with joint control, both at 20 actions a second and 12 physics
steps of 1/240 s per action. Bare PyBullet is the URDF as it comes, with our settings, motors that are told where to go
once an action, and `stepSimulation`. The same world is what PyBullet does in an env step of ours: the env's own arm, in
which what stands still is one link, with motors told in every physics step. These take CPU time, which other work on
the machine alters least: env steps/s are per core.

Two processes against one take wall time, and `two_process_limit` is what bare PyBullet gains from the second: what the
machine has to give, so only a machine without other work shows what the workers make of it.

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
import numpy as np
import peers
import pybullet

from irl_ros_sim.arm import Arm
from irl_ros_sim.world import TIME_STEP

ROUNDS, STEPS = 9, 400
TASK, PEER = "irl_ros/Reach-v0", "simulation_peer.py"


class Bench:
    """An env, a world of bare PyBullet, and the work that is timed: each that of `n` env steps."""

    work = "ours", "bare", "same_world"

    def __init__(self) -> None:
        self.env = gymnasium.make(TASK, disable_env_checker=True).unwrapped
        self.arm = Arm(self.env.contract.robot, solver_iterations=self.env.solver_iterations)
        self.physics_steps = round(self.env.contract.task.period / TIME_STEP)

    def ours(self, n: int) -> None:
        """Episodes of 50, with actions drawn beforehand."""
        actions = np.random.default_rng(0).uniform(-1, 1, (50, *self.env.action_space.shape))
        for k in range(n):
            if k % 50 == 0:
                self.env.reset(seed=k)
            self.env.step(actions[k % 50])

    def bare(self, n: int) -> None:
        """Physics alone of the arm as its URDF has it."""
        self._physics(self.arm, n, told=1)

    def same_world(self, n: int) -> None:
        """Physics alone of the env's arm, told its way as often as the env tells it."""
        self._physics(self.env.arm, n, told=self.physics_steps)

    def _physics(self, arm: Arm, n: int, told: int) -> None:
        """Motors told where to go in the first `told` physics steps of each action."""
        home = np.array(arm.robot.home)
        arm.reset(home)
        still, forces = [0.0] * len(home), [100.0] * len(home)
        gains = [arm.position_gain] * len(home), [arm.velocity_gain] * len(home)
        drive = partial(pybullet.setJointMotorControlArray, arm.body, arm.joints, pybullet.POSITION_CONTROL)
        for target in (home + np.random.default_rng(0).uniform(-0.3, 0.3, (n, len(home)))).tolist():
            for k in range(self.physics_steps):
                if k < told:
                    drive(target, still, forces, *gains, arm.client)
                pybullet.stepSimulation(arm.client)

    def cpu_seconds(self, name: str, n: int) -> float:
        start = time.process_time()
        getattr(self, name)(n)
        return time.process_time() - start

    def close(self) -> None:
        self.arm.close()
        self.env.close()


def serve(pipe: multiprocessing.connection.Connection) -> None:
    """A worker process with a bench of its own: does (name of the work, n) when told, until it is told None."""
    bench = Bench()
    while order := pipe.recv():
        name, n = order
        pipe.send(getattr(bench, name)(n))
    bench.close()


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
    python, bench, workers = peers.python(arguments.peer_environment), Bench(), Workers()
    contestants = {name: partial(bench.cpu_seconds, name) for name in bench.work}
    for name in ("ours", "bare"):
        contestants[f"{name}_one_process"] = partial(workers.seconds, name, 1)
        contestants[f"{name}_two_processes"] = partial(workers.seconds, name, 2)
    peer = None
    if python:
        peer = peers.Peer(python, PEER, str(bench.physics_steps), str(TIME_STEP))
        contestants["panda_gym"] = peer.ask
    try:
        rates = measure(contestants, arguments.rounds, arguments.steps)
    finally:
        workers.close()
        if peer:
            peer.close()
        bench.close()
    figures = {
        "panda_gym_ratio": ratio(rates, "ours", "panda_gym"),
        "pybullet_ratio": ratio(rates, "ours", "bare"),
        "same_world_ratio": ratio(rates, "ours", "same_world"),
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
