"""ROS messages to arrays and back, by attribute: the same functions read live messages and those of a bag.

Nothing here imports rclpy, so that a bag can be read where no ROS is. Every reader raises :class:`MessageError` on a
message that cannot be used: what is not a finite number, or not about our joints and our frame, ends here.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from irl_ros.contract import POSE_TOPICS, Contract
from irl_ros.motion import JointTrajectory

NANOSECONDS = 1_000_000_000
UNIT_TOLERANCE = 1e-3
MAX_SHOWN, MAX_SHOWN_NAME = 5, 100
"""Number of names, and of characters of each, that a message about them shows."""
JOINT_TRAJECTORY, GROUP_POSITION, GROUP_VELOCITY, DRY_RUN = COMMAND_INTERFACES = (
    "joint_trajectory",
    "joint_group_position",
    "joint_group_velocity",
    "none",
)
"""What a robot's arm controller takes; none: nothing is sent to it."""


class MessageError(ValueError):
    """A message that cannot be used; the text says what is wrong with it."""


def stamp_seconds(stamp: Any) -> float:
    """builtin_interfaces Time or Duration in seconds."""
    return stamp.sec + stamp.nanosec / NANOSECONDS


def set_stamp(stamp: Any, seconds: float) -> None:
    """Write seconds, to the nearest nanosecond, into a builtin_interfaces Time; raises MessageError below zero."""
    if not np.isfinite(seconds) or seconds < 0:
        raise MessageError(f"a stamp must be finite and not negative, got {seconds}")
    set_duration(stamp, seconds)


def set_duration(duration: Any, seconds: float) -> None:
    """Write seconds, to the nearest nanosecond, into a builtin_interfaces Duration."""
    duration.sec, duration.nanosec = divmod(round(seconds * NANOSECONDS), NANOSECONDS)


