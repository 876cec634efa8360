"""Scripted demonstrators: as imperfect as a person at a joystick. They need no simulator, only kinematics."""

from __future__ import annotations

import importlib
from typing import Protocol

import numpy as np

from irl_ros.contract import Contract, ContractError, Grid
from irl_ros.kinematics import Kinematics


DEMONSTRATORS = {
    "irl_ros/PegInsertion-v0": "irl_ros_sim.demonstrators_peg_insertion:PegExpert",
    "irl_ros/Detour-v0": "irl_ros_sim.demonstrators_detour:DetourExpert",
    "irl_ros/Navigate2D-v0": "irl_ros_sim.demonstrators_detour:DetourExpert",
    "irl_ros/Push-v0": "irl_ros_sim.demonstrators_block:PushExpert",
    "irl_ros/Push-v0": "irl_ros_sim.demonstrators_block:PushExpert",
    "irl_ros/PickPlace-v0": "irl_ros_sim.demonstrators_block:PickPlaceExpert",
}
"""Of env ids whose demonstrator lies in a module of its own: `module:class`."""


class Expert(Protocol):
    """A demonstrator of a task."""

    def reset(self) -> None:
        """Forget the last episode; call before each one."""

    def act(self, observation: np.ndarray) -> np.ndarray:
        """Action in [-1, 1], shape (action_size,), for an observation of the contract, shape (observation_size,)."""


def make_expert(contract: Contract, kinematics: Kinematics, rng: np.random.Generator, **human: float) -> Expert:
    """The demonstrator of the contract's task; `human`: noise, pause_rate, overshoot, reaction."""
    own = DEMONSTRATORS.get(contract.task.env.rpartition(":")[2])
    if own is not None:
        module, _, name = own.partition(":")
        return getattr(importlib.import_module(module), name)(contract, kinematics, rng, **human)
    if contract.task.grid is not None:
        return GridExpert(contract, contract.task.grid, rng, **human)
    if "end_effector_to_goal" in contract.slices and not contract.task.moves_end_effector:
        return ReachExpert(contract, kinematics, rng, **human)
    raise ContractError(
        f"no script demonstrates task {contract.task.name}: they know reach and tasks with a grid; demonstrate it "
        "yourself with mode joy or keyboard"
    )


class ReachExpert:
    """Moves the end effector towards the goal by differential inverse kinematics, human-like.

    It reacts late (`reaction` [s]), its hand trembles (`noise`, standard deviation of the action, low-pass filtered),
    it now and then pauses (`pause_rate` [1/s], up to half a second) and overshoots: it aims past the goal by a
    fraction `overshoot` of the starting distance until it first comes near.
    """

    gain = 2.5  # [1/s]: distance to the goal → speed
    speed = 0.35  # [m/s]

    def __init__(
        self,
        contract: Contract,
        kinematics: Kinematics,
        rng: np.random.Generator,
        noise: float = 0.1,
        pause_rate: float = 0.15,
        overshoot: float = 0.1,
        reaction: float = 0.15,
    ):
        self._contract, self._kinematics, self._rng = contract, kinematics, rng
        self._noise, self._pause_rate, self._overshoot = noise, pause_rate, overshoot
        self._reaction = reaction
        self.reset()

    def reset(self) -> None:
        """Forget the last episode; call before each one."""
        rate = self._contract.task.rate
        self._still = round(self._rng.uniform(0.0, 2 * self._reaction) * rate)
        self._aim: np.ndarray | None = None
        self._tremble = np.zeros(self._contract.action_size)

    def act(self, observation: np.ndarray) -> np.ndarray:
        """Action in [-1, 1], shape (action_size,), for an observation of the contract, shape (observation_size,)."""
        field, task = self._contract.field, self._contract.task
        self._tremble = 0.7 * self._tremble + 0.7 * self._rng.normal(0.0, self._noise, self._contract.action_size)
        if self._rng.random() < self._pause_rate * task.period:
            self._still = round(self._rng.uniform(0.1, 0.5) * task.rate)
        if self._still > 0:
            self._still -= 1
            return np.zeros(self._contract.action_size)
        step = self.velocity(observation) * task.period
        if not task.moves_end_effector:
            step = self._kinematics.displacement(field(observation, "joint_position"), step)
        calm = min(1.0, float(np.linalg.norm(field(observation, "end_effector_to_goal"))) / 0.1)
        return np.clip(step / self._contract.max_step + self._tremble * calm, -1.0, 1.0)

    def velocity(self, observation: np.ndarray) -> np.ndarray:
        """How it wants to move the end effector [m/s], shape (3,)."""
        to_goal = self._contract.field(observation, "end_effector_to_goal")
        velocity = self.gain * (to_goal + self._lead(to_goal))
        return velocity * min(1.0, self.speed / max(float(np.linalg.norm(velocity)), 1e-9))

    def _lead(self, to_goal: np.ndarray) -> np.ndarray:
        """Where to aim, relative to the goal [m]: past it, until the hand first comes near."""
        if self._aim is None:
            self._aim = self._overshoot * to_goal
        if np.linalg.norm(to_goal + self._aim) < 0.04:
            self._aim = np.zeros(3)
        return self._aim


