"""The state that a resumed training goes on from: networks, optimisers, the background window. No pickle."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from irl_ros.checkpoint import load_groups, save_groups
from irl_ros.learning.batch import Batch
from irl_ros.learning.config import ConfigError
from irl_ros.learning.method import Method
from irl_ros.learning.policy_step import PolicyStep
from irl_ros.learning.trajectory_step import TrajectoryStep
from irl_ros.models.policies import StochasticPolicy

Arrays = dict[str, np.ndarray]
KIND = "training state"
Step = PolicyStep | TrajectoryStep


def save_state(
    directory: Path, step: Step, method: Method, identity: Mapping[str, Any], progress: Mapping[str, Any]
) -> None:
    """Write everything that learns, atomically; `progress` is JSON and comes back from :func:`load_state`."""
    networks, optimisers = _parts(step, method)
    groups = {f"network_{name}": module_arrays(module) for name, module in networks.items()}
    groups.update({f"optimiser_{name}": optimiser_arrays(o) for name, o in optimisers.items()})
    entries = method.window.entries if method.window is not None else []
    for k, (batch, policy) in enumerate(entries):
        groups[f"window_{k}"] = {
            **prefixed("batch", batch_arrays(batch)),
            **prefixed("policy", module_arrays(policy)),
        }
    save_groups(directory, KIND, groups, {"identity": identity, "progress": progress, "window": len(entries)})


def load_state(directory: Path, step: Step, method: Method, identity: Mapping[str, Any]) -> dict[str, Any]:
    """Restore what :func:`save_state` wrote; ConfigError when it belongs to another training, CheckpointError when damaged."""
    _, description = load_groups(directory, KIND, ())
    if json.loads(json.dumps(identity)) != description["identity"]:
        raise ConfigError(
            f"{directory} belongs to a training with other options, another contract or other demonstrations; "
            "resume with the same ones, or train without resume"
        )
    networks, optimisers = _parts(step, method)
    windows = [f"window_{k}" for k in range(description["window"])]
    names = [*(f"network_{n}" for n in networks), *(f"optimiser_{n}" for n in optimisers), *windows]
    groups, _ = load_groups(directory, KIND, tuple(names))
    for name, module in networks.items():
        load_module(module, groups[f"network_{name}"])
    for name, optimiser in optimisers.items():
        load_optimiser(optimiser, groups[f"optimiser_{name}"])
    if method.window is not None:
        method.window.entries = [_load_entry(groups[name], step.policy) for name in windows]
    return description["progress"]


def _parts(
    step: Step, method: Method
) -> tuple[dict[str, torch.nn.Module], dict[str, torch.optim.Optimizer]]:
    networks = {**step.networks, **method.networks}
    optimisers = {**step.optimisers, **method.optimisers}
    return networks, optimisers


def _load_entry(arrays: Arrays, like: StochasticPolicy) -> tuple[Batch, StochasticPolicy]:
    device = like.log_std.device
    policy = copy.deepcopy(like)
    load_module(policy, under("policy", arrays))
    return load_batch(under("batch", arrays), device), policy.requires_grad_(False)


def module_arrays(module: torch.nn.Module) -> Arrays:
    """Parameters and buffers by name."""
    return {name: value.detach().cpu().numpy().copy() for name, value in module.state_dict().items()}


def load_module(module: torch.nn.Module, arrays: Mapping[str, np.ndarray]) -> None:
    """Inverse of :func:`module_arrays`."""
    module.load_state_dict({name: torch.as_tensor(value) for name, value in arrays.items()})


def optimiser_arrays(optimiser: torch.optim.Optimizer) -> Arrays:
    """Adam's moments and steps, `<parameter index>.<name>`."""
    state = optimiser.state_dict()["state"]
    return {
        f"{index}.{name}": torch.as_tensor(value).detach().cpu().numpy().copy()
        for index, values in state.items()
        for name, value in values.items()
    }


def load_optimiser(optimiser: torch.optim.Optimizer, arrays: Mapping[str, np.ndarray]) -> None:
    """Inverse of :func:`optimiser_arrays`."""
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in arrays.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = torch.as_tensor(value)
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": state, "param_groups": groups})


def batch_arrays(batch: Batch) -> Arrays:
    return {name: part.cpu().numpy() for name, part in zip(batch._fields, batch)}


def load_batch(arrays: Mapping[str, np.ndarray], device: torch.device) -> Batch:
    """Inverse of :func:`batch_arrays`."""
    return Batch(*(torch.as_tensor(arrays[name], device=device) for name in Batch._fields))


def prefixed(prefix: str, arrays: Mapping[str, np.ndarray]) -> Arrays:
    """The same arrays under `prefix/name`."""
    return {f"{prefix}/{name}": value for name, value in arrays.items()}


def under(prefix: str, arrays: Mapping[str, np.ndarray]) -> Arrays:
    """Inverse of :func:`prefixed`: those below `prefix/`, without it."""
    return {name[len(prefix) + 1 :]: value for name, value in arrays.items() if name.startswith(prefix + "/")}
