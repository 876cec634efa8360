"""Robots and tasks from their YAML files; every error names the file, the key and the valid ones."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from irl_ros.contract_grid import Grid
from irl_ros.contract_lookup import ContractError, did_you_mean, share_directory
from irl_ros.contract_terms import (
    ACTION_KINDS,
    COMMAND_ROLES,
    FIELDS,
    POSE_TOPICS,
    RANDOMISED,
    Field,
    Gripper,
    Robot,
    Safety,
    Task,
    Thresholds,
    Topic,
)

DEFAULT_ROBOT, DEFAULT_DEMONSTRATIONS = "panda", 5


def load_robot(robot: str) -> Robot:
    """The robot of that name (from the package's config) or of that YAML file; raises ContractError."""
    return parsed(_parse_robot, read_config("robots", robot))


def load_safety(robot: str) -> Safety:
    """The command gate's own limits in the file of that robot, as :func:`load_robot` finds it; raises ContractError."""
    return parsed(_parse_safety, read_config("robots", robot))


def load_task(task: str, robot: Robot) -> Task:
    """The task of that name (from the package's config) or of that YAML file, for `robot`; raises ContractError."""
    return parsed(_parse_task, read_config("tasks", task), robot)


def task_robot(task: str) -> str:
    """The robot that a task's file names as its own; DEFAULT_ROBOT where it names none. Raises ContractError."""
    return str(read_config("tasks", task).get("robot", DEFAULT_ROBOT))


def task_demonstrations(task: str) -> int:
    """How many demonstrations a task's file asks for; DEFAULT_DEMONSTRATIONS where it says nothing. Raises
    ContractError."""
    count = read_config("tasks", task).get("demonstrations", DEFAULT_DEMONSTRATIONS)
    if type(count) is not int or count < 1:
        raise ContractError(f"task {task}: demonstrations must be a whole number from 1 up, not {count!r}")
    return count


def task_training(task: str) -> dict[str, Any]:
    """The training options of a task's file, as TrainConfig.from_dict takes them; raises ContractError."""
    data = read_config("tasks", task)
    options = data.get("training") or {}
    if not isinstance(options, dict):
        raise ContractError(f"{data['_path']}: training must be a mapping of options, not {options!r}")
    return options


def read_config(kind: str, name: str) -> dict[str, Any]:
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


def check_keys(data: Mapping[str, Any], valid: Sequence[str], where: str) -> None:
    for key in data:
        if key not in valid:
            shown = [v for v in valid if v != "_path"]
            raise ContractError(f"{where}: unknown key {key!r}.{did_you_mean(str(key), shown)}")


def parsed(parse: Callable[..., Any], data: Mapping[str, Any], *more: Any) -> Any:
    """What `parse` makes of a file's content; a value of the wrong form becomes a ContractError that names the file."""
    try:
        return parse(data, *more)
    except ContractError:
        raise
    except (TypeError, ValueError, AttributeError, LookupError) as error:
        raise ContractError(
            f"{data['_path']}: a value has the wrong form ({error}); compare with the files in irl_ros' config directory"
        ) from None


def _parse_topic(data: Mapping[str, Any], where: str, commands: bool = False) -> Topic:
    check_keys(data, ("name", "type", "max_age", "latched"), where)
    if not commands and ("max_age" in data) == bool(data.get("latched")):
        raise ContractError(f"{where}: give either max_age [s] or latched: true")
    age = data.get("max_age")
    if age is not None and not float(age) > 0:
        raise ContractError(f"{where}: max_age must be above 0 s, not {age}")
    return Topic(_take(data, "name", where), _take(data, "type", where), None if age is None else float(age))


def _parse_robot(data: Mapping[str, Any]) -> Robot:
    where = data["_path"]
    keys = ("_path", "name", "urdf", "base_frame", "end_effector_frame", "joints", "fixed_joints", "topics", "workspace")
    check_keys(data, (*keys, "gripper", "safety"), where)
    joints, topics = _take(data, "joints", where), _take(data, "topics", where)
    check_keys(topics, ("joint_states", "command"), f"{where}: topics")
    for name, joint in joints.items():
        check_keys(joint, ("position", "velocity", "home"), f"{where}: joint {name}")
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
        gripper=_parse_gripper(data["gripper"], f"{where}: gripper") if data.get("gripper") else None,
    )


