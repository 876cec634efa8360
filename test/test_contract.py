"""Contracts: reading YAML, errors that help, copies in bags and checkpoints, and the one action function."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from irl_ros import contract_lookup as module
from irl_ros.contract import Contract, ContractError, did_you_mean, load_robot, resolve_path, share_directory
from irl_ros.motion import JointTrajectory, halt_trajectory, joint_target, target_trajectory

CONTRACT = Contract.load("panda", "reach")
HOME = np.array(CONTRACT.robot.home)
LOWER, UPPER = np.array(CONTRACT.robot.position_lower), np.array(CONTRACT.robot.position_upper)
STEP = 1.0 / 20.0
"""[rad]: 1 rad/s at 20 Hz; no Panda joint is slower."""


class Hand:
    """Forward kinematics that a hand can follow: the first three joints, doubled."""

    def position(self, joint_position: np.ndarray) -> np.ndarray:
        return 2.0 * joint_position[:3]


def written(tmp_path: Path, kind: str, name: str, change: Callable[[dict[str, Any]], None]) -> str:
    """Path of a copy of the package's YAML with a change made to its content."""
    data = yaml.safe_load((share_directory() / "config" / kind / f"{name}.yaml").read_text())
    change(data)
    path = tmp_path / f"{name}.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    return str(path)


def put(*keys_and_value: Any) -> Callable[[dict[str, Any]], None]:
    *keys, last, value = keys_and_value

    def change(data: dict[str, Any]) -> None:
        for key in keys:
            data = data[key]
        data[last] = value

    return change


def drop(*keys: str) -> Callable[[dict[str, Any]], None]:
    def change(data: dict[str, Any]) -> None:
        for key in keys[:-1]:
            data = data[key]
        del data[keys[-1]]

    return change


@pytest.mark.parametrize("robot", ["panda", "iiwa"])
def test_both_arms_load_with_reach(robot: str):
    contract = Contract.load(robot, "reach")
    assert contract.robot.n_joints == contract.action_size == 7
    assert contract.observation_size == 7 + 7 + 3 + 3 + 3
    assert contract.robot.urdf_path().is_file()
    assert contract.sources == ("joint_states", "goal_pose")
    assert set(contract.topics) == {"joint_states", "command", "goal_pose"}
    assert contract.topics["goal_pose"].latched and not contract.topics["joint_states"].latched
    assert contract.task.period == 0.05


def test_observation_is_in_the_tasks_order_and_differences_point_to_the_goal():
    measured = {
        "joint_position": np.arange(7.0),
        "joint_velocity": 10.0 + np.arange(7.0),
        "goal_position": np.array([1.0, 1.0, 1.0]),
    }
    expected = [*range(7), *range(10, 17), 0, 2, 4, 1, 1, 1, 1, -1, -3]
    observation = CONTRACT.observe(measured, Hand())
    np.testing.assert_array_equal(observation, expected)
    np.testing.assert_array_equal(CONTRACT.field(observation, "end_effector_to_goal"), [1, -1, -3])
    batch = np.stack([observation, 2 * observation])
    np.testing.assert_array_equal(CONTRACT.field(batch, "joint_velocity")[1], 2 * np.arange(10, 17))


def test_object_fields(tmp_path):
    def with_object(data: dict[str, Any]) -> None:
        data["observation"] = ["end_effector_to_object", "object_to_goal"]
        data["topics"]["object_pose"] = {"name": "o", "type": "geometry_msgs/msg/PoseStamped", "max_age": 0.2}

    contract = Contract.load("panda", written(tmp_path, "tasks", "reach", with_object))
    hand, thing, goal = np.ones(3), np.array([1.0, 2, 3]), np.array([0.0, 0, 5])
    measured = {"joint_position": np.full(7, 0.5), "object_position": thing, "goal_position": goal}
    np.testing.assert_array_equal(contract.observe(measured, Hand()), [*(thing - hand), *(goal - thing)])
    assert contract.sources == ("joint_states", "object_pose", "goal_pose")
    assert contract.topics["object_pose"].max_age == 0.2


