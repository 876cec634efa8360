"""A tabular method from demonstrations on the arm's grid to a checkpoint that drives; what is refused before that."""

from __future__ import annotations

import json
from pathlib import Path

import expert_demonstrations
import numpy as np
import pytest

from irl_ros.checkpoint import Checkpoint
from irl_ros.contract import Contract
from irl_ros.control.controller import Controller
from irl_ros.data.episode import Demonstrations, Episode, EpisodeError
from irl_ros.learning.config import ConfigError, MaxEntConfig, TrainConfig
from irl_ros.learning.observer import SilentObserver
from irl_ros.learning.tabular_run import TabularRun
from irl_ros.learning.train import train
from irl_ros.summary import sentences, write_summary

CONTRACT = Contract.load("panda", "reach_grid")
GRID = CONTRACT.task.grid


@pytest.fixture(scope="module")
def demonstrations() -> Demonstrations:
    return expert_demonstrations.demonstrations(CONTRACT)


@pytest.mark.parametrize("method", ["maxent", "max_margin"])
def test_a_run_ends_in_a_checkpoint_that_drives(demonstrations: Demonstrations, method: str, tmp_path: Path):
    config = TrainConfig(method=method, evaluation_episodes=4, workers=1)
    result = train(demonstrations, config, tmp_path)
    assert result.figures["policy_success"] == 1.0
    assert "4 episodes: 100% ended in the goal cell without entering the region; a clone" in " ".join(
        sentences(write_summary(tmp_path))
    )
    assert json.loads((tmp_path / "training/result.json").read_text()) == result.figures
    lines = (tmp_path / "training/metrics.jsonl").read_text().splitlines()
    assert lines and all(any(k.startswith(f"{method}/") for k in json.loads(line)) for line in lines)
    controller = Controller(Checkpoint.load(result.checkpoint))
    reward = controller.reward_map
    assert reward[GRID.keep_out_cells].max() < reward[~GRID.keep_out_cells].min()
    assert reward.argmax() == GRID.goal_state


def test_options_reach_the_method(demonstrations: Demonstrations, tmp_path: Path):
    options = MaxEntConfig(form="plain", reward="neural", iterations=2, hidden=(4,))
    config = TrainConfig(method="maxent", maxent=options, workers=1)
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    arrays = TabularRun(demonstrations, config, tmp_path, SilentObserver()).learn().arrays
    assert arrays["network.0.weight"].shape == (4, arrays["mean"].size)
    config = TrainConfig.from_dict({"method": "max_margin", "max_margin": {"rounds": 1}})
    assert TabularRun(demonstrations, config, tmp_path, SilentObserver()).learn().metrics["max_margin/rounds"] == 1


def test_it_stops_when_asked_to(demonstrations: Demonstrations, tmp_path: Path):
    class Impatient(SilentObserver):
        def should_stop(self) -> bool:
            return True

    result = train(demonstrations, TrainConfig(method="maxent", workers=1), tmp_path, Impatient())
    assert result.cancelled and not (tmp_path / "checkpoint").exists()


def test_what_a_table_cannot_learn_is_refused_before_training(demonstrations: Demonstrations, tmp_path: Path):
    reach = Contract.load("panda", "reach")
    still = np.zeros((12, reach.observation_size)), np.zeros((11, reach.action_size))
    continuous = Demonstrations(reach, (Episode("still", *still),))
    with pytest.raises(ConfigError, match="method maxent needs a task with a grid of cells.*reach is continuous"):
        train(continuous, TrainConfig(method="maxent"), tmp_path)
    with pytest.raises(ConfigError, match="nothing to resume from"):
        train(demonstrations, TrainConfig(method="maxent"), tmp_path, resume=True)
    first = demonstrations.episodes[0]
    away = first.observations.copy()
    away[5:, CONTRACT.slices["end_effector_position"]] += [0, 0.6, 0]
    astray = Demonstrations(CONTRACT, (*demonstrations, Episode("astray", away, first.actions)))
    with pytest.raises(EpisodeError, match="episode astray: left the grid at tick"):
        train(astray, TrainConfig(method="maxent"), tmp_path)
    assert not list(tmp_path.iterdir())
