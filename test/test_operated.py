"""A person at the robot: by joystick, keyboard, a second arm or by hand, from the first motion to a labelled data set.

The person is synthetic and knows where the goal is; the arm is simulated, everything between them is real.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import pty
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import JointState, Joy
from std_msgs.msg import Bool, Float64MultiArray, String
from std_srvs.srv import Trigger

import dds
from irl_ros import messages
from irl_ros.cli import main
from irl_ros.contract import Contract, load_safety
from irl_ros.data.dataset import load_demonstrations
from irl_ros.kinematics import Kinematics

pytest.importorskip("pybullet")

CONTRACT = Contract.load("panda", "reach")
KINEMATICS = Kinematics(CONTRACT.robot)
NAMES = CONTRACT.robot.joint_names
DEADMAN, START, SUCCESS, FAILURE, DISCARD = 4, 7, 3, 2, 6
"""Buttons, as the nodes have them by default."""


class Person:
    """Sees the arm, the goal and what the recorder says; `deflection()` is where they would push a stick."""

    def __init__(self, client: dds.Client):
        self.client = client
        self._states = client.collect(JointState, "joint_states", dds.SENSOR)
        self._goals = client.collect(PoseStamped, "goal_pose", dds.LATCHED)
        self._success = client.collect(Bool, "arm_sim/success", dds.LATCHED)
        self._recorder = client.collect(String, "demo_recorder/state", dds.LATCHED)
        self._episodes = client.collect(String, "demo_recorder/quality", dds.LATCHED)
        client.wait(lambda: self._states and self._goals and self._recorder, "an arm, a goal and a recorder")

    @property
    def position(self) -> np.ndarray:
        return messages.joint_state(self._states[-1], NAMES)[0]

    @property
    def to_goal(self) -> np.ndarray:
        return messages.pose_position(self._goals[-1], CONTRACT.robot.base_frame) - KINEMATICS.position(self.position)

    @property
    def arrived(self) -> bool:
        return np.linalg.norm(self.to_goal) < 0.02

    @property
    def recorder(self) -> str:
        return self._recorder[-1].data

    @property
    def episodes(self) -> list[dict]:
        """What the recorder said of the episodes it kept, and of those that are gone."""
        return [json.loads(message.data) for message in self._episodes]

    def deflection(self) -> np.ndarray:
        return np.clip(self.to_goal / 0.06, -1.0, 1.0)

    def scene(self) -> int:
        """How many scenes there were."""
        return len(self._goals)

    def wait(self, condition: Callable[[], object], what: str) -> None:
        self.client.wait(condition, what)


class Stick:
    """The person's joystick."""

    def __init__(self, person: Person):
        self._person = person
        self._joy = person.client.publisher(Joy, "joy", dds.SENSOR, subscribers=2)
        self._rng = np.random.default_rng(0)

    def push(self, wish: np.ndarray, *buttons: int) -> bool:
        """Forth, left, up; no hand is still."""
        forth, left, up = wish + self._rng.uniform(-0.005, 0.005, 3) * (wish != 0)
        pressed = [int(k in buttons) for k in range(11)]
        self._joy.publish(Joy(axes=[left, forth, 0.0, 0.0, up, 0.0], buttons=pressed))
        return True

    def press(self, button: int, state: str) -> None:
        """Down and up until the recorder is in this state: a start is refused until it has found every topic."""
        still = np.zeros(3)
        for down in itertools.cycle((True, False)):
            end = time.monotonic() + 0.2
            push = lambda: self.push(still, button) if down else self.push(still)  # noqa: B023, E731
            seen = lambda: self._person.recorder == state or time.monotonic() > end  # noqa: B023, E731
            self._person.wait(lambda: push() and seen(), f"{state} after button {button}")
            if self._person.recorder == state:
                break
        self.push(still)


@contextlib.contextmanager
def command(*words: object, **options: object) -> Iterator[dds.Process]:
    """`irl_ros` with these words."""
    with dds.domain() as callers:
        child = dds.Process([sys.executable, "-m", "irl_ros.cli", *words], callers, **options)
    try:
        yield child
    except BaseException:
        child.stop()
        print(f"--- output of irl_ros {words}\n{child.output}---")
        raise
    finally:
        child.stop()