STATE = "sensor_msgs/msg/JointState"
ROBOT_ERRORS = [
    (put("urfd", "x"), "unknown key 'urfd'. Did you mean 'urdf'"),
    (drop("base_frame"), "'base_frame' is missing"),
    (drop("joints", "panda_joint3", "home"), "joint panda_joint3: 'home' is missing"),
    (put("joints", "panda_joint3", "hme", 0), "unknown key 'hme'. Did you mean 'home'"),
    (put("joints", "panda_joint1", None), "wrong form"),
    (put("joints", ["a"]), "wrong form"),
    (put("joints", {}), "joints must be a list .* of 1 to 128 elements, not 0"),
    (put("joints", "panda_joint1", "velocity", "fast"), "velocity_limit of panda_joint1 must be a number above 0 .*rad/s, not 'fast'"),
    (put("joints", "panda_joint1", "velocity", 0), "velocity_limit of panda_joint1 must be a number above 0 .*rad/s, not 0.0"),
    (put("joints", "panda_joint1", "position", [1, -1]), "panda_joint1 needs lower < upper"),
    (put("joints", "panda_joint1", "position", [float("nan"), 1]), "position_lower of panda_joint1 must be a number .*rad, not nan"),
    (put("joints", "panda_joint1", "home", 9.0), r"home of panda_joint1 is 9.0, outside \[-2.8973, 2.8973\]"),
    (put("topics", "joint_state", {}), "unknown key 'joint_state'. Did you mean 'joint_states'"),
    (put("topics", "joint_states", {"name": "a", "type": "b"}), "give either max_age .* or latched"),
    (put("topics", "joint_states", {"name": "a", "type": STATE, "max_age": float("inf")}), "above 0 and at most 60 s, not inf"),
    (put("topics", "joint_states", {"name": "a", "type": STATE, "latched": True}), "max_age of its joint_states"),
    (put("topics", "joint_states", "max_age", -1), "max_age must be a number above 0 and at most 60 s, not -1"),
    (put("topics", "command", {"name": "a"}), "topics.command: 'type' is missing"),
    (put("workspace", "upper", [1, 1]), "workspace needs lower and upper of three numbers"),
    (put("workspace", "upper", [0, 0, 0]), "lower < upper"),
    (drop("workspace", "lower"), "wrong form"),
]


@pytest.mark.parametrize("change, message", ROBOT_ERRORS, ids=[m for _, m in ROBOT_ERRORS])
def test_a_robot_file_that_cannot_be_used_is_refused_with_the_reason(tmp_path, change, message):
    with pytest.raises(ContractError, match=message):
        load_robot(written(tmp_path, "robots", "panda", change))


TASK_ERRORS = [
    (put("reward_feature", []), "unknown key 'reward_feature'. Did you mean 'reward_features'"),
    (drop("rate"), "'rate' is missing"),
    (put("rate", 0), "rate must be a number from 1 to 1000 Hz, not 0"),
    (put("rate", float("nan")), "rate must be a number from 1 to 1000 Hz, not nan"),
    (put("action", "max_lead", float("nan")), "max_lead"),
    (put("action", "max_lead", float("inf")), "max_lead must be a number above 0 and at most 1 rad, not inf"),
    (put("action", "max_speed", -1.0), "max_speed must be a number above 0 .*rad/s, not -1"),
    (put("horizon", 1), "horizon must be a whole number from 2 to 1000000 control periods, not 1"),
    (put("horizon", "long"), "horizon must be a whole number from 2 to .*, not 'long'"),
    (put("action", "kind", "joint_displacment"), "unknown action kind.* Did you mean 'joint_displacement'"),
    (put("action", "sped", 1), "unknown key 'sped'"),
    (put("observation", ["joint_positions"]), "unknown observation field.* Did you mean 'joint_position'"),
    (put("observation", ["object_position"]), "object_position needs the topic object_pose"),
    (put("topics", "gaol_pose", {}), "unknown key 'gaol_pose'. Did you mean 'goal_pose'"),
    (put("observation", 3), "wrong form"),
]


@pytest.mark.parametrize("change, message", TASK_ERRORS, ids=[m for _, m in TASK_ERRORS])
def test_a_task_file_that_cannot_be_used_is_refused_with_the_reason(tmp_path, change, message):
    with pytest.raises(ContractError, match=message):
        Contract.load("panda", written(tmp_path, "tasks", "reach", change))


def test_unknown_names_and_files_name_the_valid_ones(tmp_path):
    with pytest.raises(ContractError, match=r"unknown robot 'pand'. Did you mean 'panda'\? Valid: iiwa, panda"):
        Contract.load("pand", "reach")
    with pytest.raises(ContractError, match=r"unknown task 'fly'.* Valid: .*reach"):
        Contract.load("panda", "fly")
    with pytest.raises(ContractError, match="absent.yaml does not exist"):
        load_robot(str(tmp_path / "absent.yaml"))
    (tmp_path / "bad.yaml").write_text("a: [1")
    with pytest.raises(ContractError, match="not valid YAML"):
        load_robot(str(tmp_path / "bad.yaml"))
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(ContractError, match="expected a mapping"):
        load_robot(str(tmp_path / "list.yaml"))


