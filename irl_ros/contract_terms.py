"""What a contract is made of: topics, fields, a robot, a task, and where their files lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from irl_ros.contract_grid import Grid
from irl_ros.contract_lookup import ContractError, resolve_path

ACTION_KINDS = ("joint_displacement", "end_effector_displacement")

POSE_TOPICS = {"goal_pose": "goal", "object_pose": "object", "obstacle_pose": "obstacle"}
"""Roles of PoseStamped topics and the thing that each one locates: `<thing>_position`, `<thing>_orientation`. A task
names the ones it needs under `topics`."""
COMMAND_ROLES = ("command", "gripper_command")
"""Roles of the topics that move the robot; all the others are measured."""
RANDOMISED = ("mass", "friction", "gains", "sensor_noise", "latency")
"""What domain randomisation may draw anew in every episode; see :class:`Task`."""


class FieldKind(NamedTuple):
    """What a named observation field is: its unit, the scale it is divided by for networks, and its sources."""

    unit: str
    scale: float
    sources: tuple[str, ...]
    size: int | None  # None: one entry per joint


FIELDS: dict[str, FieldKind] = {
    "joint_position": FieldKind("rad", 1.0, ("joint_states",), None),
    "joint_velocity": FieldKind("rad/s", 1.0, ("joint_states",), None),
    "end_effector_position": FieldKind("m", 0.2, ("joint_states",), 3),
    "end_effector_orientation": FieldKind("", 1.0, ("joint_states",), 4),
    "gripper_opening": FieldKind("m", 0.04, ("joint_states",), 1),
    "goal_position": FieldKind("m", 0.2, ("goal_pose",), 3),
    "goal_orientation": FieldKind("", 1.0, ("goal_pose",), 4),
    "object_position": FieldKind("m", 0.2, ("object_pose",), 3),
    "object_orientation": FieldKind("", 1.0, ("object_pose",), 4),
    "obstacle_position": FieldKind("m", 0.2, ("obstacle_pose",), 3),
    "end_effector_to_goal": FieldKind("m", 0.2, ("joint_states", "goal_pose"), 3),
    "end_effector_to_object": FieldKind("m", 0.2, ("joint_states", "object_pose"), 3),
    "end_effector_to_obstacle": FieldKind("m", 0.2, ("joint_states", "obstacle_pose"), 3),
    "object_to_goal": FieldKind("m", 0.2, ("object_pose", "goal_pose"), 3),
}
"""Orientations are unit quaternions (x, y, z, w), of the two signs the one nearer to a fixed reference."""


@dataclass(frozen=True)
class Topic:
    """A topic the contract names: relative name, message type, and how old its last message may be."""

    name: str
    type: str
    max_age: float | None = None
    """[s] by receive time; None for a latched topic, whose last message never goes stale."""

    def __post_init__(self) -> None:
        if self.max_age is not None and not 0.0 < self.max_age < np.inf:
            raise ContractError(f"topic {self.name}: max_age must be a finite time above 0 s, not {self.max_age}")

    @property
    def latched(self) -> bool:
        return self.max_age is None

    def too_old(self, age: float) -> bool:
        """Whether a message of `age` [s] no longer says what is: the one rule, for bags and for a policy that drives."""
        return self.max_age is not None and age > self.max_age


@dataclass(frozen=True)
class Field:
    """One entry of the observation vector: name, number of elements, unit; networks see (value − center) / scale."""

    name: str
    size: int
    unit: str = ""
    scale: float = 1.0
    center: float = 0.0


@dataclass(frozen=True)
class Gripper:
    """Fingers that open and close together: their joints, and each one's position [m] when closed and when open.

    The command topic takes the joints' positions, as a forward position controller does. `force` [N] of each joint
    is the simulated gripper's.
    """

    joint_names: tuple[str, ...]
    closed: float
    open: float
    command: Topic
    force: float = 20.0

    def __post_init__(self) -> None:
        if not self.joint_names or not self.closed < self.open or not self.force > 0:
            raise ContractError("gripper: it needs at least one joint, closed < open, and a force above 0 N")

    @property
    def opening_range(self) -> tuple[float, float]:
        """Opening [m] when closed and when open: the joints' positions added up."""
        return len(self.joint_names) * self.closed, len(self.joint_names) * self.open

    def joint_position(self, opening: float) -> np.ndarray:
        """Position [m] of each joint at an `opening` [m], within its range, shape (n_fingers,)."""
        each = np.clip(opening / len(self.joint_names), self.closed, self.open)
        return np.full(len(self.joint_names), each)