def _parse_gripper(data: Mapping[str, Any], where: str) -> Gripper:
    check_keys(data, ("joints", "closed", "open", "command", "force"), where)
    force = {"force": float(data["force"])} if "force" in data else {}
    command = _parse_topic(_take(data, "command", where), f"{where}: command", commands=True)
    joints = tuple(map(str, _take(data, "joints", where)))
    return Gripper(joints, float(_take(data, "closed", where)), float(_take(data, "open", where)), command, **force)


def _parse_safety(data: Mapping[str, Any]) -> Safety:
    robot, limits, where = _parse_robot(data), data.get("safety") or {}, f"{data['_path']}: safety"
    check_keys(limits, ("acceleration", "position_margin", "box", "lead"), where)
    accelerations, box = limits.get("acceleration") or {}, limits.get("box") or {"lower": (), "upper": ()}
    check_keys(box, ("lower", "upper"), f"{where}: box")
    if set(accelerations) not in (set(), set(robot.joint_names)):
        raise ContractError(f"{where}: acceleration must name every joint: {', '.join(robot.joint_names)}")
    safety = Safety(
        acceleration_limit=tuple(float(accelerations[n]) for n in robot.joint_names if accelerations),
        position_margin=float(limits.get("position_margin", 0.0)),
        box_lower=tuple(map(float, box["lower"])),
        box_upper=tuple(map(float, box["upper"])),
        lead=float(limits.get("lead", math.inf)),
    )
    room = min(upper - lower for lower, upper in zip(robot.position_lower, robot.position_upper))
    if not 2 * safety.position_margin < room:
        raise ContractError(f"{where}: position_margin must be below {room / 2:g} rad, not {safety.position_margin}")
    return safety


def _near_config(urdf: str, where: str) -> str:
    """A relative URDF path is meant relative to the YAML file that names it."""
    path = Path(urdf).expanduser()
    return urdf if ":" in urdf or path.is_absolute() else str(Path(where).resolve().parent / path)


def _parse_task(data: Mapping[str, Any], robot: Robot) -> Task:
    where = data["_path"]
    keys = ("_path", "name", "env", "robot", "rate", "horizon", "action", "observation", "topics", "policy_inputs")
    check_keys(data, (*keys, "reward_features", "grid", "randomisation", "training", "demonstrations", "recording"), where)
    action = _take(data, "action", where)
    topics = data.get("topics") or {}
    check_keys(topics, tuple(POSE_TOPICS), f"{where}: topics")
    fields = tuple(_parse_field(entry, robot, topics, where) for entry in _take(data, "observation", where))
    return Task(
        name=_take(data, "name", where),
        env=_take(data, "env", where),
        rate=float(_take(data, "rate", where)),
        horizon=int(_take(data, "horizon", where)),
        **_parse_action(action, robot, f"{where}: action"),
        fields=fields,
        policy_inputs=tuple(_take(data, "policy_inputs", where)),
        reward_features=tuple(_take(data, "reward_features", where)),
        topics=tuple((role, _parse_topic(t, f"{where}: topics.{role}")) for role, t in topics.items()),
        grid=_parse_grid(data["grid"], robot, f"{where}: grid") if "grid" in data else None,
        randomisation=_parse_randomisation(data.get("randomisation") or {}, f"{where}: randomisation"),
        recorded=_parse_recorded(data.get("recording") or {}, topics, f"{where}: recording"),
    )


def _parse_recorded(
    data: Mapping[str, Any], known: Mapping[str, Any], where: str
) -> tuple[tuple[str, Topic], ...]:
    """Topics that are recorded and no part of an observation."""
    check_keys(data, ("also", *(field.name for field in dataclasses.fields(Thresholds))), where)
    also = data.get("also") or {}
    for role in also:
        if role in known or role in ("joint_states", *COMMAND_ROLES):
            raise ContractError(f"{where}: also: {role} is recorded anyway; name other topics only")
    return tuple((role, _parse_topic(topic, f"{where}: also.{role}")) for role, topic in also.items())


