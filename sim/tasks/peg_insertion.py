"""Peg insertion: put the peg that the hand holds into a hole with 2 mm of clearance (arXiv 1603.00448, section 6.1)."""

from __future__ import annotations

from typing import Any

import numpy as np

from irl_ros_sim.tasks.arm_env import ArmEnv

HOLE = 0.022  # [m] side of the square hole; the peg is 20 mm thick
HEIGHT = 0.06  # [m] of the block
DEPTH = 0.04  # [m] from the block's top to the goal
BLOCK = 0.12  # [m] side of the block
FLOOR = 0.01  # [m] from the table to the hole's bottom
HOLE_RANGE = 0.05  # [m] from the middle of the workspace, along x and y
START_RANGE = 0.04  # [m] from the home pose, along each axis
SUCCESS_DISTANCE = 0.01
FRICTION = 0.3
DOWN = (1.0, 0.0, 0.0, 0.0)


class PegInsertionEnv(ArmEnv):
    """A block with a hole somewhere on the table, the peg's tip above it, pointing down.

    The goal is where the tip rests on the hole's bottom; success: within 1 cm of it, so at least 4 cm deep in the
    hole. The env's own reward is minus that distance [m].
    """

    task = "peg_insertion"
    solver_iterations = 20
    collisions = True
    camera = (1.0, -0.6, 0.5), (0.4, 0.0, 0.2)

    def build(self) -> None:
        self.arm.compensate_weight()
        robot = self.contract.robot
        self._middle = (np.array(robot.workspace_lower) + np.array(robot.workspace_upper))[:2] / 2
        self._walls = [(self.arm.add_body(half, at, 0.0, WOOD, FRICTION), np.array(at)) for half, at in walls()]
        self.goal = np.array([*self._middle, HEIGHT - DEPTH])

    def begin(self) -> np.ndarray:
        home = np.array(self.contract.robot.home)
        hole = self._middle + self.np_random.uniform(-HOLE_RANGE, HOLE_RANGE, 2)
        self.goal = np.array([*hole, HEIGHT - DEPTH])
        tip = self.kinematics.position(home) + self.np_random.uniform(-START_RANGE, START_RANGE, 3)
        return self.kinematics.solve(home, tip, DOWN, iterations=200)

    def place(self) -> None:
        for body, offset in self._walls:
            self.arm.place_body(body, offset + [*self.goal[:2], 0.0])

    def vary(self, drawn: dict[str, float]) -> None:
        for body, _ in self._walls:
            self.arm.set_friction(body, FRICTION * drawn.get("friction", 1.0))

    def judge(self) -> tuple[float, dict[str, Any]]:
        distance = float(np.linalg.norm(self.end_effector() - self.goal))
        return -distance, {"success": distance < SUCCESS_DISTANCE, "distance": distance}

    def measured(self) -> dict[str, np.ndarray]:
        return {**super().measured(), "goal_position": self.goal}


WOOD = (0.55, 0.68, 0.85, 1.0)


def walls() -> list[tuple[list[float], list[float]]]:
    """Half sides and centres [m] of the boxes around a hole at x = y = 0: its floor and four walls."""
    outer, thick, high = BLOCK / 2, (BLOCK - HOLE) / 4, (HEIGHT - FLOOR) / 2
    away, up = HOLE / 2 + thick, FLOOR + high
    long = [([outer, thick, high], [0.0, side * away, up]) for side in (-1, 1)]
    short = [([thick, HOLE / 2, high], [side * away, 0.0, up]) for side in (-1, 1)]
    return [([outer, outer, FLOOR / 2], [0.0, 0.0, FLOOR / 2]), *long, *short]
