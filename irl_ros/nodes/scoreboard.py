"""How well policy_runner does, on topics: rewards, likeness, the share of cut actions, the loop, the path in RViz."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from nav_msgs.msg import OccupancyGrid
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from std_msgs.msg import Float64
from visualization_msgs.msg import MarkerArray

from irl_ros.control.foresight import predict
from irl_ros.control.pilot import Pilot, Score
from irl_ros.nodes import markers
from irl_ros.nodes.monitor import Monitor
from irl_ros.nodes.outputs import RELIABLE
from irl_ros.nodes.reward_map import occupancy_grid

PATH_LENGTH = 200  # ticks
FORESIGHT = 10
"""Control periods that are predicted, while somebody looks."""
TOPICS = (
    "reward",
    "episode_return",
    "episode_return_percentile",
    "demo_likeness",
    "action_clip_ratio",
    "loop_period",
)
LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Scoreboard:
    """Publishes under the node's own name; `make_publisher` takes message class, topic and QoS."""

    def __init__(self, pilot: Pilot, make_publisher: Callable[[type, str, QoSProfile], Any]):
        controller = pilot.controller
        self._pilot, self._controller, self._frame = pilot, controller, controller.contract.robot.base_frame
        self._publishers = {name: make_publisher(Float64, f"~/{name}", RELIABLE) for name in TOPICS}
        self._markers = make_publisher(MarkerArray, "~/markers", LATCHED)
        if (rewards := controller.reward_map) is not None:
            reward_map = occupancy_grid(controller.contract.task.grid, rewards, self._frame)
            make_publisher(OccupancyGrid, "~/reward_map", LATCHED).publish(reward_map)
        safety = pilot.safety
        box = (safety.box_lower, safety.box_upper) if safety.box_lower else None
        scene = markers.scene(controller.demonstrated_paths, box, self._frame)
        make_publisher(MarkerArray, "~/scene", LATCHED).publish(scene)
        self._path: deque[tuple[np.ndarray, float]] = deque(maxlen=PATH_LENGTH)
        self._rewarded = 0

    def enabled(self) -> None:
        """An episode starts."""
        self._path.clear()
        self._rewarded = 0

    def ticked(self, score: Score | None, period: float | None, joint_position: np.ndarray, monitor: Monitor) -> None:
        """Publish what a tick brought; `period` [s] since the one before. The monitor keeps it for the diagnostics."""
        if period is not None:
            self._publish("loop_period", period)
        if score is None:
            return
        monitor.score = score
        self._publish("demo_likeness", score.likeness)
        self._publish("action_clip_ratio", monitor.clip_ratio)
        if score.reward is not None:
            self._rewarded += 1
            self._publish("reward", score.reward)
            self._publish("episode_return", score.episode_return)
            monitor.percentile = self._controller.demonstrated.percentile(score.episode_return, self._rewarded)
            if monitor.percentile is not None:
                self._publish("episode_return_percentile", monitor.percentile)
            self._path.append((joint_position, score.reward))

    def publish_path(self) -> None:
        """The end effector's path since enable, coloured by the reward, and the predicted one; nobody looks: nothing."""
        if not self._markers.get_subscription_count():
            return
        points = [self._controller.end_effector(q) for q, _ in self._path]
        rewards, inputs = [reward for _, reward in self._path], self._pilot.inputs
        predicted = predict(self._controller, inputs.measured, self._pilot.step, FORESIGHT) if inputs.complete else ()
        self._markers.publish(markers.live(points, rewards, predicted, self._frame))

    def _publish(self, name: str, value: float) -> None:
        self._publishers[name].publish(Float64(data=float(value)))
