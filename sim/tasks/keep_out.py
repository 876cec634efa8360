"""What tasks with a forbidden zone share: a look at the end effector now and then, and a memory of what was seen."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np

from irl_ros_sim.tasks.arm_env import ArmEnv

SUCCESS_DISTANCE = 0.05
LOOK = 12
"""Physics steps between two looks at where the end effector is: 20 Hz."""


class KeepOutEnv(ArmEnv):
    """A goal to be at in the end, and a zone that the end effector must never be in.

    Success: within 5 cm of the goal, and never inside the zone. The env's own reward is minus the distance to the goal
    [m], and another -1 while it is inside.
    """

    def __init__(self, **options: Any):
        """`options` as in :class:`ArmEnv`."""
        self._trespassed = False
        super().__init__(**options)
        self.goal = np.array(self.contract.robot.workspace_upper)

    @abstractmethod
    def inside(self, hand: np.ndarray) -> bool:
        """Whether the end effector at `hand` [m], shape (3,), is inside the zone."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        self._trespassed = False
        return super().reset(seed=seed, options=options)

    def judge(self) -> tuple[float, dict[str, Any]]:
        hand = self.end_effector()
        inside = self._look(hand)
        distance = float(np.linalg.norm(hand - self.goal))
        success = distance < SUCCESS_DISTANCE and not self._trespassed
        return -distance - inside, {"success": success, "distance": distance, "trespassed": self._trespassed}

    def _look(self, hand: np.ndarray) -> bool:
        """Whether the hand [m] is inside the zone; remembers that it was."""
        inside = self.inside(hand)
        self._trespassed |= inside
        return inside

    def _advance(self, substeps: int) -> None:
        for done in range(0, substeps, LOOK):
            self.arm.step(min(LOOK, substeps - done))
            self._look(self.end_effector())

    def measured(self) -> dict[str, np.ndarray]:
        return {**super().measured(), "goal_position": self.goal}
