"""Forward kinematics against PyBullet's own, Jacobians against finite differences."""

from __future__ import annotations

import dataclasses

import numpy as np
import pybullet
import pytest

from irl_ros.contract import ContractError, load_robot
from irl_ros.kinematics import Kinematics
from irl_ros_sim.arm import Arm

ROBOTS = ("panda", "iiwa")


def poses(robot, n: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(robot.position_lower, robot.position_upper, (n, robot.n_joints))


@pytest.mark.parametrize("name", ROBOTS)
def test_forward_kinematics_is_pybullets(name: str):
    robot = load_robot(name)
    kinematics, arm = Kinematics(robot), Arm(robot)
    try:
        bullet, client = arm.body, arm.client
        infos = [pybullet.getJointInfo(bullet, k, client) for k in range(pybullet.getNumJoints(bullet, client))]
        links = {info[12].decode(): k for k, info in enumerate(infos)}
        base = np.array(pybullet.getBasePositionAndOrientation(bullet, client)[0])
        inertial = np.array(pybullet.getDynamicsInfo(bullet, -1, client)[3])
        for q in poses(robot, 50):
            arm.reset(q)
            state = pybullet.getLinkState(bullet, links[robot.end_effector_frame], 0, 1, physicsClientId=client)
            expected = np.array(state[4]) - (base - inertial)
            np.testing.assert_allclose(kinematics.position(q), expected, atol=1e-6)
    finally:
        arm.close()


@pytest.mark.parametrize("name", ROBOTS)
def test_jacobian_is_the_derivative(name: str):
    robot = load_robot(name)
    kinematics, h = Kinematics(robot), 1e-6
    for q in poses(robot, 20):
        columns = [(kinematics.position(q + h * e) - kinematics.position(q - h * e)) / (2 * h) for e in np.eye(7)]
        np.testing.assert_allclose(kinematics.jacobian(q), np.stack(columns, 1), atol=1e-8)


def test_joints_are_found_by_name_whatever_their_order():
    robot, order = load_robot("panda"), np.array([3, 0, 6, 1, 2, 5, 4])
    per_joint = ("joint_names", "position_lower", "position_upper", "velocity_limit", "home")
    mixed = dataclasses.replace(robot, **{k: tuple(np.array(getattr(robot, k))[order].tolist()) for k in per_joint})
    q = poses(robot, 1)[0]
    one, other = Kinematics(robot), Kinematics(mixed)
    np.testing.assert_array_equal(one.position(q), other.position(q[order]))
    np.testing.assert_allclose(one.jacobian(q)[:, order], other.jacobian(q[order]), atol=1e-12)


def test_an_answer_is_the_callers_own():
    kinematics, robot = Kinematics(load_robot("panda")), load_robot("panda")
    first, second = poses(robot, 2)
    position, jacobian = kinematics.position(first), kinematics.jacobian(first)
    kept = position.copy(), jacobian.copy()
    kinematics.position(second), kinematics.jacobian(second)
    np.testing.assert_array_equal(position, kept[0])
    np.testing.assert_array_equal(jacobian, kept[1])


@pytest.mark.parametrize("name", ROBOTS)
def test_displacement_moves_the_hand_as_asked_and_stays_small_at_a_singularity(name: str):
    robot = load_robot(name)
    kinematics, q, delta = Kinematics(robot), np.array(robot.home), np.array([0.004, -0.003, 0.002])
    step = kinematics.displacement(q, delta, damping=1e-4)
    moved = kinematics.position(q + step) - kinematics.position(q)
    np.testing.assert_allclose(moved, delta, atol=1e-4)
    stretched = np.zeros(7)
    assert np.abs(kinematics.displacement(stretched, np.array([0.0, 0.0, 0.02]))).max() < 0.5


def test_the_urdfs_text_serves_as_well_as_its_file():
    robot = load_robot("panda")
    q, text = np.array(robot.home), robot.urdf_path().read_text()
    elsewhere = dataclasses.replace(robot, urdf="/nowhere.urdf")
    np.testing.assert_array_equal(Kinematics(elsewhere, text).position(q), Kinematics(robot).position(q))


def test_continuous_joints_move_as_revolute_ones():
    robot = load_robot("iiwa")
    text = robot.urdf_path().read_text()
    endless, q = text.replace('type="revolute"', 'type="continuous"', 3), poses(robot, 1)[0]
    assert endless != text
    revolute, continuous = Kinematics(robot, text), Kinematics(robot, endless)
    np.testing.assert_allclose(continuous.position(q), revolute.position(q), atol=1e-12)
    np.testing.assert_allclose(continuous.jacobian(q), revolute.jacobian(q), atol=1e-12)


def test_what_a_urdf_lacks_is_named():
    robot = load_robot("panda")
    joints = ("panda_joint1x", *robot.joint_names[1:])
    with pytest.raises(ContractError, match="robot panda: its URDF has no joint panda_joint1x"):
        Kinematics(dataclasses.replace(robot, joint_names=joints))
    with pytest.raises(ContractError, match="robot panda: its URDF has no frame tool9"):
        Kinematics(dataclasses.replace(robot, end_effector_frame="tool9"))
    with pytest.raises(ContractError, match="robot panda: its URDF cannot be read"):
        Kinematics(robot, "<robot")


def test_a_continuous_joints_position_may_come_as_a_list():
    """A box asks with the limits' plain floats; a continuous joint's configuration is its cosine and sine."""
    robot = load_robot("panda")
    urdf = robot.urdf_path().read_text()
    start = urdf.index('<joint name="panda_joint1"')
    continuous = urdf[:start] + urdf[start:].replace('type="revolute"', 'type="continuous"', 1)
    kinematics, q = Kinematics(robot, continuous), [0.3, *robot.home[1:]]
    np.testing.assert_allclose(kinematics.position(q), Kinematics(robot).position(np.array(q)), atol=1e-12)
    np.testing.assert_array_equal(kinematics.position(q), kinematics.position(np.array(q)))
