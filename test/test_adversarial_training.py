"""The adversarial methods in the learning loop on the real reach env: cancelled and resumed, and what they leave."""

from __future__ import annotations

import json
import math
from pathlib import Path

import expert_demonstrations
import pytest
from test_train import BRIEF, StopAt, lines, same_checkpoint

from irl_ros.checkpoint import Checkpoint
from irl_ros.data.episode import Demonstrations
from irl_ros.learning.config import AdversarialConfig, CloneConfig, PolicyStepConfig, RewardConfig, TrainConfig
from irl_ros.learning.train import train
from irl_ros.models.inference import Reward


def quick(method: str) -> TrainConfig:
    """Two iterations of 40 steps; the window holds one."""
    return TrainConfig(
        method=method,
        environment_steps=80,
        batch_episodes=4,
        workers=1,
        device="cpu",
        evaluation_episodes=1,
        clone=CloneConfig(steps=10),
        reward=RewardConfig(updates=3, background_batches=1, minibatch=4),
        adversarial=AdversarialConfig(updates=3, background_batches=1, minibatch=4),
        policy_step=PolicyStepConfig(epochs=2, value_warmup_epochs=2),
    )


@pytest.fixture(scope="module")
def brief() -> Demonstrations:
    return expert_demonstrations.demonstrations(BRIEF, 2)


@pytest.mark.parametrize("method", ["gan_gcl", "airl", "gail"])
def test_cancelled_and_resumed_is_as_if_nothing_had_happened(brief: Demonstrations, tmp_path: Path, method: str):
    through, resumed = tmp_path / "through", tmp_path / "resumed"
    result = train(brief, quick(method), through)
    assert train(brief, quick(method), resumed, StopAt(1)).cancelled
    train(brief, quick(method), resumed, resume=True)
    assert lines(resumed) == lines(through) and same_checkpoint(resumed, through)
    assert all(math.isfinite(value) for line in lines(through) for value in line.values())
    figures = {"accuracy_demonstrations", "accuracy_samples", "calibration_error", "reward_gap", "logit_gap"}
    assert {f"discriminator/{name}" for name in figures} <= set(lines(through)[-1])
    assert json.loads((through / "training/result.json").read_text())["method"] == method
    reward = Reward.from_arrays(Checkpoint.load(result.checkpoint).reward_arrays, BRIEF)
    episode = brief.episodes[0]
    assert math.isfinite(reward(episode.observations[0], episode.actions[0], episode.observations[1]))
