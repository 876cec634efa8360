"""Upright discs that an end effector must keep out of: where they are and how to go around them. No simulator here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Disc(NamedTuple):
    """Centre in the base frame's horizontal plane and radius, all [m]; it forbids every height."""

    x: float
    y: float
    radius: float

    @property
    def centre(self) -> np.ndarray:
        """Shape (2,)."""
        return np.array([self.x, self.y])

    def contains(self, position: np.ndarray) -> bool:
        """Whether a position [m], shape (2,) or (3,), lies inside."""
        return bool(np.hypot(position[0] - self.x, position[1] - self.y) < self.radius)


NAVIGATION_OBSTACLES = (Disc(-0.05, 0.22, 0.11), Disc(0.0, -0.15, 0.13), Disc(0.24, 0.08, 0.1))
"""Obstacles of navigate2d, as wide as the middle of the point mass must keep out of."""
DETOUR_RADIUS = 0.08
"""Of the zone in detour [m]."""


def blocking(start: np.ndarray, end: np.ndarray, discs: Sequence[Disc]) -> int | None:
    """The first of `discs` that the straight way between two points [m], shape (2,), crosses, by index."""
    way = end - start
    length = float(np.linalg.norm(way))
    if length < 1e-9:
        return None
    crossed = {}
    for k, disc in enumerate(discs):
        along = float((disc.centre - start) @ way) / length
        aside = np.linalg.norm(start + np.clip(along, 0.0, length) * way / length - disc.centre)
        if along > 0.0 and aside < disc.radius:
            crossed[k] = along
    return min(crossed, key=crossed.get) if crossed else None


def shorter_side(start: np.ndarray, end: np.ndarray, disc: Disc) -> float:
    """1.0 where the straight way leaves the disc's centre on its right, so that the left is shorter; else -1.0."""
    way, to_centre = end - start, disc.centre - start
    return 1.0 if way[0] * to_centre[1] - way[1] * to_centre[0] < 0.0 else -1.0


def tangent(start: np.ndarray, disc: Disc, side: float) -> np.ndarray:
    """Unit vector, shape (2,), past `disc` on its left (`side` 1.0) or right (-1.0); from inside it leads out."""
    to_centre = disc.centre - start
    distance = max(float(np.linalg.norm(to_centre)), 1e-6)
    within = max(0.0, disc.radius - distance) / disc.radius
    angle = side * (np.arcsin(min(1.0, disc.radius / distance)) + within * np.pi / 2)
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.array([[cosine, -sine], [sine, cosine]]) @ to_centre / distance
