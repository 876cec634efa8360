"""`joystick`: a joystick by Linux's own interface (/dev/input/js*) as sensor_msgs/Joy, where no distribution's joy_node is.

As joy_node does, it says at each change and again 20 times a second what is held; left and up are positive. A receiver
that is pulled out leaves silence, which stops the arm, and is looked for again.
"""

from __future__ import annotations

import os
import struct
import sys
from dataclasses import dataclass

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from sensor_msgs.msg import Joy

from irl_ros.nodes import process
from irl_ros.nodes.parameters import declare, parameter

EVENT = struct.Struct("IhBB")
"""Time [ms], value, kind, number: struct js_event of linux/joystick.h."""
BUTTON, AXIS, INITIAL = 1, 2, 0x80
FULL = 32767.0
POLL = 0.01
"""[s] between two looks at the device."""
REPEAT = 0.05
"""[s] after which it says again what is held."""
AGAIN = 1.0
"""[s] between two tries to open the device."""


@dataclass(frozen=True)
class Parameters:
    """Parameters of the node."""

    device: str = parameter("/dev/input/js0", "the joystick")


class State:
    """Axes in [-1, 1] and buttons, as the device's events make them."""

    def __init__(self) -> None:
        self.axes: dict[int, float] = {}
        self.buttons: dict[int, int] = {}
        self._rest = b""

    def feed(self, data: bytes) -> bool:
        """Take what the device said; whether anything changed."""
        data, changed = self._rest + data, False
        whole = len(data) // EVENT.size * EVENT.size
        self._rest = data[whole:]
        for _, value, kind, number in EVENT.iter_unpack(data[:whole]):
            kind &= ~INITIAL
            changed = changed or kind in (AXIS, BUTTON)
            if kind == AXIS:
                self.axes[number] = -max(value, -FULL) / FULL
            elif kind == BUTTON:
                self.buttons[number] = int(value != 0)
        return changed

    def message(self) -> Joy:
        """A number that the device left out is at rest."""
        axes = [self.axes.get(k, 0.0) for k in range(max(self.axes, default=-1) + 1)]
        buttons = [self.buttons.get(k, 0) for k in range(max(self.buttons, default=-1) + 1)]
        return Joy(axes=axes, buttons=buttons)


class Joystick(Node):
    """Reads the device and publishes `joy`."""

    def __init__(self) -> None:
        super().__init__("joystick")
        self._device = declare(self, Parameters).device
        self._file: int | None = None
        self._state = State()
        self._joy = self.create_publisher(Joy, "joy", 10)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(POLL, self._read, clock=steady)
        self.create_timer(REPEAT, self._say, clock=steady)
        self.create_timer(AGAIN, self._open, clock=steady)
        self._open()

    def destroy_node(self) -> None:
        self._close()
        super().destroy_node()

    def _open(self) -> None:
        if self._file is not None:
            return
        try:
            self._file, self._state = os.open(self._device, os.O_RDONLY | os.O_NONBLOCK), State()
            self.get_logger().info(f"reading {self._device}")
        except OSError as error:
            reason = f"cannot open {self._device}: {error.strerror}"
            hint = "is it plugged in, and may you read it (group input)?"
            self.get_logger().error(f"{reason}; {hint}", throttle_duration_sec=10.0)

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _read(self) -> None:
        while self._file is not None:
            try:
                data = os.read(self._file, 64 * EVENT.size)
            except BlockingIOError:
                return
            except OSError as error:
                data = b""
                self.get_logger().error(f"{self._device} is gone: {error.strerror}")
            if not data:
                self._close()
            elif self._state.feed(data):
                self._say()

    def _say(self) -> None:
        if self._file is not None and (self._state.axes or self._state.buttons):
            message = self._state.message()
            message.header.stamp = self.get_clock().now().to_msg()
            self._joy.publish(message)


def main() -> None:
    sys.exit(process.run(Joystick))


if __name__ == "__main__":
    main()
