"""Demonstrations as npz files, one file per episode: for any gymnasium env, and on the way to other libraries."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from irl_ros.contract import Contract
from irl_ros.data.alignment import MINIMUM_PERIODS
from irl_ros.data.episode import Demonstrations, Episode, EpisodeError, check_widths

REQUIRED = ("observations", "actions")
ABOUT = "about.json"
"""Beside the npz files of an export: which contract they are under, and what their columns are."""


def load_npz(directory: Path | str, contract: Contract | None = None) -> tuple[Demonstrations, list[str]]:
    """Every usable ``*.npz`` in `directory`, in name order, and why the others are not usable, one line each.

    A file holds ``observations`` (T+1, n), ``actions`` (T, m) and, if the demonstrator said so, ``success``. What goes
    past the task's horizon is dropped. `contract`: what they must fit; None takes that of an export's about.json. Raises
    EpisodeError when nothing is left.
    """
    directory = Path(directory).expanduser()
    files = sorted(directory.glob("*.npz"))
    if not files:
        raise EpisodeError(
            f"no .npz file in {directory}; write one per episode: observations (T+1, n), actions (T, m)"
        )
    contract = _settled(directory, contract)
    episodes: list[Episode] = []
    rejected: list[str] = []
    for file in files:
        try:
            episodes.append(read_npz(file, contract))
        except EpisodeError as error:
            rejected.append(str(error))
    if not episodes:
        reasons = "\n  ".join(rejected)
        raise EpisodeError(f"no usable demonstration in {directory}; mend or add some. Rejected:\n  {reasons}")
    return Demonstrations(contract, tuple(episodes)), rejected


def _settled(directory: Path, contract: Contract | None) -> Contract:
    """The contract that is asked for or that the directory names; EpisodeError where these differ or neither is."""
    path = directory / ABOUT
    try:
        told = Contract.from_dict(json.loads(path.read_text())["contract"]) if path.is_file() else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EpisodeError(f"{path}: no contract can be read from it: {error!r}") from None
    if contract is None and told is None:
        raise EpisodeError(
            f"{directory}: npz files say nothing of robot and task; give a contract, Contract.load(robot, task)"
        )
    different = contract.differences(told, recorded=True) if contract and told else []
    if different:
        raise EpisodeError(f"{directory}: of another contract: {different[0]}")
    return contract or told


def write_npz(demonstrations: Demonstrations, directory: Path) -> None:
    """One npz file per episode, to the last bit, and about.json, into an empty `directory`."""
    episodes = []
    for episode in demonstrations:
        label = {} if episode.success is None else {"success": episode.success}
        arrays = {"observations": episode.observations, "actions": episode.actions, "terminated": episode.terminated}
        np.savez(directory / f"{episode.name}.npz", **arrays, **label)
        episodes.append({"name": episode.name, "success": episode.success, "terminated": episode.terminated})
    about = {**_about(demonstrations.contract), "episodes": episodes}
    (directory / ABOUT).write_text(json.dumps(about, indent=1) + "\n")


def _about(contract: Contract) -> dict[str, Any]:
    robot = "env" if contract.robot is None else contract.robot.name
    return {
        "dataset_id": f"irl_ros/{robot}-{contract.task.name}-v0",
        "robot": robot,
        "task": contract.task.name,
        "rate": contract.task.rate,
        "observation_names": [name for f in contract.task.fields for name in _elements(f.name, f.size, contract)],
        "action_names": _action_names(contract),
        "contract": contract.to_dict(),
    }


def _elements(name: str, size: int, contract: Contract) -> list[str]:
    """`joint_position.panda_joint1`, `goal_position.x`, `gripper_opening`, `observation.0`: a name for each column."""
    if size == 1:
        return [name]
    joints = contract.robot.joint_names if contract.robot is not None and name.startswith("joint_") else ()
    known = {3: "xyz", 4: "xyzw"}.get(size, range(size)) if contract.robot is not None else range(size)
    return [f"{name}.{part}" for part in joints or known]


def _action_names(contract: Contract) -> list[str]:
    arm = "end_effector" if contract.task.moves_end_effector else "joint" if contract.robot is not None else "action"
    gripper = ["gripper"] if contract.task.gripper else []
    return _elements(f"{arm}_displacement", contract.task.arm_action_size, contract) + gripper


def read_npz(file: Path, contract: Contract) -> Episode:
    """One episode under the contract; raises EpisodeError, which names the file and the reason."""
    arrays = _arrays(file)
    horizon = contract.task.horizon
    observations, actions = (_numbers(file, name, arrays) for name in REQUIRED)
    label = None if "success" not in arrays else bool(np.all(arrays["success"]))
    if label is False:
        raise EpisodeError(f"episode {file.stem}: labelled as a failure")
    # Checks the whole file, also what lies past the horizon.
    whole = Episode(file.stem, observations, actions, success=label)
    check_widths(whole, contract)
    least = min(MINIMUM_PERIODS, horizon)
    if len(whole) < least:
        raise EpisodeError(f"episode {file.stem}: too short: {len(whole)} periods; at least {least} are needed")
    terminated = len(whole) <= horizon and bool(np.all(arrays.get("terminated", False)))
    return Episode(file.stem, observations[: horizon + 1], actions[:horizon], terminated, not terminated, label)


def _arrays(file: Path) -> dict[str, np.ndarray]:
    """All arrays of a file. Pickled objects are refused: loading them would run what they say."""
    try:
        with np.load(file, allow_pickle=False) as content:
            return {name: content[name] for name in content.files}
    except (ValueError, OSError, EOFError, KeyError, AttributeError, zipfile.BadZipFile) as error:
        raise EpisodeError(f"episode {file.stem}: {file} cannot be read: {error}") from None


def _numbers(file: Path, name: str, arrays: dict[str, np.ndarray]) -> np.ndarray:
    if name not in arrays:
        raise EpisodeError(f"episode {file.stem}: no array {name!r}; it holds {', '.join(arrays) or 'nothing'}")
    array = arrays[name]
    if array.dtype.kind not in "fiu":
        raise EpisodeError(f"episode {file.stem}: {name} holds {array.dtype}, not numbers")
    return array.astype(np.float64)
