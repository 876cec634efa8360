"""Checks of a task against the robot that shall do it."""

from __future__ import annotations

from irl_ros import contract_checks as checks
from irl_ros.contract_grid import Grid
from irl_ros.contract_lookup import ContractError
from irl_ros.contract_terms import ACTION_KINDS, FIELDS, Field, Robot, Task

ROUNDING = 1e-9
"""Distance that a grid may lie outside the workspace [m]: its middle is rounded."""


def check_fit(robot: Robot, task: Task) -> None:
    """Raise ContractError unless the task can be done with the robot: its joints, gripper, topics and workspace."""
    where = f"task {task.name} on robot {robot.name}"
    checks.check_choice(where, "action kind", task.action_kind, ACTION_KINDS)
    if task.gripper and robot.gripper is None:
        raise ContractError(
            f"{where}: action.gripper is true, and the robot has no gripper; say so in its file, or leave gripper out here"
        )
    size = (3 if task.moves_end_effector else robot.n_joints) + task.gripper
    if task.action_size != size:
        raise ContractError(f"{where}: action_size must be {size}, not {task.action_size}")
    for entry in task.fields:
        _check_field(robot, task, entry, where)
    if task.grid is not None:
        _check_grid(robot, task.grid, where)


def _check_field(robot: Robot, task: Task, entry: Field, where: str) -> None:
    """Raise ContractError unless an observation field is one of FIELDS as it is on this robot."""
    checks.check_choice(where, "observation field", entry.name, tuple(FIELDS))
    kind = FIELDS[entry.name]
    size = robot.n_joints if kind.size is None else kind.size
    for name, value, right in (("size", entry.size, size), ("unit", entry.unit, kind.unit), ("center", entry.center, 0.0)):
        if value != right:
            raise ContractError(f"{where}: {name} of field {entry.name} must be {right!r}, not {value!r}")
    for source in kind.sources:
        if source != "joint_states" and source not in dict(task.topics):
            raise ContractError(f"{where}: field {entry.name} needs the topic {source} under topics")
    if entry.name == "gripper_opening" and robot.gripper is None:
        raise ContractError(f"{where}: field {entry.name} needs a gripper, and the robot has none")


def _check_grid(robot: Robot, grid: Grid, where: str) -> None:
    """Raise ContractError unless the grid lies in the robot's workspace."""
    if not robot.workspace_lower:
        raise ContractError(f"{where}: the robot has no workspace, and a grid must lie in it")
    near = (*grid.origin, grid.height)
    far = (*(o + n * grid.cell for o, n in zip(grid.origin, grid.shape)), grid.height)
    below = any(a < b - ROUNDING for a, b in zip(near, robot.workspace_lower))
    if below or any(a > b + ROUNDING for a, b in zip(far, robot.workspace_upper)):
        raise ContractError(f"{where}: from {near} to {far} m the grid leaves {robot.name}'s workspace")
