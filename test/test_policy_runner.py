"""policy_runner as a real process over DDS, driving the simulated arm."""

from __future__ import annotations

import contextlib
import functools
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import dds
import handmade
import numpy as np
import pytest
import yaml
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from lifecycle_msgs.msg import State, Transition
from runners import (
    ACTION,
    COMMAND,
    CONTRACT,
    PERIOD,
    ROBOT,
    SLACK,
    STALE,
    Received,
    activate,
    change,
    enable,
    get_moving,
    moving,
    runner,
    spin,
    state,
)
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64, Float64MultiArray
from trajectory_msgs.msg import JointTrajectory
from visualization_msgs.msg import MarkerArray

from irl_ros import messages
from irl_ros.checkpoint import Checkpoint, CheckpointError
from irl_ros.contract import ContractError, share_directory
from irl_ros.control.controller import Controller
from irl_ros.control.gate import Command, Halt
from irl_ros.control.pilot import Pilot
from irl_ros.nodes.loading import load_fitting
from irl_ros.nodes.watchdog import Watchdog

@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("checkpoint")
    handmade.checkpoint(CONTRACT, ACTION).save(directory)
    return directory


def test_it_drives_the_arm_and_tells_the_learned_reward(checkpoint: Path):
    with dds.domain() as domain, dds.process("irl_ros_sim.arm_node", domain, robot="panda"):
        with runner(domain, checkpoint, use_sim_time=True) as process, dds.client(domain) as client:
            received = Received(client)
            scores = {n: client.collect(Float64, f"policy_runner/{n}") for n in ("reward", "episode_return")}
            likeness = client.collect(Float64, "policy_runner/demo_likeness")
            others = ("episode_return_percentile", "action_clip_ratio", "loop_period")
            told = {n: client.collect(Float64, f"policy_runner/{n}") for n in others}
            actions = client.collect(Float64MultiArray, "policy_runner/action")
            markers = client.collect(MarkerArray, "policy_runner/markers", dds.LATCHED)
            reports = client.collect(DiagnosticArray, "/diagnostics")
            activate(client)
            client.wait(lambda: likeness and received.states, "likeness while active")
            assert not received.commands
            start = received.position()
            get_moving(client, received, 25)
            client.wait(lambda: markers and len(markers[-1].markers[0].points) > 5, "the path")
            client.wait(lambda: len(statuses(reports)) == 6 and "armed" in statuses(reports), "diagnostics")
            moved = received.position() - start
            assert (moved * ACTION > 0.3 * ACTION**2).all(), moved
            np.testing.assert_allclose(actions[0].data, ACTION)
            check_targets(received)
            assert markers[-1].markers[0].header.frame_id == ROBOT.base_frame
            assert enable(client, False).message == "disabled"
            client.wait(lambda: received.halted, "the halt on disable")
            client.wait(lambda: adds_up(scores), "a return that is the sum of rewards")
            check_told(told, len(scores["reward"]))
            check_names(reports)
            sent = len(received.commands)
            assert change(client, Transition.TRANSITION_DEACTIVATE) and change(client, Transition.TRANSITION_CLEANUP)
            assert state(client) == State.PRIMARY_STATE_UNCONFIGURED and len(received.commands) == sent
            assert change(client, Transition.TRANSITION_CONFIGURE)  # a second life
            client.set_parameter("policy_runner", "use_sim_time", False)  # too late to wait for inputs another way
            assert change(client, Transition.TRANSITION_ACTIVATE)
            get_moving(client, received)
            assert change(client, Transition.TRANSITION_DEACTIVATE)
            client.wait(lambda: received.halted, "the halt on deactivate")
            refusal = enable(client)
            assert not refusal.success and "not active" in refusal.message
            assert process.stop() == 0


def statuses(reports: list[DiagnosticArray]) -> dict[str, str]:
    """Messages by name in the last report; the gate's under "armed" when it is."""
    lines = {s.name.removeprefix("policy_runner: "): s.message for s in reports[-1].status} if reports else {}
    return {("armed" if name == "gate" and text == "armed" else name): text for name, text in lines.items()}


def adds_up(scores: dict[str, list[Float64]]) -> bool:
    """Whether the last 20 returns differ by the rewards."""
    rewards, returns = (np.array([m.data for m in scores[name][-20:]]) for name in ("reward", "episode_return"))
    return np.allclose(np.diff(returns), rewards[1:], rtol=0, atol=1e-9)


def check_told(told: dict[str, list[Float64]], rewarded: int) -> None:
    """A percentile of three demonstrations for every reward; nothing cut; ticks once a period."""
    values = {name: np.array([m.data for m in messages]) for name, messages in told.items()}
    percentiles = values["episode_return_percentile"]
    assert abs(len(percentiles) - rewarded) <= 2
    assert np.isin(np.round(percentiles, 3), np.round(np.arange(4) * 100 / 3, 3)).all()
    assert not values["action_clip_ratio"].any()
    assert np.median(values["loop_period"]) == pytest.approx(PERIOD, abs=0.2 * PERIOD)


