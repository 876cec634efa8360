"""The learned reward of a grid, drawn cell by cell beside the task's own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from irl_ros.contract import Grid
from irl_ros.report.figures import DEMONSTRATION, DPI, GOAL


def reward_maps(grid: Grid, learned: np.ndarray, moves: np.ndarray, tracks: Sequence[np.ndarray]) -> Figure:
    """Learned reward (n_states,) with demonstrations (T+1, 3) [m]; the task's own with the policy's moves (n_states,).

    Keep-out is hatched, the goal a star.
    """
    beside = grid.shape[1] < 1.5 * grid.shape[0]
    figure = Figure(figsize=(9.0, 4.0) if beside else (6.6, 6.2), dpi=DPI, layout="constrained")
    first, second = figure.subplots(1, 2) if beside else figure.subplots(2, 1)
    _map(first, grid, learned, "learned reward, and the demonstrations")
    for track in tracks:
        first.plot(track[:, 1], track[:, 0], color=DEMONSTRATION, lw=1.4)
    _map(second, grid, grid.task_reward, "true reward, and the learned policy")
    _arrows(second, grid, moves)
    return figure


def agreement(grid: Grid, learned: np.ndarray) -> float:
    """Rank correlation of learned and true reward over the cells; equal values share their mean rank."""
    ranks = [_ranks(values) for values in (learned, grid.task_reward)]
    return float(np.corrcoef(ranks)[0, 1]) if all(np.ptp(r) > 0 for r in ranks) else 0.0


def _ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def _map(axes: Axes, grid: Grid, values: np.ndarray, title: str) -> None:
    (x, y), (nx, ny), cell = grid.origin, grid.shape, grid.cell
    extent = (y, y + ny * cell, x, x + nx * cell)
    image = axes.imshow(values.reshape(grid.shape), origin="lower", extent=extent, cmap="cividis")
    (i, j), (k, m) = grid.keep_out
    corner, width, height = (y + j * cell, x + i * cell), (m - j + 1) * cell, (k - i + 1) * cell
    axes.add_patch(Rectangle(corner, width, height, fill=False, hatch="///", edgecolor="white", lw=1.2))
    goal = grid.centres[grid.goal_state]
    axes.plot(goal[1], goal[0], marker="*", ms=13, color=GOAL, mec="white", ls="")
    axes.set_title(title, fontsize=10)
    axes.set(xlabel="y [m]", ylabel="x [m]", aspect="equal")
    axes.figure.colorbar(image, ax=axes, label="reward", shrink=0.9)


def _arrows(axes: Axes, grid: Grid, moves: np.ndarray) -> None:
    """The move that the policy makes in each cell."""
    start = grid.centres
    step = 0.7 * (grid.centres[grid.next_state[np.arange(grid.n_states), moves]] - start)
    axes.quiver(
        start[:, 1], start[:, 0], step[:, 1], step[:, 0], color="white", angles="xy", scale_units="xy", scale=1, pivot="mid"
    )
