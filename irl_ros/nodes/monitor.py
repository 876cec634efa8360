"""What policy_runner tells on /diagnostics: counts kept over one activation, made into status lines."""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from dataclasses import dataclass, field

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus

from irl_ros.control.gate import GateState
from irl_ros.control.pilot import Pilot, Score
from irl_ros.nodes.diagnostics import ERROR, OK, WARN, status

LATE = 1.5  # periods between two ticks that are worth a warning


@dataclass
class Monitor:
    """Filled by the node while it runs; `statuses` reads it."""

    score: Score | None = None
    limited: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    periods: deque[float] = field(default_factory=lambda: deque(maxlen=200))
    """Node-clock seconds between ticks since the last report."""
    last_tick: float = math.nan

    def ticked(self, now: float) -> None:
        """A tick at `now` [s of the node's clock]."""
        if not math.isnan(self.last_tick):
            self.periods.append(now - self.last_tick)
        self.last_tick = now

    def statuses(self, pilot: Pilot, checkpoint: str, active: bool) -> list[DiagnosticStatus]:
        """The five lines, and a new count of periods."""
        lines = [
            self._gate(pilot),
            self._input_age(pilot, active),
            self._loop_period(pilot, active),
            model_status(OK, pilot.controller.contract.task.name, checkpoint=checkpoint),
            self._reward(pilot),
        ]
        self.periods.clear()
        return lines

    def _gate(self, pilot: Pilot) -> DiagnosticStatus:
        state, reason = pilot.gate.state, pilot.gate.reason
        level = ERROR if state is GateState.HALTED else WARN if self.limited else OK
        return status("policy_runner: gate", level, f"{state.value}{reason and ': '}{reason}", **_counts(self.limited))

    def _input_age(self, pilot: Pilot, active: bool) -> DiagnosticStatus:
        ages = pilot.inputs.ages(time.monotonic())
        stale = pilot.gate.stale(ages)
        level = ERROR if stale and active else WARN if stale or self.rejected else OK
        message = stale or ("messages refused" if self.rejected else "fresh")
        return status("policy_runner: input age", level, message, **ages, **_counts(self.rejected))

    def _loop_period(self, pilot: Pilot, active: bool) -> DiagnosticStatus:
        wanted = pilot.controller.contract.task.period
        if not self.periods:
            message = "no ticks: is the clock running?" if active else "inactive"
            return status("policy_runner: loop period", WARN if active else OK, message, wanted_s=wanted)
        mean, longest = float(np.mean(self.periods)), max(self.periods)
        level, message = (WARN, "late ticks") if longest > LATE * wanted else (OK, "on time")
        return status("policy_runner: loop period", level, message, wanted_s=wanted, mean_s=mean, longest_s=longest)

    def _reward(self, pilot: Pilot) -> DiagnosticStatus:
        if self.score is None:
            return status("policy_runner: reward", OK, "nothing scored yet")
        threshold = pilot.controller.likeness_threshold
        unlike = self.score.likeness < threshold
        level, message = (WARN, "unlike the demonstrations") if unlike else (OK, "like the demonstrations")
        values = {k: v for k, v in self.score._asdict().items() if v is not None}
        return status("policy_runner: reward", level, message, **values, likeness_threshold=threshold)


def model_status(level: bytes, message: str, **values: str) -> DiagnosticStatus:
    """The line about the checkpoint; the only one while there is none."""
    return status("policy_runner: model", level, message, **values)


def _counts(counter: Counter[str]) -> dict[str, int]:
    return dict(counter)
