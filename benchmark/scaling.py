"""Rollouts by one and two workers, local and Ray's: env steps a second, how long the learner waits, what travels.

    python benchmark/scaling.py [--rounds 3] [--iterations 8] [--batch 20] [--json FILE]

Each way trains `reach` by gcl for some iterations; the ways take turns, and a figure is the median over the rounds. In
the first iteration workers start up, so that it does not count. `idle` is the share of an iteration that the learner
spends waiting for rollouts. Bytes are those of the pickled arrays, as Ray sends them: the policy once for each batch and
worker, each episode once. The learner's time is also taken for a batch four times as large, for docs/scaling.md's model.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch

import argparse  # noqa: E402
import json  # noqa: E402
import pickle  # noqa: E402
import statistics  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from collections.abc import Sequence  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402
from unittest import mock  # noqa: E402

from demonstrations import scripted  # noqa: E402

from irl_ros.contract import Contract  # noqa: E402
from irl_ros.data.episode import Demonstrations  # noqa: E402
from irl_ros.learning.config import TrainConfig  # noqa: E402
from irl_ros.learning.observer import SilentObserver  # noqa: E402
from irl_ros.learning.rollout import Rollouts, Trajectory, open_rollouts  # noqa: E402
from irl_ros.learning.train import train  # noqa: E402

WAYS = [(backend, workers) for backend in ("local", "ray") for workers in (1, 2)]
LARGER = 4


class Clock(SilentObserver):
    """Seconds of each iteration, and of the sampling in it."""

    def __init__(self) -> None:
        self.iterations: list[float] = []
        self.samplings: list[float] = []
        self.bytes_per_step = 0.0
        self._last = 0.0

    def open(self, *arguments: Any) -> Rollouts:
        """In place of open_rollouts."""
        rollouts = open_rollouts(*arguments)
        sample = rollouts.sample

        def timed(policy: Any, seeds: Sequence[int]) -> list[Trajectory]:
            start = time.perf_counter()
            found = sample(policy, seeds)
            self.samplings.append(time.perf_counter() - start)
            episodes = len(pickle.dumps(found, protocol=5))
            self.bytes_per_step = (episodes + len(pickle.dumps(policy, protocol=5))) / sum(t.length for t in found)
            return found

        rollouts.sample = timed
        return rollouts

    def on_progress(self, done: int, metrics: dict[str, float]) -> None:
        now = time.perf_counter()
        if metrics:
            self.iterations.append(now - self._last)
        self._last = now


def measure(demonstrations: Demonstrations, backend: str, workers: int, batch: int, iterations: int) -> dict[str, float]:
    """Medians over the iterations of one training."""
    horizon = demonstrations.contract.task.horizon
    config = TrainConfig(
        environment_steps=iterations * batch * horizon, batch_episodes=batch, workers=workers, evaluation_episodes=1,
        device="cpu", rollout_backend=backend, ray_address="local", checkpoint_every=iterations,
    )
    clock = Clock()
    with tempfile.TemporaryDirectory() as out, mock.patch("irl_ros.learning.train.open_rollouts", clock.open):
        train(demonstrations, config, out, clock)
    sampling = statistics.median(clock.samplings[1:])
    learning = statistics.median(i - s for i, s in zip(clock.iterations[1:], clock.samplings[1:], strict=True))
    return {
        "steps_per_s": batch * horizon / sampling,
        "sampling_s": sampling,
        "learner_s": learning,
        "idle": sampling / (sampling + learning),
        "bytes_per_step": clock.bytes_per_step,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=8, help="of each training, at least 2")
    parser.add_argument("--batch", type=int, default=20, help="episodes in an iteration")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    contract = Contract.load("panda", "reach")
    demonstrations = scripted(contract, 5, 0)
    found: dict[str, list[dict[str, float]]] = {}
    for _ in range(options.rounds):
        for backend, workers in WAYS:
            figures = measure(demonstrations, backend, workers, options.batch, options.iterations)
            found.setdefault(f"{backend}_{workers}", []).append(figures)
        large = measure(demonstrations, "local", 2, LARGER * options.batch, options.iterations)
        found.setdefault("large_batch", []).append(large)
    result = {way: {name: statistics.median(f[name] for f in some) for name in some[0]} for way, some in found.items()}
    print("| workers | env steps/s | learner waits | learner [s] | bytes per step |\n|---|---|---|---|---|")
    for way, f in result.items():
        print(f"| {way} | {f['steps_per_s']:.0f} | {f['idle']:.0%} | {f['learner_s']:.3f} | {f['bytes_per_step']:.0f} |")
    for backend in ("local", "ray"):
        two, one = (result[f"{backend}_{n}"]["steps_per_s"] for n in (2, 1))
        result[f"{backend}_two_worker_ratio"] = two / one
    result["ray_to_local"] = result["ray_2"]["steps_per_s"] / result["local_2"]["steps_per_s"]
    print(f"two workers: local {result['local_two_worker_ratio']:.2f} ×, Ray {result['ray_two_worker_ratio']:.2f} × of one")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
