"""The pictures of a report, drawn from arrays. Colours are Okabe and Ito's: they differ for colour-blind eyes too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from irl_ros.models.slices import Slice
from irl_ros.report.run import Proportion

DEMONSTRATION, POLICY, GOAL = "#E69F00", "#0072B2", "#009E73"
GROUPS = {
    "demonstrations": DEMONSTRATION,
    "policy rollouts": POLICY,
    "success": POLICY,
    "failure": "#D55E00",
    "not labelled": DEMONSTRATION,
}
"""Colours of what paths and curves are grouped by."""
DPI = 110
_WIDTH = 9.0  # [in]


class Curve(NamedTuple):
    """One panel of the learning curves: metric names (last parts) with their legends, axis label, scale."""

    title: str
    metrics: Mapping[str, str]
    label: str
    log: bool = False


CURVES = (
    Curve("reward gap", {"reward_gap": ""}, "learned return,\ndemonstrations − rollouts"),
    Curve("value explained", {"value_explained": ""}, "fraction of variance"),
    Curve(
        "effective sample size",
        {"effective_sample_size": "at β = 1", "tempered_effective_sample_size": "tempered"},
        "trajectories",
        log=True,
    ),
    Curve("β of the tempered weights", {"beta": ""}, "exponent", log=True),
    Curve("KL of a policy step", {"kl": ""}, "nats"),
    Curve("policy entropy", {"entropy": ""}, "nats"),
)


def success_bars(rows: Sequence[Proportion]) -> Figure:
    """Success rates with their confidence intervals."""
    figure = _figure(0.6 + 0.42 * len(rows), width=6.5)
    axes = figure.subplots()
    for k, row in enumerate(rows):
        around = np.array([[row.rate - row.low], [row.high - row.rate]])
        axes.errorbar(100 * row.rate, k, xerr=100 * around, fmt="o", color=POLICY, capsize=4)
    axes.set_yticks(range(len(rows)), [row.name for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(-2, 102)
    axes.set_xlabel("success [%], bars: 95 % confidence")
    axes.grid(axis="x", alpha=0.3)
    return figure


def film_strip(pictures: Sequence[np.ndarray], titles: Sequence[str]) -> Figure:
    """Pictures (H, W, 3) side by side."""
    height, width = pictures[0].shape[:2]
    figure = _figure(_WIDTH / len(pictures) * height / width + 0.4)
    row = figure.subplots(1, len(pictures), squeeze=False)[0]
    for axes, picture, title in zip(row, pictures, titles):
        axes.imshow(picture)
        axes.set_title(title, fontsize=9)
        axes.axis("off")
    return figure


def paths(
    groups: Mapping[str, Sequence[np.ndarray]],
    goals: Mapping[str, Sequence[np.ndarray]],
    named: Mapping[str, Sequence[str]] = {},
) -> Figure:
    """End effector paths (T+1, 3) [m] of each group in a panel of its own, with their goals (3,) and, where there are
    any, names; equal axes."""
    figure = _figure(4.6)
    every = np.concatenate([p.reshape(-1, 3) for some in (*groups.values(), *goals.values()) for p in some])
    middle, half = (every.max(0) + every.min(0)) / 2, 0.55 * np.ptp(every, axis=0).max()
    for k, (name, group) in enumerate(groups.items()):
        axes = figure.add_subplot(1, len(groups), k + 1, projection="3d")
        for path in group:
            axes.plot(*path.T, color=GROUPS[name], lw=1.4)
            axes.plot(*path[0], marker="o", ms=3, color="black", ls="")
        for goal in goals[name]:
            axes.plot(*goal, marker="*", ms=9, color=GOAL, ls="")
        for path, word in zip(group, named.get(name, ())):
            axes.text(*path[-1], f" {word}", fontsize=7)
        axes.set(title=f"{name} ({len(group)})", xlabel="x [m]", ylabel="y [m]", zlabel="z [m]")
        axes.set(**{f"{d}lim": (m - half, m + half) for d, m in zip("xyz", middle)})
        axes.locator_params(nbins=5)
        axes.tick_params(labelsize=7)
        axes.set_box_aspect((1, 1, 1), zoom=0.86 if len(groups) < 3 else 0.76)  # the labels need room
    marks = [("start", "o", "black"), *([("goal", "*", GOAL)] if any(len(g) for g in goals.values()) else [])]
    handles = [figure.axes[0].plot([], [], [], marker=m, color=c, ls="", label=n)[0] for n, m, c in marks]
    figure.legend(handles=handles, loc="lower center", ncols=2, frameon=False)
    return figure


def reward_slices(learned: Sequence[Slice], tracks: Sequence[np.ndarray], beside: str) -> Figure:
    """The learned reward over each slice beside minus the distance to the goal, which is titled `beside`.

    tracks (T+1, 3) [m]: thing minus goal of demonstrations, drawn over the learned reward: off them it is
    guessed.
    """
    figure = _figure(3.4 * len(learned))
    grid = figure.subplots(len(learned), 2, squeeze=False)
    for (left, right), slice_ in zip(grid, learned):
        distance = np.hypot(*np.meshgrid(slice_.offsets, slice_.offsets))
        _heat(left, slice_, slice_.rewards, "learned reward", "reward")
        _heat(right, slice_, -distance, beside, "m")
        columns = ["xyz".index(name) for name in slice_.axes]
        for k, track in enumerate(tracks):
            left.plot(*track[:, columns].T, color="white", lw=0.9, label="" if k else "demonstrations, projected")
        if len(tracks):
            left.legend(loc="upper right", fontsize=7, facecolor="0.35", labelcolor="white", framealpha=0.8)
    return figure


def _heat(axes: Axes, slice_: Slice, values: np.ndarray, title: str, unit: str) -> None:
    image = axes.contourf(slice_.offsets, slice_.offsets, values, levels=24, cmap="cividis")
    axes.plot(0, 0, marker="*", ms=12, color=GOAL, mec="white", ls="")
    first, second = slice_.axes
    axes.set_title(title, fontsize=10)
    axes.set(xlabel=f"{slice_.thing} − goal: {first} [m]", ylabel=f"{second} [m]", aspect="equal")
    ends = slice_.offsets[[0, -1]]
    axes.set(xlim=ends, ylim=ends)
    axes.figure.colorbar(image, ax=axes, label=unit, shrink=0.9)


def over_time(
    panels: Mapping[str, Mapping[str, Sequence[np.ndarray]]], period: float, time_label: str
) -> Figure:
    """One panel per axis label; in it each group's series (T,) over time, thin, and their median, thick."""
    figure = _figure(3.2)
    row = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (label, groups) in zip(row, panels.items()):
        for name, series in groups.items():
            for values in series:
                axes.plot(period * np.arange(len(values)), values, color=GROUPS[name], lw=0.6, alpha=0.45)
            shortest = min(map(len, series))
            median = np.median([values[:shortest] for values in series], axis=0)
            axes.plot(period * np.arange(shortest), median, color=GROUPS[name], lw=2.4, label=f"{name}: median")
        axes.set(xlabel=time_label, ylabel=label)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    return figure


