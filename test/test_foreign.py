"""Bags of other tools: both storages, cut in every way, byte for byte, and refusals that say what to do."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from irl_ros.cli import main
from irl_ros.contract import Contract, Topic
from irl_ros.data.alignment import SECOND
from irl_ros.data.bag import read_bag, typestore
from irl_ros.data.dataset import load_demonstrations
from irl_ros.data.bag_writer import BagWriter
from irl_ros.data.cutting import MARGIN, by_events, by_pauses, by_table
from irl_ros.data.foreign import Cut, Foreign, Message, read_foreign, write_episodes
from irl_ros.data.listing import BagError
from foreign_forms import BAGS, PERIODS
from test_bag import CONTRACT, HOME, START, TOPICS, TYPES, command, goal_pose, joint_state, write

STEP, PERIOD = 0.5 * CONTRACT.max_step, CONTRACT.task.period
MOVES = ((0.0, 1.5), (4.0, 5.5))
"""[s] when the arm of these bags moves."""


def flag(value: bool) -> bytes:
    return bytes(typestore().serialize_cdr(TYPES["std_msgs/msg/Bool"](value), "std_msgs/msg/Bool"))


def record(path: Path, storage: StoragePlugin, version: int = 8, joint_states: str = "/joint_states") -> list[bytes]:
    """One long bag with two reaches, their labels, marks at start and stop, and a topic nobody asked for; returns the
    joint states' bytes."""
    kinds = {
        joint_states: "sensor_msgs/msg/JointState",
        "/joint_trajectory_controller/joint_trajectory": "trajectory_msgs/msg/JointTrajectory",
        "/goal_pose": "geometry_msgs/msg/PoseStamped",
        "/outcome": "std_msgs/msg/Bool",
        "/begin": "std_msgs/msg/Bool",
        "/noise": "std_msgs/msg/Bool",
    }
    written = []
    with Writer(path, version=version, storage_plugin=storage) as writer:
        on = {topic: writer.add_connection(topic, kind, typestore=typestore()) for topic, kind in kinds.items()}

        def write(topic: str, seconds: float, data: bytes) -> None:
            writer.write(on[topic], START + round(seconds * SECOND), data)

        write("/goal_pose", 0.0, goal_pose())
        position = HOME.copy()
        for k in range(600):
            seconds = k / 100
            moving = any(a <= seconds < b for a, b in MOVES)
            written.append(joint_state(position + 0.2 * STEP * (k % 5) * moving, seconds))
            write(joint_states, seconds, written[-1])
            if moving and k % 5 == 0:
                write("/joint_trajectory_controller/joint_trajectory", seconds, command(position, position + STEP))
            if moving and k % 5 == 4:
                position = position + STEP
            if k in (0, 390):
                write("/begin", seconds, flag(True))
            if k in (160, 560):
                write("/outcome", seconds, flag(k == 560))
            write("/noise", seconds, flag(False))
    return written