def _parse_randomisation(data: Mapping[str, Any], where: str) -> tuple[tuple[str, tuple[float, float]], ...]:
    check_keys(data, RANDOMISED, where)
    for name, (low, high) in data.items():
        if not 0 <= float(low) <= float(high):
            raise ContractError(f"{where}: {name} needs a range 0 <= low <= high, not [{low}, {high}]")
    return tuple((name, (float(low), float(high))) for name, (low, high) in data.items())


def _parse_action(data: Mapping[str, Any], robot: Robot, where: str) -> dict[str, Any]:
    """The fields of Task that say what an action is."""
    kind = _take(data, "kind", where)
    if kind not in ACTION_KINDS:
        raise ContractError(f"{where}: unknown action kind {kind!r}.{did_you_mean(kind, ACTION_KINDS)}")
    end_effector = kind == "end_effector_displacement"
    more = ("max_step", "orientation") if end_effector else ()
    check_keys(data, ("kind", "max_speed", "max_lead", "gripper", *more), where)
    gripper = bool(data.get("gripper", False))
    if gripper and robot.gripper is None:
        raise ContractError(f"{where}: robot {robot.name} has no gripper; say so in its file, or leave gripper out here")
    return {
        "action_kind": kind,
        "action_size": (3 if end_effector else robot.n_joints) + gripper,
        "gripper": gripper,
        "orientation": tuple(map(float, data.get("orientation", ()))),
        "max_speed": float(_take(data, "max_speed", where)),
        "max_lead": float(_take(data, "max_lead", where)),
        "max_step": float(_take(data, "max_step", where)) if end_effector else 0.0,
    }


def _parse_grid(data: Mapping[str, Any], robot: Robot, where: str) -> Grid:
    """Without an origin the grid lies in the middle of the robot's workspace; it must not leave it."""
    check_keys(data, ("origin", "cell", "shape", "height", "goal", "keep_out", "start", "features"), where)
    if not robot.workspace_lower:
        raise ContractError(f"{where}: robot {robot.name} has no workspace, and a grid must lie in it")
    cell, shape = float(_take(data, "cell", where)), _pair(data, "shape", where)
    lower, upper = robot.workspace_lower, robot.workspace_upper
    middle = [round((a + b - n * cell) / 2, 9) for a, b, n in zip(lower, upper, shape)]
    origin = tuple(map(float, data.get("origin", middle)))
    height = float(_take(data, "height", where))
    far = (*(o + n * cell for o, n in zip(origin, shape)), height)
    if any(a < b - 1e-9 for a, b in zip((*origin, height), lower)) or any(a > b + 1e-9 for a, b in zip(far, upper)):
        raise ContractError(f"{where}: from {(*origin, height)} to {far} m it leaves {robot.name}'s workspace")
    corners = {name: tuple(tuple(map(int, c)) for c in _take(data, name, where)) for name in ("keep_out", "start")}
    features = {"features": data["features"]} if "features" in data else {}
    return Grid(origin, cell, shape, height, _pair(data, "goal", where), **corners, **features)


def _pair(data: Mapping[str, Any], key: str, where: str) -> tuple[int, int]:
    first, second = _take(data, key, where)
    return int(first), int(second)


def _parse_field(entry: str | Mapping[str, Any], robot: Robot, topics: Mapping[str, Any], where: str) -> Field:
    """An entry is a field's name, or `{name: scale}` where networks shall see it divided by another scale."""
    ((name, scale),) = entry.items() if isinstance(entry, Mapping) else ((entry, None),)
    if name not in FIELDS:
        raise ContractError(f"{where}: unknown observation field {name!r}.{did_you_mean(name, tuple(FIELDS))}")
    kind = FIELDS[name]
    for source in kind.sources:
        if source != "joint_states" and source not in topics:
            raise ContractError(f"{where}: field {name} needs the topic {source} under topics")
    if name == "gripper_opening" and robot.gripper is None:
        raise ContractError(f"{where}: field {name} needs a gripper, and robot {robot.name} has none")
    if scale is not None and not float(scale) > 0:
        raise ContractError(f"{where}: the scale of {name} must be above 0, not {scale}")
    size = robot.n_joints if kind.size is None else kind.size
    return Field(name, size, kind.unit, kind.scale if scale is None else float(scale))
