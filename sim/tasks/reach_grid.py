"""Reach on a grid: bring the end effector to the goal cell, around a region that it must keep out of."""

from __future__ import annotations

from typing import Any

import numpy as np

from irl_ros.contract import ContractError
from irl_ros_sim.tasks.keep_out import KeepOutEnv

START_NOISE = 0.005  # [m] along each axis
PILLAR = [0.85, 0.3, 0.2, 0.45]


class ReachGridEnv(KeepOutEnv):
    """Starts in a cell of the grid's start box, near its centre; the goal cell is always the same.

    Success: in the goal cell at the end, and never inside the keep-out region, at whatever height. The env's own
    reward is the grid's `task_reward`; ``info["distance"]`` [m] is from the goal cell's centre, in the plane.
    """

    task = "reach_grid"

    def __init__(self, **options: Any):
        """`options` as in :class:`ArmEnv`."""
        super().__init__(**options)
        if self.contract.task.grid is None:
            raise ContractError(f"task {self.contract.task.name}: its env needs a grid")
        self.grid = self.contract.task.grid
        self.goal = self.grid.centres[self.grid.goal_state]
        self._shown = False

    def begin(self) -> np.ndarray:
        cell = self.np_random.choice(self.grid.start_states)
        hand = self.grid.centres[cell] + self.np_random.uniform(-START_NOISE, START_NOISE, 3)
        return self.kinematics.solve(np.array(self.contract.robot.home), hand, iterations=200)

    def judge(self) -> tuple[float, dict[str, Any]]:
        hand = self.end_effector()
        state = int(self.grid.state(hand))
        self._look(hand)
        distance = float(np.linalg.norm((hand - self.goal)[:2]))
        success = state == self.grid.goal_state and not self._trespassed
        info = {"success": success, "distance": distance, "trespassed": self._trespassed}
        return float(self.grid.task_reward[state]), info

    def inside(self, hand: np.ndarray) -> bool:
        return bool(self.grid.keep_out_cells[self.grid.state(hand)])

    def show(self) -> None:
        if not self._shown:
            self.arm.add_marker(self.goal)
            inside = self.grid.centres[self.grid.keep_out_cells]
            half = self.grid.cell / 2
            lower, upper = inside.min(axis=0) - half, inside.max(axis=0) + half
            lower[2] = 0.0
            self.arm.add_box(lower, upper, PILLAR)
        self._shown = True
