"""Policies and rewards as tables over cells: hand-made tables, the dispatch by arrays, the map that is published."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from irl_ros.checkpoint import Checkpoint, CheckpointError
from irl_ros.contract import GRID_MOVES, Contract, ContractError
from irl_ros.control.controller import Controller
from irl_ros.models.inference import policy_from_arrays, reward_from_arrays
from irl_ros.models.likeness import calibrate
from irl_ros.models.tables import LOG_POLICY, REWARD, TablePolicy, TableReward, reward_map

CONTRACT = Contract.load("panda", "reach_grid")
GRID = CONTRACT.task.grid
STEP = CONTRACT.task.max_step
MOVES = list(GRID_MOVES)


def at(position: np.ndarray) -> np.ndarray:
    """An observation with the end effector there."""
    observation = np.zeros(CONTRACT.observation_size)
    observation[CONTRACT.slices["end_effector_position"]] = position
    return observation


def random_policy(seed: int = 0) -> np.ndarray:
    return np.log(np.random.default_rng(seed).dirichlet(np.ones(GRID.n_actions), GRID.n_states))


def checkpoint(log_policy: np.ndarray, reward: np.ndarray | None = None) -> Checkpoint:
    rewards = {} if reward is None else {REWARD: reward}
    likeness = calibrate([GRID.centres[:20], GRID.centres[20:40]])
    urdf = CONTRACT.robot.urdf_path().read_text()
    return Checkpoint(CONTRACT, {LOG_POLICY: log_policy}, rewards, likeness, urdf, {"method": "handmade"})


def test_the_mean_is_the_way_to_the_centre_of_the_most_probable_next_cell():
    log_policy = random_policy()
    policy, offset = TablePolicy(CONTRACT, log_policy), np.array([0.006, -0.011, 0.004])
    assert np.array_equal(policy.greedy, log_policy.argmax(axis=1))
    for state in range(GRID.n_states):
        di, dj = GRID_MOVES[MOVES[log_policy[state].argmax()]]
        i, j = np.clip(GRID.cells[state] + [di, dj], 0, np.array(GRID.shape) - 1)
        centre = [GRID.origin[0] + (i + 0.5) * GRID.cell, GRID.origin[1] + (j + 0.5) * GRID.cell, GRID.height]
        there = GRID.centres[state] + offset
        expected = np.clip((centre - there) / STEP, -1, 1)
        np.testing.assert_allclose(policy.mean(at(there)), expected, atol=1e-12)


def test_outside_of_the_grid_the_nearest_cell_counts_and_the_step_is_bounded():
    stay = np.where(np.arange(GRID.n_actions) == 0, 0.0, -50.0) * np.ones((GRID.n_states, 1))
    policy = TablePolicy(CONTRACT, stay)
    corner = GRID.centres[-1]
    np.testing.assert_allclose(policy.mean(at(corner + [0.3, 0.0, -0.2])), [-1, 0, 1])
    assert GRID.state(corner + [9.0, 9.0, 0.0]) == GRID.n_states - 1
    assert GRID.state(GRID.centres[0] - [9.0, 9.0, 0.0]) == 0


def test_samples_follow_the_table_and_tell_their_log_probability():
    log_policy, state = random_policy(1), 37
    policy, rng, position = TablePolicy(CONTRACT, log_policy), np.random.default_rng(2), GRID.centres[37]
    ways = [(GRID.centres[s] - position) / STEP for s in GRID.next_state[state]]
    counts = np.zeros(GRID.n_actions)
    for _ in range(4000):
        action, log_prob = policy.sample(at(position), rng)
        (move,) = [k for k, way in enumerate(ways) if np.allclose(way, action)]
        assert log_prob == log_policy[state, move]
        counts[move] += 1
    np.testing.assert_allclose(counts / 4000, np.exp(log_policy[state]), atol=0.03)


def test_the_reward_is_that_of_the_cell_and_of_the_move_that_was_made():
    table = np.random.default_rng(3).normal(size=(GRID.n_states, GRID.n_actions))
    reward, rng = TableReward(CONTRACT, table), np.random.default_rng(4)
    inner = [s for s in range(GRID.n_states) if len(set(GRID.next_state[s])) == GRID.n_actions]
    for state in inner:
        for move, following in enumerate(GRID.next_state[state]):
            here = GRID.centres[state] + rng.uniform(-0.008, 0.008, 3)
            action = (GRID.centres[following] - here) / STEP
            assert reward(at(here), action, at(GRID.centres[following])) == table[state, move]


def test_the_map_is_the_mean_reward_of_the_moves_into_each_cell():
    table = np.random.default_rng(5).normal(size=(GRID.n_states, GRID.n_actions))
    expected = np.zeros(GRID.n_states)
    for cell in range(GRID.n_states):
        into = [table[s, a] for s in range(GRID.n_states) for a in range(GRID.n_actions) if GRID.next_state[s, a] == cell]
        expected[cell] = np.mean(into)
    np.testing.assert_allclose(reward_map(GRID, table), expected)
    of_the_next_cell = np.arange(float(GRID.n_states))[GRID.next_state]
    np.testing.assert_allclose(reward_map(GRID, of_the_next_cell), np.arange(GRID.n_states))


def test_arrays_choose_the_class_and_a_checkpoint_gives_the_same_actions(tmp_path: Path):
    table = np.random.default_rng(6).normal(size=(GRID.n_states, GRID.n_actions))
    checkpoint(random_policy(6), table).save(tmp_path)
    loaded = Checkpoint.load(tmp_path)
    assert isinstance(policy_from_arrays(loaded.policy_arrays, CONTRACT), TablePolicy)
    assert isinstance(reward_from_arrays(loaded.reward_arrays, CONTRACT), TableReward)
    controller, policy = Controller(loaded), TablePolicy(CONTRACT, random_policy(6))
    for state in range(GRID.n_states):
        assert np.array_equal(controller.act(at(GRID.centres[state])), policy.mean(at(GRID.centres[state])))
    np.testing.assert_array_equal(controller.reward_map, reward_map(GRID, table))
    assert Controller(checkpoint(random_policy(6))).reward_map is None


def test_tables_that_do_not_fit_are_refused():
    for table in (np.zeros((3, 5)), np.full((GRID.n_states, GRID.n_actions), np.nan)):
        with pytest.raises(CheckpointError, match="table.log_policy needs shape"):
            Controller(checkpoint(table))
    with pytest.raises(CheckpointError, match="table.reward needs shape"):
        Controller(checkpoint(random_policy(), np.zeros(4)))
    with pytest.raises(ContractError, match="task reach has no grid"):
        TablePolicy(Contract.load("panda", "reach"), random_policy())
    fields = tuple(f for f in CONTRACT.task.fields if f.name != "end_effector_position")
    blind = Contract(CONTRACT.robot, dataclasses.replace(CONTRACT.task, fields=fields))
    with pytest.raises(ContractError, match="needs end_effector_position in the observation"):
        TablePolicy(blind, random_policy())


def test_the_occupancy_grid_runs_along_x_first_from_0_to_100():
    from irl_ros.nodes.reward_map import occupancy_grid

    rewards = GRID.cells[:, 0] + 100.0 * GRID.cells[:, 1]  # x in units, y in hundreds
    message = occupancy_grid(GRID, rewards, "base")
    width, height = GRID.shape
    assert (message.info.width, message.info.height) == (width, height)
    assert message.header.frame_id == "base" and message.info.resolution == np.float32(GRID.cell)
    assert (message.info.origin.position.x, message.info.origin.position.y) == GRID.origin
    assert message.info.origin.position.z == GRID.height and message.info.origin.orientation.w == 1.0
    data = np.array(message.data).reshape(height, width)  # rows along y, as RViz reads them
    assert data[0, 0] == 0 and data[-1, -1] == 100
    expected = np.rint(100 * (np.arange(width) + 100.0 * np.arange(height)[:, None]) / rewards.max())
    np.testing.assert_array_equal(data, expected)
    assert set(occupancy_grid(GRID, np.ones(GRID.n_states), "base").data) == {50}
