"""The contract between recording, training and deployment: what an observation, an action and a command are.

A :class:`Contract` joins a robot (``config/robots/<robot>.yaml``) and a task (``config/tasks/<task>.yaml``). A copy of
it lies in every bag and every checkpoint. The simulated arm, the bag reader and the policy runner build observations
with :meth:`Contract.observe` and turn actions into joint targets with
:func:`~irl_ros.motion.joint_target`: one function each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from irl_ros import contract_checks as checks
from irl_ros.contract_fit import check_fit
from irl_ros.contract_grid import GRID_MOVES, Grid
from irl_ros.contract_lookup import ContractError, did_you_mean, import_env, resolve_path, share_directory
from irl_ros.contract_recording import load_thresholds
from irl_ros.contract_terms import (
    ACTION_KINDS,
    COMMAND_ROLES,
    FIELDS,
    POSE_TOPICS,
    Field,
    Gripper,
    Robot,
    Safety,
    Task,
    Thresholds,
    Topic,
)
from irl_ros.contract_yaml import load_robot, load_safety, load_task, task_robot

__all__ = [
    "ACTION_KINDS",
    "COMMAND_ROLES",
    "FIELDS",
    "GRID_MOVES",
    "POSE_TOPICS",
    "Contract",
    "ContractError",
    "Field",
    "ForwardKinematics",
    "Grid",
    "Gripper",
    "Robot",
    "Safety",
    "Task",
    "Thresholds",
    "Topic",
    "did_you_mean",
    "load_robot",
    "load_safety",
    "load_task",
    "load_thresholds",
    "resolve_path",
    "share_directory",
]

LEARNING_CHOICES = (
    "task.env",
    "task.horizon",
    "task.policy_inputs",
    "task.reward_features",
    "task.grid.features",
)
"""Fields of a contract that a recording does not depend on."""


class ForwardKinematics(Protocol):
    """Anything that gives the end effector's position; :class:`irl_ros.kinematics.Kinematics` does."""

    def position(self, joint_position: np.ndarray) -> np.ndarray:
        """End effector in the base frame [m], shape (3,)."""

    def orientation(self, joint_position: np.ndarray) -> np.ndarray:
        """Unit quaternion (x, y, z, w) of the end effector in the base frame, shape (4,)."""