@pytest.mark.parametrize("storage", StoragePlugin)
def test_a_whole_bag_is_taken_over_byte_for_byte(storage: StoragePlugin, tmp_path: Path, capsys):
    written = record(tmp_path / "bag", storage)
    assert main(["import", str(tmp_path / "bag"), "--out", str(tmp_path / "data"), "--operator", "Ada"]) == 0
    said = capsys.readouterr()
    assert "left out: /noise (std_msgs/msg/Bool)" in said.err and "1 episode in" in said.out
    recording = read_bag(tmp_path / "data" / "episode_0000")
    listing = recording.listing
    assert (listing.operator, listing.demonstrated_by, listing.label) == ("Ada", "command", None)
    kind = "sensor_msgs/msg/JointState"
    again = [bytes(typestore().serialize_cdr(s.message, kind)) for s in recording.samples["joint_states"]]
    assert again == written
    assert [s.time for s in recording.samples["joint_states"]][:2] == [START, START + SECOND // 100]


@pytest.mark.parametrize("version", [8, 9])
@pytest.mark.parametrize("how", ["pauses", "events", "labels", "times"])
def test_a_long_bag_is_cut_into_its_reaches(how: str, version: int, tmp_path: Path):
    record(tmp_path / "bag", StoragePlugin.SQLITE3, version)
    table = tmp_path / "times.csv"
    table.write_text("start,end,success\n0.0,1.6,0\n3.9,5.6,1\n")
    cut = {
        "pauses": ["--pauses", "1.0"],
        "events": ["--events", "/begin", "/outcome"],
        "labels": ["--labels", "/outcome"],
        "times": ["--times", str(table)],
    }[how]
    assert main(["import", str(tmp_path / "bag"), "--out", str(tmp_path / "data"), *cut]) == 0
    episodes = [read_bag(tmp_path / "data" / f"episode_000{k}") for k in range(2)]
    assert not (tmp_path / "data" / "episode_0002").exists()
    expected = [False, True] if how in ("labels", "times") else [None, None]
    assert [e.listing.label for e in episodes] == expected
    assert [len(e.samples["goal_pose"]) for e in episodes] == [1, 1], "the goal was set once, before the first"
    usable, _ = load_demonstrations(tmp_path / "data")
    assert len(usable) == expected.count(None) + expected.count(True)
    for episode in usable:
        np.testing.assert_allclose(episode.actions[:28], 0.5, atol=1e-6)


def test_other_names_and_no_commands(tmp_path: Path, capsys):
    record(tmp_path / "bag", StoragePlugin.MCAP, joint_states="/arm/states")
    wanted = ["import", str(tmp_path / "bag"), "--out", str(tmp_path / "data"), "--times"]
    (tmp_path / "t.csv").write_text("0, 1.4\n")
    assert main([*wanted, str(tmp_path / "t.csv")]) == 2
    assert "no topic /joint_states for joint_states" in capsys.readouterr().err
    assert main([*wanted, str(tmp_path / "t.csv"), "--topic", "joint_states=/arm/states", "--hand-guiding"]) == 0
    recording = read_bag(tmp_path / "data" / "episode_0000")
    assert recording.listing.demonstrated_by == "hand_guiding"
    assert len(load_demonstrations(tmp_path / "data")[0]) == 1


@pytest.mark.parametrize("mode", [CompressionMode.FILE, CompressionMode.MESSAGE])
@pytest.mark.parametrize("storage", StoragePlugin)
def test_compressed_bags_hold_the_same(storage: StoragePlugin, mode: CompressionMode, tmp_path: Path):
    plain, bag = BAGS / "humble", Writer(tmp_path / "bag", version=9, storage_plugin=storage)
    bag.set_compression(mode, CompressionFormat.ZSTD)
    found = read_foreign(plain, CONTRACT)
    with bag:
        kinds = {role: topic.type for role, topic in CONTRACT.topics.items()}
        on = {r: bag.add_connection(found.names[r], kind, typestore=typestore()) for r, kind in kinds.items()}
        for message in found.messages(found.names):
            bag.write(on[message.role], message.time, message.data)
    assert content_of(tmp_path / "bag") == content_of(plain)


def test_a_bag_in_two_files_is_one(tmp_path: Path):
    """As `ros2 bag record --max-bag-size` splits it."""
    whole = write(tmp_path, "whole", 40)
    found, bag = read_foreign(whole, CONTRACT), tmp_path / "bag"
    middle = found.start + SECOND
    for k, span in enumerate(((None, middle), (middle, None))):
        with Writer(tmp_path / f"part_{k}", version=8, storage_plugin=StoragePlugin.SQLITE3) as part:
            kinds = {role: topic.type for role, topic in CONTRACT.topics.items()}
            on = {r: part.add_connection(found.names[r], kind, typestore=typestore()) for r, kind in kinds.items()}
            for message in found.messages(found.names, *span):
                part.write(on[message.role], message.time, message.data)
    bag.mkdir()
    texts = [yaml.safe_load((tmp_path / f"part_{k}" / "metadata.yaml").read_text()) for k in range(2)]
    first, second = (text["rosbag2_bagfile_information"] for text in texts)
    for k in range(2):
        shutil.copy(tmp_path / f"part_{k}" / f"part_{k}.db3", bag)
    for one, other in zip(first["topics_with_message_count"], second["topics_with_message_count"], strict=True):
        one["message_count"] += other["message_count"]
    first["message_count"] += second["message_count"]
    first["duration"]["nanoseconds"] = found.end - found.start
    first["relative_file_paths"] += second["relative_file_paths"]
    (bag / "metadata.yaml").write_text(yaml.safe_dump({"rosbag2_bagfile_information": first}))
    assert content_of(bag) == content_of(whole)
    assert main(["import", str(bag), "--out", str(tmp_path / "data")]) == 0
    assert len(load_demonstrations(tmp_path / "data")[0].episodes[0]) == 39


FORMS = {"humble": (5, "sqlite3"), "kilted": (9, "mcap")}


@pytest.mark.parametrize("distribution", FORMS)
def test_the_forms_of_humble_and_of_kilted_are_read(distribution: str, tmp_path: Path, capsys):
    bag = BAGS / distribution
    about = yaml.safe_load((bag / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert (about["version"], about["storage_identifier"]) == FORMS[distribution] and not about.get("custom_data")
    assert main(["import", str(bag), "--out", str(tmp_path)]) == 0
    assert "left out: /wrist/force (gripper_vendor/msg/ForceTorque)" in capsys.readouterr().err
    [episode] = load_demonstrations(tmp_path)[0]
    assert len(episode) == PERIODS
    np.testing.assert_allclose(episode.actions, 0.5, atol=1e-6)
    expected = HOME + STEP * np.arange(PERIODS + 1)[:, None]
    np.testing.assert_array_equal(CONTRACT.field(episode.observations, "joint_position"), expected)


def test_calls_of_services_cut_by_their_names(tmp_path: Path):
    """Each call leaves four messages, of a type that nobody here knows."""
    calls = ["--events", "demo_recorder/start", "demo_recorder/stop"]
    assert main(["import", str(BAGS / "kilted"), "--out", str(tmp_path), *calls]) == 0
    [path] = tmp_path.iterdir()
    times = [s.time for s in read_bag(path).samples["joint_states"]]
    assert times[0] == START + SECOND // 20, "from the answer to start on"
    assert times[-1] == START + 12 * SECOND // 20, "to the call of stop"


def test_what_was_started_twice_begins_with_the_second():
    marks = {"start": [(10, b""), (20, b""), (70, b"")], "stop": [(40, b""), (41, b""), (60, b""), (90, b"")]}
    bag = Foreign(Path(), 0, 100, {}, {}, {}, {}, marks, ())
    assert by_events(bag, "start", "stop") == [Cut(20, 40), Cut(70, 90)]


def test_an_encoder_that_trembles_at_1_khz_stands_still(tmp_path: Path):
    rng, bag = np.random.default_rng(0), BagWriter(tmp_path / "bag", CONTRACT, TOPICS)
    bag.write("goal_pose", goal_pose(), START)
    for k in range(4000):
        moved = STEP * 20 * np.clip(k / 1000 - 1.5, 0.0, 1.0)
        trembling = joint_state(HOME + moved + rng.normal(0.0, 2e-4, 7), k / 1000)
        bag.write("joint_states", trembling, START + k * SECOND // 1000)
    bag = read_foreign(bag.save(label=None), CONTRACT)
    [cut] = by_pauses(bag, CONTRACT, 1.0)
    assert (cut.start - START) / SECOND == pytest.approx(1.5 - MARGIN, abs=0.1)
    assert (cut.end - START) / SECOND == pytest.approx(2.5 + MARGIN, abs=0.1)


def test_every_latched_topic_begins_an_episode_whether_observed_or_not(tmp_path: Path):
    also = (("mark", Topic("begin", "std_msgs/msg/Bool")),)
    contract = Contract(CONTRACT.robot, dataclasses.replace(CONTRACT.task, recorded=also))
    record(tmp_path / "bag", StoragePlugin.SQLITE3)
    bag = read_foreign(tmp_path / "bag", contract)
    first = next(time for time, role, _ in bag.messages(["mark"]))
    assert first < bag.end - 2 * SECOND
    [path] = write_episodes(bag, [Cut(bag.end - SECOND, bag.end)], contract, tmp_path / "data", "hand_guiding")
    assert {role: len(s) for role, s in read_bag(path).samples.items()}["mark"] == 1


def test_a_table_may_count_from_1970(tmp_path: Path):
    bag = Foreign(tmp_path, START, START + 9 * SECOND, {}, {}, {}, {}, {}, ())
    (tmp_path / "t.csv").write_text(f"{START / SECOND + 1.5},{START / SECOND + 4},1\n1.5,4,1\n")
    assert by_table(bag, tmp_path / "t.csv") == [Cut(START + 3 * SECOND // 2, START + 4 * SECOND, True)] * 2


def content_of(bag: Path) -> list[Message]:
    found = read_foreign(bag, CONTRACT)
    return list(found.messages(found.names))


@pytest.mark.parametrize("checksums", [True, False])
def test_a_foreign_bag_that_lost_or_changed_something_is_refused(checksums: bool, tmp_path: Path):
    """sqlite3 has no checksums: there a flipped bit within a message is found only where it is no message any more."""
    whole = write(tmp_path, "whole", 40) if checksums else BAGS / "humble"
    rng, expected, refused = np.random.default_rng(0), content_of(whole), 0
    for k in range(40):
        bag = tmp_path / f"bag_{k}"
        shutil.copytree(whole, bag)
        file = next(p for p in bag.iterdir() if p.suffix != ".yaml")
        content = bytearray(file.read_bytes())
        place = int(rng.integers(len(content)))
        content[place] ^= 1 << int(rng.integers(8))
        file.write_bytes(content[:place] if k % 2 else content)
        try:
            found = content_of(bag)
            assert found == expected or (not checksums and len(found) == len(expected))
        except BagError:
            refused += 1
    assert refused > (35 if checksums else 20)


def test_metadata_that_promises_more_than_there_is(tmp_path: Path, capsys):
    bag = tmp_path / "bag"
    shutil.copytree(BAGS / "humble", bag)
    text = (bag / "metadata.yaml").read_text()
    (bag / "metadata.yaml").write_text(text.replace("message_count: 14", "message_count: 15"))
    assert main(["import", str(bag), "--out", str(tmp_path / "data")]) == 2
    assert "14 messages on /joint_states, its metadata says 15" in capsys.readouterr().err


def test_a_bag_of_a_killed_recorder_is_told_what_may_help(tmp_path: Path, capsys):
    file = tmp_path / "killed.mcap"
    file.write_bytes(next(write(tmp_path, "whole", 40).glob("*.mcap")).read_bytes()[:70_000])
    assert main(["import", str(file), "--out", str(tmp_path / "data")]) == 2
    assert "cut short? `ros2 bag reindex` or `mcap recover` may help" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_refusals_say_what_is_wrong(tmp_path: Path, capsys):
    bag = tmp_path / "bag"
    record(bag, StoragePlugin.SQLITE3)
    (tmp_path / "bad.csv").write_text("2.0,1.0\n")
    base = ["import", str(bag), "--out", str(tmp_path / "data")]
    for more, said in (
        (["--topic", "joint_states=/noise"], "/noise is of type std_msgs/msg/Bool"),
        (["--topic", "states=/noise"], "no topic states in the contract"),
        (["--topic", "noise"], "no ROLE=TOPIC"),
        (["--labels", "/nothing"], "no topic /nothing to cut by"),
        (["--labels", "/goal_pose"], "a message on /goal_pose is no std_msgs/msg/Bool"),
        (["--robot", "iiwa"], "its first message: pose: its frame_id is 'panda_link0'"),
        (["--times", str(tmp_path / "bad.csv")], "row 1: its end must lie after its start"),
        (["--times", str(tmp_path / "none.csv")], "needs rows of start, end"),
    ):
        assert main([*base, *more]) == 2
        assert said in capsys.readouterr().err, more
    assert main(["import", str(tmp_path / "nowhere"), "--out", str(tmp_path / "data")]) == 2
    metadata = yaml.safe_load((bag / "metadata.yaml").read_text())
    assert metadata["rosbag2_bagfile_information"]["version"] == 8
    file = next(bag.glob("*.db3"))
    file.write_bytes(file.read_bytes()[:3000])
    assert main(base) == 2
    assert "cannot be read" in capsys.readouterr().err
    assert not (tmp_path / "data").exists(), "nothing is written before everything is known to be right"
