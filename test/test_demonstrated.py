"""Returns of the demonstrations by the learned reward: by hand, and from a checkpoint that training wrote."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from expert_demonstrations import demonstrations

from irl_ros.checkpoint import Checkpoint
from irl_ros.contract import Contract
from irl_ros.learning.config import TrainConfig
from irl_ros.learning.train import train
from irl_ros.models.demonstrated import DemonstratedReturns, demonstrated_returns
from irl_ros.models.inference import reward_from_arrays


def test_returns_are_running_sums_and_percentiles_compare_as_many_periods():
    actions = np.zeros((3, 1))
    shown = [(np.arange(4.0)[:, None], actions), (10.0 * np.arange(3.0)[:, None], actions[:2])]
    arrays = demonstrated_returns(lambda o, a, n: float(n[0]), shown)
    assert arrays["demonstrated_returns"].tolist() == [[1.0, 3.0, 6.0], [10.0, 30.0, 30.0]]
    returns = DemonstratedReturns(arrays)
    assert returns.percentile(0.9, 1) == 0.0 and returns.percentile(1.0, 1) == 50.0
    assert returns.percentile(29.0, 2) == 50.0 and returns.percentile(30.0, 3) == 100.0
    assert returns.percentile(30.0, 99) == 100.0 and returns.percentile(30.0, 0) is None


def test_without_a_learned_reward_there_is_no_percentile():
    arrays = demonstrated_returns(None, [])
    assert arrays == {} and DemonstratedReturns(arrays).percentile(1.0, 5) is None


@pytest.mark.parametrize("method", ["gcl", "bc"])
def test_training_saves_the_returns_of_its_demonstrations(tmp_path: Path, method: str):
    shown = demonstrations(Contract.load("panda", "reach"), 3)
    config = TrainConfig(
        method=method, environment_steps=250, batch_episodes=5, evaluation_episodes=1, workers=1, device="cpu"
    )
    checkpoint = Checkpoint.load(train(shown, config, tmp_path).checkpoint)
    returns = checkpoint.likeness_arrays.get("demonstrated_returns")
    if method == "bc":
        assert returns is None
        return
    reward = reward_from_arrays(checkpoint.reward_arrays, checkpoint.contract)
    by_hand = [sum(reward(e.observations[t], e.actions[t], e.observations[t + 1]) for t in range(len(e))) for e in shown]
    np.testing.assert_allclose(returns[:, -1], by_hand)
