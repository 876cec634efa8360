"""The grid of cells that a task with known dynamics moves in."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from irl_ros import contract_checks as checks
from irl_ros.contract_lookup import ContractError

GRID_MOVES = {"stay": (0, 0), "+x": (1, 0), "-x": (-1, 0), "+y": (0, 1), "-y": (0, -1)}
"""The actions of a grid, in order: by how many cells each moves along the base frame's x and y."""
GRID_FEATURES = ("goal_and_zone", "cells")

CellBox = tuple[tuple[int, int], tuple[int, int]]
"""Opposite corner cells of a rectangle, both of them inside it."""


@dataclass(frozen=True)
class Grid:
    """A horizontal plane of square cells that the end effector moves in, with known dynamics.

    Cell (i, j) lies i cells along x and j along y from the corner `origin` [m] of the plane at `height` [m], all in
    the base frame; as a state it is the number i · shape[1] + j. A move off the edge stays.
    """

    origin: tuple[float, float]
    cell: float
    shape: tuple[int, int]
    height: float
    goal: tuple[int, int]
    keep_out: CellBox
    start: CellBox
    features: str = GRID_FEATURES[0]

    def __post_init__(self) -> None:
        far = checks.MAX_DISTANCE
        checks.check_tuple("grid", "origin", self.origin, 2, 2)
        checks.check_each("grid", "origin", self.origin, checks.check_number, -far, far, "m")
        checks.check_number("grid", "height", self.height, -far, far, "m")
        checks.check_number("grid", "cell", self.cell, 0.0, checks.MAX_STEP, "m", above=True)
        checks.check_choice("grid", "features", self.features, GRID_FEATURES)
        self._check_shape()
        for name in ("keep_out", "start"):
            checks.check_tuple("grid", name, getattr(self, name), 2, 2)
        for name, (low, high) in (("goal", (self.goal,) * 2), ("keep_out", self.keep_out), ("start", self.start)):
            for corner in (low, high):
                checks.check_tuple("grid", name, corner, 2, 2)
                checks.check_each("grid", name, corner, checks.check_integer, 0, checks.MAX_GRID_CELLS)
            if not all(0 <= a <= b < n for a, b, n in zip(low, high, self.shape)):
                raise ContractError(f"grid: {name} {low}, {high} is no cell or box of cells of a grid of {self.shape}")
        if self.keep_out_cells[self.goal_state]:
            raise ContractError(f"grid: the goal {self.goal} lies inside keep_out {self.keep_out}")
        if not len(self.start_states):
            raise ContractError(f"grid: start {self.start} has no cell outside keep_out {self.keep_out} but the goal")

    def _check_shape(self) -> None:
        checks.check_tuple("grid", "shape", self.shape, 2, 2)
        checks.check_each("grid", "shape", self.shape, checks.check_integer, 2, checks.MAX_GRID_CELLS // 2, "cells")
        most = checks.MAX_ONE_HOT_CELLS if self.features == "cells" else checks.MAX_GRID_CELLS
        if self.n_states > most:
            raise ContractError(f"grid: shape {self.shape} has {self.n_states} cells, valid are up to {most}")

    @property
    def n_states(self) -> int:
        return self.shape[0] * self.shape[1]

    @property
    def n_actions(self) -> int:
        return len(GRID_MOVES)

    @property
    def goal_state(self) -> int:
        return self.goal[0] * self.shape[1] + self.goal[1]

    @cached_property
    def cells(self) -> np.ndarray:
        """(i, j) of every state, int, shape (n_states, 2)."""
        return np.indices(self.shape).reshape(2, -1).T

    @cached_property
    def centres(self) -> np.ndarray:
        """Centre of every cell [m], shape (n_states, 3)."""
        plane = np.array(self.origin) + (self.cells + 0.5) * self.cell
        return np.column_stack([plane, np.full(self.n_states, self.height)])

    @cached_property
    def next_state(self) -> np.ndarray:
        """The cell that each move leads to, int, shape (n_states, n_actions)."""
        moved = self.cells[:, None] + np.array(list(GRID_MOVES.values()))
        inside = np.clip(moved, 0, np.array(self.shape) - 1)
        return inside[..., 0] * self.shape[1] + inside[..., 1]

    @cached_property
    def keep_out_cells(self) -> np.ndarray:
        """Which cells are forbidden, bool, shape (n_states,)."""
        return self._within(self.keep_out)

    @cached_property
    def start_states(self) -> np.ndarray:
        """Cells that an episode may start in, int."""
        allowed = self._within(self.start) & ~self.keep_out_cells
        allowed[self.goal_state] = False
        return np.flatnonzero(allowed)

    def _within(self, box: CellBox) -> np.ndarray:
        return ((self.cells >= box[0]) & (self.cells <= box[1])).all(axis=1)

    @cached_property
    def task_reward(self) -> np.ndarray:
        """What the task is about, shape (n_states,): 1 at the goal, −1 in the keep-out region. Never for learning."""
        reward = np.where(self.keep_out_cells, -1.0, 0.0)
        reward[self.goal_state] = 1.0
        return reward

    def state(self, position: np.ndarray) -> np.ndarray:
        """The cell below or above positions (…, 3) [m], int, shape (…); outside the grid the nearest one."""
        index = np.floor((position[..., :2] - self.origin) / self.cell).astype(int)
        inside = np.clip(index, 0, np.array(self.shape) - 1)
        return inside[..., 0] * self.shape[1] + inside[..., 1]
