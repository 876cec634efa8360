"""A learned reward over the cells of a grid as nav_msgs/OccupancyGrid: what RViz shows as a map."""

from __future__ import annotations

import numpy as np
from nav_msgs.msg import OccupancyGrid

from irl_ros.contract import Grid


def occupancy_grid(grid: Grid, rewards: np.ndarray, frame: str) -> OccupancyGrid:
    """Rewards (n_states,) in `frame`: 0 is the lowest, 100 the highest; all alike: 50. Rows of the map run along x."""
    message = OccupancyGrid()
    message.header.frame_id = frame
    message.info.resolution = grid.cell
    message.info.width, message.info.height = grid.shape
    origin = message.info.origin
    origin.position.x, origin.position.y = grid.origin
    origin.position.z, origin.orientation.w = grid.height, 1.0
    lowest, spread = rewards.min(), np.ptp(rewards)
    relative = (rewards - lowest) / spread if spread > 0 else np.full(grid.n_states, 0.5)
    message.data = np.rint(100 * relative).astype(int).reshape(grid.shape).T.ravel().tolist()
    return message
