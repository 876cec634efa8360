"""The recorder as a real process over DDS, with a robot of the test's own and with the simulated one."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import dds
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from rclpy.qos import ReliabilityPolicy
from recorder_rig import CONTRACT, HOME, NAMES, RECORDER, demonstrate, label, names, robot, start, trigger
from rosbags.rosbag2 import Reader
from sensor_msgs.msg import CompressedImage, JointState
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory

from irl_ros import messages
from irl_ros.contract import Contract, share_directory
from irl_ros.data.bag import read_bag, typestore
from irl_ros.data.dataset import load_demonstrations
from irl_ros.data.episode import EpisodeError


def test_record_label_discard_and_load(tmp_path: Path, patient: Path) -> None:
    out = tmp_path / "new" / "demonstrations"
    with (
        dds.domain() as domain,
        dds.process(RECORDER, domain, robot=patient, out=out, operator="Ada") as recorder,
        dds.client(domain) as client,
        robot(client) as fake,
    ):
        states = client.collect(String, "demo_recorder/state", dds.LATCHED)
        diagnostics = client.collect(DiagnosticArray, "/diagnostics")
        assert start(client) == "episode_0000"
        refusal = trigger(client, "start")
        assert not refusal.success and refusal.message == "already recording episode_0000: stop or discard it first"
        demonstrate(client, fake, 25)
        saved = trigger(client, "stop")
        assert saved.success and saved.message == str(out / "episode_0000")
        assert label(client, True).message == "episode_0000 labelled success"

        assert start(client) == "episode_0001"
        demonstrate(client, fake, 5)
        assert trigger(client, "discard").message == "discarded episode_0001"
        assert names(out) == ["episode_0000"]
        assert not label(client, False).success

        assert start(client) == "episode_0001"
        demonstrate(client, fake, 25)
        assert label(client, False).success
        assert trigger(client, "stop").success
        assert not trigger(client, "stop").success

        # "saving" lasts milliseconds: only the state after it is sure to be seen.
        seen = lambda: [s.data for s in states if s.data != "saving"]  # noqa: E731
        client.wait(lambda: len(seen()) == 7, "every state")
        assert seen() == ["idle", "recording"] * 3 + ["idle"]
        client.wait(lambda: any(d.status[0].message == "recording" for d in diagnostics), "diagnostics")
        assert recorder.stop() == 0

    demonstrations, rejected = load_demonstrations(out)
    assert [(e.name, e.success) for e in demonstrations] == [("episode_0000", True)]
    assert rejected == ["episode episode_0001: labelled as a failure"]
    # The commands' steps of 0.3, none or several of them in a period, as the machine's load would have it.
    steps = demonstrations.episodes[0].actions / 0.3
    np.testing.assert_allclose(steps[steps < 3.1], np.round(steps[steps < 3.1]), atol=1e-6)
    assert (np.round(steps) == 1).any()
    recording = read_bag(out / "episode_0000")
    assert recording.listing.operator == "Ada" and len(recording.samples["command"]) == 25
    assert len(recording.samples["goal_pose"]) == 1 and recording.samples["goal_pose"][0].order == 0


def test_start_names_what_is_missing(tmp_path: Path) -> None:
    with (
        dds.domain() as domain,
        dds.process(RECORDER, domain, out=tmp_path) as recorder,
        dds.client(domain) as client,
    ):
        refusal = trigger(client, "start")
        assert not refusal.success
        for topic in ("/joint_states: it has no publisher", "/goal_pose: it has", "/joint_trajectory_controller"):
            assert topic in refusal.message
        unheard = client.publisher(PoseStamped, "goal_pose", dds.COMMAND, subscribers=0)
        recorder.wait_output("/goal_pose: a publisher offers another DURABILITY")
        assert "/goal_pose: its publisher's DURABILITY does not fit (its" in trigger(client, "start").message
        client.node.destroy_publisher(unheard)
        of_another_type = client.publisher(String, "joint_trajectory_controller/joint_trajectory", subscribers=0)
        refusal = "cannot be heard: it is new, ask again, or it is no trajectory_msgs/msg/JointTrajectory"
        client.wait(lambda: refusal in start_refusal(client), "a publisher of another type to be told")
        client.node.destroy_publisher(of_another_type)
        with robot(client) as fake:
            start(client)
            trigger(client, "discard")
            fake.silent = True
            client.wait(lambda: "/joint_states: silent for" in start_refusal(client), "the silence to be noticed")
        assert names(tmp_path) == []


def start_refusal(client: dds.Client) -> str:
    answer = trigger(client, "start")
    if answer.success:
        trigger(client, "discard")
        return ""
    return answer.message


def test_hand_guiding_needs_no_command(tmp_path: Path, patient: Path) -> None:
    (tmp_path / ".episode_0001.partial").mkdir()
    with (
        dds.domain() as domain,
        dds.process(RECORDER, domain, robot=patient, out=tmp_path, demonstrated_by="hand_guiding") as recorder,
        dds.client(domain) as client,
        robot(client),
    ):
        recorder.wait_output(".episode_0001.partial was left by a recorder that was killed: irl_ros repair")
        assert start(client) == "episode_0002"
        end = time.monotonic() + 1.0
        client.wait(lambda: time.monotonic() > end, "a second of holding still")
        assert trigger(client, "stop").success
    demonstrations, rejected = load_demonstrations(tmp_path)
    assert [e.name for e in demonstrations] == ["episode_0002"] and not rejected
    np.testing.assert_array_equal(demonstrations.episodes[0].actions, 0.0)


class Numbered:
    """Publishes joint states with a number in each stamp."""

    def __init__(self, client: dds.Client):
        self._states = client.publisher(JointState, CONTRACT.robot.joint_states.name, dds.SENSOR)
        self._message = messages.fill_joint_state(JointState(), NAMES, HOME, np.zeros(7), 0.0)
        self._sent = 0

    def send(self, count: int = 1) -> bool:
        for _ in range(count):
            messages.set_stamp(self._message.header.stamp, self._sent)
            self._states.publish(self._message)
            self._sent += 1
        return True


def test_every_loss_is_counted_told_and_keeps_the_episode_from_training(tmp_path: Path) -> None:
    with (
        dds.domain() as domain,
        dds.process(RECORDER, domain, out=tmp_path, demonstrated_by="hand_guiding") as recorder,
        dds.client(domain) as client,
    ):
        quality = client.collect(String, "demo_recorder/quality", dds.LATCHED)
        diagnostics = client.collect(DiagnosticArray, "/diagnostics")
        goal = client.publisher(PoseStamped, "goal_pose", dds.LATCHED)
        goal.publish(messages.fill_pose(PoseStamped(), HOME[:3], CONTRACT.robot.base_frame, 0.0))
        robot = Numbered(client)
        client.wait(lambda: robot.send() and trigger(client, "start").success, "an episode to start")
        client.wait(lambda: robot.send() and ("joint_states count", "0") not in figures(diagnostics), "a message in it")
        recorder.send_signal(signal.SIGSTOP)  # its queues overflow, and the network's after them
        robot.send(5000)
        recorder.send_signal(signal.SIGCONT)
        said = lambda: diagnostics[-1].status[0].message  # noqa: E731
        client.wait(lambda: robot.send() and said() == "recording: messages are lost", "the loss in the diagnostics")
        assert trigger(client, "stop").success
        found = json.loads(client.wait(lambda: quality, "the quality")[-1].data)
    recording = read_bag(tmp_path / "episode_0000")
    numbers = [s.message.header.stamp.sec for s in recording.samples["joint_states"]]
    assert found["streams"]["joint_states"]["lost"] == numbers[-1] - numbers[0] + 1 - len(numbers) > 0
    assert "NOT USED BY TRAINING: " in recorder.output and "\a" in recorder.output
    assert "/joint_states: the middleware lost" in recorder.output
    with pytest.raises(EpisodeError, match="messages of joint_states are lost"):
        load_demonstrations(tmp_path)


def figures(diagnostics: list[DiagnosticArray]) -> list[tuple[str, str]]:
    """What the recorder's last diagnostics say while it records."""
    found = [(pair.key, pair.value) for pair in diagnostics[-1].status[0].values] if diagnostics else []
    return found if ("state", "recording") in found else [("joint_states count", "0")]


