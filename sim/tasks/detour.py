"""Detour: reach a goal while keeping out of a zone that nothing but the demonstrations respects."""

from __future__ import annotations

from typing import Any

import numpy as np

from irl_ros.contract import ContractError, did_you_mean
from irl_ros_sim.discs import DETOUR_RADIUS, Disc
from irl_ros_sim.tasks.keep_out import KeepOutEnv

START = (0.0, -0.25, 0.0), (0.07, 0.04, 0.1)
GOAL = (0.0, 0.25, 0.0), (0.07, 0.04, 0.1)
OBSTACLE = {
    "": ((-0.05, 0.0, 0.0), (0.02, 0.03, 0.0)),
    "obstacle_moved": ((0.05, 0.0, 0.0), (0.02, 0.03, 0.0)),
}
"""By variant. Middle and half width [m] of the box that it is drawn from, from the middle of the robot's workspace. As
the task is, the shorter way leads past the far side nearly always; with the obstacle moved, past the near one."""
PILLAR = [0.85, 0.3, 0.2, 0.45]
HEIGHT = 0.3  # [m] of the pillar in pictures; what it forbids has no end


class DetourEnv(KeepOutEnv):
    """The hand starts on the right of the workspace, the goal lies on the left, and between them stands a pillar.

    The end effector shall not be inside the pillar, at whatever height; it stops nothing. Its place is published as
    the obstacle's, its width is not. Variant obstacle_moved: it stands 10 cm farther from the robot, and the shorter way
    leads past its other side.
    """

    task = "detour"
    camera = (1.25, -0.75, 1.05), (0.3, 0.0, 0.25)
    variants = tuple(OBSTACLE)

    def __init__(self, variant: str = "", **options: Any):
        """`variant`: where the obstacle stands, see OBSTACLE; `options` as in :class:`ArmEnv`."""
        if variant not in OBSTACLE:
            raise ContractError(f"task detour: unknown variant {variant!r}.{did_you_mean(variant, self.variants)}")
        self._obstacle_box = OBSTACLE[variant]
        super().__init__(**options)
        self.obstacle = np.zeros(3)
        self._marker: int | None = None

    def begin(self) -> np.ndarray:
        start = self._draw(*START)
        self.goal, self.obstacle = self._draw(*GOAL), self._draw(*self._obstacle_box)
        return self.kinematics.solve(np.array(self.contract.robot.home), start, iterations=200)

    def _draw(self, middle: tuple[float, ...], half: tuple[float, ...]) -> np.ndarray:
        """A place [m], shape (3,), in a box about the middle of the robot's workspace."""
        robot = self.contract.robot
        workspace = (np.array(robot.workspace_lower) + robot.workspace_upper) / 2
        return workspace + middle + self.np_random.uniform(-1.0, 1.0, 3) * half

    def inside(self, hand: np.ndarray) -> bool:
        return Disc(self.obstacle[0], self.obstacle[1], DETOUR_RADIUS).contains(hand)

    def measured(self) -> dict[str, np.ndarray]:
        return {**super().measured(), "obstacle_position": self.obstacle}

    def show(self) -> None:
        if self._marker is None:
            self._marker = self.arm.add_marker(self.goal)
            self._pillar = self.arm.add_cylinder(self.obstacle[:2], DETOUR_RADIUS, HEIGHT, PILLAR)
        self.arm.move_marker(self._marker, self.goal)
        self.arm.move_marker(self._pillar, np.array([*self.obstacle[:2], HEIGHT / 2]))
