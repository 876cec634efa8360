"""Messages to arrays and back, on real rclpy messages and on those that a bag gives."""

import dataclasses
import time

import numpy as np
import pytest
from geometry_msgs.msg import PoseStamped
from rclpy.serialization import serialize_message
from rosbags.typesys import Stores, get_typestore
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from irl_ros import messages
from irl_ros.contract import Contract, ContractError, Safety, Topic
from irl_ros.motion import JointTrajectory as Trajectory
from irl_ros.nodes.outputs import CommandOutput

NAMES = ("shoulder", "elbow", "wrist")
BAG = get_typestore(Stores.ROS2_JAZZY)


def live(msg):
    return msg


def bagged(msg):
    """The same message as a bag's reader gives it.

    `serialize_message` leaves slack behind empty arrays, which DDS does not send and `deserialize_cdr` refuses.
    """
    definition = BAG.get_msgdef(type(msg).__module__.split(".")[0] + "/msg/" + type(msg).__name__)
    return definition.deserialize_cdr_le(serialize_message(msg)[4:], 0, definition.cls, BAG)[0]


both = pytest.mark.parametrize("given", [live, bagged])


def trajectory(rng, points=3):
    times = np.cumsum(rng.uniform(0.01, 1.0, points))
    return Trajectory(times, rng.normal(size=(points, 3)), rng.normal(size=(points, 3)))


def trajectory_message(values, names=NAMES):
    return messages.fill_joint_trajectory(JointTrajectory(), JointTrajectoryPoint, names, values)


def state_message(**changes):
    msg = messages.fill_joint_state(JointState(), NAMES, np.arange(3.0), np.arange(3.0) / 10, 2.5)
    for key, value in changes.items():
        setattr(msg, key, value)
    return msg


@both
@pytest.mark.parametrize("seed", range(20))
def test_joint_state_is_found_by_name_in_any_order(given, seed):
    rng = np.random.default_rng(seed)
    position, velocity = rng.normal(size=5), rng.normal(size=5)
    names = [*NAMES, "finger_left", "finger_right"]
    order = rng.permutation(5)
    shuffled = [names[i] for i in order]
    msg = messages.fill_joint_state(JointState(), shuffled, position[order], velocity[order], 12.25)
    read = messages.joint_state(given(msg), NAMES)
    assert np.array_equal(read[0], position[:3]) and np.array_equal(read[1], velocity[:3])
    assert messages.stamp_seconds(given(msg).header.stamp) == 12.25


@both
@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"name": ["shoulder", "elbow", "other"]}, "lacks wrist"),
        ({"name": ["shoulder", "elbow", "elbow"]}, "elbow more than once"),
        ({"position": [0.0, 1.0]}, "position has 2 values for 3 joints"),
        ({"velocity": [0.0, 1.0]}, "velocity has 2 values for 3 joints"),
        ({"velocity": []}, "velocity has 0 values for 3 joints"),
        ({"position": [0.0, np.nan, 1.0]}, "elbow = nan"),
        ({"velocity": [0.0, 1.0, -np.inf]}, "wrist = -inf"),
    ],
)
def test_unusable_joint_states_are_refused_by_reason(given, changes, reason):
    with pytest.raises(messages.MessageError, match=reason):
        messages.joint_state(given(state_message(**changes)), NAMES)


@both
def test_empty_velocity_reads_as_zeros_where_it_is_not_required(given):
    position, velocity = messages.joint_state(given(state_message(velocity=[])), NAMES, require_velocity=False)
    assert np.array_equal(position, np.arange(3.0)) and np.array_equal(velocity, np.zeros(3))
    with pytest.raises(messages.MessageError, match="2 values"):
        messages.joint_state(given(state_message(velocity=[0.0, 1.0])), NAMES, require_velocity=False)


@both
def test_pose_comes_back_in_its_frame_alone(given):
    position = np.random.default_rng(0).normal(size=3)
    msg = messages.fill_pose(PoseStamped(), position, "base", 3.0)
    assert np.array_equal(messages.pose_position(given(msg), "base"), position)
    assert msg.pose.orientation.w == 1.0
    with pytest.raises(messages.MessageError, match="'base'.*'world'"):
        messages.pose_position(given(msg), "world")
    with pytest.raises(messages.MessageError, match="''.*'base'"):
        messages.pose_position(given(messages.fill_pose(PoseStamped(), position, "", 3.0)), "base")
    with pytest.raises(messages.MessageError, match="y = nan"):
        messages.pose_position(given(messages.fill_pose(PoseStamped(), np.array([0, np.nan, 0]), "base", 3.0)), "base")


@both
@pytest.mark.parametrize("seed", range(20))
def test_joint_trajectory_comes_back_reordered(given, seed):
    rng = np.random.default_rng(seed)
    values, order = trajectory(rng, points=1 + seed % 4), rng.permutation(3)
    shuffled = Trajectory(values.times, values.positions[:, order], values.velocities[:, order])
    msg = trajectory_message(shuffled, [NAMES[i] for i in order])
    read = messages.joint_trajectory(given(msg), NAMES)
    assert np.allclose(read.times, values.times, atol=1e-9)
    assert np.array_equal(read.positions, values.positions) and np.array_equal(read.velocities, values.velocities)
    assert messages.stamp_seconds(msg.header.stamp) == 0.0