class GridExpert:
    """Moves from cell to cell on a shortest path around the keep-out region, human-like.

    Which of the shortest paths is chance, with a liking for going straight on. It reacts late (`reaction` [s]), pauses
    (`pause_rate` [1/s], up to half a second), trembles (`noise`, standard deviation of the action), and with
    probability `overshoot` slides past the goal by a cell once and comes back.
    """

    straight_on = 0.7
    """Probability of going on in the last direction where that is a shortest way."""
    steadiness = 0.5
    """How much of `noise` is left: who aims at a cell trembles less than who aims at all of space."""

    def __init__(
        self,
        contract: Contract,
        grid: Grid,
        rng: np.random.Generator,
        noise: float = 0.1,
        pause_rate: float = 0.15,
        overshoot: float = 0.1,
        reaction: float = 0.15,
    ):
        self._contract, self._grid, self._rng = contract, grid, rng
        self._noise, self._pause_rate, self._overshoot, self._reaction = noise, pause_rate, overshoot, reaction
        self._way = way_to_goal(grid)
        self.reset()

    def reset(self) -> None:
        """Forget the last episode; call before each one."""
        self._still = round(self._rng.uniform(0.0, 2 * self._reaction) * self._contract.task.rate)
        self._move = 0
        self._slides = self._rng.random() < self._overshoot

    def act(self, observation: np.ndarray) -> np.ndarray:
        """Action in [-1, 1], shape (3,), for an observation of the contract, shape (observation_size,)."""
        grid, task = self._grid, self._contract.task
        position = self._contract.field(observation, "end_effector_position")
        cell = int(grid.state(position))
        if self._rng.random() < self._pause_rate * task.period:
            self._still = round(self._rng.uniform(0.1, 0.5) * task.rate)
        self._still, resting = max(self._still - 1, 0), self._still > 0
        move = 0 if resting else self._next_move(cell)
        way = (grid.centres[grid.next_state[cell, move]] - position) / self._contract.max_step
        tremble = self.steadiness * self._rng.normal(0.0, self._noise, 3)
        return np.clip(way + tremble, -1.0, 1.0)

    def _next_move(self, cell: int) -> int:
        """Stay at the goal, unless it slides on; else the next move of a shortest path."""
        following = self._grid.next_state[cell]
        if cell == self._grid.goal_state:
            onward, self._move = following[self._move], 0 if not self._slides else self._move
            self._slides = False
            return self._move if onward != cell and not self._grid.keep_out_cells[onward] else 0
        ways = np.flatnonzero(self._way[following] == self._way[following].min())
        if self._move not in ways or self._rng.random() > self.straight_on:
            self._move = int(self._rng.choice(ways))
        return self._move


def way_to_goal(grid: Grid) -> np.ndarray:
    """Cells on a shortest path from each cell to the goal, both counted, shape (n_states,); keep-out cells count a lot.
    """
    cost = np.where(grid.keep_out_cells, float(grid.n_states), 1.0)
    way = np.full(grid.n_states, np.inf)
    way[grid.goal_state] = 1.0
    for _ in range(grid.n_states):
        way = np.minimum(way, cost + way[grid.next_state].min(axis=1))
    return way
