"""The package's simulated tasks as envs that are closed again, also when a test fails."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import gymnasium
import irl_ros_sim  # noqa: F401  registers the envs

from irl_ros.contract import Contract


@contextlib.contextmanager
def made(task: str, **options) -> Iterator[gymnasium.Env]:
    """The env of a task by its name."""
    env = gymnasium.make(Contract.load("", task).task.env, disable_env_checker=True, **options).unwrapped
    try:
        yield env
    finally:
        env.close()
