"""Finite Markov decision processes with sparse dynamics. numpy and scipy alone, float64."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

SUM_TOLERANCE = 1e-9


class TabularError(ValueError):
    """An MDP, a reward table or a demonstration that does not fit; the message says what and where."""


@dataclass(frozen=True, eq=False)
class MDP:
    """Known dynamics over S states and A actions. Checked at construction, read-only afterwards.

    transition: sparse (S·A, S), P(s' | s, a) in row s·A + a. initial: (S,), the start's probabilities. horizon: T
    actions. discount: γ in (0, 1].
    """

    transition: sparse.csr_array
    initial: np.ndarray
    horizon: int
    discount: float = 1.0

    def __post_init__(self) -> None:
        transition = sparse.csr_array(self.transition, dtype=np.float64)
        transition.sum_duplicates()
        transition.eliminate_zeros()
        initial = np.array(self.initial, dtype=np.float64)
        initial.setflags(write=False)
        object.__setattr__(self, "transition", transition)
        object.__setattr__(self, "initial", initial)
        self._check()

    def _check(self) -> None:
        rows, n_states = self.transition.shape
        if n_states < 1 or rows < n_states or rows % n_states:
            raise TabularError(f"transition must have shape (S·A, S), got {(rows, n_states)}")
        if self.initial.shape != (n_states,):
            raise TabularError(f"initial must have shape ({n_states},), got {self.initial.shape}")
        if self.horizon < 1 or not 0 < self.discount <= 1:
            raise TabularError(f"horizon must be at least 1 and discount in (0, 1], got {self.horizon}, {self.discount}")
        if not _is_distribution(self.initial, self.initial.sum()):
            raise TabularError(f"initial must hold probabilities that sum to 1, its sum is {self.initial.sum()}")
        total = np.asarray(self.transition.sum(axis=1)).ravel()
        if not _is_distribution(self.transition.data, total):
            row = int(np.argmax(~(np.abs(total - 1) <= SUM_TOLERANCE)))  # NaN counts as bad
            s, a = divmod(row, self.n_actions)
            raise TabularError(
                f"transition must hold probabilities that sum to 1 in every row; look at state {s}, action {a}: "
                f"its sum is {total[row]}"
            )

    @classmethod
    def from_next_state(cls, next_state: np.ndarray, initial: np.ndarray, horizon: int, discount: float = 1.0) -> MDP:
        """Deterministic dynamics from a table of next states, shape (S, A)."""
        n_states, n_actions = np.shape(next_state)
        columns = np.asarray(next_state).ravel()
        if columns.min() < 0 or columns.max() >= n_states:
            raise TabularError(f"next_state must hold states 0 … {n_states - 1}")
        shape, pointer = (n_states * n_actions, n_states), np.arange(len(columns) + 1)
        return cls(sparse.csr_array((np.ones(len(columns)), columns, pointer), shape), initial, horizon, discount)

    @property
    def n_states(self) -> int:
        return self.transition.shape[1]

    @property
    def n_actions(self) -> int:
        return self.transition.shape[0] // self.transition.shape[1]

    @cached_property
    def deterministic(self) -> bool:
        """Every action has one outcome."""
        return self.transition.nnz == self.transition.shape[0]

    @property
    def next_state(self) -> np.ndarray:
        """The one outcome of every action, int, shape (S, A). TabularError where the dynamics are stochastic."""
        if not self.deterministic:
            raise TabularError("next_state: these dynamics are stochastic")
        return self.transition.indices.reshape(self.n_states, self.n_actions)

    @cached_property
    def by_action(self) -> sparse.csr_array:
        """The transition with its rows in the order a·S + s: the messages run over (A, S), where numpy is quick."""
        rows = np.arange(self.n_states * self.n_actions).reshape(self.n_states, self.n_actions).T.ravel()
        return self.transition[rows]

    @cached_property
    def cumulated(self) -> np.ndarray:
        """Sums of the stored transition probabilities before each of them, shape (nnz + 1,): for sampling."""
        return np.concatenate([[0.0], self.transition.data.cumsum()])

    @cached_property
    def discounts(self) -> np.ndarray:
        """γ^t, shape (T,)."""
        return self.discount ** np.arange(self.horizon)


def _is_distribution(values: np.ndarray, total: np.ndarray | float) -> bool:
    return bool(np.isfinite(values).all() and (values >= 0).all() and (np.abs(total - 1) <= SUM_TOLERANCE).all())


def next_states(mdp: MDP, states: np.ndarray, actions: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """One outcome of each of the n actions in the n states, shape (n,)."""
    rows = states * mdp.n_actions + actions
    first, end = mdp.transition.indptr[rows], mdp.transition.indptr[rows + 1]
    before = mdp.cumulated[first]
    drawn = before + generator.random(len(rows)) * (mdp.cumulated[end] - before)
    place = np.searchsorted(mdp.cumulated, drawn, side="right") - 1
    return mdp.transition.indices[np.clip(place, first, end - 1)].astype(np.int64)