def test_from_a_joystick_to_a_labelled_data_set(tmp_path: Path, capsys):
    words = ("record", "--teleop", "joy", "--demonstrations", 2, "--operator", "Ada", "--out", tmp_path)
    with command(*words) as record, dds.client(dds.simulated_domain(record)) as client:
        person = Person(client)
        stick = Stick(person)

        def episode(move: Callable[[], bool], end: int, last: bool = False) -> None:
            stick.press(START, "recording")
            scene = person.scene()
            person.wait(move, "the end of a motion")
            assert person.scene() == scene, "a scene lasts as long as an episode"
            stick.press(end, "idle")
            person.wait(lambda: last or person.scene() > scene, "a fresh scene")

        to_the_goal = lambda: stick.push(person.deflection(), DEADMAN) and person.arrived  # noqa: E731
        away = lambda: stick.push(-person.deflection(), DEADMAN) and np.linalg.norm(person.to_goal) > 0.4  # noqa: E731
        episode(to_the_goal, SUCCESS)
        episode(lambda: True, DISCARD)
        episode(away, FAILURE)
        episode(to_the_goal, SUCCESS, last=True)
        assert record.wait() == 0, record.output
    demonstrations, rejected = load_demonstrations(tmp_path / "demonstrations")
    assert [(e.name, e.success) for e in demonstrations] == [("episode_0000", True), ("episode_0002", True)]
    assert rejected == ["episode episode_0001: labelled as a failure"]
    for episode in demonstrations:
        assert np.abs(episode.actions).max() > 0.1
        reached = CONTRACT.field(episode.observations[-1], "end_effector_to_goal")
        began = CONTRACT.field(episode.observations[0], "end_effector_to_goal")
        assert np.linalg.norm(reached) < 0.5 * np.linalg.norm(began)
    assert "=== RECORDING episode_0000 ===" in record.output and "=== SUCCESS episode_0002 ===" in record.output
    [session] = (tmp_path / "demonstrations" / "sessions").glob("*.json")
    manifest = json.loads(session.read_text())
    assert (manifest["operator"], manifest["robot"], manifest["task"]) == ("Ada", "panda", "reach")
    assert Contract.from_dict(manifest["contract"]) == CONTRACT and len(manifest["revision"].rstrip("+")) in (0, 40)
    assert main(["inspect", str(tmp_path / "demonstrations")]) == 0
    assert "2 of 3 episodes are usable" in capsys.readouterr().out


def test_a_keyboard_over_a_terminal_moves_the_arm_and_conducts(tmp_path: Path):
    master, terminal = pty.openpty()
    before = termios.tcgetattr(terminal)
    words = ("record", "--teleop", "keyboard", "--demonstrations", 1, "--out", tmp_path)
    with command(*words, stdin=terminal) as record, dds.client(dds.simulated_domain(record)) as client:
        person = Person(client)
        record.wait_output("Enter: start an episode")
        keys = (("w", "s"), ("a", "d"), ("r", "f"))

        def type_towards_goal() -> bool:
            axis = int(np.argmax(np.abs(person.to_goal)))
            os.write(master, keys[axis][int(person.to_goal[axis] < 0)].encode())
            return person.arrived or np.linalg.norm(person.to_goal) < 0.05

        while person.recorder != "recording":  # refused until every topic was found
            os.write(master, b"\n")
            end = time.monotonic() + 1.5
            person.wait(lambda: person.recorder == "recording" or time.monotonic() > end, "an answer to Enter")
        person.wait(type_towards_goal, "the goal")
        assert termios.tcgetattr(terminal) != before
        os.write(master, b" y")
        assert record.wait() == 0, record.output
    assert termios.tcgetattr(terminal) == before
    os.close(master)
    os.close(terminal)
    [episode] = load_demonstrations(tmp_path / "demonstrations")[0]
    assert episode.success and np.abs(episode.actions).max() > 0.1
    assert "=== SUCCESS episode_0000 ===" in record.output


