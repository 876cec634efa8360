"""What the operator sees in RViz and Foxglove: the demonstrated paths and the gate's box; the driven path by its reward,
and where the policy would go. Colours differ for colour-blind eyes too."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from geometry_msgs.msg import Point
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

LINE_WIDTH = 0.006  # [m]
THIN = 0.003  # [m]
DEMONSTRATION = ColorRGBA(r=0.90, g=0.62, b=0.0, a=0.8)
PREDICTION = ColorRGBA(r=0.34, g=0.71, b=0.91, a=1.0)
LIMIT = ColorRGBA(r=0.84, g=0.37, b=0.0, a=0.6)
CIVIDIS = np.array([(0.0, 0.13, 0.30), (0.34, 0.36, 0.43), (0.65, 0.61, 0.46), (1.0, 0.92, 0.27)])
"""Matplotlib's colour map at 0, 1/3, 2/3 and 1: from dark blue to yellow."""


def live(path: Sequence[np.ndarray], rewards: Sequence[float], predicted: Sequence[np.ndarray], frame: str) -> MarkerArray:
    """The driven path since enable, end effector positions (3,) [m] coloured by reward from the lowest among them (dark)
    to the highest (yellow), and the predicted one."""
    driven = _marker("path", Marker.LINE_STRIP, path, frame, LINE_WIDTH)
    driven.colors = [ColorRGBA(r=r, g=g, b=b, a=1.0) for r, g, b in colours(rewards).tolist()]
    ahead = _marker("predicted", Marker.LINE_STRIP, predicted, frame, THIN)
    ahead.color = PREDICTION
    return MarkerArray(markers=[driven, ahead])


def scene(demonstrated: np.ndarray, box: tuple[Sequence[float], Sequence[float]] | None, frame: str) -> MarkerArray:
    """What stands still: demonstrated paths (N, P, 3) [m], and the edges of the box that the gate holds."""
    shown = [point for path in demonstrated for pair in itertools.pairwise(path) for point in pair]
    demonstrations = _marker("demonstrations", Marker.LINE_LIST, shown, frame, THIN)
    demonstrations.color = DEMONSTRATION
    edges = _marker("gate", Marker.LINE_LIST, [] if box is None else box_edges(*box), frame, THIN)
    edges.color = LIMIT
    return MarkerArray(markers=[demonstrations, edges])


def box_edges(lower: Sequence[float], upper: Sequence[float]) -> list[np.ndarray]:
    """The ends of a box's twelve edges, one after the other, 24 points (3,)."""
    corners = [np.array(corner, dtype=float) for corner in itertools.product(*zip(lower, upper))]
    pairs = [pair for pair in itertools.combinations(corners, 2) if np.count_nonzero(pair[0] != pair[1]) == 1]
    return [corner for pair in pairs for corner in pair]


def colours(rewards: Sequence[float]) -> np.ndarray:
    """A colour (r, g, b) for each reward by its place between the lowest and the highest, shape (n, 3)."""
    values = np.array(rewards, dtype=np.float64)
    if not len(values):
        return np.zeros((0, 3))
    spread = float(np.ptp(values))
    place = (values - values.min()) / spread if spread > 0 else np.ones_like(values)
    return np.stack([np.interp(place, np.linspace(0, 1, len(CIVIDIS)), channel) for channel in CIVIDIS.T], axis=-1)


def _marker(name: str, kind: int, points: Sequence[np.ndarray], frame: str, width: float) -> Marker:
    """Lines through the points; fewer than two: whatever of that name was shown goes away."""
    marker = Marker(ns=name, id=0, type=kind, action=Marker.ADD if len(points) > 1 else Marker.DELETE)
    marker.header.frame_id = frame
    marker.pose.orientation.w = 1.0
    marker.scale.x = width
    marker.points = [Point(x=float(p[0]), y=float(p[1]), z=float(p[2])) for p in points]
    return marker
