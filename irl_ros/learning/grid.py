"""Between an arm on a grid and the tabular methods: the grid as an MDP, demonstrations as cells, results as arrays.

A demonstration becomes the sequence of cells that lies nearest to its positions among all that single moves can
make. Where a command came a control period late the arm is a cell behind for one tick: that is smoothed, counted and
warned of. An arm that is farther away, or for longer, has jumped.

The learned policy π_t(a | s) depends on the time left; a checkpoint's does not, for an arm may be enabled at any time
and stays in charge. It is the first step of the policy that the learned reward gives over many horizons, where it no
longer depends on their number. Over a single one, far from the goal, the soft policy would rather stray about than set
out for a goal that it hardly reaches in time.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from irl_ros.contract import Contract, Grid
from irl_ros.data.episode import Demonstrations, Episode, EpisodeError
from irl_ros.learning.mdp import MDP
from irl_ros.learning.tabular import TabularDemonstrations, TabularResult, soft_backward, value_iteration
from irl_ros.models.tables import LOG_POLICY, REWARD, grid_of

OUTSIDE = 0.5
"""Cells beyond the border from which on a demonstration has left the grid."""
LATE, JUMP = 0.9, 1.5
"""Cells between a position and the nearest path of single moves. Beyond the first the arm is a cell behind, as after a
command that came a control period late; beyond the second, or late at two ticks in a row, it has jumped."""
LONG = 10
"""Horizons over which a checkpoint's policy plans."""


def mdp_of(contract: Contract) -> MDP:
    """The grid's known dynamics over the task's horizon; an episode may start in every cell outside keep-out."""
    grid = grid_of(contract)
    free = ~grid.keep_out_cells
    return MDP.from_next_state(grid.next_state, free / free.sum(), contract.task.horizon)


def features_of(contract: Contract) -> np.ndarray:
    """φ(s, a), shape (n_states, n_actions, d): the task's `grid.features` of the cell that the move leads to."""
    grid = grid_of(contract)
    if grid.features == "cells":
        return np.eye(grid.n_states)[grid.next_state]
    moves = np.broadcast_to(np.arange(grid.n_actions) > 0, grid.next_state.shape)
    return np.concatenate([_goal_and_zone(grid)[grid.next_state], moves[..., None]], axis=-1).astype(np.float64)


def _goal_and_zone(grid: Grid) -> np.ndarray:
    """Distance to the goal in units of the largest, whether at the goal, whether in keep-out, shape (n_states, 3)."""
    distance = np.linalg.norm(grid.centres - grid.centres[grid.goal_state], axis=1)
    at_goal = np.arange(grid.n_states) == grid.goal_state
    return np.column_stack([distance / distance.max(), at_goal, grid.keep_out_cells])


class Path(NamedTuple):
    """A demonstration as cells: states (T+1,), moves (T,), and the ticks at which the arm was a cell behind."""

    states: np.ndarray
    moves: np.ndarray
    late: np.ndarray


def tabular_demonstrations(demonstrations: Demonstrations) -> TabularDemonstrations:
    """Cells and moves of demonstrations, all of the task's horizon: one that ends earlier rests where it ended.

    Warns of those in which the arm came late. Raises EpisodeError for one that left the grid or jumped.
    """
    horizon, grid = demonstrations.contract.task.horizon, grid_of(demonstrations.contract)
    names = tuple(episode.name for episode in demonstrations)
    paths = [cells_of(episode, demonstrations.contract) for episode in demonstrations]
    for name, path in zip(names, paths):
        if grid.keep_out_cells[path.states[0]]:
            raise EpisodeError(f"episode {name}: starts inside the keep-out region; start outside of it")
    _warn_of_late(names, paths)
    states = np.stack([np.pad(path.states, (0, horizon), mode="edge")[: horizon + 1] for path in paths])
    actions = np.stack([np.pad(path.moves, (0, horizon))[:horizon] for path in paths])
    return TabularDemonstrations(states, actions, names)


def cells_of(episode: Episode, contract: Contract) -> Path:
    """The path of single moves nearest to where the end effector was at each tick; EpisodeError."""
    grid, positions = grid_of(contract), contract.field(episode.observations, "end_effector_position")
    _check_inside(episode, grid, positions)
    away = np.linalg.norm(positions[:, None, :2] - grid.centres[:, :2], axis=-1) / grid.cell
    states, moves = nearest_path(grid.next_state, away**2)
    residual = away[np.arange(len(states)), states]
    late = np.flatnonzero(residual > LATE)
    if residual.max() > JUMP or (np.diff(late) == 1).any():
        raise EpisodeError(f"episode {episode.name}: {_jump(grid, positions)}")
    return Path(states, moves, late)


