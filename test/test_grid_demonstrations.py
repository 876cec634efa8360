"""Demonstrations on the arm's grid as cells, what is refused, and what tabular methods make of them."""

from __future__ import annotations

import dataclasses
import warnings
from functools import cache
from types import ModuleType

import expert_demonstrations
import numpy as np
import pytest

from irl_ros.contract import GRID_MOVES, Contract
from irl_ros.data.episode import Demonstrations, Episode, EpisodeError
from irl_ros.learning import max_margin, maxent
from irl_ros.learning.grid import cells_of, features_of, mdp_of, nearest_path, policy_arrays, tabular_demonstrations
from irl_ros.learning.tabular import TabularResult
from irl_ros.models.tables import LOG_POLICY, TablePolicy

CONTRACT = Contract.load("panda", "reach_grid")
GRID, HORIZON = CONTRACT.task.grid, CONTRACT.task.horizon
ROBOTS = ("panda", "iiwa")


@cache
def demonstrations(robot: str) -> Demonstrations:
    return expert_demonstrations.demonstrations(Contract.load(robot, "reach_grid"), count=20)


@pytest.mark.parametrize("robot", ROBOTS)
def test_the_expert_succeeds_and_its_demonstrations_differ(robot: str):
    episodes = demonstrations(robot)
    assert np.mean([e.success for e in episodes]) >= 0.95
    assert len({e.actions.tobytes() for e in episodes}) == len(episodes)


@pytest.mark.parametrize("robot", ROBOTS)
def test_demonstrations_become_cells_that_the_mdp_allows(robot: str):
    shown = demonstrations(robot)
    cells = tabular_demonstrations(shown)
    cells.check(mdp_of(shown.contract))
    positions = np.stack([shown.contract.field(e.observations, "end_effector_position") for e in shown])
    assert np.mean(shown.contract.task.grid.state(positions) == cells.states) > 0.98
    assert (cells.states[:, -1] == GRID.goal_state).mean() >= 0.95


def walk(path: list[int], offset: float = 0.0, name: str = "walk") -> Episode:
    """An episode with the end effector at the centres of these cells, `offset` [m] beside them."""
    observations = np.zeros((len(path), CONTRACT.observation_size))
    observations[:, CONTRACT.slices["end_effector_position"]] = GRID.centres[path] + [offset, offset, 0]
    return Episode(name, observations, np.zeros((len(path) - 1, 3)))


def late(episode: Episode, tick: int, cells: float) -> Episode:
    """The end effector `cells` cells behind, along y, at one tick."""
    observations = episode.observations.copy()
    observations[tick, CONTRACT.slices["end_effector_position"]] -= [0, cells * GRID.cell, 0]
    return Episode(episode.name, observations, episode.actions)


def test_cells_and_moves_of_a_walk():
    path = [16, 17, 18, 33, 33, 34, 19, 18]
    states, moves, behind = cells_of(walk(path, 0.01), CONTRACT)
    assert states.tolist() == path and not len(behind)
    assert [list(GRID_MOVES)[m] for m in moves] == ["+y", "+y", "+x", "stay", "+y", "-x", "-y"]


def test_one_late_command_does_not_lose_a_demonstration_and_is_warned_of():
    path = [0, 1, 2, 3, 4, 5]
    prompt, behind = walk(path, name="prompt"), late(walk(path, name="behind"), 3, 1.1)
    with pytest.warns(UserWarning, match=r"in 1 of 10 control periods the arm was a cell behind.*\(behind at tick 3\)"):
        cells = tabular_demonstrations(Demonstrations(CONTRACT, (prompt, behind)))
    np.testing.assert_array_equal(cells.states[:, :6], [path, path])


def test_half_a_cell_behind_is_rounding():
    path = [0, 1, 2, 3, 4, 5]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cells = tabular_demonstrations(Demonstrations(CONTRACT, (late(walk(path), 3, 0.6),)))
    assert cells.states[0, :6].tolist() == path


def test_the_nearest_path_is_the_best_of_all_paths():
    """Against enumeration on random costs over a small graph."""
    rng = np.random.default_rng(7)
    next_state = np.array([[0, 1], [1, 2], [2, 0], [3, 1]])
    for _ in range(20):
        cost = rng.random((5, 4))
        best = min(
            (sum(cost[t, s] for t, s in enumerate(path)), path)
            for start in range(4)
            for path in paths_from([start], next_state, 5)
        )
        states, moves = nearest_path(next_state, cost)
        assert tuple(states) == tuple(best[1])
        assert all(next_state[s, m] == s2 for s, m, s2 in zip(states, moves, states[1:]))


def paths_from(path: list[int], next_state: np.ndarray, length: int) -> list[list[int]]:
    if len(path) == length:
        return [path]
    return [p for s in next_state[path[-1]] for p in paths_from([*path, int(s)], next_state, length)]


