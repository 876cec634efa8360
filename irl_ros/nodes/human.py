"""A human beside the policy: who takes over through the gate, or drives while a dry run watches."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rclpy.qos import QoSProfile, ReliabilityPolicy
from std_msgs.msg import Bool, Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from irl_ros import messages
from irl_ros.contract import Contract
from irl_ros.control.pilot import Pilot
from irl_ros.nodes.scoreboard import LATCHED
from irl_ros.nodes.shadow import Agreement

COMMAND, GRIPPER_COMMAND = "teleop/command", "teleop/gripper_command"
"""What a human wants; on these topics it moves nothing by itself."""
SENSOR = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)


class Human:
    """Hears a human's commands and tells on `~/takeover` (latched) whether they lead.

    In a dry run they do not: there the human drives through the robot's own command topic or not at all, and is
    compared with the policy. `publisher` and `subscribe` make what they say; `refused` is told what cannot be used.
    """

    def __init__(
        self,
        contract: Contract,
        pilot: Pilot,
        dry: bool,
        publisher: Callable[[type, str, QoSProfile], Any],
        subscribe: Callable[[type, str, Callable[[Any], None], QoSProfile], None],
        refused: Callable[[str, messages.MessageError], None],
    ):
        self._contract, self._pilot, self._dry, self._refused = contract, pilot, dry, refused
        self.agreement = Agreement(contract, pilot.controller.kinematics)
        self._opening: float | None = None
        self._leads = False
        self._takeover = publisher(Bool, "~/takeover", LATCHED)
        self._takeover.publish(Bool(data=False))
        subscribe(JointTrajectory, COMMAND, self._on_command, SENSOR)
        if dry:
            subscribe(JointTrajectory, contract.robot.command.name, self._on_command, SENSOR)
        elif contract.task.gripper:
            subscribe(Float64MultiArray, GRIPPER_COMMAND, self._on_gripper, SENSOR)

    def tell(self, leads: bool) -> None:
        """Say whether the human leads, when that changes."""
        if not leads:
            self._opening = None  # what the hand wanted of the gripper then
        if leads != self._leads:
            self._leads = leads
            self._takeover.publish(Bool(data=leads))

    def _on_command(self, message: JointTrajectory) -> None:
        try:
            target = messages.joint_trajectory(message, self._contract.robot.joint_names).positions[0]
        except messages.MessageError as error:
            self._refused("teleop", error)
            return
        if self._dry:
            self.agreement.human(target, time.monotonic())
        else:
            self._pilot.takeover(target, time.monotonic(), self._opening)

    def _on_gripper(self, message: Float64MultiArray) -> None:
        try:
            fingers = messages.joint_group(message, len(self._contract.robot.gripper.joint_names))
        except messages.MessageError as error:
            self._refused("teleop's gripper", error)
            return
        self._opening = float(fingers.sum())
