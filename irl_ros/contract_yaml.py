"""Robots and tasks from their YAML files; every error names the file, the key and the valid ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from irl_ros.contract_checks import check_choice, shown
from irl_ros.contract_fit import check_fit
from irl_ros.contract_grid import Grid
from irl_ros.contract_lookup import ContractError, did_you_mean, share_directory
from irl_ros.contract_terms import (
    ACTION_KINDS,
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
    """Return `parse(data, *more)`; an error becomes a ContractError that names the file."""
    path = data["_path"]
    try:
        return parse(data, *more)
    except ContractError as error:
        raise ContractError(str(error) if str(error).startswith(path) else f"{path}: {error}") from None
    except (TypeError, ValueError, AttributeError, LookupError, OverflowError) as error:
        raise ContractError(
            f"{path}: a value has the wrong form ({shown(error)}); compare with the files in irl_ros' config directory"
        ) from None


def _number(value: Any) -> Any:
    """Return a number as a float, also one that YAML takes for text (1e-3); anything else as it is."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return value
    try:
        return float(value)
    except (ValueError, OverflowError):
        return value


def _numbers(values: Any) -> tuple[Any, ...]:
    return tuple(map(_number, values))


def _parse_topic(data: Mapping[str, Any], where: str, commands: bool = False) -> Topic:
    check_keys(data, ("name", "type", "max_age", "latched"), where)
    if not commands and ("max_age" in data) == bool(data.get("latched")):
        raise ContractError(f"{where}: give either max_age [s] or latched: true")
    return Topic(_take(data, "name", where), _take(data, "type", where), _number(data.get("max_age")))


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
    ranges = [_pair(joint, "position", f"{where}: joint {name}") for name, joint in joints.items()]
    return Robot(
        name=_take(data, "name", where),
        urdf=_near_config(_take(data, "urdf", where), where),
        base_frame=_take(data, "base_frame", where),
        end_effector_frame=_take(data, "end_effector_frame", where),
        joint_names=tuple(joints),
        position_lower=_numbers(lower for lower, _ in ranges),
        position_upper=_numbers(upper for _, upper in ranges),
        velocity_limit=_numbers(j["velocity"] for j in joints.values()),
        home=_numbers(j["home"] for j in joints.values()),
        joint_states=_parse_topic(_take(topics, "joint_states", where), f"{where}: topics.joint_states"),
        command=_parse_topic(_take(topics, "command", where), f"{where}: topics.command", commands=True),
        fixed_joints=tuple((n, _number(v)) for n, v in (data.get("fixed_joints") or {}).items()),
        workspace_lower=_numbers(workspace["lower"]),
        workspace_upper=_numbers(workspace["upper"]),
        gripper=_parse_gripper(data["gripper"], f"{where}: gripper") if data.get("gripper") else None,
    )


def _parse_gripper(data: Mapping[str, Any], where: str) -> Gripper:
    check_keys(data, ("joints", "closed", "open", "command", "force"), where)
    force = {"force": _number(data["force"])} if "force" in data else {}
    command = _parse_topic(_take(data, "command", where), f"{where}: command", commands=True)
    joints = tuple(_take(data, "joints", where))
    return Gripper(joints, _number(_take(data, "closed", where)), _number(_take(data, "open", where)), command, **force)


