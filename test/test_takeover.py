"""A human beside the policy: taking over through the gate and being recorded, or driving while the policy watches."""

from __future__ import annotations

import time
from pathlib import Path

import dds
import handmade
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from runners import (
    ACTION,
    COMMAND,
    CONTRACT,
    PERIOD,
    ROBOT,
    Received,
    activate,
    enable,
    enable_when_ready,
    get_moving,
    is_halt,
    keep,
    runner,
)
from sensor_msgs.msg import JointState, Joy
from std_msgs.msg import Bool, Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from irl_ros import messages
from irl_ros.control.pilot import TAKEOVER_AGE
from irl_ros.data.bag import read_bag
from irl_ros.data.dataset import load_demonstrations
from irl_ros.kinematics import Kinematics
from irl_ros.nodes.shadow import Agreement

STALL = 0.05  # [s] that a shared machine may add to a tick


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("checkpoint")
    handmade.checkpoint(CONTRACT, 0.3 * ACTION).save(directory)
    return directory


def test_a_human_takes_over_through_the_gate_and_is_recorded(checkpoint: Path, tmp_path: Path):
    recording = {"out": tmp_path, "takeover": "policy_runner/takeover"}
    with (
        dds.domain() as domain,
        dds.process("irl_ros_sim.arm_node", domain, robot="panda"),
        dds.process("irl_ros.nodes.teleop", domain, {COMMAND: "teleop/command"}, takeover=True, reaction=0.0),
        dds.process("irl_ros.nodes.recorder", domain, **recording) as recorder,
        runner(domain, checkpoint),
        dds.client(domain) as client,
    ):
        received, wanted = Received(client), []
        keep(client, JointTrajectory, "teleop/command", dds.COMMAND, wanted)
        leads = client.collect(Bool, "policy_runner/takeover", dds.LATCHED)
        reports = client.collect(DiagnosticArray, "/diagnostics")
        activate(client)
        client.wait(lambda: received.states, "a joint state")
        client.wait(lambda: hears_everything(reports), "a recorder that hears every topic")
        for attempt in range(3):  # a machine that stalls for 0.1 s is a human who let go: then another stretch
            get_moving(client, received)
            wanted.clear()
            assert enable(client, node="teleop").success
            client.wait(lambda: leads and leads[-1].data, "the human to lead")
            client.wait(lambda: received.halted or len(wanted) > 40, "a stretch of driving")
            whole = not received.halted
            assert enable(client, False, node="teleop").success
            client.wait(lambda: received.halted and not leads[-1].data, "the halt")
            recorder.wait_output(f"is saved in {tmp_path / f'episode_{attempt:04d}'}")
            if whole:
                break
        follows(received, wanted)
        assert received.commands[-1][0] - wanted[-1][0] <= TAKEOVER_AGE + PERIOD + STALL
        get_moving(client, received)  # by the policy again, once enabled
        assert not leads[-1].data
    demonstrations, _ = load_demonstrations(tmp_path, CONTRACT)
    *_, episode = demonstrations
    assert episode.name == f"episode_{attempt:04d}" and read_bag(tmp_path / episode.name).listing.label is True
    assert 30 <= len(episode) <= 50 and np.abs(episode.actions).max() <= 1.0 + 1e-6
    hand = CONTRACT.field(episode.observations, "end_effector_to_goal")
    assert np.linalg.norm(hand[-1]) < np.linalg.norm(hand[0]) - 0.05, "it goes to the goal, as the policy would not"


def hears_everything(reports: list[DiagnosticArray]) -> bool:
    lines = [line for report in reports for line in report.status if line.name == "/demo_recorder"]
    return bool(lines) and lines[-1].level == DiagnosticStatus.OK


def follows(received: Received, wanted: list[tuple[float, JointTrajectory]]) -> None:
    """Each of the human's targets is the runner's within a period, as far as its steps allow: one that a stalling machine
    kept from stepping is as many steps behind, and a human at full speed is not caught up with."""
    sent_at = np.array([t for t, _ in received.commands])
    began = wanted[0][0]
    for sent, message in wanted[10:30]:
        answers = [m for t, m in received.commands if sent <= t <= sent + PERIOD + STALL]
        assert answers, "no command within a period"
        target = np.array(message.points[0].positions)
        nearest = min(np.abs(np.array(answer.points[0].positions) - target).max() for answer in answers)
        gaps = np.diff(sent_at[(sent_at > began - 2 * PERIOD) & (sent_at <= sent + PERIOD + STALL)])
        missed = np.maximum(np.round(gaps / PERIOD) - 1, 0).sum()
        assert nearest < (2 + missed) * CONTRACT.max_joint_step.max(), (nearest, missed)


