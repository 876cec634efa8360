"""Rollouts in worker processes, and the envs that learning accepts."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import expert_demonstrations
import gymnasium
import numpy as np
import pytest
import small_envs
import torch

from irl_ros.contract import Contract, ContractError
from irl_ros.data.episode import Demonstrations, Episode
from irl_ros.learning.batch import Featurizer
from irl_ros.learning.config import ConfigError, TrainConfig
from irl_ros.learning.environment import (
    EnvSpec,
    env_contract,
    flatten,
    from_env_action,
    standardise,
    to_env_action,
)
from irl_ros.learning.rollout import Rollouts, Trajectory
from irl_ros.learning.train import train
from irl_ros.models.policies import GaussianPolicy

REACH = Contract.load("panda", "reach")
SHORT_REACH = dataclasses.replace(REACH, task=dataclasses.replace(REACH.task, horizon=8))
DRIFT = env_contract("small_envs:test/Drift-v0", None)


def policy(contract: Contract, seed: int = 0) -> GaussianPolicy:
    g = torch.Generator().manual_seed(seed)
    return GaussianPolicy(Featurizer(contract, torch.device("cpu")).n_inputs, contract.action_size, g)


def equal(a: list[Trajectory], b: list[Trajectory]) -> bool:
    return len(a) == len(b) and all(np.array_equal(x, y) for one, other in zip(a, b) for x, y in zip(one, other))


@pytest.fixture(scope="module")
def reach():
    with Rollouts(EnvSpec(SHORT_REACH), 1) as rollouts:
        yield rollouts


@pytest.fixture(scope="module")
def drift():
    with Rollouts(EnvSpec(DRIFT), 1) as rollouts:
        yield rollouts


def test_the_number_of_workers_changes_nothing(reach: Rollouts):
    arrays, seeds = policy(SHORT_REACH).arrays(), [3, 1, 4, 1, 5]
    one = reach.sample(arrays, seeds)
    with Rollouts(EnvSpec(SHORT_REACH), 2) as two:
        assert equal(one, two.sample(arrays, seeds))
        assert reach.evaluate(arrays, seeds) == two.evaluate(arrays, seeds)
    assert equal(one[1:2], one[3:4]) and not equal(one[0:1], one[1:2])
    assert equal(one[2:3], reach.sample(arrays, [4]))  # nor does what else was asked for


def test_shapes_and_unclipped_actions(reach: Rollouts):
    (trajectory,) = reach.sample(policy(SHORT_REACH).arrays(), [0])
    assert trajectory.observations.shape == (9, REACH.observation_size)
    assert trajectory.actions.shape == (8, 7) and trajectory.log_probs.shape == (8,) and trajectory.length == 8
    assert np.abs(trajectory.actions).max() > 1.0


def test_log_probabilities_are_torchs(reach: Rollouts):
    torch_policy = policy(SHORT_REACH)
    trajectories = reach.sample(torch_policy.arrays(), range(4))
    batch = Featurizer(SHORT_REACH, torch.device("cpu")).trajectories(trajectories)
    with torch.no_grad():
        expected = torch_policy.log_prob(batch.inputs[:, :-1], batch.actions).numpy()
    np.testing.assert_allclose(np.stack([t.log_probs for t in trajectories]), expected, atol=1e-3)


def test_a_trajectory_is_what_the_env_does_with_these_actions(reach: Rollouts):
    (trajectory,) = reach.sample(policy(SHORT_REACH).arrays(), [7])
    env = EnvSpec(SHORT_REACH).make()
    try:
        actions = [to_env_action(a, env.action_space) for a in trajectory.actions]
        observations = [env.reset(seed=7)[0]] + [env.step(a)[0] for a in actions]
    finally:
        env.close()
    np.testing.assert_array_equal(trajectory.observations, observations)


def test_evaluation_drives_by_the_mean_and_tells_how_it_ended(drift: Rollouts):
    still = policy(DRIFT).arrays()
    still = {name: np.zeros_like(value) for name, value in still.items()}  # mean 0 is the middle of the bounds: a = 2
    (outcome,) = drift.evaluate(still, [11])
    x = np.random.Generator(np.random.PCG64(np.random.SeedSequence(11))).uniform(-1, 1, 2)
    distance = np.linalg.norm(x)
    assert outcome.distance == pytest.approx(distance) and outcome.success == (distance < 0.2)
    assert outcome.env_return == pytest.approx(-12 * distance)


def test_an_env_that_ends_by_itself_runs_on_in_its_last_state_with_a_warning():
    contract = env_contract("small_envs:test/Falling-v0", None)
    arrays = policy(contract).arrays()
    with Rollouts(EnvSpec(contract), 1) as rollouts:
        with pytest.warns(UserWarning, match="ends episodes by itself.* sign of the reward"):
            trajectories = rollouts.sample(arrays, range(3))
        with warnings.catch_warnings():  # once is enough
            warnings.simplefilter("error")
            rollouts.sample(arrays, range(3))
        outcomes = rollouts.evaluate(arrays, range(3))
    for t in trajectories:
        assert t.length == 4 and len(t.observations) == 13 and len(t.actions) == 12
        assert np.all(t.observations[4:] == t.observations[4]) and not np.any(t.actions[4:])
        assert np.any(t.observations[3] != t.observations[4]) and np.all(t.actions[:4])
    batch = Featurizer(contract, torch.device("cpu")).trajectories(trajectories)
    assert batch.executed.sum(1).tolist() == [4.0] * 3 and batch.counted.sum(1).tolist() == [12.0] * 3
    assert all(np.isfinite(o.distance) for o in outcomes)


def test_a_warning_is_not_given_where_nothing_ends_early(drift: Rollouts):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drift.sample(policy(DRIFT).arrays(), [0])


def test_demonstrations_are_padded_with_their_last_state_which_does_not_count():
    rng = np.random.default_rng(0)
    short = Episode("short", rng.normal(size=(6, 2)), rng.normal(size=(5, 2)))
    long = Episode("long", rng.normal(size=(21, 2)), rng.normal(size=(20, 2)))
    batch = Featurizer(DRIFT, torch.device("cpu")).demonstrations(Demonstrations(DRIFT, (short, long)))
    assert batch.inputs.shape == (2, 13, 2) and batch.counted.sum(1).tolist() == [5.0, 12.0]
    np.testing.assert_allclose(batch.inputs[0, 5:].numpy(), np.tile(short.observations[-1], (8, 1)), rtol=1e-6)
    np.testing.assert_allclose(batch.actions[0, :5].numpy(), short.actions, rtol=1e-6)
    assert not batch.actions[0, 5:].any()
    np.testing.assert_allclose(batch.inputs[1].numpy(), long.observations[:13], rtol=1e-6)


def test_a_dict_of_boxes_is_flattened_in_key_order():
    contract = env_contract("small_envs:test/Parts-v0", None)
    assert [(f.name, f.size) for f in contract.task.fields] == [("at", 2), ("image", 4), ("speed", 1)]
    observation = {"image": np.array([[3, 4], [5, 6]]), "speed": np.float32(7), "at": np.array([1, 2])}
    np.testing.assert_array_equal(flatten(observation, contract), [1, 2, 3, 4, 5, 6, 7])
    with Rollouts(EnvSpec(contract), 1) as rollouts:
        (t,) = rollouts.sample(policy(contract).arrays(), [0])
    x = t.observations[:, :2]
    np.testing.assert_allclose(t.observations[:, 2:6], np.einsum("ti,tj->tij", x, x).reshape(-1, 4), rtol=1e-5)
    np.testing.assert_array_equal(t.observations[:, 6], np.arange(13))


def test_a_box_has_a_field_for_each_element_and_features_may_be_chosen():
    assert [f.name for f in DRIFT.task.fields] == ["obs_0", "obs_1"] and DRIFT.task.horizon == 12
    assert DRIFT.robot is None and DRIFT.action_size == 2
    chosen = env_contract("small_envs:test/Drift-v0", 30, ["norm(next(obs))", "action"])
    assert chosen.task.horizon == 30 and Featurizer(chosen, torch.device("cpu")).n_features == 3


def test_the_horizon_asked_for_outlasts_the_envs_own_limit():
    contract = env_contract("small_envs:test/Drift-v0", 15)
    with Rollouts(EnvSpec(contract), 1) as rollouts:
        (t,) = rollouts.sample(policy(contract).arrays(), [0])
    assert t.length == 15 and np.all(np.diff(t.observations, axis=0).any(1))


def test_actions_are_carried_to_the_envs_bounds_and_back():
    space = small_envs.Drift.action_space
    for a, expected in (([-1, 1], [-2, 6]), ([0, 0.5], [2, 4]), ([-7, 7], [-2, 6])):
        actual = to_env_action(np.array(a, float), space)
        assert actual.dtype == space.dtype and space.contains(actual)
        np.testing.assert_allclose(actual, expected)
    inside = np.random.default_rng(0).uniform(-1, 1, (5, 2))
    back = from_env_action(np.stack([to_env_action(a, space) for a in inside]), space)
    np.testing.assert_allclose(back, inside, atol=1e-6)


def test_demonstrations_of_a_generic_env_are_standardised():
    rng = np.random.default_rng(0)
    observations, actions = rng.normal([3, -5], [2, 0.5], (40, 2)), rng.uniform(-2, 6, (39, 2))
    observations[:, 1] = -5.0  # never moves: its scale must not vanish
    given = Demonstrations(DRIFT, (Episode("e", observations, actions, success=True),))
    result = standardise(given)
    (episode,) = result.episodes
    np.testing.assert_allclose(episode.actions, (actions - 2) / 4)
    np.testing.assert_array_equal(episode.observations, observations)
    assert episode.success is True and episode.name == "e"
    inputs = Featurizer(result.contract, torch.device("cpu")).inputs(observations)
    np.testing.assert_allclose(inputs.mean(0), 0, atol=1e-9)
    np.testing.assert_allclose(inputs.std(0), [1, 0], atol=1e-9)


@pytest.mark.parametrize(
    "env_id, message",
    [
        ("test/Nowhere-v0", "env 'test/Nowhere-v0': .*Nowhere"),
        ("no_such_module:test/Drift-v0", "no_such_module"),
        ("small_envs:test/Drift-v7", "Drift"),
        ("small_envs:test/Buttons-v0", r"actions must be a Box with finite bounds, not Discrete\(3\)"),
        ("small_envs:test/Endless-v0", "actions must be a Box with finite bounds"),
        ("small_envs:test/Nested-v0", "observations must be a Box or a Dict of Boxes, not Dict"),
        ("small_envs:test/Timeless-v0", "has no time limit of its own: give a horizon"),
    ],
)
def test_an_env_that_cannot_be_used_is_refused_with_the_reason(env_id: str, message: str):
    with pytest.raises(ContractError, match=message):
        env_contract(env_id, None)


def test_policy_inputs_may_not_look_ahead():
    task = dataclasses.replace(REACH.task, policy_inputs=("next(joint_position)",))
    with pytest.raises(ValueError, match="cannot depend on the action or on the next observation"):
        Featurizer(Contract(REACH.robot, task), torch.device("cpu"))


def test_an_error_in_the_env_reaches_the_caller_and_the_pool_ends(tmp_path: Path, monkeypatch):
    (tmp_path / "broken_env.py").write_text(
        "import gymnasium, small_envs\n"
        "class Broken(small_envs.Drift):\n"
        "    def step(self, action): raise RuntimeError('gripper on fire')\n"
        "gymnasium.register('test/Broken-v0', Broken, max_episode_steps=12)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    contract = env_contract("broken_env:test/Broken-v0", None)
    with pytest.raises(RuntimeError, match="gripper on fire"), Rollouts(EnvSpec(contract), 1) as rollouts:
        rollouts.sample(policy(contract).arrays(), [0])


PARENT = """
import sys, time
import numpy as np
from irl_ros.learning.environment import EnvSpec, env_contract
from irl_ros.learning.rollout import Rollouts

