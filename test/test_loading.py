"""The gate's kinematics: this robot's own, and refused where the checkpoint's arm is another one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import handmade
import numpy as np
import pytest
import yaml

from irl_ros.contract import Contract, ContractError, load_robot, share_directory
from irl_ros.kinematics import Kinematics
from irl_ros.checkpoint import CheckpointError
from irl_ros.nodes.loading import load_fitting, own_kinematics

CONTRACT = Contract.load("panda", "reach")
HOME = np.array(CONTRACT.robot.home)
CHECKPOINT = handmade.checkpoint(CONTRACT, np.zeros(7))


def robot_file(directory: Path, change: Callable[[str], str]) -> str:
    """The Panda's file with another URDF."""
    urdf = load_robot("panda").urdf_path().read_text()
    changed = change(urdf)
    assert changed != urdf
    (directory / "arm.urdf").write_text(changed)
    data = yaml.safe_load((share_directory() / "config" / "robots" / "panda.yaml").read_text())
    (directory / "arm.yaml").write_text(yaml.safe_dump({**data, "urdf": "arm.urdf"}))
    return str(directory / "arm.yaml")


def longer_tool(urdf: str) -> str:
    start = urdf.index('<joint name="panda_grasptarget_hand"')
    origin = urdf.index('xyz="', start) + len('xyz="')
    return urdf[:origin] + "0.05 0 0" + urdf[urdf.index('"', origin) :]


def turned_first_axis(urdf: str) -> str:
    """The same in the home pose, where this joint is at zero."""
    start = urdf.index('<joint name="panda_joint1"')
    axis = urdf.index('<axis xyz="', start) + len('<axis xyz="')
    return urdf[:axis] + "0 0 -1" + urdf[urdf.index('"', axis) :]


def test_the_robots_own_urdf_serves_the_gate():
    own = own_kinematics("panda", CHECKPOINT, pytest.fail)
    np.testing.assert_array_equal(own.position(HOME), Kinematics(load_robot("panda")).position(HOME))


@pytest.mark.parametrize("change", [longer_tool, turned_first_axis])
def test_another_arm_is_refused(tmp_path: Path, change: Callable[[str], str]):
    with pytest.raises(ContractError, match="by its URDF the end effector is .* m from where the checkpoint's has it"):
        own_kinematics(robot_file(tmp_path, change), CHECKPOINT, pytest.fail)


def test_without_a_urdf_here_the_checkpoints_serves_and_is_told(tmp_path: Path):
    robot, told = robot_file(tmp_path, longer_tool), []
    (tmp_path / "arm.urdf").unlink()
    own = own_kinematics(robot, CHECKPOINT, told.append)
    np.testing.assert_array_equal(own.position(HOME), Kinematics(load_robot("panda")).position(HOME))
    assert len(told) == 1 and "the gate goes by the checkpoint's kinematics" in told[0]


STATES = {"name": "joint_states", "type": "sensor_msgs/msg/JointState", "max_age": 60.0}
CAMERA = {"name": "camera", "type": "sensor_msgs/msg/Image", "max_age": 60.0}


@pytest.mark.parametrize("where", ["recorded", "topics"])
@pytest.mark.parametrize("task", ["", "reach"])
def test_a_checkpoint_that_names_the_robots_joint_states_is_refused(tmp_path: Path, where: str, task: str):
    CHECKPOINT.save(tmp_path)
    handmade.rewrite(tmp_path, lambda m: m["description"]["contract"]["task"][where].append(["joint_states", STATES]))
    with pytest.raises(CheckpointError, match=r"manifest.json: .*joint_states"):
        load_fitting(str(tmp_path), "panda", task)


@pytest.mark.parametrize("task", ["", "reach"])
def test_topics_and_limits_of_the_robot_are_those_of_its_file_here(tmp_path: Path, task: str):
    CHECKPOINT.save(tmp_path)

    def forge(manifest: dict) -> None:
        contract = manifest["description"]["contract"]
        contract["task"]["recorded"].append(["camera", CAMERA])
        contract["robot"]["urdf"] = "/elsewhere.urdf"

    handmade.rewrite(tmp_path, forge)
    contract = load_fitting(str(tmp_path), "panda", task).contract
    assert contract.robot == load_robot("panda") and contract.topics == CONTRACT.topics


def test_another_max_age_of_the_joint_states_does_not_fit(tmp_path: Path):
    CHECKPOINT.save(tmp_path)
    handmade.rewrite(tmp_path, lambda m: m["description"]["contract"]["robot"]["joint_states"].update(max_age=60.0))
    with pytest.raises(ContractError, match="robot.joint_states.max_age: 0.1 here, 60.0 there"):
        load_fitting(str(tmp_path), "panda")


def test_a_checkpoint_without_a_robot_is_refused(tmp_path: Path):
    CHECKPOINT.save(tmp_path)
    handmade.rewrite(tmp_path, lambda m: m["description"]["contract"].update(robot=None))
    with pytest.raises(ContractError, match="made for an env without a robot"):
        load_fitting(str(tmp_path), "panda")


@pytest.mark.parametrize("name, value", [("rate", 100.0), ("max_speed", 2.0), ("max_lead", 0.9)])
def test_a_named_task_holds_the_checkpoints_to_its_file(tmp_path: Path, name: str, value: float):
    CHECKPOINT.save(tmp_path)
    handmade.rewrite(tmp_path, lambda m: m["description"]["contract"]["task"].update({name: value}))
    with pytest.raises(ContractError, match=f"task.{name}: .* here, {value} there"):
        load_fitting(str(tmp_path), "panda", "reach")
