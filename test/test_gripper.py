"""A task with a gripper and orientations in its contract: actions, observations, the gate, and a recorded episode."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import yaml
from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import JointState

from irl_ros import messages
from irl_ros.contract import Contract, ContractError, share_directory
from irl_ros.motion import gripper_action, gripper_target, joint_target
from irl_ros.control.gate import Command, Gate, Halt
from irl_ros.kinematics import Kinematics
from irl_ros_sim.arm import Arm

DOWN = [1.0, 0.0, 0.0, 0.0]


def grasping(directory: Path, robot: str = "panda", **changes: object) -> Contract:
    """A task that moves the end effector, kept pointing down, and the gripper."""
    task = yaml.safe_load((share_directory() / "config/tasks/reach.yaml").read_text())
    task["action"] = {
        **{"kind": "end_effector_displacement", "max_step": 0.01, "max_speed": 2.0, "max_lead": 0.15},
        **{"gripper": True, "orientation": DOWN},
    }
    observed = ["end_effector_orientation", "gripper_opening", {"object_position": 0.05}, "object_orientation"]
    task["observation"] += observed
    task["topics"]["object_pose"] = {"name": "object_pose", "type": "geometry_msgs/msg/PoseStamped", "max_age": 0.2}
    task.update(changes)
    (directory / "grasp.yaml").write_text(yaml.safe_dump(task))
    return Contract.load(robot, str(directory / "grasp.yaml"))


@pytest.fixture
def contract(tmp_path: Path) -> Contract:
    return grasping(tmp_path)


def home(contract: Contract) -> np.ndarray:
    return np.array(contract.robot.home)


def test_the_last_element_of_the_action_is_the_grippers(contract: Contract):
    assert contract.action_size == 4 and contract.task.arm_action_size == 3 and contract.max_step.shape == (3,)
    asked = [gripper_target(contract, np.array([0, 0, 0, a])) for a in (-3.0, -1.0, 0.0, 1.0, 2.0)]
    np.testing.assert_allclose(asked, [0.0, 0.0, 0.04, 0.08, 0.08])
    np.testing.assert_allclose(gripper_action(contract, np.array([0.0, 0.02, 0.08, 0.1]))[:, 0], [-1, -0.5, 1, 1])
    assert gripper_target(Contract.load("panda", "reach"), np.zeros(7)) is None


def test_the_end_effector_keeps_its_orientation(contract: Contract):
    kinematics = Kinematics(contract.robot)
    target = kinematics.solve(home(contract), np.array([0.5, 0.0, 0.3]), DOWN, iterations=200)
    rng = np.random.default_rng(0)
    for _ in range(40):
        before, action = kinematics.position(target), rng.uniform(-1, 1, 4)
        target = joint_target(contract, target, action, target, kinematics)
        np.testing.assert_allclose(kinematics.position(target), before + 0.01 * action[:3], atol=1e-4)
        assert abs(abs(kinematics.orientation(target) @ DOWN) - 1) < 1e-6


def test_orientations_do_not_flip_their_sign(contract: Contract):
    kinematics, rng = Kinematics(contract.robot), np.random.default_rng(1)
    reference = kinematics.orientation(home(contract))
    for _ in range(50):
        q = kinematics.orientation(home(contract) + rng.normal(0, 0.2, 7))
        assert abs(np.linalg.norm(q) - 1) < 1e-9 and q @ reference > 0
    flipped = messages.fill_pose(PoseStamped(), np.zeros(3), "panda_link0", 0.0, (0.0, 0.0, 0.6, -0.8))
    np.testing.assert_allclose(messages.pose_orientation(flipped), [0, 0, -0.6, 0.8])
    none = messages.fill_pose(PoseStamped(), np.zeros(3), "panda_link0", 0.0, (0.0, 0.0, 0.0, 0.0))
    with pytest.raises(messages.MessageError, match="length 0, not 1"):
        messages.pose_orientation(none)


def test_messages_become_the_observation(contract: Contract):
    names = (*contract.robot.gripper.joint_names, *contract.robot.joint_names)
    position = np.concatenate([[0.01, 0.012], home(contract)])
    state = messages.fill_joint_state(JointState(), names, position, np.zeros(9), 0.0)
    measured = messages.measured(state, "joint_states", contract)
    for role, where in (("goal_pose", [0.5, 0.1, 0.2]), ("object_pose", [0.4, 0.0, 0.1])):
        pose = messages.fill_pose(PoseStamped(), np.array(where), "panda_link0", 0.0, (0.0, 0.0, 0.6, 0.8))
        measured |= messages.measured(pose, role, contract)
    observation = contract.observe(measured, Kinematics(contract.robot))
    np.testing.assert_allclose(contract.field(observation, "gripper_opening"), [0.022])
    np.testing.assert_allclose(contract.field(observation, "object_orientation"), [0, 0, 0.6, 0.8])
    assert {f.name: f.scale for f in contract.task.fields}["object_position"] == 0.05
    armless = messages.fill_joint_state(JointState(), contract.robot.joint_names, home(contract), np.zeros(7), 0.0)
    with pytest.raises(messages.MessageError, match="lacks panda_finger_joint1, panda_finger_joint2"):
        messages.measured(armless, "joint_states", contract)


def test_the_gate_passes_an_opening_within_the_grippers_range(contract: Contract):
    gate = Gate(contract, Kinematics(contract.robot))
    ages = dict.fromkeys(("joint_states", "goal_pose", "object_pose"), 0.0)
    gate.enable(home(contract), ages)
    for action, opening in ((np.array([0, 0, 0, 5.0]), 0.08), (np.array([0, 0, 0, -0.5]), 0.02)):
        command = gate.command(action, home(contract), ages)
        assert isinstance(command, Command) and math.isclose(command.opening, opening)
    assert "element 3 is nan" in gate.command(np.array([0, 0, 0, math.nan]), home(contract), ages).reason


def test_a_human_who_says_nothing_of_the_gripper_leaves_it(contract: Contract):
    """As it was last commanded, or as it was found: an object in it is not dropped."""
    gate, ages, at = Gate(contract, Kinematics(contract.robot)), dict.fromkeys(contract.topics, 0.0), home(contract)
    gate.enable(at, ages, opening=0.03)
    assert gate.forward(at, at, ages).opening == pytest.approx(0.03)
    closed = gate.command(np.append(np.zeros(contract.task.arm_action_size), -1.0), at, ages)
    assert gate.forward(at, at, ages).opening == closed.opening


def test_kinematics_that_give_no_number_halt(contract: Contract):
    class Lost(Kinematics):
        def solve(self, joint_position, position, orientation=None):
            return np.full_like(joint_position, np.nan)

    gate, ages, at = Gate(contract, Lost(contract.robot)), dict.fromkeys(contract.topics, 0.0), home(contract)
    gate.enable(at, ages)
    result = gate.command(np.zeros(contract.action_size), at, ages)
    assert isinstance(result, Halt) and "no number" in result.reason
    np.testing.assert_array_equal(result.trajectory.positions, [at])


def test_the_simulated_gripper_opens_closes_and_is_reset(contract: Contract):
    arm = Arm(contract.robot)
    try:
        arm.reset_gripper(0.08)
        np.testing.assert_allclose(arm.finger_state()[0], [0.04, 0.04])
        arm.command_gripper(0.02)
        arm.step(120)
        np.testing.assert_allclose(arm.finger_state()[0], [0.01, 0.01], atol=1e-3)
        arm.reset(home(contract))
        arm.reset_gripper(0.08)
        arm.step(24)
        np.testing.assert_allclose(arm.finger_state()[0], [0.04, 0.04], atol=1e-3)
    finally:
        arm.close()


def test_a_contract_with_a_gripper_survives_its_dict(contract: Contract):
    assert Contract.from_dict(contract.to_dict()) == contract
    assert list(contract.topics) == ["joint_states", "command", "gripper_command", "goal_pose", "object_pose"]


def test_a_gripper_that_the_robot_lacks_is_named(tmp_path: Path):
    with pytest.raises(ContractError, match="robot iiwa: .*the robot has no gripper"):
        grasping(tmp_path, "iiwa", observation=["joint_position"])
    action = {"kind": "joint_displacement", "max_speed": 1.0, "max_lead": 0.15}
    with pytest.raises(ContractError, match="gripper_opening needs a gripper, and the robot has none"):
        grasping(tmp_path, "iiwa", action=action)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"randomisation": {"weight": [1, 2]}}, "unknown key 'weight'"),
        ({"randomisation": {"mass": [2, 1]}}, "mass needs a range 0 <= low <= high"),
        ({"observation": [{"joint_position": 0.0}]}, "field joint_position: scale must be a number from 1e-09"),
    ],
)
def test_a_wrong_entry_of_the_task_is_named(tmp_path: Path, changes: dict[str, object], match: str):
    with pytest.raises(ContractError, match=match):
        grasping(tmp_path, **changes)


def test_an_orientation_of_no_length_one_is_refused(tmp_path: Path):
    action = {"kind": "end_effector_displacement", "max_step": 0.02, "max_speed": 1.0, "max_lead": 0.15}
    with pytest.raises(ContractError, match="must be a unit quaternion"):
        grasping(tmp_path, action={**action, "gripper": True, "orientation": [1, 1, 0, 0]})
