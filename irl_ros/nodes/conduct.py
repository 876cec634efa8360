"""How an operator conducts episodes beside the services: joystick buttons, keys, and what begins and ends by itself."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Joy
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger

from irl_ros.nodes.parameters import parameter
from irl_ros.nodes.terminal import Terminal

SERVICES = ("start", "stop", "discard")
REQUESTS = ("start", "success", "failure", "discard")
EPISODE_KEYS = {"\n": "start", "\r": "start", "y": "success", "n": "failure", "x": "discard"}
EPISODE_KEY_HELP = "Enter: start an episode, y: end it as a success, n: as a failure, x: discard it, or the last one"
REPEAT = 1.0
"""[s] within which the same request is a key that is held."""
BURST = QoSProfile(depth=100, reliability=ReliabilityPolicy.BEST_EFFORT)
"""Of a joystick: a press that lasts for one message must be seen."""


@dataclass(frozen=True)
class Settings:
    """Parameters of the recorder that concern its operator."""

    joystick: bool = parameter(False, "conduct episodes by buttons of the joystick on `joy`")
    joy_start: int = parameter(7, "joystick: button that starts an episode; -1: none", range=(-1, 63))
    joy_success: int = parameter(3, "joystick: button that ends it as a success; -1: none", range=(-1, 63))
    joy_failure: int = parameter(2, "joystick: button that ends it as a failure; -1: none", range=(-1, 63))
    joy_discard: int = parameter(6, "joystick: button that discards it, or the last one; -1: none", range=(-1, 63))
    keyboard: bool = parameter(False, "conduct episodes by keys of the terminal on stdin, where it is one")
    bell: bool = parameter(True, "ring the terminal's bell at every change")
    start_on_motion: bool = parameter(False, "a start waits for the arm's first motion")
    motion: float = parameter(0.01, "start_on_motion: what a joint must have moved", "rad", range=(1e-4, 1.0))
    lead_in: float = parameter(0.3, "start_on_motion: recorded from before the motion was seen", "s", range=(0.0, 5.0))
    rearm: float = parameter(
        0.0,
        "start_on_motion: wait for the next motion by itself, once the arm has rested this long; 0: wait for a start",
        "s",
        range=(0.0, 600.0),
    )
    success_topic: str = parameter("", "topic (std_msgs/Bool) on which the task says whether it is done; empty: none")
    success_hold: float = parameter(0.5, "how long a success must last to end the episode", "s", range=(0.0, 60.0))
    timeout: float = parameter(
        0.0,
        "end an episode after this; labelled by what `success_topic` says, else not at all; 0: never",
        "s",
        range=(0.0, 86400.0),
    )


class Requests:
    """Services, buttons, keys and `~/request` (String) to `actions` by name, and to `label`; what was typed is done by
    :meth:`answer`.

    `attempt` does an action and gives success and what to say; who cannot be answered is told by `refused`.
    """

    def __init__(
        self,
        node: Node,
        settings: Settings,
        actions: Mapping[str, Callable[[], str]],
        label: Callable[[bool], str],
        attempt: Callable[[Callable[[], str]], tuple[bool, str]],
        refused: Callable[[str], None],
    ):
        self._actions, self._label, self._attempt, self._refused = actions, label, attempt, refused
        for name in SERVICES:
            node.create_service(Trigger, f"~/{name}", partial(self._on_trigger, name))
        node.create_service(SetBool, "~/label_success", self._on_label)
        self._typed: deque[str] = deque()
        self._asked = "", 0.0
        self._terminal: Terminal | None = None
        node.create_subscription(String, "~/request", lambda msg: self._ask_once(msg.data), 10)
        if settings.joystick:
            buttons = {name: getattr(settings, f"joy_{name}") for name in REQUESTS}
            self._buttons = Buttons({button: name for name, button in buttons.items() if button >= 0})
            node.create_subscription(Joy, "joy", self._on_joy, BURST)
            shown = ", ".join(f"{name} {button}" for name, button in buttons.items() if button >= 0)
            node.get_logger().info(f"joystick buttons for episodes: {shown}")
        if settings.keyboard and sys.stdin.isatty():
            self._terminal = Terminal(self._typed.append)
            node.get_logger().info(EPISODE_KEY_HELP)

    def answer(self) -> None:
        """Do what was typed since the last time."""
        while self._typed:
            for key in self._typed.popleft():
                if key in EPISODE_KEYS:
                    self._ask_once(EPISODE_KEYS[key])

    def close(self) -> None:
        if self._terminal is not None:
            self._terminal.close()

    def _on_joy(self, msg: Joy) -> None:
        for name in self._buttons.pressed(msg.buttons):
            self._do(name)

    def _on_trigger(self, name: str, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success, response.message = self._attempt(self._actions[name])
        return response

    def _on_label(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        response.success, response.message = self._attempt(partial(self._label, request.data))
        return response

    def _do(self, name: str) -> None:
        done, answer = self._attempt(self._actions[name])
        if not done:
            self._refused(answer)

    def _ask_once(self, name: str) -> None:
        """Do what is asked, but not for each repetition of a key that is held."""
        (before, when), now = self._asked, time.monotonic()
        self._asked = name, now
        if name in self._actions and (name != before or now - when > REPEAT):
            self._do(name)


class Buttons:
    """Presses out of a joystick's messages: a button counts once, when it goes down."""

    def __init__(self, names: Mapping[int, str]):
        self._names = names
        self._down: set[int] = set()

    def pressed(self, buttons: Sequence[int]) -> list[str]:
        """Names of the buttons that went down with this message."""
        down = {k for k in self._names if k < len(buttons) and buttons[k]}
        new, self._down = down - self._down, down
        return [self._names[k] for k in sorted(new)]
