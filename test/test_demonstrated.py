"""Returns of the demonstrations by the learned reward, by hand."""

from __future__ import annotations

import handmade
import numpy as np
from expert_demonstrations import demonstrations

from irl_ros.contract import Contract
from irl_ros.models.demonstrated import DemonstratedReturns, demonstrated_returns, yardsticks
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


def test_the_returns_of_demonstrations_are_sums_of_the_reward_in_the_checkpoint():
    contract = Contract.load("panda", "reach")
    shown = demonstrations(contract, 3)
    arrays = handmade.checkpoint(contract, np.zeros(7)).reward_arrays
    reward, kept = reward_from_arrays(arrays, contract), yardsticks(shown, arrays)
    by_hand = [sum(reward(e.observations[t], e.actions[t], e.observations[t + 1]) for t in range(len(e))) for e in shown]
    np.testing.assert_allclose(kept["demonstrated_returns"][:, -1], by_hand)
    assert "states" in kept and "demonstrated_returns" not in yardsticks(shown, {})
