"""Every sentence provoked by a training (or a part of one) that is ill in that way, and none by a sound one."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
import torch
from loops import HORIZON, batch, changed, generator, run, same

from irl_ros.learning.batch import Batch
from irl_ros.learning.checks import CHECKS, WARNING
from irl_ros.learning.config import AdversarialConfig, CloneConfig, PolicyStepConfig, RewardConfig, TrainConfig
from irl_ros.learning.diagnostics import Finding
from irl_ros.learning.health import Monitor
from irl_ros.learning.method import Problem
from irl_ros.learning.methods import ALTERNATING


def found(monitor: Monitor) -> dict[str, Finding]:
    return {f.name: f for f in monitor.health.findings if f.active}


def explosion() -> Monitor:
    """An env whose observations become infinite."""
    return run(batch(4, 1), lambda k: changed(same()(k), features=torch.full((8, HORIZON, 2), torch.inf)), 1)


def long_trajectories() -> Monitor:
    """Actions far wider than the policy's: as many joints would do, they spread log π over tens of nats."""
    return run(batch(4, 1), same(actions=2.0), 3)


def overweight_actions() -> Monitor:
    """An action penalty of ten thousand, as if actions were tiny."""
    return run(batch(4, 1), same(), 5, w_u=1e4)


def untempered() -> Monitor:
    return run(batch(4, 1), same(actions=2.0), 3, effective_sample_size=0.0)


def unbounded_scale() -> Monitor:
    """A bound of a thousand, fast steps, no regularisers."""
    return run(batch(4, 1), same(3.0), 8, bound=1e3, learning_rate=0.03, lcr=0.0, mono=0.0)


MEMORY = AdversarialConfig(updates=150, learning_rate=0.01, step_decay=0.0)


@cache
def nothing_to_learn(method: str = "gcl", **more) -> Monitor:
    """Demonstrations and rollouts alike, and thirty features: only single demonstrations can be learned."""
    shown = batch(6, 1, features=30)
    return run(shown, same(0.0, features=30), 9, method, held_out=3, adversarial=MEMORY, **more)


def scattered() -> Monitor:
    """Five demonstrations in sixty features, none held out: raw observations that they do not cover."""
    return run(batch(5, 1, features=60), same(0.0, 20, features=60), 1, "gail", left_out=True)


def policy_that_stays() -> Monitor:
    return run(batch(4, 1), same(1.0), 18, updates=5, lcr=0.0, mono=0.0, step_decay=0.0)


def exploited() -> Monitor:
    """A reward that no longer learns and rollouts that are the best of many by it."""
    config = TrainConfig(reward=RewardConfig(constant=True), clone=CloneConfig(steps=1))
    reward = ALTERNATING["gcl"](Problem(batch(4, 1), config, 0.9, generator()))
    many = batch(400, 5)
    best = reward.learned_reward(many).flatten().topk(8 * HORIZON).indices
    ideal = {k: getattr(many, k).flatten(0, 1)[best].reshape(8, HORIZON, -1) for k in ("features", "actions")}
    return run(batch(4, 1), lambda k: changed(same()(k), **ideal), 3, constant=True)


@cache
def value_that_never_learns() -> Monitor:
    return run(batch(4, 1), same(), 10, step=PolicyStepConfig(learning_rate=0.0, value_warmup_epochs=0, epochs=1))


def entropy_above_all() -> Monitor:
    step = PolicyStepConfig(entropy_weight=20.0, learning_rate=0.03, kl_bound=1.0, epochs=2)
    return run(batch(4, 1), same(), 8, step=step)


def hardly_exploring() -> Monitor:
    """A policy whose σ is 0.04."""
    return run(batch(4, 1), same(actions=0.04), 3, step=PolicyStepConfig(learning_rate=1e-4, epochs=1), std=0.04)


def there_and_away_again() -> Monitor:
    """Rollouts that come to end as demonstrations do, and then no longer."""
    return run(batch(4, 1), lambda k: batch(8, 100 + k, abs(6.0 - k)), 12)


def told_apart() -> Monitor:
    return run(batch(4, 1), same(6.0), 9, "gail")


@cache
def uncalibrated() -> Monitor:
    return nothing_to_learn("gail")


ILL = [
    (explosion, "finite figures", "the training has diverged", "Lower the learning rates"),
    (long_trajectories, "effective sample size at β = 1", "log Z is no estimate", "More episodes per batch"),
    (overweight_actions, "tempering β", "as good as none", "or w_u"),
    (untempered, "largest weight", "learns from a single rollout", "Raise effective_sample_size"),
    (unbounded_scale, "spread of the reward in the weights", "its scale is running away", "Lower its bound"),
    (nothing_to_learn, "over-fit gap", "the reward has memorised the demonstrations", "Fewer reward features"),
    (scattered, "over-fit gap, one left out", "the reward memorises them", "or relative ones"),
    (policy_that_stays, "reward gap, remaining", "the policy is not catching up", "larger KL bound"),
    (exploited, "sign of the reward gap", "the policy exploits it", "faster reward steps"),
    (value_that_never_learns, "value explained", "policy steps are noise", "more value epochs"),
    (value_that_never_learns, "KL of a policy step", "the policy stands still", "larger learning rate"),
    (entropy_above_all, "growth of the policy's σ", "its precision is going", "smaller entropy weight"),
    (hardly_exploring, "entropy per action", "hardly explores any more", "larger entropy weight"),
    (there_and_away_again, "likeness of how episodes end", "drifts away again", "stop_when_converged"),
    (told_apart, "discriminator accuracy", "its gradient teaches little", "stronger regularisation"),
    (uncalibrated, "discriminator on held-out demonstrations", "has memorised the others", "more demonstrations"),
    (uncalibrated, "discriminator calibration", "over-confident", "fewer updates"),
]
BY_ENV = ("episodes that the env ends", "length of the demonstrations")


@pytest.mark.parametrize("ill, name, wrong, change", ILL, ids=lambda v: v if isinstance(v, str) and " " in v else "")
def test_what_is_wrong_is_said_with_what_to_change(ill: Callable[[], Monitor], name: str, wrong: str, change: str):
    monitor = ill()
    finding = found(monitor)[name]
    assert wrong in finding.sentence and change in finding.sentence and "{" not in finding.sentence
    row = next(row for row in monitor.health.table() if row["name"] == name)
    assert row["finding"] == finding.to_dict() and row["limit"] == finding.limit


def test_every_sentence_is_provoked():
    assert {name for _, name, _, _ in ILL} | set(BY_ENV) == {check.name for check in CHECKS}


def test_a_sound_training_has_no_warnings():
    """Rollouts come closer and closer to the demonstrations, and the policy learns a little in each step."""

    def seen(drawn: Batch) -> Batch:
        """The reward's features are among the policy's inputs, so that a value can be learned."""
        return changed(drawn, inputs=torch.cat([drawn.features, drawn.features[:, -1:]], 1).repeat(1, 1, 2)[..., :3])

    monitor = run(
        seen(batch(12, 1)),
        lambda k: seen(batch(40, 100 + k, 2.0 * 0.8**k)),
        12,
        clone=100,
        step=PolicyStepConfig(epochs=5, value_warmup_epochs=60, discount=0.0),  # each step is drawn anew
        updates=10,
        bound=0.3,
        w_u=0.0,  # noise, to a value of the state
        lcr=0.0,  # features here jump from step to step
        mono=0.0,
    )
    assert [f for f in monitor.health.findings if f.level == WARNING] == []
    assert {row["name"] for row in monitor.health.table()} >= {"over-fit gap", "value explained", "KL of a policy step"}
