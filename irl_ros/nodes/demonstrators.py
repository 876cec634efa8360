"""Who moves the arm by teleoperation: a script that behaves like a person, a joystick, a keyboard, or, in `leader.py`,
another arm.

A joystick and a keyboard move the end effector; the arm follows by differential inverse kinematics, slower than asked
where a joint reaches its speed limit. No topics here: `teleop.py` brings what was received.
"""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from irl_ros.contract import Contract, ContractError
from irl_ros.motion import gripper_action
from irl_ros.kinematics import Kinematics
from irl_ros.nodes.parameters import parameter
from irl_ros.nodes.terminal import Terminal

KEYS = {  # key → direction of the end effector in the base frame
    **{"w": (1, 0, 0), "s": (-1, 0, 0), "a": (0, 1, 0), "d": (0, -1, 0), "r": (0, 0, 1), "f": (0, 0, -1)},
    **{"\x1b[A": (1, 0, 0), "\x1b[B": (-1, 0, 0), "\x1b[D": (0, 1, 0), "\x1b[C": (0, -1, 0)},
}
LEADS = 1.5  # [s] that a key, or a leader that moved, lets a person lead
GRIPPER_KEYS = {"o": 1.0, "c": -1.0}
KEY_HELP = "w/s or up/down: forth and back, a/d or left/right: left and right, r/f: up and down, o/c: open and close the gripper, other keys: stop"


@dataclass(frozen=True)
class Settings:
    """Parameters of the teleop node."""

    mode: str = parameter("scripted", "who demonstrates", choices=("scripted", "joy", "keyboard", "leader"))
    takeover: bool = parameter(
        False, "command only while somebody holds on, and without ~/enable: silence means stop"
    )
    robot: str = parameter("", "robot: a name in config/robots or a YAML file; empty: the task's own")
    task: str = parameter("reach", "task, a name from the package's config or the path of a YAML file")
    seed: int = parameter(0, "scripted: seed of its imperfections", range=(0, 2**31 - 1))
    noise: float = parameter(0.1, "scripted: standard deviation of the tremble, in actions", range=(0.0, 1.0))
    pause_rate: float = parameter(0.15, "scripted: pauses of up to half a second", "1/s", range=(0.0, 5.0))
    overshoot: float = parameter(0.1, "scripted: how far past the goal it aims, in distances", range=(0.0, 1.0))
    reaction: float = parameter(0.15, "scripted: mean time before it starts", "s", range=(0.0, 2.0))
    speed: float = parameter(0.25, "joy, keyboard: end effector's speed at full deflection", "m/s", range=(0.01, 1.0))
    acceleration: float = parameter(1.0, "joy, keyboard: end effector's acceleration", "m/s²", range=(0.1, 20.0))
    joy_axes: str = parameter("1,0,4", "joy: axes for forth, left and up; a leading - turns one round")
    joy_deadman: int = parameter(4, "joy: button that must be held; released, the arm stops", range=(0, 63))
    joy_open: int = parameter(1, "joy: button that opens the gripper", range=(0, 63))
    joy_close: int = parameter(0, "joy: button that closes the gripper", range=(0, 63))
    joy_deadzone: float = parameter(0.1, "joy: deflection that reads as none", range=(0.0, 0.9))
    joy_timeout: float = parameter(0.3, "joy: the arm stops when no message came for this long", "s", range=(0.05, 5.0))
    joy_still: float = parameter(
        1.5,
        "joy: a deflection that is the same to the last bit for this long is that of a lost receiver, which its driver "
        "repeats; the dead-man drops until something moves. No hand is so steady, but one at the stick's stop is",
        "s",
        range=(0.2, 60.0),
    )
    leader_topic: str = parameter("leader/joint_states", "leader: topic (sensor_msgs/JointState) of the other arm")
    leader_joints: str = parameter("", "leader: its joints in the order of the robot's, 'a,b,c'; empty: the same names")
    leader_signs: str = parameter("", "leader: 1 or -1 for each joint, '1,-1,1'; empty: all 1")
    leader_absolute: bool = parameter(False, "leader: go to its pose, not by its displacement since it was taken in hand")
    leader_timeout: float = parameter(0.2, "leader: the arm stops without a message for this", "s", range=(0.02, 5.0))
    key_hold: float = parameter(0.3, "keyboard: how long a key acts after it was last seen", "s", range=(0.05, 2.0))


