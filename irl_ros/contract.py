"""The contract between recording, training and deployment: what an observation, an action and a command are.

A :class:`Contract` joins a robot (``config/robots/<robot>.yaml``) and a task (``config/tasks/<task>.yaml``). A copy of
it lies in every bag and every checkpoint. The simulated arm, the bag reader and the policy runner build observations
with :meth:`Contract.observe` and turn actions into joint targets with :func:`joint_target`: one function each.
"""

from __future__ import annotations

import difflib
import importlib.util
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import yaml

ACTION_KINDS = ("joint_displacement",)

LEARNING_CHOICES = ("task.env", "task.horizon", "task.policy_inputs", "task.reward_features")
"""Fields of a contract that a recording does not depend on."""

# Topics by the measured quantity they bring; a task names the ones it needs under `topics`.
POSE_TOPICS = {"goal_pose": "goal_position", "object_pose": "object_position"}


class ContractError(ValueError):
    """A robot, task or contract that cannot be used; the message says what, where, and what to do."""


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
    "goal_position": FieldKind("m", 0.2, ("goal_pose",), 3),
    "object_position": FieldKind("m", 0.2, ("object_pose",), 3),
    "end_effector_to_goal": FieldKind("m", 0.2, ("joint_states", "goal_pose"), 3),
    "end_effector_to_object": FieldKind("m", 0.2, ("joint_states", "object_pose"), 3),
    "object_to_goal": FieldKind("m", 0.2, ("object_pose", "goal_pose"), 3),
}


class ForwardKinematics(Protocol):
    """Anything that gives the end effector's position; :class:`irl_ros.kinematics.Kinematics` does."""

    def position(self, joint_position: np.ndarray) -> np.ndarray:
        """End effector in the base frame [m], shape (3,)."""


@dataclass(frozen=True)
class Topic:
    """A topic the contract names: relative name, message type, and how old its last message may be."""

    name: str
    type: str
    max_age: float | None = None
    """[s] by receive time; None for a latched topic, whose last message never goes stale."""

    @property
    def latched(self) -> bool:
        return self.max_age is None


@dataclass(frozen=True)
class Field:
    """One entry of the observation vector: name, number of elements, unit; networks see (value − center) / scale."""

    name: str
    size: int
    unit: str = ""
    scale: float = 1.0
    center: float = 0.0


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
class Task:
    """A task: control rate [Hz], horizon [periods], action, observation fields, features."""

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

    def __post_init__(self) -> None:
        if self.rate <= 0 or self.horizon < 2:
            raise ContractError(f"task {self.name}: rate must be above 0 Hz and horizon at least 2 periods")

    @property
    def period(self) -> float:
        """Control period [s]."""
        return 1.0 / self.rate


