"""What a task asks of a recording, from the `recording:` section of its file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from irl_ros.contract_terms import COMMAND_ROLES, Thresholds
from irl_ros.contract_yaml import check_keys, parsed, read_config


def load_thresholds(task: str) -> Thresholds:
    """What an episode of that task must keep; the task is found as load_task finds it. Raises ContractError."""
    return parsed(_parse, read_config("tasks", task))


def _parse(data: Mapping[str, Any]) -> Thresholds:
    """Its keys were checked with the task's."""
    where, given = f"{data['_path']}: recording", dict(data.get("recording") or {})
    roles = ("joint_states", *COMMAND_ROLES, *(data.get("topics") or {}), *(given.pop("also", None) or {}))
    values: dict[str, Any] = {}
    for name, value in given.items():
        if isinstance(value, Mapping):
            check_keys(value, roles, f"{where}: {name}")
            values[name] = tuple((role, float(v)) for role, v in value.items())
        else:
            values[name] = float(value)
    return Thresholds(**values)
