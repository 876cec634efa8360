"""What is measured of a training: splits, ends, returns, what a reward makes of demonstrations that it has not seen."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from loops import N_ACTIONS, N_INPUTS, batch, changed, generator, run, same

from irl_ros.learning.batch import Batch
from irl_ros.learning.config import CloneConfig, ConfigError, RewardConfig, TrainConfig
from irl_ros.learning.health import Monitor, end_distance, endings, lead, split
from irl_ros.learning.leave_one_out import return_per_step
from irl_ros.learning.method import Problem
from irl_ros.learning.methods import ALTERNATING
from irl_ros.models.policies import GaussianPolicy


def test_one_in_six_demonstrations_is_held_out_from_six_on():
    counts = {n: len(split(batch(n, 1), None, generator()).held_out) for n in (1, 5, 6, 11, 12, 20)}
    assert counts == {1: 0, 5: 0, 6: 1, 11: 1, 12: 2, 20: 3}
    whole = batch(7, 1)
    parts = split(whole, 2, generator())
    both = torch.cat([parts.shown.features, parts.held_out.features])
    assert len(parts.shown) == 5 and sorted(both[:, 0, 0].tolist()) == sorted(whole.features[:, 0, 0].tolist())
    assert torch.equal(split(whole, 0, generator()).shown.features, whole.features)
    for wrong in (7, -1):
        with pytest.raises(ConfigError, match="of 7 demonstrations, 0 to 6 can be held out"):
            split(whole, wrong, generator())


def test_endings_and_returns_count_only_what_belongs_to_a_trajectory():
    one = batch(2, 3)
    counted = one.counted.clone()
    counted[1, 7:] = 0
    one = changed(one, counted=counted)
    assert torch.equal(endings(one.features, one)[0], one.features[0, [11, 10, 9, 8, 7]])
    assert torch.equal(endings(one.features, one)[1], one.features[1, [6, 5, 4, 3, 2]])
    reward = torch.arange(24.0).reshape(2, 12)
    assert return_per_step(reward, one).tolist() == [5.5, 15.0]


def test_the_end_distance_is_in_spreads_of_the_demonstrations():
    demonstrations = batch(3, 1)
    assert end_distance(demonstrations, demonstrations) == pytest.approx(0.0, abs=1e-3)
    far = changed(demonstrations, features=demonstrations.features + torch.tensor([1000.0, 0.0]))
    spread = demonstrations.features.flatten(0, 1).std(0, correction=0)[0].item()
    assert end_distance(far, demonstrations) == pytest.approx(1000.0 / spread, rel=0.01)
    scaled = [changed(b, features=7.0 * b.features) for b in (far, demonstrations)]
    assert end_distance(*scaled) == pytest.approx(end_distance(far, demonstrations), rel=1e-4)


def test_the_reward_never_sees_what_is_held_out(tmp_path):
    """Another held-out demonstration changes nothing in the first reward step."""
    shown = batch(6, 1)
    g = generator(9)
    kept = torch.randperm(6, generator=g)[:1]
    other = changed(shown, features=shown.features.clone())
    other.features[kept] += 50.0
    config = TrainConfig(clone=CloneConfig(steps=2), reward=RewardConfig(updates=2))
    arrays = []
    for demonstrations in (shown, other):
        parts = split(demonstrations, None, generator(9))
        learner = ALTERNATING["gcl"](Problem(parts.shown, config, 0.9, generator()))
        learner.update(batch(5, 2), GaussianPolicy(N_INPUTS, N_ACTIONS, generator(1)), 0, generator())
        arrays.append(learner.reward_arrays())
    assert all(np.array_equal(arrays[0][k], arrays[1][k]) for k in arrays[0])


def test_a_lead_is_in_deviations_of_the_rollouts():
    ours = torch.tensor([1.0, 2.0, 3.0])
    assert lead(torch.tensor([4.0, 6.0]), ours) == pytest.approx(3.0) and lead(ours - 3.0, ours) == pytest.approx(-3.0)


class Nearness:
    """A method whose reward is minus the distance to the origin of the features."""

    def learned_reward(self, batch: Batch) -> torch.Tensor:
        return -batch.features.norm(dim=-1)


@pytest.mark.parametrize("nearest, exploits", [(0.15, False), (0.03, True)])
def test_rollouts_that_are_only_sooner_at_the_goal_do_not_exploit_the_reward(nearest: float, exploits: bool):
    """Demonstrations dawdle and end 0.1 from the goal; rollouts are there sooner, as near as that or nearer."""

    def towards(n: int, seed: int, steps: int, end: float) -> Batch:
        b = batch(n, seed)
        left = (1 - torch.arange(1, 13) / steps).clamp_min(0)[None, :, None]
        return changed(b, features=4 * left + end + 0.02 * b.features)

    demonstrations, policy = towards(5, 1, 7, 0.1), GaussianPolicy(N_INPUTS, N_ACTIONS, generator(1))
    monitor = Monitor(split(demonstrations, 0, generator()))
    for k in range(4):
        figures = monitor.observe(Nearness(), towards(20, 50 + k, 2, nearest), policy, {})
        assert figures["health/gap_in_deviations"] < -1
    rows = {row["name"]: row for row in monitor.health.table()}
    assert (rows["sign of the reward gap"]["finding"] is not None) is exploits


@pytest.mark.parametrize("method", ["gail", "airl"])
def test_a_reward_without_one_demonstration_tells_covered_features_from_scattered_ones(method: str):
    """Demonstrations all alike in two features, and unlike one another in sixty."""
    gaps = []
    for n, shift in ((2, 3.0), (60, 0.0)):
        monitor = run(batch(5, 1, features=n), same(shift, 20, features=n), 1, method, left_out=True)
        rows = {row["name"]: row["value"] for row in monitor.health.table()}
        gaps.append(rows["over-fit gap, one left out"])
    assert abs(gaps[0]) < 0.25 and gaps[1] > 0.6


def test_what_was_left_out_is_measured_once_and_remembered():
    shown, method = batch(5, 1, features=60), "gail"
    monitor = run(shown, same(0.0, 20, features=60), 1, method, left_out=True)
    again = Monitor(split(shown, 0, generator()))
    again.restore(json.loads(json.dumps(monitor.state())))
    learner = ALTERNATING[method](Problem(shown, TrainConfig(method=method), 0.9, generator()))
    policy = GaussianPolicy(N_INPUTS, N_ACTIONS, generator(1))
    figures = again.observe(learner, same(0.0, 20, features=60)(1), policy, {})
    before = monitor.health.state()["checks"]["over-fit gap, one left out"]["value"]
    assert figures["health/leave_one_out_gap"] == before > 0.5
