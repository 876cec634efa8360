"""The reference that a joint_trajectory_controller follows."""

from __future__ import annotations

import numpy as np

from irl_ros.motion import JointTrajectory


class TrajectoryFollower:
    """The reference of a joint_trajectory_controller: cubic splines from the current reference through the points.

    After the last point the reference rests there. Positions [rad] and velocities [rad/s] have shape (n_joints,).
    """

    def __init__(self, position: np.ndarray):
        self.reset(position)

    def reset(self, position: np.ndarray) -> None:
        """Rest at `position`, forgetting any trajectory."""
        zero = np.zeros_like(position)
        self._set(JointTrajectory(np.zeros(1), np.array(position)[None], zero[None]))
        self.elapsed, self._now = 0.0, (np.array(position), zero)

    def follow(self, trajectory: JointTrajectory) -> None:
        """Replace the running trajectory; its times count from now."""
        position, velocity = self._now
        self._set(
            JointTrajectory(
                np.concatenate([[0.0], trajectory.times]),
                np.concatenate([position[None], trajectory.positions]),
                np.concatenate([velocity[None], trajectory.velocities]),
            )
        )
        self.elapsed = 0.0

    def advance(self, time_step: float, n: int) -> tuple[np.ndarray, np.ndarray]:
        """The next `n` references a `time_step` [s] apart: positions (n, n_joints), velocities (n, n_joints)."""
        times = self.elapsed + time_step * np.arange(1, n + 1)
        self.elapsed = times[-1]
        positions, velocities = self.sample(times)
        self._now = positions[-1].copy(), velocities[-1].copy()
        return positions, velocities

    def sample(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Reference at `times` [s], shape (k,), after the running trajectory's start; cubic Hermite segments."""
        points = self._points
        if len(points.times) == 1:
            return np.repeat(points.positions, len(times), 0), np.zeros((len(times), points.positions.shape[1]))
        segment = np.minimum(np.searchsorted(points.times, times, side="right"), len(points.times) - 1)
        start, duration = points.times[segment - 1], self._durations[segment - 1]
        s = np.minimum((times - start) / duration, 1.0)[:, None]
        a, b, c, d = self._coefficients[:, segment - 1]
        position = a + s * (b + s * (c + s * d))
        velocity = (b + s * (2 * c + 3 * s * d)) / duration[:, None]
        return position, np.where((times > points.times[-1])[:, None], 0.0, velocity)

    def _set(self, points: JointTrajectory) -> None:
        self._points = points
        self._durations = np.diff(points.times)
        p0, p1 = points.positions[:-1], points.positions[1:]
        m0, m1 = (points.velocities[k : len(points.times) - 1 + k] * self._durations[:, None] for k in (0, 1))
        self._coefficients = np.stack([p0, m0, -3 * p0 + 3 * p1 - 2 * m0 - m1, 2 * p0 - 2 * p1 + m0 + m1])