if __name__ == "__main__":
    contract = env_contract("small_envs:test/Drift-v0", None)
    arrays = {"mean.0.weight": np.zeros((2, 2)), "mean.0.bias": np.zeros(2), "log_std": np.zeros(2)}
    rollouts = Rollouts(EnvSpec(contract), 2)
    pending = rollouts._pool._executor.map(abs, range(100))
    if sys.argv[1] == "busy":
        list(pending)
        rollouts.sample(arrays, range(8))
    print(*rollouts._pool._executor._processes, flush=True)
    while True:
        time.sleep(0.1 if sys.argv[1] == "idle" else 0)
        if sys.argv[1] == "busy":
            rollouts.sample(arrays, range(8))
"""


def alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has waited for yet has ended all the same."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("moment", ["starting", "busy"])
def test_workers_die_with_their_parent_however_it_dies(tmp_path: Path, moment: str):
    """Also when it is killed while they still start up and have not asked for that yet."""
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
    parent = subprocess.Popen([sys.executable, str(script), moment], env=environment, stdout=subprocess.PIPE, text=True)
    workers: list[int] = []
    try:
        workers = [int(word) for word in parent.stdout.readline().split()]
        assert workers and all(alive(pid) for pid in workers)
        parent.kill()
        parent.wait()
        deadline = time.monotonic() + 30
        while any(alive(pid) for pid in workers):
            assert time.monotonic() < deadline, f"still alive: {[pid for pid in workers if alive(pid)]}"
            time.sleep(0.02)
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
        for pid in filter(alive, workers):
            os.kill(pid, signal.SIGKILL)


def test_the_pool_ends_its_workers():
    with Rollouts(EnvSpec(DRIFT), 2) as rollouts:
        rollouts.sample(policy(DRIFT).arrays(), range(4))
        workers = list(rollouts._pool._executor._processes)
    assert workers and not any(alive(pid) for pid in workers)


def test_a_spec_makes_robots_from_their_own_contract():
    env = EnvSpec(SHORT_REACH).make()
    try:
        assert env.unwrapped.contract == SHORT_REACH and isinstance(env, gymnasium.Env)
    finally:
        env.close()


def test_a_randomised_training_samples_a_randomised_world(tmp_path):
    config = TrainConfig(environment_steps=16, batch_episodes=2, workers=1, evaluation_episodes=1, device="cpu")
    demonstrations = expert_demonstrations.demonstrations(SHORT_REACH, 2)
    plain, drawn, again = (
        train(demonstrations, dataclasses.replace(config, randomise=randomise), tmp_path / name).figures
        for name, randomise in (("plain", False), ("drawn", True), ("again", True))
    )
    assert plain["policy_return"] != drawn["policy_return"] == again["policy_return"]
    fixed = dataclasses.replace(REACH, task=dataclasses.replace(SHORT_REACH.task, randomisation=()))
    with pytest.raises(ConfigError, match="names no ranges under randomisation"):
        train(Demonstrations(fixed, demonstrations.episodes), dataclasses.replace(config, randomise=True), tmp_path)
