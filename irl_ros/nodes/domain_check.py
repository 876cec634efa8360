"""domain_check: ends a simulation before it starts where a robot is in the domain that the user chose for it.

A simulation without `--domain` needs no such check: nobody else is in its domain.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rclpy.node import Node

from irl_ros.contract import Contract
from irl_ros.nodes import process
from irl_ros.nodes.outputs import CHANNELS
from irl_ros.nodes.parameters import declare, parameter

DISCOVERY = 5.0
"""Time in which DDS finds the participants of a domain [s]: most in 0.1 s, and each announces itself every 3 s."""
UNNAMED = "_NODE_NAME_UNKNOWN_"
"""The middleware's name of a node whose endpoint it found before the node."""
NAMELESS = "a program without a ROS node"
WAY_OUT = "stop it, or leave --domain out: then the simulation has a domain of its own"


@dataclass(frozen=True)
class Parameters:
    """Parameters of the node."""

    robot: str = parameter("", "robot: a name in config/robots or a YAML file; empty: the task's own")
    task: str = parameter("reach", "task, a name from the package's config or the path of a YAML file")


def command_topics(contract: Contract) -> list[str]:
    """Return the names of every topic by which this robot could be commanded."""
    robot = contract.robot
    gripper = [robot.gripper.command.name] if robot.gripper is not None else []
    standard = [topic for _, topic in CHANNELS.values() if not topic.startswith("~")]
    return list(dict.fromkeys([robot.command.name, *standard, *gripper]))


def foreign_node(node: Node, contract: Contract, own: Sequence[str] = ()) -> str | None:
    """Return which node outside the graph could be moved by it, or could be taken for its arm, in words.

    `own`: names of the graph's nodes, each of which may have one endpoint on a topic; a second one is another graph's.
    """
    for topic in command_topics(contract):
        name = node.resolve_topic_name(topic)
        if other := _other(node.get_subscriptions_info_by_topic(name), node, own):
            return f"{other} listens to commands on {name}: it may move a real arm. {WAY_OUT}"
    name = node.resolve_topic_name(contract.robot.joint_states.name)
    if other := _other(node.get_publishers_info_by_topic(name), node, own):
        return f"{other} publishes {name}: it may be a real arm. {WAY_OUT}"
    return None


def _other(endpoints: Sequence[Any], node: Node, own: Sequence[str]) -> str | None:
    """Return the first endpoint's node that is not the graph's."""
    left = Counter((node.get_namespace(), name) for name in own)
    for endpoint in endpoints:
        key = endpoint.node_namespace, endpoint.node_name
        if not left[key]:
            return NAMELESS if key[1] == UNNAMED else f"{key[0].rstrip('/')}/{key[1]}"
        left[key] -= 1
    return None


class DomainCheck(Node):
    """Looks for DISCOVERY seconds; `exit_code` 1 where it found a node that does not belong to the simulation."""

    def __init__(self) -> None:
        super().__init__("domain_check")
        settings = declare(self, Parameters)
        self._contract = Contract.load(settings.robot, settings.task)
        self._end = time.monotonic() + DISCOVERY
        self.done, self.exit_code = False, 0

    def step(self) -> None:
        """Look once more."""
        found, over = foreign_node(self, self._contract), time.monotonic() > self._end
        self.done = over or bool(found and NAMELESS not in found)  # a name may come a moment later
        if self.done and found:
            print(f"error: not simulated in this domain: {found}", file=sys.stderr, flush=True)
            self.exit_code = 1


def main() -> None:
    sys.exit(process.run(DomainCheck))


if __name__ == "__main__":
    main()