@dataclass(frozen=True)
class Contract:
    """A task on a robot. `robot` is None for a gymnasium env that is no ROS robot."""

    robot: Robot | None
    task: Task
    slices: Mapping[str, slice] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        offsets = np.cumsum([0] + [f.size for f in self.task.fields])
        slices = {f.name: slice(int(a), int(b)) for f, a, b in zip(self.task.fields, offsets, offsets[1:])}
        object.__setattr__(self, "slices", slices)

    @classmethod
    def load(cls, robot: str, task: str) -> Contract:
        """Read robot and task by name (from the package's config) or by path of a YAML file."""
        parsed = load_robot(robot)
        return cls(parsed, _parsed(_parse_task, _read_config("tasks", task), parsed))

    @property
    def observation_size(self) -> int:
        return sum(f.size for f in self.task.fields)

    @property
    def action_size(self) -> int:
        return self.task.action_size

    @property
    def max_step(self) -> np.ndarray:
        """Joint displacement of action 1 in one control period [rad], shape (n_joints,)."""
        return np.minimum(self.task.max_speed, np.array(self.robot.velocity_limit)) * self.task.period

    @property
    def topics(self) -> dict[str, Topic]:
        """Every topic that the recorder must keep, by role: joint_states, command, goal_pose, …"""
        return {"joint_states": self.robot.joint_states, "command": self.robot.command, **dict(self.task.topics)}

    @property
    def sources(self) -> tuple[str, ...]:
        """Roles of the topics that the observation needs."""
        return tuple(dict.fromkeys(s for f in self.task.fields for s in FIELDS[f.name].sources))

    def observe(self, measured: Mapping[str, np.ndarray], kinematics: ForwardKinematics) -> np.ndarray:
        """The observation vector, shape (observation_size,), float64.

        `measured` holds ``joint_position`` [rad] and ``joint_velocity`` [rad/s] in contract order, and, where the
        task uses them, ``goal_position`` and ``object_position`` [m] in the base frame.
        """
        values = dict(measured)
        values["end_effector_position"] = kinematics.position(values["joint_position"])
        for name in ("end_effector_to_goal", "end_effector_to_object", "object_to_goal"):
            if name in self.slices:
                start, end = name.split("_to_")
                values[name] = values[f"{end}_position"] - values[f"{start}_position"]
        return np.concatenate([values[f.name] for f in self.task.fields])

    def field(self, observation: np.ndarray, name: str) -> np.ndarray:
        """One field of an observation (…, observation_size) by name."""
        return observation[..., self.slices[name]]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; :meth:`from_dict` is its inverse."""
        from dataclasses import asdict

        return {
            "robot": None if self.robot is None else asdict(self.robot),
            "task": asdict(self.task),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Contract:
        """The contract that :meth:`to_dict` wrote; raises ContractError on anything else."""
        try:
            return cls(_robot_from_dict(data["robot"]), _task_from_dict(data["task"]))
        except ContractError:
            raise
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise ContractError(f"this is no contract written by irl_ros: {error!r}") from None

    def differences(self, other: Contract, recorded: bool = False) -> list[str]:
        """What differs, field by field ("robot.joint_names: … here, … there"); empty when the contracts fit.

        The URDF's path is not compared: machines keep it in different places. With `recorded`, neither is what only
        learning chooses: a bag serves any simulated env, horizon, policy inputs and reward features.
        """
        mine, theirs = _flatten(self.to_dict()), _flatten(other.to_dict())
        left_out = ("robot.urdf", *(LEARNING_CHOICES if recorded else ()))
        names = [n for n in dict.fromkeys([*mine, *theirs]) if n not in left_out]
        return [f"{n}: {mine.get(n)} here, {theirs.get(n)} there" for n in names if mine.get(n) != theirs.get(n)]


class JointTrajectory(NamedTuple):
    """What a joint_trajectory_controller takes: points from now. Shapes (P,) [s], (P, n) [rad], (P, n) [rad/s]."""

    times: np.ndarray
    positions: np.ndarray
    velocities: np.ndarray


def joint_target(contract: Contract, target: np.ndarray, action: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """The next joint target [rad], shape (n_joints,): target + clip(action) · step, near the measured pose, in limits.

    Start with ``target = measured`` when a policy or a teleoperator takes over, and again after every halt.
    """
    robot, lead = contract.robot, contract.task.max_lead
    moved = target + np.clip(action, -1.0, 1.0) * contract.max_step
    near = np.clip(moved, measured - lead, measured + lead)
    return np.clip(near, robot.position_lower, robot.position_upper)


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


def load_robot(robot: str) -> Robot:
    """The robot of that name (from the package's config) or of that YAML file; raises ContractError."""
    return _parsed(_parse_robot, _read_config("robots", robot))


def share_directory() -> Path:
    """Where config/ and launch/ lie: ament index, then the installation prefix, then the source tree."""
    candidates = [Path(p) / "share" / "irl_ros" for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    candidates += [Path(sys.prefix) / "share" / "irl_ros", Path(__file__).resolve().parent.parent]
    for candidate in candidates:
        if (candidate / "config" / "robots").is_dir():
            return candidate
    raise ContractError(f"irl_ros: no config directory found in {', '.join(map(str, candidates))}; reinstall irl_ros")


def resolve_path(reference: str, what: str) -> Path:
    """A file from a path or from `package:path/inside/it`; raises ContractError when it is not there."""
    package, separator, inside = reference.partition(":")
    path = Path(reference).expanduser()
    if separator:
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise ContractError(f"{what}: Python package {package!r} is not installed (from {reference!r})")
        path = Path(list(spec.submodule_search_locations)[0]) / inside
    if not path.is_file():
        raise ContractError(f"{what}: no file {path}")
    return path


def did_you_mean(name: str, valid: Sequence[str]) -> str:
    """' (did you mean …?) Valid: …' for error messages."""
    near = difflib.get_close_matches(name, valid, 1)
    return (f" Did you mean {near[0]!r}?" if near else "") + f" Valid: {', '.join(valid)}."


def _read_config(kind: str, name: str) -> dict[str, Any]:
    path = Path(name).expanduser()
    if path.suffix not in (".yaml", ".yml"):
        directory = share_directory() / "config" / kind
        path = directory / f"{name}.yaml"
        if not path.is_file():
            valid = sorted(p.stem for p in directory.glob("*.yaml"))
            raise ContractError(f"unknown {kind[:-1]} {name!r}.{did_you_mean(name, valid)}")
    try:
        data = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise ContractError(f"{kind[:-1]} file {path} does not exist") from None
    except yaml.YAMLError as error:
        raise ContractError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(data, dict):
        raise ContractError(f"{path}: expected a mapping at the top")
    return {"_path": str(path), **data}


def _take(data: Mapping[str, Any], key: str, where: str) -> Any:
    if key not in data:
        raise ContractError(f"{where}: {key!r} is missing")
    return data[key]


def _check_keys(data: Mapping[str, Any], valid: Sequence[str], where: str) -> None:
    for key in data:
        if key not in valid:
            shown = [v for v in valid if v != "_path"]
            raise ContractError(f"{where}: unknown key {key!r}.{did_you_mean(str(key), shown)}")


def _parsed(parse: Callable[..., Any], data: Mapping[str, Any], *more: Any) -> Any:
    """What `parse` makes of a file's content; a value of the wrong form becomes a ContractError that names the file."""
    try:
        return parse(data, *more)
    except ContractError:
        raise
    except (TypeError, ValueError, AttributeError, LookupError) as error:
        raise ContractError(
            f"{data['_path']}: a value has the wrong form ({error}); compare with the files in irl_ros' config directory"
        ) from None


def _is_box(lower: tuple[float, ...], upper: tuple[float, ...]) -> bool:
    """Whether these are opposite corners; a robot without a workspace has two empty ones."""
    return len(lower) == len(upper) and len(lower) in (0, 3) and all(a < b for a, b in zip(lower, upper))


def _parse_topic(data: Mapping[str, Any], where: str, commands: bool = False) -> Topic:
    _check_keys(data, ("name", "type", "max_age", "latched"), where)
    if not commands and ("max_age" in data) == bool(data.get("latched")):
        raise ContractError(f"{where}: give either max_age [s] or latched: true")
    age = data.get("max_age")
    if age is not None and not float(age) > 0:
        raise ContractError(f"{where}: max_age must be above 0 s, not {age}")
    return Topic(_take(data, "name", where), _take(data, "type", where), None if age is None else float(age))


def _parse_robot(data: Mapping[str, Any]) -> Robot:
    where = data["_path"]
    keys = ("_path", "name", "urdf", "base_frame", "end_effector_frame", "joints", "fixed_joints", "topics", "workspace")
    _check_keys(data, keys, where)
    joints, topics = _take(data, "joints", where), _take(data, "topics", where)
    _check_keys(topics, ("joint_states", "command"), f"{where}: topics")
    for name, joint in joints.items():
        _check_keys(joint, ("position", "velocity", "home"), f"{where}: joint {name}")
        for key in ("position", "velocity", "home"):
            _take(joint, key, f"{where}: joint {name}")
    workspace = data.get("workspace") or {"lower": (), "upper": ()}
    return Robot(
        name=_take(data, "name", where),
        urdf=_near_config(_take(data, "urdf", where), where),
        base_frame=_take(data, "base_frame", where),
        end_effector_frame=_take(data, "end_effector_frame", where),
        joint_names=tuple(joints),
        position_lower=tuple(float(j["position"][0]) for j in joints.values()),
        position_upper=tuple(float(j["position"][1]) for j in joints.values()),
        velocity_limit=tuple(float(j["velocity"]) for j in joints.values()),
        home=tuple(float(j["home"]) for j in joints.values()),
        joint_states=_parse_topic(_take(topics, "joint_states", where), f"{where}: topics.joint_states"),
        command=_parse_topic(_take(topics, "command", where), f"{where}: topics.command", commands=True),
        fixed_joints=tuple((n, float(v)) for n, v in (data.get("fixed_joints") or {}).items()),
        workspace_lower=tuple(map(float, workspace["lower"])),
        workspace_upper=tuple(map(float, workspace["upper"])),
    )


def _near_config(urdf: str, where: str) -> str:
    """A relative URDF path is meant relative to the YAML file that names it."""
    path = Path(urdf).expanduser()
    return urdf if ":" in urdf or path.is_absolute() else str(Path(where).resolve().parent / path)


def _parse_task(data: Mapping[str, Any], robot: Robot) -> Task:
    where = data["_path"]
    keys = ("_path", "name", "env", "rate", "horizon", "action", "observation", "topics", "policy_inputs")
    _check_keys(data, (*keys, "reward_features"), where)
    action = _take(data, "action", where)
    _check_keys(action, ("kind", "max_speed", "max_lead"), f"{where}: action")
    kind = _take(action, "kind", f"{where}: action")
    if kind not in ACTION_KINDS:
        raise ContractError(f"{where}: unknown action kind {kind!r}.{did_you_mean(kind, ACTION_KINDS)}")
    topics = data.get("topics") or {}
    _check_keys(topics, tuple(POSE_TOPICS), f"{where}: topics")
    fields = tuple(_parse_field(name, robot, topics, where) for name in _take(data, "observation", where))
    return Task(
        name=_take(data, "name", where),
        env=_take(data, "env", where),
        rate=float(_take(data, "rate", where)),
        horizon=int(_take(data, "horizon", where)),
        action_kind=kind,
        action_size=robot.n_joints,
        fields=fields,
        policy_inputs=tuple(_take(data, "policy_inputs", where)),
        reward_features=tuple(_take(data, "reward_features", where)),
        max_speed=float(_take(action, "max_speed", f"{where}: action")),
        max_lead=float(_take(action, "max_lead", f"{where}: action")),
        topics=tuple((role, _parse_topic(t, f"{where}: topics.{role}")) for role, t in topics.items()),
    )


def _parse_field(name: str, robot: Robot, topics: Mapping[str, Any], where: str) -> Field:
    if name not in FIELDS:
        raise ContractError(f"{where}: unknown observation field {name!r}.{did_you_mean(name, tuple(FIELDS))}")
    kind = FIELDS[name]
    for source in kind.sources:
        if source != "joint_states" and source not in topics:
            raise ContractError(f"{where}: field {name} needs the topic {source} under topics")
    return Field(name, robot.n_joints if kind.size is None else kind.size, kind.unit, kind.scale)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, (list, tuple)) else value


def _robot_from_dict(data: Mapping[str, Any] | None) -> Robot | None:
    if data is None:
        return None
    values = {k: _tuples(v) for k, v in data.items()}
    return Robot(**{**values, "joint_states": Topic(**data["joint_states"]), "command": Topic(**data["command"])})


def _task_from_dict(data: Mapping[str, Any]) -> Task:
    values = {k: _tuples(v) for k, v in data.items()}
    topics = tuple((role, Topic(**topic)) for role, topic in data["topics"])
    return Task(**{**values, "fields": tuple(Field(**f) for f in data["fields"]), "topics": topics})


def _flatten(value: Any, name: str = "") -> dict[str, Any]:
    if isinstance(value, Mapping):
        return {k: v for key, inner in value.items() for k, v in _flatten(inner, f"{name}.{key}".strip(".")).items()}
    return {name: _tuples(value)}
