"""Is a training healthy? Figures against thresholds, each with a sentence that says what is wrong and what to change.

:class:`Health` is fed one mapping of figures per iteration, from whichever method, and never sees a true reward. Its
state is JSON, so that a resumed training judges as if nothing had happened. What the figures are is said in
:mod:`irl_ros.learning.health`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

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
        "effective_sample_size",
        2.0,
        "at β = 1 one trajectory takes all the weight (effective sample size {value:.2f}): log Z is no estimate, and "
        "only the tempered weights teach. More episodes per batch, a shorter horizon or fewer joints would help.",
        above=False,
        level=NOTE,
    ),
    Check(
        "tempering β",
        "beta",
        0.005,
        "the weights are tempered to β = {value:.2g}, which is as good as none: lower the reward's bound or w_u. If it is log z "
        "that spreads, the policies that drew the samples are far apart: a smaller KL bound, or fewer batches kept.",
        above=False,
        patience=5,
    ),
    Check(
        "largest weight",
        "max_weight",
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
        "health/gap_in_deviations",
        -1.0,
        "by the learned reward the policy's rollouts are better than the demonstrations, by {value:.1f} standard "
        "deviations: the policy exploits it. More or faster reward steps, a smaller KL bound, more demonstrations.",
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
    Check(
        "feature expectations",
        "feature_gap",
        0.05,
        "the learned policy's feature expectations miss the demonstrations' by {value:.2g}: more iterations, less "
        "regularisation; or no policy of this MDP can match these demonstrations.",
        patience=1,
    ),
)


@dataclass(frozen=True)
class Finding:
    """A check that went wrong: from iteration `first` on, the last time in `last`; `active`: it still is."""

    name: str
    figure: str
    level: str
    sentence: str
    value: float
    limit: float
    first: int
    last: int
    active: bool

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class _State:
    """One check's course: iterations judged wrong in a row, the last figure, and the last finding."""

    run: int = 0
    value: float | None = None
    first: int | None = None
    last: int | None = None
    found: float | None = None


class Health:
    """Judges one mapping of figures per iteration by every check."""

    def __init__(self, checks: Iterable[Check] = CHECKS):
        self._checks = tuple(checks)
        self._states = {check.name: _State() for check in self._checks}
        self._iteration = 0

    def observe(self, figures: Mapping[str, float]) -> list[Finding]:
        """Judge the next iteration's figures; returns the findings that are new."""
        self._iteration += 1
        bad = sum(not math.isfinite(value) for value in figures.values())
        figures = {**figures, "health/not_finite": float(bad)}
        return [f for check in self._checks if (f := self._judge(check, check.find(figures))) is not None]

    def _judge(self, check: Check, value: float | None) -> Finding | None:
        state, before = self._states[check.name], self.active(check.name)
        if value is None or not math.isfinite(value):
            return None
        state.value = value
        late = self._iteration > check.settled
        state.run = state.run + 1 if late and check.wrong(value) else 0
        if state.run >= check.patience:
            state.first = self._iteration if state.first is None else state.first
            state.last, state.found = self._iteration, value
            return None if before else self._finding(check)
        return None

    def active(self, name: str) -> bool:
        """Whether the check of that name is wrong now."""
        check = next(c for c in self._checks if c.name == name)
        return self._states[name].run >= check.patience

    def _finding(self, check: Check) -> Finding:
        s = self._states[check.name]
        sentence = check.sentence.format(value=s.found)
        active = self.active(check.name)
        return Finding(check.name, check.figure, check.level, sentence, s.found, check.limit, s.first, s.last, active)

    @property
    def findings(self) -> list[Finding]:
        """Everything that went wrong so far, warnings first."""
        found = [self._finding(c) for c in self._checks if self._states[c.name].first is not None]
        return sorted(found, key=lambda f: (not f.active, f.level != WARNING))

    def table(self) -> list[dict[str, Any]]:
        """One row per check that had a figure: its last value, its limit, and its finding or none."""
        findings = {f.name: f.to_dict() for f in self.findings}
        return [
            {
                "name": c.name,
                "value": self._states[c.name].value,
                "limit": c.limit,
                "wrong": "above" if c.above else "below",
                "finding": findings.get(c.name),
            }
            for c in self._checks
            if self._states[c.name].value is not None
        ]

    def state(self) -> dict[str, Any]:
        """For :meth:`restore`; JSON."""
        return {"iteration": self._iteration, "checks": {name: asdict(s) for name, s in self._states.items()}}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state` gave."""
        self._iteration = state["iteration"]
        self._states.update({name: _State(**values) for name, values in state["checks"].items()})
