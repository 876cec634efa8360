"""What the tasks with a block on a table share: the scene, its friction and masses, and what its topics measure."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np

from irl_ros_sim.tasks.arm_env import ArmEnv

TABLE_TOP = 0.1
"""Height of the table's top above the base frame's origin [m]."""
CENTRE = np.array([0.5, 0.0])
"""Middle of the part of the table where blocks and marks lie, in the base frame [m]."""
BLOCK = 0.04
"""Side of the block [m]."""
BLOCK_MASS, BLOCK_FRICTION, TABLE_FRICTION = 0.2, 0.5, 0.8
"""[kg] and coefficients; Bullet multiplies those of the two that touch, and the Panda's fingers have 1."""
PARKED = (0.5, 0.0, 2.0)
"""Where the block is while the world is reset [m], touching nothing."""
POINTING_DOWN = (1.0, 0.0, 0.0, 0.0)
START_HEIGHT, START_NOISE = 0.12, 0.05
"""Where the end effector starts: this far above the table's middle, give or take the noise in the plane [m]."""
SUCCESS_DISTANCE = 0.05
TABLE_COLOUR, BLOCK_COLOUR, MARK_COLOUR = (0.72, 0.6, 0.46, 1), (0.85, 0.32, 0.2, 1), (0.1, 0.7, 0.3, 0.9)


class TabletopEnv(ArmEnv):
    """A table before the arm, a block on it and a goal for the block's centre.

    The env's own reward is minus the distance from the block to its goal [m].
    """

    collisions = True

    def __init__(self, **options: Any):
        """`options` as in :class:`ArmEnv`."""
        self.start = self.goal = np.array([*CENTRE, TABLE_TOP + BLOCK / 2])
        self._mark: int | None = None
        super().__init__(**options)

    def build(self) -> None:
        half, height = BLOCK / 2, TABLE_TOP / 2
        self.table = self.arm.add_body([0.3, 0.4, height], [0.55, 0.0, height], 0.0, TABLE_COLOUR, TABLE_FRICTION)
        self.block = self.arm.add_body([half] * 3, PARKED, BLOCK_MASS, BLOCK_COLOUR, BLOCK_FRICTION)

    def begin(self) -> np.ndarray:
        self.start, self.goal = self.draw()
        hand = np.array([*CENTRE, TABLE_TOP + START_HEIGHT])
        hand[:2] += self.np_random.uniform(-START_NOISE, START_NOISE, 2)
        return self.kinematics.solve(np.array(self.contract.robot.home), hand, POINTING_DOWN, iterations=100)

    @abstractmethod
    def draw(self) -> tuple[np.ndarray, np.ndarray]:
        """Where the block's centre starts, and its goal [m]."""

    def place(self) -> None:
        self.arm.forget_contacts()
        self.arm.place_body(self.block, self.start)

    def vary(self, drawn: dict[str, float]) -> None:
        self.arm.set_mass(self.block, BLOCK_MASS * drawn.get("mass", 1.0))
        self.arm.set_friction(self.block, BLOCK_FRICTION * drawn.get("friction", 1.0))

    def measured(self) -> dict[str, np.ndarray]:
        position, orientation = self.arm.body_pose(self.block)
        return {
            **super().measured(),
            **{"object_position": position, "object_orientation": orientation, "goal_position": self.goal},
        }

    def distance(self) -> float:
        """From the block's centre to its goal [m]."""
        return float(np.linalg.norm(self.arm.body_pose(self.block)[0] - self.goal))

    def show(self) -> None:
        """A green plate under the goal, as large as the success distance."""
        at = self.goal - [0.0, 0.0, BLOCK / 2 - 0.001]
        if self._mark is None:
            half = np.array([0.035, 0.035, 0.001])
            self._mark = self.arm.add_box(at - half, at + half, MARK_COLOUR)
        self.arm.move_marker(self._mark, at)
