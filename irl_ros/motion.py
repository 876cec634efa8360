"""From actions to joint targets and commands, and back: one function each, for env, simulated arm and runner."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple, Protocol

import numpy as np

from irl_ros.contract import Contract, ContractError, ForwardKinematics, Robot

MOMENT = 1e-3  # [s] that two points of a trajectory are apart at least


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
    lead, (lower, upper) = contract.task.max_lead, _limits(contract.robot)
    wanted = wanted_target(contract, target, action, kinematics)
    return clip(clip(wanted, measured - lead, measured + lead), lower, upper)


def wanted_target(
    contract: Contract, target: np.ndarray, action: np.ndarray, kinematics: DifferentialKinematics | None = None
) -> np.ndarray:
    """Joint target [rad] that an action (action_size,) asks for, before lead and limits: target + clip(action) · step.

    The gripper's element is no part of it.

    A step of the end effector becomes one of the joints by inverse kinematics near the target; it is shortened, in its
    direction, to what the joints may do in one period.
    """
    task = contract.task
    step = clip(action[: task.arm_action_size], -1.0, 1.0) * contract.max_step
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
    period, (lower, upper) = contract.task.period, _limits(contract.robot)
    room_below, room_above = np.maximum(target - lower, 0.0), np.maximum(upper - target, 0.0)
    move = clip(target - previous, -2 * room_below, 2 * room_above)
    stop = clip(target + move / 2, lower, upper)
    return JointTrajectory(
        np.array([period, 2 * period]), np.array([target, stop]), np.array([move / period, np.zeros_like(move)])
    )


def halt_trajectory(start: np.ndarray, rest: np.ndarray, times: Sequence[float]) -> JointTrajectory:
    """Command that brings each joint from `start` to rest at `rest` [rad], both (n_joints,), in its own time [s], shape
    (n_joints,): a point wherever one of them comes to rest, and between them constant deceleration, which is what a
    spline through points of a parabola is."""
    own = _joined(times)
    ends = np.array(sorted(set(own.tolist())))  # np.unique imports numpy.ma when first called: 20 ms into a halt
    left = np.maximum(1.0 - ends[:, None] / own, 0.0)
    way = rest - start
    return JointTrajectory(ends, rest - way * left**2, 2.0 * way / own * left)


def _joined(times: Sequence[float]) -> np.ndarray:
    """Times of which two are the same or a moment apart: points too close together are refused by controllers."""
    own, latest = np.array(times), math.inf
    for k in np.argsort(own)[::-1]:
        latest = own[k] = latest if latest - own[k] < MOMENT else own[k]
    return own


def _limits(robot: Robot) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper joint positions [rad], shape (n_joints,) each."""
    return _array(robot.position_lower), _array(robot.position_upper)


@lru_cache(maxsize=64)
def _array(values: tuple[float, ...]) -> np.ndarray:
    """Read-only; made once, since a control period has a few of these and little else to do."""
    array = np.array(values)
    array.flags.writeable = False
    return array


def clip(values: np.ndarray, lower: np.ndarray | float, upper: np.ndarray | float) -> np.ndarray:
    """What np.clip does; for a handful of joints np.clip takes twice as long."""
    return np.minimum(np.maximum(values, lower), upper)
