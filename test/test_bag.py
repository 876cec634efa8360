"""Bags of the recorder: foreign readers open them, damage is found, unusable episodes are rejected by name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from mcap.reader import make_reader
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import Reader

from irl_ros import messages
from irl_ros.contract import Contract
from irl_ros.motion import target_trajectory
from irl_ros.data.alignment import SECOND
from irl_ros.data.bag import BagError, read_bag, typestore
from irl_ros.data.bag_writer import BagWriter, offered_qos, set_label
from irl_ros.data.dataset import load_demonstrations
from irl_ros.data.episode import EpisodeError

CONTRACT = Contract.load("panda", "reach")
HOME = np.array(CONTRACT.robot.home)
GOAL = np.array([0.5, 0.1, 0.3])
START = 1_700_000_000 * SECOND
TOPICS = {role: ("/" + t.name, offered_qos(True, role == "goal_pose")) for role, t in CONTRACT.topics.items()}
TYPES = typestore().types


def joint_state(position: np.ndarray, time: float) -> bytes:
    kind = "sensor_msgs/msg/JointState"
    message = TYPES[kind](header("", time), list(CONTRACT.robot.joint_names), position, 0 * position, np.zeros(0))
    return bytes(typestore().serialize_cdr(message, kind))


def header(frame: str, time: float = 0.0):
    stamp = TYPES["builtin_interfaces/msg/Time"](int(time), int(time % 1 * SECOND))
    return TYPES["std_msgs/msg/Header"](stamp, frame)


def goal_pose(frame: str = CONTRACT.robot.base_frame) -> bytes:
    kind = "geometry_msgs/msg/PoseStamped"
    point, turn = TYPES["geometry_msgs/msg/Point"](*GOAL), TYPES["geometry_msgs/msg/Quaternion"](0.0, 0.0, 0.0, 1.0)
    message = TYPES[kind](header(frame), TYPES["geometry_msgs/msg/Pose"](point, turn))
    return bytes(typestore().serialize_cdr(message, kind))


def command(previous: np.ndarray, target: np.ndarray) -> bytes:
    kind, none = "trajectory_msgs/msg/JointTrajectory", np.zeros(0)
    points = []
    for time, position, velocity in zip(*target_trajectory(CONTRACT, previous, target)):
        duration = TYPES["builtin_interfaces/msg/Duration"](0, round(time * SECOND))
        point = TYPES["trajectory_msgs/msg/JointTrajectoryPoint"](position, velocity, none, none, duration)
        points.append(point)
    return bytes(typestore().serialize_cdr(TYPES[kind](header(""), list(CONTRACT.robot.joint_names), points), kind))


def write(directory: Path, name: str, periods: int = 60, contract: Contract = CONTRACT, **options) -> Path:
    """A bag in which every joint moves half a step in each period; `skip` (from, to) [s] leaves joint states out."""
    skip, frame = options.pop("skip", (0, 0)), options.pop("frame", CONTRACT.robot.base_frame)
    who = {key: options.pop(key) for key in ("demonstrated_by", "operator") if key in options}
    bag = BagWriter(directory / name, contract, TOPICS, **who)
    bag.write("goal_pose", goal_pose(frame), START)
    step, period = 0.5 * CONTRACT.max_step, CONTRACT.task.period
    for tick in range(periods):
        for sub in range(5):
            time = tick * period + sub * period / 5
            if not skip[0] < time < skip[1]:
                bag.write("joint_states", joint_state(HOME + step * tick, time), START + round(time * SECOND))
            if sub == 1:
                target = HOME + step * (tick + 1)
                bag.write("command", command(target - step, target), START + round(time * SECOND))
        bag.sync()
    return bag.save(**{"label": True, **options})


def damage(bag: Path, offset: int) -> None:
    file = next(bag.glob("*.mcap"))
    content = bytearray(file.read_bytes())
    content[offset] ^= 0x10
    file.write_bytes(content)


def test_a_bag_comes_back_as_it_was_written(tmp_path: Path) -> None:
    recording = read_bag(write(tmp_path, "episode_0000", operator="Ada"))
    assert recording.listing.contract == CONTRACT and not CONTRACT.differences(recording.listing.contract)
    assert (recording.listing.label, recording.listing.interrupted, recording.listing.operator) == (True, False, "Ada")
    assert {role: len(s) for role, s in recording.samples.items()} == {
        "joint_states": 300, "command": 60, "goal_pose": 1
    }
    states = recording.samples["joint_states"]
    assert states[7].time == START + round(0.07 * SECOND)
    position, _ = messages.joint_state(states[7].message, CONTRACT.robot.joint_names)
    np.testing.assert_array_equal(position, HOME + 0.5 * CONTRACT.max_step)


def test_foreign_readers_open_it(tmp_path: Path) -> None:
    path = write(tmp_path, "episode_0000")
    assert sorted(p.name for p in path.iterdir()) == ["episode_0000_0.mcap", "metadata.yaml"]
    with Reader(path) as reader:
        assert reader.message_count == 361
        assert {c.topic: c.msgtype for c in reader.connections} == {
            "/" + t.name: t.type for t in CONTRACT.topics.values()
        }
    with AnyReader([path]) as reader:
        decoded = [reader.deserialize(raw, connection.msgtype) for connection, _, raw in reader.messages()]
        assert len(decoded) == 361
    with (path / "episode_0000_0.mcap").open("rb") as stream:
        reader = make_reader(stream, validate_crcs=True)
        assert reader.get_header().profile == "ros2"
        summary = reader.get_summary()
        assert {s.encoding for s in summary.schemas.values()} == {"ros2msg"}
        assert all(yaml.safe_load(c.metadata["offered_qos_profiles"]) for c in summary.channels.values())
        assert sum(1 for _ in reader.iter_messages()) == 361
        assert "serialized_metadata" in next(iter(reader.iter_metadata())).metadata


def test_metadata_says_what_was_recorded(tmp_path: Path) -> None:
    path = write(tmp_path, "episode_0000", label=None)
    custom = yaml.safe_load((path / "metadata.yaml").read_text())["rosbag2_bagfile_information"]["custom_data"]
    assert custom["task"] == "reach" and custom["label"] == "null"
    assert json.loads(custom["counts"]) == {"joint_states": 300, "command": 60, "goal_pose": 1}
    set_label(path, False)
    assert read_bag(path).listing.label is False
    with Reader(path) as reader:
        assert reader.message_count == 361


@pytest.mark.parametrize("operator", ["No", "on", "12:30:00", "1e3", "~", "", "Ada Löwe 日本", "- x: y #z", "a\nb\t"])
def test_whoever_demonstrated_keeps_their_name(tmp_path: Path, operator: str) -> None:
    """YAML has its own ideas about some of them."""
    path = write(tmp_path, "episode_0000", periods=11, operator=operator)
    assert read_bag(path).listing.operator == operator
    set_label(path, False)
    with Reader(path) as reader:
        assert read_bag(path).listing.operator == operator and reader.message_count == 67


def test_bags_from_before_there_was_a_seal_are_read(tmp_path: Path) -> None:
    path = write(tmp_path, "episode_0000", periods=11)
    content = yaml.safe_load((path / "metadata.yaml").read_text())
    assert len(content["rosbag2_bagfile_information"]["custom_data"].pop("digest")) == 64
    (path / "metadata.yaml").write_text(yaml.safe_dump(content))
    assert read_bag(path).listing.label is True
    set_label(path, False)
    assert read_bag(path).listing.label is False


def test_a_bag_has_its_name_only_when_complete(tmp_path: Path) -> None:
    bag = BagWriter(tmp_path / "episode_0000", CONTRACT, TOPICS)
    for _ in range(1000):
        bag.write("goal_pose", goal_pose(), START)
    bag.sync()
    assert [p.name for p in tmp_path.iterdir()] == [".episode_0000.partial"]
    # More than the chunk in work is on its way to the disk while the recording goes on.
    assert next(bag.partial.glob("*.mcap")).stat().st_size > 64 * 1024
    with pytest.raises(BagError, match="exists already"):
        BagWriter(tmp_path / "episode_0000", CONTRACT, TOPICS)
    bag.discard()
    assert list(tmp_path.iterdir()) == []


def test_an_existing_name_is_never_overwritten(tmp_path: Path) -> None:
    path = write(tmp_path, "episode_0000")
    before = {p.name: p.read_bytes() for p in path.iterdir()}
    with pytest.raises(BagError, match="exists already"):
        write(tmp_path, "episode_0000")
    assert {p.name: p.read_bytes() for p in path.iterdir()} == before


def test_damage_anywhere_in_the_messages_is_found(tmp_path: Path) -> None:
    path = write(tmp_path, "episode_0000", periods=20)
    file = path / "episode_0000_0.mcap"
    with file.open("rb") as stream:
        end = make_reader(stream).get_summary().chunk_indexes[-1].chunk_start_offset
    whole = file.read_bytes()
    for offset in np.random.default_rng(0).integers(0, end, 60):
        damage(path, offset)
        with pytest.raises(BagError, match="episode_0000_0.mcap: "):
            read_bag(path)
        file.write_bytes(whole)
    for length in np.random.default_rng(1).integers(0, len(whole), 30):
        file.write_bytes(whole[:length])
        with pytest.raises(BagError, match="episode_0000_0.mcap: damaged or cut short"):
            read_bag(path)


@pytest.mark.parametrize("content", ["", "a: [", "rosbag2_bagfile_information: 3", "\x00"])
def test_metadata_that_is_none_is_an_error_that_names_it(tmp_path: Path, content: str) -> None:
    path = write(tmp_path, "episode_0000", periods=11)
    (path / "metadata.yaml").write_text(content)
    with pytest.raises(BagError, match="metadata.yaml"):
        read_bag(path)


def test_demonstrations_are_the_usable_episodes_in_name_order(tmp_path: Path) -> None:
    other = Contract.from_dict(json.loads(json.dumps(CONTRACT.to_dict()).replace('"rate": 20.0', '"rate": 10.0')))
    write(tmp_path, "episode_0000")
    write(tmp_path, "episode_0001", label=False)
    write(tmp_path, "episode_0002", label=None, periods=45)
    write(tmp_path, "episode_0003", periods=5)
    write(tmp_path, "episode_0004", skip=(0.5, 0.8))
    write(tmp_path, "episode_0005", frame="camera")
    write(tmp_path, "episode_0006", interrupted=True, label=None)
    write(tmp_path, "episode_0007", contract=other)
    damage(write(tmp_path, "episode_0008"), 5000)
    (write(tmp_path, "episode_0009") / "metadata.yaml").unlink()
    BagWriter(tmp_path / "episode_0010", CONTRACT, TOPICS).abort()
    (tmp_path / "notes").mkdir()
    demonstrations, rejected = load_demonstrations(tmp_path)
    assert [(e.name, len(e), e.success) for e in demonstrations] == [
        ("episode_0000", 50, True), ("episode_0002", 44, None)
    ]
    reasons = [
        "labelled as a failure", "too short: 4 periods", "a gap in joint_states", "'camera'", "interrupted",
        "another contract: task.rate: 20.0 here, 10.0 there", "damaged", "missing",
    ]
    for number, reason, line in zip((1, 3, 4, 5, 6, 7, 8, 9), reasons, rejected, strict=True):
        assert f"episode_{number:04d}" in line and reason in line
    for episode in demonstrations:
        np.testing.assert_allclose(episode.actions, 0.5, atol=1e-9)


def test_one_bag_may_be_named_and_the_contract_given(tmp_path: Path) -> None:
    path = write(tmp_path, "episode_0000")
    demonstrations, rejected = load_demonstrations(path, CONTRACT)
    assert len(demonstrations) == 1 and not rejected
    with pytest.raises(EpisodeError, match="episode_0000: another contract: robot.name: iiwa here, panda there"):
        load_demonstrations(path, Contract.load("iiwa", "reach"))


def test_nothing_usable_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(EpisodeError, match="no directory"):
        load_demonstrations(tmp_path / "none")
    with pytest.raises(EpisodeError, match="no episode bag in .*; record"):
        load_demonstrations(tmp_path)
    write(tmp_path, "episode_0000", periods=5)
    with pytest.raises(EpisodeError, match="record some more(.|\n)*episode_0000: too short"):
        load_demonstrations(tmp_path)


def test_a_message_type_without_definition_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    data = CONTRACT.to_dict()
    data["robot"]["command"]["type"] = "my_robot/msg/Joints"
    with pytest.raises(BagError, match="my_robot/msg/Joints"):
        BagWriter(tmp_path / "episode_0000", Contract.from_dict(data), TOPICS)
    assert list(tmp_path.iterdir()) == []