@dataclass(frozen=True)
class Robot:
    """An arm: joints in contract order, limits [rad, rad/s], frames, topics. Arrays have shape (n_joints,)."""

    name: str
    urdf: str
    base_frame: str
    end_effector_frame: str
    joint_names: tuple[str, ...]
    position_lower: tuple[float, ...]
    position_upper: tuple[float, ...]
    velocity_limit: tuple[float, ...]
    home: tuple[float, ...]
    joint_states: Topic
    command: Topic
    fixed_joints: tuple[tuple[str, float], ...] = ()
    workspace_lower: tuple[float, ...] = ()
    workspace_upper: tuple[float, ...] = ()
    gripper: Gripper | None = None

    def __post_init__(self) -> None:
        if not self.joint_names or self.joint_states.latched:
            raise ContractError(f"robot {self.name}: it needs at least one joint, and a max_age of its joint_states")
        if not _is_box(self.workspace_lower, self.workspace_upper):
            raise ContractError(f"robot {self.name}: workspace needs lower and upper of three numbers, lower < upper")
        for name, lower, upper, home, velocity in zip(
            self.joint_names, self.position_lower, self.position_upper, self.home, self.velocity_limit
        ):
            if not np.isfinite([lower, upper, home, velocity]).all() or not lower < upper or velocity <= 0:
                raise ContractError(f"robot {self.name}: joint {name} needs lower < upper and a velocity above 0")
            if not lower <= home <= upper:
                raise ContractError(f"robot {self.name}: home of {name} is {home}, outside [{lower}, {upper}]")

    @property
    def n_joints(self) -> int:
        return len(self.joint_names)

    def urdf_path(self) -> Path:
        """The URDF file; `package:path` is looked up inside an installed Python package."""
        return resolve_path(self.urdf, f"robot {self.name}: urdf")


@dataclass(frozen=True)
class Safety:
    """What the command gate holds on a robot beyond its contract. Absent limits do not bind.

    No part of the contract: a policy is not trained on these, and a checkpoint made under others still fits. Simulated
    tasks know nothing of them.
    """

    acceleration_limit: tuple[float, ...] = ()
    """[rad/s²] by which each joint's commanded velocity may change in a second; empty: no such limit."""
    position_margin: float = 0.0
    """[rad] that targets keep from both position limits of every joint."""
    box_lower: tuple[float, ...] = ()
    """[m] corner of the box in the base frame that the end effector stays in; empty: no such limit."""
    box_upper: tuple[float, ...] = ()
    lead: float = np.inf
    """[rad] that targets may be away from the measured pose, where the task allows more."""

    def __post_init__(self) -> None:
        if not self.lead > 0:
            raise ContractError(f"safety: lead must be above 0 rad, not {self.lead}")
        if not all(0 < a < np.inf for a in self.acceleration_limit):
            raise ContractError("safety: every acceleration must be a finite number above 0 rad/s²")
        if not 0 <= self.position_margin < np.inf:
            raise ContractError(f"safety: position_margin must be 0 rad or more, not {self.position_margin}")
        if not _is_box(self.box_lower, self.box_upper):
            raise ContractError("safety: box needs lower and upper of three numbers, lower < upper")


