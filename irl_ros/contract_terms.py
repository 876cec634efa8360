"""What a contract is made of: topics, fields, a robot, a task, and where their files lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from irl_ros import contract_checks as checks
from irl_ros.contract_grid import Grid
from irl_ros.contract_lookup import ContractError, resolve_path

ACTION_KINDS = ("joint_displacement", "end_effector_displacement")
ENV_ACTION = "env"
"""Action kind of a gymnasium env without a robot: whatever its action space is."""

POSE_TOPICS = {"goal_pose": "goal", "object_pose": "object", "obstacle_pose": "obstacle"}
"""Roles of PoseStamped topics and the thing that each one locates: `<thing>_position`, `<thing>_orientation`. A task
names the ones it needs under `topics`."""
POSE_TYPE = "geometry_msgs/msg/PoseStamped"
JOINT_STATES_TYPE = "sensor_msgs/msg/JointState"
COMMAND_ROLES = ("command", "gripper_command")
"""Roles of the topics that move the robot; all the others are measured."""
ROBOT_ROLES = ("joint_states", *COMMAND_ROLES)
"""Roles of the robot's own topics, which its file gives and no task may name."""
RANDOMISED = {"mass": 1000.0, "friction": 1000.0, "gains": 1000.0, "sensor_noise": 10.0, "latency": 10.0}
"""What domain randomisation may draw anew in every episode, and each one's maximum, in the units of :class:`Task`."""


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
        checks.check_text("topic", "name", self.name)
        where = f"topic {self.name}"
        checks.check_text(where, "type", self.type)
        if not checks.TOPIC.fullmatch(self.name):
            raise ContractError(f"{where}: a topic's name is words of letters, digits and _ with / between, as goal/pose")
        if not checks.TYPE.fullmatch(self.type):
            raise ContractError(f"{where}: type must be package/msg/Name, as {POSE_TYPE}, not {self.type!r}")
        if self.max_age is not None:
            checks.check_number(where, "max_age", self.max_age, 0.0, checks.MAX_AGE, "s", above=True)

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

    def __post_init__(self) -> None:
        checks.check_text("field", "name", self.name)
        where = f"field {self.name}"
        checks.check_integer(where, "size", self.size, 1, checks.MAX_OBSERVATION_SIZE)
        checks.check_text(where, "unit", self.unit, least=0)
        checks.check_number(where, "scale", self.scale, checks.MIN_SCALE, checks.MAX_SCALE, self.unit)
        checks.check_number(where, "center", self.center, -checks.MAX_SCALE, checks.MAX_SCALE, self.unit)


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
        _check_joint_names("gripper", self.joint_names, checks.MAX_FINGERS)
        for name in ("closed", "open"):
            checks.check_number("gripper", name, getattr(self, name), -checks.MAX_DISTANCE, checks.MAX_DISTANCE, "m")
        if not self.closed < self.open:
            raise ContractError(f"gripper: it needs closed < open, not {self.closed} and {self.open} m")
        checks.check_number("gripper", "force", self.force, 0.0, checks.MAX_FORCE, "N", above=True)
        checks.check_kind("gripper", "command", self.command, Topic)

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
        checks.check_text("robot", "name", self.name)
        where = f"robot {self.name}"
        checks.check_text(where, "urdf", self.urdf, checks.MAX_PATH)
        for name in ("base_frame", "end_effector_frame"):
            checks.check_text(where, name, getattr(self, name))
        _check_joint_names(where, self.joint_names, checks.MAX_JOINTS)
        self._check_limits(where)
        self._check_fixed(where)
        for name in ("joint_states", "command"):
            checks.check_kind(where, name, getattr(self, name), Topic)
        if self.joint_states.latched:
            raise ContractError(f"{where}: it needs a max_age of its joint_states; a latched topic never goes stale")
        _check_type(where, "joint_states", self.joint_states, JOINT_STATES_TYPE)
        checks.check_box(where, "workspace", self.workspace_lower, self.workspace_upper)
        if self.gripper is not None:
            checks.check_kind(where, "gripper", self.gripper, Gripper)
            checks.check_unique(where, "joints of arm and gripper", (*self.joint_names, *self.gripper.joint_names))

    def _check_limits(self, where: str) -> None:
        n, turn, fast = self.n_joints, checks.MAX_JOINT_POSITION, checks.MAX_JOINT_VELOCITY
        ranges = (("position_lower", -turn, turn), ("position_upper", -turn, turn), ("home", -turn, turn))
        for name, low, high in (*ranges, ("velocity_limit", 0.0, fast)):
            checks.check_tuple(where, name, getattr(self, name), n, n)
            unit = "rad/s" if name == "velocity_limit" else "rad"
            for joint, value in zip(self.joint_names, getattr(self, name)):
                checks.check_number(where, f"{name} of {joint}", value, low, high, unit, above=name == "velocity_limit")
        for joint, low, high, home in zip(self.joint_names, self.position_lower, self.position_upper, self.home):
            if not low < high:
                raise ContractError(f"{where}: joint {joint} needs lower < upper, not {low} and {high}")
            if not low <= home <= high:
                raise ContractError(f"{where}: home of {joint} is {home}, outside [{low}, {high}]")

    def _check_fixed(self, where: str) -> None:
        checks.check_pairs(where, "fixed_joints", self.fixed_joints, checks.MAX_FIXED_JOINTS)
        turn = checks.MAX_JOINT_POSITION
        for joint, value in self.fixed_joints:
            checks.check_number(where, f"fixed_joints: {joint}", value, -turn, turn, "rad")
            if joint in self.joint_names:
                raise ContractError(f"{where}: {joint} is among fixed_joints and joints; leave it out of one")

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
        where = "safety"
        checks.check_number(where, "lead", self.lead, 0.0, np.inf, "rad", above=True)
        checks.check_tuple(where, "acceleration", self.acceleration_limit, 0, checks.MAX_JOINTS)
        for value in self.acceleration_limit:
            checks.check_number(where, "every acceleration", value, 0.0, checks.MAX_ACCELERATION, "rad/s²", above=True)
        checks.check_number(where, "position_margin", self.position_margin, 0.0, checks.MAX_JOINT_POSITION, "rad")
        checks.check_box(where, "box", self.box_lower, self.box_upper)


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
        checks.check_text("task", "name", self.name)
        where = f"task {self.name}"
        checks.check_text(where, "env", self.env)
        checks.check_number(where, "rate", self.rate, checks.MIN_RATE, checks.MAX_RATE, "Hz")
        checks.check_integer(where, "horizon", self.horizon, 2, checks.MAX_HORIZON, "control periods")
        self._check_action(where)
        self._check_observation(where)
        self._check_topics(where)
        self._check_randomisation(where)
        self._check_grid(where)

    def _check_action(self, where: str) -> None:
        checks.check_choice(where, "action kind", self.action_kind, (*ACTION_KINDS, ENV_ACTION))
        checks.check_flag(where, "action.gripper", self.gripper)
        checks.check_integer(where, "action_size", self.action_size, 1 + self.gripper, checks.MAX_ACTION_SIZE)
        fast, lead = checks.MAX_JOINT_VELOCITY, checks.MAX_LEAD
        checks.check_number(where, "action.max_speed", self.max_speed, 0.0, fast, "rad/s", above=True)
        checks.check_number(where, "action.max_lead", self.max_lead, 0.0, lead, "rad", above=True)
        moved = self.moves_end_effector
        checks.check_number(where, "action.max_step", self.max_step, 0.0, checks.MAX_STEP, "m", above=moved)
        checks.check_tuple(where, "action.orientation", self.orientation, 0, 4)
        checks.check_each(where, "action.orientation", self.orientation, checks.check_number, -1.0, 1.0)
        if self.orientation and not (len(self.orientation) == 4 and abs(np.linalg.norm(self.orientation) - 1) < 1e-6):
            raise ContractError(
                f"{where}: action.orientation must be a unit quaternion (x, y, z, w), not {self.orientation}"
            )

    def _check_observation(self, where: str) -> None:
        checks.check_tuple(where, "observation", self.fields, 1, checks.MAX_FIELDS)
        checks.check_each(where, "observation", self.fields, checks.check_kind, Field)
        checks.check_unique(where, "fields of the observation", (f.name for f in self.fields))
        size = sum(f.size for f in self.fields)
        checks.check_integer(where, "size of the observation", size, 1, checks.MAX_OBSERVATION_SIZE)
        numbers, most = (self.horizon + 1) * (size + self.action_size), checks.MAX_EPISODE_VALUES
        if numbers > most:
            raise ContractError(
                f"{where}: an episode of horizon {self.horizon} has {numbers} numbers, valid are up to {most}; shorten it"
            )
        for name in ("policy_inputs", "reward_features"):
            checks.check_tuple(where, name, getattr(self, name), 0, checks.MAX_FEATURES)
            checks.check_each(where, name, getattr(self, name), checks.check_text, checks.MAX_FEATURE_LENGTH)

    def _check_topics(self, where: str) -> None:
        for name in ("topics", "recorded"):
            checks.check_pairs(where, name, getattr(self, name), checks.MAX_TOPICS)
            for role, topic in getattr(self, name):
                checks.check_kind(where, f"{name}: {role}", topic, Topic)
        for role, topic in self.topics:
            checks.check_choice(f"{where}: topics", "role", role, tuple(POSE_TOPICS))
            _check_type(where, role, topic, POSE_TYPE)
        for role, _ in self.recorded:
            if role in ROBOT_ROLES or role in dict(self.topics):
                raise ContractError(f"{where}: recording: also: {role} is recorded anyway; name other topics only")

    def _check_randomisation(self, where: str) -> None:
        where = f"{where}: randomisation"
        checks.check_pairs(where, "randomisation", self.randomisation, len(RANDOMISED))
        for name, bounds in self.randomisation:
            checks.check_choice(where, "key", name, tuple(RANDOMISED))
            checks.check_tuple(where, name, bounds, 2, 2)
            checks.check_each(where, name, bounds, checks.check_number, 0.0, RANDOMISED[name])
            if not bounds[0] <= bounds[1]:
                raise ContractError(f"{where}: {name} needs a range 0 <= low <= high, not {list(bounds)}")

    def _check_grid(self, where: str) -> None:
        if self.grid is None:
            return
        checks.check_kind(where, "grid", self.grid, Grid)
        if not (self.moves_end_effector and self.max_step >= self.grid.cell):
            raise ContractError(
                f"{where}: a grid needs actions of kind end_effector_displacement whose max_step spans a cell "
                f"({self.grid.cell} m)"
            )
        if self.grid.n_states * self.horizon > checks.MAX_GRID_PERIODS:
            raise ContractError(
                f"{where}: a grid of {self.grid.n_states} cells over {self.horizon} periods has more than "
                f"{checks.MAX_GRID_PERIODS} values of a cell and period; take fewer cells or a shorter horizon"
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


def _check_joint_names(where: str, names: tuple[str, ...], most: int) -> None:
    """Raise ContractError unless these are 1 to `most` unique names."""
    checks.check_tuple(where, "joints", names, 1, most)
    checks.check_each(where, "joints", names, checks.check_text)
    checks.check_unique(where, "joints", names)


def _check_type(where: str, role: str, topic: Topic, kind: str) -> None:
    """Raise ContractError unless the topic of a role has the message type `kind`."""
    if topic.type != kind:
        raise ContractError(f"{where}: topic {role} ({topic.name}): type {topic.type} is not supported; valid: {kind}")
