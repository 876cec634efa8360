"""Health: every sentence provoked by a training (or a part of one) that is ill in that way, and none by a sound one."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import small_envs  # noqa: F401  registers the envs
import torch

from irl_ros.checkpoint import Checkpoint
from irl_ros.data.episode import Demonstrations, Episode
from irl_ros.learning import health
from irl_ros.learning.batch import Batch
from irl_ros.learning.config import (
    AdversarialConfig,
    CloneConfig,
    ConfigError,
    PolicyStepConfig,
    RewardConfig,
    TrainConfig,
)
from irl_ros.learning.diagnostics import CHECKS, NOTE, WARNING, Check, Finding, Health
from irl_ros.learning.environment import env_contract, standardise
from irl_ros.learning.health import Course, Monitor, end_distance, endings, return_per_step, split
from irl_ros.learning.maxent import MaxEntConfig, learn
from irl_ros.learning.mdp import MDP
from irl_ros.learning.method import Problem
from irl_ros.learning.methods import ALTERNATING
from irl_ros.learning.observer import SilentObserver
from irl_ros.learning.policy_step import PolicyStep
from irl_ros.learning.tabular import TabularDemonstrations
from irl_ros.learning.train import Result, train
from irl_ros.models.policies import GaussianPolicy, ValueFunction

N_INPUTS, N_FEATURES, N_ACTIONS, HORIZON = 3, 2, 2, 12


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(n: int, seed: int, shift: float = 0.0, features: int = N_FEATURES, actions: float = 0.5) -> Batch:
    """Random trajectories with features about `shift` and actions of that size."""
    g, ones = generator(seed), torch.ones(n, HORIZON)
    return Batch(
        torch.randn(n, HORIZON + 1, N_INPUTS, generator=g),
        shift + torch.randn(n, HORIZON, features, generator=g),
        actions * torch.randn(n, HORIZON, N_ACTIONS, generator=g),
        ones.clone(),
        ones,
    )


def changed(batch: Batch, **parts: torch.Tensor) -> Batch:
    """The same batch but for these parts."""
    return Batch(**{**dict(zip(Batch._fields, batch)), **parts})


def run(
    demonstrations: Batch,
    samples: Callable[[int], Batch],
    iterations: int = 8,
    method: str = "gcl",
    held_out: int | None = None,
    clone: int = 20,
    step: PolicyStepConfig | None = None,
    std: float = 1.0,
    adversarial: AdversarialConfig = AdversarialConfig(),
    **reward,
) -> Monitor:
    """The learning loop without an env: `samples(k)` stand for the rollouts of the k-th iteration.

    With `step` the policy learns too.
    """
    config = TrainConfig(
        clone=CloneConfig(steps=clone), reward=RewardConfig(**reward), adversarial=adversarial, method=method
    )
    parts = split(demonstrations, held_out, generator(9))
    learner = ALTERNATING[method](Problem(parts.shown, config, 0.9, generator()))
    policy, monitor = GaussianPolicy(N_INPUTS, N_ACTIONS, generator(1)), Monitor(parts)
    torch.nn.init.constant_(policy.log_std, float(np.log(std)))
    improver = PolicyStep(policy, ValueFunction(N_INPUTS, generator(2)), step) if step else None
    for k in range(iterations):
        drawn = samples(k)
        metrics = learner.update(drawn, policy, k, generator(k))
        if improver is not None:
            with torch.no_grad():
                reward_ = learner.policy_reward(drawn, policy)
            metrics.update(improver.improve(drawn, reward_, k == 0, generator(k)))
        monitor.observe(learner, drawn, policy, metrics)
    return monitor


def found(monitor: Monitor) -> dict[str, Finding]:
    return {f.name: f for f in monitor.health.findings if f.active}


def same(shift: float = 1.0, n: int = 8, **more) -> Callable[[int], Batch]:
    return lambda k: batch(n, 100 + k, shift, **more)


# ── One ill training per sentence ──────────────────────────────────────────────────────────────────────────────────


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


def policy_that_stays() -> Monitor:
    return run(batch(4, 1), same(1.0), 18, updates=5, lcr=0.0, mono=0.0, step_decay=0.0)


def exploited() -> Monitor:
    """A reward that no longer learns and rollouts that are the best of many by it."""
    config = TrainConfig(reward=RewardConfig(constant=True), clone=CloneConfig(steps=1))
    reward = ALTERNATING["gcl"](Problem(batch(4, 1), config, 0.9, generator()))
    many = batch(400, 5)
    best = return_per_step(reward.learned_reward(many), many).topk(8).indices
    return run(batch(4, 1), lambda k: many[best], 3, constant=True)


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



def few_iterations() -> Monitor:
    """Maximum-entropy IRL on a row of cells, ended after one iteration."""
    cells = np.arange(6)
    mdp = MDP.from_next_state(np.stack([np.maximum(cells - 1, 0), np.minimum(cells + 1, 5)], 1), np.eye(6)[0], 8)
    states = np.minimum(np.arange(9), 5)[None]
    features = np.repeat(np.eye(6)[:, None], 2, axis=1)
    shown = TabularDemonstrations(states, np.ones((1, 8), dtype=int))
    result = learn(mdp, features, shown, MaxEntConfig(iterations=1))
    monitor = Monitor(split(batch(2, 1), 0, generator()))
    monitor.health.observe(result.metrics)
    return monitor


ILL = [
    (explosion, "finite figures", "the training has diverged", "Lower the learning rates"),
    (long_trajectories, "effective sample size at β = 1", "log Z is no estimate", "More episodes per batch"),
    (overweight_actions, "tempering β", "as good as none", "or w_u"),
    (untempered, "largest weight", "learns from a single rollout", "Raise effective_sample_size"),
    (unbounded_scale, "spread of the reward in the weights", "its scale is running away", "Lower its bound"),
    (nothing_to_learn, "over-fit gap", "the reward has memorised the demonstrations", "Fewer reward features"),
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
    (few_iterations, "feature expectations", "miss the demonstrations'", "more iterations"),
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


# ── Figures ────────────────────────────────────────────────────────────────────────────────────────────────────────


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
    assert torch.equal(endings(one)[0], one.features[0, [11, 10, 9, 8, 7]])
    assert torch.equal(endings(one)[1], one.features[1, [6, 5, 4, 3, 2]])
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


# ── Convergence ────────────────────────────────────────────────────────────────────────────────────────────────────

DRIFTING = [4.46, 3.94, 2.58, 2.06, 1.95, 1.55, 1.37, 1.24, 1.2, 1.25, 0.97, 0.94, 0.95, 1.02, 1.08, 0.89, 0.95, 1.1]
DRIFTING += [0.8, 0.69, 0.81, 0.98, 0.99, 0.78, 0.83, 0.89, 0.98, 0.7, 1.23, 1.85]
DRIFTING_GAP = [0.64, 0.95, 0.4, 0.32, 0.21, 0.18, 0.19, 0.15, 0.14, 0.12, 0.1, 0.1, 0.1, 0.11, 0.1, 0.08, 0.09, 0.08]
DRIFTING_GAP += [0.09, 0.08, 0.08, 0.08, 0.1, 0.08, 0.08, 0.09, 0.08, 0.07, 0.07, 0.05]
"""Recorded on reach (seed 0, mono 100, margin 0, no decay): success 1.00 up to iteration 28, 0.00 after the 30th."""
STEADY = [4.46, 3.77, 2.74, 2.04, 1.89, 1.44, 1.36, 1.16, 1.19, 1.25, 0.96, 0.93, 0.89, 0.99, 0.91, 0.85, 0.85, 0.88]
STEADY += [0.7, 0.64, 0.7, 0.67, 0.79, 0.69, 0.71, 0.72, 0.73, 0.58, 0.53, 0.54]
"""The same with the options that are the default."""


def course(ends: list[float], gaps: list[float]) -> list[tuple[bool, float]]:
    """After every iteration: converged? and how far it has drifted."""
    states, followed = [], Course()
    for gap, end in zip(gaps, ends):
        followed.add(gap, end)
        states.append((followed.converged, followed.end_drift))
    return states


def test_the_known_drift_is_found_and_the_training_would_have_stopped_before():
    limit = next(check.limit for check in CHECKS if check.figure == "health/end_drift")
    drifting, steady = course(DRIFTING, DRIFTING_GAP), course(STEADY, DRIFTING_GAP)
    assert [k for k, (_, drift) in enumerate(drifting, 1) if drift > limit] == [30]
    assert not any(drift > limit for _, drift in steady)
    for states in (drifting, steady):
        first = next(k for k, (converged, _) in enumerate(states, 1) if converged)
        assert 10 <= first <= 20


def test_what_makes_no_progress_from_the_start_has_not_converged():
    assert not any(converged for converged, _ in course([4.0] * 30, [0.9] * 30))
    assert not any(converged for converged, _ in course([4.0 * 0.85**k for k in range(30)], DRIFTING_GAP))


def test_a_diverged_iteration_leaves_no_trace_in_the_course():
    followed = Course()
    followed.add(1.0, 2.0)
    followed.add(float("nan"), 1.0)
    assert followed.ends == [2.0] and followed.gap_remaining == 1.0


# ── Judging ────────────────────────────────────────────────────────────────────────────────────────────────────────

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