@pytest.mark.parametrize(
    "episode, message",
    [
        (walk([0, 1, 6, 7]), r"episode walk: jumped from cell \(0, 1\) at tick 1 to cell \(0, 6\) at the next"),
        (walk([0, 1, 62, 63]), r"episode walk: jumped from cell \(0, 1\) at tick 1 to cell \(4, 2\) at the next"),
        (walk([0, 1, 2, 4, 5, 6, 7]), r"episode walk: jumped from cell \(0, 2\) at tick 2 to cell \(0, 4\)"),
        (walk([0, 16, 32, 48, 64]), r"episode walk: jumped from cell \((\d), \1\) at tick \1 to cell"),
        (late(late(walk([0, 1, 2, 3, 4, 5]), 2, 1.1), 3, 1.1), r"episode walk: jumped from .* at tick 3"),
        (walk([0, 1, 2], -0.05), "episode walk: left the grid at tick 0"),
        (walk([89, 104], 0.05), "episode walk: left the grid at tick 0"),
        (walk([36, 35, 34]), "episode walk: starts inside the keep-out region"),
    ],
)
def test_a_demonstration_that_leaves_the_state_space_is_refused_by_name(episode: Episode, message: str):
    with pytest.raises(EpisodeError, match=message):
        tabular_demonstrations(Demonstrations(CONTRACT, (walk([0, 1, 2], name="good"), episode)))


def test_a_demonstration_that_leaves_the_plane_is_refused():
    episode = walk([0, 1, 2])
    lifted = episode.observations.copy()
    lifted[1, CONTRACT.slices["end_effector_position"]] += [0, 0, 0.1]
    with pytest.raises(EpisodeError, match="left the grid's plane at tick 1"):
        tabular_demonstrations(Demonstrations(CONTRACT, (Episode("high", lifted, episode.actions),)))


def test_a_short_demonstration_rests_where_it_ended():
    cells = tabular_demonstrations(Demonstrations(CONTRACT, (walk([0, 1, 2]),)))
    assert cells.states.shape == (1, HORIZON + 1) and (cells.states[0, 2:] == 2).all()
    assert not cells.actions[0, 2:].any()


def test_features_of_goal_zone_and_cells():
    features = features_of(CONTRACT)
    assert features.shape == (GRID.n_states, GRID.n_actions, 4)
    following = GRID.next_state
    np.testing.assert_array_equal(features[..., 1], following == GRID.goal_state)
    np.testing.assert_array_equal(features[..., 2], GRID.keep_out_cells[following])
    np.testing.assert_array_equal(features[..., 3], np.tile(np.arange(GRID.n_actions) > 0, (GRID.n_states, 1)))
    assert features[..., 0].max() == 1.0 and (features[..., 0] == 0).sum() == (following == GRID.goal_state).sum()
    task = dataclasses.replace(CONTRACT.task, grid=dataclasses.replace(GRID, features="cells"))
    one_hot = features_of(Contract(CONTRACT.robot, task))
    np.testing.assert_array_equal(one_hot.argmax(-1), following)
    np.testing.assert_array_equal(one_hot.sum(-1), 1.0)


@pytest.mark.parametrize("soft", [True, False])
def test_the_policy_of_the_true_reward_finds_the_goal_from_everywhere(soft: bool):
    reward = 3.0 * GRID.task_reward[GRID.next_state] * np.where(GRID.keep_out_cells, 5, 1)[GRID.next_state]
    arrays = policy_arrays(TabularResult(reward, np.zeros((HORIZON, *reward.shape))), mdp_of(CONTRACT), soft)
    greedy = TablePolicy.from_arrays(arrays, CONTRACT).greedy
    np.testing.assert_allclose(np.exp(arrays[LOG_POLICY]).sum(axis=1), 1.0)
    assert all(arrives(greedy, state) for state in np.flatnonzero(~GRID.keep_out_cells))


def arrives(greedy: np.ndarray, state: int) -> bool:
    """Whether the moves (n_states,) lead from a cell to the goal within the horizon and around the region."""
    path = [int(state)]
    for _ in range(HORIZON):
        path.append(int(GRID.next_state[path[-1], greedy[path[-1]]]))
    return path[-1] == GRID.goal_state and not GRID.keep_out_cells[path].any()


@pytest.mark.parametrize("first", [0, 5, 10])
@pytest.mark.parametrize("method", [maxent, max_margin])
def test_five_demonstrations_are_enough_from_every_start(method: ModuleType, first: int):
    """Also from where none of the five began, nor was tempted to cut through the region."""
    shown = demonstrations("panda").episodes[first : first + 5]
    cells, mdp = tabular_demonstrations(Demonstrations(CONTRACT, shown)), mdp_of(CONTRACT)
    assert len(np.unique(cells.states[:, 0])) <= 5 < len(GRID.start_states)
    result = method.learn(mdp, features_of(CONTRACT), cells)
    greedy = TablePolicy.from_arrays(policy_arrays(result, mdp, soft=method is maxent), CONTRACT).greedy
    assert all(arrives(greedy, state) for state in GRID.start_states)
