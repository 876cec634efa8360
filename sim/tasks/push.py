"""Push: move a block on a table to a mark, with closed fingers."""

from __future__ import annotations

from typing import Any

import numpy as np

from irl_ros_sim.tasks.tabletop import BLOCK, CENTRE, SUCCESS_DISTANCE, TABLE_TOP, TabletopEnv

SPREAD = 0.15
"""Block and mark lie up to this far from the table's middle along x and y [m]."""
MIN_DISTANCE = 0.06
"""Between block and mark at the start [m]: doing nothing never succeeds."""


class PushEnv(TabletopEnv):
    """Success: the block's centre within 5 cm of the mark at the end."""

    task = "push"
    solver_iterations = 50

    def draw(self) -> tuple[np.ndarray, np.ndarray]:
        while True:
            block, mark = CENTRE + self.np_random.uniform(-SPREAD, SPREAD, (2, 2))
            if np.linalg.norm(mark - block) > MIN_DISTANCE:
                return tuple(np.array([*place, TABLE_TOP + BLOCK / 2]) for place in (block, mark))

    def place(self) -> None:
        super().place()
        if self.contract.robot.gripper is not None:
            self.arm.reset_gripper(self.contract.robot.gripper.opening_range[0])

    def judge(self) -> tuple[float, dict[str, Any]]:
        distance = self.distance()
        return -distance, {"success": distance < SUCCESS_DISTANCE, "distance": distance}
