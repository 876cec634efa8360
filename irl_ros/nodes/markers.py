"""What the operator sees in RViz: the end effector's path since enable, coloured by the learned reward."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from geometry_msgs.msg import Point
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

LINE_WIDTH = 0.006  # [m]


def path(points: Sequence[np.ndarray], rewards: Sequence[float], frame: str) -> MarkerArray:
    """End effector positions [m], each (3,), in `frame`; red is the lowest reward among them, green the highest."""
    marker = Marker(ns="path", id=0, type=Marker.LINE_STRIP, action=Marker.ADD if len(points) > 1 else Marker.DELETE)
    marker.header.frame_id = frame
    marker.pose.orientation.w = 1.0
    marker.scale.x = LINE_WIDTH
    marker.points = [Point(x=float(p[0]), y=float(p[1]), z=float(p[2])) for p in points]
    marker.colors = [ColorRGBA(r=1.0 - g, g=g, b=0.1, a=1.0) for g in _relative(rewards)]
    return MarkerArray(markers=[marker])


def _relative(rewards: Sequence[float]) -> list[float]:
    """Each reward's place between the lowest (0) and the highest (1)."""
    values = np.array(rewards, dtype=np.float64)
    if not len(values):
        return []
    spread = float(np.ptp(values))
    return ((values - values.min()) / spread if spread > 0 else np.ones_like(values)).tolist()
