"""Who watches a training: nobody, a progress bar, or the trainer node in another process."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Protocol

from tqdm import tqdm

from irl_ros.learning.diagnostics import Finding


class Observer(Protocol):
    """Who watches a training and may stop it."""

    def on_phase(self, name: str, total: int) -> None:
        """A phase with `total` steps begins: clone, learn, evaluate."""

    def on_progress(self, done: int, metrics: dict[str, float]) -> None:
        """`done` of the phase's steps are through; `metrics` are an iteration's, else empty."""

    def on_health(self, findings: Sequence[Finding], converged: bool) -> None:
        """After each iteration: everything that went wrong so far, and whether learning has converged."""

    def should_stop(self) -> bool:
        """True ends the training after this iteration, resumable; blocks while paused."""


class SilentObserver:
    """Watches nothing and never stops."""

    def on_phase(self, name: str, total: int) -> None: ...

    def on_progress(self, done: int, metrics: dict[str, float]) -> None: ...

    def on_health(self, findings: Sequence[Finding], converged: bool) -> None: ...

    def should_stop(self) -> bool:
        return False


class ProgressObserver(SilentObserver):
    """On stderr a progress bar per phase, and above it a line per iteration that says whether learning is healthy."""

    _SHOWN = {
        "reward gap": "health/reward_gap",
        "ESS": "weights/effective_sample_size",
        "β": "weights/beta",
        "KL": "policy/kl",
        "σ": "policy/std",
    }

    def __init__(self) -> None:
        self._bar: tqdm | None = None
        self._said: set[str] = set()
        self._figures: list[str] = []

    def on_phase(self, name: str, total: int) -> None:
        self.close()
        self._bar = tqdm(total=total, desc=name, file=sys.stderr, mininterval=1.0, dynamic_ncols=True)

    def on_progress(self, done: int, metrics: dict[str, float]) -> None:
        shown = {name: f"{metrics[key]:.3g}" for name, key in self._SHOWN.items() if key in metrics}
        self._figures = [f"{name} {value}" for name, value in shown.items()]
        if shown:
            self._bar.set_postfix(shown, refresh=False)  # all there is where nobody judges health, as in a transfer
        self._bar.update(done - self._bar.n)

    def on_health(self, findings: Sequence[Finding], converged: bool) -> None:
        """A line of the iteration's figures and its health, above the bar; each finding's whole sentence once."""
        now = [finding for finding in findings if finding.active]
        for finding in now:
            self._say(finding.name, f"{finding.level}: {finding.sentence}")
        if converged:
            self._say("converged", "note: learning has converged by the health figures")
        health = "converged" if converged else "healthy so far"
        if now:
            health = ", ".join(f"{finding.level}: {finding.name}" for finding in now)
        tqdm.write(" · ".join([f"iteration {self._bar.n} of {self._bar.total}", *self._figures, health]), file=sys.stderr)

    def _say(self, name: str, line: str) -> None:
        if name not in self._said:
            self._said.add(name)
            tqdm.write(line, file=sys.stderr)

    def close(self) -> None:
        """End the bar of the last phase."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
