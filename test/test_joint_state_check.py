"""Which joint states are believed: limits, jumps, publishers, frozen joints."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from irl_ros.contract import Contract, Safety, load_safety
from irl_ros.control.joint_state_check import FrozenJointCheck, JointStateCheck
from irl_ros.control.velocity_command import DRIFT_TIME, MAX_DRIFT, VelocityCommand
from irl_ros.motion import JointTrajectory

CONTRACT = Contract.load("panda", "reach")
ROBOT = CONTRACT.robot
HOME = np.array(ROBOT.home)
UNIT = np.eye(7)
PERIOD = CONTRACT.task.period
INTERVAL = 0.01  # [s] between two joint states
MAX_AGE = ROBOT.joint_states.max_age


class Stream:
    """Joint states of a check, one each INTERVAL; `position` is what the next one reports."""

    def __init__(self, **options: object):
        self.check, self.now = JointStateCheck(CONTRACT, **options), 100.0
        self.send(HOME, times=20)

    def send(self, position: np.ndarray, times: int = 1, velocity: object = 0.0, publisher: bytes = b"") -> bool:
        believed = False
        for _ in range(times):
            self.now += INTERVAL
            joints = {"joint_position": np.array(position), "joint_velocity": np.full(7, velocity)}
            believed = self.check.believe(joints, self.now, self.now + 3600.0, publisher)
        return believed

    @property
    def fault(self) -> str | None:
        return self.check.fault(self.now)


def test_an_arm_at_its_fastest_is_believed():
    stream, fastest = Stream(), np.array(ROBOT.velocity_limit)
    for k in range(1, 20):
        assert stream.send(HOME + k * INTERVAL * fastest, velocity=2.0)
    assert stream.fault is None
    np.testing.assert_allclose(stream.check.speed(), fastest, rtol=1e-9)


@pytest.mark.parametrize(
    "wrong",
    [np.degrees(HOME), HOME + 2 * math.pi * UNIT[0], HOME - 2 * math.pi * UNIT[6], HOME + 1e300 * UNIT[2]],
    ids=["degrees", "wrap", "wrap back", "huge"],
)
def test_a_position_outside_its_limits_is_a_fault_for_max_age(wrong: np.ndarray):
    stream = Stream()
    assert not stream.send(wrong)
    assert "outside [" in stream.fault and "check its unit and calibration" in stream.fault
    assert stream.send(HOME) and stream.fault is not None
    stream.send(HOME, times=11)
    assert stream.fault is None


@pytest.mark.parametrize("jump", [0.1, 0.13, -0.5, 1.0])
def test_a_jump_within_the_limits_is_not_believed_until_the_operator_was_asked(jump: float):
    stream, there = Stream(), HOME + jump * UNIT[0]
    assert not stream.send(there)
    assert f"panda_joint1 was at 0.000 rad and 0.010 s later at {jump:.3f} rad" in stream.fault
    assert stream.check.ask() == "" and stream.check.accept() is None  # one value is no pose yet
    assert not stream.send(there, times=500)  # however long it lasts
    assert stream.fault is not None and stream.check.accept() is None
    assert "enable again to accept it" in stream.check.ask()
    np.testing.assert_array_equal(stream.check.accept().quantities["joint_position"], there)
    assert stream.fault is None and stream.send(there)


def test_a_second_jump_after_the_operator_was_asked_needs_another_question():
    stream = Stream()
    stream.send(HOME + 0.5 * UNIT[0], times=5)
    assert stream.check.ask()
    stream.send(HOME - 0.5 * UNIT[0])
    assert stream.check.accept() is None and stream.check.ask() == ""


def test_one_wrong_value_is_a_fault_for_max_age_and_the_old_pose_is_believed_again():
    stream = Stream()
    assert not stream.send(HOME + 0.5)
    assert stream.send(HOME) and stream.fault is not None
    stream.send(HOME, times=11)
    assert stream.fault is None and stream.check.ask() == ""


def test_two_poses_in_turn_stay_a_fault():
    stream = Stream()
    for k in range(100):
        stream.send(HOME + (0.13 if k % 2 else 0.0))
        assert k == 0 or stream.fault is not None


@pytest.mark.parametrize("value", [1e300, -1e6, 30.0])
def test_a_velocity_that_no_joint_has_is_a_fault(value: float):
    stream = Stream()
    assert not stream.send(HOME, velocity=value)
    assert "its limit is 2.175 rad/s" in stream.fault


def test_an_arm_behind_a_forward_position_controller_may_move_a_periods_step_at_once():
    step = CONTRACT.max_joint_step
    assert not Stream().send(HOME + step) and Stream(at_once=True).send(HOME + step)
    assert not Stream(at_once=True).send(HOME + step + 0.05)


def test_after_a_silence_the_arm_may_be_where_it_can_have_moved():
    stream = Stream()
    stream.now += 1.0
    assert stream.send(HOME + 2.0 * UNIT[0])
    stream.now += 0.3
    assert not stream.send(HOME)


def test_messages_that_arrive_together_go_by_their_stamps():
    """A stalled receiver gets what was sent 10 ms apart within a millisecond."""
    check, fastest = JointStateCheck(CONTRACT), np.array(ROBOT.velocity_limit)
    for k in range(10):
        joints = {"joint_position": HOME + k * 0.04 * fastest, "joint_velocity": fastest}
        assert check.believe(joints, 100.0 + 1e-4 * k, 0.04 * k)
    joints["joint_position"] = HOME + fastest  # an hour by the sender's clock is max_age
    assert not check.believe(joints, 100.001, 3600.0)


def test_a_simulated_arm_may_be_reset_while_it_is_not_driven():
    driven = True
    stream = Stream(may_jump=lambda: not driven)
    assert not stream.send(HOME + 1.0)
    driven = False
    assert stream.send(HOME + 1.0) and stream.check.fault(stream.now + 1.0) is None


def test_two_publishers_of_the_same_joints_are_a_fault_however_near_their_poses():
    stream = Stream()
    for _ in range(50):
        assert stream.send(HOME, publisher=b"")
        assert not stream.send(HOME + 1e-3, publisher=b"other")
        assert "two publishers send the position of panda_joint1" in stream.fault
    stream.now += 2.0 * MAX_AGE  # a driver that is started again
    assert stream.send(HOME, publisher=b"other") and stream.fault is None


def test_a_gripper_that_reports_the_impossible_is_a_fault():
    check = JointStateCheck(CONTRACT)
    for opening, fault in ((0.08, False), (0.0, False), (0.1, False), (40.0, True), (-1e300, True)):
        joints = {"joint_position": HOME, "joint_velocity": np.zeros(7), "gripper_opening": np.array([opening])}
        assert check.believe(joints, 100.0) != fault


class Frozen:
    """A check of frozen joints with a target that moves joint 3."""

    def __init__(self, rate: float = 20.0):
        self.check, self.now, self.target = FrozenJointCheck(CONTRACT, Safety()), 10.0, HOME.copy()
        self.check.begin(HOME, self.now)
        self.period, self.position = 1.0 / rate, HOME.copy()

    def tick(self, speed: float, moves: bool) -> str | None:
        self.now += self.period
        self.target[2] += speed * self.period
        self.position = self.target.copy() if moves else self.position
        self.check.update(self.position, self.target, self.now)
        return self.check.fault(self.position)


def test_a_joint_that_is_commanded_to_move_and_reports_the_same_bits_is_a_fault():
    frozen = Frozen()
    assert [frozen.tick(0.5, moves=True) for _ in range(40)] == [None] * 40
    faults = [frozen.tick(0.5, moves=False) for _ in range(10)]
    assert faults[:4] == [None] * 4 and "panda_joint3 was commanded to move and still reports" in faults[5]
    frozen.check.begin(frozen.position, frozen.now)  # enabling again does not help
    assert frozen.check.fault(frozen.position) is not None
    assert frozen.check.fault(frozen.position + 1e-9 * UNIT[2]) is None  # the joint moved


def test_a_joint_that_rests_may_report_the_same_bits_for_ever():
    frozen = Frozen()
    assert [frozen.tick(0.0, moves=False) for _ in range(1000)] == [None] * 1000


def test_a_joint_that_another_one_outruns_is_not_frozen():
    """Joint 3 moves, the other six rest."""
    frozen = Frozen()
    assert [frozen.tick(1.0, moves=True) for _ in range(60)] == [None] * 60


def follow(command: VelocityCommand, targets: np.ndarray, measured: np.ndarray, k: int) -> np.ndarray:
    velocity = (targets[k + 1] - targets[k]) / PERIOD
    trajectory = JointTrajectory(np.array([PERIOD]), targets[k + 1][None], velocity[None])
    return command.follow(trajectory, measured, 5.0 + k * PERIOD).copy()


def ramp(periods: int, speed: float) -> np.ndarray:
    """Targets of joint 1 that reach `speed` [rad/s] within its acceleration, shape (periods + 1, 7)."""
    change = np.minimum(np.arange(1, periods + 1) * 0.5, speed) * PERIOD
    return HOME + np.concatenate([[0.0], np.cumsum(change)])[:, None] * UNIT[0]


def test_velocities_follow_an_arm_that_follows():
    command, targets = VelocityCommand(CONTRACT, load_safety("panda"), 0.2), ramp(20, 1.0)
    measured = HOME.copy()
    for k in range(20):
        velocity = follow(command, targets, measured, k)
        np.testing.assert_allclose(velocity, (targets[k + 1] - targets[k]) / PERIOD, atol=1e-12)
        measured = measured + velocity * PERIOD


def test_a_distance_from_the_target_is_made_good_in_the_drift_time():
    command, targets = VelocityCommand(CONTRACT, Safety(), 0.2), ramp(5, 0.0)
    np.testing.assert_allclose(follow(command, targets, HOME - 0.01 * UNIT[1], 0), 0.01 / DRIFT_TIME * UNIT[1])


def test_what_was_sent_adds_up_to_the_targets_where_the_reported_pose_stands_still():
    """Before, 0.3 rad/s without end."""
    command, targets = VelocityCommand(CONTRACT, load_safety("panda"), 0.2), ramp(10, 0.3)
    targets = np.concatenate([targets, np.repeat(targets[-1:], 200, axis=0)])
    sent = HOME.copy()
    for k in range(len(targets) - 1):
        sent = sent + follow(command, targets, HOME, k) * PERIOD
        assert (np.abs(sent - targets[k + 1]) <= MAX_DRIFT + 1e-9).all()
    np.testing.assert_allclose(sent[0] - targets[-1][0], MAX_DRIFT, atol=1e-9)


def test_velocities_keep_the_limits_of_velocity_acceleration_and_position():
    safety, rng = load_safety("panda"), np.random.default_rng(0)
    command, before = VelocityCommand(CONTRACT, safety, 0.2), np.zeros(7)
    target = HOME.copy()
    for k in range(2000):
        targets = np.array([target, target + rng.uniform(-0.05, 0.05, 7)])
        velocity = (targets[1] - targets[0]) / PERIOD
        trajectory = JointTrajectory(np.array([PERIOD]), targets[1][None], velocity[None])
        sent = command.follow(trajectory, target + rng.uniform(-0.15, 0.15, 7), k * PERIOD).copy()
        assert (np.abs(sent) <= ROBOT.velocity_limit).all()
        assert (np.abs(sent - before) <= np.array(safety.acceleration_limit) * PERIOD + 1e-9).all()
        target, before = targets[1] * 0.99 + HOME * 0.01, sent
    near = np.array(ROBOT.position_upper) - 0.001
    fast = JointTrajectory(np.array([PERIOD]), near[None] + 0.05, np.full((1, 7), 1.0))
    fresh = VelocityCommand(CONTRACT, dataclasses.replace(safety, acceleration_limit=()), 0.2)
    assert (fresh.follow(fast, near, 0.0) <= 0.001 / PERIOD + 1e-12).all()
    assert not fresh.stop().any()