def joint_state(
    msg: Any, joint_names: Sequence[str], require_velocity: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Position [rad] and velocity [rad/s] of `joint_names`, in this order, float64, shapes (n,), of a JointState.

    With ``require_velocity=False`` an empty velocity array reads as zeros.
    """
    index = _indices(tuple(msg.name), tuple(joint_names), "joint state", exact=False)
    position = _joint_array(msg.position, index, len(msg.name), "joint state: position")
    if len(msg.velocity) == 0 and not require_velocity:
        velocity = np.zeros(len(index))
    else:
        velocity = _joint_array(msg.velocity, index, len(msg.name), "joint state: velocity")
    _check_finite(position, "joint state: position", joint_names)
    _check_finite(velocity, "joint state: velocity", joint_names)
    return position, velocity


def pose_position(msg: Any, base_frame: str) -> np.ndarray:
    """Position [m], shape (3,), of a PoseStamped, which must be given in `base_frame`."""
    frame = msg.header.frame_id
    if frame != base_frame:
        raise MessageError(f"pose: its frame_id is {frame!r}, it must be given in the base frame {base_frame!r}")
    position = msg.pose.position
    values = np.array([position.x, position.y, position.z])
    _check_finite(values, "pose: position", ("x", "y", "z"))
    return values


def pose_orientation(msg: Any) -> np.ndarray:
    """Orientation of a PoseStamped as a unit quaternion (x, y, z, w) with w ≥ 0, shape (4,)."""
    q = msg.pose.orientation
    values = np.array([q.x, q.y, q.z, q.w])
    _check_finite(values, "pose: orientation", ("x", "y", "z", "w"))
    length = float(np.linalg.norm(values))
    if abs(length - 1.0) > UNIT_TOLERANCE:
        raise MessageError(f"pose: its orientation is a quaternion of length {length:.4g}, not 1")
    return values / (length if values[3] >= 0 else -length)


def measured(msg: Any, role: str, contract: Contract, require_velocity: bool = True) -> dict[str, np.ndarray]:
    """What a message of the topic with this role brings to :meth:`Contract.observe`: quantities by name.

    The one way from message to observation, for recorder, teleoperation and policy.
    """
    robot = contract.robot
    if role == "joint_states":
        position, velocity = joint_state(msg, contract.state_joint_names, require_velocity)
        n = robot.n_joints
        found = {"joint_position": position[:n], "joint_velocity": velocity[:n]}
        return {**found, "gripper_opening": position[n:].sum(keepdims=True)} if contract.needs_gripper else found
    thing = POSE_TOPICS[role]
    found = {f"{thing}_position": pose_position(msg, robot.base_frame)}
    if f"{thing}_orientation" in contract.slices:
        found[f"{thing}_orientation"] = pose_orientation(msg)
    return found


def joint_trajectory(msg: Any, joint_names: Sequence[str]) -> JointTrajectory:
    """The points of a JointTrajectory for exactly `joint_names`, reordered to them; its header is not read.

    Points without velocities get the slope between their neighbours, and the last one zero.
    """
    index = _indices(tuple(msg.joint_names), tuple(joint_names), "joint trajectory", exact=True)
    if not len(msg.points):
        raise MessageError("joint trajectory: it has no points")
    times = np.array([stamp_seconds(p.time_from_start) for p in msg.points])
    if times[0] < 0 or (np.diff(times) <= 0).any():
        raise MessageError(f"joint trajectory: time_from_start must increase from zero or later, got {times.tolist()}")
    positions = _points([p.positions for p in msg.points], index, "joint trajectory: positions", joint_names)
    if any(len(p.velocities) for p in msg.points):
        velocities = _points([p.velocities for p in msg.points], index, "joint trajectory: velocities", joint_names)
    else:
        velocities = np.zeros_like(positions)
        velocities[1:-1] = (positions[2:] - positions[:-2]) / (times[2:] - times[:-2])[:, None]
    return JointTrajectory(times, positions, velocities)


def joint_group(msg: Any, n: int) -> np.ndarray:
    """The values of a Float64MultiArray for a forward command controller of `n` joints, shape (n,)."""
    values = np.array(msg.data, dtype=np.float64)
    if values.shape != (n,):
        raise MessageError(f"joint group command: it has {values.size} values, the arm has {n} joints")
    _check_finite(values, "joint group command", [f"value {i}" for i in range(n)])
    return values


def fill_joint_state(
    msg: Any, names: Sequence[str], position: np.ndarray, velocity: np.ndarray, stamp_s: float
) -> Any:
    """Write a JointState: position [rad] and velocity [rad/s] of shapes (n,), stamp [s]; returns `msg`."""
    set_stamp(msg.header.stamp, stamp_s)
    msg.name = list(names)
    msg.position = position.tolist()
    msg.velocity = velocity.tolist()
    return msg


def fill_pose(
    msg: Any,
    position: np.ndarray,
    frame_id: str,
    stamp_s: float,
    orientation: Sequence[float] = (0.0, 0.0, 0.0, 1.0),
) -> Any:
    """Write a PoseStamped: position [m] of shape (3,), stamp [s], unit quaternion (x, y, z, w); returns `msg`."""
    set_stamp(msg.header.stamp, stamp_s)
    msg.header.frame_id = frame_id
    msg.pose.position.x, msg.pose.position.y, msg.pose.position.z = (float(v) for v in position)
    q = msg.pose.orientation
    q.x, q.y, q.z, q.w = (float(v) for v in orientation)
    return msg


def fill_joint_trajectory(
    msg: Any, point_type: Callable[[], Any], joint_names: Sequence[str], trajectory: JointTrajectory
) -> Any:
    """Write a JointTrajectory with points of `point_type`, those of `msg` where it has them; returns `msg`.

    The header's stamp stays zero, "start on arrival": the receiver's clock may differ from ours.
    """
    msg.joint_names = list(joint_names)
    missing = len(trajectory.times) - len(msg.points)
    points = [*msg.points, *(point_type() for _ in range(missing))]
    msg.points = points[: len(trajectory.times)]
    for point, time, position, velocity in zip(msg.points, *(values.tolist() for values in trajectory)):
        set_duration(point.time_from_start, time)
        point.positions, point.velocities = position, velocity
    return msg


def fill_joint_group(msg: Any, values: np.ndarray) -> Any:
    """Write a Float64MultiArray for a forward command controller: values of shape (n,); returns `msg`."""
    msg.data = np.asarray(values, dtype=np.float64).tolist()
    return msg


@lru_cache(maxsize=64)
def _indices(given: tuple[str, ...], wanted: tuple[str, ...], what: str, exact: bool) -> tuple[int, ...]:
    """Where in `given` each of `wanted` is; kept, since a sender names its joints in the same order each time."""
    index = dict(zip(given, range(len(given))))
    if len(index) != len(given):
        twice = [name for name, count in Counter(given).items() if count > 1]
        raise MessageError(f"{what}: it names {_listed(twice)} more than once")
    missing = [n for n in wanted if n not in index]
    foreign = [n for n in given if n not in set(wanted)] if exact else []
    if missing or foreign:
        problems = [f"it lacks {_listed(missing)}"] * bool(missing)
        problems += [f"it names {_listed(foreign)}, which this arm has not"] * bool(foreign)
        raise MessageError(f"{what}: {' and '.join(problems)}")
    return tuple(index[n] for n in wanted)


def _listed(names: Sequence[str]) -> str:
    """Return the first few names, cut to a readable length, and how many more there are."""
    shown = ", ".join(name if len(name) <= MAX_SHOWN_NAME else f"{name[:MAX_SHOWN_NAME]}…" for name in names[:MAX_SHOWN])
    return shown if len(names) <= MAX_SHOWN else f"{shown} and {len(names) - MAX_SHOWN} others"


def _joint_array(values: Sequence[float], index: Sequence[int], n: int, what: str) -> np.ndarray:
    """Those of a message's `n` values that `index` names, shape (len(index),)."""
    if len(values) != n:
        raise MessageError(f"{what} has {len(values)} values for {n} joints")
    return np.array([values[i] for i in index], dtype=np.float64)


def _points(rows: Sequence[Any], index: Sequence[int], what: str, joint_names: Sequence[str]) -> np.ndarray:
    array = np.stack([_joint_array(row, index, len(index), f"{what} of point {i}") for i, row in enumerate(rows)])
    for i, row in enumerate(array):
        _check_finite(row, f"{what} of point {i}", joint_names)
    return array


def _check_finite(values: np.ndarray, what: str, names: Sequence[str]) -> None:
    if not all(map(math.isfinite, values.tolist())):
        bad = [f"{name} = {value}" for name, value in zip(names, values) if not np.isfinite(value)]
        raise MessageError(f"{what} is not finite: {', '.join(bad)}")
