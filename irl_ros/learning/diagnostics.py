"""Is a training healthy? Its figures against the thresholds of :mod:`irl_ros.learning.checks`.

:class:`Health` is fed one mapping of figures per iteration, from whichever method, and never sees a true reward. Its
state is JSON, so that a resumed training judges as if nothing had happened.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from irl_ros.learning.checks import CHECKS, WARNING, Check


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

    def lasting(self, iterations: int) -> str | None:
        """The name of a check whose warning has held for so many iterations up to now; None without one."""
        lasts = lambda c: self._states[c.name].run - c.patience + 1 >= iterations  # noqa: E731
        return next((c.name for c in self._checks if c.level == WARNING and lasts(c)), None)

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
