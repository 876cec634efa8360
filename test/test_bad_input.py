"""What cannot be learned from is refused in a sentence before any training or process, in Python and `irl_ros train`."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing.process
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import test_bag
import yaml

from irl_ros import cli
from irl_ros.contract import Contract, ContractError, share_directory
from irl_ros.data.dataset import load_dataset
from irl_ros.data.episode import Demonstrations, Episode, EpisodeError
from irl_ros.learning.config import ConfigError, TrainConfig
from irl_ros.learning.train import train

REACH, GRID = Contract.load("panda", "reach"), Contract.load("panda", "reach_grid")
LENGTH = 12


class Case(NamedTuple):
    """What is wrong, the error in Python and in `irl_ros train`, and what makes it wrong."""

    error: type[Exception]
    sentence: str
    arguments: tuple[str, ...] = ()
    contract: Contract = REACH
    write: Callable[[Path], object] | None = None

    @property
    def method(self) -> str:
        return dict(zip(self.arguments, self.arguments[1:])).get("--method", TrainConfig.method)


def still(contract: Contract, **positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Observations and actions of an arm that does nothing, but for `positions` of a field (LENGTH + 1, size)."""
    observations = np.zeros((LENGTH + 1, contract.observation_size))
    for name, values in positions.items():
        observations[:, contract.slices[name]] = values
    return observations, np.zeros((LENGTH, contract.action_size))


def save(directory: Path, observations: np.ndarray, actions: np.ndarray) -> None:
    np.savez(directory / "shown.npz", observations=observations, actions=actions)


def save_still(directory: Path) -> None:
    save(directory, *still(REACH))


def save_not_a_number(directory: Path) -> None:
    observations, actions = still(REACH)
    observations[7, 3] = np.nan
    save(directory, observations, actions)


def save_astray(directory: Path) -> None:
    """Half a metre beyond the grid's border from step 5 on."""
    centre = np.tile(GRID.task.grid.centres[0], (LENGTH + 1, 1))
    centre[5:, 1] -= 0.5
    save(directory, *still(GRID, end_effector_position=centre))


def record_at_another_rate(directory: Path) -> None:
    other = Contract.from_dict(json.loads(json.dumps(REACH.to_dict()).replace('"rate": 20.0', '"rate": 10.0')))
    test_bag.write(directory, "episode_0000", contract=other)


def with_features(*features: str) -> Contract:
    return dataclasses.replace(REACH, task=dataclasses.replace(REACH.task, reward_features=features))


CASES = {
    "unknown method": Case(
        ConfigError,
        "unknown method 'gcll'. Did you mean 'gcl'? Valid: bc, gcl",
        ("--method", "gcll"),
    ),
    "features that the contract lacks": Case(
        ContractError,
        "feature 'norm(gaol_position)': unknown name 'gaol_position'. Did you mean 'goal_position'? Valid: joint",
        ("--reward-features", "norm(gaol_position)"),
        with_features("norm(gaol_position)"),
    ),
    "features of another width": Case(
        ContractError,
        "feature 'goal_position - joint_position': a difference of widths 3 and 7",
        ("--reward-features", "goal_position - joint_position"),
        with_features("goal_position - joint_position"),
    ),
    "tabular method on a continuous task": Case(
        ConfigError,
        "method maxent needs a task with a grid of cells, such as reach_grid; reach is continuous: choose another",
        ("--method", "maxent"),
    ),
    "demonstrations from another contract": Case(
        EpisodeError,
        "episode episode_0000: another contract: ",
        write=record_at_another_rate,
    ),
    "demonstrations of another width": Case(
        EpisodeError,
        "episode shown: observations are 19 wide and actions 3; the contract says",
        write=lambda directory: save(directory, np.zeros((LENGTH + 1, 19)), np.zeros((LENGTH, 3))),
    ),
    "NaN in demonstrations": Case(
        EpisodeError,
        "episode shown: observation 7 has a non-finite element 3",
        write=save_not_a_number,
    ),
    "a demonstration that leaves the state space": Case(
        EpisodeError,
        "episode shown: left the grid at tick 5, at ",
        ("--method", "maxent", "--task", "reach_grid"),
        GRID,
        save_astray,
    ),
}


@pytest.fixture(params=CASES.values(), ids=CASES)
def case(request, tmp_path: Path, monkeypatch) -> Case:
    """With its data set in `tmp_path/shown`, and with no process to be started."""

    def refuse(*_arguments, **_options) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(multiprocessing.process.BaseProcess, "start", refuse)
    monkeypatch.setattr(subprocess.Popen, "__init__", refuse)
    (tmp_path / "shown").mkdir()
    (request.param.write or save_still)(tmp_path / "shown")
    return request.param


