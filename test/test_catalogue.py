"""inspect, label, drop and split: true figures of real bags, and nothing lost."""

from __future__ import annotations

import dataclasses
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from irl_ros.cli import main
from irl_ros.contract import Contract
from irl_ros.data.bag import read_bag
from irl_ros.data.bag_writer import BagWriter
from irl_ros.data.catalogue import aligned_episodes, catalogue
from irl_ros.data.clocks import SECOND
from irl_ros.data.dataset import load_demonstrations
from irl_ros.kinematics import Kinematics
from test_bag import CONTRACT, HOME, START, TOPICS, damage, goal_pose, joint_state, write

QUALITY = {"streams": {"joint_states": {"lost": 3, "numbered": True}, "command": {"lost": 0, "numbered": False}}}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    directory = tmp_path / "data"
    for k in range(5):
        write(directory, f"episode_{k:04d}", 30, label=None if k == 2 else k != 3)
    return directory


def names(directory: Path) -> list[str]:
    return [path.name for path in sorted(directory.iterdir()) if not path.name.startswith(".")]


def test_the_table_says_what_there_is_and_what_is_used(data: Path, tmp_path: Path, capsys):
    write(data, "episode_0005", 60, skip=(1.0, 1.4))
    damage(write(data, "episode_0006", 30), 2000)
    assert main(["inspect", str(data), "--pictures", str(tmp_path / "pictures")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split("  ")[0] == "episode" and "joint_states [Hz]" in lines[0] and "goal_pose" not in lines[0]
    assert lines[-1] == "4 of 7 episodes are usable"
    rows = {line.split()[0]: line for line in lines[1:-1]}
    assert "success" in rows["episode_0000"] and rows["episode_0000"].endswith("yes")
    assert "labelled as a failure" in rows["episode_0003"]
    assert "a gap in joint_states" in rows["episode_0005"] and "irl_ros repair" in rows["episode_0006"]
    assert names(tmp_path / "pictures") == ["joints.png", "paths.png"]


def test_the_figures_are_those_of_the_bag(data: Path, capsys):
    assert main(["inspect", str(data), "--json"]) == 0
    entry = json.loads(capsys.readouterr().out)[0]
    # 30 periods of 50 ms: joint states each 10 ms, a command each 50 ms
    assert entry["streams"]["joint_states"]["count"] == 150 and entry["streams"]["command"]["count"] == 30
    assert entry["streams"]["joint_states"]["rate"] == pytest.approx(100.0)
    assert entry["streams"]["command"]["longest_gap"] == pytest.approx(0.05)
    assert entry["duration"] == pytest.approx(1.49) and entry["label"] is True and entry["periods"] == 29


def test_what_cannot_be_used_can_still_be_looked_at(data: Path, tmp_path: Path, capsys):
    write(data, "episode_0005", 30, interrupted=True, label=None, operator="Ada", quality=QUALITY)
    assert main(["inspect", str(data), "--pictures", str(tmp_path / "pictures")]) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in said[1:-1]] == ["success", "success", "-", "failure", "success", "-"]
    last = said[-2].split()
    assert last[4] == "0" and "29" in last and "Ada" in last and "3" in last, "periods, clipped, operator, lost"
    shown = list(aligned_episodes(data, {f"episode_{k:04d}" for k in (2, 3, 5)}))
    assert [(contract, e.success) for contract, e in shown] == [(CONTRACT, None), (CONTRACT, False), (CONTRACT, None)]


def test_each_episode_is_looked_at_by_its_own_robot(tmp_path: Path):
    """Two robots of one URDF, of which one counts a link further down as its end effector."""
    lower = Contract(dataclasses.replace(CONTRACT.robot, end_effector_frame="panda_link5"), CONTRACT.task)
    for name, contract in (("episode_0000", CONTRACT), ("episode_0001", lower)):
        write(tmp_path, name, 12, contract=contract)
    for contract, episode in aligned_episodes(tmp_path, {"episode_0000", "episode_0001"}):
        row = episode.observations[0]
        expected = Kinematics(contract.robot).position(contract.field(row, "joint_position"))
        np.testing.assert_allclose(contract.field(row, "end_effector_position"), expected)


def test_clocks_that_drift_are_noted_beside_the_table(tmp_path: Path, capsys):
    """joint_state() is stamped from zero on, so that its stamps run with the receive times; here they stand still."""
    bag = BagWriter(tmp_path / "episode_0000", CONTRACT, TOPICS, "hand_guiding")
    bag.write("goal_pose", goal_pose(), START)
    for k in range(100):
        bag.write("joint_states", joint_state(HOME, 1.0 + 0.5 * k / 100), START + k * SECOND // 100)
    bag.save(label=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert main(["inspect", str(tmp_path)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[1].endswith("yes") and said[2].startswith("episode_0000: joint_states: stamps and receive times drift")


def test_a_picture_of_many_shows_some_of_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setattr("irl_ros.cli_data.MOST_SHOWN", 2)
    for k in range(3):
        write(tmp_path / "data", f"episode_{k:04d}", 12)
    assert main(["inspect", str(tmp_path / "data"), "--pictures", str(tmp_path / "pictures")]) == 0
    assert "drawn: 2 of 3 episodes" in capsys.readouterr().err


def test_a_list_is_made_of_metadata_alone_and_chooses(data: Path, capsys):
    write(data, "episode_0005", 30, operator="Ada")
    for path in data.glob("episode_*/*.mcap"):
        path.write_bytes(b"")
    assert main(["list", str(data)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 7 and lines[4].split()[:2] == ["episode_0003", "failure"] and "labelled" in lines[4]
    for chosen, expected in (
        (["--label", "success"], "0145"),
        (["--label", "none"], "2"),
        (["--by", "Ada"], "5"),
        (["--by", "Ada", "--label", "failure"], ""),
    ):
        assert main(["list", str(data), "--names", *chosen]) == 0
        assert "".join(name[-1] for name in capsys.readouterr().out.split()) == expected
    (data / "episode_0001" / "metadata.yaml").write_text("")
    assert main(["list", str(data), "--names"]) == 1
    said = capsys.readouterr()
    assert len(said.out.split()) == 5 and "episode_0001/metadata.yaml" in said.err


def test_a_label_decides_what_is_learned_from(data: Path, capsys):
    assert main(["label", str(data), "success", "episode_0003", "episode_0002"]) == 0
    assert len(load_demonstrations(data)[0]) == 5
    assert main(["label", str(data), "failure", "episode_0000"]) == 0
    assert read_bag(data / "episode_0000").listing.label is False
    assert main(["label", str(data), "failure", "episode_000"]) == 2
    assert "Did you mean 'episode_000" in capsys.readouterr().err


def test_what_is_dropped_comes_back(data: Path, capsys):
    before = [(e.name, e.label, e.streams) for e in catalogue(data)]
    assert main(["drop", str(data), "episode_0001", "episode_0004"]) == 0
    assert names(data) == ["episode_0000", "episode_0002", "episode_0003"]
    assert main(["drop", str(data), "episode_0001", "episode_0009"]) == 2, "one wrong name: nothing moves"
    assert main(["drop", "--restore", str(data), "episode_0001", "episode_0004"]) == 0
    assert [(e.name, e.label, e.streams) for e in catalogue(data)] == before


def test_a_split_shares_out_every_episode_once(data: Path, tmp_path: Path, capsys):
    train, test = tmp_path / "train", tmp_path / "test"
    assert main(["split", str(data), f"{train}=0.8", f"{test}=0.2", "--seed", "3"]) == 0
    assert sorted(names(train) + names(test)) == names(data) and len(names(test)) == 1
    main(["label", str(train), "failure", names(train)[0]])
    assert read_bag(data / names(train)[0]).listing.label is not False, "a new label is the copy's alone"
    assert main(["split", str(data), f"{train}=0.8", f"{test}=0.2"]) == 2
    assert "exists already" in capsys.readouterr().err
    for wrong, said in ((f"{tmp_path / 'a'}=0.5", "add up to 1"), ("half", "no DIR=SHARE")):
        assert main(["split", str(data), wrong]) == 2
        assert said in capsys.readouterr().err


def test_a_directory_without_episodes_is_told(tmp_path: Path, capsys):
    assert main(["inspect", str(tmp_path / "nowhere")]) == 2
    assert main(["inspect", str(tmp_path)]) == 2
    assert "no episode bag" in capsys.readouterr().err


def test_tools_speak_json_to_machines(data: Path, tmp_path: Path, capsys):
    def said(*arguments: str) -> Any:
        assert main([*arguments, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    assert [e["label"] for e in said("list", str(data))] == [True, True, None, False, True]
    shares = said("split", str(data), f"{tmp_path / 'a'}=0.6", f"{tmp_path / 'b'}=0.4")
    assert all(names(Path(target)) == sorted(found) for target, found in shares.items()) and len(shares) == 2
    assert said("repair", str(data)) == {"repaired": [], "not_repaired": [], "being_recorded": []}
    exported = said("export", str(data), "--to", "npz", "--out", str(tmp_path / "npz"))
    assert exported["episodes"] == 4 and "failure" in exported["not_exported"][0]
    assert said("import", str(data / "episode_0000"), "--out", str(tmp_path / "in"))["by"] == "command"
