"""A PyBullet arm that follows joint trajectories as a joint_trajectory_controller does.

The gymnasium tasks and the simulated ROS robot (``arm_node.py``) both move the arm through this class, so that one
command gives one motion.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from irl_ros.contract import ContractError, Robot, did_you_mean
from irl_ros.motion import JointTrajectory


@contextmanager
def _silence() -> Iterator[None]:
    """PyBullet's C code prints its build time and start arguments; they would break machine-read output."""
    saved = [os.dup(1), os.dup(2)]
    sink = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        yield
    finally:
        for k, descriptor in enumerate(saved, start=1):
            os.dup2(descriptor, k)
            os.close(descriptor)
        os.close(sink)


with _silence():
    import pybullet
    import pybullet_data
    from pybullet_utils import bullet_client

TIME_STEP = 1.0 / 240.0
FINGER_SPEED = 0.2  # [m/s] of each finger, as the Panda's hand at most


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


class Arm:
    """`robot` alone in a PyBullet world of its own, gravity on, fixed at the base frame.

    `solver_iterations=5` without collisions is 1.6 times faster than PyBullet's default and moves a free arm within
    3 mrad of 50 iterations as people move it; jerks that drive its motors into their limits differ by up to 70 mrad.
    Tasks with contact set their own.
    """

    time_step = TIME_STEP
    position_gain = 0.5
    velocity_gain = 1.0
    camera = (1.2, -0.85, 0.8), (0.28, 0.0, 0.36)
    """Where pictures are taken from and what they look at, in the base frame [m]."""

    def __init__(self, robot: Robot, gui: bool = False, solver_iterations: int = 5, collisions: bool = False):
        self.robot = robot
        with _silence():
            self._bullet = bullet_client.BulletClient(pybullet.GUI if gui else pybullet.DIRECT)
        self.client = self._bullet._client
        # The client wrapper looks every function up anew, which costs more than what is called in every step.
        here = {"physicsClientId": self.client}
        self._step_physics = partial(pybullet.stepSimulation, **here)
        self._joint_states = partial(pybullet.getJointStates, **here)
        self._drive = partial(pybullet.setJointMotorControlArray, controlMode=pybullet.POSITION_CONTROL, **here)
        self._bullet.setAdditionalSearchPath(pybullet_data.getDataPath())
        self._bullet.setPhysicsEngineParameter(
            numSolverIterations=solver_iterations, fixedTimeStep=TIME_STEP, deterministicOverlappingPairs=1
        )
        self._bullet.setGravity(0, 0, -9.81)
        self.body = self._bullet.loadURDF(str(robot.urdf_path()), useFixedBase=True)
        self.joints, self._forces = self._find_joints()
        if not collisions:
            for link in range(-1, self._bullet.getNumJoints(self.body)):
                self._bullet.setCollisionFilterGroupMask(self.body, link, 0, 0)
        self._n = robot.n_joints
        self._locked: list[int] = []
        self._measured: tuple[np.ndarray, np.ndarray] | None = None
        self.set_gains(1.0)
        self._clean = self._bullet.saveState()
        self._floor: int | None = None
        self._follower = TrajectoryFollower(np.array(robot.home))
        self.reset(np.array(robot.home))

    def _find_joints(self) -> tuple[list[int], list[float]]:
        infos = [self._bullet.getJointInfo(self.body, i) for i in range(self._bullet.getNumJoints(self.body))]
        index = {info[1].decode(): i for i, info in enumerate(infos)}
        fingers = self.robot.gripper.joint_names if self.robot.gripper else ()
        missing = [n for n in (*self.robot.joint_names, *dict(self.robot.fixed_joints), *fingers) if n not in index]
        if missing:
            raise ContractError(f"robot {self.robot.name}: its URDF has no joint {', '.join(missing)}")
        self._fixed = [(index[n], value) for n, value in self.robot.fixed_joints]
        self._fingers = [index[n] for n in fingers]
        joints = [index[n] for n in self.robot.joint_names]
        return joints, [infos[i][10] or 100.0 for i in joints]

    def reset(self, joint_position: np.ndarray) -> None:
        """Rest at `joint_position` [rad]; forgets commands, velocities and the solver's caches of earlier episodes."""
        self._measured = None
        self._bullet.restoreState(self._clean)
        for joint, value in zip(self.joints, joint_position):
            self._bullet.resetJointState(self.body, joint, float(value), 0.0)
        for joint, value in self._fixed:
            self._bullet.resetJointState(self.body, joint, value, 0.0)
            self._bullet.setJointMotorControl2(
                self.body, joint, pybullet.POSITION_CONTROL, targetPosition=value, force=20.0
            )
        self._velocity: np.ndarray | None = None
        self._start = np.array(joint_position, dtype=float)
        self._follower.reset(self._start)

    def set_solver_iterations(self, iterations: int) -> None:
        """Of Bullet's constraint solver in each step."""
        self._bullet.setPhysicsEngineParameter(numSolverIterations=iterations)

    def set_gains(self, factor: float) -> None:
        """Stiffness of the joints' controllers, as a factor of the default's."""
        self._gains = {
            "positionGains": [factor * self.position_gain] * self._n,
            "velocityGains": [self.velocity_gain] * self._n,
        }

    def lock_joint(self, name: str) -> None:
        """A dead joint: from the next :meth:`reset` on it stays where that put it, whatever is commanded."""
        if name not in self.robot.joint_names:
            raise ContractError(
                f"robot {self.robot.name}: no joint to lock.{did_you_mean(name, self.robot.joint_names)}"
            )
        self._locked.append(self.robot.joint_names.index(name))

    def add_payload(self, mass: float) -> None:
        """A mass [kg] at the last link that the arm's joints carry, for good."""
        link = self.joints[-1]
        self.set_mass(self.body, self._bullet.getDynamicsInfo(self.body, link)[0] + mass, link)

    def reset_gripper(self, opening: float) -> None:
        """Rest with the gripper at `opening` [m]; call after :meth:`reset`."""
        for finger, value in zip(self._fingers, self.robot.gripper.joint_position(opening)):
            self._bullet.resetJointState(self.body, finger, float(value), 0.0)
        self.command_gripper(opening)

    def command_gripper(self, opening: float) -> None:
        """Move the gripper towards `opening` [m] from now on, with the robot's gripper force."""
        gripper = self.robot.gripper
        for finger, value in zip(self._fingers, gripper.joint_position(opening)):
            self._bullet.setJointMotorControl2(
                self.body,
                finger,
                pybullet.POSITION_CONTROL,
                targetPosition=float(value),
                force=gripper.force,
                maxVelocity=FINGER_SPEED,
            )

    def couple_fingers(self) -> None:
        """Make the gripper's two fingers move as one, as a gear does; by themselves they let a held thing slide along.

        Call before :meth:`remember`.
        """
        first, second = self._fingers
        gear = self._bullet.createConstraint(
            self.body, first, self.body, second, pybullet.JOINT_GEAR, [1, 0, 0], [0, 0, 0], [0, 0, 0]
        )
        self._bullet.changeConstraint(gear, gearRatio=-1, erp=0.1, maxForce=50)

    def finger_state(self) -> tuple[np.ndarray, np.ndarray]:
        """Positions [m] and velocities [m/s] of the gripper's joints, each of shape (n_fingers,)."""
        states = self._bullet.getJointStates(self.body, self._fingers)
        return np.array([s[0] for s in states]), np.array([s[1] for s in states])

    def state(self) -> tuple[np.ndarray, np.ndarray]:
        """Measured joint positions [rad] and velocities [rad/s], each of shape (n_joints,)."""
        if self._measured is None:
            states = self._joint_states(self.body, self.joints)
            self._measured = np.array([s[0] for s in states]), np.array([s[1] for s in states])
        position, velocity = self._measured
        return position.copy(), velocity.copy()

    def command(self, trajectory: JointTrajectory) -> None:
        """Follow `trajectory` from now on, starting at the current reference."""
        self._leave_velocity_mode()
        self._follower.follow(trajectory)

    def command_position(self, position: np.ndarray) -> None:
        """Hold `position` [rad] as a forward position controller does: at once, without a ramp."""
        self._velocity = None
        self._follower.reset(position)

    def command_velocity(self, velocity: np.ndarray) -> None:
        """Move at `velocity` [rad/s] until told otherwise, as a forward velocity controller does; rest at limits."""
        if self._velocity is None:
            self._position = self.state()[0]
        self._velocity = np.array(velocity, dtype=float)

    def hold(self) -> None:
        """Rest at the measured pose."""
        self._velocity = None
        self._follower.reset(self.state()[0])

    def _leave_velocity_mode(self) -> None:
        if self._velocity is not None:
            self.hold()

    def step(self, n: int = 1) -> None:
        """Advance physics by `n` steps of `time_step`."""
        drive = partial(self._drive, self.body, self.joints, forces=self._forces, **self._gains)
        positions, velocities = self._references(n)
        for joint in self._locked:
            positions[:, joint], velocities[:, joint] = self._start[joint], 0.0
        for position, velocity in zip(positions.tolist(), velocities.tolist()):
            drive(targetPositions=position, targetVelocities=velocity)
            self._step_physics()
        self._measured = None

    def _references(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """References of the next `n` steps: positions [rad] and velocities [rad/s], each (n, n_joints).

        A velocity is followed as a moving position: with few solver iterations Bullet's own velocity motors drift.
        """
        if self._velocity is None:
            return self._follower.advance(TIME_STEP, n)
        free = self._position + TIME_STEP * np.arange(1, n + 1)[:, None] * self._velocity
        positions = np.clip(free, self.robot.position_lower, self.robot.position_upper)
        self._position = positions[-1]
        return positions, np.where(positions == free, self._velocity, 0.0)

    def add_marker(self, position: np.ndarray, radius: float = 0.03) -> int:
        """A green sphere without mass or contact at `position` [m]; returns its body for :meth:`move_marker`."""
        return self._add_scenery(position, pybullet.GEOM_SPHERE, radius=radius, rgbaColor=[0.1, 0.7, 0.3, 0.9])

    def add_box(self, lower: np.ndarray, upper: np.ndarray, colour: Sequence[float]) -> int:
        """A box without mass or contact between two corners [m]; `colour` is RGBA."""
        half = list((upper - lower) / 2)
        return self._add_scenery((lower + upper) / 2, pybullet.GEOM_BOX, halfExtents=half, rgbaColor=list(colour))

    def add_cylinder(self, centre: np.ndarray, radius: float, height: float, colour: Sequence[float]) -> int:
        """An upright cylinder without mass or contact that stands on the floor, at `centre` [m], shape (2,)."""
        place = np.array([*centre, height / 2])
        return self._add_scenery(place, pybullet.GEOM_CYLINDER, radius=radius, length=height, rgbaColor=list(colour))

    def add_body(
        self,
        half_extents: Sequence[float],
        position: Sequence[float],
        mass: float,
        colour: Sequence[float] = (0.8, 0.5, 0.2, 1.0),
        friction: float = 0.5,
    ) -> int:
        """A box that the arm and other bodies touch, of half these sides [m], at `position` [m]; mass 0 [kg]: immovable.

        Returns its body. Call :meth:`remember` once all bodies are there.
        """
        extents = list(half_extents)
        body = self._bullet.createMultiBody(
            baseMass=mass,
            baseCollisionShapeIndex=self._bullet.createCollisionShape(pybullet.GEOM_BOX, halfExtents=extents),
            baseVisualShapeIndex=self._bullet.createVisualShape(
                pybullet.GEOM_BOX, halfExtents=extents, rgbaColor=list(colour)
            ),
            basePosition=list(position),
        )
        self.set_friction(body, friction)
        return body

    def compensate_weight(self) -> None:
        """No gravity, for scenes where nothing can fall: most arms carry their own weight, whatever force is left."""
        self._bullet.setGravity(0, 0, 0)

    def remember(self) -> None:
        """Make the world as it is now, with all its bodies, what :meth:`reset` goes back to."""
        self._bullet.removeState(self._clean)
        self._clean = self._bullet.saveState()

    def place_body(
        self, body: int, position: Sequence[float], orientation: Sequence[float] = (0.0, 0.0, 0.0, 1.0)
    ) -> None:
        """Put a body at rest at `position` [m] with `orientation` (x, y, z, w)."""
        self._bullet.resetBasePositionAndOrientation(body, list(position), list(orientation))
        self._bullet.resetBaseVelocity(body, [0, 0, 0], [0, 0, 0])

    def forget_contacts(self) -> None:
        """Drop what Bullet remembers of contacts that are no more; call while bodies touch nothing, before placing them.

        Else the next contact of the same two bodies starts from the last episode's, and differs by some micrometres.
        """
        self._bullet.performCollisionDetection()

    def body_pose(self, body: int) -> tuple[np.ndarray, np.ndarray]:
        """Position [m], shape (3,), and orientation (x, y, z, w), w ≥ 0, shape (4,), of a body in the base frame."""
        position, orientation = self._bullet.getBasePositionAndOrientation(body)
        q = np.array(orientation)
        return np.array(position), -q if q[3] < 0 else q

    def body_speed(self, body: int) -> float:
        """Speed of a body's centre [m/s]."""
        return float(np.linalg.norm(self._bullet.getBaseVelocity(body)[0]))

    def body_mass_friction(self, body: int) -> np.ndarray:
        """Mass [kg] and lateral friction of a body, shape (2,)."""
        return np.array(self._bullet.getDynamicsInfo(body, -1)[:2])

    def touches(self, body: int) -> bool:
        """Whether any part of the arm touches a body."""
        return any(point[8] <= 1e-3 for point in self._bullet.getContactPoints(self.body, body))

    def set_friction(self, body: int, friction: float) -> None:
        """Lateral friction coefficient of a body; Bullet multiplies the two bodies' that touch."""
        self._bullet.changeDynamics(body, -1, lateralFriction=friction)

    def set_mass(self, body: int, mass: float, link: int = -1) -> None:
        """Mass [kg] of a body, or of one of its links."""
        self._bullet.changeDynamics(body, link, mass=mass)

    def move_marker(self, marker: int, position: np.ndarray) -> None:
        self._bullet.resetBasePositionAndOrientation(marker, list(position), [0, 0, 0, 1])

    def render(self, width: int = 480, height: int = 360) -> np.ndarray:
        """A picture of the scene, uint8, shape (height, width, 3); software rendering, no screen needed."""
        self._lay_floor()
        view = self._bullet.computeViewMatrix(*self.camera, [0, 0, 1])
        projection = self._bullet.computeProjectionMatrixFOV(42, width / height, 0.05, 8.0)
        image = self._bullet.getCameraImage(
            width, height, view, projection, shadow=1, lightDirection=[1, -2, 4], renderer=pybullet.ER_TINY_RENDERER
        )
        return np.asarray(image[2], dtype=np.uint8).reshape(height, width, 4)[..., :3]

    def _lay_floor(self) -> None:
        """Under the first picture: without shadows on a floor nobody sees how far away things are."""
        if self._floor is None:
            size, colour = [1.0, 1.0, 0.005], [0.84, 0.87, 0.9, 1]
            self._floor = self._add_scenery([0.2, 0, -0.006], pybullet.GEOM_BOX, halfExtents=size, rgbaColor=colour)

    def _add_scenery(self, position: Sequence[float], kind: int, **shape: Any) -> int:
        """A body to be looked at alone. No multibody: with one more of these :meth:`reset` could not restore."""
        visual = self._bullet.createVisualShape(kind, **shape)
        return self._bullet.createMultiBody(
            baseVisualShapeIndex=visual, basePosition=list(position), useMaximalCoordinates=1
        )

    def close(self) -> None:
        if self._bullet.isConnected():
            self._bullet.disconnect()
