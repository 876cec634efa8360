"""Health of the tabular methods: each figure against a value by hand, each sentence provoked, none by a sound training."""

from __future__ import annotations

import numpy as np
import pytest

from irl_ros.learning import max_margin, maxent, maxent_sampled
from irl_ros.learning.checks import TABULAR_CHECKS
from irl_ros.learning.config import MaxEntConfig, MaxMarginConfig
from irl_ros.learning.diagnostics import Finding, Health
from irl_ros.learning.mdp import MDP
from irl_ros.learning.tabular import TabularDemonstrations, TabularResult
from irl_ros.learning.tabular_health import figures, regret, uniform_value

CELLS, HORIZON = 6, 8
RIGHT, LEFT = 1, 0
ROW = np.arange(CELLS)
STEPS = np.stack([np.maximum(ROW - 1, 0), np.minimum(ROW + 1, CELLS - 1)], 1)
MDP_ = MDP.from_next_state(STEPS, np.full(CELLS, 1 / CELLS), HORIZON)
FEATURES = np.repeat(np.eye(CELLS)[:, None], 2, axis=1)
"""The cell that one stands in."""


def walk(start: int, action: int) -> TabularDemonstrations:
    states = [start]
    for _ in range(HORIZON):
        states.append(int(STEPS[states[-1], action]))
    return TabularDemonstrations(np.array([states]), np.full((1, HORIZON), action))


def together(*parts: TabularDemonstrations) -> TabularDemonstrations:
    return TabularDemonstrations(np.concatenate([p.states for p in parts]), np.concatenate([p.actions for p in parts]))


TO_THE_RIGHT = together(*(walk(start, RIGHT) for start in (0, 1, 2)))


def judged(
    result: TabularResult,
    shown: TabularDemonstrations,
    held_out: TabularDemonstrations | None = None,
    features: np.ndarray = FEATURES,
) -> dict[str, Finding]:
    health = Health(TABULAR_CHECKS)
    health.observe({**result.metrics, **figures(MDP_, features, shown, held_out, result)})
    return {finding.name: finding for finding in health.findings}


def few_iterations() -> dict[str, Finding]:
    return judged(maxent.learn(MDP_, FEATURES, TO_THE_RIGHT, MaxEntConfig(iterations=1)), TO_THE_RIGHT)


def infinite_reward() -> dict[str, Finding]:
    result = maxent.learn(MDP_, FEATURES, TO_THE_RIGHT, MaxEntConfig(iterations=1))
    return judged(TabularResult(result.reward, result.log_policy, {}, {"maxent/log_z": np.inf}), TO_THE_RIGHT)


def reward_of_the_opposite() -> dict[str, Finding]:
    return judged(max_margin.learn(MDP_, FEATURES, walk(5, LEFT)), together(walk(4, RIGHT), walk(5, RIGHT)))


def held_out_went_elsewhere() -> dict[str, Finding]:
    return judged(maxent.learn(MDP_, FEATURES, TO_THE_RIGHT), TO_THE_RIGHT, walk(4, LEFT))


def held_down() -> dict[str, Finding]:
    return judged(maxent.learn(MDP_, FEATURES, TO_THE_RIGHT, MaxEntConfig(regularisation=1e4)), TO_THE_RIGHT)


def one_round() -> dict[str, Finding]:
    return judged(max_margin.learn(MDP_, FEATURES, TO_THE_RIGHT, MaxMarginConfig(rounds=1)), TO_THE_RIGHT)


def blind() -> dict[str, Finding]:
    """A feature that is the same everywhere."""
    nothing = np.ones((CELLS, 2, 1))
    return judged(max_margin.learn(MDP_, nothing, TO_THE_RIGHT), TO_THE_RIGHT, features=nothing)


def contradicting() -> dict[str, Finding]:
    """Two of five go to the other end."""
    shown = together(*(walk(start, RIGHT) for start in (1, 2, 3)), walk(4, LEFT), walk(2, LEFT))
    return judged(max_margin.learn(MDP_, FEATURES, shown), shown)


ILL = [
    (infinite_reward, "finite figures", "not finite", "look for infinities"),
    (few_iterations, "feature expectations", "miss the demonstrations'", "more iterations"),
    (reward_of_the_opposite, "demonstrations by the learned reward", "does not explain them", "contradict one another"),
    (held_out_went_elsewhere, "over-fit gap", "has memorised the demonstrations", "more demonstrations"),
    (held_down, "entropy of the policy", "as random as one without any reward", "regularise less"),
    (one_round, "constraints of the margin", "still violated", "more rounds"),
    (blind, "norm of the reward", "the reward is next to nothing", "Other features"),
    (contradicting, "demonstrations set aside", "worse than by no reward at all", "Look at them"),
]


@pytest.mark.parametrize("ill, name, wrong, change", ILL, ids=[name for _, name, _, _ in ILL])
def test_what_is_wrong_is_said_with_what_to_change(ill, name: str, wrong: str, change: str):
    sentence = ill()[name].sentence
    assert wrong in sentence and change in sentence and "{" not in sentence


def test_every_sentence_is_provoked():
    assert {name for _, name, _, _ in ILL} == {check.name for check in TABULAR_CHECKS}


@pytest.mark.parametrize("method", [maxent, max_margin, maxent_sampled], ids=lambda m: m.__name__.rpartition(".")[2])
def test_a_sound_training_has_no_findings(method):
    result = method.learn(MDP_, FEATURES, TO_THE_RIGHT, generator=np.random.default_rng(0))
    assert judged(result, TO_THE_RIGHT, walk(3, RIGHT)) == {}


def test_regret_is_a_share_of_the_way_from_the_best_policy_to_a_random_one():
    reward = np.repeat((ROW == CELLS - 1).astype(float)[:, None], 2, axis=1)
    best, worst = walk(4, RIGHT), walk(4, LEFT)
    assert regret(MDP_, reward, best) == pytest.approx(0.0, abs=1e-12)
    random = uniform_value(MDP_, reward)[4]
    assert regret(MDP_, reward, worst) == pytest.approx(7.0 / (7.0 - random))  # seven steps in the last cell, or none
    chance = {4: 1.0}
    total = 0.0
    for _ in range(HORIZON):
        total += chance.get(CELLS - 1, 0.0)
        moved: dict[int, float] = {}
        for s, p in chance.items():
            for a in (LEFT, RIGHT):
                moved[int(STEPS[s, a])] = moved.get(int(STEPS[s, a]), 0.0) + p / 2
        chance = moved
    assert random == pytest.approx(total)
