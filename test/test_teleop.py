"""Teleoperation: the conversions, the script reaching the goal over DDS, a joystick, and a keyboard on a real pty."""

import dataclasses
import os
import pty
import signal
import termios
import time

import numpy as np
import pytest
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState, Joy
from std_msgs.msg import Bool
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory

import dds
from irl_ros import messages
from irl_ros.contract import Contract, ContractError, load_safety
from irl_ros.kinematics import Kinematics
from irl_ros.nodes import demonstrators, joystick
from irl_ros.nodes.demonstrators import Joystick, Settings, displacement_action, joy_deflection, key_deflection, slew

CONTRACT = Contract.load("panda", "reach")
KINEMATICS = Kinematics(CONTRACT.robot)
HOME = np.array(CONTRACT.robot.home)
COMMAND = CONTRACT.robot.command.name
AXES = demonstrators.parse_axes("1,0,-4")


def settings(**changes) -> Settings:
    return dataclasses.replace(Settings(), **changes)


def test_the_axes_of_a_joystick_become_a_deflection():
    axes = [0.5, -1.0, 0.0, 0.0, 0.25]
    held, released = [0, 0, 0, 0, 1], [1, 1, 1, 1, 0]
    assert np.allclose(joy_deflection(axes, held, AXES, 4, 0.0), [-1.0, 0.5, -0.25])
    assert joy_deflection(axes, released, AXES, 4, 0.0) is None
    assert joy_deflection(axes, [], AXES, 4, 0.0) is None
    assert joy_deflection(axes[:3], held, AXES, 4, 0.0) is None
    assert joy_deflection([0.5, np.nan, 0, 0, 0], held, AXES, 4, 0.0) is None


def test_the_deadzone_is_continuous_and_odd():
    def deflect(value: float) -> float:
        return joy_deflection([0, value, 0, 0, 0], [1], AXES, 0, 0.2)[0]

    assert deflect(0.2) == 0.0 and deflect(-0.1) == 0.0
    assert deflect(1.0) == pytest.approx(1.0) and deflect(5.0) == pytest.approx(1.0)
    assert deflect(0.21) == pytest.approx(0.0125) and deflect(-0.6) == pytest.approx(-deflect(0.6))


@pytest.mark.parametrize("text", ["", "1,2", "1,2,3,4", "a,b,c", "1,,2", "--1,0,2"])
def test_wrong_axes_are_refused(text):
    with pytest.raises(ContractError, match="three axes"):
        demonstrators.parse_axes(text)


@pytest.mark.parametrize("seed", range(10))
def test_a_displacement_moves_the_hand_that_way_within_the_speed_limits(seed):
    rng = np.random.default_rng(seed)
    position, small, huge = HOME + rng.uniform(-0.3, 0.3, 7), rng.normal(0, 0.003, 3), rng.normal(0, 1.0, 3)
    action = displacement_action(CONTRACT, KINEMATICS, position, small)
    moved = KINEMATICS.position(position + action * CONTRACT.max_step) - KINEMATICS.position(position)
    assert moved @ small / np.linalg.norm(moved) / np.linalg.norm(small) > 0.95
    fastest = displacement_action(CONTRACT, KINEMATICS, position, huge)
    assert np.abs(fastest).max() == pytest.approx(1.0)
    slow = displacement_action(CONTRACT, KINEMATICS, position, huge * 1e-3)
    assert np.allclose(fastest / np.linalg.norm(fastest), slow / np.linalg.norm(slow))


def test_slew_arrives_and_never_jumps():
    value, wanted = np.zeros(3), np.array([0.3, -0.4, 0.0])
    path = [value := slew(value, wanted, 0.1) for _ in range(6)]
    assert np.allclose(np.linalg.norm(np.diff([np.zeros(3), *path[:5]], axis=0), axis=1), 0.1)
    assert np.allclose(path[-1], wanted) and np.allclose(slew(wanted, wanted, 0.1), wanted)


