"""What the recorder says of an episode: counted losses, gaps, thresholds, and the same verdict as training's."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from irl_ros.contract import Contract, ContractError, Thresholds, load_thresholds, share_directory
from irl_ros.data.alignment import SECOND
from irl_ros.data.bag import episode, read_bag
from irl_ros.data.bag_writer import BagWriter
from irl_ros.data.episode import EpisodeError
from irl_ros.data.quality import GAP_EDGES, Audit, Quality, StreamQuality, judge
from irl_ros.data.take import Arrival, Take
from irl_ros.kinematics import Kinematics
from test_bag import CONTRACT, HOME, START, TOPICS, command, goal_pose, joint_state

KINEMATICS = Kinematics(CONTRACT.robot)


def test_holes_in_each_publishers_numbers_are_losses():
    audit = Audit()
    for time, publisher, number in ((0, b"a", 7), (1, b"b", 1), (2, b"a", 8), (3, b"a", 11), (4, b"b", 3), (5, b"a", 11)):
        audit.add(time, publisher, number)
    assert audit.lost == 2 + 1 and audit.stream().lost == 3, "9 and 10 of a, 2 of b; a's 11 came twice"
    blind = Audit()
    blind.add(0, b"", None)
    assert not blind.stream().numbered and audit.stream().numbered
    audit.told_lost = blind.told_lost = 5
    assert audit.lost == 3 and blind.lost == 5, "where messages have no numbers the middleware's word is all there is"


def test_gaps_fall_into_their_bins_and_the_edges_count():
    audit = Audit()
    for time in (0.5, 0.5015, 0.5615, 0.8615):
        audit.add(round(time * SECOND), b"", None)
    inner, whole = audit.stream(), audit.stream(0, 2 * SECOND)
    assert inner.largest_gap == pytest.approx(0.3) and whole.largest_gap == pytest.approx(2.0 - 0.8615)
    assert inner.rate == pytest.approx(3 / 0.3615) and inner.count == 4
    filled = {edge: n for edge, n in zip(GAP_EDGES, inner.gaps) if n}
    assert filled == {0.001: 1, 0.05: 1, 0.2: 1}
    assert sum(whole.gaps) == 5 and Audit().stream(0, SECOND).largest_gap == 1.0


def quality(**changes) -> Quality:
    good = StreamQuality(100, 50.0, 0.04, (), 0, True)
    streams = {"joint_states": good, "command": good, "goal_pose": dataclasses.replace(good, count=1, rate=0.0)}
    streams |= {role: dataclasses.replace(good, **change) for role, change in changes.pop("streams", {}).items()}
    return Quality(**{"duration": 2.0, "streams": streams, "periods": 40, "clipped": 0, **changes})


@pytest.mark.parametrize(
    ("changes", "thresholds", "found"),
    [
        ({}, {}, None),
        ({"duration": 1.9}, {"duration": 2.0}, "it lasted 1.9 s, at least 2 s are wanted"),
        ({"streams": {"joint_states": {"largest_gap": 0.101}}}, {}, "a gap of 0.101 s in joint_states, at most 0.1 s may be"),
        ({"streams": {"joint_states": {"largest_gap": 0.101}}}, {"gaps": (("joint_states", 0.2),)}, None),
        ({"streams": {"command": {"largest_gap": 9.0}}}, {}, None),
        ({"streams": {"command": {"largest_gap": 9.0}}}, {"gaps": (("command", 1.0),)}, "a gap of 9.000 s in command"),
        ({"streams": {"command": {"rate": 19.0}}}, {"rates": (("command", 20.0),)}, "command came at 19.0 Hz, at least 20 Hz"),
        ({"streams": {"joint_states": {"lost": 1}}}, {}, None),
        ({"streams": {"joint_states": {"lost": 2}}}, {}, "2 messages of joint_states are lost (2.0%), at most 1.0% may be"),
        ({"clipped": 8}, {}, None),
        ({"clipped": 9}, {}, "22% of its periods are clipped, at most 20% may be"),
    ],
)
def test_what_is_below_the_thresholds_is_named(changes, thresholds, found):
    problems = judge(quality(**changes), CONTRACT, Thresholds(**thresholds), "command")
    assert not problems if found is None else len(problems) == 1 and problems[0].startswith(found)


def test_a_hand_that_guides_has_no_commands_to_judge():
    silent = quality(streams={"command": {"count": 0, "rate": 0.0}})
    wanted = Thresholds(rates=(("command", 5.0),))
    assert judge(silent, CONTRACT, wanted, "command") and not judge(silent, CONTRACT, wanted, "hand_guiding")


def test_a_task_says_what_it_asks_for_and_what_else_is_recorded(tmp_path: Path):
    text = (share_directory() / "config/tasks/reach.yaml").read_text()
    path = tmp_path / "task.yaml"

    def task(section: str) -> str:
        path.write_text(text + section)
        return str(path)

    asked = "recording: {duration: 1.5, rates: {joint_states: 50}, gaps: {command: 1}, clipped: 0.1,\n"
    asked += "  also: {camera: {name: camera/compressed, type: sensor_msgs/msg/CompressedImage, max_age: 1.0}}}\n"
    found = load_thresholds(task(asked))
    assert found == Thresholds(1.5, (("joint_states", 50.0),), (("command", 1.0),), 0.01, 0.1)
    contract = Contract.load("panda", str(path))
    assert contract.topics["camera"].name == "camera/compressed" and "camera" not in contract.sources
    assert Contract.from_dict(contract.to_dict()) == contract and not contract.differences(CONTRACT)
    assert load_thresholds("reach") == Thresholds()
    for section, match in (
        ("recording: {gap: 1}", "unknown key 'gap'"),
        ("recording: {gaps: {goal: 1}}", "unknown key 'goal'"),
        ("recording: {lost: 2}", "lost is a share from 0 to 1"),
        ("recording: {duration: .inf}", "must be finite"),
        ("recording: {also: {command: {name: x, type: y/msg/Y, max_age: 1.0}}}", "is recorded anyway"),
    ):
        with pytest.raises(ContractError, match=match):
            Contract.load("panda", task(section))
            load_thresholds(str(path))


def record(directory: Path, step: float, drop: range = range(0), periods: int = 61) -> tuple[Path, Quality]:
    """An episode through a Take, in which each command asks for `step` allowed steps; numbers in `drop` never arrive."""
    bag = BagWriter(directory / "episode_0000", CONTRACT, TOPICS)
    take = Take(bag, Thresholds(), KINEMATICS, "command", START)
    take.write(Arrival("goal_pose", goal_pose(), START), START)
    period, target, number = CONTRACT.task.period, HOME, 0
    for tick in range((40 + periods) * 5):  # two seconds of rest before the first command
        time = START + round(tick * period / 5 * SECOND)
        number += 1
        if number not in drop:
            take.write(Arrival("joint_states", joint_state(target, 0.0), time, b"robot", number), time)
        if tick >= 200 and tick % 5 == 1:
            previous, target = target, target + step * CONTRACT.max_step * (-1) ** (tick // 5)
            take.write(Arrival("command", command(previous, target), time, b"teleop", tick // 5), time)
    found = take.quality("episode_0000", time)
    return bag.save(True, quality=found.to_dict()), found


def test_the_verdict_is_what_training_finds(tmp_path: Path):
    path, found = record(tmp_path, 0.9)
    usable = episode(read_bag(path), CONTRACT, KINEMATICS)
    assert not found.problems and found.duration == pytest.approx(5.04, abs=0.02)
    assert len(found.notes) == 1 and found.notes[0].startswith("training reads the first 2.5 s of 3.0 s: that is the task's")
    assert not record(tmp_path / "short", 0.9, periods=55)[1].notes
    assert (found.periods, found.clipped) == (len(usable), usable.clipped) == (CONTRACT.task.horizon, 0)


def test_losses_and_haste_are_found_and_the_episode_is_not_used(tmp_path: Path):
    path, found = record(tmp_path / "lost", 0.9, drop=range(100, 110))
    assert found.streams["joint_states"].lost == 10 and any("10 messages of joint_states are lost" in p for p in found.problems)
    assert read_bag(path).listing.quality == json.loads(json.dumps(found.to_dict()))
    with pytest.raises(EpisodeError, match="below what the task asks of a recording: .*10 messages"):
        episode(read_bag(path), CONTRACT, KINEMATICS)
    _, hasty = record(tmp_path / "hasty", 1.5)
    assert any("faster than the task allows" in p for p in hasty.problems)


def test_memory_does_not_grow_with_the_episode(tmp_path: Path):
    bag = BagWriter(tmp_path / "episode_0000", CONTRACT, TOPICS)
    take = Take(bag, Thresholds(), KINEMATICS, "command", START)
    for k in range(5000):
        time = START + k * SECOND // 100
        take.write(Arrival("joint_states", joint_state(HOME, 0.0), time), time)
    assert len(take._kept["joint_states"]) <= 101, "a second before the first command"
    bag.abort()


def test_the_quality_line_has_all_that_an_operator_wants(tmp_path: Path):
    line = quality(streams={"joint_states": {"lost": 3}}, clipped=4).line("episode_0007", False)
    assert line.startswith("episode_0007: failure; 2.0 s; joint_states 100 at 50 Hz (gap 40 ms), command")
    assert line.endswith("3 lost; 4 of 40 periods clipped")
