"""Thresholds of a training's health, each with a sentence that says what is wrong and what to change.

What the figures are is said in :mod:`irl_ros.learning.health`, for tables in :mod:`irl_ros.learning.tabular_health`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

NOTE, WARNING = "note", "warning"
"""Levels: something to know when reading the figures; something that spoils the result."""


@dataclass(frozen=True)
class Check:
    """One figure's threshold. The figure is wrong above (or below) `limit` for `patience` iterations in a row."""

    name: str
    figure: str
    """Metric, whole (`health/overfit_gap`) or its last part (`max_weight`), whatever method's prefix it carries."""
    limit: float
    sentence: str
    """What is wrong and what to change; `{value}` is the figure."""
    above: bool = True
    patience: int = 3
    settled: int = 0
    """Iterations that are not judged yet."""
    level: str = WARNING

    def wrong(self, value: float) -> bool:
        return value > self.limit if self.above else value < self.limit

    def find(self, figures: Mapping[str, float]) -> float | None:
        """The check's figure among `figures`; None when the method has none such."""
        if self.figure in figures:
            return figures[self.figure]
        return next((v for name, v in figures.items() if name.rpartition("/")[2] == self.figure), None)


CHECKS = (
    Check(
        "finite figures",
        "health/not_finite",
        0.0,
        "{value:.0f} figures are not finite: the training has diverged. Lower the learning rates, and look for "
        "infinities in the env's observations.",
        patience=1,
    ),
    Check(
        "effective sample size at β = 1",
        "weights/effective_sample_size",
        2.0,
        "at β = 1 one trajectory takes all the weight (effective sample size {value:.2f}): log Z is no estimate, and "
        "only the tempered weights teach. More episodes per batch, a shorter horizon or fewer joints would help.",
        above=False,
        level=NOTE,
    ),
    Check(
        "tempering β",
        "weights/beta",
        0.005,
        "the weights are tempered to β = {value:.2g}, which is as good as none: lower the reward's bound or w_u. If it is log z "
        "that spreads, the policies that drew the samples are far apart: a smaller KL bound, or fewer batches kept.",
        above=False,
        patience=5,
    ),
    Check(
        "largest weight",
        "weights/max_weight",
        0.5,
        "one trajectory carries {value:.0%} of the weight: the reward learns from a single rollout. Raise "
        "effective_sample_size or the episodes per batch.",
    ),
    Check(
        "spread of the reward in the weights",
        "health/reward_share",
        0.8,
        "the learned reward makes up {value:.0%} of the spread of the log-weights: its scale is running away from the "
        "demonstrations. Lower its bound or its learning rate, raise lcr or the weight decay.",
        patience=5,
    ),
    Check(
        "over-fit gap",
        "health/overfit_gap",
        0.5,
        "the reward has memorised the demonstrations: those held out lie {value:.0%} of the way down to the policy's "
        "rollouts. Fewer reward features, more demonstrations, stronger regularisation.",
        settled=5,
    ),
    Check(
        "over-fit gap, one left out",
        "health/leave_one_out_gap",
        0.5,
        "a reward learned without one of the demonstrations puts this one {value:.0%} of the way down to the policy's "
        "rollouts: the demonstrations do not cover the reward features, and the reward memorises them. Fewer reward "
        "features, or relative ones (a vector to the goal in place of positions and goals); more demonstrations.",
        patience=1,
    ),
    Check(
        "reward gap, remaining",
        "health/gap_remaining",
        0.9,
        "the policy is not catching up: {value:.0%} of the largest reward gap to the demonstrations remains. A larger "
        "KL bound, more environment steps; or reward features that tell demonstrations from rollouts but that no "
        "action can change: remove them.",
        settled=15,
    ),
    Check(
        "sign of the reward gap",
        "health/lead",
        -1.0,
        "by the learned reward the policy's rollouts are better than the demonstrations, on the whole and at their ends, "
        "by {value:.1f} standard deviations: the policy exploits it. More or faster reward steps, a smaller KL bound, more demonstrations.",
        above=False,
    ),
    Check(
        "value explained",
        "value_explained",
        0.1,
        "the value function explains {value:.0%} of the learned return, so that policy steps are noise: a smaller "
        "reward learning rate, more value epochs, or policy inputs that tell how far along an episode is.",
        above=False,
        patience=5,
        settled=5,
    ),
    Check(
        "growth of the policy's σ",
        "health/std_growth",
        1.3,
        "the policy's σ has grown to {value:.1f} times its start, and its precision is going: a smaller entropy weight, "
        "or a reward that is flat where the policy is.",
    ),
    Check(
        "entropy per action",
        "health/entropy_per_action",
        -1.6,
        "the policy hardly explores any more (entropy {value:.2f} nats per action): rollouts show the reward nothing "
        "new. A larger entropy weight, or stop earlier.",
        above=False,
    ),
    Check(
        "KL of a policy step",
        "kl",
        1e-4,
        "the policy stands still (KL {value:.1g} nats per step) though the demonstrations earn more: a larger learning "
        "rate or KL bound; or the learned reward is flat where the policy is.",
        above=False,
        patience=5,
    ),
    Check(
        "likeness of how episodes end",
        "health/end_drift",
        1.4,
        "the policy drifts away again from how demonstrations end ({value:.1f} times as far as at its best). If the "
        "reward gap is not growing, the reward has gone flat in some directions, and some starts or goals are no longer "
        "served: stop earlier (stop_when_converged), decay the reward steps, take a mono margin below zero.",
        patience=1,
    ),
    Check(
        "discriminator accuracy",
        "health/discriminator_accuracy",
        0.98,
        "the discriminator tells demonstrations from rollouts {value:.0%} of the time, so that its gradient teaches "
        "little: fewer reward features, a smaller discriminator learning rate, stronger regularisation.",
        settled=5,
    ),
    Check(
        "discriminator on held-out demonstrations",
        "health/held_out_accuracy",
        0.2,
        "the discriminator takes {value:.0%} of the held-out demonstrations' steps for demonstrations and has memorised "
        "the others: fewer reward features, more demonstrations, stronger regularisation.",
        above=False,
        settled=5,
    ),
    Check(
        "discriminator calibration",
        "health/held_out_calibration_error",
        0.15,
        "on held-out demonstrations and fresh rollouts the discriminator's probabilities are off by {value:.2f}: it is "
        "over-confident, and a reward made of its logit too steep. Stronger regularisation, fewer updates per iteration.",
        settled=5,
    ),
    Check(
        "episodes that the env ends",
        "health/early_ends",
        0.0,
        "the env ends {value:.0%} of the rollouts by itself, and the moment tells a learner the sign of the reward: "
        "they run on to the horizon in their last state; better let the env only truncate.",
        patience=1,
    ),
    Check(
        "length of the demonstrations",
        "health/demonstration_length",
        0.9,
        "demonstrations last {value:.0%} of the horizon, rollouts all of it: a reward's sign alone then tells them "
        "apart. Record up to the horizon, or give the task the demonstrations' length as horizon.",
        above=False,
        patience=1,
    ),
)


