"""Bags of other tools: both storages, cut in every way, byte for byte, and refusals that say what to do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from rosbags.rosbag2 import StoragePlugin, Writer

from irl_ros.cli import main
from irl_ros.data.alignment import SECOND
from irl_ros.data.bag import read_bag, typestore
from irl_ros.data.dataset import load_demonstrations
from test_bag import CONTRACT, HOME, START, TYPES, command, goal_pose, joint_state

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
    assert "left out: /noise (std_msgs/msg/Bool)" in said.err and "1 episodes" in said.out
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
