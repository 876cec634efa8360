"""The last word on every command: pure, no ROS, no learning.

A :class:`Gate` is disarmed, armed or halted. Armed, it turns an action into a :class:`Command` by the contract's one
:func:`~irl_ros.contract.joint_target`, or into a :class:`Halt` when anything is wrong. After a halt nothing moves
until somebody enables it again, and enabling starts from the measured pose.

Every target of a command lies within the joint limits, within the contract's ``max_lead`` of the measured pose, and
no farther from the previous target than the joint velocity limits allow in one period. Where these contradict each
other (somebody pushed the arm away from its target) the gate halts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

import numpy as np

from irl_ros.contract import Contract, ContractError
from irl_ros.motion import (
    DifferentialKinematics,
    JointTrajectory,
    gripper_target,
    halt_trajectory,
    joint_target,
    target_trajectory,
    wanted_target,
)

ROUNDING = 1e-9  # [rad]


class GateError(ValueError):
    """The gate was asked for something it refuses; the message says what and what to do."""


class GateState(Enum):
    DISARMED = "disarmed"
    ARMED = "armed"
    HALTED = "halted"


class Command(NamedTuple):
    """One period of motion. Shapes: action (m,) as executed, in [-1, 1]; target (n_joints,) [rad]."""

    trajectory: JointTrajectory
    action: np.ndarray
    target: np.ndarray
    limited: tuple[str, ...]
    """What was cut to its limit: "action", "lead of <joint>", "position of <joint>"."""
    opening: float | None = None
    """Of the gripper [m], within its range; None where the task leaves it alone. A halt leaves it as it is."""


class Halt(NamedTuple):
    """Come to rest; nothing follows until the gate is enabled again."""

    trajectory: JointTrajectory
    reason: str


class Gate:
    """Limits on commands under `contract`. Positions and targets are [rad], shape (n_joints,); ages [s] by role.

    An age is the time since the topic's last message was received, on a monotonic clock; `math.inf` if there was none.
    """

    def __init__(self, contract: Contract, kinematics: DifferentialKinematics | None = None):
        """`kinematics` is needed where actions displace the end effector."""
        if contract.robot is None:
            raise ContractError(f"task {contract.task.name}: there is no robot in this contract to command")
        if contract.task.moves_end_effector and kinematics is None:
            raise ContractError(f"task {contract.task.name}: its actions move the end effector; give its kinematics")
        self._contract, self._kinematics, robot = contract, kinematics, contract.robot
        self._lower, self._upper = np.array(robot.position_lower), np.array(robot.position_upper)
        self._max_change = np.array(robot.velocity_limit) * contract.task.period
        self._max_age = {role: contract.topics[role].max_age for role in ("joint_states", *contract.sources)}
        self._target: np.ndarray | None = None
        self.state = GateState.DISARMED
        self.reason = "not enabled yet"
        """Why the gate is not armed; empty while it is."""

    @property
    def armed(self) -> bool:
        return self.state is GateState.ARMED

    def enable(self, measured: np.ndarray, ages: Mapping[str, float]) -> None:
        """Arm, with the target at the measured pose. Raises GateError, and stays as it was, on unusable input."""
        fault = self._input_fault(measured, ages)
        if fault:
            raise GateError(f"not enabled: {fault}")
        self._target = measured.astype(np.float64)
        self.state, self.reason = GateState.ARMED, ""

    def disable(self, reason: str, measured: np.ndarray | None, ages: Mapping[str, float]) -> Halt | None:
        """Disarm; the halt to send if the arm may be moving, None when nothing was under way."""
        halt = self.halt(reason, measured, ages) if self.armed else None
        self.state, self.reason = GateState.DISARMED, reason
        return halt

    def command(self, action: np.ndarray, measured: np.ndarray, ages: Mapping[str, float]) -> Command | Halt:
        """The command for `action`, shape (action_size,), or the halt that ends all motion.

        Raises GateError when the gate is not armed.
        """
        if not self.armed:
            raise GateError(f"no command: the gate is {self.state.value} ({self.reason}); enable it first")
        fault = self._input_fault(measured, ages) or self._action_fault(action)
        if fault:
            return self.halt(fault, measured, ages)
        target = joint_target(self._contract, self._target, action, measured, self._kinematics)
        fault = self._target_fault(target, measured)
        if fault:
            return self.halt(fault, measured, ages)
        limited = self._limited(action, measured)
        trajectory = target_trajectory(self._contract, self._target, target)
        self._target = target
        opening = gripper_target(self._contract, action)
        return Command(trajectory, np.clip(action, -1.0, 1.0), target.copy(), limited, opening)

    def halt(self, reason: str, measured: np.ndarray | None, ages: Mapping[str, float]) -> Halt:
        """Halt, at rest in the measured pose; in the last target where the measurement is missing, stale or bad:
        the arm has moved on since, and the target is where it was going.

        Raises GateError when the gate is not armed: there is nothing to halt.
        """
        if not self.armed:
            raise GateError(f"no halt: the gate is {self.state.value} ({self.reason})")
        known = self._position_fault(measured) is None and self._stale("joint_states", ages) is None
        rest = np.array(measured, dtype=np.float64) if known else self._target
        self.state, self.reason = GateState.HALTED, reason
        return Halt(halt_trajectory(self._contract, rest), reason)

    def stale(self, ages: Mapping[str, float]) -> str | None:
        """What is missing or too old, in words; None when every input is fresh."""
        return next(filter(None, (self._stale(role, ages) for role in self._max_age)), None)

    def _stale(self, role: str, ages: Mapping[str, float]) -> str | None:
        age, max_age = ages.get(role, math.inf), self._max_age[role]
        name = self._contract.topics[role].name
        if not age < math.inf:
            return f"nothing received on {name}"
        if max_age is not None and age > max_age:
            return f"{name} is stale: last message {age:.3f} s ago, at most {max_age:g} s allowed"
        return None

    def _input_fault(self, measured: np.ndarray, ages: Mapping[str, float]) -> str | None:
        return self.stale(ages) or self._position_fault(measured)

    def _position_fault(self, measured: np.ndarray | None) -> str | None:
        return _array_fault("measured joint position", measured, self._contract.robot.n_joints)

    def _action_fault(self, action: np.ndarray) -> str | None:
        return _array_fault("action", action, self._contract.action_size)

    def _target_fault(self, target: np.ndarray, measured: np.ndarray) -> str | None:
        """Why `target` cannot satisfy every limit at once: the arm is not where it should be."""
        for i, name in enumerate(self._contract.robot.joint_names):
            if abs(target[i] - self._target[i]) > self._max_change[i] + ROUNDING:
                return (
                    f"{name} is at {measured[i]:.3f} rad, {abs(measured[i] - self._target[i]):.3f} rad from its "
                    "target: held, pushed or commanded by somebody else"
                )
            if abs(target[i] - measured[i]) > self._contract.task.max_lead + ROUNDING:
                return f"{name} is at {measured[i]:.3f} rad, outside [{self._lower[i]}, {self._upper[i]}]"
        return None

    def _limited(self, action: np.ndarray, measured: np.ndarray) -> tuple[str, ...]:
        names, lead = self._contract.robot.joint_names, self._contract.task.max_lead
        wanted = wanted_target(self._contract, self._target, action, self._kinematics)
        near = np.clip(wanted, measured - lead, measured + lead)
        led = [f"lead of {n}" for n, cut in zip(names, np.abs(near - wanted) > ROUNDING) if cut]
        bounded = [f"position of {n}" for n, out in zip(names, (near < self._lower) | (near > self._upper)) if out]
        return (*(["action"] if np.abs(action).max() > 1.0 else []), *led, *bounded)


def _array_fault(what: str, value: np.ndarray | None, size: int) -> str | None:
    if not isinstance(value, np.ndarray) or value.shape != (size,):
        return f"{what} has shape {np.shape(value)}, not ({size},)"
    if not np.issubdtype(value.dtype, np.floating):
        return f"{what} is of type {value.dtype}, not floating point"
    bad = np.flatnonzero(~np.isfinite(value))
    return f"{what}: element {bad[0]} is {value[bad[0]]}" if len(bad) else None
