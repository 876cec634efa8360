"""Small MDPs, gridworlds and every one of their trajectories, for the tests of the tabular methods."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy import sparse

from irl_ros.learning.tabular import MDP


def random_mdp(seed: int, n_states: int = 3, n_actions: int = 2, horizon: int = 3, deterministic: bool = False) -> MDP:
    """Random dynamics and a random start; some outcomes of stochastic actions have probability 0."""
    rng = np.random.default_rng(seed)
    initial = rng.dirichlet(np.ones(n_states))
    if deterministic:
        return MDP.from_next_state(rng.integers(n_states, size=(n_states, n_actions)), initial, horizon)
    chances = rng.dirichlet(np.ones(n_states), size=n_states * n_actions)
    chances[0, 0] = 0
    chances[0] /= chances[0].sum()
    return MDP(sparse.csr_array(chances), initial, horizon)


def grid(side: int, horizon: int, slip: float = 0.0, start: int | None = 0) -> MDP:
    """Cells in a square; actions +x, −x, +y, −y stop at the border; with probability `slip` a random one is done."""
    moves = ((1, 0), (-1, 0), (0, 1), (0, -1))
    cells = [divmod(s, side) for s in range(side * side)]
    arrived = np.clip([[(x + dx, y + dy) for dx, dy in moves] for x, y in cells], 0, side - 1)
    following = arrived @ [side, 1]
    initial = np.full(side * side, 1.0 / side**2) if start is None else np.eye(side * side)[start]
    if not slip:
        return MDP.from_next_state(following, initial, horizon)
    rows = np.repeat(np.arange(following.size), 5)
    columns = np.concatenate([following.ravel()[:, None], np.repeat(following, 4, axis=0)], 1).ravel()
    chances = np.tile([1 - slip, *[slip / 4] * 4], following.size)
    return MDP(sparse.csr_array((chances, (rows, columns)), (following.size, side * side)), initial, horizon)


class Trajectory(NamedTuple):
    """probability: of the start and of the outcomes, not of the actions."""

    states: tuple[int, ...]
    actions: tuple[int, ...]
    probability: float


def trajectories(mdp: MDP) -> Iterator[Trajectory]:
    """Every trajectory that can happen."""
    dense = mdp.transition.toarray().reshape(mdp.n_states, mdp.n_actions, mdp.n_states)

    def extend(so_far: Trajectory) -> Iterator[Trajectory]:
        if len(so_far.actions) == mdp.horizon:
            yield so_far
            return
        for a in range(mdp.n_actions):
            for s in np.flatnonzero(dense[so_far.states[-1], a]):
                chance = so_far.probability * dense[so_far.states[-1], a, s]
                yield from extend(Trajectory((*so_far.states, int(s)), (*so_far.actions, a), chance))

    for s in np.flatnonzero(mdp.initial):
        yield from extend(Trajectory((int(s),), (), mdp.initial[s]))
