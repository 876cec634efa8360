"""policy_runner, the simulated arm and a client beside them, for tests: set-up, enabling, what was received when."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dds
import numpy as np
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.qos import QoSProfile
from sensor_msgs.msg import JointState
from std_srvs.srv import SetBool
from trajectory_msgs.msg import JointTrajectory

from irl_ros import messages
from irl_ros.contract import Contract

CONTRACT = Contract.load("panda", "reach")
ROBOT = CONTRACT.robot
COMMAND = ROBOT.command.name
ACTION = np.array([0.4, 0.2, -0.3, 0.2, 0.3, -0.2, 0.4])
STALE = ROBOT.joint_states.max_age
PERIOD = CONTRACT.task.period
SLACK = 0.1
"""[s] What a shared machine may add by not running the node."""


class Received:
    """Commands and joint states, each with the time [s] at which its node sent it: our own delays do not count."""

    def __init__(self, client: dds.Client):
        self.commands: list[tuple[float, JointTrajectory]] = []
        self.states: list[tuple[float, JointState]] = []
        keep(client, JointTrajectory, COMMAND, dds.COMMAND, self.commands)
        keep(client, JointState, ROBOT.joint_states.name, dds.SENSOR, self.states)

    def position(self) -> np.ndarray:
        return messages.joint_state(self.states[-1][1], ROBOT.joint_names)[0]

    @property
    def halted(self) -> bool:
        """Whether the last command is a halt: one point, at rest."""
        return bool(self.commands) and is_halt(self.commands[-1][1])

    def since_halt(self) -> list[JointTrajectory]:
        """The commands since the last halt."""
        kept: list[JointTrajectory] = []
        for _, message in reversed(self.commands):
            if is_halt(message):
                break
            kept.insert(0, message)
        return kept


def keep(client: dds.Client, kind: type, topic: str, qos: QoSProfile, into: list[tuple[float, Any]]) -> None:
    """Append every message on `topic`, with the time [s] at which it was sent."""

    def append(message: object, info: dict) -> None:
        into.append((info["source_timestamp"] * 1e-9, message))

    client.node.create_subscription(kind, topic, append, qos)


def is_halt(message: JointTrajectory) -> bool:
    return len(message.points) == 1 and not np.any(message.points[0].velocities)


def change(client: dds.Client, transition: int, node: str = "policy_runner") -> bool:
    request = ChangeState.Request()
    request.transition.id = transition
    return client.call(ChangeState, f"{node}/change_state", request).success


def enable(client: dds.Client, wanted: bool = True, node: str = "policy_runner") -> SetBool.Response:
    return client.call(SetBool, f"{node}/enable", SetBool.Request(data=wanted))


def state(client: dds.Client) -> int:
    return client.call(GetState, "policy_runner/get_state").current_state.id


def activate(client: dds.Client, node: str = "policy_runner") -> None:
    assert change(client, Transition.TRANSITION_CONFIGURE, node)
    assert change(client, Transition.TRANSITION_ACTIVATE, node)


def enable_when_ready(client: dds.Client, node: str = "policy_runner") -> None:
    """Enable as soon as the node has heard from the arm."""
    client.wait(lambda: enable(client, node=node).success, "enable")


def get_moving(client: dds.Client, received: Received, commands: int = 5, node: str = "policy_runner") -> None:
    """Enable, and wait for that many commands in a row; a machine that stalls for 0.1 s halts the arm: enable again."""
    enable_when_ready(client, node)

    def going() -> bool:
        if received.halted:
            enable(client, node=node)
        return len(received.since_halt()) > commands

    client.wait(going, f"{commands} commands in a row")


@contextlib.contextmanager
def runner(
    domain: int, checkpoint: Path, remap: dict[str, str] | None = None, **parameters: Any
) -> Iterator[dds.Process]:
    """policy_runner for the Panda as a process; the hand-made policies leave the demonstrations at once."""
    parameters = {"robot": "panda", "checkpoint": checkpoint, "unlike": "tell", **parameters}
    with dds.process("irl_ros.nodes.policy_runner", domain, remap, **parameters) as process:
        yield process


@contextlib.contextmanager
def moving(checkpoint: Path, **parameters: Any) -> Iterator[tuple[dds.Process, dds.Process, dds.Client, Received]]:
    """Arm and runner, enabled, the arm in motion."""
    with dds.domain() as domain, dds.process("irl_ros_sim.arm_node", domain, robot="panda") as arm:
        with runner(domain, checkpoint, **parameters) as process, dds.client(domain) as client:
            received = Received(client)
            activate(client)
            client.wait(lambda: received.states, "a joint state")
            get_moving(client, received)
            yield arm, process, client, received


def spin(client: dds.Client, seconds: float) -> None:
    """Listen for that long: for what must not come."""
    end = time.monotonic() + seconds
    client.wait(lambda: time.monotonic() > end, "time to pass")
