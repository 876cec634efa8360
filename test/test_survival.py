"""What policy_runner survives: real processes over DDS, a simulated arm, and something going wrong as it moves."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import dds
import handmade
import numpy as np
import pytest
from geometry_msgs.msg import PoseStamped
from rig import Rig, rig
from runners import ACTION, CONTRACT, PERIOD, ROBOT, enable, runner, spin

from irl_ros import messages
from irl_ros.messages import GROUP_POSITION, GROUP_VELOCITY

often = pytest.mark.parametrize("repeats", [1, pytest.param(20, marks=pytest.mark.full)])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("checkpoint")
    handmade.checkpoint(CONTRACT, 0.3 * ACTION).save(directory)
    return directory


@pytest.fixture(scope="module")
def running(checkpoint: Path) -> Iterator[Rig]:
    with rig(checkpoint) as whole:
        yield whole


@pytest.fixture
def ready(running: Rig) -> Iterator[Rig]:
    """The shared rig, the arm at a start pose; faultless and disabled again afterwards."""
    running.restart()
    yield running
    running.restart()
    enable(running.client, False)


@often
def test_a_driver_that_is_killed(ready: Rig, repeats: int):
    for _ in range(repeats):
        ready.halts_after(lambda: os.kill(ready.relay.pid, signal.SIGKILL), ready.last_state)
        refusal = enable(ready.client)
        assert not refusal.success and "stale" in refusal.message
        ready.restart()


@often
def test_a_driver_that_is_stopped_for_two_seconds_and_then_sends_what_it_missed(ready: Rig, repeats: int):
    for _ in range(repeats):
        ready.halts_after(lambda: os.kill(ready.relay.pid, signal.SIGSTOP), ready.last_state)
        spin(ready.client, 2.0)
        sent, states = len(ready.commands), len(ready.states)
        os.kill(ready.relay.pid, signal.SIGCONT)
        ready.client.wait(lambda: len(ready.states) > states + 250, "the backlog, and more")
        assert len(ready.commands) == sent
        ready.restart()
    ready.get_moving()


@often
@pytest.mark.parametrize("fault", ["frozen", "nan", "infinite", "missing", "duplicated", "short"])
def test_joint_states_that_cannot_be_believed(ready: Rig, fault: str, repeats: int):
    for _ in range(repeats):
        ready.halts_after(lambda: ready.spoil(fault), lambda: ready.last_good(fault))
        assert not enable(ready.client).success
        ready.restart()


def test_joint_states_in_another_order_are_read_by_name(ready: Rig):
    ready.spoil("permuted")
    ready.get_moving(10)
    assert ready.states[-1][1].name[-1] == ROBOT.joint_names[0]
    targets = np.array([m.points[0].positions for _, m in ready.commands[-5:]])
    np.testing.assert_allclose(np.diff(targets, axis=0), np.tile(0.3 * ACTION * PERIOD, (4, 1)), atol=1e-9)


@often
def test_a_senders_clock_an_hour_off_does_not_matter_but_one_that_jumps_back_does(ready: Rig, repeats: int):
    for _ in range(repeats):
        ready.spoil("hour")
        ready.get_moving(10)
        ready.halts_after(lambda: ready.spoil("back"), lambda: ready.last_good("back"), good="hour")
        assert "run backwards" in ready.said()
        ready.restart()


def test_simulated_time_that_jumps_back_and_that_ends(checkpoint: Path):
    with rig(checkpoint, use_sim_time=True) as whole:
        whole.spoil("hour")
        whole.halts_after(lambda: whole.spoil("back"), lambda: whole.last_good("back"), good="hour")
        assert "run backwards" in whole.said()
        whole.spoil("hour")
        whole.halts_after(lambda: os.kill(whole.relay.pid, signal.SIGKILL), whole.last_state, good="hour")


@often
@pytest.mark.parametrize("fault", ["nan", "infinite", "short", "text", "sleep", "raise"])
def test_a_policy_that_goes_wrong(ready: Rig, fault: str, repeats: int):
    for _ in range(repeats):
        ready.halts_after(lambda: ready.spoil(policy=fault), lambda: ready.began[-1].data)
        ready.restart()


def test_a_policy_that_wants_too_much_is_held_to_the_limits(ready: Rig):
    ready.get_moving()
    ready.spoil(policy="huge")
    ready.client.wait(lambda: ready.began, "the fault")
    sent = len(ready.commands)
    ready.client.wait(lambda: len(ready.commands) > sent + 8, "commands")
    targets = np.array([m.points[0].positions for _, m in ready.commands[-7:]])
    assert (np.abs(np.diff(targets, axis=0)) <= CONTRACT.max_joint_step + 1e-9).all()
    assert (np.abs(targets - ready.position()) <= 8 * CONTRACT.max_joint_step + CONTRACT.task.max_lead).all()
    limiting = ready.client.wait(lambda: ready.lines("command limiting")[-1:], "diagnostics")[-1]
    ready.client.wait(lambda: "cut" in ready.lines("command limiting")[-1].message, "a warning")
    assert limiting.name == "policy_runner: command limiting"


def test_a_goal_in_a_foreign_frame_halts_the_arm_and_must_be_replaced(ready: Rig):
    goals = ready.client.publisher(PoseStamped, "goal_pose", dds.LATCHED)
    sent: list[float] = []

    def send(frame: str) -> None:
        sent.append(time.time())
        goals.publish(messages.fill_pose(PoseStamped(), np.array([0.5, 0.0, 0.4]), frame, 1.0))

    ready.halts_after(lambda: send("camera"), lambda: sent[-1])
    assert "'camera'" in ready.said() and "'panda_link0'" in ready.said()
    refusal = enable(ready.client)
    assert not refusal.success and "nothing received on goal_pose" in refusal.message
    send(ROBOT.base_frame)
    ready.get_moving()


@pytest.mark.parametrize("value", [0.0, 0.009, 1.5, -1.0, float("nan"), float("inf")])
def test_a_speed_out_of_range_is_refused_while_it_runs(ready: Rig, value: float):
    with pytest.raises(AssertionError, match="0.01.*1.0"):
        ready.client.set_parameter("policy_runner", "speed", value)


def test_the_speed_may_change_under_way_and_the_rest_may_not(ready: Rig):
    ready.get_moving()
    ready.client.set_parameter("policy_runner", "speed", 0.1)
    sent = len(ready.commands)
    ready.client.wait(lambda: len(ready.commands) > sent + 5, "slower commands")
    targets = np.array([m.points[0].positions for _, m in ready.commands[-4:]])
    np.testing.assert_allclose(np.diff(targets, axis=0), np.tile(0.03 * ACTION * PERIOD, (3, 1)), atol=1e-9)
    ready.client.set_parameter("policy_runner", "speed", 1.0)
    for name, value in (("command_interface", "none"), ("velocity_timeout", 1.0), ("checkpoint", "elsewhere")):
        with pytest.raises(AssertionError, match="read-only"):
            ready.client.set_parameter("policy_runner", name, value)
    with pytest.raises(AssertionError, match="type|float"):
        ready.client.set_parameter("policy_runner", "speed", "fast")


def test_parameters_out_of_range_at_the_start(checkpoint: Path):
    wrong = {
        "speed": (0.0, "0.01 to 1.0"),
        "command_interface": ("joint_group_velocty", "Did you mean 'joint_group_velocity'"),
        "velocity_timeout": (11.0, "0.0 to 10.0 s"),
        "unlike": ("perhaps", "Valid: halt, tell"),
    }
    with dds.domain() as domain, contextlib.ExitStack() as stack:
        started = {n: stack.enter_context(runner(domain, checkpoint, **{n: v})) for n, (v, _) in wrong.items()}
        without = stack.enter_context(runner(domain, checkpoint, command_interface=GROUP_VELOCITY))
        for name, (_, valid) in wrong.items():
            assert started[name].wait() == 2 and "Traceback" not in started[name].output
            assert f"error: parameter {name}" in started[name].output and valid in started[name].output
        assert without.wait() == 2 and "velocity_timeout" in without.output and "10 s" in without.output


@pytest.mark.parametrize("interface", [GROUP_POSITION, GROUP_VELOCITY])
def test_the_other_interfaces_stop_in_their_own_way(checkpoint: Path, interface: str):
    with rig(checkpoint, interface, velocity_timeout=0.5) as whole:
        start = whole.position()
        whole.get_moving(15)
        whole.client.wait(lambda: ((whole.position() - start) * ACTION > 0.02 * ACTION**2).all(), "motion as wanted")
        if interface == GROUP_VELOCITY:
            velocity = np.array(whole.commands[-1][1].data)
            assert (np.abs(velocity) <= ROBOT.velocity_limit).all() and (velocity * ACTION > 0).all()
        whole.halts_after(lambda: whole.spoil("frozen"), lambda: whole.last_good("frozen"))
        last = np.array(whole.commands[-1][1].data)
        away = last if interface == GROUP_VELOCITY else last - whole.position()
        assert np.abs(away).max() < 0.1, "the position is held, or the velocity is zero"
        whole.restart()
        whole.get_moving()
        if interface == GROUP_VELOCITY:  # nobody is left to send zeros
            os.kill(whole.runner.pid, signal.SIGKILL)
            whole.client.wait(lambda: at_rest_since(whole) > whole.commands[-1][0], "the driver's own stop")
            assert 0.2 < at_rest_since(whole) - whole.commands[-1][0] < 0.5 + 0.1 + whole.stalls.worst
            return
        whole.runner.send_signal(signal.SIGTERM)
        whole.client.wait(lambda: whole.halted, "the halt on SIGTERM")
        assert whole.runner.wait(2.0) == 0 and "Traceback" not in whole.runner.output


def at_rest_since(whole: Rig) -> float:
    """When the arm was first measured at rest, of the states up to the last one; 0 while it moves."""
    speeds = [(t, np.abs(messages.joint_state(s, ROBOT.joint_names)[1]).max()) for t, s in whole.states[-100:]]
    moving = [t for t, speed in speeds if speed > 0.02]
    return 0.0 if not moving or moving[-1] == speeds[-1][0] else next(t for t, _ in speeds if t > moving[-1])
