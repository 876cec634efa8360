"""`irl_ros train` and the trainer's parameters: what is asked for on the command line reaches the training."""

from __future__ import annotations

import sys
from pathlib import Path

import expert_demonstrations
import numpy as np
import pytest
import yaml
from tqdm import tqdm

from irl_ros import cli
from irl_ros.checkpoint import Checkpoint
from irl_ros.contract import Contract, share_directory
from irl_ros.learning import health

HORIZON, DEMONSTRATIONS = 8, 3


@pytest.fixture(scope="module")
def arguments(tmp_path_factory) -> list[str]:
    """A task with short episodes and three demonstrations of it."""
    directory = tmp_path_factory.mktemp("data")
    task = yaml.safe_load((share_directory() / "config/tasks/reach.yaml").read_text())
    (directory / "brief.yaml").write_text(yaml.safe_dump({**task, "horizon": HORIZON}, sort_keys=False))
    contract = Contract.load("panda", str(directory / "brief.yaml"))
    for episode in expert_demonstrations.demonstrations(contract, DEMONSTRATIONS):
        np.savez(directory / f"{episode.name}.npz", observations=episode.observations, actions=episode.actions)
    common = ["--task", str(directory / "brief.yaml"), "--dataset", str(directory), "--workers", "1", "--device", "cpu"]
    return ["train", *common, "--method", "gail", "--steps", str(5 * 20 * HORIZON)]


def test_a_training_holds_out_and_ends_as_the_command_line_says(arguments, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(cli, "finish", lambda options, run, *more, **named: None)  # the report has tests of its own
    monkeypatch.setattr(health.Course, "converged", property(lambda self: len(self.ends) >= 2))
    assert cli.main([*arguments, "--out", str(tmp_path), "--held-out", "1", "--stop-when-converged"]) == 0
    config = Checkpoint.load(tmp_path / "checkpoint").provenance["config"]
    assert config["held_out"] == 1 and config["stop_when_converged"] is True
    lines = (tmp_path / "training/metrics.jsonl").read_text().splitlines()
    assert len(lines) == 2, "it went on after it had converged"
    assert all("health/held_out_accuracy" in line for line in lines), "nothing was held out"


def test_more_than_there_are_cannot_be_held_out(arguments, tmp_path: Path, capsys):
    assert cli.main([*arguments, "--out", str(tmp_path), "--held-out", "3"]) == cli.USAGE_ERROR
    assert "held_out is 3: of 3 demonstrations, 0 to 2 can be held out" in capsys.readouterr().err


def test_without_ray_nothing_changes_and_asking_for_it_says_what_to_install(arguments, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)  # as where it is not installed
    monkeypatch.setattr(cli, "finish", lambda options, run, *more, **named: None)
    assert cli.main([*arguments, "--out", str(tmp_path), "--rollout-backend", "ray"]) == cli.USAGE_ERROR
    said = capsys.readouterr().err.splitlines()
    assert any(line.startswith("error: Ray is not installed here: pip install 'irl_ros[ray]'") for line in said)
    assert not tqdm._instances, "a bar that is left stands before the error, and in the way of all later ones"
    assert cli.main([*arguments, "--out", str(tmp_path), "--steps", "1"]) == 0


def test_unasked_one_in_six_is_held_out_and_training_goes_on(arguments):
    options = cli.build_parser().parse_args(arguments)
    assert (options.held_out, options.stop_when_converged) == (-1, False)


def test_the_trainers_parameters_reach_its_training(arguments, monkeypatch):
    trainer = pytest.importorskip("irl_ros.nodes.trainer")
    given = []
    monkeypatch.setattr("irl_ros.learning.train.train", lambda *values: given.append(values[1]))
    options = cli.build_parser().parse_args(arguments)
    for more in ({}, {"held_out": 2, "stop_when_converged": True}):
        trainer._train(trainer.Parameters(dataset=options.dataset, task=options.task, **more), None)
    assert [(config.held_out, config.stop_when_converged) for config in given] == [(None, False), (2, True)]
