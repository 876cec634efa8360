"""What a contract is made of: topics, fields, a robot, a task, and where their files lie."""

from __future__ import annotations

import difflib
import importlib.util
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

ACTION_KINDS = ("joint_displacement", "end_effector_displacement")

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


def _is_box(lower: tuple[float, ...], upper: tuple[float, ...]) -> bool:
    """Whether these are opposite corners; a robot without a workspace has two empty ones."""
    return len(lower) == len(upper) and len(lower) in (0, 3) and all(a < b for a, b in zip(lower, upper))
