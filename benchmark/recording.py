"""What the recorder keeps of three topics at a high rate, and what that costs.

    python benchmark/recording.py [--rate 1000] [--seconds 60] [--faster 2000 4000 8000] [--json FILE]

Real processes over DDS on loopback: this one sends joint states, commands and object poses, each at the rate and each
with its number in the payload, and the recorder records them as an episode of `push`. Then every number is looked for
in the bag's file. `cpu_fraction` is the recorder's share of one core, all its threads together, while messages came,
`stop_s` how long it takes to try and save the episode. The rates of `--faster` follow, for a few seconds each, until one
loses.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy

import argparse  # noqa: E402
import contextlib  # noqa: E402
import json  # noqa: E402
import struct  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402

sys.path.insert(0, str(Path(__file__).parents[1] / "test"))  # processes over DDS are started as the tests start them
import dds  # noqa: E402
from geometry_msgs.msg import PoseStamped  # noqa: E402
from mcap.records import Channel, Message  # noqa: E402
from mcap.stream_reader import StreamReader  # noqa: E402
from sensor_msgs.msg import JointState  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402
from test_bag import command, goal_pose, joint_state  # noqa: E402
from trajectory_msgs.msg import JointTrajectory  # noqa: E402

from irl_ros.contract import Contract  # noqa: E402

ROLES = ("joint_states", "command", "object_pose")
STAMP = 4
"""Bytes before the header's stamp in a serialized message; its seconds carry the number."""


class Sender:
    """Publishes serialized messages of the contract's topics, each with its number in the payload."""

    def __init__(self, client: dds.Client, contract: Contract):
        home = np.array(contract.robot.home)
        content = joint_state(home, 0.0), command(home, home), goal_pose(contract.robot.base_frame)
        self._content = {role: bytearray(message) for role, message in zip(ROLES, content)}
        kinds = dict(zip(ROLES, ((JointState, dds.SENSOR), (JointTrajectory, dds.COMMAND), (PoseStamped, dds.SENSOR))))
        topics = contract.topics
        self._publishers = {r: client.publisher(k, topics[r].name, qos) for r, (k, qos) in kinds.items()}
        self._goals = client.node.create_publisher(PoseStamped, topics["goal_pose"].name, dds.LATCHED)
        self._goals.publish(bytes(content[2]))
        self.sent = 0
        """Messages of each topic."""

    def send_for(self, seconds: float, rate: float) -> float:
        """Send at `rate` [Hz] for so long; returns the rate that was kept."""
        start = time.monotonic()
        for k in range(round(seconds * rate)):
            time.sleep(max(0.0, start + k / rate - time.monotonic()))
            for role, content in self._content.items():
                struct.pack_into("<i", content, STAMP, self.sent)
                self._publishers[role].publish(bytes(content))
            self.sent += 1
        return seconds * rate / (time.monotonic() - start)


def numbers(bag: Path, contract: Contract) -> dict[str, np.ndarray]:
    """The numbers in the payloads of a bag, by role, in order of recording."""
    roles = {"/" + contract.topics[role].name: role for role in ROLES}
    found: dict[str, list[int]] = {role: [] for role in ROLES}
    channels: dict[int, str] = {}
    with next(bag.glob("*.mcap")).open("rb") as stream:
        for record in StreamReader(stream, validate_crcs=True).records:
            if isinstance(record, Channel):
                channels[record.id] = record.topic
            elif isinstance(record, Message) and channels[record.channel_id] in roles:
                number = struct.unpack_from("<i", record.data, STAMP)[0]
                found[roles[channels[record.channel_id]]].append(number)
    return {role: np.array(values) for role, values in found.items()}


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used, all threads together."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def recorder(contract: Contract, out: Path) -> Iterator[tuple[dds.Process, dds.Client]]:
    """The recorder as a process, and a client in its domain."""
    with dds.domain() as domain, dds.client(domain) as client:
        with dds.process("irl_ros.nodes.recorder", domain, robot="panda", task="push", out=out) as node:
            yield node, client


def measure(rate: float, seconds: float, out: Path) -> dict[str, float]:
    """One episode at `rate` [Hz] of each topic."""
    contract = Contract.load("panda", "push")
    with recorder(contract, out) as (node, client):
        sender = Sender(client, contract)
        client.wait(lambda: sender.send_for(0.1, 100.0) and client.call(Trigger, "demo_recorder/start").success, "a start")
        first, used = sender.sent, cpu_seconds(node.pid)
        kept = sender.send_for(seconds, rate)
        used = cpu_seconds(node.pid) - used
        asked = time.monotonic()
        saved = client.call(Trigger, "demo_recorder/stop")
        stopped = time.monotonic() - asked
        if not saved.success:
            sys.exit(f"the recorder refused to save: {saved.message}")
        found = numbers(Path(saved.message), contract)
    wanted = np.arange(first, sender.sent)
    recorded = sum(len(np.intersect1d(values, wanted)) for values in found.values())
    twice = sum(len(values) - len(np.unique(values)) for values in found.values())
    sent = len(wanted) * len(ROLES)
    return {
        "rate": rate,
        "kept_rate": kept,
        "sent": sent,
        "recorded": recorded,
        "lost": sent - recorded,
        "recorded_twice": twice,
        "cpu_fraction": used / (len(wanted) / kept),
        "stop_s": stopped,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=1000.0, help="of each topic [Hz]")
    parser.add_argument("--seconds", type=float, default=60.0, help="at that rate")
    parser.add_argument("--faster", type=float, nargs="*", default=[2000.0, 4000.0, 8000.0], help="rates that follow [Hz]")
    parser.add_argument("--faster-seconds", type=float, default=10.0, help="at each of them")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        figures = measure(options.rate, options.seconds, Path(directory, "first"))
        show(figures)
        faster = []
        for rate in options.faster:
            if figures["lost"] or faster and faster[-1]["lost"]:
                break
            faster.append(measure(rate, options.faster_seconds, Path(directory, f"{rate:g}")))
            show(faster[-1])
    figures["faster"] = faster
    figures["first_loss"] = next((f for f in (figures, *faster) if f["lost"]), None)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def show(figures: dict[str, float]) -> None:
    print(", ".join(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