def check_names(reports: list[DiagnosticArray]) -> None:
    """The aggregator's file expects exactly the lines that are published."""
    data = yaml.safe_load((share_directory() / "config" / "diagnostics.yaml").read_text())
    group = data["/**"]["ros__parameters"]["policy_runner"]
    names = {status.name for report in reports for status in report.status}
    assert names == set(group["expected"]) and all(n.startswith(tuple(group["startswith"])) for n in names)


def check_targets(received: Received) -> None:
    """Each target is the one before plus the action's step: the contract's joint_target."""
    targets = [messages.joint_trajectory(m, ROBOT.joint_names).positions[0] for m in received.since_halt()]
    np.testing.assert_allclose(np.diff(targets, axis=0), np.tile(ACTION * PERIOD, (len(targets) - 1, 1)), atol=1e-9)


def test_the_reward_is_that_of_the_executed_action(checkpoint: Path):
    """An arm that stands still at known poses: every reward by hand from the checkpoint."""
    controller = Controller(Checkpoint.load(checkpoint))
    goal, home = np.array([0.5, 0.1, 0.4]), np.array(ROBOT.home)
    measured = {"joint_position": home, "joint_velocity": np.zeros(7), "goal_position": goal}
    observation = controller.observe(measured)
    with dds.domain() as domain, runner(domain, checkpoint), dds.client(domain) as client:
        rewards = client.collect(Float64, "policy_runner/reward")
        received = Received(client)
        activate(client)
        client.wait(lambda: "nothing received on joint_states" in enable(client).message, "a refusal: no inputs")
        goals = client.publisher(PoseStamped, "goal_pose", dds.LATCHED)
        goals.publish(messages.fill_pose(PoseStamped(), goal, ROBOT.base_frame, 1.0))
        with standing_arm(client, home):
            get_moving(client, received)
            client.wait(lambda: len(rewards) >= 5, "rewards")
            expected = controller.reward(observation, ACTION, observation)
            np.testing.assert_allclose([m.data for m in rewards[:5]], expected)
            client.publisher(JointTrajectory, COMMAND, subscribers=1)  # somebody else
            assert enable(client, False).success
            client.wait(lambda: received.halted, "the halt")
            client.wait(lambda: "test_client" in enable(client).message, "the refusal of a second publisher")
            assert "has another publisher" in enable(client).message


def test_nothing_is_commanded_where_nobody_listens(checkpoint: Path):
    """A controller that is loaded later must not find a policy under way."""
    with dds.domain() as domain, runner(domain, checkpoint) as process, dds.client(domain) as client:
        actions = client.collect(Float64MultiArray, "policy_runner/action")
        reports = client.collect(DiagnosticArray, "/diagnostics")
        activate(client)
        assert f"/{COMMAND}: nobody listens on it" in enable(client).message
        listen = functools.partial(client.node.create_subscription, JointTrajectory, COMMAND, lambda _: None, dds.COMMAND)
        goals = client.publisher(PoseStamped, "goal_pose", dds.LATCHED)
        goals.publish(messages.fill_pose(PoseStamped(), np.array([0.5, 0.1, 0.4]), ROBOT.base_frame, 1.0))
        with standing_arm(client, np.array(ROBOT.home)):
            halt = ""
            while "stale" in halt or not halt:  # a machine that stalls for 0.1 s halts the arm by itself
                listener = listen()
                client.wait(lambda: enable(client).success, "somebody to be heard")
                client.wait(lambda: actions and "armed" in statuses(reports), "commands")
                client.node.destroy_subscription(listener)
                halt = client.wait(lambda: statuses(reports).get("gate"), "the halt")
            assert "nobody listens" in halt
            sent = len(actions)
            refusal = enable(client)
            assert not refusal.success and "nobody listens" in refusal.message
            spin(client, 5 * PERIOD)
            assert len(actions) == sent
            assert process.stop() == 0


