"""A robot of the test's own beside a recorder, and what an operator asks of it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import dds
import numpy as np
from geometry_msgs.msg import PoseStamped
from rclpy.qos import QoSProfile
from sensor_msgs.msg import JointState
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from irl_ros import messages
from irl_ros.contract import Contract
from irl_ros.data.manifest import SESSIONS
from irl_ros.motion import target_trajectory

CONTRACT = Contract.load("panda", "reach")
HOME = np.array(CONTRACT.robot.home)
NAMES = CONTRACT.robot.joint_names
RECORDER = "irl_ros.nodes.recorder"


class FakeRobot:
    """Joint states at 100 Hz and a goal, from a thread; commands only while `commanding`."""

    def __init__(self, client: dds.Client, namespace: str = "", command: QoSProfile = dds.COMMAND):
        topics = {role: namespace + topic.name for role, topic in CONTRACT.topics.items()}
        node = client.node
        self._states = node.create_publisher(JointState, topics["joint_states"], dds.SENSOR)
        self._commands = node.create_publisher(JointTrajectory, topics["command"], command)
        self._goal = node.create_publisher(PoseStamped, topics["goal_pose"], dds.LATCHED)
        goal = messages.fill_pose(PoseStamped(), np.array([0.5, 0.1, 0.3]), CONTRACT.robot.base_frame, 0.0)
        self._goal.publish(goal)
        self.commanding, self.silent, self.commands = False, False, 0
        self._running = True
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._running = False
        self._thread.join()

    def _run(self) -> None:
        position, count = HOME, 0
        step = 0.3 * CONTRACT.max_step
        while self._running:
            if not self.silent:
                still = np.zeros(len(NAMES))
                self._states.publish(messages.fill_joint_state(JointState(), NAMES, position, still, time.time()))
            count += 1
            if self.commanding and count % 5 == 0:
                previous, position = position, position + step
                command = target_trajectory(CONTRACT, previous, position)
                message = messages.fill_joint_trajectory(JointTrajectory(), JointTrajectoryPoint, NAMES, command)
                self._commands.publish(message)
                self.commands += 1
            time.sleep(0.01)


@contextlib.contextmanager
def robot(client: dds.Client, **options) -> Iterator[FakeRobot]:
    fake = FakeRobot(client, **options)
    try:
        yield fake
    finally:
        fake.stop()


def names(directory: Path) -> list[str]:
    """What lies there, hidden or not, beside the manifests of sessions."""
    return sorted(p.name for p in directory.iterdir() if p.name != SESSIONS)


def trigger(client: dds.Client, name: str, node: str = "demo_recorder") -> Trigger.Response:
    return client.call(Trigger, f"{node}/{name}")


def start(client: dds.Client, node: str = "demo_recorder") -> str:
    """Start an episode as soon as the recorder has found the topics; returns its name."""
    answers = []

    def try_it() -> bool:
        answers.append(trigger(client, "start", node))
        return answers[-1].success

    client.wait(try_it, "an episode to start")
    return answers[-1].message


def demonstrate(client: dds.Client, fake: FakeRobot, commands: int) -> None:
    before, fake.commanding = fake.commands, True
    client.wait(lambda: fake.commands >= before + commands, f"{commands} commands")
    fake.commanding = False


def label(client: dds.Client, success: bool) -> SetBool.Response:
    return client.call(SetBool, "demo_recorder/label_success", SetBool.Request(data=success))
