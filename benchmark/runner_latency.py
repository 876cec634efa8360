"""From a joint state in to a command out: the policy runner beside a bare rclpy node that only answers.

    python benchmark/runner_latency.py [--rates 100 200 500] [--rounds 5] [--seconds 8] [--json FILE]

Real processes over DDS on loopback. A driver sends joint states at the control rate; what counts is the time from
sending one to the sender's time stamp of the next command. Bare node and runner take turns, so that a busy machine
slows both. Ratios are of the medians and of the 99th percentiles; the worst rate's are in the summary. A period is
missed when more than one and a half pass between two commands although the driver kept its rate.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch

import argparse  # noqa: E402
import contextlib  # noqa: E402
import json  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402
from driver import GOAL, Driver, at_rate, driven, is_halt, reach_checkpoint, runner_command  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.qos import QoSProfile, ReliabilityPolicy  # noqa: E402
from sensor_msgs.msg import JointState  # noqa: E402
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint  # noqa: E402

from irl_ros.checkpoint import Checkpoint  # noqa: E402
from irl_ros.contract import Contract  # noqa: E402
from irl_ros.control.controller import Controller  # noqa: E402
from irl_ros.nodes import process  # noqa: E402

CALLS = 2000
HALTS = 10
"""Turns at one rate that a stalling machine may spoil."""


class Bare(Node):
    """Answers each joint state with a JointTrajectory of two points, and does nothing else."""

    def __init__(self) -> None:
        super().__init__("bare")
        robot = Contract.load("panda", "reach").robot
        self._commands = self.create_publisher(JointTrajectory, robot.command.name, 10)
        sensor = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        self.create_subscription(JointState, robot.joint_states.name, self._answer, sensor)

    def _answer(self, message: JointState) -> None:
        trajectory = JointTrajectory(joint_names=message.name)
        for k in (1, 2):
            point = JointTrajectoryPoint(positions=message.position, velocities=message.velocity)
            point.time_from_start.nanosec = k * 10_000_000
            trajectory.points.append(point)
        self._commands.publish(trajectory)


def latencies(driver: Driver) -> np.ndarray:
    """Seconds from the last joint state sent before a command to that command, one for each command."""
    sent, commands = np.array(driver.sent), np.array([stamp for stamp, _ in driver.received])
    last = np.searchsorted(sent, commands) - 1
    return 1e-9 * (commands - sent[last])[last >= 0]


def missed(driver: Driver, period: float) -> int:
    """Periods without a command although joint states came in time."""
    commands, sent = (1e-9 * np.array(x, dtype=np.float64) for x in ([s for s, _ in driver.received], driver.sent))
    late = np.flatnonzero(np.diff(commands) > 1.5 * period)
    gaps = sent[:-1][np.diff(sent) > 1.2 * period]
    return sum(not np.any((gaps > commands[k] - period) & (gaps < commands[k + 1])) for k in late)


def inference(checkpoint: Path) -> float:
    """Median µs of the policy's action."""
    controller = Controller(Checkpoint.load(checkpoint))
    robot = controller.contract.robot
    measured = {"joint_position": np.array(robot.home), "joint_velocity": np.zeros(robot.n_joints)}
    observation = controller.observe({**measured, "goal_position": GOAL})
    seconds = []
    for _ in range(CALLS):
        start = time.perf_counter()
        controller.act(observation)
        seconds.append(time.perf_counter() - start)
    return 1e6 * float(np.median(seconds))


def turn(driver: Driver, seconds: float, begin: Callable[[], None] = lambda: None) -> bool:
    """Whether the arm was halted meanwhile, as it is where the machine stalls for 0.1 s: then the turn does not count."""
    begin()
    driver.run_for(0.5)
    driver.forget()
    driver.run_for(seconds)
    return not driver.received or any(is_halt(message) for _, message in driver.received)


def measure(rate: float, checkpoint: Path, options: argparse.Namespace) -> dict[str, float]:
    """Both contestants at one rate, in turns."""
    with contextlib.ExitStack() as stack:
        bare = stack.enter_context(driven([sys.executable, __file__, "--bare"], rate))[1]
        node, runner = stack.enter_context(driven(runner_command(checkpoint), rate))
        bare.run(lambda: bare.received)
        runner.activate()
        found: dict[str, list[np.ndarray]] = {"bare": [], "runner": []}
        lost = halts = 0
        for _ in range(options.rounds):
            turn(bare, options.seconds)
            while turn(runner, options.seconds, runner.enable):
                halts += 1
                if halts > HALTS:
                    sys.exit(f"the runner halts again and again at {rate:g} Hz:\n{node.output[-2000:]}")
            for name, driver in (("bare", bare), ("runner", runner)):
                found[name].append(latencies(driver))
            lost += missed(runner, 1.0 / rate)
    bare_s, runner_s = (np.concatenate(found[name]) for name in ("bare", "runner"))
    figures = {"commands": len(runner_s), "wanted_commands": rate * options.rounds * options.seconds}
    figures |= {"missed": lost, "halts": halts}
    for name, q in (("median", 50), ("p99", 99)):
        ours, theirs = np.percentile(runner_s, q), np.percentile(bare_s, q)
        figures |= {f"{name}_ms": 1e3 * ours, f"bare_{name}_ms": 1e3 * theirs, f"{name}_ratio": ours / theirs}
    return {k: float(v) for k, v in figures.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", type=float, nargs="+", default=[100.0, 200.0, 500.0], help="control rates [Hz]")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each turn")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    by_rate = {}
    with tempfile.TemporaryDirectory() as directory:
        learned = reach_checkpoint(Path(directory, "training"))
        for rate in options.rates:
            checkpoint = at_rate(learned, rate, Path(directory, f"{rate:g}"))
            by_rate[f"{rate:g}"] = measure(rate, checkpoint, options)
            print(f"{rate:g} Hz: " + ", ".join(f"{k} {v:.4g}" for k, v in by_rate[f"{rate:g}"].items()), flush=True)
        figures = {f"{name}_ratio": max(f[f"{name}_ratio"] for f in by_rate.values()) for name in ("median", "p99")}
        figures |= {"inference_us": inference(checkpoint), "rates": by_rate}
    print(", ".join(f"{k} {v:.3g}" for k, v in figures.items() if k != "rates"))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    if "--bare" in sys.argv:
        sys.argv.remove("--bare")
        sys.exit(process.run(Bare))
    main()