def _jump(grid: Grid, positions: np.ndarray) -> str:
    """In words, the largest of the steps between positions (T+1, 3) [m]."""
    tick = int(np.linalg.norm(np.diff(positions[:, :2], axis=0), axis=1).argmax())
    before, after = (tuple(grid.cells[grid.state(p)].tolist()) for p in positions[tick : tick + 2])
    return (
        f"jumped from cell {before} at tick {tick} to cell {after} at the next: in a control period the end effector "
        f"may move one cell, {grid.cell:g} m along x or along y; demonstrate more slowly, or leave this one out"
    )


def _warn_of_late(names: Sequence[str], paths: Sequence[Path]) -> None:
    late = [f"{name} at tick {tick}" for name, path in zip(names, paths) for tick in path.late]
    if late:
        warnings.warn(
            f"in {len(late)} of {sum(len(path.moves) for path in paths)} control periods the arm was a cell behind and "
            f"then moved two at once ({', '.join(late)}); taken for commands that came late and read as single moves",
            stacklevel=3,
        )


def _check_inside(episode: Episode, grid: Grid, positions: np.ndarray) -> None:
    far = np.array(grid.origin) + np.array(grid.shape) * grid.cell
    beyond = np.maximum(grid.origin - positions[:, :2], positions[:, :2] - far).max(axis=1) / grid.cell
    off_plane = np.abs(positions[:, 2] - grid.height) / grid.cell
    for what, tick in (("grid", np.argmax(beyond > OUTSIDE)), ("grid's plane", np.argmax(off_plane > 1.0))):
        if (beyond if what == "grid" else off_plane)[tick] > (OUTSIDE if what == "grid" else 1.0):
            raise EpisodeError(
                f"episode {episode.name}: left the {what} at tick {tick}, at {np.round(positions[tick], 3)} m; it spans "
                f"{np.round(grid.origin, 3)} to {np.round(far, 3)} m at height {grid.height:g} m"
            )


def nearest_path(next_state: np.ndarray, cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of all paths that `next_state` (S, A) allows, the one with the least Σ_t cost[t, s_t]: states (T+1,), moves (T,).

    Dynamic programming; of moves that lead to the same cell at the same cost the first is taken (stay, at a wall).
    """
    n_states, n_actions = next_state.shape
    into, move = next_state.ravel(), np.tile(np.arange(n_actions), n_states)
    best, reached_by = cost[0], []
    for row in cost[1:]:
        total = np.repeat(best, n_actions)
        order = np.lexsort((-move, -total))  # what is written last stays
        by = np.zeros(n_states, dtype=int)
        by[into[order]] = order
        reached_by.append(by)
        best = total[by] + row
    states, moves = [int(best.argmin())], []
    for by in reversed(reached_by):
        state, action = divmod(int(by[states[-1]]), n_actions)
        states.append(state)
        moves.append(action)
    return np.array(states[::-1]), np.array(moves[::-1], dtype=int)


def policy_arrays(result: TabularResult, mdp: MDP, soft: bool) -> dict[str, np.ndarray]:
    """For a checkpoint: :class:`irl_ros.models.tables.TablePolicy`.

    `soft`: of maximum entropy, as :func:`soft_backward` has it; else optimal, where log π of the other moves is the
    least that a float holds.
    """
    far = dataclasses.replace(mdp, horizon=LONG * mdp.horizon)
    if soft:
        return {LOG_POLICY: soft_backward(far, result.reward)[1][0]}
    _, greedy = value_iteration(far, result.reward)
    chosen = np.eye(mdp.n_actions, dtype=bool)[greedy[0]]
    return {LOG_POLICY: np.where(chosen, 0.0, np.log(np.finfo(np.float64).tiny))}


def reward_arrays(result: TabularResult) -> dict[str, np.ndarray]:
    """For a checkpoint: :class:`irl_ros.models.tables.TableReward`, and the reward's own parameters."""
    return {REWARD: result.reward, **{f"parameters.{name}": np.asarray(a) for name, a in result.arrays.items()}}
