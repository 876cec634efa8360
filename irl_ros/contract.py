"""The contract between recording, training and deployment: what an observation, an action and a command are.

A :class:`Contract` joins a robot (``config/robots/<robot>.yaml``) and a task (``config/tasks/<task>.yaml``). A copy of
it lies in every bag and every checkpoint. The simulated arm, the bag reader and the policy runner build observations
with :meth:`Contract.observe` and turn actions into joint targets with
:func:`~irl_ros.motion.joint_target`: one function each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from irl_ros.contract_grid import GRID_MOVES, Grid
from irl_ros.contract_lookup import ContractError, did_you_mean, resolve_path, share_directory
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

    def __post_init__(self) -> None:
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
        return {**arm, **gripper, **dict(self.task.topics), **dict(self.task.recorded)}

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
            return cls(_robot_from_dict(data["robot"]), _task_from_dict(data["task"]))
        except ContractError:
            raise
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise ContractError(f"this is no contract written by irl_ros: {error!r}") from None

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


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, (list, tuple)) else value


def _robot_from_dict(data: Mapping[str, Any] | None) -> Robot | None:
    if data is None:
        return None
    values = {k: _tuples(v) for k, v in data.items()}
    topics = {name: Topic(**data[name]) for name in ("joint_states", "command")}
    return Robot(**{**values, **topics, "gripper": _gripper_from_dict(data.get("gripper"))})


def _gripper_from_dict(data: Mapping[str, Any] | None) -> Gripper | None:
    if data is None:
        return None
    values = {k: _tuples(v) for k, v in data.items()}
    return Gripper(**{**values, "command": Topic(**data["command"])})


def _task_from_dict(data: Mapping[str, Any]) -> Task:
    values = {k: _tuples(v) for k, v in data.items()}
    topics = tuple((role, Topic(**topic)) for role, topic in data["topics"])
    recorded = tuple((role, Topic(**topic)) for role, topic in data.get("recorded", ()))
    grid = None if data.get("grid") is None else Grid(**{k: _tuples(v) for k, v in data["grid"].items()})
    fields = tuple(Field(**f) for f in data["fields"])
    return Task(**{**values, "fields": fields, "topics": topics, "recorded": recorded, "grid": grid})


def _flatten(value: Any, name: str = "") -> dict[str, Any]:
    if isinstance(value, Mapping):
        return {k: v for key, inner in value.items() for k, v in _flatten(inner, f"{name}.{key}".strip(".")).items()}
    return {name: _tuples(value)}
