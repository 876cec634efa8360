"""A PyBullet arm that follows joint trajectories as a joint_trajectory_controller does.

The gymnasium tasks and the simulated ROS robot (``arm_node.py``) both move the arm through this class, so that one
command gives one motion.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from irl_ros.contract import ContractError, Robot, did_you_mean
from irl_ros.motion import JointTrajectory
from irl_ros_sim import urdf
from irl_ros_sim.follower import TrajectoryFollower
from irl_ros_sim.world import TIME_STEP, World, pybullet

FINGER_SPEED = 0.2  # [m/s] of each finger, as the Panda's hand at most


class Arm(World):
    """`robot` in a PyBullet world of its own, gravity on, fixed at the base frame.

    `solver_iterations=5` without collisions is 1.6 times faster than PyBullet's default and moves a free arm within
    3 mrad of 50 iterations as people move it; jerks that drive its motors into their limits differ by up to 70 mrad.
    Tasks with contact set their own. `rigid` holds the robot's fixed joints, the Panda's fingers, for good and makes one
    link of what stands still together: physics of the Panda is 1.6 times faster again, and within 3 mrad too.
    """

    time_step = TIME_STEP
    position_gain = 0.5
    velocity_gain = 1.0

    def __init__(
        self,
        robot: Robot,
        gui: bool = False,
        solver_iterations: int = 5,
        collisions: bool = False,
        rigid: bool = False,
    ):
        self.robot = robot
        super().__init__(gui, solver_iterations)
        self._held = dict(robot.fixed_joints) if rigid else {}
        self.body = self._load(robot.urdf_path(), rigid)
        self.joints, self._forces = self._find_joints()
        if not collisions:
            for link in range(-1, self._bullet.getNumJoints(self.body)):
                self._bullet.setCollisionFilterGroupMask(self.body, link, 0, 0)
        # What is called in every step goes without the client wrapper, which looks every function up anew, and without
        # keywords: both cost more than what is called.
        self._step_physics = partial(pybullet.stepSimulation, self.client)
        self._joint_states = partial(pybullet.getJointStates, self.body, self.joints, self.client)
        self._locked: list[int] = []
        self._measured: tuple[np.ndarray, np.ndarray] | None = None
        self.set_gains(1.0)
        self.remember()
        self._follower = TrajectoryFollower(np.array(robot.home))
        self.reset(np.array(robot.home))

    def _load(self, path: Path, rigid: bool) -> int:
        """The robot's body."""
        if not rigid:
            return self._bullet.loadURDF(str(path), useFixedBase=True)
        with TemporaryDirectory() as folder:
            text = Path(folder) / path.name
            text.write_text(urdf.rigid(path, self._held))
            return self._bullet.loadURDF(str(text), useFixedBase=True)

    def _find_joints(self) -> tuple[list[int], list[float]]:
        """Indices and greatest forces of the robot's joints; those held are none of the body's any more."""
        infos = [self._bullet.getJointInfo(self.body, i) for i in range(self._bullet.getNumJoints(self.body))]
        index = {info[1].decode(): i for i, info in enumerate(infos)}
        fingers = self.robot.gripper.joint_names if self.robot.gripper else ()
        wanted = *self.robot.joint_names, *dict(self.robot.fixed_joints), *fingers
        if missing := [n for n in wanted if n not in index and n not in self._held]:
            raise ContractError(f"robot {self.robot.name}: its URDF has no joint {', '.join(missing)}")
        self._fixed = [(index[n], value) for n, value in self.robot.fixed_joints if n not in self._held]
        self._fingers = [index[n] for n in fingers if n not in self._held]
        joints = [index[n] for n in self.robot.joint_names]
        return joints, [infos[i][10] or 100.0 for i in joints]

    def reset(self, joint_position: np.ndarray) -> None:
        """Rest at `joint_position` [rad]; forgets commands, velocities and the solver's caches of earlier episodes."""
        self._measured = None
        self.restore()
        for joint, value in zip(self.joints, joint_position):
            self._bullet.resetJointState(self.body, joint, float(value), 0.0)
        for joint, value in self._fixed:
            self._bullet.resetJointState(self.body, joint, value, 0.0)
            self._bullet.setJointMotorControl2(
                self.body, joint, pybullet.POSITION_CONTROL, targetPosition=value, force=20.0
            )
        self._velocity: np.ndarray | None = None
        self._goal: np.ndarray | None = None
        self._start = np.array(joint_position, dtype=float)
        self._follower.reset(self._start)

    def set_gains(self, factor: float) -> None:
        """Stiffness of the joints' controllers, as a factor of the default's."""
        n = self.robot.n_joints
        self._gains = [factor * self.position_gain] * n, [self.velocity_gain] * n

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
        if self._held:
            held = [self._held[name] for name in self.robot.gripper.joint_names]
            return np.array(held), np.zeros(len(held))
        states = self._bullet.getJointStates(self.body, self._fingers)
        return np.array([s[0] for s in states]), np.array([s[1] for s in states])

    def state(self) -> tuple[np.ndarray, np.ndarray]:
        """Measured joint positions [rad] and velocities [rad/s], each of shape (n_joints,)."""
        if self._measured is None:
            states = self._joint_states()
            self._measured = np.array([s[0] for s in states]), np.array([s[1] for s in states])
        position, velocity = self._measured
        return position.copy(), velocity.copy()

    def command(self, trajectory: JointTrajectory) -> None:
        """Follow `trajectory` from now on, starting at the current reference."""
        self._leave_velocity_mode()
        self._follower.follow(trajectory)

    def command_position(self, position: np.ndarray) -> None:
        """Go to `position` [rad] as a forward position controller does: without a ramp, as fast as the drives can."""
        self._velocity, self._goal = None, np.array(position, dtype=float)

    def command_velocity(self, velocity: np.ndarray) -> None:
        """Move at `velocity` [rad/s] until told otherwise, as a forward velocity controller does; rest at limits."""
        if self._velocity is None or not np.any(velocity):  # a stop has no reference to catch up with
            self._position = self.state()[0]
        self._velocity, self._goal = np.array(velocity, dtype=float), None

    def hold(self) -> None:
        """Rest at the measured pose."""
        self._velocity = self._goal = None
        self._follower.reset(self.state()[0])

    def _leave_velocity_mode(self) -> None:
        if self._velocity is not None:
            self.hold()
        if self._goal is not None:
            self._follower.reset(self._goal)
            self._goal = None

    def step(self, n: int = 1) -> None:
        """Advance physics by `n` steps of `time_step`."""
        self._measured = None
        if self._goal is not None:
            self._go(n)
            return
        drive = partial(pybullet.setJointMotorControlArray, self.body, self.joints, pybullet.POSITION_CONTROL)
        limits = self._forces, *self._gains, self.client
        positions, velocities = self._references(n)
        for joint in self._locked:
            positions[:, joint], velocities[:, joint] = self._start[joint], 0.0
        for position, velocity in zip(positions.tolist(), velocities.tolist()):
            drive(position, velocity, *limits)
            self._step_physics()

    def _go(self, n: int) -> None:
        """Let the drives go to the goal, each no faster than its velocity limit."""
        goal = self._goal.copy()
        goal[self._locked] = self._start[self._locked]
        limits = zip(self.joints, goal.tolist(), self._forces, *self._gains, self.robot.velocity_limit)
        for joint, target, force, position_gain, velocity_gain, speed in limits:
            self._bullet.setJointMotorControl2(
                self.body,
                joint,
                pybullet.POSITION_CONTROL,
                targetPosition=target,
                force=force,
                positionGain=position_gain,
                velocityGain=velocity_gain,
                maxVelocity=speed,
            )
        for _ in range(n):
            self._step_physics()

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

    def touches(self, body: int) -> bool:
        """Whether any part of the arm touches a body."""
        return any(point[8] <= 1e-3 for point in self._bullet.getContactPoints(self.body, body))
