"""A second arm as a demonstrator: the robot does what the leader's joints do, never faster than the task allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from irl_ros import messages
from irl_ros.contract import Contract, ContractError
from irl_ros.kinematics import Kinematics
from irl_ros.motion import asked_action, gripper_action
from irl_ros.nodes.demonstrators import LEADS, Settings, shortened

MOVES = 0.005
"""[rad] A leader whose joint has moved this far is held by somebody."""


class Leader:
    """`joint_states` of another arm, by joint name. By default displacements count from where both arms were when the
    leader was taken in hand, so that nothing jumps; `leader_absolute` goes to the leader's own pose."""

    sources = ("joint_states",)

    def __init__(self, contract: Contract, kinematics: Kinematics, settings: Settings):
        self._contract, self._kinematics, self._settings = contract, kinematics, settings
        self._names = parse_names(settings.leader_joints, contract)
        self._signs = parse_signs(settings.leader_signs, contract)
        self._fingers = contract.robot.gripper.joint_names if contract.task.gripper else ()
        self._last: tuple[np.ndarray, float] | None = None
        self._rested, self._moved = np.full(contract.robot.n_joints, np.inf), -np.inf
        self._opening: float | None = None
        self._anchor: tuple[np.ndarray, np.ndarray] | None = None

    def receive(self, msg: object, now: float) -> None:
        """Take a joint state of the leader at the monotonic time `now` [s]; raises MessageError on an unusable one."""
        position = self._signs * messages.joint_state(msg, self._names, require_velocity=False)[0]
        if self._fingers and set(self._fingers) <= set(msg.name):
            self._opening = float(messages.joint_state(msg, self._fingers, require_velocity=False)[0].sum())
        if self._last is None:
            self._rested = position
        elif np.abs(position - self._rested).max() > MOVES:
            self._rested, self._moved = position, now
        self._last = position, now

    def reset(self) -> None:
        self._anchor = None

    def holds(self, now: float) -> bool:
        """For a while after the leader moved: it has no button."""
        return self._fresh(now) and now - self._moved <= LEADS

    def act(self, measured: Mapping[str, np.ndarray], now: float) -> np.ndarray:
        target = measured["joint_target"]
        if not self._fresh(now):
            self._anchor = None
            return self._with_gripper(np.zeros(self._contract.task.arm_action_size), measured)
        position = self._last[0]
        if self._anchor is None:
            self._anchor = position, target
        wanted = position if self._settings.leader_absolute else self._anchor[1] + position - self._anchor[0]
        action = asked_action(self._contract, np.stack([target, wanted]), self._kinematics)[0]
        return self._with_gripper(shortened(action), measured)

    def close(self) -> None:
        """Holds nothing."""

    def _fresh(self, now: float) -> bool:
        return self._last is not None and now - self._last[1] <= self._settings.leader_timeout

    def _with_gripper(self, action: np.ndarray, measured: Mapping[str, np.ndarray]) -> np.ndarray:
        """The leader's fingers where it has them under the robot's names; else the gripper stays as it is."""
        if not self._contract.task.gripper:
            return action
        opening = measured["gripper_opening"] if self._opening is None else np.array([self._opening])
        return np.append(action, gripper_action(self._contract, opening)[0, 0])


def parse_names(text: str, contract: Contract) -> tuple[str, ...]:
    """The leader's joints in the order of the robot's; the same names where `text` is empty."""
    names = tuple(part.strip() for part in text.split(",")) if text else contract.robot.joint_names
    return _as_many(names, "leader_joints", contract)


def parse_signs(text: str, contract: Contract) -> np.ndarray:
    """+1 or -1 for each joint, shape (n_joints,): '1,-1,1' for three; all +1 where `text` is empty."""
    parts = [part.strip() for part in text.split(",")] if text else ["1"] * contract.robot.n_joints
    if not set(parts) <= {"1", "+1", "-1"}:
        raise ContractError(f"parameter leader_signs: {text!r} is not valid; it takes 1 or -1 for each joint")
    return np.array([float(part) for part in _as_many(parts, "leader_signs", contract)])


def _as_many(parts: Sequence[str], name: str, contract: Contract) -> Sequence[str]:
    if len(parts) != contract.robot.n_joints or not all(parts):
        joints = contract.robot.n_joints
        raise ContractError(f"parameter {name}: {len(parts)} given; {contract.robot.name} has {joints} joints")
    return parts
