"""A learned reward over planes through the goal: what a picture of it shows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from irl_ros.contract import Contract
from irl_ros.models.inference import Reward

PLANES = (("x", "z"), ("x", "y"))


class Slice(NamedTuple):
    """A reward over offsets of `thing` from the goal.

    offsets (k,) [m] along both axes, named in `axes`; rewards (k, k), first index along the second axis.
    """

    thing: str
    axes: tuple[str, str]
    offsets: np.ndarray
    rewards: np.ndarray


def reward_slice(
    reward: Reward, contract: Contract, observation: np.ndarray, axes: tuple[str, str], extent: float, n: int = 61
) -> Slice:
    """Reward of what the task moves resting at offsets up to ±extent [m] from the goal along `axes`.

    All else is as in `observation`; an object takes the end effector along.
    """
    offsets = np.linspace(-extent, extent, n)
    columns = ["xyz".index(name) for name in axes]
    values = np.empty((n, n))
    still, offset = np.zeros(contract.action_size), np.zeros(3)
    for row, second in enumerate(offsets):
        for column, first in enumerate(offsets):
            offset[columns] = first, second
            there = _moved(contract, observation, offset)
            values[row, column] = reward(there, still, there)
    return Slice(moved_thing(contract).replace("_", " "), axes, offsets, values)


def moved_thing(contract: Contract) -> str | None:
    """What the task brings to its goal: "end_effector" or "object"; None where no field says how far it is."""
    return next((thing for thing in ("end_effector", "object") if f"{thing}_to_goal" in contract.slices), None)


def _moved(contract: Contract, observation: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """The observation with the moved thing at rest at goal + offset (3,) [m]; joint positions stay."""
    moved, thing = observation.copy(), moved_thing(contract)
    going = {thing, "end_effector"}
    change = contract.field(observation, f"{thing}_to_goal") + offset
    for name, columns in contract.slices.items():
        start, arrow, end = name.partition("_to_")
        if arrow:
            moved[columns] += change * ((end in going) - (start in going))
        elif name.removesuffix("_position") in going:
            moved[columns] += change
    if "joint_velocity" in contract.slices:
        moved[contract.slices["joint_velocity"]] = 0.0
    return moved