def _parse_safety(data: Mapping[str, Any]) -> Safety:
    robot, limits, where = _parse_robot(data), data.get("safety") or {}, f"{data['_path']}: safety"
    check_keys(limits, ("acceleration", "position_margin", "box", "lead"), where)
    accelerations, box = limits.get("acceleration") or {}, limits.get("box") or {"lower": (), "upper": ()}
    check_keys(box, ("lower", "upper"), f"{where}: box")
    if set(accelerations) not in (set(), set(robot.joint_names)):
        raise ContractError(f"{where}: acceleration must name every joint: {', '.join(robot.joint_names)}")
    safety = Safety(
        acceleration_limit=_numbers(accelerations[n] for n in robot.joint_names if accelerations),
        box_lower=_numbers(box["lower"]),
        box_upper=_numbers(box["upper"]),
        **{name: _number(limits[name]) for name in ("position_margin", "lead") if name in limits},
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
    fields = tuple(_parse_field(entry, robot, where) for entry in _take(data, "observation", where))
    task = Task(
        name=_take(data, "name", where),
        env=_take(data, "env", where),
        rate=_number(_take(data, "rate", where)),
        horizon=_take(data, "horizon", where),
        **_parse_action(action, robot, f"{where}: action"),
        fields=fields,
        policy_inputs=tuple(_take(data, "policy_inputs", where)),
        reward_features=tuple(_take(data, "reward_features", where)),
        topics=tuple((role, _parse_topic(t, f"{where}: topics.{role}")) for role, t in topics.items()),
        grid=_parse_grid(data["grid"], robot, f"{where}: grid") if "grid" in data else None,
        randomisation=_parse_randomisation(data.get("randomisation") or {}, f"{where}: randomisation"),
        recorded=_parse_recorded(data.get("recording") or {}, f"{where}: recording"),
    )
    check_fit(robot, task)
    return task


def _parse_recorded(data: Mapping[str, Any], where: str) -> tuple[tuple[str, Topic], ...]:
    """Topics that are recorded and no part of an observation."""
    check_keys(data, ("also", *(field.name for field in dataclasses.fields(Thresholds))), where)
    also = data.get("also") or {}
    return tuple((role, _parse_topic(topic, f"{where}: also.{role}")) for role, topic in also.items())


def _parse_randomisation(data: Mapping[str, Any], where: str) -> tuple[tuple[str, tuple[float, ...]], ...]:
    check_keys(data, tuple(RANDOMISED), where)
    return tuple((name, _numbers(bounds)) for name, bounds in data.items())


def _parse_action(data: Mapping[str, Any], robot: Robot, where: str) -> dict[str, Any]:
    """The fields of Task that say what an action is."""
    kind = _take(data, "kind", where)
    check_choice(where, "action kind", kind, ACTION_KINDS)
    end_effector = kind == "end_effector_displacement"
    more = ("max_step", "orientation") if end_effector else ()
    check_keys(data, ("kind", "max_speed", "max_lead", "gripper", *more), where)
    gripper = data.get("gripper", False)
    return {
        "action_kind": kind,
        "action_size": (3 if end_effector else robot.n_joints) + (gripper is True),
        "gripper": gripper,
        "orientation": _numbers(data.get("orientation", ())),
        "max_speed": _number(_take(data, "max_speed", where)),
        "max_lead": _number(_take(data, "max_lead", where)),
        "max_step": _number(_take(data, "max_step", where)) if end_effector else 0.0,
    }


def _parse_grid(data: Mapping[str, Any], robot: Robot, where: str) -> Grid:
    """Without an origin the grid lies in the middle of the robot's workspace."""
    check_keys(data, ("origin", "cell", "shape", "height", "goal", "keep_out", "start", "features"), where)
    cell, shape = _number(_take(data, "cell", where)), _pair(data, "shape", where)
    corners = {name: tuple(tuple(c) for c in _take(data, name, where)) for name in ("keep_out", "start")}
    return Grid(
        origin=_numbers(data["origin"]) if "origin" in data else _middle(robot, cell, shape),
        cell=cell,
        shape=shape,
        height=_number(_take(data, "height", where)),
        goal=_pair(data, "goal", where),
        **corners,
        **({"features": data["features"]} if "features" in data else {}),
    )


def _middle(robot: Robot, cell: Any, shape: tuple[Any, Any]) -> tuple[float, ...]:
    """Origin of a grid in the middle of the workspace; any where there is none, which :class:`Contract` refuses."""
    corners = zip(robot.workspace_lower or (0.0, 0.0), robot.workspace_upper or (0.0, 0.0), shape)
    return tuple(round((a + b - n * cell) / 2, 9) for a, b, n in corners)


def _pair(data: Mapping[str, Any], key: str, where: str) -> tuple[Any, Any]:
    first, second = _take(data, key, where)
    return first, second


def _parse_field(entry: str | Mapping[str, Any], robot: Robot, where: str) -> Field:
    """An entry is a field's name, or `{name: scale}` where networks shall see it divided by another scale."""
    ((name, scale),) = entry.items() if isinstance(entry, Mapping) else ((entry, None),)
    check_choice(where, "observation field", name, tuple(FIELDS))
    kind = FIELDS[name]
    size = robot.n_joints if kind.size is None else kind.size
    return Field(name, size, kind.unit, kind.scale if scale is None else _number(scale))