class Demonstrator(Protocol):
    """Where actions come from."""

    sources: Sequence[str]
    """Roles of the topics that `act` needs, as in Contract.sources."""

    def reset(self) -> None:
        """Called when teleoperation is enabled."""

    def act(self, measured: Mapping[str, np.ndarray], now: float) -> np.ndarray:
        """Action in [-1, 1] from what Contract.observe takes and the last `joint_target` [rad], at the monotonic time
        `now` [s]."""

    def holds(self, now: float) -> bool:
        """Whether a person wants to lead at the monotonic time `now` [s]."""

    def close(self) -> None:
        """Give back what it holds."""


class Scripted:
    """The task's scripted expert on the contract's observation."""

    def __init__(self, contract: Contract, kinematics: Kinematics, settings: Settings):
        from irl_ros_sim.experts import make_expert

        self.sources = contract.sources
        self._contract, self._kinematics = contract, kinematics
        human = {name: getattr(settings, name) for name in ("noise", "pause_rate", "overshoot", "reaction")}
        self._expert = make_expert(contract, kinematics, np.random.default_rng(settings.seed), **human)

    def reset(self) -> None:
        self._expert.reset()

    def act(self, measured: Mapping[str, np.ndarray], now: float) -> np.ndarray:
        return self._expert.act(self._contract.observe(measured, self._kinematics))

    def holds(self, now: float) -> bool:
        """As long as it is enabled."""
        return True

    def close(self) -> None:
        """Holds nothing."""


class Hand(ABC):
    """A person's wish for the end effector's velocity, made into joint actions; see `wish` of the subclasses."""

    sources = ("joint_states",)

    def __init__(self, contract: Contract, kinematics: Kinematics, settings: Settings):
        self._contract, self._kinematics, self._settings = contract, kinematics, settings
        self._velocity = np.zeros(3)
        self._grip: float | None = None

    def reset(self) -> None:
        self._velocity, self._grip = np.zeros(3), None

    @abstractmethod
    def wish(self, now: float) -> np.ndarray | None:
        """Wanted deflection, each element in [-1, 1], shape (3,); None: stop at once."""

    @abstractmethod
    def holds(self, now: float) -> bool:
        """Whether the person holds on."""

    def act(self, measured: Mapping[str, np.ndarray], now: float) -> np.ndarray:
        period, settings, wish = self._contract.task.period, self._settings, self.wish(now)
        if wish is None:
            self._velocity = np.zeros(3)
            return self._with_gripper(np.zeros(self._contract.task.arm_action_size), measured)
        self._velocity = slew(self._velocity, settings.speed * wish, settings.acceleration * period)
        delta = self._velocity * period
        action = displacement_action(self._contract, self._kinematics, measured["joint_position"], delta)
        return self._with_gripper(action, measured)

    def _with_gripper(self, action: np.ndarray, measured: Mapping[str, np.ndarray]) -> np.ndarray:
        """The action and, where the task has one, the gripper's element: as it is until the person opens or closes it."""
        if not self._contract.task.gripper:
            return action
        if self._grip is None:
            self._grip = float(gripper_action(self._contract, measured["gripper_opening"])[0, 0])
        return np.append(action, self._grip)

    def close(self) -> None:
        """Holds nothing."""


class Joystick(Hand):
    """sensor_msgs/Joy: the last message counts while its dead-man button is held, it is fresh, and it is a hand's."""

    def __init__(self, contract: Contract, kinematics: Kinematics, settings: Settings):
        super().__init__(contract, kinematics, settings)
        self._axes = parse_axes(settings.joy_axes)
        self._last: tuple[np.ndarray | None, float] = (None, -np.inf)
        self._raw: tuple[tuple[float, ...], tuple[int, ...]] = ((), ())
        self._changed = -np.inf

    def receive(self, axes: Sequence[float], buttons: Sequence[int], now: float) -> None:
        """Take a message that arrived at the monotonic time `now` [s]."""
        settings, raw = self._settings, (tuple(axes), tuple(buttons))
        if raw != self._raw:
            self._raw, self._changed = raw, now
        self._last = joy_deflection(axes, buttons, self._axes, settings.joy_deadman, settings.joy_deadzone), now
        for button, grip in ((settings.joy_open, 1.0), (settings.joy_close, -1.0)):
            if self._last[0] is not None and button < len(buttons) and buttons[button]:
                self._grip = grip

    def wish(self, now: float) -> np.ndarray | None:
        wish, received = self._last
        if wish is None or now - received > self._settings.joy_timeout:
            return None
        lost = wish.any() and now - self._changed > self._settings.joy_still
        return None if lost else wish

    def holds(self, now: float) -> bool:
        """While the dead-man button is held."""
        return self.wish(now) is not None


