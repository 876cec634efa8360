"""To other libraries and back: every bit of observations and actions, names and labels; and refusals that say what to
do. Where a library is not in this environment, `IRL_ROS_LEROBOT_PYTHON` or the like names a Python that has it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from irl_ros.cli import main
from irl_ros.contract import Contract, Field, Task
from irl_ros.data.dataset import load_dataset, load_demonstrations
from irl_ros.data.episode import Demonstrations, Episode, EpisodeError
from irl_ros.data.interchange import load_npz, write_npz
from irl_ros.exchange import FORMS, ExchangeError, export, take_over
from test_bag import CONTRACT, write

ENV = Contract(None, Task("env", "Some-v0", 20.0, 30, "env", 2, (Field("state", 4),), ("state",), ("state",)))
READ_BY_THEM = {
    "minari": "import os; os.environ['MINARI_DATASETS_PATH'] = {out!r}; import minari\n"
    "for e in minari.load_dataset('irl_ros/panda-reach-v0'): print(e.observations.shape, e.actions.shape)",
    "lerobot": "from lerobot.datasets.lerobot_dataset import LeRobotDataset\n"
    "d = LeRobotDataset('irl_ros/panda-reach-v0', root={out!r})\n"
    "o, a = (tuple(d[0][key].shape) for key in ('observation.state', 'action'))\n"
    "for e in d.meta.episodes: print((e['length'] + 1, *o), (e['length'], *a))",
    "imitation": "from imitation.data import serialize\n"
    "for t in serialize.load({out!r}): print(t.obs.shape, t.acts.shape)",
}
"""How somebody who never heard of irl_ros opens it: prints the shapes of every episode's observations and actions."""


def python_of(form: str) -> str:
    """A Python that has the form's library, or skip."""
    python = os.environ.get(f"IRL_ROS_{form.upper()}_PYTHON", sys.executable)
    if subprocess.run([python, "-I", "-c", f"import {form}"], capture_output=True).returncode:
        pytest.skip(f"{form} is not installed here; IRL_ROS_{form.upper()}_PYTHON may name a Python that has it")
    return python


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("exchange") / "bags"
    for k, label in enumerate((True, None, True)):
        write(directory, f"episode_{k:04d}", 20 + k, label=label)
    write(directory, "episode_0003", 20, label=False)
    return directory


def assert_same(one: Demonstrations, other: Demonstrations) -> None:
    assert [(e.name, e.success, e.terminated) for e in one] == [(e.name, e.success, e.terminated) for e in other]
    for a, b in zip(one, other, strict=True):
        assert a.observations.tobytes() == b.observations.tobytes() and a.actions.tobytes() == b.actions.tobytes()


@pytest.mark.parametrize("form", FORMS)
def test_a_round_trip_keeps_every_bit(form: str, data: Path, tmp_path: Path, capsys):
    python = python_of(form)
    out, back = tmp_path / "theirs", tmp_path / "back"
    assert main(["export", str(data), "--to", form, "--out", str(out), "--python", python]) == 0
    assert "labelled as a failure" in capsys.readouterr().err
    code = READ_BY_THEM[form].format(out=str(out))
    seen = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True).stdout.split("\n")
    whole = load_demonstrations(data)[0]
    assert seen[:3] == [f"{e.observations.shape} {e.actions.shape}" for e in whole]
    assert main(["import", str(out), "--from", form, "--out", str(back), "--python", python]) == 0
    assert_same(whole, load_dataset(back)[0])
    ours = out / "irl_ros.json"
    about = json.loads(ours.read_text())
    ours.write_text(json.dumps({**about, "episodes": [*about["episodes"], about["episodes"][0]]}))
    with pytest.raises(ExchangeError, match="labels of 4 episodes, and 3 are there"):
        take_over(form, out, tmp_path / "fewer", python)
    ours.unlink()
    take_over(form, out, tmp_path / "nameless", python)
    nameless = load_dataset(tmp_path / "nameless", CONTRACT)[0]
    assert [(e.name, e.success) for e in nameless] == [(f"episode_{k:04d}", None) for k in range(3)]
    np.testing.assert_array_equal(nameless.episodes[1].observations, whole.episodes[1].observations)