def test_the_dead_man_button_and_a_lost_joystick_stop_at_once():
    joystick = Joystick(CONTRACT, KINEMATICS, settings(joy_axes="1,0,-4"))
    measured = {"joint_position": HOME}
    assert not joystick.act(measured, now=0.0).any()
    joystick.receive([0, 1.0, 0, 0, 0], [0, 0, 0, 0, 1], now=1.0)
    assert joystick.act(measured, now=1.05).any()
    assert not joystick.act(measured, now=1.4).any()
    joystick.receive([0, 1.0, 0, 0, 0], [0, 0, 0, 0, 1], now=2.0)
    first = np.abs(joystick.act(measured, now=2.0)).max()
    assert np.abs(joystick.act(measured, now=2.05)).max() > first > 0
    joystick.receive([0, 1.0, 0, 0, 0], [0, 0, 0, 0, 0], now=2.1)
    assert not joystick.act(measured, now=2.1).any()


def test_what_a_driver_repeats_for_a_lost_receiver_drops_the_dead_man():
    joystick = Joystick(CONTRACT, KINEMATICS, settings(joy_axes="1,0,-4", joy_still=1.0))
    held = [0, 0, 0, 0, 1]

    def leads(deflection: float, start: float, end: float) -> list[bool]:
        found = []
        for now in np.arange(start, end, 0.0625):
            joystick.receive([0, deflection, 0, 0, 0], held, now)
            found.append(joystick.holds(now))
        return found

    repeated = leads(0.7, 10.0, 13.0)
    assert repeated == [True] * 17 + [False] * 31 and not joystick.act({"joint_position": HOME}, now=13.0).any()
    assert all(leads(0.69, 13.0, 13.5)), "it moved: a hand is there"
    assert all(leads(0.0, 13.5, 20.0)), "at rest a hand may well be steady, and nothing moves"


def event(value: int, kind: int, number: int) -> bytes:
    return joystick.EVENT.pack(123, value, kind, number)


def test_the_devices_events_become_axes_and_buttons():
    state, initial = joystick.State(), joystick.INITIAL
    start = b"".join(event(0, kind | initial, k) for kind, k in ((joystick.AXIS, 0), (joystick.AXIS, 1), (joystick.BUTTON, 4)))
    assert state.feed(start[:13]) and state.feed(start[13:]), "in pieces as they come"
    assert list(state.message().axes) == [0.0, 0.0] and list(state.message().buttons) == [0] * 5
    assert state.feed(event(-32768, joystick.AXIS, 1) + event(1, joystick.BUTTON, 4))
    assert list(state.message().axes) == [0.0, 1.0] and state.message().buttons[4] == 1, "pushed forth is positive"
    assert state.feed(event(16384, joystick.AXIS, 0)) and state.message().axes[0] == pytest.approx(-0.5, abs=1e-3)
    assert not state.feed(b"")


def test_a_joystick_that_is_pulled_out_is_silent_and_comes_back(tmp_path):
    device = tmp_path / "js0"
    os.mkfifo(device)
    with dds.domain() as domain, dds.process("irl_ros.nodes.joystick", domain, device=device) as node:
        with dds.client(domain) as client:
            joy = client.collect(Joy, "joy")
            for k in (1, 2):
                node.wait_output("reading")
                with device.open("wb", buffering=0) as stick:
                    press = event(1, joystick.BUTTON, k)
                    client.wait(lambda: stick.write(press) and joy and joy[-1].buttons[k:], f"button {k}")
                    repeated = len(joy) + 5
                    client.wait(lambda: len(joy) > repeated, "that it says again what is held")
                while joy:
                    joy.clear()
                    silent = time.monotonic() + 0.3
                    client.wait(lambda: time.monotonic() > silent, "silence")
            assert node.stop() == 0


def test_keys_become_a_deflection():
    assert np.array_equal(key_deflection("w"), [1, 0, 0]) and np.array_equal(key_deflection("ws"), [-1, 0, 0])
    assert np.array_equal(key_deflection("\x1b[A"), [1, 0, 0]) and np.array_equal(key_deflection("\x1b[D"), [0, 1, 0])
    assert np.array_equal(key_deflection("f"), [0, 0, -1])
    assert key_deflection(" ") is None and key_deflection("") is None


@pytest.fixture(scope="module")
def sim():
    """A simulated arm at three times real time and a client beside it."""
    with dds.domain() as domain, dds.process("irl_ros_sim.arm_node", domain, real_time_factor=3.0):
        with dds.client(domain) as client:
            client.call(Trigger, "arm_sim/reset")
            yield domain, client


def enable(client: dds.Client, on: bool = True) -> None:
    assert client.call(SetBool, "teleop/enable", SetBool.Request(data=on)).success