def test_a_dry_run_moves_nothing_and_says_how_far_it_is_from_the_human(checkpoint: Path):
    with (
        dds.domain() as domain,
        dds.process("irl_ros_sim.arm_node", domain, robot="panda"),
        dds.process("irl_ros.nodes.teleop", domain, noise=0.0, pause_rate=0.0),
        runner(domain, checkpoint, command_interface="none"),
        dds.client(domain) as client,
    ):
        received = Received(client)
        actions = client.collect(Float64MultiArray, "policy_runner/action")
        proposals = client.collect(JointTrajectory, "policy_runner/proposal")
        reports = client.collect(DiagnosticArray, "/diagnostics")
        activate(client)
        client.wait(lambda: received.states, "a joint state")
        enabled_at = 0.0

        def going() -> bool:
            """A machine that stalls halts a dry run too: then it is enabled again, and compares from there on."""
            nonlocal enabled_at
            if not enabled_at or (proposals and is_halt(proposals[-1])):
                proposals.clear()
                enable_when_ready(client)
                enabled_at = time.time()
            return len(proposals) > 10

        client.wait(going, "proposals")
        assert not received.commands, "something moved"
        assert enable(client, node="teleop").success
        client.wait(lambda: going() and len(received.commands) > 45, "the human's driving")
        assert [p.node_name for p in client.node.get_publishers_info_by_topic(COMMAND)] == ["teleop"]
        said = client.wait(lambda: going() and compared(reports, 30), "the comparison")
        np.testing.assert_allclose(actions[-1].data, 0.3 * ACTION)
        proposed = messages.joint_trajectory(proposals[-1], ROBOT.joint_names).positions[0]
        assert np.abs(proposed - received.position()).max() < 2 * CONTRACT.max_joint_step.max()
        assert "dry run" in lines(reports, "gate")[-1].message
        assert abs(said - expected(received, enabled_at)) < 0.1


def lines(reports: list[DiagnosticArray], name: str) -> list:
    return [s for report in reports for s in report.status if s.name == f"policy_runner: {name}"]


def compared(reports: list[DiagnosticArray], count: int) -> float | None:
    """The last figure made of at least so many actions."""
    values = {pair.key: pair.value for line in lines(reports, "model")[-1:] for pair in line.values}
    return float(values["action_difference_to_teleop"]) if int(values.get("compared", 0)) >= count else None


def expected(received: Received, since: float) -> float:
    """Mean |policy's − human's action| of what was received since then."""
    targets = np.array([m.points[0].positions for t, m in received.commands if t >= since])
    return float(np.abs(np.diff(targets, axis=0) / CONTRACT.max_joint_step - 0.3 * ACTION).mean())


def test_agreement_by_hand():
    agreement, start, step = Agreement(CONTRACT, Kinematics(ROBOT)), np.array(ROBOT.home), CONTRACT.max_joint_step
    agreement.human(start, 0.0)
    agreement.policy(ACTION)
    assert agreement.mean is None, "one target is no action yet"
    agreement.human(start + 0.5 * step, PERIOD)
    agreement.policy(np.full(7, 0.25))
    agreement.policy(np.full(7, 0.9))  # the human has said nothing new
    assert agreement.mean == pytest.approx(0.25) and agreement.count == 1
    agreement.human(start + 0.5 * step - 2.0 * step, 2 * PERIOD)  # more than an action can ask
    agreement.policy(np.full(7, -5.0))
    assert agreement.mean == pytest.approx(0.125) and agreement.count == 2
    agreement.human(start, 2 * PERIOD + 1.0)  # after a pause a motion starts anew
    agreement.policy(ACTION)
    assert agreement.count == 2
    agreement.reset()
    assert agreement.mean is None


def test_a_person_leads_with_the_button_alone_and_is_silent_without_it():
    with (
        dds.domain() as domain,
        dds.process("irl_ros.nodes.teleop", domain, {COMMAND: "teleop/command"}, mode="joy", takeover=True) as teleop,
        dds.client(domain) as client,
    ):
        wanted = client.collect(JointTrajectory, "teleop/command")
        states = client.publisher(JointState, ROBOT.joint_states.name)
        stick = client.publisher(Joy, "joy", dds.SENSOR)
        teleop.wait_output("joy is ready, leads while somebody holds on")
        pose = np.array(ROBOT.home)

        def hold(held: bool) -> bool:
            """An arm that follows, and a hand on the stick."""
            target = messages.joint_trajectory(wanted[-1], ROBOT.joint_names).positions[0] if wanted else pose
            now = time.monotonic()
            states.publish(messages.fill_joint_state(JointState(), ROBOT.joint_names, target, np.zeros(7), now))
            stick.publish(Joy(axes=[0.0] * 4 + [1.0], buttons=[0] * 4 + [int(held)]))
            return True

        client.wait(lambda: hold(True) and len(wanted) > 5, "commands while the button is held")
        heard = time.monotonic()
        client.wait(lambda: hold(False) and time.monotonic() > heard + 2 * PERIOD, "the release to be heard")
        sent = len(wanted)
        client.wait(lambda: hold(False) and time.monotonic() > heard + 10 * PERIOD, "silence")
        assert len(wanted) == sent
        client.wait(lambda: hold(True) and len(wanted) > sent, "commands again")