def test_npz_files_know_where_they_came_from(data: Path, tmp_path: Path, capsys):
    out = tmp_path / "plain"
    assert main(["export", str(data), "--to", "npz", "--out", str(out)]) == 0
    demonstrations, rejected = load_dataset(out)
    assert not rejected and demonstrations.contract == CONTRACT
    assert_same(load_demonstrations(data)[0], demonstrations)
    about = json.loads((out / "about.json").read_text())
    assert about["observation_names"][0] == "joint_position.panda_joint1" and len(about["action_names"]) == 7
    assert main(["inspect", str(out)]) == 2 and "holds npz files, not bags" in capsys.readouterr().err
    assert about["observation_names"][-1] == "end_effector_to_goal.z" and about["rate"] == 20.0
    with pytest.raises(EpisodeError, match="another contract: robot.name: iiwa here, panda there"):
        load_dataset(out, Contract.load("iiwa", "reach"))
    assert main(["export", str(data), "--to", "npz", "--out", str(out)]) == 2
    assert "exists already" in capsys.readouterr().err


def test_an_end_of_its_own_is_kept(tmp_path: Path):
    rng = np.random.default_rng(0)
    arrays = [(rng.normal(size=(21, 4)), rng.normal(size=(20, 2))) for _ in range(2)]
    shown = tuple(Episode(f"e{k}", *a, terminated=k == 1, truncated=k == 0) for k, a in enumerate(arrays))
    write_npz(Demonstrations(ENV, shown), tmp_path)
    again, _ = load_npz(tmp_path)
    assert [(e.terminated, e.truncated) for e in again] == [(False, True), (True, False)]
    assert_same(Demonstrations(ENV, shown), again)


@pytest.mark.parametrize("content", ["", "{}", '{"contract": 3}'])
def test_damaged_words_about_npz_files_are_an_error(content: str, data: Path, tmp_path: Path):
    write_npz(load_demonstrations(data)[0], tmp_path)
    (tmp_path / "about.json").write_text(content)
    with pytest.raises(EpisodeError, match="about.json: no contract can be read"):
        load_dataset(tmp_path)


def test_refusals_say_what_to_do(data: Path, tmp_path: Path, capsys):
    without = tmp_path / "python"
    without.write_text("#!/bin/sh\necho 'ModuleNotFoundError: No module named that' >&2\nexit 1\n")
    without.chmod(0o755)
    for more, said in (
        (["--to", "lerobot", "--python", str(without)], "lerobot_env/bin/pip install lerobot==0.4.4"),
        (["--to", "minari", "--python", str(tmp_path / "no_python")], "cannot be started: No such file"),
        (["--to", "minari", "--python", str(without), "--task", "push"], "no usable demonstration"),
    ):
        assert main(["export", str(data), "--out", str(tmp_path / "out"), *more]) == 2
        assert said in capsys.readouterr().err, more
    base = ["import", str(data), "--from", "imitation", "--out", str(tmp_path / "out"), "--python", str(without)]
    assert main([*base, "--pauses", "1.0"]) == 2
    assert "--pauses: only a bag can be told that" in capsys.readouterr().err
    with pytest.raises(ExchangeError, match="no directory"):
        take_over("minari", tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(ExchangeError, match="exists already"):
        export(load_demonstrations(data)[0], "minari", data)
    assert not (tmp_path / "out").exists()


def test_what_is_no_data_set_of_theirs_is_told_and_leaves_nothing(data: Path, tmp_path: Path):
    python = python_of("minari")
    with pytest.raises(ExchangeError, match="0 Minari data sets below"):
        take_over("minari", data, tmp_path / "new" / "out", python)
    assert list((tmp_path / "new").iterdir()) == []
