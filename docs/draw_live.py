"""Draws docs/images/live.png: the MarkerArrays of a running policy_runner, by matplotlib, since RViz needs a display.

    irl_ros deploy --checkpoint runs/demo/checkpoint --episodes 3 &
    python docs/draw_live.py docs/images/live.png
"""

from __future__ import annotations

import sys
import time

import numpy as np
import rclpy
from matplotlib.figure import Figure
from rclpy.qos import DurabilityPolicy, QoSProfile
from visualization_msgs.msg import Marker, MarkerArray

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
WIDTH = 350.0  # points of line width for a metre


def collect(seconds: float) -> list[Marker]:
    """The scene, and the live markers with the longest driven path of so many seconds."""
    node, scenes, lives = rclpy.create_node("draw_live"), [], []
    node.create_subscription(MarkerArray, "policy_runner/scene", scenes.append, LATCHED)
    node.create_subscription(MarkerArray, "policy_runner/markers", lives.append, LATCHED)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        rclpy.spin_once(node, timeout_sec=0.1)
    best = max(lives, key=lambda live: min(len(live.markers[0].points), 12))
    return [*scenes[-1].markers, *best.markers]


def draw(markers: list[Marker], path: str) -> None:
    figure = Figure(figsize=(8, 6), dpi=110, layout="constrained")
    axes = figure.add_subplot(projection="3d")
    for marker in markers:
        points = np.array([(p.x, p.y, p.z) for p in marker.points]).reshape(-1, 3)
        step = 2 if marker.type == Marker.LINE_LIST else 1
        colours = [(c.r, c.g, c.b) for c in marker.colors] or [(marker.color.r, marker.color.g, marker.color.b)] * len(points)
        for k in range(0, len(points) - 1, step):
            width = max(1.2, WIDTH * marker.scale.x)
            axes.plot(*points[k : k + 2].T, color=colours[k], lw=width, label="" if k else marker.ns)
    axes.set(xlabel="x [m]", ylabel="y [m]", zlabel="z [m]", aspect="equal")
    axes.legend(loc="upper right")
    axes.set_title("policy_runner/scene and policy_runner/markers, drawn by matplotlib", fontsize=10)
    figure.savefig(path)


if __name__ == "__main__":
    rclpy.init()
    draw(collect(12.0), sys.argv[1])
    rclpy.shutdown()
