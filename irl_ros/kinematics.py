"""Forward and differential inverse kinematics of an arm (pinocchio), in the contract's joint order.

The same forward kinematics serves the simulated env, the bag reader and the policy runner, so that the end effector
means the same everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pinocchio

from irl_ros.contract import ContractError, Robot

SOLVED = 1e-5  # [m], [rad]


class Kinematics:
    """Kinematics of `robot`'s end effector frame; `urdf` is the URDF's text (default: the robot's own file)."""

    def __init__(self, robot: Robot, urdf: str | None = None):
        try:
            model = pinocchio.buildModelFromXML(urdf if urdf is not None else robot.urdf_path().read_text())
        except ValueError as error:
            raise ContractError(f"robot {robot.name}: its URDF cannot be read: {error}") from None
        missing = [n for n in robot.joint_names if not model.existJointName(n)]
        if missing:
            raise ContractError(f"robot {robot.name}: its URDF has no joint {', '.join(missing)}")
        if not model.existFrame(robot.end_effector_frame):
            raise ContractError(f"robot {robot.name}: its URDF has no frame {robot.end_effector_frame}")
        self._model, self._data = model, model.createData()
        self._q = pinocchio.neutral(model)
        for name, value in robot.fixed_joints:
            if model.existJointName(name):
                self._q[model.idx_qs[model.getJointId(name)]] = value
        self._index_q = np.array([model.idx_qs[model.getJointId(n)] for n in robot.joint_names])
        # A continuous joint's configuration is a point on the unit circle: two numbers, cosine and sine.
        self._continuous = np.flatnonzero([model.nqs[model.getJointId(n)] == 2 for n in robot.joint_names])
        self._index_v = np.array([model.idx_vs[model.getJointId(n)] for n in robot.joint_names])
        self._frame = model.getFrameId(robot.end_effector_frame)
        self._reference = np.array([0.0, 0.0, 0.0, 1.0])
        self._reference = self.orientation(np.array(robot.home))

    def position(self, joint_position: np.ndarray) -> np.ndarray:
        """End effector in the base frame [m], shape (3,), from joint positions [rad], shape (n_joints,)."""
        return self._pose(joint_position).translation.copy()

    def orientation(self, joint_position: np.ndarray) -> np.ndarray:
        """End effector in the base frame: unit quaternion (x, y, z, w), shape (4,), the sign nearer to the home pose's."""
        q = pinocchio.Quaternion(self._pose(joint_position).rotation).coeffs()
        return -q if q @ self._reference < 0 else q.copy()

    def _pose(self, joint_position: np.ndarray) -> pinocchio.SE3:
        """End effector in the base frame."""
        self._set(joint_position)
        pinocchio.forwardKinematics(self._model, self._data, self._q)
        return pinocchio.updateFramePlacement(self._model, self._data, self._frame)

    def jacobian(self, joint_position: np.ndarray) -> np.ndarray:
        """d position / d joint_position [m/rad], shape (3, n_joints)."""
        return self._twist_jacobian(joint_position)[:3]

    def _twist_jacobian(self, joint_position: np.ndarray) -> np.ndarray:
        """Linear and angular velocity in the base frame's axes by joint velocity, shape (6, n_joints)."""
        self._set(joint_position)
        full = pinocchio.computeFrameJacobian(
            self._model, self._data, self._q, self._frame, pinocchio.ReferenceFrame.LOCAL_WORLD_ALIGNED
        )
        return full[:, self._index_v]

    def _set(self, joint_position: np.ndarray) -> None:
        self._q[self._index_q] = joint_position
        if len(self._continuous):
            index, angle = self._index_q[self._continuous], np.asarray(joint_position)[self._continuous]
            self._q[index], self._q[index + 1] = np.cos(angle), np.sin(angle)

    def displacement(self, joint_position: np.ndarray, delta: np.ndarray, damping: float = 0.05) -> np.ndarray:
        """Joint displacement [rad] that moves the end effector by `delta`: damped least squares.

        `delta` has shape (3,) [m], or (6,) with a rotation vector [rad] in the base frame's axes after it.
        """
        jacobian = self._twist_jacobian(joint_position)[: len(delta)]
        return jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + damping**2 * np.eye(len(delta)), delta)

    def solve(
        self,
        joint_position: np.ndarray,
        position: np.ndarray,
        orientation: Sequence[float] | None = None,
        iterations: int = 20,
    ) -> np.ndarray:
        """Joint positions [rad] near `joint_position` with the end effector at `position` [m], shape (3,), and, where
        given, with `orientation` (x, y, z, w).

        Damped steps until it is there within SOLVED; out of reach, as near as they came.
        """
        solution = np.array(joint_position, dtype=np.float64)
        for _ in range(iterations):
            error = self._error(solution, position, orientation)
            if np.linalg.norm(error) < SOLVED:
                break
            solution += self.displacement(solution, error)
        return solution

    def _error(
        self, joint_position: np.ndarray, position: np.ndarray, orientation: Sequence[float] | None
    ) -> np.ndarray:
        """From where the end effector is to where it should be, as `displacement` takes it."""
        pose = self._pose(joint_position)
        error = position - pose.translation
        if orientation is None:
            return error
        wanted = pinocchio.Quaternion(np.array(orientation)).matrix()
        return np.concatenate([error, pinocchio.log3(wanted @ pose.rotation.T)])