class Keyboard(Hand):
    """Keys from the terminal on stdin: a terminal tells of a key that goes down, and never that it comes up."""

    def __init__(
        self, contract: Contract, kinematics: Kinematics, settings: Settings, typed: Callable[[str], None]
    ):
        """`typed` is told every key, in a thread of its own."""
        super().__init__(contract, kinematics, settings)
        self._tell = typed
        self._last: tuple[np.ndarray | None, float] = (None, -np.inf)
        if not sys.stdin.isatty():
            alone = "start `python -m irl_ros.nodes.teleop --ros-args -p mode:=keyboard` by itself in a terminal"
            raise ContractError(f"keys are read from the terminal, and stdin is none; {alone}")
        self._terminal = Terminal(self._typed)

    def _typed(self, text: str) -> None:
        self._tell(text)
        self._grip = GRIPPER_KEYS.get(text[-1], self._grip)
        self._last = key_deflection(text), time.monotonic()

    def wish(self, now: float) -> np.ndarray | None:
        wish, pressed = self._last
        return wish if now - pressed <= self._settings.key_hold else np.zeros(3)

    def holds(self, now: float) -> bool:
        """For a while after each key: a terminal waits before it repeats one."""
        return now - self._last[1] <= LEADS

    def close(self) -> None:
        self._terminal.close()


def displacement_action(
    contract: Contract, kinematics: Kinematics, joint_position: np.ndarray, delta: np.ndarray
) -> np.ndarray:
    """Action of the arm, shape (task.arm_action_size,), that moves the end effector by `delta` [m] in one period, or less the same way."""
    step = delta if contract.task.moves_end_effector else kinematics.displacement(joint_position, delta)
    return shortened(step / contract.max_step)


def shortened(action: np.ndarray) -> np.ndarray:
    """The action, or as much of it the same way as fits in [-1, 1]."""
    return action / max(1.0, float(np.abs(action).max()))


def slew(value: np.ndarray, wanted: np.ndarray, step: float) -> np.ndarray:
    """`value` moved towards `wanted` by at most `step` in Euclidean norm."""
    change = wanted - value
    return value + change * min(1.0, step / max(float(np.linalg.norm(change)), 1e-12))


def parse_axes(text: str) -> tuple[tuple[int, float], ...]:
    """Axis and sign for x, y, z: '1,0,-4' is ((1, 1.0), (0, 1.0), (4, -1.0)); ContractError on anything else."""
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 3 or not all(part.removeprefix("-").isdecimal() for part in parts):
        raise ContractError(f"parameter joy_axes: {text!r} is not valid; it takes three axes such as '1,0,-4'")
    return tuple((int(part.removeprefix("-")), -1.0 if part.startswith("-") else 1.0) for part in parts)


def joy_deflection(
    axes: Sequence[float], buttons: Sequence[int], mapping: Sequence[tuple[int, float]], deadman: int, deadzone: float
) -> np.ndarray | None:
    """Wanted deflection, shape (3,), each in [-1, 1]; None unless the dead-man button is held and all axes exist."""
    held = deadman < len(buttons) and buttons[deadman]
    if not held or any(axis >= len(axes) for axis, _ in mapping):
        return None
    raw = np.array([sign * axes[axis] for axis, sign in mapping])
    if not np.isfinite(raw).all():
        return None
    return np.sign(raw) * np.clip((np.abs(raw) - deadzone) / (1.0 - deadzone), 0.0, 1.0)


def key_deflection(text: str) -> np.ndarray | None:
    """Deflection, shape (3,), of the last key in what a terminal sent; None for a key without a meaning: stop."""
    for key, direction in KEYS.items():
        if text.endswith(key):
            return np.array(direction, dtype=float)
    return None
