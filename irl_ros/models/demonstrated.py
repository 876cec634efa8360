"""What a policy at work is held against, kept in the checkpoint: the demonstrations' states, what they earn by the
learned reward, and where their end effectors went."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from irl_ros.contract import Contract
from irl_ros.data.episode import Demonstrations, Episode, spread
from irl_ros.kinematics import Kinematics
from irl_ros.models import likeness
from irl_ros.models.features import Features
from irl_ros.models.inference import reward_from_arrays

KEY = "demonstrated_returns"
PATHS = "demonstrated_paths"
MOST_PATHS, PATH_POINTS = 10, 25
"""Of all demonstrations so many are shown to an operator, by so many points each."""
MOST = 200
"""Demonstrations that yardsticks are made of, spread over all: at every tick a policy's state is compared with all
their states."""
Reward = Callable[[np.ndarray, np.ndarray, np.ndarray], float]


def yardsticks(demonstrations: Demonstrations, reward_arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays for a checkpoint: :func:`irl_ros.models.likeness.calibrate`'s, :func:`demonstrated_returns`' and
    :func:`demonstrated_paths`'."""
    contract = demonstrations.contract
    inputs = Features(contract, contract.task.policy_inputs)
    reward = reward_from_arrays(reward_arrays, contract) if reward_arrays else None
    shown = spread(demonstrations.episodes, MOST)
    return {
        **likeness.calibrate([inputs(e.observations) for e in shown]),
        **demonstrated_returns(reward, [(e.observations, e.actions) for e in shown]),
        **demonstrated_paths(contract, spread(demonstrations.episodes, MOST_PATHS)),
    }


def demonstrated_paths(contract: Contract, episodes: Sequence[Episode]) -> dict[str, np.ndarray]:
    """End effector positions [m] in the base frame along each episode, shape (N, PATH_POINTS, 3); nothing for an env
    that is no arm."""
    if contract.robot is None or "joint_position" not in contract.slices:
        return {}
    kinematics = Kinematics(contract.robot)
    joints = [contract.field(e.observations, "joint_position") for e in episodes]
    thinned = [rows[np.linspace(0, len(rows) - 1, PATH_POINTS).round().astype(int)] for rows in joints]
    return {PATHS: np.array([[kinematics.position(q) for q in rows] for rows in thinned])}


def demonstrated_returns(
    reward: Reward | None, demonstrations: Iterable[tuple[np.ndarray, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Sums of r(o, a, o′) from the start of each demonstration, shape (N, T), to be saved with a checkpoint.

    `demonstrations` are observations (T_i+1, d) and actions (T_i, m). A short one keeps its last sum. Nothing where no
    reward was learned.
    """
    if reward is None:
        return {}
    sums = [np.cumsum([reward(*step) for step in zip(o, a, o[1:])]) for o, a in demonstrations]
    longest = max(map(len, sums))
    return {KEY: np.stack([np.pad(s, (0, longest - len(s)), mode="edge") for s in sums])}


class DemonstratedReturns:
    """The demonstrations' returns, period by period; `arrays` are a checkpoint's, perhaps without them."""

    def __init__(self, arrays: Mapping[str, np.ndarray]):
        self._sums = arrays.get(KEY)

    def percentile(self, episode_return: float, periods: int) -> float | None:
        """Percentage [0, 100] of demonstrations that had earned no more in as many periods; None where unknown."""
        if self._sums is None or periods < 1:
            return None
        earned = self._sums[:, min(periods, self._sums.shape[1]) - 1]
        return 100.0 * float((earned <= episode_return).mean())