@contextlib.contextmanager
def standing_arm(client: dds.Client, position: np.ndarray) -> Iterator[None]:
    """Joint states at 100 Hz, joints in another order, with an encoder's last bit, while the client spins."""
    publisher = client.publisher(JointState, ROBOT.joint_states.name)
    order = np.random.default_rng(0).permutation(7)
    names = [ROBOT.joint_names[i] for i in order]

    def publish() -> None:
        now = time.monotonic()
        reported = position[order] + 1e-9 * (now % 1.0)
        publisher.publish(messages.fill_joint_state(JointState(), names, reported, np.zeros(7), now))

    timer = client.node.create_timer(0.01, publish)
    yield
    client.node.destroy_timer(timer)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_while_moving_halts_and_ends_cleanly(checkpoint: Path, number: int):
    with moving(checkpoint) as (_, process, client, received):
        asked = time.monotonic()
        process.send_signal(number)
        client.wait(lambda: received.halted, "the halt")
        client.wait(lambda: process.returncode is not None, "the end of the node")
        assert process.returncode == 0 and time.monotonic() - asked < 2.0
        position = np.array(received.commands[-1][1].points[0].positions)
        assert np.abs(position - received.position()).max() < 0.15
        assert "shut down" in process.output


def test_a_checkpoint_of_another_robot_is_refused_by_the_fields_that_differ(checkpoint: Path):
    """The node stays up, unconfigured, and says why in its log, its diagnostics and on enable."""
    with dds.domain() as domain, runner(domain, checkpoint, robot="iiwa") as process, dds.client(domain) as client:
        reports = client.collect(DiagnosticArray, "/diagnostics")
        assert not change(client, Transition.TRANSITION_CONFIGURE)
        assert state(client) == State.PRIMARY_STATE_UNCONFIGURED
        said = "robot.name: iiwa here, panda there"
        process.wait_output(said)
        shown = client.wait(lambda: [t for t in statuses(reports).values() if said in t], "diagnostics")[0]
        assert "robot.joint_names: " in shown and "robot.urdf" not in shown
        refusal = enable(client)
        assert not refusal.success and said in refusal.message
        assert process.stop() == 0


def test_what_does_not_fit_is_refused_by_name(checkpoint: Path, tmp_path: Path):
    assert load_fitting(str(checkpoint), "panda", "reach").contract == CONTRACT
    task = tmp_path / "task.yaml"
    source = Path(__file__).parent.parent / "config" / "tasks" / "reach.yaml"
    task.write_text(source.read_text().replace("rate: 20.0", "rate: 10.0"))
    with pytest.raises(ContractError, match="task.rate: 10.0 here, 20.0 there"):
        load_fitting(str(checkpoint), "panda", str(task))
    with pytest.raises(ContractError, match="unknown robot 'pandas'"):
        load_fitting(str(checkpoint), "pandas")
    with pytest.raises(CheckpointError, match="parameter checkpoint is empty"):
        load_fitting("", "panda")
    with pytest.raises(CheckpointError, match="nowhere.*cannot be read"):
        load_fitting(str(tmp_path / "nowhere"), "panda")


def test_damaged_weights_are_refused(tmp_path: Path):
    handmade.checkpoint(CONTRACT, ACTION).save(tmp_path)
    weights = next(tmp_path.glob("policy*"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    with pytest.raises(CheckpointError, match="SHA-256"):
        load_fitting(str(tmp_path), "panda")


def test_the_watchdog_halts_while_the_policy_hangs(checkpoint: Path):
    """A tick that never comes back from the network: the halt is out in time, and its action never."""
    sent: list[tuple[float, Command | Halt]] = []
    pilot = Pilot(Controller(Checkpoint.load(checkpoint)), lambda result: sent.append((time.monotonic(), result)))
    asked, released = threading.Event(), threading.Event()

    def hang(_observation: np.ndarray, _step: int) -> np.ndarray:
        asked.set()
        released.wait(30.0)
        return ACTION

    pilot.controller.act = hang
    watchdog = Watchdog(lambda: halt_if_overdue(pilot))
    joints = {"joint_position": np.array(ROBOT.home), "joint_velocity": np.zeros(7)}
    start = time.monotonic()
    pilot.inputs.update("goal_pose", {"goal_position": np.array([0.5, 0.0, 0.4])}, start)
    pilot.inputs.update("joint_states", joints, start)
    pilot.enable(start)
    watchdog.start()
    hanging = threading.Thread(target=pilot.tick, args=(time.monotonic,))
    hanging.start()
    try:
        while not sent and time.monotonic() < start + 30.0:
            time.sleep(0.005)
        released.set()
        hanging.join(30.0)
    finally:
        released.set()
        watchdog.stop()
    assert asked.is_set() and [type(result) for _, result in sent] == [Halt]
    assert STALE <= sent[0][0] - start <= STALE + PERIOD + SLACK


def halt_if_overdue(pilot: Pilot) -> None:
    now = time.monotonic()
    if (reason := pilot.overdue(now)) is not None:
        pilot.halt(reason, now)


def test_it_imports_neither_pybullet_nor_torch():
    code = (
        "import sys, irl_ros.nodes.policy_runner\n"
        "assert not {'torch', 'pybullet', 'gymnasium'} & set(sys.modules), 'too much imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