def test_python_refuses_it(case: Case, tmp_path: Path):
    with pytest.raises(case.error, match=re.escape(case.sentence)):
        demonstrations, _ = load_dataset(tmp_path / "shown", case.contract)
        train(demonstrations, TrainConfig(method=case.method), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_line_refuses_it(case: Case, tmp_path: Path, capsys):
    arguments = ["train", "--dataset", str(tmp_path / "shown"), "--out", str(tmp_path / "out"), *case.arguments]
    try:
        code = cli.main(arguments)
    except SystemExit as ended:  # argparse's own way
        code = ended.code
    said = capsys.readouterr().err
    assert code == cli.USAGE_ERROR
    assert case.sentence in said and "error: " in said and "Traceback" not in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"reward_features": ["next(gaol_position)"]}, "feature 'next(gaol_position)': unknown name 'gaol_position'"),
        ({"policy_inputs": ["joint_positoin"]}, "feature 'joint_positoin': unknown name 'joint_positoin'"),
        ({"policy_inputs": ["next(joint_position)"]}, "policy input 'next(joint_position)'"),
    ],
    ids=("reward features", "policy inputs", "inputs of the next observation"),
)
def test_a_task_with_wrong_features_is_refused_before_demonstrations_are_recorded(
    tmp_path: Path, capsys, monkeypatch, change: dict, sentence: str
):
    monkeypatch.setattr(subprocess.Popen, "__init__", lambda *_a, **_o: pytest.fail("a process was started"))
    task = yaml.safe_load((share_directory() / "config/tasks/reach.yaml").read_text())
    (tmp_path / "task.yaml").write_text(yaml.safe_dump({**task, **change}, sort_keys=False))
    code = cli.main(["train", "--task", str(tmp_path / "task.yaml"), "--out", str(tmp_path / "out")])
    assert code == cli.USAGE_ERROR and sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_as_a_process_it_ends_with_exit_code_2_and_one_sentence(tmp_path: Path):
    save_not_a_number(tmp_path)
    command = [sys.executable, "-m", "irl_ros.cli", "train", "--dataset", tmp_path, "--out", tmp_path / "out"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ended.returncode == cli.USAGE_ERROR
    assert ended.stderr.startswith("error: no usable demonstration in ") and "Traceback" not in ended.stderr


def contradicting() -> Demonstrations:
    """Two demonstrations on the grid from one cell: one stays, one goes away and comes back for ever."""
    here, there = GRID.task.grid.centres[0], GRID.task.grid.centres[1]
    going = np.array([there if t % 2 else here for t in range(LENGTH + 1)])
    pairs = {"stays": np.tile(here, (LENGTH + 1, 1)), "goes": going}
    return Demonstrations(
        GRID, tuple(Episode(name, *still(GRID, end_effector_position=at)) for name, at in pairs.items())
    )


@pytest.mark.parametrize(
    "training, sentence",
    [
        ("{max_margin: {slak: 2}}", "unknown option 'slak'. Did you mean 'slack'? Valid: slack"),
        ("{max_margin: 3}", "MaxMarginConfig: 3 is no mapping of options to values"),
        ("{maxent: {regularisation: 1e-3}}", "option regularisation: '1e-3' is not a float (YAML takes 1e-3 for text"),
        ("{maxent: {hidden: 32}}", "option hidden: 32 is not a tuple[int, ...]"),
        ("{maxent: {optimistic: 1}}", "option optimistic: 1 is not a bool"),
        ("{batch_episodes: true}", "option batch_episodes: True is not a int"),
        ("{batch_episodes: null}", "option batch_episodes: None is not a int"),
        ("{maxent: {form: plane}}", "unknown option 'plane'. Did you mean 'plain'? Valid: causal, plain"),
    ],
)
def test_a_task_with_wrong_options_is_refused_before_anything_starts(
    tmp_path: Path, capsys, monkeypatch, training: str, sentence: str
):
    monkeypatch.setattr(subprocess.Popen, "__init__", lambda *_a, **_o: pytest.fail("a process was started"))
    text = (share_directory() / "config/tasks/reach_grid.yaml").read_text()
    (tmp_path / "task.yaml").write_text(f"{text}training: {training}\n")
    code = cli.main(["train", "--method", "maxent", "--task", str(tmp_path / "task.yaml"), "--out", str(tmp_path / "out")])
    assert code == cli.USAGE_ERROR and sentence in capsys.readouterr().err


@pytest.fixture
def contradiction(tmp_path: Path) -> Path:
    """A data set of them."""
    for episode in contradicting():
        np.savez(tmp_path / f"{episode.name}.npz", observations=episode.observations, actions=episode.actions)
    return tmp_path


def hard_margin(directory: Path) -> str:
    """A task file that asks for the hard margin."""
    text = (share_directory() / "config/tasks/reach_grid.yaml").read_text()
    (directory / "hard.yaml").write_text(text + "training: {max_margin: {slack: null}}\n")
    return str(directory / "hard.yaml")


def test_an_infeasible_margin_is_an_error_of_use(contradiction: Path, capsys):
    arguments = ["--method", "max_margin", "--task", hard_margin(contradiction)]
    code = cli.main(["train", "--dataset", str(contradiction), "--out", str(contradiction / "out"), *arguments])
    said = capsys.readouterr().err
    assert code == cli.USAGE_ERROR
    assert "error: the hard margin is infeasible: no linear reward" in said and "Use slack" in said
    assert "Traceback" not in said and not (contradiction / "out" / "checkpoint").exists()


def test_the_trainer_node_says_that_a_margin_is_infeasible(contradiction: Path):
    dds = pytest.importorskip("dds")
    settings = {"method": "max_margin", "task": hard_margin(contradiction), "workers": 1}
    settings |= {"dataset": contradiction, "out": contradiction / "out"}
    with dds.domain() as domain, dds.process("irl_ros.nodes.trainer", domain, **settings) as trainer:
        assert trainer.wait(120.0) == cli.USAGE_ERROR, trainer.output
        assert "error: the hard margin is infeasible: no linear reward" in trainer.output
        assert "Traceback" not in trainer.output
