"""What a resumed training needs, as flat named arrays: modules, optimisers, batches. No pickle."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from irl_ros.learning.batch import Batch

Arrays = dict[str, np.ndarray]


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
