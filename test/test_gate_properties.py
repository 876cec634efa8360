"""The gate under arbitrary actions, targets, measurements and ages: gate_oracle.py says what must hold."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from types import SimpleNamespace

import gate_drives
import numpy as np
import pytest
from gate_drives import wild
from gate_oracle import DETOUR, FAST, REACH, SAFETY, TIGHT, Driver, Event
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from irl_ros.contract import Contract, ContractError, Safety, load_safety
from irl_ros.control.gate import Gate, GateError, Halt
from irl_ros.control.limits import stoppable
from irl_ros.kinematics import Kinematics
from irl_ros.motion import target_trajectory

REAL = SimpleNamespace(Gate=Gate, GateError=GateError, Halt=Halt)
HOME = np.array(REACH.robot.home)
UNBOXED = dataclasses.replace(SAFETY, box_lower=(), box_upper=())
ANY = arrays(np.float64, 7, elements=st.floats(width=64))  # nan, inf and 1e308 too
SENSIBLE = arrays(np.float64, 7, elements=st.floats(-2.0, 2.0))
WRONG = st.one_of(arrays(np.float64, st.integers(0, 9)), arrays(np.int64, 7), st.none())
SOMETIMES = st.one_of(st.just(0.0), st.just(0.0), arrays(np.float64, 7, elements=st.floats(-0.3, 0.3)))
EVENTS = st.lists(
    st.builds(
        Event,
        action=st.one_of(SENSIBLE, SENSIBLE, SENSIBLE, ANY, WRONG),
        human=st.booleans(),
        pace=st.floats(0.0, 1.0),
        age=st.one_of(st.floats(0.0, 0.1), st.just(0.0), st.floats(0.0, 0.2), st.sampled_from([math.inf, math.nan])),
        follow=st.floats(0.0, 1.0),
        push=SOMETIMES,
    ),
    max_size=25,
)


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize(
    "contract, safety",
    [(REACH, SAFETY), (FAST, SAFETY), (REACH, TIGHT), (REACH, Safety()), (DETOUR, TIGHT)],
)
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(events=EVENTS, speed=st.floats(0.01, 1.0))
def test_whatever_comes_every_command_keeps_every_limit(contract, safety, events: list[Event], speed: float):
    driver = Driver(REAL, contract, safety)
    driver.gate.speed = speed
    driver.run(events)


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(room=st.floats(-0.5, 3.0), brake=st.floats(1e-4, 1e6))
def test_what_can_be_stopped_stops_exactly_at_the_bound(room: float, brake: float):
    change = float(stoppable(room, brake))
    changes = []
    while change > 1e-15:
        changes.append(change)
        change -= brake
    assert sum(changes) == pytest.approx(max(room, 0.0), abs=1e-9)


@pytest.mark.parametrize("count", [20_000, pytest.param(100_000, marks=pytest.mark.full)])
def test_random_actions_keep_every_limit(count: int):
    """Lagging, blocked, jolted arms, old measurements, any pace, two rates, joint and end-effector actions."""
    rng, seen = np.random.default_rng(0), Counter()
    for contract, safety, share in (
        (REACH, SAFETY, 0.4),
        (REACH, TIGHT, 0.1),
        (FAST, SAFETY, 0.3),
        (FAST, TIGHT, 0.1),
        (DETOUR, SAFETY, 0.1),
    ):
        driver = Driver(REAL, contract, safety, path_every=10)
        driver.run(wild(rng, contract.action_size, round(share * count)))
        assert 5 < driver.seen["halt"] < 0.05 * share * count
        seen += driver.seen
    limits = ("conflict", "action", "lead", "acceleration", "box", "position", "free")
    assert all(seen[what] > count / 1000 for what in limits), seen


@pytest.mark.parametrize("safety", [SAFETY, TIGHT, UNBOXED], ids=["wide box", "tight box", "no box"])
@pytest.mark.parametrize("rate", [20.0, 100.0, 250.0])
def test_a_controllers_spline_peaks_at_no_more_than_six_times_the_acceleration(rate: float, safety: Safety):
    """And an arm that follows is never halted: it brakes before each limit by itself."""
    contract = dataclasses.replace(REACH, task=dataclasses.replace(REACH.task, rate=rate))
    rng, driver = np.random.default_rng(0), Driver(REAL, contract, safety)
    for event in wild(rng, 7, 2000, human=False, age=0.0, pace=1.0, push=0.0, follow=1.0):
        start, before = driver.target, driver.velocity
        driver.step(event)
        slope, after = (driver.target - start) * rate, driver.velocity
        ends = 6.0 * slope - 4.0 * before - 2.0 * after, 2.0 * before + 4.0 * after - 6.0 * slope  # of a cubic
        assert (np.abs(ends) * rate <= (6.0 + 1e-6) * driver.acceleration).all()
    assert not driver.seen["halt"] and driver.seen["acceleration"]


def test_without_safety_limits_a_command_is_as_in_simulation():
    rng, measured = np.random.default_rng(5), HOME.copy()
    gate, previous = Gate(REACH), HOME
    gate.enable(measured, {"joint_states": 0.0, "goal_pose": 0.0})
    for _ in range(30):
        command = gate.command(rng.uniform(-1, 1, 7), measured, {"joint_states": 0.0, "goal_pose": 0.0})
        for mine, simulated in zip(command.trajectory, target_trajectory(REACH, previous, command.target)):
            np.testing.assert_array_equal(mine, simulated)
        measured = previous = command.target


def test_from_rest_the_velocity_rises_by_the_acceleration_limit():
    driver = Driver(REAL, FAST, SAFETY)
    for k in range(1, 6):
        driver.step(Event(np.ones(7)))
        rise = k * np.array(SAFETY.acceleration_limit) * 0.01
        np.testing.assert_allclose(driver.velocity, np.minimum(rise, 1.0), atol=1e-9)


def test_a_step_that_leaves_the_box_is_shortened_and_reported():
    driver, commands = Driver(REAL, REACH, TIGHT), []
    for _ in range(40):
        commands.append(driver.gate.command(np.eye(7)[0], driver.measured, driver.ages(0.0)))
        driver.measured = commands[-1].target
    assert commands[0].limited == ("acceleration of panda_joint1",) and commands[3].limited == ("box",)
    assert 0.09 < Kinematics(REACH.robot).position(driver.measured)[1] <= 0.1
    back = driver.gate.command(-np.eye(7)[0], driver.measured, driver.ages(0.0))
    assert "box" not in back.limited and back.target[0] < driver.measured[0]


def test_an_arm_carried_out_of_its_box_halts_with_the_reason():
    gate, measured = Gate(REACH, Kinematics(REACH.robot), TIGHT), HOME.copy()
    ages = {"joint_states": 0.0, "goal_pose": 0.0}
    gate.enable(measured, ages)
    measured[0] = 0.14  # 0.04 m beyond the box, and still within the lead
    hand = Kinematics(REACH.robot).position(measured)
    measured[0] *= (0.1 + 0.012) / hand[1]
    halt = gate.command(np.zeros(7), measured, ages)
    assert isinstance(halt, Halt) and "the end effector is 0.01" in halt.reason and "outside its box" in halt.reason
    with pytest.raises(GateError, match="outside its box .* move it back by hand"):
        gate.enable(measured, ages)


def test_the_speed_and_the_pace_scale_a_step_and_are_refused_out_of_their_range():
    gate = Gate(REACH)
    gate.enable(HOME, {"joint_states": 0.0, "goal_pose": 0.0})
    gate.speed = 0.1
    command = gate.command(np.full(7, 0.5), HOME, {"joint_states": 0.0, "goal_pose": 0.0}, pace=0.5)
    np.testing.assert_allclose(command.target - HOME, 0.5 * 0.1 * 0.5 * REACH.max_joint_step)
    np.testing.assert_allclose(command.action, np.full(7, 0.025))
    with pytest.raises(GateError, match=r"speed must lie in \(0, 1\], not 1.5"):
        gate.speed = 1.5
    with pytest.raises(GateError, match=r"pace must lie in \[0, 1\], not -1"):
        gate.command(np.zeros(7), HOME, {"joint_states": 0.0, "goal_pose": 0.0}, pace=-1.0)
    assert gate.speed == 0.1


def test_a_human_moves_the_gripper_too_and_leaves_it_as_it_was_otherwise():
    contract = Contract.load("panda", "pick_place")
    kinematics, ages = Kinematics(contract.robot), dict.fromkeys(("joint_states", *contract.sources), 0.0)
    gate, home = Gate(contract, kinematics), np.array(contract.robot.home)
    gate.enable(home, ages)
    half = gate.forward(home, home, ages, opening=0.04)
    assert half.opening == 0.04 and half.action.shape == (4,)
    np.testing.assert_allclose(half.action, np.zeros(4), atol=1e-9)
    assert gate.forward(home, home, ages).opening == 0.04
    assert gate.forward(home, home, ages, opening=9.0).opening == 0.08
    assert gate.forward(home, home, ages, opening=math.nan).opening == 0.08


def test_limits_that_do_not_fit_the_robot_are_refused():
    with pytest.raises(ContractError, match="another robot"):
        Gate(REACH, Kinematics(REACH.robot), dataclasses.replace(SAFETY, acceleration_limit=(1.0,) * 6))
    with pytest.raises(ContractError, match="its box bounds the end effector; give its kinematics"):
        Gate(REACH, None, SAFETY)


@pytest.mark.parametrize("robot", ["panda", "panda_peg", "iiwa"])
def test_every_robots_home_pose_can_be_enabled(robot: str):
    contract = Contract.load(robot, "reach")
    gate = Gate(contract, Kinematics(contract.robot), load_safety(robot))
    gate.enable(np.array(contract.robot.home), {"joint_states": 0.0, "goal_pose": 0.0})
    assert gate.armed


def test_the_promises_hold_on_the_drives_that_judge_the_mutants():
    gate_drives.check(REAL)
