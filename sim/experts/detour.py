"""Who goes around discs: for detour and navigate2d."""

from __future__ import annotations

from typing import Any

import numpy as np

from irl_ros_sim.discs import DETOUR_RADIUS, NAVIGATION_OBSTACLES, Disc, blocking, shorter_side, tangent
from irl_ros_sim.experts.reach import ReachExpert


class DetourExpert(ReachExpert):
    """Goes straight to the goal where it may; else past the first disc in the way, on its shorter side.

    It has a liking of its own in every episode for how far it stays away. A side
    once chosen is kept until the disc is passed.
    """

    clearance = (0.03, 0.06)
    """Range of how far it stays away from a disc [m]."""

    def __init__(self, *arguments: Any, **human: float):
        """As :class:`ReachExpert`."""
        super().__init__(*arguments, **human)
        self._known = NAVIGATION_OBSTACLES if "obstacle_position" not in self._contract.slices else None

    def reset(self) -> None:
        super().reset()
        self._away = self._rng.uniform(*self.clearance)
        self._side: tuple[int, float] | None = None

    def velocity(self, observation: np.ndarray) -> np.ndarray:
        to_goal = self._contract.field(observation, "end_effector_to_goal")
        hand = self._contract.field(observation, "end_effector_position")[:2]
        discs = self._discs(observation)
        first = blocking(hand, hand + to_goal[:2], discs)
        if first is None:
            self._side = None
            return super().velocity(observation)
        if self._side is None or self._side[0] != first:
            self._side = first, shorter_side(hand, hand + to_goal[:2], discs[first])
        heading = tangent(hand, discs[first], self._side[1])
        way = np.array([*heading, to_goal[2] / max(float(np.linalg.norm(to_goal[:2])), 1e-6)])
        return self.speed * way / np.linalg.norm(way)

    def _discs(self, observation: np.ndarray) -> list[Disc]:
        """What to go around, widened by how far this demonstrator stays away."""
        known = self._known
        if known is None:
            x, y, _ = self._contract.field(observation, "obstacle_position")
            known = (Disc(x, y, DETOUR_RADIUS),)
        return [disc._replace(radius=disc.radius + self._away) for disc in known]
