"""A frozen reward in a changed world: what stays, what is optimised, what is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import expert_demonstrations
import numpy as np
import pytest
import torch

from irl_ros import cli
from irl_ros.checkpoint import Checkpoint, CheckpointError
from irl_ros.contract import Contract, ContractError, load_robot
from irl_ros.learning.config import ConfigError, TrainConfig
from irl_ros.learning.observer import SilentObserver
from irl_ros.learning.train import train
from irl_ros.learning.transfer import ChangedWorld, transfer
from irl_ros.models import rewards
from irl_ros.models.inference import reward_from_arrays
from irl_ros.models.policies import GaussianPolicy

CONTRACT = Contract.load("panda", "reach")
CONFIG = TrainConfig(environment_steps=600, batch_episodes=4, workers=1, evaluation_episodes=2, device="cpu")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a short training."""
    directory = tmp_path_factory.mktemp("trained")
    config = dataclasses.replace(CONFIG, environment_steps=200)
    return train(expert_demonstrations.demonstrations(CONTRACT, 2), config, directory).checkpoint


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize(
    "reward",
    [
        rewards.QuadraticReward(4, generator(), (7, 5), 3, bound=4.0, w_u=0.2),
        rewards.NetworkReward(4, generator(), (6,), bound=3.0),
        rewards.NetworkReward(4, generator(), (6,), bound=3.0, n_actions=7),
        rewards.LinearReward(4),
    ],
)
def test_a_saved_reward_is_the_same_again(reward: torch.nn.Module):
    if isinstance(reward, rewards.LinearReward):
        reward.psi.copy_(torch.randn(4, generator=generator()))
    features, actions = torch.randn(20, 4, generator=generator()), torch.randn(20, 7, generator=generator())
    loaded = rewards.load_reward(reward.arrays())
    assert torch.equal(loaded(features, actions), reward(features, actions))


def test_arrays_that_are_no_networks_reward_are_refused():
    with pytest.raises(ValueError, match="no reward of a transition's features"):
        rewards.load_reward({"table": np.zeros(3)})


def test_a_saved_policy_is_the_same_again():
    policy = GaussianPolicy(5, 2, generator(), (8, 6, 4))
    x = torch.randn(9, 5, generator=generator())
    assert torch.equal(GaussianPolicy.from_arrays(policy.arrays())(x), policy(x))


def test_the_policy_is_optimised_and_the_reward_stays(trained: Path, tmp_path: Path):
    checkpoint = Checkpoint.load(trained)
    result = transfer(checkpoint, ChangedWorld(CONTRACT, "joint_locked"), CONFIG, tmp_path)
    again = Checkpoint.load(result.checkpoint)
    for name, array in checkpoint.reward_arrays.items():
        np.testing.assert_array_equal(again.reward_arrays[name], array)
    assert any((again.policy_arrays[k] != v).any() for k, v in checkpoint.policy_arrays.items())
    assert again.provenance["transfer"]["variant"] == "joint_locked"
    rows = [json.loads(line) for line in (tmp_path / "training" / "metrics.jsonl").read_text().splitlines()]
    assert [row["iteration"] for row in rows] == [1, 2, 3]
    assert result.figures["environment_steps"] == 600 and result.figures["reward"] == "learned"


def test_the_rewards_that_are_climbed_are_the_learned_or_the_true_ones(trained: Path, tmp_path: Path):
    """The first iteration's mean episode reward, recomputed: by the deployed reward, and by the env's."""
    checkpoint = Checkpoint.load(trained)
    config = dataclasses.replace(CONFIG, environment_steps=200)
    found = {}
    for true in (False, True):
        directory = tmp_path / str(true)
        transfer(checkpoint, ChangedWorld(CONTRACT), config, directory, true)
        found[true] = json.loads((directory / "training" / "metrics.jsonl").read_text())["policy/reward"]
    trajectories = first_batch(checkpoint, config)
    deployed = reward_from_arrays(checkpoint.reward_arrays, CONTRACT)
    learned = [
        sum(deployed(o, a, after) for o, a, after in zip(t.observations, t.actions, t.observations[1:]))
        for t in trajectories
    ]
    to_goal = [CONTRACT.field(t.observations, "end_effector_to_goal")[1:] for t in trajectories]
    true = [-np.linalg.norm(rows, axis=1).sum() for rows in to_goal]
    np.testing.assert_allclose([found[False], found[True]], [np.mean(learned), np.mean(true)], rtol=1e-4)


