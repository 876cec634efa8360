"""Joint velocities that follow a gate's joint targets, for a forward velocity controller."""

from __future__ import annotations

import math

import numpy as np

from irl_ros.contract import Contract, Safety
from irl_ros.motion import JointTrajectory

DRIFT_TIME = 0.5
"""Time constant in which a velocity makes up for the distance from its target [s]."""
MAX_DRIFT = 0.05
"""Distance that the sum of what was sent may be from the targets [rad]."""


class VelocityCommand:
    """Velocities of one episode, bounded by each joint's velocity, acceleration and position limits.

    A velocity alone would drift away from its targets, so it also leads back to them, by the measured pose. The
    measurement is trusted only so far: what was sent since the start adds up to within MAX_DRIFT of the targets, so that
    an arm whose reported pose stands still is not driven on and on. Arrays have shape (n_joints,); times are in [s] of
    any clock that runs with the arm.
    """

    def __init__(self, contract: Contract, safety: Safety, timeout: float):
        """`timeout`: time without a command after which the robot's driver stops [s]."""
        robot = contract.robot
        self._period, self._timeout = contract.task.period, timeout
        self._limit = np.array(robot.velocity_limit)
        self._lower, self._upper = np.array(robot.position_lower), np.array(robot.position_upper)
        accelerations = np.array(safety.acceleration_limit or np.full(robot.n_joints, math.inf))
        self._max_change = accelerations * self._period
        self.stop()

    def stop(self) -> np.ndarray:
        """Return the velocities of a halt [rad/s]. The next command starts at rest."""
        self._sent: np.ndarray | None = None
        self._velocity, self._since = np.zeros_like(self._limit), 0.0
        return self._velocity

    def follow(self, trajectory: JointTrajectory, measured: np.ndarray, now: float) -> np.ndarray:
        """Return the velocities [rad/s] that lead from the `measured` pose [rad] to the trajectory's first point."""
        target, velocity = trajectory.positions[0], trajectory.velocities[0]
        start = target - velocity * trajectory.times[0]
        sent = start if self._sent is None else self._sent + self._velocity * min(now - self._since, self._timeout)
        drift = (sent - start) / self._period
        room = MAX_DRIFT / self._period
        wanted = velocity + np.clip((start - measured) / DRIFT_TIME, -room - drift, room - drift)
        result = np.clip(wanted, self._velocity - self._max_change, self._velocity + self._max_change)
        lowest = np.maximum(-self._limit, np.minimum((self._lower - measured) / self._period, 0.0))
        highest = np.minimum(self._limit, np.maximum((self._upper - measured) / self._period, 0.0))
        self._velocity, self._sent, self._since = np.clip(result, lowest, highest), sent, now
        return self._velocity
