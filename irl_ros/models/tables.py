"""Policies and rewards over the cells of a grid, as tables: what the tabular methods learn, at work on an arm.

The end effector's position says which cell it is in; an action is the way to the centre of the next cell, height
included, so that no error adds up. Arrays, shapes (n_states, n_actions): `table.log_policy`, `table.reward`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from irl_ros.contract import Contract, ContractError, Grid

Arrays = Mapping[str, np.ndarray]
LOG_POLICY, REWARD = "table.log_policy", "table.reward"


class TablePolicy:
    """π(move | cell). Acts as :class:`irl_ros.models.inference.Policy` does; its log π is the move's."""

    def __init__(self, contract: Contract, log_policy: np.ndarray):
        self._contract, self._grid = contract, grid_of(contract)
        self._log_policy = _table(self._grid, LOG_POLICY, log_policy)
        self._greedy = self._log_policy.argmax(axis=1)

    @classmethod
    def from_arrays(cls, arrays: Arrays, contract: Contract) -> TablePolicy:
        return cls(contract, arrays[LOG_POLICY])

    @property
    def greedy(self) -> np.ndarray:
        """The most probable move from each cell, shape (n_states,)."""
        return self._greedy

    def mean(self, observation: np.ndarray, step: int = 0) -> np.ndarray:
        """The most probable move from the cell of one observation (observation_size,), as an action, shape (3,)."""
        position = self._contract.field(observation, "end_effector_position")
        return self._towards(position, self._greedy[self._grid.state(position)])

    def sample(self, observation: np.ndarray, rng: np.random.Generator, step: int = 0) -> tuple[np.ndarray, float]:
        """A move drawn from the policy, as an action (3,), and its log-probability [nats]."""
        position = self._contract.field(observation, "end_effector_position")
        log_prob = self._log_policy[self._grid.state(position)]
        chances = np.exp(log_prob).cumsum()
        move = int(np.searchsorted(chances, rng.random() * chances[-1], side="right"))
        return self._towards(position, move), float(log_prob[move])

    def _towards(self, position: np.ndarray, move: int) -> np.ndarray:
        return towards(self._contract, position, self._grid.next_state[self._grid.state(position), move])


class TableReward:
    """r(cell, move), as :class:`irl_ros.models.inference.Reward` gives it for observations and actions."""

    def __init__(self, contract: Contract, reward: np.ndarray):
        self._contract, self._grid = contract, grid_of(contract)
        self._reward = _table(self._grid, REWARD, reward)

    @classmethod
    def from_arrays(cls, arrays: Arrays, contract: Contract) -> TableReward:
        return cls(contract, arrays[REWARD])

    def __call__(self, observation: np.ndarray, action: np.ndarray, next_observation: np.ndarray) -> float:
        position = self._contract.field(observation, "end_effector_position")
        return float(self._reward[self._grid.state(position), self._move(position, action)])

    def _move(self, position: np.ndarray, action: np.ndarray) -> int:
        """The move whose cell is nearest to where the action was going."""
        goal = position + np.clip(action, -1.0, 1.0) * self._contract.max_step
        reachable = self._grid.centres[self._grid.next_state[self._grid.state(position)]]
        return int(np.square(reachable - goal).sum(axis=1).argmin())

    @property
    def map(self) -> np.ndarray:
        """Mean reward of the moves that end in each cell, shape (n_states,)."""
        return reward_map(self._grid, self._reward)


def reward_map(grid: Grid, reward: np.ndarray) -> np.ndarray:
    """Mean of rewards (n_states, n_actions) over the moves that end in each cell, shape (n_states,)."""
    into = grid.next_state.ravel()
    return np.bincount(into, reward.ravel(), grid.n_states) / np.bincount(into, minlength=grid.n_states)


def towards(contract: Contract, position: np.ndarray, state: int) -> np.ndarray:
    """Action (3,) from an end effector position [m] to the centre of a cell, as far as one period allows."""
    return np.clip((grid_of(contract).centres[state] - position) / contract.max_step, -1.0, 1.0)


def grid_of(contract: Contract) -> Grid:
    """The task's grid; ContractError where it has none, or where observations do not say which cell they are in."""
    if contract.task.grid is None:
        raise ContractError(f"task {contract.task.name} has no grid of cells: tables need one, such as reach_grid's")
    if "end_effector_position" not in contract.slices:
        raise ContractError(f"task {contract.task.name}: its grid needs end_effector_position in the observation")
    return contract.task.grid


def _table(grid: Grid, name: str, values: np.ndarray) -> np.ndarray:
    table = np.asarray(values, np.float64)
    if table.shape != (grid.n_states, grid.n_actions) or np.isnan(table).any():
        raise ValueError(f"{name} needs shape {(grid.n_states, grid.n_actions)} and no NaN; it has {table.shape}")
    return table