def test_the_script_reaches_goals_over_dds(sim):
    domain, client = sim
    commands = client.collect(JointTrajectory, COMMAND)
    success = client.collect(Bool, "arm_sim/success", dds.LATCHED)
    clock = client.collect(Clock, "/clock", dds.SENSOR)
    with dds.process("irl_ros.nodes.teleop", domain, use_sim_time=True, seed=1) as teleop:
        teleop.wait_output("disabled until ~/enable")
        for seed in (20, 21):
            client.set_parameter("arm_sim", "seed", seed)
            client.call(Trigger, "arm_sim/reset")
            before = len(commands)
            client.wait(lambda: success and not success[-1].data, "an arm away from its goal")
            assert len(commands) == before, "it commanded while disabled"
            started = messages.stamp_seconds(clock[-1].clock)
            enable(client)
            client.wait(lambda: success[-1].data, f"success with seed {seed}")
            enable(client, False)
            took = messages.stamp_seconds(clock[-1].clock) - started
            assert 5 < len(commands) - before <= took * CONTRACT.task.rate + 2, "it ticks at the task's rate, no faster"
    first = messages.joint_trajectory(commands[0], CONTRACT.robot.joint_names)
    assert first.positions.shape == (2, 7) and messages.stamp_seconds(commands[0].header.stamp) == 0.0


def test_a_joystick_moves_the_hand_while_its_button_is_held(sim):
    domain, client = sim
    client.call(Trigger, "arm_sim/reset")
    states = client.collect(JointState, "joint_states", dds.SENSOR)

    def hand() -> np.ndarray:
        return KINEMATICS.position(messages.joint_state(states[-1], CONTRACT.robot.joint_names)[0])

    def velocity() -> np.ndarray:
        return messages.joint_state(states[-1], CONTRACT.robot.joint_names)[1]

    def rests() -> bool:
        """For a while: a hand that turns round stands still for a moment too."""
        rows = [messages.joint_state(state, CONTRACT.robot.joint_names)[1] for state in states[-30:]]
        return bool(np.abs(rows).max() < 0.01)

    def push(held: bool, deflection: float | None = None) -> bool:
        """Up, by a hand that is never quite still, or by `deflection`."""
        wish = rng.uniform(0.98, 1.0) if deflection is None else deflection
        joy.publish(Joy(axes=[0.0] * 4 + [wish], buttons=[0] * 4 + [int(held)]))
        return True

    rng = np.random.default_rng(0)

    with dds.process("irl_ros.nodes.teleop", domain, use_sim_time=True, mode="joy") as teleop:
        teleop.wait_output("disabled until ~/enable")
        joy = client.publisher(Joy, "joy", dds.SENSOR)
        enable(client)
        client.wait(lambda: states, "joint states")
        start = hand()
        client.wait(lambda: push(True) and hand()[2] > start[2] + 0.05, "the hand to rise")
        moved = hand() - start
        assert np.abs(moved[:2]).max() < 0.02
        commands = client.collect(JointTrajectory, COMMAND)
        client.wait(lambda: push(False) and len(commands) > 5, "commands that hold")
        client.wait(lambda: np.abs(velocity()).max() < 0.01, "the arm at rest")
        client.wait(lambda: push(True) and np.abs(velocity()).max() > 0.02, "motion")
        client.wait(lambda: push(True, -0.5) and rests(), "rest though the last is repeated")


def at(position: np.ndarray) -> JointState:
    """A joint state of now, with an encoder's last bit."""
    now = time.monotonic()
    reported = position + 1e-9 * (now % 1.0)
    return messages.fill_joint_state(JointState(), CONTRACT.robot.joint_names, reported, np.zeros(7), now)


def test_stale_joint_states_silence_it():
    with dds.domain() as domain, dds.process("irl_ros.nodes.teleop", domain, mode="joy") as teleop:
        with dds.client(domain) as client:
            commands = client.collect(JointTrajectory, COMMAND)
            states = client.publisher(JointState, "joint_states")
            enable(client)
            teleop.wait_output("no command: nothing fresh on joint_states")
            assert not commands
            client.wait(lambda: states.publish(at(HOME)) or commands, "a command on fresh states")
            bad = at(HOME)
            bad.position[0] = float("nan")
            client.wait(lambda: states.publish(bad) or "panda_joint1 = nan" in teleop.output, "a refusal")


