"""The reference that a joint_trajectory_controller follows."""

from __future__ import annotations

from functools import lru_cache

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
        self._now = np.array(position), np.zeros_like(position)
        self._times, self._points, self.elapsed = (0.0,), np.stack(self._now), 0.0

    def follow(self, trajectory: JointTrajectory) -> None:
        """Replace the running trajectory; its times count from now."""
        position, velocity = self._now
        self._times = (0.0, *trajectory.times.tolist())
        self._points = np.concatenate([position[None], trajectory.positions, velocity[None], trajectory.velocities])
        self.elapsed = 0.0

    def advance(self, time_step: float, n: int) -> tuple[np.ndarray, np.ndarray]:
        """The next `n` references a `time_step` [s] apart: positions (n, n_joints), velocities (n, n_joints)."""
        elapsed = min(self.elapsed, self._times[-1])  # rest is the same at all times
        reference = _basis_ahead(self._times, elapsed, time_step, n) @ self._points
        self.elapsed += n * time_step
        positions, velocities = reference[:n], reference[n:]
        self._now = positions[-1].copy(), velocities[-1].copy()
        return positions, velocities

    def sample(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Reference at `times` [s], shape (k,), after the running trajectory's start: (k, n_joints) each."""
        reference = hermite_basis(self._times, times) @ self._points
        return reference[: len(times)], reference[len(times) :]


@lru_cache(maxsize=256)
def _basis_ahead(points: tuple[float, ...], elapsed: float, time_step: float, n: int) -> np.ndarray:
    """The basis of the `n` times that follow `elapsed`. Commands come at a fixed rate, so that few differ."""
    return hermite_basis(points, elapsed + time_step * np.arange(1, n + 1))


def hermite_basis(points: tuple[float, ...], times: np.ndarray) -> np.ndarray:
    """Cubic Hermite splines as a matrix, shape (2k, 2P): positions and velocities at `times` (k,) [s] from those at the
    times of P `points` [s]. From the last point on: rest.
    """
    knots, basis = np.array(points), np.zeros((2, len(times), 2, len(points)))
    basis[0, times >= knots[-1], 0, -1] = 1.0
    rows = np.flatnonzero(times < knots[-1])
    right = np.searchsorted(knots, times[rows], side="right")
    left = right - 1
    d = knots[right] - knots[left]
    s = (times[rows] - knots[left]) / d
    basis[0, rows, 0, left], basis[0, rows, 0, right] = 1 - s**2 * (3 - 2 * s), s**2 * (3 - 2 * s)
    basis[0, rows, 1, left], basis[0, rows, 1, right] = d * s * (1 - s) ** 2, d * s**2 * (s - 1)
    basis[1, rows, 0, left], basis[1, rows, 0, right] = 6 * s * (s - 1) / d, 6 * s * (1 - s) / d
    basis[1, rows, 1, left], basis[1, rows, 1, right] = (1 - s) * (1 - 3 * s), s * (3 * s - 2)
    return basis.reshape(2 * len(times), 2 * len(points))
