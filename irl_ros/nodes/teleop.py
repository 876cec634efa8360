"""`teleop`: a demonstrator at the arm, over topics. See `demonstrators.py` for who that may be.

Disabled it is silent, and so it is while its inputs are stale: silence means stop.
"""

from __future__ import annotations

import sys
import time
from functools import partial
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import JointState, Joy
from std_msgs.msg import Float64MultiArray, String
from std_srvs.srv import SetBool
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from irl_ros import messages
from irl_ros.contract import POSE_TOPICS, Contract, ContractError
from irl_ros.motion import gripper_target, joint_target, target_trajectory
from irl_ros.kinematics import Kinematics
from irl_ros.nodes import process
from irl_ros.nodes.conduct import EPISODE_KEY_HELP, EPISODE_KEYS
from irl_ros.nodes.demonstrators import KEY_HELP, Demonstrator, Joystick, Keyboard, Scripted, Settings
from irl_ros.nodes.leader import Leader
from irl_ros.nodes.parameters import declare

SENSOR = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Teleop(Node):
    """Ticks at the task's rate on its clock (sim time where there is one) and publishes the demonstrator's command."""

    def __init__(self) -> None:
        super().__init__("teleop")
        settings = declare(self, Settings)
        self._contract = Contract.load(settings.robot, settings.task)
        self._kinematics = Kinematics(self._contract.robot)
        self._demonstrator = self._make_demonstrator(settings)
        self._takeover = settings.takeover
        self._enabled = settings.takeover and settings.mode != "scripted"  # holding on is enough for a person
        self._measured: dict[str, np.ndarray] = {}
        self._received = -np.inf
        self._target: np.ndarray | None = None
        self._subscribe()
        command = self._contract.robot.command
        if command.type != "trajectory_msgs/msg/JointTrajectory":
            raise ContractError(f"teleop commands JointTrajectory; {self._contract.robot.name} takes {command.type}")
        self._command = self.create_publisher(JointTrajectory, command.name, 1)
        if self._contract.task.gripper:
            topic = self._contract.robot.gripper.command.name
            self._gripper = self.create_publisher(Float64MultiArray, topic, 1)
        self.create_service(SetBool, "~/enable", self._on_enable)
        self.create_timer(self._contract.task.period, self._tick)
        waits = "leads while somebody holds on" if self._enabled else "disabled until ~/enable"
        self.get_logger().info(f"{settings.mode} is ready, {waits}")

    def destroy_node(self) -> None:
        if hasattr(self, "_demonstrator"):
            self._demonstrator.close()
        super().destroy_node()

    def _make_demonstrator(self, settings: Settings) -> Demonstrator:
        parts = self._contract, self._kinematics, settings
        if settings.mode == "joy":
            joystick = Joystick(*parts)
            self.create_subscription(
                Joy, "joy", lambda msg: joystick.receive(msg.axes, msg.buttons, time.monotonic()), SENSOR
            )
            return joystick
        if settings.mode == "keyboard":
            self.get_logger().info(f"{KEY_HELP}. {EPISODE_KEY_HELP}")
            self._requests = self.create_publisher(String, "demo_recorder/request", 10)
            return Keyboard(*parts, self._on_typed)
        if settings.mode == "leader":
            leader = Leader(*parts)
            self.create_subscription(JointState, settings.leader_topic, partial(self._on_leader, leader), SENSOR)
            return leader
        return Scripted(*parts)

    def _on_typed(self, text: str) -> None:
        """Episodes are conducted from the same terminal. From the keyboard's thread."""
        for key in filter(EPISODE_KEYS.get, text):
            self._requests.publish(String(data=EPISODE_KEYS[key]))

    def _on_leader(self, leader: Leader, msg: JointState) -> None:
        try:
            leader.receive(msg, time.monotonic())
        except messages.MessageError as error:
            self.get_logger().error(f"leader: {error}; this message is left out", throttle_duration_sec=2.0)

    def _subscribe(self) -> None:
        robot, sources = self._contract.robot, self._demonstrator.sources
        self.create_subscription(JointState, robot.joint_states.name, self._on_joint_state, SENSOR)
        self._poses = {role: topic for role, topic in self._contract.task.topics if role in sources}
        for role, topic in self._poses.items():
            qos = LATCHED if topic.latched else SENSOR
            self.create_subscription(PoseStamped, topic.name, self._pose_callback(role, topic.name), qos)

    def _on_joint_state(self, msg: JointState) -> None:
        try:
            self._measured.update(messages.measured(msg, "joint_states", self._contract, require_velocity=False))
        except messages.MessageError as error:
            self.get_logger().error(f"{error}; this message is left out", throttle_duration_sec=2.0)
            return
        self._received = time.monotonic()

    def _pose_callback(self, role: str, topic: str) -> Any:
        def callback(msg: PoseStamped) -> None:
            try:
                self._measured.update(messages.measured(msg, role, self._contract))
            except messages.MessageError as error:
                self._measured.pop(f"{POSE_TOPICS[role]}_position", None)
                self.get_logger().error(f"{topic}: {error}")

        return callback

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._enabled, self._target = request.data, None
        if request.data:
            self._demonstrator.reset()
        response.success, response.message = True, "enabled" if request.data else "disabled"
        return response

    def _missing(self, now: float) -> str:
        """What keeps us from acting; empty when nothing does."""
        absent = [t.name for role, t in self._poses.items() if f"{POSE_TOPICS[role]}_position" not in self._measured]
        if now - self._received > self._contract.robot.joint_states.max_age:
            absent.append(self._contract.robot.joint_states.name)
        return ", ".join(absent)

    def _tick(self) -> None:
        if not self._enabled:
            return
        now = time.monotonic()
        if self._takeover and not self._demonstrator.holds(now):
            self._target = None
            self._demonstrator.reset()
            return
        if missing := self._missing(now):
            self._target = None
            self.get_logger().warning(f"no command: nothing fresh on {missing}", throttle_duration_sec=2.0)
            return
        measured = self._measured["joint_position"]
        previous = measured if self._target is None else self._target
        action = self._demonstrator.act({**self._measured, "joint_target": previous}, now)
        self._target = joint_target(self._contract, previous, action, measured, self._kinematics)
        trajectory = target_trajectory(self._contract, previous, self._target)
        names = self._contract.robot.joint_names
        self._command.publish(
            messages.fill_joint_trajectory(JointTrajectory(), JointTrajectoryPoint, names, trajectory)
        )
        opening = gripper_target(self._contract, action)
        if opening is not None:
            fingers = self._contract.robot.gripper.joint_position(opening)
            self._gripper.publish(messages.fill_joint_group(Float64MultiArray(), fingers))


def main() -> None:
    sys.exit(process.run(Teleop))


if __name__ == "__main__":
    main()
