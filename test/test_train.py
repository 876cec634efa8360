"""The learning loop on the real reach env: seeds, resuming, files, and that the learned reward does the work."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path

import expert_demonstrations
import numpy as np
import pytest
import torch

from irl_ros.checkpoint import Checkpoint, CheckpointError
from irl_ros.contract import Contract
from irl_ros.data.episode import Demonstrations, Episode
from irl_ros.learning.config import METHODS, CloneConfig, ConfigError, PolicyStepConfig, RewardConfig, TrainConfig
from irl_ros.learning.environment import EnvSpec, env_contract, standardise
from irl_ros.learning.observer import SilentObserver
from irl_ros.learning.rollout import Rollouts
from irl_ros.learning.train import Result, train
from irl_ros.models.inference import Policy, Reward
from irl_ros.models.likeness import Likeness

REACH = Contract.load("panda", "reach")
BRIEF = Contract(REACH.robot, dataclasses.replace(REACH.task, horizon=10))
QUICK = TrainConfig(
    environment_steps=160,
    batch_episodes=4,
    workers=1,
    device="cpu",
    checkpoint_every=2,
    evaluation_episodes=2,
    clone=CloneConfig(steps=10),
    reward=RewardConfig(updates=3, background_batches=2, minibatch=4),
    policy_step=PolicyStepConfig(epochs=2, value_warmup_epochs=2),
)
"""Four iterations of 40 steps: enough to compare, not to learn."""
BEYOND = 10_000
"""Seeds that training does not draw."""


@pytest.fixture(scope="module")
def brief() -> Demonstrations:
    return expert_demonstrations.demonstrations(BRIEF, 2)


def lines(directory: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (directory / "training/metrics.jsonl").read_text().splitlines()]


def same_checkpoint(a: Path, b: Path) -> bool:
    """Whether every array is bit-identical: the files' names are hashes of their content."""
    first, second = ({p.name for p in (d / "checkpoint").glob("*.safetensors")} for d in (a, b))
    return first == second


class StopAt(SilentObserver):
    """Asks for an end, or dies, after so many iterations."""

    def __init__(self, iterations: int, crash: bool = False):
        self._iterations, self._crash, self._done = iterations, crash, 0

    def on_progress(self, done: int, metrics: dict[str, float]) -> None:
        self._done = done
        if self._crash and metrics and done >= self._iterations:
            raise KeyboardInterrupt

    def should_stop(self) -> bool:
        return not self._crash and self._done >= self._iterations