def first_batch(checkpoint: Checkpoint, config: TrainConfig):
    from irl_ros.learning.environment import EnvSpec
    from irl_ros.learning.rollout import Rollouts
    from irl_ros.learning.train import episode_seed
    from irl_ros.learning.transfer import SEED_OFFSET

    policy = {**checkpoint.policy_arrays, "log_std": np.full(7, np.log(config.policy_step.initial_std), np.float32)}
    seeds = [episode_seed(config.seed, SEED_OFFSET + k) for k in range(config.batch_episodes)]
    with Rollouts(EnvSpec(CONTRACT), 1) as rollouts:
        return rollouts.sample(policy, seeds)


class StopAfter(SilentObserver):
    def __init__(self, iterations: int):
        self.left = iterations

    def should_stop(self) -> bool:
        self.left -= 1
        return self.left < 0


def test_a_stopped_transfer_goes_on_to_the_same_policy(trained: Path, tmp_path: Path):
    checkpoint, world = Checkpoint.load(trained), ChangedWorld(CONTRACT, "payload")
    whole = transfer(checkpoint, world, CONFIG, tmp_path / "whole")
    assert transfer(checkpoint, world, CONFIG, tmp_path / "parts", observer=StopAfter(1)).cancelled
    parts = transfer(checkpoint, world, CONFIG, tmp_path / "parts", resume=True)
    first, second = Checkpoint.load(whole.checkpoint), Checkpoint.load(parts.checkpoint)
    for name, array in first.policy_arrays.items():
        np.testing.assert_array_equal(second.policy_arrays[name], array)
    with pytest.raises(ConfigError, match="other options, another contract"):
        transfer(checkpoint, ChangedWorld(CONTRACT), CONFIG, tmp_path / "parts", resume=True)


def test_another_arm_gets_the_reward(trained: Path, tmp_path: Path):
    contract = dataclasses.replace(CONTRACT, robot=load_robot("iiwa"))
    config = dataclasses.replace(CONFIG, environment_steps=200)
    result = transfer(Checkpoint.load(trained), ChangedWorld(contract), config, tmp_path)
    again = Checkpoint.load(result.checkpoint)
    assert again.contract.robot.name == "iiwa" and again.urdf == contract.robot.urdf_path().read_text()


def test_what_cannot_be_transferred_is_named(trained: Path, tmp_path: Path):
    checkpoint = Checkpoint.load(trained)
    cloned = dataclasses.replace(checkpoint, reward_arrays={})
    with pytest.raises(CheckpointError, match="holds no reward"):
        transfer(cloned, ChangedWorld(CONTRACT), CONFIG, tmp_path)
    with pytest.raises(ContractError, match="unknown variant 'joint_loked'. Did you mean 'joint_locked'"):
        transfer(checkpoint, ChangedWorld(CONTRACT, "joint_loked"), CONFIG, tmp_path)


def test_the_command_line_says_what_came_of_it(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    command = ["transfer", "--checkpoint", str(trained), "--steps", "1000", "--workers", "1", "--out"]
    assert cli.main([*command, str(tmp_path / "out"), "--variant", "joint_locked"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("joint_locked: the policy as it was succeeds in") and "on the learned reward" in said
    assert cli.main([*command, str(tmp_path / "no"), "--variant", "obstacle"]) == cli.USAGE_ERROR
    assert "unknown variant 'obstacle'" in capsys.readouterr().err
