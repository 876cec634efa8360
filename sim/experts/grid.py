"""Who moves from cell to cell."""

from __future__ import annotations

from typing import Any

import numpy as np

from irl_ros.contract import Contract, Grid
from irl_ros_sim.experts.human import Human


class GridExpert(Human):
    """Moves from cell to cell on a shortest path around the keep-out region.

    Which of the shortest paths is chance, with a liking for going straight on. With probability `overshoot` it slides
    past the goal by a cell once and comes back.
    """

    straight_on = 0.7
    """Probability of going on in the last direction where that is a shortest way."""
    steadiness = 0.5
    """How much of `noise` is left: who aims at a cell trembles less than who aims at all of space."""

    def __init__(self, contract: Contract, *arguments: Any, **human: float):
        """As :class:`Human`; the contract's task has a grid."""
        self._grid = contract.task.grid
        self._way = way_to_goal(self._grid)
        super().__init__(contract, *arguments, **human)

    def reset(self) -> None:
        super().reset()
        self._move = 0
        self._slides = self._rng.random() < self._overshoot

    def act(self, observation: np.ndarray) -> np.ndarray:
        grid = self._grid
        position = self._contract.field(observation, "end_effector_position")
        cell = int(grid.state(position))
        move = 0 if self._rests() else self._next_move(cell)
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
