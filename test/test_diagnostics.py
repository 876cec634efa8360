"""Judging: findings come and go, survive a resume, and are written wherever a training writes."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import small_envs  # noqa: F401  registers the envs

from irl_ros.checkpoint import Checkpoint
from irl_ros.data.episode import Demonstrations, Episode
from irl_ros.learning import health
from irl_ros.learning.checks import NOTE, Check
from irl_ros.learning.config import CloneConfig, PolicyStepConfig, RewardConfig, TrainConfig
from irl_ros.learning.diagnostics import Health
from irl_ros.learning.environment import env_contract, standardise
from irl_ros.learning.observer import SilentObserver
from irl_ros.learning.train import train

BY_ENV = ("episodes that the env ends", "length of the demonstrations")

CHECK = Check("heat", "heat", 5.0, "too hot: {value:.1f}; open a window", patience=2, settled=1, level=NOTE)


def test_a_finding_needs_patience_and_ends_when_the_figure_is_good_again():
    judge, new = Health([CHECK]), []
    for value in (9.0, 9.0, 6.0, 7.0, 1.0):
        new.append([f.sentence for f in judge.observe({"gcl/heat": value})])
    assert new == [[], [], ["too hot: 6.0; open a window"], [], []]
    (finding,) = judge.findings
    assert (finding.first, finding.last, finding.value, finding.active) == (3, 4, 7.0, False)
    again = Health([CHECK])
    again.restore(json.loads(json.dumps(judge.state())))
    assert again.findings == judge.findings and again.table() == judge.table()


def test_a_figure_that_the_method_does_not_have_is_not_judged():
    judge = Health([CHECK])
    assert judge.observe({"gcl/heat_of_another": 99.0}) == [] and judge.table() == []


# ── In a training ──────────────────────────────────────────────────────────────────────────────────────────────────

TINY = TrainConfig(
    environment_steps=240,
    batch_episodes=2,
    workers=1,
    device="cpu",
    evaluation_episodes=2,
    clone=CloneConfig(steps=5),
    reward=RewardConfig(updates=2, background_batches=2),
    policy_step=PolicyStepConfig(epochs=1, value_warmup_epochs=1),
)
"""Ten iterations of two episodes of twelve steps."""


def pushed(env_id: str, steps: int) -> Demonstrations:
    """Three demonstrations of `steps` steps that push the point to the origin."""
    contract, episodes = env_contract(env_id, 12, ["norm(next(obs))"]), []
    for seed in range(3):
        x = np.linspace(0.5 + 0.1 * seed, 0.0, steps + 1)[:, None] * np.ones(2)
        episodes.append(Episode(f"e{seed}", x, 2 + 10 * np.diff(x, axis=0)))
    return standardise(Demonstrations(contract, tuple(episodes)))


class Listener(SilentObserver):
    def __init__(self) -> None:
        self.heard: list[tuple[list[str], bool]] = []

    def on_health(self, findings, converged: bool) -> None:
        self.heard.append(([f.name for f in findings], converged))


def test_an_env_that_ends_episodes_is_named_in_all_that_a_training_writes(tmp_path):
    listener = Listener()
    result = train(pushed("small_envs:test/Falling-v0", 4), TINY, tmp_path, listener)
    findings = {row["name"]: row["finding"] for row in result.figures["health"]}
    ends, short = (findings[name]["sentence"] for name in BY_ENV)
    assert "the env ends 100% of the rollouts by itself" in ends and "let the env only truncate" in ends
    assert "demonstrations last 33% of the horizon" in short and "Record up to the horizon" in short
    assert len(listener.heard) == 10 and all(set(BY_ENV) <= set(names) for names, _ in listener.heard)
    provenance = Checkpoint.load(result.checkpoint).provenance
    assert set(BY_ENV) <= {finding["name"] for finding in provenance["findings"]}
    line = json.loads((tmp_path / "training/metrics.jsonl").read_text().splitlines()[-1])
    assert line["health/early_ends"] == 1.0 and line["health/demonstration_length"] == pytest.approx(1 / 3)


def test_training_ends_when_it_has_converged_if_it_is_asked_to(tmp_path, monkeypatch):
    monkeypatch.setattr(health.Course, "converged", property(lambda self: len(self.ends) >= 3))
    demonstrations = pushed("small_envs:test/Drift-v0", 12)
    asked = train(demonstrations, dataclasses.replace(TINY, stop_when_converged=True), tmp_path / "asked")
    assert asked.figures["environment_steps"] == 3 * 24 and asked.figures["converged"]
    unasked = train(demonstrations, dataclasses.replace(TINY, environment_steps=96), tmp_path / "unasked")
    assert unasked.figures["environment_steps"] == 96 and unasked.figures["converged"]
