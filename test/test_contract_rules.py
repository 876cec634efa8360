"""A contract in a checkpoint or a bag is held to the rules of a YAML file, and to bounds before memory is taken."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_contract import drop, put

from irl_ros import contract_checks as checks
from irl_ros.contract import Contract, ContractError, Field, Safety, Topic
from irl_ros.contract_checks import shown
from irl_ros.models.features import Features

REACH, GRID, PICK = (json.loads(json.dumps(Contract.load("", name).to_dict())) for name in ("reach", "reach_grid", "pick_place"))
STATES = {"name": "joint_states", "type": "sensor_msgs/msg/JointState", "max_age": 1e9}
POSE = {"name": "goal_pose", "type": "geometry_msgs/msg/PoseStamped", "max_age": 1.0}
MEBIBYTE = 2**20


def add(*keys_and_value: Any) -> Callable[[dict[str, Any]], None]:
    *keys, value = keys_and_value

    def change(data: dict[str, Any]) -> None:
        for key in keys:
            data = data[key]
        data.append(value)

    return change


RULES = [
    # What the robot's own topics are is the robot's affair.
    (REACH, put("task", "recorded", [["joint_states", STATES]]), "max_age must be a number above 0 and at most 60 s, not 1"),
    (REACH, put("task", "recorded", [["joint_states", {**STATES, "max_age": 60.0}]]), "joint_states is recorded anyway"),
    (REACH, put("task", "recorded", [["command", POSE]]), "command is recorded anyway"),
    (REACH, put("task", "recorded", [["gripper_command", POSE]]), "gripper_command is recorded anyway"),
    (REACH, put("task", "recorded", [["goal_pose", POSE]]), "goal_pose is recorded anyway"),
    (REACH, add("task", "topics", ["joint_states", {**STATES, "max_age": 1.0}]), "unknown role 'joint_states'"),
    (REACH, add("task", "topics", ["command", POSE]), "unknown role 'command'"),
    (REACH, add("task", "topics", ["gripper_command", POSE]), "unknown role 'gripper_command'"),
    (REACH, add("task", "topics", ["goal_pose", POSE]), "names in topics must differ .* 'goal_pose' occurs twice"),
    (REACH, put("task", "topics", [["goal_pose", {**POSE, "type": "std_msgs/msg/Bool"}]]), "type std_msgs/msg/Bool is not"),
    (REACH, put("task", "topics", [["goal_pose", {**POSE, "type": "os.path"}]]), "type must be package/msg/Name.*'os.path'"),
    (REACH, put("task", "topics", [["goal_pose", {**POSE, "name": "a b"}]]), "topic a b: a topic's name is words"),
    (REACH, put("task", "topics", [["goal_pose", {**POSE, "max_age": 61}]]), "max_age must be .* at most 60 s, not 61"),
    (REACH, put("task", "topics", []), "field goal_position needs the topic goal_pose"),
    (REACH, put("robot", "joint_states", "type", "std_msgs/msg/Bool"), "type std_msgs/msg/Bool is not supported"),
    (REACH, put("robot", "joint_states", "max_age", None), "it needs a max_age of its joint_states"),
    # Rates, horizons, steps.
    *((REACH, put("task", "rate", v), f"rate must be a number from 1 to 1000 Hz, not {shown(v)}")
      for v in (1e-9, 0.99, 1000.1, 1e9, math.nan, math.inf, -20, True, "20", None)),
    *((REACH, put("task", "horizon", v), f"horizon must be a whole number from 2 .*, not {shown(v)}")
      for v in (1, 10**12, 50.0, math.nan, True, "50")),
    (REACH, put("task", "horizon", 1_000_000), "has 30000030 numbers, valid are up to 30000000"),
    (REACH, put("task", "max_speed", 1e9), "max_speed must be .*rad/s, not 1"),
    (REACH, put("task", "max_speed", math.nan), "max_speed must be .*, not nan"),
    (REACH, put("task", "max_lead", 1e9), "max_lead must be .* at most 1 rad, not 1"),
    (PICK, put("task", "max_step", 50.0), "max_step must be .* at most 1 m, not 50.0"),
    (PICK, put("task", "max_step", 0.0), "max_step must be .* above 0"),
    # Actions.
    (REACH, put("task", "action_kind", "env"), "unknown action kind 'env'"),
    (REACH, put("task", "action_kind", "joint_velocity"), "unknown action kind 'joint_velocity'"),
    (REACH, put("task", "action_size", 6), "action_size must be 7, not 6"),
    (REACH, put("task", "action_size", 10**9), "action_size must be a whole number from 1 to 1024, not 1000000000"),
    (REACH, put("task", "gripper", True), "action_size must be 8, not 7"),
    (REACH, put("task", "gripper", 1), "action.gripper must be true or false, not 1"),
    (PICK, put("task", "orientation", [1, 1, 0, 0]), r"must be a unit quaternion .*\(1, 1, 0, 0\)"),
    (PICK, put("robot", "gripper", None), "action.gripper is true, and the robot has no gripper"),
    (PICK, put("robot", "gripper", "closed", 0.05), "closed < open, not 0.05 and 0.04 m"),
    (PICK, put("robot", "gripper", "joint_names", ["panda_joint1"]), "joints of arm and gripper .*'panda_joint1' occurs"),
    # Observation fields.
    (REACH, put("task", "fields", 0, "size", 6), "size of field joint_position must be 7, not 6"),
    (REACH, put("task", "fields", 0, "size", True), "size must be a whole number .* not True"),
    (REACH, put("task", "fields", 0, "size", 10**9), "size must be a whole number .* not 1000000000"),
    (REACH, put("task", "fields", 0, "unit", "deg"), "unit of field joint_position must be 'rad', not 'deg'"),
    (REACH, put("task", "fields", 0, "center", 1.0), "center of field joint_position must be 0.0, not 1.0"),
    (REACH, put("task", "fields", 0, "scale", -1.0), "scale must be a number from 1e-09 .*, not -1.0"),
    (REACH, put("task", "fields", 0, "scale", math.nan), "scale must be .*, not nan"),
    (REACH, put("task", "fields", 0, "name", "torque"), "unknown observation field 'torque'"),
    (REACH, put("task", "fields", 0, "name", "joint_velocity"), "fields of the observation must differ .*'joint_velocity'"),
    (REACH, put("task", "fields", []), "observation must be a list .* of 1 to 4096 elements, not 0"),
    (REACH, put("task", "policy_inputs", ["x"] * 4097), "policy_inputs must be a list .* of 0 to 4096 elements, not 4097"),
    (REACH, put("task", "policy_inputs", ["x" * 2049]), r"policy_inputs\[0\] must be printable text of 1 to 2048 characters"),
    (REACH, put("task", "reward_features", ["\x1b[2J"]), r"reward_features\[0\] must be printable text"),
    (REACH, put("task", "reward_features", "norm"), "reward_features must be a list"),
    (REACH, put("task", "randomisation", [["mas", [0, 1]]]), "unknown key 'mas'. Did you mean 'mass'"),
    (REACH, put("task", "randomisation", [["mass", [2, 1]]]), r"mass needs a range 0 <= low <= high, not \[2, 1\]"),
    (REACH, put("task", "randomisation", [["latency", [0, 1e6]]]), r"latency\[1\] must be a number from 0 to 10, not 1"),
    # Grids.
    (GRID, put("task", "grid", "origin", [5.0, 0.0]), "the grid leaves panda's workspace"),
    (GRID, put("task", "grid", "height", 9.0), "the grid leaves panda's workspace"),
    (GRID, put("task", "grid", "origin", [0.0]), "origin must be a list .* of 2 elements, not 1"),
    (GRID, put("task", "grid", "shape", [30_000, 30_000]), r"shape\[0\] must be a whole number from 2 to 5000 cells, not 30000"),
    (GRID, put("task", "grid", "shape", [5_000, 5_000]), "has 25000000 cells, valid are up to 10000"),
    (GRID, put("task", "grid", "shape", [7.0, 15]), r"shape\[0\] must be a whole number .* not 7.0"),
    (GRID, put("task", "grid", "cell", math.nan), "cell must be a number above 0 .*, not nan"),
    (GRID, put("task", "grid", "keep_out", [[0, 0]]), "keep_out must be a list .* of 2 elements, not 1"),
    (GRID, put("task", "grid", "features", "all"), "unknown features 'all'"),
    (GRID, put("task", "horizon", 100_000), "a grid of 105 cells over 100000 periods has more than 2000000"),
    (GRID, put("robot", "workspace_lower", []), "workspace needs lower and upper of three numbers"),
    # The robot.
    (REACH, put("robot", "joint_names", [f"j{k}" for k in range(129)]), "joints must be a list .* of 1 to 128 elements, not 129"),
    (REACH, put("robot", "joint_names", 1, "panda_joint1"), "joints must differ from one another; 'panda_joint1' occurs twice"),
    (REACH, put("robot", "joint_names", 1, ""), r"joints\[1\] must be printable text of 1 to 255 characters, not ''"),
    (REACH, put("robot", "joint_names", 1, 3), r"joints\[1\] must be printable text .*, not 3"),
    (REACH, drop("robot", "joint_names", 1), "position_lower must be a list .* of 6 elements, not 7"),
    (REACH, drop("robot", "velocity_limit", 1), "velocity_limit must be a list .* of 7 elements, not 6"),
    (REACH, put("robot", "velocity_limit", 1, 1e9), "velocity_limit of panda_joint2 must be .*rad/s, not 1"),
    (REACH, put("robot", "position_upper", 1, 10**400), "position_upper of panda_joint2 must be .*rad, not 1"),
    (REACH, put("robot", "home", 1, 3.0), r"home of panda_joint2 is 3.0, outside"),
    (REACH, put("robot", "base_frame", 7), "base_frame must be printable text .*, not 7"),
    (REACH, put("robot", "name", "p\x1b]0;x\x07"), r"robot: name must be printable text .*\\x1b"),
    (REACH, put("robot", "name", "n" * 2**20), "robot: name must be printable text"),
    (REACH, put("robot", "urdf", "u" * 5000), "urdf must be printable text of 1 to 4096 characters"),
    (REACH, put("robot", "fixed_joints", [["panda_joint1", 0.0]]), "panda_joint1 is among fixed_joints and joints"),
    (REACH, put("robot", "fixed_joints", [["a", math.nan]]), "fixed_joints: a must be a number .*, not nan"),
    (REACH, put("task", "name", ""), "task: name must be printable text of 1 to 255"),
    (REACH, put("task", "env", None), "env must be printable text .*, not None"),
    # The form.
    (REACH, put("task", "colour", 1), "task: unknown entry 'colour'"),
    (REACH, drop("task", "rate"), "task: rate is missing"),
    (REACH, put("task", "orientation", [[[[[[1.0]]]]]]), "lists within lists, more than 4 deep"),
    (REACH, put("task", None), "task must be a mapping, not None"),
    (REACH, put("robot", [1]), r"robot must be a mapping, not \[1\]"),
    (REACH, put("task", "topics", [["goal_pose"]]), "topics must be pairs of a role and a topic"),
    (REACH, put("task", "fields", {}), "fields must be a list of at most 4096 entries"),
]  # fmt: skip


@pytest.mark.parametrize("good, change, message", RULES, ids=[f"{k} {m}"[:60] for k, (*_, m) in enumerate(RULES)])
def test_what_a_file_may_not_say_a_dict_may_not_either(good: dict[str, Any], change: Callable[[Any], None], message: str):
    data = copy.deepcopy(good)
    change(data)
    with pytest.raises(ContractError, match=message) as caught:
        Contract.from_dict(data)
    assert len(str(caught.value)) < 2000 and str(caught.value).isprintable()


REAL = [
    ("Franka at 1 kHz", put("task", "rate", 1000.0)),
    ("an hour at 20 Hz", put("task", "horizon", 72_000)),
    ("once a second", put("task", "rate", 1.0)),
    ("goals that come every 30 s", put("task", "topics", [["goal_pose", {**POSE, "max_age": 45.0}]])),
    ("a topic outside the namespace", put("task", "topics", [["goal_pose", {**POSE, "name": "/camera_1/goal_pose"}]])),
    ("whole numbers for numbers", put("robot", "home", [0, 0, 0, -2, 0, 2, 1])),
]


@pytest.mark.parametrize("change", [c for _, c in REAL], ids=[name for name, _ in REAL])
def test_bounds_leave_room_for_robots_that_exist(change: Callable[[Any], None]):
    data = copy.deepcopy(REACH)
    change(data)
    assert json.loads(json.dumps(Contract.from_dict(data).to_dict())) == data


def test_a_humanoid_of_sixty_joints_is_a_robot():
    names = tuple(f"joint_{k}" for k in range(60))
    per_joint = {"position_lower": -1.0, "position_upper": 1.0, "velocity_limit": 20.0, "home": 0.0}
    limits = {name: (value,) * 60 for name, value in per_joint.items()}
    robot = dataclasses.replace(Contract.from_dict(REACH).robot, joint_names=names, gripper=None, fixed_joints=(), **limits)
    assert robot.n_joints == 60


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Topic("goal", "no type"), "type must be package/msg/Name"),
        (lambda: Field("x", 0), "size must be a whole number from 1"),
        (lambda: Safety(position_margin=math.nan), "position_margin must be a number from 0"),
        (lambda: Safety(acceleration_limit=(True,)), "acceleration must be a number above 0"),
        (lambda: dataclasses.replace(Contract.from_dict(REACH).task, fields=[Field("x", 1)]), "in Python, a tuple"),
        (lambda: Contract(None, None), "task must be a Task, not None"),
        (lambda: Contract("panda", Contract.from_dict(REACH).task), "robot must be a Robot, not 'panda'"),
    ],
)
def test_types_hold_their_rules_for_programs_too(make: Callable[[], object], message: str):
    with pytest.raises(ContractError, match=message):
        make()


@pytest.mark.parametrize(
    "feature, message",
    [
        ("-".join(["goal_position"] * 140), "279 words and signs, valid are up to 256"),
        ("norm(" * 300 + "goal_position" + ")" * 300, "901 words and signs, valid are up to 256"),
        ("2*" * 200 + "goal_position", "401 words and signs, valid are up to 256"),
        ("9" * 400 + "*goal_position", "a factor must be above 0 and finite"),
        ("clip(goal_position," + "9" * 400 + ")", "clip needs a limit above 0"),
    ],
)
def test_a_feature_of_too_many_terms_is_refused(feature: str, message: str):
    with pytest.raises(ContractError, match=message):
        Features(Contract.from_dict(REACH), [feature])


def test_features_of_too_many_numbers_are_refused_before_they_are_made():
    tracemalloc.start()
    with pytest.raises(ContractError, match="features have 16399 numbers or more, valid are up to 16384"):
        Features(Contract.from_dict(REACH), ["obs"] * 4096)
    assert tracemalloc.get_traced_memory()[1] < 64 * MEBIBYTE
    tracemalloc.stop()


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, -1, 2**31, 2**63, 10**12, 10**400, 1e-300, 1e9, 1e308, math.nan, math.inf, -math.inf]),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["", "\x1b[2J", "\x00", "\ud800", "a" * MEBIBYTE, "joint_states", "command", "os", "env"]),
    st.sampled_from([[], {}, [[]], [[[[[[[[]]]]]]]], {"a": 1}, [0] * 100_000, [["joint_states", STATES]]]),
    st.lists(st.one_of(st.integers(), st.floats(), st.text(max_size=3)), max_size=4),
)


def places(data: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of nested mappings and lists."""
    keys = list(data) if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else ()
    return [(data, key) for key in keys] + [place for key in keys for place in places(data[key])]


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from([REACH, GRID, PICK]), st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from("psda"), ODD), min_size=1, max_size=4))
def test_a_changed_contract_is_a_contract_or_an_error(good: dict[str, Any], changes: list[tuple[int, str, Any]]):
    data = copy.deepcopy(good)
    for where, what, value in changes:
        found = places(data)
        (container, key), value = found[where % len(found)], copy.deepcopy(value)
        if what == "d" and len(container) > 1:
            del container[key]
        elif what == "a":
            container.append(value) if isinstance(container, list) else container.update({str(value)[:9]: value})
        else:
            container[key] = value
    started = time.process_time()
    tracemalloc.start()
    try:
        contract = Contract.from_dict(data)
    except ContractError as error:
        assert len(str(error)) < 10_000
    else:
        # The bounds of what a runner takes from a task, and that no role of the robot's is named twice.
        assert contract == Contract.from_dict(contract.to_dict()) and 1.0 <= contract.task.rate <= 1000.0
        assert not {"joint_states", "command", "gripper_command"} & {*dict(contract.task.topics), *dict(contract.task.recorded)}
        assert all(t.max_age is None or t.max_age <= 60.0 for t in contract.topics.values()) if contract.robot else True
    finally:
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert most < 64 * MEBIBYTE and time.process_time() - started < 2.0
