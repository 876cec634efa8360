"""What policy_runner tells on /diagnostics: counts kept over one activation, made into status lines."""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from dataclasses import dataclass, field

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus

from irl_ros.control.gate import Command, GateState
from irl_ros.control.pilot import Pilot, Score
from irl_ros.nodes.diagnostics import ERROR, OK, WARN, status

LATE = 1.5  # periods between two ticks that are worth a warning


@dataclass
class Monitor:
    """Filled by the node while it runs; `statuses` reads it."""

    score: Score | None = None
    percentile: float | None = None
    """Of the episode's return among the demonstrations."""
    limited: Counter[str] = field(default_factory=Counter)
    """What was cut since enable, and how often."""
    commands: int = 0
    """Since enable."""
    rejected: Counter[str] = field(default_factory=Counter)
    periods: deque[float] = field(default_factory=lambda: deque(maxlen=200))
    """Node-clock seconds between ticks since the last report."""
    last_tick: float = math.nan
    reported: int = 0
    """Cuts that the last report knew of."""

    def ticked(self, now: float) -> float | None:
        """A tick at `now` [s of the node's clock]; returns the time since the one before, None at the first."""
        period = None if math.isnan(self.last_tick) else now - self.last_tick
        if period is not None:
            self.periods.append(period)
        self.last_tick = now
        return period

    def enabled(self) -> None:
        """Counts of commands start anew."""
        self.limited.clear()
        self.commands = self.reported = 0

    def commanded(self, command: Command) -> None:
        self.limited.update(command.limited)
        self.commands += 1

    @property
    def clip_ratio(self) -> float:
        """Share [0, 1] of the commands since enable whose action had to be cut to [-1, 1]."""
        return self.limited["action"] / self.commands if self.commands else 0.0

    def statuses(self, pilot: Pilot, active: bool) -> list[DiagnosticStatus]:
        """The lines about input, loop, commands and reward, and a new count of periods."""
        lines = [
            self._input_age(pilot, active),
            self._loop_period(pilot, active),
            self._command_limiting(pilot),
            self._reward(pilot),
        ]
        self.periods.clear()
        return lines

    def _input_age(self, pilot: Pilot, active: bool) -> DiagnosticStatus:
        now = time.monotonic()
        ages = pilot.inputs.ages(now)
        fault = pilot.inputs.fault(now) or pilot.gate.stale(ages)
        level = ERROR if fault and active else WARN if fault or self.rejected else OK
        message = fault or ("messages refused" if self.rejected else "fresh")
        return status("policy_runner: input age", level, message, **ages, **self.rejected)

    def _loop_period(self, pilot: Pilot, active: bool) -> DiagnosticStatus:
        wanted = pilot.controller.contract.task.period
        if not self.periods:
            message = "no ticks: is the clock running?" if active else "inactive"
            return status("policy_runner: loop period", WARN if active else OK, message, wanted_s=wanted)
        mean, longest = float(np.mean(self.periods)), max(self.periods)
        level, message = (WARN, "late ticks") if longest > LATE * wanted else (OK, "on time")
        return status("policy_runner: loop period", level, message, wanted_s=wanted, mean_s=mean, longest_s=longest)

    def _command_limiting(self, pilot: Pilot) -> DiagnosticStatus:
        """WARN when something was cut since the last report; the counts are those since enable."""
        cuts = self.limited.total()
        level, message = (WARN, "commands are cut to their limits") if cuts > self.reported else (OK, "within limits")
        self.reported = cuts
        values = {"commands": self.commands, "action_clip_ratio": self.clip_ratio, "speed": pilot.gate.speed}
        return status("policy_runner: command limiting", level, message, **values, **self.limited)

    def _reward(self, pilot: Pilot) -> DiagnosticStatus:
        if self.score is None:
            return status("policy_runner: reward", OK, "nothing scored yet")
        threshold = pilot.controller.likeness_threshold
        unlike = self.score.likeness < threshold
        level, message = (WARN, "unlike the demonstrations") if unlike else (OK, "like the demonstrations")
        scored = {**self.score._asdict(), "episode_return_percentile": self.percentile}
        values = {k: v for k, v in scored.items() if v is not None}
        return status("policy_runner: reward", level, message, **values, likeness_threshold=threshold)


def gate_status(pilot: Pilot, obstacle: str | None, dry: bool, **values: str) -> DiagnosticStatus:
    """The line about the gate; `obstacle` is what on the command topic keeps it from being enabled."""
    state, reason = pilot.gate.state, pilot.gate.reason
    level = ERROR if state is GateState.HALTED else WARN if obstacle else OK
    led = " by a human" if pilot.gate.armed and pilot.taken_over else ""
    message = f"{state.value}{led}{reason and ': '}{reason}{'; dry run, the robot gets no commands' if dry else ''}"
    return status("policy_runner: gate", level, message, **values, **({"blocked": obstacle} if obstacle else {}))


def model_status(level: bytes, message: str, **values: str) -> DiagnosticStatus:
    """The line about the checkpoint; the only one while there is none."""
    return status("policy_runner: model", level, message, **values)
