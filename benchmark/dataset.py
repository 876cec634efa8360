"""How fast demonstrations are listed and read, and how much memory that takes.

    python benchmark/dataset.py [--episodes 10000] [--read 1000] [--json FILE]

Bags of `reach` on the seven joints of the Panda, 2.6 s each with joint states at 100 Hz, and a few at 1 kHz, as the
recorder writes them. A few are written and the others are links to them, each with metadata of its own: how fast the
disk is does not show. Every figure is that of a process of its own on one core: recorded seconds per second of its CPU
time, and the most memory that it had (resident), beside that of one which imports the same and reads nothing.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy

import argparse  # noqa: E402
import json  # noqa: E402
import multiprocessing  # noqa: E402
import resource  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable  # noqa: E402
from concurrent.futures import ProcessPoolExecutor  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402

sys.path.insert(0, str(Path(__file__).parents[1] / "test"))  # its bags are the tests'
from test_bag import CONTRACT, HOME, START, TOPICS, command, goal_pose, joint_state  # noqa: E402

from irl_ros.data.bag_writer import BagWriter, set_label  # noqa: E402
from irl_ros.data.clocks import SECOND  # noqa: E402
from irl_ros.data.dataset import Bags  # noqa: E402

PERIODS, DISTINCT = 52, 10
BATCHES = 1, 64, 512
FAST_RATE = 1000
MIB = 1024**2


def write(directory: Path, name: str, rate: int, operator: str, seed: int) -> Path:
    """A reach with joint states at `rate` [Hz] and a random action in every period."""
    bag = BagWriter(directory / name, CONTRACT, TOPICS, operator=operator)
    bag.write("goal_pose", goal_pose(), START)
    rng, position, per_period = np.random.default_rng(seed), HOME.copy(), round(rate * CONTRACT.task.period)
    for tick in range(PERIODS):
        step = rng.uniform(-0.5, 0.5, len(HOME)) * CONTRACT.max_step
        for sub in range(per_period):
            seconds = (tick + sub / per_period) * CONTRACT.task.period
            state = joint_state(position + step * sub / per_period, seconds)
            bag.write("joint_states", state, START + round(seconds * SECOND))
        now = START + round(tick * CONTRACT.task.period * SECOND) + 1_000_000
        bag.write("command", command(position, position + step), now)
        position = position + step
    return bag.save(label=True)


def make(directory: Path, episodes: int) -> None:
    """Every second of Ada, the others of Grace; every tenth a failure."""
    for seed, operator in enumerate(("Ada", "Grace") * (DISTINCT // 2)):
        write(directory, f"episode_{seed:05d}", 100, operator, seed)
    for k in range(DISTINCT, episodes):
        source, target = directory / f"episode_{k % DISTINCT:05d}", directory / f"episode_{k:05d}"
        target.mkdir()
        for path in source.iterdir():
            os.link(path, target / path.name)
        if k % 10 == 9:
            set_label(target, False)


def nothing(directory: Path) -> dict[str, float]:
    return {}


def listed(directory: Path) -> dict[str, float]:
    found = Bags.list(directory)
    ada = found.where(lambda listing: listing.operator == "Ada")
    return {"listed": len(found), "rejected": len(found.rejected), "of_one_operator": len(ada)}


def read(directory: Path, count: int, batch: int) -> dict[str, float]:
    """The first `count`, in batches of which each is looked at once."""
    found = Bags.list(directory)
    some = Bags(found.contract, found.listings[:count])
    start = time.process_time()
    seen = sum(float(np.mean([e.actions.std() for e in episodes])) > 0 for episodes in some.batches(batch))
    seconds = time.process_time() - start
    recorded = sum(listing.duration for listing in some.listings)
    return {"batches": seen, "unusable": len(some.rejected), "recorded_s": recorded, "cpu_s": seconds}


def measured(work: Callable[..., dict[str, float]], *arguments: Any) -> dict[str, float]:
    """What `work` gives in a process of its own, its CPU time, and the most memory it had [MiB]."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measured, work, *arguments).result()


def _measured(work: Callable[..., dict[str, float]], *arguments: Any) -> dict[str, float]:
    start = time.process_time()
    figures = work(*arguments)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {"cpu_s": time.process_time() - start, **figures, "peak_mib": 1024 * usage.ru_maxrss / MIB}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--episodes", type=int, default=10_000, help="episodes in the directory")
    parser.add_argument("--read", type=int, default=1000, help="of these, how many are read")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dataset-") as name:
        directory, fast = Path(name) / "all", Path(name) / "fast"
        make(directory, arguments.episodes)
        for seed in range(DISTINCT):
            write(fast, f"episode_{seed:05d}", FAST_RATE, "Ada", seed)
        idle, listing = measured(nothing, directory), measured(listed, directory)
        batches = {size: measured(read, directory, arguments.read, size) for size in BATCHES}
        quick = measured(read, fast, DISTINCT, 1)
    one = batches[BATCHES[0]]
    figures = {
        "episodes": arguments.episodes,
        "listed": listing["listed"],
        "listing_s": listing["cpu_s"],
        "listing_peak_mib": listing["peak_mib"] - idle["peak_mib"],
        "times_real_time": one["recorded_s"] / one["cpu_s"],
        "times_real_time_at_1_khz": quick["recorded_s"] / quick["cpu_s"],
        **{f"batch_{size}_peak_mib": found["peak_mib"] - idle["peak_mib"] for size, found in batches.items()},
        "process_mib": idle["peak_mib"],
        "unusable": one["unusable"] + quick["unusable"],
    }
    for key, value in figures.items():
        print(f"{key:26} {value:.4g}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