def test_did_you_mean_proposes_only_what_is_near():
    assert did_you_mean("gcll", ("gcl", "bc")) == " Did you mean 'gcl'? Valid: gcl, bc."
    assert did_you_mean("zzzz", ("gcl", "bc")) == " Valid: gcl, bc."


@pytest.mark.parametrize("robot", ["panda", "iiwa"])
def test_copies_through_json_are_equal(robot: str):
    contract = Contract.load(robot, "reach")
    again = Contract.from_dict(json.loads(json.dumps(contract.to_dict())))
    assert again == contract and again.slices == contract.slices
    assert contract.differences(again) == []


def test_a_contract_without_a_robot_survives_too():
    contract = Contract(None, CONTRACT.task)
    assert Contract.from_dict(json.loads(json.dumps(contract.to_dict()))) == contract


def test_what_is_no_contract_is_refused():
    good = json.loads(json.dumps(CONTRACT.to_dict()))
    broken = [{}, {**good, "task": None}, {**good, "robot": 3}, {"robot": None, "task": {"name": "x"}}]
    unknown = copy.deepcopy(good)
    unknown["task"]["colour"] = "blue"
    misshapen = copy.deepcopy(good)
    misshapen["task"]["topics"] = [["goal_pose"]]
    for data in (*broken, unknown, misshapen):
        with pytest.raises(ContractError, match="no contract written by irl_ros"):
            Contract.from_dict(data)


def test_differences_name_the_fields_and_both_values_but_not_where_the_urdf_lies():
    robot = dataclasses.replace(CONTRACT.robot, urdf="/elsewhere.urdf", base_frame="world")
    task = dataclasses.replace(CONTRACT.task, rate=10.0)
    assert CONTRACT.differences(Contract(robot, task)) == [
        "robot.base_frame: panda_link0 here, world there",
        "task.rate: 20.0 here, 10.0 there",
    ]
    assert any("robot" in line for line in CONTRACT.differences(Contract(None, CONTRACT.task)))


def test_joint_target_moves_by_the_action_times_the_step():
    action = np.array([1.0, -1.0, 0.5, 0, 0, 0, 0])
    target = joint_target(CONTRACT, HOME, action, HOME)
    np.testing.assert_allclose(target - HOME, STEP * action, atol=1e-15)
    np.testing.assert_allclose(CONTRACT.max_step, STEP)


def test_max_step_is_never_above_a_joints_own_limit(tmp_path):
    path = written(tmp_path, "robots", "panda", put("joints", "panda_joint2", "velocity", 0.4))
    expected = np.full(7, STEP)
    expected[1] = 0.4 / 20.0
    np.testing.assert_allclose(Contract.load(path, "reach").max_step, expected)


def test_joint_target_clips_actions():
    beyond, at = np.full(7, 3.0), np.ones(7)
    np.testing.assert_array_equal(
        joint_target(CONTRACT, HOME, beyond, HOME), joint_target(CONTRACT, HOME, at, HOME)
    )


def test_joint_target_stays_within_max_lead_of_the_measured_pose():
    target = HOME.copy()
    for _ in range(20):  # an arm that is held fast
        target = joint_target(CONTRACT, target, np.ones(7), HOME)
    np.testing.assert_allclose(target, np.minimum(HOME + CONTRACT.task.max_lead, UPPER))
    np.testing.assert_allclose(
        joint_target(CONTRACT, HOME + 1.0, np.zeros(7), HOME), np.minimum(HOME + CONTRACT.task.max_lead, UPPER)
    )


@pytest.mark.parametrize("sign, limit", [(1.0, UPPER), (-1.0, LOWER)])
def test_joint_target_never_leaves_the_joint_limits(sign: float, limit: np.ndarray):
    target = limit - sign * 0.02
    np.testing.assert_array_equal(joint_target(CONTRACT, target, np.full(7, sign), target), limit)
    np.testing.assert_array_equal(joint_target(CONTRACT, limit, np.full(7, sign), limit + sign * 0.1), limit)


