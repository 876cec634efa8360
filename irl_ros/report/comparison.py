"""Several runs on one page: success of each, and learning curves with the seeds of a method as bands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from irl_ros.checkpoint import Checkpoint, CheckpointError
from irl_ros.report import figures
from irl_ros.report.exhibition import Section, missing, picture, table
from irl_ros.report.run import SCORES, Proportion, RunError, flat, proportion, read_facts, read_metrics

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000", "#F0E442")
"""Okabe and Ito's, for one method after the other."""
SAID_ELSEWHERE = ("method", "seed", "workers", "rollout_backend", "ray_address", "device", "checkpoint_every")
"""Options that a run's name has already, or that change nothing."""
POINTS = 200
"""Along a band."""


class Member(NamedTuple):
    """A run: its directory, what ``summary.json`` and the like say, one mapping per iteration, and by what its options
    differ from those of the others, in words."""

    path: Path
    facts: Mapping[str, Any]
    metrics: Sequence[Mapping[str, float]]
    variant: str = ""

    @property
    def kind(self) -> str:
        """What runs that differ by their seed alone share."""
        robot = self.facts.get("robot")
        plain = f"{self.facts.get('method', '?')}: {self.facts.get('task', '?')}" + (f" on {robot}" if robot else "")
        return f"{plain}, {self.variant}" if self.variant else plain

    @property
    def name(self) -> str:
        return f"{self.kind}, seed {self.facts.get('seed', '?')}"


class Band(NamedTuple):
    """Values of one figure over environment steps (k,): median, lowest and highest of the seeds, each (k,)."""

    steps: np.ndarray
    median: np.ndarray
    low: np.ndarray
    high: np.ndarray


def read_members(runs: Sequence[Path]) -> list[Member]:
    """Raises RunError for a directory without figures of a training, or with a damaged file."""
    members = [Member(run, read_facts(run), read_metrics(run)) for run in runs]
    for member in members:
        if "method" not in member.facts:
            raise RunError(f"{member.path} holds no run: there is neither summary.json nor training/result.json in it")
    return [m._replace(variant=words) for m, words in zip(members, _differences([_options(run) for run in runs]))]


def _options(run: Path) -> dict[str, Any]:
    """What a run was trained with, option by option; empty where its checkpoint is missing or damaged."""
    try:
        checkpoint = Checkpoint.load(run / "checkpoint")
    except CheckpointError:
        return {}
    said = flat(checkpoint.provenance.get("config", {}))
    options = {name: value for name, value in said if name not in SAID_ELSEWHERE}
    return {**options, "reward_features": list(checkpoint.contract.task.reward_features)}


def _differences(options: Sequence[Mapping[str, Any]]) -> list[str]:
    """Of each run the options in which those that say theirs are not all the same."""
    known = [o for o in options if o]
    names = dict.fromkeys(name for o in known for name in o)
    differ = [name for name in names if any(o.get(name) != known[0].get(name) for o in known)]
    return [", ".join(f"{name} {_value(o[name])}" for name in differ if name in o) for o in options]


def _value(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else "+".join(map(str, value)) if isinstance(value, list) else str(value)


def compare(runs: Sequence[Path], pictures: Path) -> tuple[str, list[Section]]:
    """Title and sections of a page about `runs`; its pictures are saved in `pictures` too."""
    members = read_members(runs)
    kinds: dict[str, list[Member]] = {}
    for member in members:
        kinds.setdefault(member.kind, []).append(member)
    title = f"{len(members)} runs: " + ", ".join(f"{kind} ({len(some)})" for kind, some in kinds.items())
    return title, [_success(members, pictures), _curves(kinds, pictures), _table(members)]


def _success(members: Sequence[Member], pictures: Path) -> Section:
    scores = [score for member in members if (score := _score(member)) is not None]
    if not scores:
        return Section("success", "Success", missing("None of these runs has counted successes."))
    caption = "The learned policy in simulation, each run by itself; bars: 95 % Wilson intervals."
    return Section("success", "Success", picture(pictures, "success", figures.success_bars(scores), caption))


def _score(member: Member) -> Proportion | None:
    return proportion(member.name, *map(member.facts.get, SCORES["learned policy, simulated"]))


def _curves(kinds: Mapping[str, Sequence[Member]], pictures: Path) -> Section:
    figure = bands({kind: [member.metrics for member in some] for kind, some in kinds.items()})
    if figure is None:
        return Section("curves", "Learning curves", missing("None of these runs has a training/metrics.jsonl."))
    caption = "Median over the seeds, as far as the shortest run goes; the band reaches from the lowest to the highest."
    return Section("curves", "Learning curves", picture(pictures, "learning", figure, caption))


def _table(members: Sequence[Member]) -> Section:
    keys = ("demonstrations", "environment_steps", "behaviour_cloning_success", "policy_success", "training_wall_s")
    head = ("run", "directory", *(key.replace("_", " ").replace(" wall s", " [s]") for key in keys))
    rows = [(m.name, str(m.path), *(_cell(m.facts.get(key)) for key in keys)) for m in members]
    again = f"<p>The same page again:</p><pre>irl_ros report {escape(' '.join(str(m.path) for m in members))}</pre>"
    return Section("runs", "Runs", table(rows, head) + again)


def _cell(value: Any) -> Any:
    return "–" if value is None else value


def bands(kinds: Mapping[str, Sequence[Sequence[Mapping[str, float]]]]) -> Figure | None:
    """Panels of learning curves that some run has values for, a band for each kind of run; None without any."""
    shown = []
    for curve in figures.CURVES:
        found = {kind: band for kind, some in kinds.items() if (band := band_of(some, next(iter(curve.metrics)))) is not None}
        if found:
            shown.append((curve, found))
    if not shown:
        return None
    figure, axes_of = figures.panels(len(shown))
    for axes, (curve, found) in zip(axes_of, shown):
        for k, (kind, band) in enumerate(found.items()):
            colour = COLOURS[list(kinds).index(kind) % len(COLOURS)]
            axes.fill_between(band.steps, band.low, band.high, color=colour, alpha=0.25, lw=0)
            axes.plot(band.steps, band.median, color=colour, lw=1.8, label=f"{kind} ({len(kinds[kind])})")
        axes.legend(fontsize=7)
        figures.label(axes, curve)
    return figure


def band_of(runs: Sequence[Sequence[Mapping[str, float]]], metric: str) -> Band | None:
    """Of the metric with that last part of its name, over the runs that have it; None where none does."""
    series = [found for run in runs if (found := figures.series(run, metric)) is not None]
    if not series:
        return None
    first, last = max(steps[0] for steps, _ in series), min(steps[-1] for steps, _ in series)
    steps = np.linspace(first, last, POINTS)
    values = np.array([np.interp(steps, *points) for points in series])
    return Band(steps, np.median(values, 0), values.min(0), values.max(0))
