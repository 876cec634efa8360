"""Pick and place: grasp a block, lift it, put it down on a ledge and let go."""

from __future__ import annotations

from typing import Any

import numpy as np

from irl_ros_sim.tasks.tabletop import BLOCK, CENTRE, SUCCESS_DISTANCE, TABLE_COLOUR, TABLE_FRICTION, TABLE_TOP
from irl_ros_sim.tasks.tabletop import TabletopEnv

LEDGE = 0.05
"""Height of the ledge above the table [m]: no block gets onto it without being lifted."""
LEDGE_Y = (0.05, 0.25)
BLOCK_Y, GOAL_Y = (-0.2, -0.05), (0.1, 0.2)
SPREAD_X = 0.1
"""Block and goal lie up to this far from the table's middle along x [m]."""
RELEASED = BLOCK + 0.01
"""Opening of the gripper [m] that holds no block any more."""
AT_REST = 0.02
"""[m/s]"""


class PickPlaceEnv(TabletopEnv):
    """Success: at the end the block lies at rest within 5 cm of the goal, untouched, and the gripper is open."""

    task = "pick_place"
    solver_iterations = 20

    def build(self) -> None:
        super().build()
        self.arm.couple_fingers()
        half = [0.2, (LEDGE_Y[1] - LEDGE_Y[0]) / 2, LEDGE / 2]
        middle = [CENTRE[0], sum(LEDGE_Y) / 2, TABLE_TOP + LEDGE / 2]
        self.ledge = self.arm.add_body(half, middle, 0.0, TABLE_COLOUR, TABLE_FRICTION)

    def draw(self) -> tuple[np.ndarray, np.ndarray]:
        x = CENTRE[0] + self.np_random.uniform(-SPREAD_X, SPREAD_X, 2)
        height = TABLE_TOP + BLOCK / 2
        block = np.array([x[0], self.np_random.uniform(*BLOCK_Y), height])
        return block, np.array([x[1], self.np_random.uniform(*GOAL_Y), height + LEDGE])

    def judge(self) -> tuple[float, dict[str, Any]]:
        distance = self.distance()
        success = distance < SUCCESS_DISTANCE and self.is_released()
        return -distance, {"success": success, "distance": distance}

    def is_released(self) -> bool:
        """Whether the block is at rest, nothing of the arm touches it, and the gripper is open."""
        open_wide = self.arm.finger_state()[0].sum() > RELEASED
        return bool(open_wide and self.arm.body_speed(self.block) < AT_REST and not self.arm.touches(self.block))
