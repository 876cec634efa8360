"""`teleop`: a demonstrator at the arm, over topics. See `demonstrators.py` for who that may be.

Every command passes the same input checks and the same gate as the policy's. Disabled it is silent, and so it is while
its inputs cannot be used: silence means stop.
"""

from __future__ import annotations

import math
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
from irl_ros.contract import Contract, ContractError, load_safety
from irl_ros.contract_yaml import task_robot
from irl_ros.control.gate import Command, Gate, GateError
from irl_ros.control.inputs import Inputs
from irl_ros.control.joint_state_check import FrozenJointCheck
from irl_ros.control.pilot import AT_REST
from irl_ros.kinematics import Kinematics
from irl_ros.nodes import process
from irl_ros.nodes.conduct import EPISODE_KEY_HELP, EPISODE_KEYS
from irl_ros.nodes.demonstrators import KEY_HELP, Demonstrator, Joystick, Keyboard, Scripted, Settings
from irl_ros.nodes.leader import Leader
from irl_ros.nodes.listener import publisher_of
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
        safety = load_safety(settings.robot or task_robot(settings.task))
        simulated = self.get_parameter("use_sim_time").value
        self._gate = Gate(self._contract, self._kinematics, safety)
        self._inputs = Inputs(self._contract, lambda: simulated)  # a reset under a hand that holds on
        self._frozen = FrozenJointCheck(self._contract, safety)
        self._engaged = False
        self._subscribe()
        command = self._contract.robot.command
        if command.type != "trajectory_msgs/msg/JointTrajectory":
            raise ContractError(f"teleop commands JointTrajectory; {self._contract.robot.name} takes {command.type}")
        self._commands = self.create_publisher(JointTrajectory, command.name, 1)
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
            self.create_subscription(PoseStamped, topic.name, partial(self._on_pose, role), qos)

    def _on_joint_state(self, msg: JointState, info: Any) -> None:
        self._take("joint_states", msg, publisher_of(info))

    def _on_pose(self, role: str, msg: PoseStamped) -> None:
        if not self._take(role, msg):
            self._inputs.forget(role)

    def _take(self, role: str, msg: Any, publisher: bytes = b"") -> bool:
        try:
            quantities = messages.measured(msg, role, self._contract, require_velocity=False)
        except messages.MessageError as error:
            self.get_logger().error(f"{error}; this message is left out", throttle_duration_sec=2.0)
            return False
        self._inputs.update(role, quantities, time.monotonic(), messages.stamp_seconds(msg.header.stamp), publisher)
        return True

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._enabled = request.data
        self._release("disabled")
        if request.data:
            self._engage()
        response.success, response.message = True, "enabled" if request.data else "disabled"
        return response

    def _engage(self) -> None:
        """Begin anew from where the arm is; a pose that the last fault asked about is accepted."""
        self._inputs.accept_new_pose()
        self._demonstrator.reset()

    def _release(self, reason: str) -> None:
        """Stop commanding: the last command's own stop ends the motion."""
        self._gate.disable(reason, self._inputs.joint_position, self._ages(time.monotonic()))

    def _tick(self) -> None:
        now = time.monotonic()
        engaged = self._enabled and (not self._takeover or self._demonstrator.holds(now))
        if engaged and not self._engaged and self._takeover:
            self._engage()
        self._engaged = engaged
        if not engaged:
            self._release("nobody leads")
        elif fault := self._fault(now) or self._start_fault(now):
            self._release(fault)
            ask = self._inputs.joint_states.ask().replace("enable", "let go and hold, or enable,")
            self.get_logger().warning(f"no command: {fault}{ask}", throttle_duration_sec=2.0)
        else:
            self._command(now)

    def _command(self, now: float) -> None:
        measured = self._inputs.measured
        action = self._demonstrator.act({**measured, "joint_target": self._gate.target}, now)
        result = self._gate.command(action, measured["joint_position"], self._ages(now))
        if not isinstance(result, Command):
            self.get_logger().warning(f"no command: {result.reason}", throttle_duration_sec=2.0)
            return
        self._frozen.update(measured["joint_position"], result.target, now)
        names = self._contract.robot.joint_names
        self._commands.publish(
            messages.fill_joint_trajectory(JointTrajectory(), JointTrajectoryPoint, names, result.trajectory)
        )
        if result.opening is not None:
            fingers = self._contract.robot.gripper.joint_position(result.opening)
            self._gripper.publish(messages.fill_joint_group(Float64MultiArray(), fingers))

    def _fault(self, now: float) -> str | None:
        """Return why what was received cannot be used, None when it can."""
        ages = self._ages(now)
        topics = {role: self._contract.topics[role] for role in ("joint_states", *self._poses)}
        silent = [topic.name for role, topic in topics.items() if ages[role] == math.inf or topic.too_old(ages[role])]
        stale = f"nothing fresh on {', '.join(silent)}" if silent else None
        return self._inputs.fault(now) or self._frozen.fault(self._inputs.joint_position) or stale

    def _start_fault(self, now: float) -> str | None:
        """Return why motion cannot start here; arms the gate where it can and is not armed yet."""
        if self._gate.armed:
            return None
        measured = self._inputs.measured
        if max(np.abs(measured["joint_velocity"]).max(), np.abs(self._inputs.joint_states.speed()).max()) > AT_REST:
            return "the arm moves; wait until it is at rest"
        opening = measured.get("gripper_opening")
        try:
            self._gate.enable(
                measured["joint_position"], self._ages(now), None if opening is None else float(opening[0])
            )
        except GateError as error:
            return str(error)
        self._frozen.begin(measured["joint_position"], now)
        return None

    def _ages(self, now: float) -> dict[str, float]:
        """Return the ages of what this demonstrator goes by; what only a policy needs counts as fresh."""
        needed = ("joint_states", *self._poses)
        return {role: age if role in needed else 0.0 for role, age in self._inputs.ages(now).items()}


def main() -> None:
    sys.exit(process.run(Teleop))


if __name__ == "__main__":
    main()
