"""From actions to joint targets and commands, and back: one function each, for env, simulated arm and runner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from irl_ros.contract import Contract, ContractError, ForwardKinematics


class DifferentialKinematics(ForwardKinematics, Protocol):
    """Forward kinematics that can be turned round; :class:`irl_ros.kinematics.Kinematics` does."""

    def solve(
        self, joint_position: np.ndarray, position: np.ndarray, orientation: Sequence[float] | None = None
    ) -> np.ndarray:
        """Joint positions [rad], shape (n_joints,), near `joint_position` with the end effector at `position` [m],
        and, where given, with `orientation` (x, y, z, w)."""


class JointTrajectory(NamedTuple):
    """What a joint_trajectory_controller takes: points from now. Shapes (P,) [s], (P, n) [rad], (P, n) [rad/s]."""

    times: np.ndarray
    positions: np.ndarray
    velocities: np.ndarray


def joint_target(
    contract: Contract,
    target: np.ndarray,
    action: np.ndarray,
    measured: np.ndarray,
    kinematics: DifferentialKinematics | None = None,
) -> np.ndarray:
    """The next joint target [rad], shape (n_joints,): where the action wants it, near the measured pose, in limits.

    Start with ``target = measured`` when a policy or a teleoperator takes over, and again after every halt.
    `kinematics` is needed where actions displace the end effector.
    """
    robot, lead = contract.robot, contract.task.max_lead
    wanted = wanted_target(contract, target, action, kinematics)
    near = np.clip(wanted, measured - lead, measured + lead)
    return np.clip(near, robot.position_lower, robot.position_upper)


def wanted_target(
    contract: Contract, target: np.ndarray, action: np.ndarray, kinematics: DifferentialKinematics | None = None
) -> np.ndarray:
    """Joint target [rad] that an action (action_size,) asks for, before lead and limits: target + clip(action) · step.

    The gripper's element is no part of it.

    A step of the end effector becomes one of the joints by inverse kinematics near the target; it is shortened, in its
    direction, to what the joints may do in one period.
    """
    task = contract.task
    step = np.clip(action[: task.arm_action_size], -1.0, 1.0) * contract.max_step
    if not task.moves_end_effector:
        return target + step
    kinematics = _needed(contract, kinematics)
    move = kinematics.solve(target, kinematics.position(target) + step, task.orientation or None) - target
    return target + move / max(1.0, float((np.abs(move) / contract.max_joint_step).max()))


def asked_action(
    contract: Contract, targets: np.ndarray, kinematics: DifferentialKinematics | None = None
) -> np.ndarray:
    """Actions of the arm (T, task.arm_action_size) between successive joint targets (T+1, n_joints): inverse of
    :func:`wanted_target`."""
    if contract.task.moves_end_effector:
        targets = np.stack([_needed(contract, kinematics).position(target) for target in targets])
    return np.diff(targets, axis=0) / contract.max_step


def gripper_target(contract: Contract, action: np.ndarray) -> float | None:
    """Opening [m] that an action (action_size,) asks of the gripper; None where the task leaves it alone."""
    if not contract.task.gripper:
        return None
    closed, opened = contract.robot.gripper.opening_range
    return closed + (opened - closed) * (float(np.clip(action[-1], -1.0, 1.0)) + 1.0) / 2.0


def gripper_action(contract: Contract, opening: np.ndarray) -> np.ndarray:
    """The action's gripper elements (T, 1) for openings [m], shape (T,): inverse of :func:`gripper_target`."""
    closed, opened = contract.robot.gripper.opening_range
    return np.clip(2.0 * (opening - closed) / (opened - closed) - 1.0, -1.0, 1.0)[:, None]


def _needed(contract: Contract, kinematics: DifferentialKinematics | None) -> DifferentialKinematics:
    if kinematics is None:
        raise ContractError(f"task {contract.task.name}: its actions move the end effector, so kinematics are needed")
    return kinematics


def target_trajectory(contract: Contract, previous: np.ndarray, target: np.ndarray) -> JointTrajectory:
    """Command for one control period: the target with feed-forward velocity, then a later stop.

    If no further command comes the arm stops at the last point: silence means stop. The velocity is low enough for
    the stop, v·period/2 further on, to lie within the joint limits, so that no interpolation leaves them.
    """
    period = contract.task.period
    room_below = np.maximum(target - contract.robot.position_lower, 0.0)
    room_above = np.maximum(contract.robot.position_upper - target, 0.0)
    velocity = np.clip((target - previous) / period, -2 * room_below / period, 2 * room_above / period)
    stop = np.clip(target + velocity * period / 2, contract.robot.position_lower, contract.robot.position_upper)
    return JointTrajectory(
        np.array([period, 2 * period]), np.stack([target, stop]), np.stack([velocity, np.zeros_like(velocity)])
    )


def halt_trajectory(contract: Contract, measured: np.ndarray) -> JointTrajectory:
    """Command that brings the arm to rest at the measured pose one period from now."""
    return JointTrajectory(np.array([contract.task.period]), measured[None].copy(), np.zeros((1, len(measured))))