WRONG = {
    "degrees": np.degrees(HOME),
    "a turn too many": HOME + 2 * np.pi * np.eye(7)[0],
    "a jump": HOME + np.eye(7)[0],
    "another arm": HOME - 0.4,
    "huge": np.full(7, 1e300),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_no_command_follows_a_joint_state_that_the_arm_cannot_have(wrong: np.ndarray):
    """Before, a step of up to 2.97 rad in 50 ms."""
    with dds.domain() as domain, dds.process("irl_ros.nodes.teleop", domain, mode="joy") as teleop:
        with dds.client(domain) as client:
            commands = client.collect(JointTrajectory, COMMAND)
            states = client.publisher(JointState, "joint_states")
            joy = client.publisher(Joy, "joy", dds.SENSOR)
            enable(client)

            def drive(position: np.ndarray) -> None:
                states.publish(at(position))
                joy.publish(Joy(axes=[0.0] * 4 + [np.random.default_rng().uniform(0.9, 1.0)], buttons=[0] * 4 + [1]))

            def target() -> np.ndarray:
                """Where an arm that follows is."""
                names = CONTRACT.robot.joint_names
                return messages.joint_trajectory(commands[-1], names).positions[0] if commands else HOME

            client.wait(lambda: drive(target()) or len(commands) > 10, "commands")
            before, sent = target(), len(commands)
            client.wait(lambda: drive(wrong) or "no command: joint_states: panda_joint" in teleop.output, "the refusal")
            end = time.monotonic() + 0.5
            client.wait(lambda: drive(wrong) or time.monotonic() > end, "half a second of it")
            assert len(commands) <= sent + 2, "commands that were under way"
            points = [messages.joint_trajectory(c, CONTRACT.robot.joint_names).positions for c in commands[sent - 1 :]]
            assert np.abs(np.concatenate(points) - before).max() < 0.15


def test_teleoperation_keeps_the_acceleration_limits_of_the_robots_file(sim):
    domain, client = sim
    client.call(Trigger, "arm_sim/reset")
    commands = client.collect(JointTrajectory, COMMAND)
    with dds.process("irl_ros.nodes.teleop", domain, use_sim_time=True, noise=1.0) as teleop:
        teleop.wait_output("disabled until ~/enable")
        enable(client)
        client.wait(lambda: len(commands) > 40, "commands")
        enable(client, False)
    names, period = CONTRACT.robot.joint_names, CONTRACT.task.period
    targets = np.array([messages.joint_trajectory(c, names).positions[0] for c in commands[:40]])
    change = np.abs(np.diff(targets, n=2, axis=0)).max(axis=0)
    assert (change <= np.array(load_safety("panda").acceleration_limit) * period**2 + 1e-9).all()
    assert change.max() > 0.01, "a demonstrator that trembles so much is cut"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_keyboard_moves_the_arm_and_the_terminal_is_restored(number):
    master, terminal = pty.openpty()
    before = termios.tcgetattr(terminal)
    with dds.domain() as domain, dds.client(domain) as client:
        command = dds.node_command("irl_ros.nodes.teleop", mode="keyboard")
        teleop = dds.Process(command, domain, stdin=terminal)
        try:
            commands = client.collect(JointTrajectory, COMMAND)
            states = client.publisher(JointState, "joint_states")
            assert termios.tcgetattr(terminal)[3] & termios.ECHO == 0
            enable(client)

            def rising() -> bool:
                os.write(master, b"r")
                states.publish(at(HOME))
                return commands and hand_motion(commands[-1])[2] > 1e-3

            client.wait(rising, "a command that raises the hand")
        finally:
            code = teleop.stop(number)
        assert code == 0, teleop.output
    assert termios.tcgetattr(terminal) == before
    os.close(master)
    os.close(terminal)


def hand_motion(msg: JointTrajectory) -> np.ndarray:
    positions = messages.joint_trajectory(msg, CONTRACT.robot.joint_names).positions
    return KINEMATICS.position(positions[1]) - KINEMATICS.position(HOME)


def test_a_keyboard_without_a_terminal_says_what_to_do():
    with dds.domain() as domain, dds.process("irl_ros.nodes.teleop", domain, mode="keyboard") as teleop:
        assert teleop.wait() == 2
        assert "in a terminal" in teleop.output and "Traceback" not in teleop.output