@dataclass(frozen=True)
class Contract:
    """A task on a robot. `robot` is None for a gymnasium env that is no ROS robot."""

    robot: Robot | None
    task: Task
    slices: Mapping[str, slice] = field(init=False, repr=False, compare=False)
    env_from_file: bool = field(default=False, repr=False, compare=False)
    """Whether `task.env` comes from a checkpoint or a bag, so that its module is not imported unless allowed."""

    def __post_init__(self) -> None:
        checks.check_kind("contract", "task", self.task, Task)
        if self.robot is not None:
            checks.check_kind("contract", "robot", self.robot, Robot)
            check_fit(self.robot, self.task)
        offsets = np.cumsum([0] + [f.size for f in self.task.fields])
        slices = {f.name: slice(int(a), int(b)) for f, a, b in zip(self.task.fields, offsets, offsets[1:])}
        object.__setattr__(self, "slices", slices)

    @classmethod
    def load(cls, robot: str, task: str) -> Contract:
        """Read robot and task by name (from the package's config) or by path of a YAML file; no robot: the task's own."""
        parsed = load_robot(robot or task_robot(task))
        return cls(parsed, load_task(task, parsed))

    @property
    def observation_size(self) -> int:
        return sum(f.size for f in self.task.fields)

    @property
    def action_size(self) -> int:
        return self.task.action_size

    @cached_property
    def max_joint_step(self) -> np.ndarray:
        """The most that each joint may move in one control period [rad], shape (n_joints,)."""
        return np.minimum(self.task.max_speed, np.array(self.robot.velocity_limit)) * self.task.period

    @cached_property
    def max_step(self) -> np.ndarray:
        """Displacement of action 1 in one control period, shape (task.arm_action_size,): of joints [rad], or of the end
        effector [m]."""
        return np.full(3, self.task.max_step) if self.task.moves_end_effector else self.max_joint_step

    @property
    def topics(self) -> dict[str, Topic]:
        """Every topic that the recorder must keep, by role: joint_states, command, gripper_command, goal_pose, …"""
        gripper = {"gripper_command": self.robot.gripper.command} if self.task.gripper else {}
        arm = {"joint_states": self.robot.joint_states, "command": self.robot.command}
        return {**arm, **gripper, **dict(self.task.topics), **dict(self.task.recorded)}  # no role twice: Task checks it

    @cached_property
    def state_joint_names(self) -> tuple[str, ...]:
        """Joints that must be found in a joint state: the arm's, and the gripper's where the task needs it."""
        gripper = self.robot.gripper.joint_names if self.needs_gripper else ()
        return (*self.robot.joint_names, *gripper)

    @property
    def needs_gripper(self) -> bool:
        """Whether the task moves the gripper or looks at it."""
        return self.task.gripper or "gripper_opening" in self.slices

    @property
    def sources(self) -> tuple[str, ...]:
        """Roles of the topics that the observation needs."""
        return tuple(dict.fromkeys(s for f in self.task.fields for s in FIELDS[f.name].sources))

    def observe(self, measured: Mapping[str, np.ndarray], kinematics: ForwardKinematics) -> np.ndarray:
        """The observation vector, shape (observation_size,), float64.

        `measured` holds ``joint_position`` [rad] and ``joint_velocity`` [rad/s] in contract order, and, where the
        task uses them, ``gripper_opening`` [m] of shape (1,), and ``goal_position``, ``object_position`` and
        ``obstacle_position`` [m] and ``…_orientation`` (x, y, z, w) in the base frame.
        """
        values = dict(measured)
        values["end_effector_position"] = kinematics.position(values["joint_position"])
        if "end_effector_orientation" in self.slices:
            values["end_effector_orientation"] = kinematics.orientation(values["joint_position"])
        for name, start, end in self._differences:
            values[name] = values[end] - values[start]
        return np.concatenate([values[f.name] for f in self.task.fields])

    @cached_property
    def _differences(self) -> tuple[tuple[str, str, str], ...]:
        """Fields `<start>_to_<end>`, and the positions that they are from and to."""
        parts = [(name, *name.split("_to_")) for name in self.slices if "_to_" in name]
        return tuple((name, f"{start}_position", f"{end}_position") for name, start, end in parts)

    def field(self, observation: np.ndarray, name: str) -> np.ndarray:
        """One field of an observation (…, observation_size) by name."""
        return observation[..., self.slices[name]]

    def allow_env(self, env: str) -> Contract:
        """Return the contract with its env allowed to be imported if it is `env`; unchanged otherwise."""
        return replace(self, env_from_file=False) if env == self.task.env else self

    def import_env(self) -> None:
        """Import the module that registers the task's env. Raises ContractError."""
        import_env(self.task.env, not self.env_from_file)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; :meth:`from_dict` is its inverse."""
        return {
            "robot": None if self.robot is None else asdict(self.robot),
            "task": asdict(self.task),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Contract:
        """The contract that :meth:`to_dict` wrote; raises ContractError on anything else."""
        try:
            parts = _entries(data, Contract, "contract")
            return cls(_robot_from_dict(parts["robot"]), _task_from_dict(parts["task"]), env_from_file=True)
        except ContractError as error:
            raise ContractError(f"this is no contract written by irl_ros: {error}") from None
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise ContractError(f"this is no contract written by irl_ros: {checks.shown(error)}") from None

    def differences(self, other: Contract, recorded: bool = False) -> list[str]:
        """What differs, field by field ("robot.joint_names: … here, … there"); empty when the contracts fit.

        The URDF's path is not compared: machines keep it in different places; nor is what a simulation randomises, nor
        what is recorded beside the observation, nor a gripper that the task leaves alone. With `recorded`, neither is what only
        learning chooses: a bag serves any simulated env, horizon, policy inputs and reward features.
        """
        mine, theirs = _flatten(self.to_dict()), _flatten(other.to_dict())
        left_out = ("robot.urdf", "task.randomisation", "task.recorded", *(LEARNING_CHOICES if recorded else ()))
        gripper = self.needs_gripper or other.needs_gripper
        names = [n for n in dict.fromkeys([*mine, *theirs]) if n not in left_out]
        names = [n for n in names if gripper or not n.startswith("robot.gripper")]
        return [f"{n}: {mine.get(n)} here, {theirs.get(n)} there" for n in names if mine.get(n) != theirs.get(n)]


def _entries(data: Any, kind: type, where: str) -> dict[str, Any]:
    """Return the entries of a mapping that hold the fields of a dataclass, none unknown and none missing."""
    if not isinstance(data, Mapping):
        raise ContractError(f"{where} must be a mapping, not {checks.shown(data)}")
    known = {f.name: f for f in fields(kind) if f.init and f.compare}
    for name in data:
        checks.check_choice(where, "entry", name, tuple(known))
    missing = [n for n, f in known.items() if f.default is MISSING and n not in data]
    if missing:
        raise ContractError(f"{where}: {', '.join(missing)} is missing")
    return dict(data)


def _tuples(value: Any, depth: int = checks.MAX_NESTING) -> Any:
    if not isinstance(value, (list, tuple)):
        return value
    if depth == 0:
        raise ContractError(f"lists within lists, more than {checks.MAX_NESTING} deep")
    return tuple(_tuples(v, depth - 1) for v in value)


def _made(kind: type, data: Any, where: str, **made: Any) -> Any:
    """Return a dataclass from a mapping of its fields, `made` instead of what it has under these names."""
    values = {k: made[k] if k in made else _tuples(v) for k, v in _entries(data, kind, where).items()}
    return kind(**values)


def _robot_from_dict(data: Any) -> Robot | None:
    if data is None:
        return None
    entries = _entries(data, Robot, "robot")
    topics = {name: _made(Topic, entries[name], f"robot: {name}") for name in ("joint_states", "command")}
    return _made(Robot, data, "robot", **topics, gripper=_gripper_from_dict(entries.get("gripper")))


def _gripper_from_dict(data: Any) -> Gripper | None:
    if data is None:
        return None
    command = _entries(data, Gripper, "gripper")["command"]
    return _made(Gripper, data, "gripper", command=_made(Topic, command, "gripper: command"))


def _task_from_dict(data: Any) -> Task:
    entries = _entries(data, Task, "task")
    made = {name: _topics_from_list(entries.get(name, ()), name) for name in ("topics", "recorded")}
    grid = None if entries.get("grid") is None else _made(Grid, entries["grid"], "grid")
    listed = _listed(entries["fields"], "task: fields", checks.MAX_FIELDS)
    return _made(Task, data, "task", **made, grid=grid, fields=tuple(_made(Field, f, "task: fields") for f in listed))


def _topics_from_list(data: Any, name: str) -> tuple[tuple[Any, Topic], ...]:
    pairs = [_listed(pair, f"task: {name}", 2) for pair in _listed(data, f"task: {name}", checks.MAX_TOPICS)]
    if any(len(pair) != 2 for pair in pairs):
        raise ContractError(f"task: {name} must be pairs of a role and a topic, not {checks.shown(data)}")
    return tuple((role, _made(Topic, topic, f"task: {name}")) for role, topic in pairs)


def _listed(data: Any, where: str, most: int) -> list[Any] | tuple[Any, ...]:
    """Return a list of at most `most` entries; anything else raises ContractError."""
    if not isinstance(data, (list, tuple)) or len(data) > most:
        raise ContractError(f"{where} must be a list of at most {most} entries, not {checks.shown(data)}")
    return data


def _flatten(value: Any, name: str = "") -> dict[str, Any]:
    if isinstance(value, Mapping):
        return {k: v for key, inner in value.items() for k, v in _flatten(inner, f"{name}.{key}".strip(".")).items()}
    return {name: value}