def broken(change):
    msg = trajectory_message(trajectory(np.random.default_rng(0)))
    change(msg)
    return msg


@both
@pytest.mark.parametrize(
    "change, reason",
    [
        (lambda m: setattr(m, "joint_names", ["shoulder", "elbow"]), "lacks wrist"),
        (lambda m: setattr(m, "joint_names", [*NAMES, "rudder"]), "names rudder"),
        (lambda m: setattr(m, "joint_names", ["elbow", "elbow", "wrist"]), "more than once"),
        (lambda m: setattr(m, "points", []), "no points"),
        (lambda m: m.points.reverse(), "must increase"),
        (lambda m: messages.set_duration(m.points[0].time_from_start, -0.5), "must increase"),
        (lambda m: setattr(m.points[1], "positions", [0.0]), "positions of point 1 has 1 values"),
        (lambda m: setattr(m.points[2], "velocities", []), "velocities of point 2 has 0 values"),
        (lambda m: setattr(m.points[2], "positions", [0.0, 0.0, np.inf]), "point 2 is not finite: wrist = inf"),
    ],
)
def test_unusable_trajectories_are_refused_by_reason(given, change, reason):
    with pytest.raises(messages.MessageError, match=reason):
        messages.joint_trajectory(given(broken(change)), NAMES)


@both
def test_points_without_velocities_get_the_slope_between_their_neighbours(given):
    values = Trajectory(np.array([1.0, 2.0, 4.0]), np.array([[0.0] * 3, [1.0] * 3, [6.0] * 3]), np.zeros((3, 3)))
    msg = trajectory_message(values)
    for point in msg.points:
        point.velocities = []
    assert np.array_equal(messages.joint_trajectory(given(msg), NAMES).velocities[:, 0], [0.0, 2.0, 0.0])


@both
def test_joint_group(given):
    values = np.array([0.1, -0.2, 0.3])
    msg = messages.fill_joint_group(Float64MultiArray(), values)
    assert np.array_equal(messages.joint_group(given(msg), 3), values)
    with pytest.raises(messages.MessageError, match="3 values, the arm has 7 joints"):
        messages.joint_group(given(msg), 7)
    with pytest.raises(messages.MessageError, match="value 1 = nan"):
        messages.joint_group(given(messages.fill_joint_group(Float64MultiArray(), np.array([0, np.nan, 0]))), 3)


def test_a_message_that_names_thousands_of_joints_twice_is_refused_in_a_short_sentence():
    """Before, the time grew with the square of their number: 36 s for 60,000."""
    names = (*NAMES, *(f"x{i // 2}" for i in range(60_000)))
    msg = messages.fill_joint_state(JointState(), names, np.zeros(len(names)), np.zeros(len(names)), 1.0)
    begun = time.process_time()
    with pytest.raises(messages.MessageError, match="names x0, x1, x2, x3, x4 and 29995 others more than once") as error:
        messages.joint_state(msg, NAMES)
    assert time.process_time() - begun < 1.0 and len(str(error.value)) < 200


@pytest.mark.parametrize("seconds", [0.0, 1e-9, 0.999999999, 1.0, 1795388371.611519273, 2.9999999996])
def test_stamps_round_to_the_nanosecond(seconds):
    stamp = JointState().header.stamp
    messages.set_stamp(stamp, seconds)
    assert 0 <= stamp.nanosec < 1_000_000_000
    assert messages.stamp_seconds(stamp) == pytest.approx(seconds, abs=5e-7 if seconds > 1e6 else 1e-9)


@pytest.mark.parametrize("seconds", [-1.0, np.nan, np.inf])
def test_impossible_stamps_are_refused(seconds):
    with pytest.raises(messages.MessageError, match="finite and not negative"):
        messages.set_stamp(JointState().header.stamp, seconds)


@pytest.mark.parametrize(
    "interface, topic, other",
    [
        (messages.GROUP_POSITION, "joint_group_velocity_controller/commands", "velocity"),
        (messages.GROUP_VELOCITY, "forward_position_controller/commands", "position"),
    ],
)
def test_a_group_interface_refuses_a_topic_that_by_its_name_takes_the_other(interface: str, topic: str, other: str):
    """One message type serves both, and the numbers of one would be wild in the other."""
    reach = Contract.load("panda", "reach")
    own = dataclasses.replace(reach.robot, command=Topic(topic, "std_msgs/msg/Float64MultiArray", 0.1))
    contract = Contract(own, reach.task)
    with pytest.raises(ContractError, match=f"{interface} on the robot's own topic {topic}.*takes {other} commands"):
        CommandOutput(contract, Safety(), interface, 1.0, lambda *_: None)
    CommandOutput(reach, Safety(), interface, 1.0, lambda *_: None)


def test_a_velocity_driver_must_outlast_the_longest_time_between_two_commands():
    contract = Contract.load("panda", "reach")
    period = contract.task.period
    with pytest.raises(ContractError, match="above 1.5 control periods of 0.05 s"):
        CommandOutput(contract, Safety(), messages.GROUP_VELOCITY, 1.4 * period, lambda *_: None)
    CommandOutput(contract, Safety(), messages.GROUP_VELOCITY, 1.6 * period, lambda *_: None)
