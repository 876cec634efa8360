"""The command gate: limits, refusals, halts; oracles by hand."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from irl_ros.contract import Contract, ContractError
from irl_ros.motion import joint_target
from irl_ros.control.gate import Command, Gate, GateError, GateState, Halt

CONTRACT = Contract.load("panda", "reach")
HOME = np.array(CONTRACT.robot.home)
STEP = 1.0 / 20.0  # max_speed 1 rad/s at 20 Hz: 0.05 rad in a period
FRESH = {"joint_states": 0.01, "goal_pose": 1000.0}
ZERO = np.zeros(7)


def armed(measured: np.ndarray = HOME) -> Gate:
    gate = Gate(CONTRACT)
    gate.enable(measured, FRESH)
    return gate


def test_a_command_is_the_contracts_target_and_a_later_stop():
    action = np.array([1.0, -1.0, 0.5, 0.0, -0.5, 0.25, 0.0])
    command = armed().command(action, HOME, FRESH)
    assert isinstance(command, Command) and command.limited == ()
    np.testing.assert_allclose(command.target, HOME + STEP * action, atol=1e-15)
    np.testing.assert_array_equal(command.target, joint_target(CONTRACT, HOME, action, HOME))
    np.testing.assert_allclose(command.trajectory.times, [0.05, 0.1])
    np.testing.assert_allclose(command.trajectory.positions, [HOME + STEP * action, HOME + 1.5 * STEP * action])
    np.testing.assert_allclose(command.trajectory.velocities, [action, ZERO], atol=1e-12)


def test_targets_build_on_the_previous_target_not_on_the_lagging_arm():
    gate = armed()
    for k in (1, 2, 3):
        command = gate.command(np.full(7, 1.0), HOME, FRESH)
        np.testing.assert_allclose(command.target, HOME + k * STEP)
    assert command.limited == ()


def test_the_lead_over_a_blocked_arm_is_bounded_and_reported():
    gate = armed()
    for _ in range(10):
        command = gate.command(np.eye(7)[1], HOME, FRESH)
    np.testing.assert_allclose(command.target, HOME + 0.15 * np.eye(7)[1])
    assert command.limited == ("lead of panda_joint2",)
    np.testing.assert_allclose(command.trajectory.velocities[0], ZERO, atol=1e-12)


def test_an_action_beyond_one_is_clipped_and_reported():
    command = armed().command(np.array([5.0, 0, 0, 0, 0, 0, -1.5]), HOME, FRESH)
    np.testing.assert_array_equal(command.action, [1, 0, 0, 0, 0, 0, -1])
    np.testing.assert_allclose(command.target - HOME, [STEP, 0, 0, 0, 0, 0, -STEP])
    assert command.limited == ("action",)


def test_a_joint_limit_is_never_passed_nor_by_interpolation():
    measured = HOME.copy()
    measured[3] = CONTRACT.robot.position_upper[3] - 0.02
    gate = armed(measured)
    command = gate.command(np.eye(7)[3], measured, FRESH)
    upper = CONTRACT.robot.position_upper[3]
    assert command.limited == ("position of panda_joint4",)
    assert command.target[3] == upper
    np.testing.assert_allclose(command.trajectory.positions[:, 3], upper)
    assert command.trajectory.velocities[0, 3] == 0.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("what", ["action", "measured joint position"])
def test_non_finite_values_halt(what: str, bad: float):
    gate, action, measured = armed(), ZERO.copy(), HOME.copy()
    (action if what == "action" else measured)[4] = bad
    halt = gate.command(action, measured, FRESH)
    assert isinstance(halt, Halt) and halt.reason == f"{what}: element 4 is {bad}"
    np.testing.assert_array_equal(halt.trajectory.positions, [HOME])
    np.testing.assert_array_equal(halt.trajectory.velocities, [ZERO])
    assert gate.state is GateState.HALTED


@pytest.mark.parametrize("bad", [np.zeros(6), np.zeros((1, 7)), np.zeros(0), np.float64(1.0), [0.0] * 7, None])
@pytest.mark.parametrize("what", ["action", "measured"])
def test_wrong_shapes_halt(what: str, bad: object):
    gate = armed()
    halt = gate.command(bad if what == "action" else ZERO, bad if what == "measured" else HOME, FRESH)
    assert isinstance(halt, Halt) and "shape" in halt.reason
    assert np.isfinite(halt.trajectory.positions).all()


def test_actions_that_are_no_numbers_halt():
    assert "type" in armed().command(np.array(["1"] * 7), HOME, FRESH).reason
    assert "type" in armed().command(np.zeros(7, dtype=int), HOME, FRESH).reason


@pytest.mark.parametrize(
    "ages, reason",
    [
        ({"joint_states": 0.1001, "goal_pose": 0.0}, "joint_states is stale"),
        ({"joint_states": math.inf, "goal_pose": 0.0}, "nothing received on joint_states"),
        ({"joint_states": math.nan, "goal_pose": 0.0}, "nothing received on joint_states"),
        ({"goal_pose": 0.0}, "nothing received on joint_states"),
        ({"joint_states": 0.0, "goal_pose": math.inf}, "nothing received on goal_pose"),
        ({"joint_states": 0.0}, "nothing received on goal_pose"),
    ],
)
def test_stale_or_missing_input_halts(ages: dict[str, float], reason: str):
    assert armed().command(ZERO, HOME, ages).reason.startswith(reason)
    with pytest.raises(GateError, match=reason):
        Gate(CONTRACT).enable(HOME, ages)


def test_input_within_its_age_and_a_latched_topic_of_any_age_do_not_halt():
    assert isinstance(armed().command(ZERO, HOME, {"joint_states": 0.1, "goal_pose": 1e9}), Command)


def test_a_topic_of_its_own_max_age_goes_stale_by_that():
    slow = dataclasses.replace(CONTRACT.robot.joint_states, max_age=0.5)
    gate = Gate(Contract(dataclasses.replace(CONTRACT.robot, joint_states=slow), CONTRACT.task))
    gate.enable(HOME, {"joint_states": 0.4, "goal_pose": 0.0})
    assert isinstance(gate.command(ZERO, HOME, {"joint_states": 0.51, "goal_pose": 0.0}), Halt)


def test_a_halt_brakes_from_where_the_arm_is_and_ends_in_the_last_stop_where_that_is_not_known():
    measured = HOME + 0.01
    fresh, stale = armed(), armed()
    for gate in (fresh, stale):
        gate.command(np.ones(7), HOME, FRESH)
    halt = fresh.halt("stop", measured, FRESH)
    np.testing.assert_allclose(halt.trajectory.positions, [measured + 0.7 * STEP])
    # At STEP / 0.05 s: braking in 0.05 s, from where the arm has got in the 0.01 s since it was measured.
    np.testing.assert_allclose(halt.trajectory.times, [0.05])
    np.testing.assert_array_equal(halt.hold, measured)
    halt = stale.command(np.ones(7), measured, {"joint_states": 0.2, "goal_pose": 0.0})
    np.testing.assert_allclose(halt.trajectory.positions, [HOME + STEP + STEP / 2])
    np.testing.assert_allclose(halt.trajectory.times, [0.075])
    np.testing.assert_allclose(halt.hold, HOME + STEP)


def test_no_motion_after_a_halt_until_enabled_again_and_then_from_the_measured_pose():
    gate = armed()
    gate.command(np.ones(7), HOME, FRESH)
    gate.command(np.full(7, np.nan), HOME, FRESH)
    for _ in range(3):
        with pytest.raises(GateError, match="halted.*enable it first"):
            gate.command(ZERO, HOME, FRESH)
    with pytest.raises(GateError, match="halted"):
        gate.halt("again", HOME, FRESH)
    elsewhere = HOME + 0.3
    gate.enable(elsewhere, FRESH)
    assert gate.armed and gate.reason == ""
    np.testing.assert_allclose(gate.command(ZERO, elsewhere, FRESH).target, elsewhere)


def test_a_gate_that_was_never_enabled_commands_nothing():
    gate = Gate(CONTRACT)
    with pytest.raises(GateError, match="disarmed"):
        gate.command(ZERO, HOME, FRESH)
    assert gate.disable("disabled", HOME, FRESH) is None


def test_disabling_halts_once_and_enabling_with_bad_input_changes_nothing():
    gate = armed()
    assert gate.disable("disabled", HOME, FRESH).reason == "disabled"
    assert gate.disable("disabled", HOME, FRESH) is None
    with pytest.raises(GateError, match="element 0 is nan"):
        gate.enable(np.full(7, np.nan), FRESH)
    assert gate.state is GateState.DISARMED


def test_an_arm_pushed_away_from_its_target_halts():
    pushed = HOME + 0.4 * np.eye(7)[2]
    halt = armed().command(ZERO, pushed, FRESH)
    assert isinstance(halt, Halt) and "panda_joint3" in halt.reason and "0.400 rad from its target" in halt.reason
    np.testing.assert_array_equal(halt.trajectory.positions, [pushed])


def test_an_arm_outside_its_limits_is_not_enabled():
    outside = HOME.copy()
    outside[0] = CONTRACT.robot.position_upper[0] + 0.5
    with pytest.raises(GateError, match="panda_joint1 is at 3.397 rad, outside .* move it back by hand"):
        armed(outside)


def test_an_arm_just_outside_its_limits_is_led_back():
    outside = HOME.copy()
    outside[0] = CONTRACT.robot.position_upper[0] + 0.01
    command = armed(outside).command(ZERO, outside, FRESH)
    assert command.target[0] == CONTRACT.robot.position_upper[0]
    assert command.limited == ("position of panda_joint1",)


def test_the_gate_keeps_no_reference_to_what_it_was_given():
    measured = HOME.copy()
    gate = armed(measured)
    command = gate.command(ZERO, measured, FRESH)
    measured += 1.0
    command.target[:] = 9.0
    np.testing.assert_allclose(gate.command(ZERO, HOME, FRESH).target, HOME)


def test_a_contract_without_a_robot_is_refused():
    with pytest.raises(ContractError, match="no robot"):
        Gate(Contract(None, CONTRACT.task))
