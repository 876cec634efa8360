"""Maximum margin from rollouts: its constraints by hand, its programs, and an expert in a small env that it matches."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from irl_ros.checkpoint import Checkpoint
from irl_ros.data.episode import Demonstrations, Episode
from irl_ros.learning.batch import Batch
from irl_ros.learning.config import CloneConfig, MaxMarginConfig, PolicyStepConfig, TrainConfig
from irl_ros.learning.environment import EnvSpec, env_contract, standardise
from irl_ros.learning.margin_programs import Constraint, InfeasibleMargin, robust_margin, slack_needed
from irl_ros.learning.max_margin_sampled import Expert, SampledMaxMargin, from_starts, trajectory_features
from irl_ros.learning.method import Problem, Selective
from irl_ros.learning.train import train
from irl_ros.models.inference import LinearReward, policy_from_arrays, reward_from_arrays
from irl_ros.models.policies import GaussianPolicy
from irl_ros.models.rewards import LinearReward as TorchLinearReward

HORIZON = 6


def batch(features: np.ndarray, counted: np.ndarray | None = None) -> Batch:
    """Trajectories of which only φ (B, H, d) matters."""
    phi = torch.as_tensor(features, dtype=torch.float32)
    b, h = phi.shape[:2]
    ones = torch.ones(b, h)
    counted = ones if counted is None else torch.as_tensor(counted, dtype=torch.float32)
    return Batch(torch.zeros(b, h + 1, 3), phi, torch.zeros(b, h, 2), ones, counted)


def problem(features: np.ndarray, **options) -> Problem:
    config = TrainConfig(max_margin=MaxMarginConfig(**options))
    return Problem(batch(features), config, 0.9, torch.Generator().manual_seed(0))


def policy(seed: int = 0) -> GaussianPolicy:
    return GaussianPolicy(3, 2, torch.Generator().manual_seed(seed))


# ── Feature expectations and D ────────────────────────────────────────────────────────────────────────────────────────


def test_a_shorter_trajectory_weighs_as_much():
    shown = batch(np.array([[[1.0], [3.0], [9.0], [9.0]]]), np.array([[1, 1, 0, 0]]))
    assert trajectory_features(shown) == pytest.approx(np.array([[8.0]]))  # mean 2, four periods


def test_the_luck_of_the_starts_is_taken_out():
    starts = np.array([[-1.0], [1.0]])  # values 2x + 1; Σx² = 2, ridge 1, Σxy = 4: slope 4/3
    assert from_starts(2 * starts + 1, starts, np.array([[0.0], [3.0]])) == pytest.approx(np.array([[1.0], [5.0]]))
    rng = np.random.default_rng(0)
    starts, slope = rng.normal(size=(4000, 3)), rng.normal(size=(3, 3))
    wanted = rng.normal(size=(5, 3))
    found = from_starts(starts @ slope + 7, starts, wanted)
    np.testing.assert_allclose(found, wanted @ slope + 7, atol=0.02)


def test_d_is_the_part_of_the_horizon_spent_where_no_demonstration_was():
    steps = np.linspace(0, 1, HORIZON)[:, None]
    alone = Expert(batch(np.stack([steps])))
    assert alone.distance(batch(np.stack([steps, steps]))) == 0.0
    away = np.stack([np.where(np.arange(HORIZON)[:, None] < 2, steps, 50.0)])
    assert alone.distance(batch(away)) == pytest.approx(4 / 6)
    spread = steps.std()
    near = alone.distance(batch(np.full((1, HORIZON, 1), 1 + spread)))
    assert near == pytest.approx(1 - np.exp(-0.5), abs=1e-6)  # one deviation beyond the nearest demonstrated step
    # Two demonstrations that never meet: being as unlike both as they are unlike one another owes no margin.
    apart = np.stack([steps, steps + 2])
    assert Expert(batch(apart)).distance(batch(np.stack([steps, steps + 2]))) == 0.0
    assert 0 < Expert(batch(apart)).distance(batch(np.full((1, HORIZON, 1), -9.0))) <= 1.0


# ── The programs ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_demonstration_that_no_reward_explains_is_set_aside():
    right, wrong = np.array([1.0, 0.0]), np.array([-1.0, 0.0])
    constraints = [Constraint(i, right, 1.0) for i in range(3)] + [Constraint(3, wrong, 1.0)]
    names = ("a", "b", "c", "d")
    robust = robust_margin(constraints, names, 2, MaxMarginConfig(slack=0.3))
    hinge = robust_margin(constraints, names, 2, MaxMarginConfig(slack=0.3, set_aside=False))
    assert robust.psi == pytest.approx([0.9, 0.0], abs=1e-6)  # three times C: the fourth pulls no more
    assert hinge.psi == pytest.approx([0.6, 0.0], abs=1e-6)
    assert robust.xi == pytest.approx([0.1, 0.1, 0.1, 1.9], abs=1e-6)
    with pytest.raises(InfeasibleMargin, match="hard margin is infeasible"):
        robust_margin(constraints, names, 2, MaxMarginConfig(slack=None))


def rounds(method: SampledMaxMargin, n: int, seed: int) -> list[Batch]:
    """`n` updates on random rollouts, ever nearer to the demonstrations at φ = 1."""
    rng, drawn = np.random.default_rng(seed), []
    for k in range(n):
        drawn.append(batch(1 - 2 / (k + 1) + rng.normal(0, 0.3, (12, HORIZON, 2))))
        figures = method.update(drawn[-1], policy(k), k, torch.Generator())
        assert set(figures) >= {"max_margin/margin", "max_margin/slack_max", "max_margin/feature_distance"}
    return drawn


@pytest.mark.parametrize("slack", [1.0, 0.01])
def test_every_constraint_of_the_program_holds_and_none_with_less(slack: float):
    shown = 1 + np.random.default_rng(5).normal(0, 0.3, (4, HORIZON, 2))
    given = problem(shown, slack=slack, policy_steps=1, set_aside=False)
    method, expert = SampledMaxMargin(given), Expert(given.demonstrations)
    drawn = rounds(method, 5, seed=1)
    constraints = [c for b in drawn for c in expert.constraints(expert.judge(b))]
    psi = method.reward_arrays()["psi"].astype(np.float64)

    def objective(candidate: np.ndarray) -> float:
        return 0.5 * candidate @ candidate + slack * slack_needed(constraints, candidate, 4).sum()

    xi = slack_needed(constraints, psi, 4)
    assert all(psi @ c.difference >= c.distance - xi[c.demonstration] - 1e-9 for c in constraints)
    assert psi.sum() > 0 and (slack == 0.01) == (xi.max() > 1e-3)
    rng = np.random.default_rng(2)
    for size in (1e-3, 1e-2, 0.1):
        assert all(objective(psi + size * rng.normal(size=2)) > objective(psi) - 1e-7 for _ in range(50))


def test_the_best_member_and_the_mixture_are_kept():
    given = problem(1 + np.random.default_rng(5).normal(0, 0.1, (4, HORIZON, 2)), policy_steps=2)
    method = SampledMaxMargin(given)
    rounds(method, 6, seed=1)
    arrays = method.reward_arrays()
    assert isinstance(method, Selective) and len(method.window.entries) == 3  # of updates 0, 2 and 4
    distance = np.linalg.norm(arrays["mixture.features"] - arrays["expert.features"], axis=1)
    assert arrays["mixture.features"].shape == (3, 2) and distance.argmin() == 2
    for name, value in method.chosen_policy().arrays().items():
        np.testing.assert_array_equal(arrays[f"members.2.{name}"], value)
    assert arrays["mixture.weights"].sum() == pytest.approx(1.0)
    mixed = arrays["mixture.weights"] @ arrays["mixture.features"]
    assert np.linalg.norm(mixed - arrays["expert.features"]) <= distance.min() + 1e-9


# ── Learning in an env ────────────────────────────────────────────────────────────────────────────────────────────────

QUICK = dict(method="max_margin", workers=1, device="cpu", batch_episodes=8, evaluation_episodes=2, checkpoint_every=2)


def drifting(features: list[str]) -> Demonstrations:
    """Five episodes of Drift, pushed towards zero."""
    contract = env_contract("small_envs:test/Drift-v0", 12, features)
    env, episodes = EnvSpec(contract).make(), []
    for seed in range(5):
        observations, actions = [env.reset(seed=seed)[0]], []
        for _ in range(contract.task.horizon):
            actions.append(np.clip(2 - 5 * observations[-1], -2, 6))
            observations.append(env.step(actions[-1])[0])
        episodes.append(Episode(f"shown_{seed}", np.array(observations), np.array(actions)))
    env.close()
    return standardise(Demonstrations(contract, tuple(episodes)))


def test_an_experts_feature_expectations_are_matched(tmp_path: Path):
    """From a policy that knows nothing, to the expert's features, and so to what the expert does."""
    demonstrations = drifting(["next(obs)", "norm(next(obs))"])
    quick = {**QUICK, "batch_episodes": 20, "evaluation_episodes": 40}
    config = TrainConfig(
        **quick,
        environment_steps=24 * 20 * 12,
        clone=CloneConfig(steps=1),
        policy_step=PolicyStepConfig(initial_std=0.4),
    )
    result = train(demonstrations, config, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "training/metrics.jsonl").read_text().splitlines()]
    arrays = Checkpoint.load(result.checkpoint).reward_arrays
    distance = np.linalg.norm(arrays["mixture.features"] - arrays["expert.features"], axis=1)
    mixed = np.linalg.norm(arrays["mixture.weights"] @ arrays["mixture.features"] - arrays["expert.features"])
    assert distance[0] == pytest.approx(lines[0]["max_margin/feature_distance"])
    assert mixed - 1e-6 <= distance.min() <= 0.25 * distance[0]
    assert arrays["psi"][-1] < 0  # away from zero is worse
    assert result.figures["policy_success"] >= 0.9 > 0.5 > result.figures["behaviour_cloning_success"]