TABULAR_CHECKS = (
    Check(
        "finite figures",
        "health/not_finite",
        0.0,
        "{value:.0f} figures are not finite: look for infinities in the grid's features.",
        patience=1,
    ),
    Check(
        "feature expectations",
        "health/feature_gap",
        0.1,
        "the learned policy's feature expectations miss the demonstrations' by {value:.2g} of the horizon: more "
        "iterations, less regularisation; or no policy of this MDP can match these demonstrations.",
        patience=1,
    ),
    Check(
        "demonstrations by the learned reward",
        "health/regret",
        0.5,
        "by the learned reward the demonstrations lie {value:.0%} of the way down from the best policy to a random one: "
        "it does not explain them. Features that say what they care for, more iterations, or fewer of them that "
        "contradict one another.",
        patience=1,
    ),
    Check(
        "over-fit gap",
        "health/overfit_gap",
        0.3,
        "the reward has memorised the demonstrations: those held out lie {value:.0%} further down from the best policy "
        "to a random one. Fewer reward features (grid.features: goal_and_zone in place of cells), more demonstrations, "
        "stronger regularisation.",
        patience=1,
    ),
    Check(
        "entropy of the policy",
        "health/entropy_share",
        0.9,
        "the policy is {value:.0%} as random as one without any reward: the demonstrations contradict one another, or "
        "the regularisation holds the reward down. Look at the demonstrations, regularise less.",
        patience=1,
    ),
    Check(
        "constraints of the margin",
        "max_margin/violation",
        1e-3,
        "constraints of the margin are still violated by {value:.2g}: more rounds.",
        patience=1,
    ),
    Check(
        "norm of the reward",
        "max_margin/norm",
        1e-3,
        "the reward is next to nothing (‖ψ‖ {value:.1g}), the slack explains all: no weighting of these features puts "
        "the demonstrations above other policies. Other features, or a higher price of slack.",
        above=False,
        patience=1,
    ),
    Check(
        "demonstrations set aside",
        "health/set_aside",
        0.3,
        "{value:.0%} of the demonstrations are explained worse than by no reward at all, and are set aside: they "
        "contradict the others. Look at them, record again, or add features that tell what they care for.",
        patience=1,
    ),
)
"""Judged once, at the end of a training on a table."""
