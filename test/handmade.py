"""A checkpoint with small hand-made weights, for tests that need a policy but no training."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from irl_ros.checkpoint import Checkpoint
from irl_ros.contract import Contract
from irl_ros.kinematics import Kinematics
from irl_ros.models.features import Features
from irl_ros.models.likeness import calibrate


def demonstrations(contract: Contract, count: int = 3, length: int = 20, seed: int = 0) -> list[np.ndarray]:
    """Observations (length, observation_size) of smooth random motions around the home pose, for reach."""
    rng, kinematics = np.random.default_rng(seed), Kinematics(contract.robot)
    return [_demonstration(contract, kinematics, length, rng) for _ in range(count)]


def checkpoint(contract: Contract, action: np.ndarray, gain: float = 0.0, seed: int = 0) -> Checkpoint:
    """A policy that always acts `action`, shape (m,), plus `gain` times its first input; a random small reward."""
    rng = np.random.default_rng(seed)
    inputs = Features(contract, contract.task.policy_inputs)
    weight = np.zeros((contract.action_size, inputs.size))
    weight[:, 0] = gain
    width = Features(contract, contract.task.reward_features).size
    reward = {
        "cost.0.weight": rng.normal(size=(4, width)),
        "cost.0.bias": rng.normal(size=4),
        "A": np.eye(4),
        "b": np.zeros(4),
        "w_u": np.array(0.01),
        "bound": np.array(1.0),
    }
    policy = {
        "mean.0.weight": weight,
        "mean.0.bias": np.asarray(action, np.float64),
        "log_std": np.zeros(contract.action_size),
    }
    likeness = calibrate([inputs(o) for o in demonstrations(contract)])
    likeness["demonstrated_returns"] = np.cumsum(np.full((3, contract.task.horizon), [[-0.9], [-0.5], [0.0]]), axis=1)
    urdf = contract.robot.urdf_path().read_text()
    return Checkpoint(contract, policy, reward, likeness, urdf, {"method": "handmade"})


def rewrite(saved: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the manifest and give it the hash that fits, as somebody with ill intent would."""
    path = saved / "manifest.json"
    manifest = json.loads(path.read_bytes())
    change(manifest)
    body = {key: manifest[key] for key in ("files", "description")}
    manifest["sha256"] = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps(manifest))


def _demonstration(
    contract: Contract, kinematics: Kinematics, length: int, rng: np.random.Generator
) -> np.ndarray:
    n = contract.robot.n_joints
    velocity = rng.uniform(-0.5, 0.5, n)
    goal = rng.uniform(contract.robot.workspace_lower, contract.robot.workspace_upper)
    rows = []
    for t in range(length):
        position = np.array(contract.robot.home) + velocity * t * contract.task.period
        measured = {"joint_position": position, "joint_velocity": velocity, "goal_position": goal}
        rows.append(contract.observe(measured, kinematics))
    return np.array(rows)