def test_target_trajectory_is_the_target_with_feed_forward_then_a_stop():
    target = HOME + 0.03
    trajectory = target_trajectory(CONTRACT, HOME, target)
    np.testing.assert_allclose(trajectory.times, [0.05, 0.1])
    np.testing.assert_array_equal(trajectory.positions[0], target)
    np.testing.assert_allclose(trajectory.velocities[0], np.full(7, 0.03 / 0.05))
    np.testing.assert_allclose(trajectory.positions[1], target + 0.6 * 0.05 / 2)  # v·period/2 further on
    np.testing.assert_array_equal(trajectory.velocities[1], np.zeros(7))


@pytest.mark.parametrize("sign, limit", [(1.0, UPPER), (-1.0, LOWER)])
def test_target_trajectory_slows_down_so_that_its_spline_stays_within_the_limits(sign: float, limit: np.ndarray):
    from irl_ros_sim.follower import TrajectoryFollower

    for room in (0.0, 0.002, 0.01, 0.04):
        target = limit - sign * room
        trajectory = target_trajectory(CONTRACT, target - sign * STEP, target)
        follower = TrajectoryFollower(target - sign * STEP)
        follower.follow(trajectory)
        positions, _ = follower.sample(np.linspace(0, 0.2, 201))
        assert (sign * (limit - positions) >= -1e-12).all()
        assert (np.abs(trajectory.velocities[0]) <= STEP / 0.05 + 1e-12).all()


def test_halt_trajectory_comes_to_rest_in_time():
    trajectory = halt_trajectory(HOME - 0.1, HOME, [0.2] * 7)
    np.testing.assert_allclose(trajectory.times, [0.2])
    np.testing.assert_array_equal(trajectory.positions, HOME[None])
    np.testing.assert_array_equal(trajectory.velocities, np.zeros((1, 7)))


def test_halt_trajectory_brings_each_joint_to_rest_in_its_own_time_at_constant_deceleration():
    from irl_ros_sim.follower import TrajectoryFollower

    times = np.array([0.1, 0.2, 0.2, 0.1995, 0.1004, 0.1, 0.05])  # two of them a moment before another
    way = np.linspace(-0.1, 0.2, 7)
    trajectory = halt_trajectory(HOME - way, HOME, times)
    np.testing.assert_allclose(trajectory.times, [0.05, 0.1004, 0.2])
    own = np.array([0.1004, 0.2, 0.2, 0.2, 0.1004, 0.1004, 0.05])
    follower = TrajectoryFollower(HOME - 2.0 * way)
    moving, rest = (HOME - way, 2.0 * way / own), (HOME, 0.0 * HOME)
    follower.follow(JointTrajectory(np.array([1.0, 2.0]), *(np.stack(pair) for pair in zip(moving, rest))))
    follower.advance(1.0, 1)
    follower.follow(trajectory)
    t = np.linspace(0.0, 0.3, 61)
    positions, velocities = follower.sample(t)
    left = np.maximum(1.0 - t[:, None] / own, 0.0)
    np.testing.assert_allclose(positions, HOME - way * left**2, atol=1e-9)
    np.testing.assert_allclose(velocities, 2.0 * way / own * left, atol=1e-9)


def test_share_directory_prefers_the_ament_index_then_the_prefix_then_the_source_tree(tmp_path, monkeypatch):
    source = Path(module.__file__).resolve().parent.parent
    monkeypatch.delenv("AMENT_PREFIX_PATH", raising=False)
    monkeypatch.setattr(module.sys, "prefix", str(tmp_path / "nothing"))
    assert share_directory() == source
    for prefix in ("prefix", "ament"):
        (tmp_path / prefix / "share/irl_ros/config/robots").mkdir(parents=True)
    monkeypatch.setattr(module.sys, "prefix", str(tmp_path / "prefix"))
    assert share_directory() == tmp_path / "prefix/share/irl_ros"
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"{tmp_path / 'without'}:{tmp_path / 'ament'}")
    assert share_directory() == tmp_path / "ament/share/irl_ros"


def test_paths_into_packages_and_relative_to_the_yaml_file(tmp_path):
    assert resolve_path("pybullet_data:franka_panda/panda.urdf", "urdf").is_file()
    with pytest.raises(ContractError, match="urdf: Python package 'no_such_package' is not installed"):
        resolve_path("no_such_package:x.urdf", "urdf")
    with pytest.raises(ContractError, match="urdf: no file .*absent.urdf"):
        resolve_path("pybullet_data:absent.urdf", "urdf")
    (tmp_path / "my.urdf").write_text("<robot/>")
    path = written(tmp_path, "robots", "panda", put("urdf", "my.urdf"))
    assert load_robot(path).urdf_path() == tmp_path / "my.urdf"