def test_an_output_directory_that_cannot_be_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with dds.domain() as domain, dds.process(RECORDER, domain, out=tmp_path / "file" / "out") as recorder:
        assert recorder.wait() == 2
        assert "error: parameter out: cannot create" in recorder.output and "Traceback" not in recorder.output


def test_topics_in_a_namespace_are_recorded_under_their_full_names(tmp_path: Path, patient: Path) -> None:
    with (
        dds.domain() as domain,
        dds.process(RECORDER, domain, remap={"__ns": "/left"}, robot=patient, out=tmp_path),
        dds.client(domain) as client,
        robot(client, namespace="/left/", command=dds.SENSOR) as fake,  # best effort, as some send commands
    ):
        client.wait(lambda: client.call(Trigger, "/left/demo_recorder/start").success, "an episode to start")
        demonstrate(client, fake, 15)
        client.call(Trigger, "/left/demo_recorder/stop")
    assert len(read_bag(tmp_path / "episode_0000").samples["command"]) >= 14
    with Reader(tmp_path / "episode_0000") as reader:
        assert {c.topic for c in reader.connections} == {"/left/" + t.name for t in CONTRACT.topics.values()}
    assert len(load_demonstrations(tmp_path)[0]) == 1


def test_a_simulated_demonstration_is_stamped_by_its_arrival(tmp_path: Path) -> None:
    pytest.importorskip("pybullet")
    with (
        dds.domain() as domain,
        dds.process("irl_ros_sim.arm_node", domain, seed=3),
        dds.process("irl_ros.nodes.teleop", domain, use_sim_time=True),
        dds.process(RECORDER, domain, out=tmp_path, use_sim_time=True),
        dds.client(domain) as client,
    ):
        commands = client.collect(JointTrajectory, CONTRACT.robot.command.name)
        start(client)
        client.call(SetBool, "teleop/enable", SetBool.Request(data=True))
        client.wait(lambda: len(commands) >= 30, "30 commands")
        assert trigger(client, "stop").success
        heard = client.node.get_subscriptions_info_by_topic("/joint_states")
        [mine] = [i for i in heard if i.node_name == "demo_recorder"]
        assert mine.qos_profile.reliability == ReliabilityPolicy.RELIABLE, "the arm offers it: nothing gets lost on the way"
    demonstrations, rejected = load_demonstrations(tmp_path)
    assert len(demonstrations) == 1 and not rejected
    states = read_bag(tmp_path / "episode_0000").samples["joint_states"]
    late = np.array([s.time / 1e9 - messages.stamp_seconds(s.message.header.stamp) for s in states])
    # A joint state is published right after the tick of /clock that it belongs to.
    assert late.min() > -1e-9 and np.median(late) < 1 / 60