def test_a_resumed_run_comes_to_the_same(tmp_path: Path):
    demonstrations = drifting(["next(obs)"])
    few = {"clone": CloneConfig(steps=5), "policy_step": PolicyStepConfig(epochs=2, value_warmup_epochs=2)}
    for name, steps, resume in (("whole", 5, False), ("parts", 4, False), ("parts", 5, True)):
        train(demonstrations, TrainConfig(**QUICK, **few, environment_steps=steps * 96), tmp_path / name, resume=resume)
    whole, parts = ({p.name for p in (tmp_path / n / "checkpoint").glob("*.safetensors")} for n in ("whole", "parts"))
    assert whole == parts


def test_numpy_gives_the_reward_that_torch_gives():
    demonstrations = drifting(["next(obs)", "action", "norm(next(obs))"])
    reward, episode = TorchLinearReward(5), demonstrations.episodes[0]
    reward.psi.copy_(torch.tensor([1.0, -2.0, 0.5, 0.25, -3.0]))
    ours = reward_from_arrays(reward.arrays(), demonstrations.contract)
    assert isinstance(ours, LinearReward)
    o, a = episode.observations, episode.actions
    scaled = (o - [f.center for f in demonstrations.contract.task.fields]) / [
        f.scale for f in demonstrations.contract.task.fields
    ]
    norm = np.linalg.norm(o[3]) / max(f.scale for f in demonstrations.contract.task.fields)
    by_hand = np.array([*scaled[3], *np.clip(a[2], -1, 1), norm]) @ reward.psi.numpy()
    assert ours(o[2], a[2], o[3]) == pytest.approx(by_hand, abs=1e-6)


def test_a_member_of_the_checkpoint_can_be_run(tmp_path: Path):
    demonstrations = drifting(["next(obs)"])
    result = train(demonstrations, TrainConfig(**QUICK, environment_steps=96), tmp_path)
    checkpoint = Checkpoint.load(result.checkpoint)
    prefix = "members.0."
    member = {k[len(prefix) :]: v for k, v in checkpoint.reward_arrays.items() if k.startswith(prefix)}
    observation = demonstrations.episodes[0].observations[0]
    of_member, saved = (policy_from_arrays(a, checkpoint.contract) for a in (member, checkpoint.policy_arrays))
    np.testing.assert_array_equal(of_member.mean(observation), saved.mean(observation))  # the only one is the best
