"""A robot driver between the simulated arm and the runner, as a process: passes joint states and clock on, or spoils
them.

What is on `fault` (String) holds from the next message on; empty: none.
"""

from __future__ import annotations

import math

import rclpy
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from std_msgs.msg import String

HOUR, BACK = 3600, 5  # [s]
MEASURED, PASSED_ON = "arm/joint_states", "joint_states"
TIME, TIME_PASSED_ON = "arm/clock", "/clock"
QUEUE = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)
"""Deep enough to send a burst of old messages after a pause."""


def shifted(message: JointState, seconds: int) -> JointState:
    message.header.stamp.sec += seconds
    return message


def with_position(message: JointState, value: float) -> JointState:
    message.position[3] = value
    return message


def permuted(message: JointState) -> JointState:
    message.name, message.position = list(message.name)[::-1], message.position[::-1]
    message.velocity = message.velocity[::-1]
    return message


def without_a_joint(message: JointState) -> JointState:
    message.name, message.position, message.velocity = message.name[1:], message.position[1:], message.velocity[1:]
    return message


def twice_a_joint(message: JointState) -> JointState:
    message.name = [message.name[0], message.name[0], *message.name[2:]]
    return message


def short(message: JointState) -> JointState:
    message.position = message.position[:-1]
    return message


FAULTS = {
    "nan": lambda message: with_position(message, math.nan),
    "infinite": lambda message: with_position(message, math.inf),
    "missing": without_a_joint,
    "duplicated": twice_a_joint,
    "short": short,
    "permuted": permuted,
    "hour": lambda message: shifted(message, HOUR),
    "back": lambda message: shifted(message, HOUR - BACK),
}


class Relay(Node):
    def __init__(self) -> None:
        super().__init__("relay")
        self._fault, self._frozen = "", None
        self._states = self.create_publisher(JointState, PASSED_ON, 10)
        self.create_subscription(JointState, MEASURED, self._on_state, QUEUE)
        self._ticks = self.create_publisher(Clock, TIME_PASSED_ON, 1)
        self.create_subscription(Clock, TIME, self._on_tick, QUEUE)
        self.create_subscription(String, "fault", self._on_fault, 10)

    def _on_fault(self, message: String) -> None:
        self._fault, self._frozen = message.data, None

    def _on_state(self, message: JointState) -> None:
        if self._fault == "frozen":
            self._frozen = self._frozen or message.header.stamp
            message.header.stamp = self._frozen
        elif self._fault:
            message = FAULTS[self._fault](message)
        self._states.publish(message)

    def _on_tick(self, message: Clock) -> None:
        message.clock.sec += {"hour": HOUR, "back": HOUR - BACK}.get(self._fault, 0)
        self._ticks.publish(message)


def main() -> None:
    rclpy.init()
    rclpy.spin(Relay())


if __name__ == "__main__":
    main()