@pytest.fixture(scope="module")
def uninterrupted(brief: Demonstrations, tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("uninterrupted")
    train(brief, QUICK, directory)
    return directory


def test_the_same_seed_gives_the_same_weights_whatever_the_number_of_workers(brief, uninterrupted, tmp_path):
    train(brief, dataclasses.replace(QUICK, workers=2), tmp_path / "again")
    assert same_checkpoint(tmp_path / "again", uninterrupted)
    assert lines(tmp_path / "again") == lines(uninterrupted)


def test_another_seed_gives_others(brief, uninterrupted, tmp_path):
    train(brief, dataclasses.replace(QUICK, seed=1), tmp_path)
    assert not same_checkpoint(tmp_path, uninterrupted)


@pytest.mark.parametrize("iterations", [0, 1, 3])
def test_cancelled_and_resumed_is_as_if_nothing_had_happened(brief, uninterrupted, tmp_path, iterations: int):
    result = train(brief, QUICK, tmp_path, StopAt(iterations))
    assert result == Result(None, cancelled=True) and len(lines(tmp_path)) == iterations
    assert not (tmp_path / "checkpoint").exists()
    result = train(brief, QUICK, tmp_path, resume=True)
    assert not result.cancelled and result.checkpoint == tmp_path / "checkpoint"
    assert lines(tmp_path) == lines(uninterrupted) and same_checkpoint(tmp_path, uninterrupted)


def test_killed_and_resumed_goes_on_from_the_last_state(brief, uninterrupted, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(brief, QUICK, tmp_path, StopAt(3, crash=True))
    with (tmp_path / "training/metrics.jsonl").open("a") as file:
        file.write('{"iteration": 4, "gcl/lo')  # cut short by the kill
    train(brief, QUICK, tmp_path, resume=True)
    assert lines(tmp_path) == lines(uninterrupted) and same_checkpoint(tmp_path, uninterrupted)


def test_a_finished_training_can_be_prolonged(brief, uninterrupted, tmp_path):
    train(brief, dataclasses.replace(QUICK, environment_steps=80), tmp_path)
    train(brief, dataclasses.replace(QUICK, workers=2), tmp_path, resume=True)
    assert lines(tmp_path) == lines(uninterrupted) and same_checkpoint(tmp_path, uninterrupted)


def test_a_state_of_another_training_is_refused(brief, tmp_path):
    train(brief, QUICK, tmp_path, StopAt(1))
    fewer = Demonstrations(BRIEF, brief.episodes[:1])
    task = dataclasses.replace(BRIEF.task, max_speed=0.5)
    slower = Demonstrations(Contract(BRIEF.robot, task), brief.episodes)
    others = [
        (brief, dataclasses.replace(QUICK, seed=5)),
        (brief, dataclasses.replace(QUICK, reward=dataclasses.replace(QUICK.reward, lcr=1.5))),
        (fewer, QUICK),
        (slower, QUICK),
    ]
    for demonstrations, config in others:
        with pytest.raises(ConfigError, match="another contract or other demonstrations; resume with the same"):
            train(demonstrations, config, tmp_path, resume=True)


def test_resuming_without_or_with_a_damaged_state_is_refused(brief, tmp_path):
    with pytest.raises(CheckpointError, match="state/manifest.json: cannot be read"):
        train(brief, QUICK, tmp_path / "nothing", resume=True)
    train(brief, QUICK, tmp_path, StopAt(1))
    (path,) = (tmp_path / "training/state").glob("network_value-*.safetensors")
    path.write_bytes(path.read_bytes()[:-8] + b"damaged!")
    with pytest.raises(CheckpointError, match="damaged"):
        train(brief, QUICK, tmp_path, resume=True)


def test_what_a_training_writes(brief, uninterrupted):
    training = uninterrupted / "training"
    assert [line["iteration"] for line in lines(uninterrupted)] == [1, 2, 3, 4]
    assert [line["environment_steps"] for line in lines(uninterrupted)] == [40, 80, 120, 160]
    assert all(math.isfinite(value) for line in lines(uninterrupted) for value in line.values())
    assert list((training / "tensorboard").glob("events.*"))
    figures = json.loads((training / "result.json").read_text())
    expected = {"method": "gcl", "task": "reach", "robot": "panda", "seed": 0, "demonstrations": 2}
    assert {k: figures[k] for k in expected} == expected
    assert figures["policy_episodes"] == 2 and figures["environment_steps"] == 160
    assert figures["training_wall_s"] > 0 and 0 < figures["beta"] <= 1
    last = lines(uninterrupted)[-1]
    assert figures["log_z"] == last["weights/log_z"]
    assert figures["effective_sample_size"] == last["weights/effective_sample_size"]


def test_the_checkpoint_runs_without_torch_modules(brief, uninterrupted):
    checkpoint = Checkpoint.load(uninterrupted / "checkpoint")
    assert checkpoint.contract == BRIEF and "<robot" in checkpoint.urdf
    assert checkpoint.provenance["config"]["seed"] == 0
    assert checkpoint.likeness_arrays["demonstrated_returns"].ndim == 2
    o, a, o2 = brief.episodes[0].observations[0], brief.episodes[0].actions[0], brief.episodes[0].observations[1]
    assert Policy.from_arrays(checkpoint.policy_arrays, BRIEF).mean(o).shape == (7,)
    assert Reward.from_arrays(checkpoint.reward_arrays, BRIEF)(o, a, o2) < 0
    assert Likeness.from_arrays(checkpoint.likeness_arrays).threshold >= 0


def test_behaviour_cloning_is_a_method_too(brief, tmp_path):
    result = train(brief, dataclasses.replace(QUICK, method="bc"), tmp_path)
    checkpoint = Checkpoint.load(result.checkpoint)
    assert checkpoint.reward_arrays == {} and checkpoint.provenance["method"] == "bc"
    assert result.figures["environment_steps"] == 0
    assert result.figures["policy_success"] == result.figures["behaviour_cloning_success"]


def test_the_observer_hears_of_every_phase(brief, tmp_path):
    heard: list[tuple] = []

    class Listener(SilentObserver):
        def on_phase(self, name: str, total: int) -> None:
            heard.append((name, total))

        def on_progress(self, done: int, metrics: dict[str, float]) -> None:
            heard.append((done, "policy/kl" in metrics))

    train(brief, dataclasses.replace(QUICK, environment_steps=80), tmp_path, Listener())
    learning = [("learn", 2), (0, False), (1, True), (2, True)]
    assert heard == [("clone", 1), (1, False), *learning, ("evaluate", 2), (1, False), (2, False)]


# ── Options ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_unknown_and_contradictory_options_are_refused_by_name(brief, tmp_path):
    with pytest.raises(ConfigError, match=r"unknown method 'gcll'. Did you mean 'gcl'\? Valid: " + ", ".join(METHODS)):
        train(brief, TrainConfig(method="gcll"), tmp_path)
    with pytest.raises(ConfigError, match="unknown device 'gpu'.* Valid: auto, cpu, cuda"):
        TrainConfig(device="gpu")
    for wrong in ({"environment_steps": 0}, {"batch_episodes": 1}, {"workers": 0}, {"evaluation_episodes": 0}):
        with pytest.raises(ConfigError, match="must be at least"):
            TrainConfig(**wrong)
    with pytest.raises(ConfigError, match="unknown option 'sed'. Did you mean 'seed'"):
        TrainConfig.from_dict({"sed": 1})
    with pytest.raises(ConfigError, match="unknown option 'lrc'. Did you mean 'lcr'"):
        TrainConfig.from_dict({"reward": {"lrc": 1.0}})


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_device_that_is_not_there_is_refused(brief, tmp_path):
    with pytest.raises(ConfigError, match="torch sees no CUDA device here; use cpu or auto"):
        train(brief, dataclasses.replace(QUICK, device="cuda"), tmp_path)


def test_options_survive_a_copy_through_json():
    assert TrainConfig.from_dict(json.loads(json.dumps(QUICK.to_dict()))) == QUICK
    assert TrainConfig.from_dict({"seed": 4}) == TrainConfig(seed=4)


# ── Envs that are no robots ────────────────────────────────────────────────────────────────────────────────────────


def pushed(contract: Contract, act: Callable[[np.ndarray], np.ndarray]) -> Demonstrations:
    """Three episodes in the env by `act`: observation → action in the env's bounds."""
    env, episodes = EnvSpec(contract).make(), []
    for seed in range(3):
        observations, actions = [env.reset(seed=seed)[0]], []
        for _ in range(contract.task.horizon):
            actions.append(act(observations[-1]))
            observations.append(env.step(actions[-1])[0])
        episodes.append(Episode(f"e{seed}", np.array(observations), np.array(actions)))
    env.close()
    return Demonstrations(contract, tuple(episodes))


@pytest.mark.parametrize(
    "env_id, features, act",
    [
        ("small_envs:test/Drift-v0", ["norm(next(obs))"], lambda o: np.clip(2 - 5 * o, -2, 6)),
        ("Pendulum-v1", ["next(obs)", "action"], lambda o: np.clip(-2 * o[2:], -2, 2)),
    ],
)
def test_any_env_of_boxes_can_be_learned(tmp_path, env_id: str, features: list[str], act: Callable):
    demonstrations = standardise(pushed(env_contract(env_id, 12, features), act))
    result = train(demonstrations, dataclasses.replace(QUICK, environment_steps=96), tmp_path)
    assert len(lines(tmp_path)) == 2 and result.figures["robot"] is None
    assert math.isfinite(result.figures["policy_return"])
    json.loads((tmp_path / "training/result.json").read_text(), parse_constant=pytest.fail)
    checkpoint = Checkpoint.load(result.checkpoint)
    assert checkpoint.urdf == "" and checkpoint.contract == demonstrations.contract


# ── Learning ───────────────────────────────────────────────────────────────────────────────────────────────────────

LEARNING = TrainConfig(environment_steps=6000, workers=2, device="cpu", evaluation_episodes=40)


@pytest.fixture(scope="module")
def demonstrations() -> Demonstrations:
    return expert_demonstrations.demonstrations(REACH, 5)


@pytest.fixture(scope="module")
def learned(demonstrations: Demonstrations, tmp_path_factory) -> Result:
    """A real training, kept short; several tests look at it."""
    return train(demonstrations, LEARNING, tmp_path_factory.mktemp("learned"))


def test_the_learned_reward_teaches_what_the_clone_could_not(learned: Result):
    """Within 2 cm, which a clone of five demonstrations seldom reaches."""
    cloned, policy = learned.figures["behaviour_cloning_success_2cm"], learned.figures["policy_success_2cm"]
    assert cloned < 0.7 <= policy and policy >= cloned + 0.2


def test_held_out_demonstrations_earn_more_than_random_rollouts(learned: Result):
    """The sign of the reward, on demonstrations and on rollouts that it has not seen."""
    checkpoint = Checkpoint.load(learned.checkpoint)
    reward = Reward.from_arrays(checkpoint.reward_arrays, REACH)
    rng, random = np.random.default_rng(0), []
    env = EnvSpec(REACH).make()
    for seed in range(BEYOND, BEYOND + 10):
        o, total = env.reset(seed=seed)[0], 0.0
        for _ in range(REACH.task.horizon):
            a = rng.uniform(-1, 1, 7)
            o, before = env.step(a)[0], o
            total += reward(before, a, o)
        random.append(total)
    env.close()
    shown = [
        sum(reward(e.observations[t], e.actions[t], e.observations[t + 1]) for t in range(len(e)))
        for e in expert_demonstrations.demonstrations(REACH, 10, seed=BEYOND)
    ]
    assert np.mean(shown) > np.mean(random) + 2 * np.std(random) / math.sqrt(10)
    assert np.mean(np.subtract.outer(shown, random) > 0) > 0.8


def test_the_checkpoints_policy_is_the_one_that_was_evaluated(learned: Result):
    checkpoint = Checkpoint.load(learned.checkpoint)
    with Rollouts(EnvSpec(REACH), 2) as rollouts:
        outcomes = rollouts.evaluate(checkpoint.policy_arrays, range(BEYOND, BEYOND + 20))
    assert np.mean([o.success for o in outcomes]) >= learned.figures["policy_success"] - 0.25


def test_with_a_constant_reward_the_policy_does_not_improve(demonstrations: Demonstrations, tmp_path):
    """So the learning is done by the learned reward, not by what else is in the loop."""
    config = dataclasses.replace(LEARNING, environment_steps=3000, reward=RewardConfig(constant=True))
    figures = train(demonstrations, config, tmp_path).figures
    assert figures["policy_success"] <= figures["behaviour_cloning_success"] + 0.1