def learning_curves(metrics: Sequence[Mapping[str, float]], kl_bound: float | None) -> Figure | None:
    """Panels of :data:`CURVES` that `metrics`, one mapping per iteration, has values for; None without any."""
    shown = [(curve, lines) for curve in CURVES if (lines := _series(metrics, curve))]
    if not shown:
        return None
    figure, axes_of = panels(len(shown))
    for axes, (curve, lines) in zip(axes_of, shown):
        for k, (legend, x, y) in enumerate(lines):
            axes.plot(x, y, color=(POLICY, DEMONSTRATION)[k], marker=".", ms=4, lw=1.4, label=legend)
        if curve.title.startswith("KL") and kl_bound is not None:
            axes.axhline(kl_bound, color="black", ls=":", lw=1, label="bound")
        label(axes, curve)
        if any(axes.get_legend_handles_labels()[1]):
            axes.legend(fontsize=8)
    return figure


def panels(count: int) -> tuple[Figure, Sequence[Axes]]:
    """A figure with so many panels, three in a row."""
    rows = -(-count // 3)
    figure = _figure(2.5 * rows)
    axes = figure.subplots(rows, 3, squeeze=False).ravel()
    for unused in axes[count:]:
        unused.axis("off")
    return figure, axes[:count]


def label(axes: Axes, curve: Curve) -> None:
    """Title, axes and scale of a curve's panel."""
    axes.set_yscale("log" if curve.log else "linear")
    axes.set_title(curve.title, fontsize=10)
    axes.set(xlabel="environment steps", ylabel=curve.label)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)


def _series(metrics: Sequence[Mapping[str, float]], curve: Curve) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """(legend, environment steps (k,), values (k,)) of the curve's metrics."""
    lines = {legend: series(metrics, name) for name, legend in curve.metrics.items()}
    return [(legend, *found) for legend, found in lines.items() if found is not None]


def series(metrics: Sequence[Mapping[str, float]], name: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Environment steps (k,) and values (k,) of a metric by the last part of its name, whichever method's prefix it has."""
    points = [
        (line.get("environment_steps", line.get("iteration", k)), line[key])
        for k, line in enumerate(metrics)
        if (key := next((key for key in line if key.rpartition("/")[2] == name), None)) is not None
    ]
    return tuple(np.array(points, dtype=float).T) if points else None


def _figure(height: float, width: float = _WIDTH) -> Figure:
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    figure.get_layout_engine().set(h_pad=0.08, w_pad=0.06)
    return figure