def test_what_is_recorded_beside_the_observation_is_kept_raw_and_may_be_absent(tmp_path: Path, patient: Path) -> None:
    task = tmp_path / "reach.yaml"
    also = "recording:\n  also:\n"
    for role, kind in (("camera", "CompressedImage"), ("stick", "Joy")):
        also += f"    {role}: {{name: {role}/topic, type: sensor_msgs/msg/{kind}, max_age: 1.0}}\n"
    task.write_text((share_directory() / "config/tasks/reach.yaml").read_text() + also)
    images = [bytes(np.random.default_rng(k).integers(0, 256, 40_000, dtype=np.uint8)) for k in range(10)]
    options = {"robot": patient, "task": task, "out": tmp_path / "out", "demonstrated_by": "hand_guiding"}
    with (
        dds.domain() as domain,
        dds.process(RECORDER, domain, **options) as recorder,
        dds.client(domain) as client,
        robot(client),
    ):
        camera = client.publisher(CompressedImage, "camera/topic", dds.SENSOR)
        start(client)
        for data in images:
            camera.publish(CompressedImage(format="jpeg", data=data))
            end = time.monotonic() + 0.1
            client.wait(lambda: time.monotonic() > end, "the next image")
        assert trigger(client, "stop").success
    assert "camera 10 at" in recorder.output and "stick 0" in recorder.output
    with Reader(tmp_path / "out" / "episode_0000") as reader:
        [connection] = [c for c in reader.connections if c.topic == "/camera/topic"]
        assert connection.ext.offered_qos_profiles[0].reliability.name == "BEST_EFFORT"
        raw = [data for _, _, data in reader.messages([connection])]
    kept = [typestore().deserialize_cdr(data, "sensor_msgs/msg/CompressedImage") for data in raw]
    assert [message.data.tobytes() for message in kept] == images
    [episode] = load_demonstrations(tmp_path / "out", Contract.load(str(patient), "reach"))[0]
    assert episode.observations.shape[1] == CONTRACT.observation_size