@contextlib.contextmanager
def recorded(out: Path, teleop: dict[str, object] | None, **recorder: object) -> Iterator[tuple[Person, dds.Process]]:
    """A simulated arm, the recorder that waits for its first motion, and perhaps a teleoperator."""
    parameters = {"out": out, "use_sim_time": True, "start_on_motion": True, **recorder}
    with contextlib.ExitStack() as stack:
        domain = stack.enter_context(dds.domain())
        stack.enter_context(dds.process("irl_ros_sim.arm_node", domain, seed=3))
        if teleop is not None:
            stack.enter_context(dds.process("irl_ros.nodes.teleop", domain, use_sim_time=True, takeover=True, **teleop))
        node = stack.enter_context(dds.process("irl_ros.nodes.recorder", domain, **parameters))
        client = stack.enter_context(dds.client(domain))
        person = Person(client)
        person.wait(lambda: client.call(Trigger, "demo_recorder/start").success, "the recorder to wait")
        yield person, node


def test_a_second_arm_leads_until_the_task_is_done(tmp_path: Path):
    """The leader has other names, one of its joints turns the other way round, and it rests in another pose."""
    names, signs = [f"leader_{k}" for k in range(7)], np.array([1, 1, 1, -1, 1, 1, 1])
    teleop = {"mode": "leader", "leader_joints": ",".join(names), "leader_signs": ",".join(map(str, signs))}
    with recorded(tmp_path, teleop, success_topic="arm_sim/success", success_hold=0.3) as (person, node):
        leader = person.client.publisher(JointState, "leader/joint_states", dds.SENSOR)
        offset, pose = np.linspace(-0.5, 0.5, 7), person.position.copy()

        def show(step: float) -> bool:
            """The leader's hand goes a bit towards the goal, as far as the follower's is from it."""
            nonlocal pose
            pose = pose + KINEMATICS.displacement(person.position, step * person.deflection())
            state = messages.fill_joint_state(JointState(), names, signs * (pose + offset), np.zeros(7), 0.0)
            leader.publish(state)
            return True

        rest = person.position
        person.client.wait(lambda: show(0.0) and len(person._states) > 100, "the leader at rest")
        assert np.abs(person.position - rest).max() < 1e-3 and person.recorder == "waiting", "nothing jumps"
        person.wait(lambda: show(0.004) and person.recorder == "recording", "the first motion")
        person.wait(lambda: show(0.004) and person.episodes, "success")
        [kept] = person.episodes
        assert kept["label"] is True and not kept["problems"]
        moved = person.position
        settled = len(person._states) + 200
        person.wait(lambda: len(person._states) > settled, "a second without a leader")
        braking = CONTRACT.task.max_speed**2 / (2.0 * np.array(load_safety("panda").acceleration_limit))
        timeout = 0.2 * CONTRACT.task.max_speed  # leader_timeout: the arm goes on to the leader's last pose for so long
        assert (np.abs(person.position - moved) < timeout + braking).all(), "a leader that is silent stops the arm"
    [episode] = load_demonstrations(tmp_path)[0]
    assert np.linalg.norm(CONTRACT.field(episode.observations[-1], "end_effector_to_goal")) < 0.1


def test_a_hand_that_guides_is_recorded_from_its_first_motion_to_the_timeout(tmp_path: Path):
    """The simulated arm is moved past its command topic: as by a hand, there are no commands to read."""
    with recorded(tmp_path, None, demonstrated_by="hand_guiding", timeout=2.0, lead_in=0.2) as (person, node):
        hand = person.client.publisher(Float64MultiArray, "forward_velocity_controller/commands")

        def guide(speed: float) -> bool:
            move = KINEMATICS.displacement(person.position, person.to_goal)
            velocity = speed * move / max(np.abs(move).max(), 0.1)  # slower near the goal, as a hand is
            hand.publish(messages.fill_joint_group(Float64MultiArray(), velocity))
            return True

        person.wait(lambda: guide(0.4) and person.episodes, "the timeout")
        guide(0.0)
        [kept] = person.episodes
        assert kept["label"] is None and not kept["problems"] and kept["duration"] == pytest.approx(2.0, abs=0.3)
    [episode] = load_demonstrations(tmp_path)[0]
    positions = CONTRACT.field(episode.observations, "joint_position")
    np.testing.assert_allclose(episode.actions, np.diff(positions, axis=0) / CONTRACT.max_step, atol=1e-9)
    still = np.abs(episode.actions).max(axis=1) < 0.02
    assert 1 <= np.argmin(still) <= 10, "it begins just before the motion"
    assert np.abs(episode.actions).max() > 0.2
