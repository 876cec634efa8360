"""Robot descriptions with what stands still as one link: the arm of pinocchio's own reduction, and in PyBullet."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import expert_demonstrations
import numpy as np
import pinocchio
import pytest
from test_sim import motion

from irl_ros.contract import Contract, ContractError
from irl_ros_sim import urdf
from irl_ros_sim.arm import Arm

# Turned frames everywhere, a joint with an axis askew, a chain of fixed joints, a link without mass.
ASKEW = """<robot name="askew">
  <link name="base"/>
  <link name="upper"><inertial><origin xyz="0.2 0.1 0" rpy="0.3 0.2 0.1"/><mass value="1.5"/>
    <inertia ixx=".03" iyy=".02" izz=".01" ixy=".001" ixz=".002" iyz=".003"/></inertial></link>
  <link name="bracket"/>
  <link name="camera"><inertial><origin xyz="0.02 0 0.01" rpy="1 0 0"/><mass value="0.3"/>
    <inertia ixx=".003" iyy=".002" izz=".001" ixy="0" ixz="0" iyz=".0003"/></inertial></link>
  <link name="wrist"><inertial><origin xyz="0 0 0.1"/><mass value="0.5"/>
    <inertia ixx=".01" iyy=".01" izz=".005" ixy="0" ixz="0" iyz="0"/></inertial></link>
  <link name="slide"><inertial><origin xyz="0.1 0 0"/><mass value="0.2"/>
    <inertia ixx=".001" iyy=".002" izz=".003" ixy="0" ixz="0" iyz="0"/></inertial></link>
  <link name="tip"><inertial><mass value="0.4"/>
    <inertia ixx=".001" iyy=".001" izz=".001" ixy="0" ixz="0" iyz="0"/></inertial></link>
  <joint name="shoulder" type="revolute"><parent link="base"/><child link="upper"/><axis xyz="0 0 1"/>
    <origin xyz="0 0 0.3" rpy="0.1 0.2 0.3"/><limit lower="-3" upper="3" effort="200" velocity="2"/></joint>
  <joint name="mount" type="fixed"><parent link="upper"/><child link="bracket"/><origin rpy="0.4 0 1"/></joint>
  <joint name="lens" type="fixed"><parent link="bracket"/><child link="camera"/><origin xyz="0.1 0.2 0.3"/></joint>
  <joint name="turn" type="revolute"><parent link="bracket"/><child link="wrist"/><axis xyz="0 0.6 0.8"/>
    <origin xyz="0.4 0 0" rpy="0 0.5 0"/><limit lower="-3" upper="3" effort="200" velocity="2"/></joint>
  <joint name="rail" type="prismatic"><parent link="wrist"/><child link="slide"/><axis xyz="0.8 0 0.6"/>
    <origin xyz="0 0.1 0" rpy="0.2 0 0.7"/><limit lower="-1" upper="1" effort="200" velocity="2"/></joint>
  <joint name="elbow" type="revolute"><parent link="slide"/><child link="tip"/>
    <origin xyz="0.3 0 0"/><limit lower="-3" upper="3" effort="200" velocity="2"/></joint>
</robot>"""


@pytest.fixture
def askew(tmp_path: Path) -> Path:
    (tmp_path / "askew.urdf").write_text(ASKEW)
    return tmp_path / "askew.urdf"


def without_massless(path: Path) -> str:
    """The Panda's file gives links without mass an inertia, which PyBullet drops and pinocchio takes."""
    root = ElementTree.parse(path).getroot()
    for link in root.findall("link"):
        inertial = link.find("inertial")
        if inertial is not None and float(inertial.find("mass").get("value")) == 0.0:
            link.remove(inertial)
    return ElementTree.tostring(root, encoding="unicode")


def assert_same_dynamics(path: Path, held: dict[str, float]) -> None:
    """Mass matrix and gravity torques of the rigid text are those of pinocchio's reduced model, in every pose."""
    whole = pinocchio.buildModelFromXML(without_massless(path))
    pose = pinocchio.neutral(whole)
    for name, value in held.items():
        pose[whole.idx_qs[whole.getJointId(name)]] = value
    wanted = pinocchio.buildReducedModel(whole, [whole.getJointId(n) for n in held], pose)
    text = urdf.rigid(path, held)
    found = pinocchio.buildModelFromXML(text)
    assert list(found.names) == list(wanted.names) and 'type="fixed"' not in text
    for q in np.random.default_rng(0).uniform(-1, 1, (5, wanted.nq)):
        masses = [pinocchio.crba(m, m.createData(), q) for m in (found, wanted)]
        torques = [pinocchio.computeGeneralizedGravity(m, m.createData(), q) for m in (found, wanted)]
        np.testing.assert_allclose(*masses, atol=1e-12)
        np.testing.assert_allclose(*torques, atol=1e-10)


@pytest.mark.parametrize("held", [{}, {"rail": 0.3}, {"turn": -0.7}, {"rail": -0.2, "turn": 1.1, "elbow": 0.4}])
def test_an_arm_with_joints_held_keeps_its_dynamics(askew: Path, held: dict[str, float]):
    assert_same_dynamics(askew, held)


@pytest.mark.parametrize(("robot", "task"), [("panda", "reach"), ("planar3", "planar_reach")])
def test_the_robots_keep_their_dynamics(robot: str, task: str):
    description = Contract.load(robot, task).robot
    assert_same_dynamics(description.urdf_path(), dict(description.fixed_joints))


def test_a_joint_to_hold_that_is_not_there_is_named(askew: Path):
    with pytest.raises(ContractError, match="askew.urdf: .*railing"):
        urdf.rigid(askew, {"railing": 0.0})


def test_a_rigid_arm_moves_like_a_whole_one_with_fifty_iterations():
    """As the tasks without contact simulate it: within 3 mrad as a person moves it, within 1 mrad on average."""
    contract = Contract.load("panda", "reach")
    for episode in expert_demonstrations.demonstrations(contract, 3, seed=2):
        start = contract.field(episode.observations[0], "joint_position")
        fast = motion(contract, start, episode.actions, rigid=True)[0]
        difference = np.abs(fast - motion(contract, start, episode.actions, solver_iterations=50)[0])
        assert 0 < difference.max() < 3e-3 and difference.mean() < 1e-3


def test_the_fingers_of_a_rigid_arm_are_where_they_are_held():
    robot = Contract.load("panda", "reach").robot
    arm, whole = Arm(robot, rigid=True), Arm(robot)
    try:
        for found, wanted in zip(arm.finger_state(), whole.finger_state()):
            np.testing.assert_allclose(found, wanted, atol=1e-9)
    finally:
        arm.close(), whole.close()