@dataclass(frozen=True)
class Thresholds:
    """The worst that a recorded episode may be; what is below is marked, kept, and not learned from.

    No part of the contract: a bag carries the judgement, not the rule. A topic that the observation needs is held to
    its own `max_age` where `gaps` has no entry for it.
    """

    duration: float = 0.0
    """[s] that an episode must last; ten control periods are always needed."""
    rates: tuple[tuple[str, float], ...] = ()
    """[Hz] that a topic must have had on average, by role."""
    gaps: tuple[tuple[str, float], ...] = ()
    """[s] that may pass between two messages of a topic, by role."""
    lost: float = 0.01
    """Share of a topic's messages that may be missing by their numbers."""
    clipped: float = 0.2
    """Share of control periods whose command asked for more than the task allows; above a fifth none is read anyway."""

    def __post_init__(self) -> None:
        for name in ("lost", "clipped"):
            if not 0 <= getattr(self, name) <= 1:
                raise ContractError(f"recording: {name} is a share from 0 to 1, not {getattr(self, name)}")
        for name, values in (("duration", (("", self.duration),)), ("rates", self.rates), ("gaps", self.gaps)):
            for role, value in values:
                if not 0 <= value < float("inf"):
                    raise ContractError(f"recording: {name} {role} must be finite and 0 or more, not {value}")


@dataclass(frozen=True)
class Task:
    """A task: control rate [Hz], horizon [periods], action, observation fields, features; with `grid`, its cells.

    With `gripper` the action's last element is the gripper's: -1 closed, 1 open. `randomisation`: what a simulated
    episode may draw anew and from which range; mass, friction and gains are factors, sensor_noise is a standard
    deviation of the measured joint positions [rad], latency what a command waits before it acts [s].
    """

    name: str
    env: str
    rate: float
    horizon: int
    action_kind: str
    action_size: int
    fields: tuple[Field, ...]
    policy_inputs: tuple[str, ...]
    reward_features: tuple[str, ...]
    max_speed: float = 1.0
    max_lead: float = 0.15
    topics: tuple[tuple[str, Topic], ...] = ()
    max_step: float = 0.0
    """End effector displacement of action 1 in one period [m], where the action is one."""
    grid: Grid | None = None
    orientation: tuple[float, ...] = ()
    """Unit quaternion (x, y, z, w) that the end effector keeps, where the action displaces it; empty: any."""
    gripper: bool = False
    randomisation: tuple[tuple[str, tuple[float, float]], ...] = ()
    recorded: tuple[tuple[str, Topic], ...] = ()
    """Topics by role that are recorded beside the observation's, raw: a camera, a joystick."""

    def __post_init__(self) -> None:
        if self.orientation and not (len(self.orientation) == 4 and abs(np.linalg.norm(self.orientation) - 1) < 1e-6):
            raise ContractError(f"task {self.name}: action.orientation must be a unit quaternion (x, y, z, w)")
        if not 0 < self.rate < np.inf or self.horizon < 2:
            raise ContractError(f"task {self.name}: rate must be above 0 Hz and horizon at least 2 periods")
        if self.action_kind in ACTION_KINDS and not (0 < self.max_speed < np.inf and 0 < self.max_lead < np.inf):
            raise ContractError(
                f"task {self.name}: action.max_speed [rad/s] and action.max_lead [rad] must be finite and above 0, not "
                f"{self.max_speed} and {self.max_lead}"
            )
        if self.moves_end_effector and not self.max_step > 0:
            raise ContractError(f"task {self.name}: action.max_step must be above 0 m, not {self.max_step}")
        if self.grid is not None and not (self.moves_end_effector and self.max_step >= self.grid.cell):
            raise ContractError(
                f"task {self.name}: a grid needs actions of kind end_effector_displacement whose max_step spans a cell "
                f"({self.grid.cell} m)"
            )

    @property
    def moves_end_effector(self) -> bool:
        """Whether an action displaces the end effector, not the joints."""
        return self.action_kind == "end_effector_displacement"

    @property
    def arm_action_size(self) -> int:
        """Elements of the action that move the arm; what follows is the gripper's."""
        return self.action_size - self.gripper

    @property
    def period(self) -> float:
        """Control period [s]."""
        return 1.0 / self.rate


def _is_box(lower: tuple[float, ...], upper: tuple[float, ...]) -> bool:
    """Whether these are opposite corners; a robot without a workspace has two empty ones."""
    return len(lower) == len(upper) and len(lower) in (0, 3) and all(a < b for a, b in zip(lower, upper))
