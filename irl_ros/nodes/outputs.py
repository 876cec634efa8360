"""How commands leave policy_runner: through one command interface, on its topic and in its message.

A halt is the interface's own stop: a trajectory that ends at rest, the position where the arm is, or zero velocity. A
dry run goes through all of it on `~/proposal`, which moves nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from rclpy.duration import Duration
from rclpy.qos import QoSProfile, ReliabilityPolicy
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

try:
    from rclpy.event_handler import PublisherEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import PublisherEventCallbacks

from irl_ros import messages
from irl_ros.contract import Contract, ContractError, Safety
from irl_ros.control.gate import Command, Halt
from irl_ros.control.velocity_command import VelocityCommand
from irl_ros.messages import DRY_RUN, GROUP_POSITION, GROUP_VELOCITY, JOINT_TRAJECTORY

TYPES = {JointTrajectory: "trajectory_msgs/msg/JointTrajectory", Float64MultiArray: "std_msgs/msg/Float64MultiArray"}
CHANNELS: dict[str, tuple[type, str]] = {
    JOINT_TRAJECTORY: (JointTrajectory, "joint_trajectory_controller/joint_trajectory"),
    GROUP_POSITION: (Float64MultiArray, "forward_position_controller/commands"),
    GROUP_VELOCITY: (Float64MultiArray, "forward_velocity_controller/commands"),
    DRY_RUN: (JointTrajectory, "~/proposal"),
}
"""Message and topic of each interface; the robot's own command topic where that takes the message."""
RELIABLE = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
QUIET = PublisherEventCallbacks(use_default_callbacks=False)
"""The executor asks each event callback whenever it wakes, before it hands on a joint state. A subscriber whose QoS does
not fit is told so on its own side."""
LONGEST = 1.5
"""Control periods between two commands, where the second waits for a joint state that is late."""
ACKNOWLEDGE = Duration(seconds=0.3)  # how long a halt waits for its receivers on the way down


class CommandOutput:
    """Publishes what the gate decides. `make_publisher` takes message class, topic and QoS, and keeps the publisher.

    Raises ContractError where the interface does not fit the robot.
    """

    def __init__(
        self,
        contract: Contract,
        safety: Safety,
        interface: str,
        velocity_timeout: float,
        make_publisher: Callable[[type, str, QoSProfile], Any],
    ):
        self._contract, self._interface = contract, interface
        self._velocity = VelocityCommand(contract, safety, velocity_timeout)
        if interface == GROUP_VELOCITY and velocity_timeout <= LONGEST * contract.task.period:
            raise ContractError(
                f"parameter velocity_timeout: a driver that stops after {velocity_timeout:g} s would stop between two "
                f"commands; it must be above {LONGEST:g} control periods of {contract.task.period:g} s"
            )
        self._commands = make_publisher(*self._channel(), RELIABLE)
        self._trajectory = JointTrajectory()
        self._gripper = None
        if contract.task.gripper and not self.dry:
            topic = contract.topics["gripper_command"]
            if topic.type != TYPES[Float64MultiArray]:
                raise ContractError(f"topic {topic.name}: gripper commands of type {topic.type} are not supported")
            self._gripper = make_publisher(Float64MultiArray, topic.name, RELIABLE)

    @property
    def dry(self) -> bool:
        """Whether nothing is published that could move the robot."""
        return self._interface == DRY_RUN

    @property
    def topic(self) -> str:
        """Resolved name of the topic that commands go to."""
        return self._commands.topic_name

    def unheard(self) -> str | None:
        """Why commands would go nowhere: a controller that is loaded later would find a policy under way. None when
        somebody listens, and for a dry run."""
        if self.dry or self._commands.get_subscription_count():
            return None
        return "nobody listens on it; is the arm's controller loaded (ros2 control list_controllers)?"

    def send(self, result: Command | Halt, measured: np.ndarray, now: float) -> None:
        """Publish a command or a halt at `now` [s of the node's clock]; `measured` is the arm's pose [rad], (n_joints,)."""
        self._commands.publish(self._message(result, measured, now))
        if self._gripper is not None and isinstance(result, Command) and result.opening is not None:
            fingers = self._contract.robot.gripper.joint_position(result.opening)
            self._gripper.publish(messages.fill_joint_group(Float64MultiArray(), fingers))

    def wait(self) -> None:
        """Return when receivers have what was sent, or after a moment."""
        self._commands.wait_for_all_acked(ACKNOWLEDGE)

    def _channel(self) -> tuple[type, str]:
        (kind, topic), own = CHANNELS[self._interface], self._contract.robot.command
        if own.type not in TYPES.values():
            raise ContractError(f"topic {own.name}: commands of type {own.type} are not supported")
        if own.type != TYPES[kind] or self.dry:
            return kind, topic
        other = {GROUP_POSITION: "velocity", GROUP_VELOCITY: "position"}.get(self._interface)
        if other and other in own.name:  # the message does not say which of the two it is
            raise ContractError(
                f"command_interface {self._interface} on the robot's own topic {own.name}, which by its name takes "
                f"{other} commands: name the right topic in the robot's file, or choose the other interface"
            )
        return kind, own.name

    def _message(self, result: Command | Halt, measured: np.ndarray, now: float) -> Any:
        robot = self._contract.robot
        if self._interface == GROUP_POSITION:
            where = result.hold if isinstance(result, Halt) else result.trajectory.positions[0]
            return messages.fill_joint_group(Float64MultiArray(), where)
        if self._interface == GROUP_VELOCITY:
            halt, velocity = isinstance(result, Halt), self._velocity
            values = velocity.stop() if halt else velocity.follow(result.trajectory, measured, now)
            return messages.fill_joint_group(Float64MultiArray(), values)
        return messages.fill_joint_trajectory(
            self._trajectory, JointTrajectoryPoint, robot.joint_names, result.trajectory
        )
