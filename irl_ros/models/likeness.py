"""How much a state is like the demonstrations: the percentile of its distance to the nearest demonstrated state.

The yardstick is what a fresh demonstration would score: the distance of every demonstrated state to the nearest state
of the *other* demonstrations. 100 means as close as any of these, 0 farther than all of them. Distances are Euclidean
in policy inputs, each divided by its spread over the demonstrations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

THRESHOLD_PERCENTILE = 99.0
MIN_RELATIVE_SCALE = 0.05  # an input that hardly varies in the demonstrations must not outweigh all others


class LikenessError(ValueError):
    """States or arrays that no likeness can be made of; the message says what is wrong."""


def calibrate(states_per_demo: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays for :meth:`Likeness.from_arrays` from the policy inputs of each demonstration, shapes (T_i, d).

    With a single demonstration each state is compared with the other states of the same demonstration.
    Raises LikenessError when there are fewer than two states, or states of different width or not finite.
    """
    demos = [np.asarray(states, dtype=np.float64) for states in states_per_demo]
    shapes = [demo.shape for demo in demos]
    if not demos or any(len(s) != 2 or not s[0] or s[1] != shapes[0][1] for s in shapes):
        raise LikenessError(f"likeness needs arrays (T, d) of one width d, one for each demonstration; got {shapes}")
    states = np.concatenate(demos)
    if len(states) < 2 or not np.isfinite(states).all():
        raise LikenessError(f"likeness needs at least two states, all finite; got {len(states)}")
    scale = _scale(states)
    distances = np.sort(_leave_one_out([demo / scale for demo in demos]))
    threshold = np.percentile(distances, THRESHOLD_PERCENTILE)
    return {"states": states, "scale": scale, "distances": distances, "threshold": np.array([threshold])}


class Likeness:
    """Percentile of a state among leave-one-demonstration-out distances."""

    def __init__(self, states: np.ndarray, scale: np.ndarray, distances: np.ndarray, threshold: float):
        self._states, self._scale, self._distances = states / scale, scale, distances
        self.threshold = self._percentile(threshold)
        """Below this percentile [0, 100] a state is unlike the demonstrations."""

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Likeness:
        """From the arrays that :func:`calibrate` made; raises LikenessError when one is missing."""
        missing = [name for name in ("states", "scale", "distances", "threshold") if name not in arrays]
        if missing:
            raise LikenessError(f"likeness arrays lack {', '.join(missing)}; train again to make them")
        return cls(arrays["states"], arrays["scale"], np.sort(arrays["distances"]), float(arrays["threshold"][0]))

    def __call__(self, state: np.ndarray) -> float:
        """Percentile [0, 100] of `state`, shape (d,): 100 is as close as any demonstrated state."""
        return self._percentile(self.distance(state))

    def distance(self, state: np.ndarray) -> float:
        """Standardised distance of `state`, shape (d,), to the nearest demonstrated state."""
        return float(np.sqrt(np.square(self._states - state / self._scale).sum(axis=1).min()))

    def _percentile(self, distance: float) -> float:
        nearer = np.searchsorted(self._distances, distance, side="left")
        return 100.0 * (len(self._distances) - int(nearer)) / len(self._distances)


def _scale(states: np.ndarray) -> np.ndarray:
    spread = states.std(axis=0)
    largest = spread.max()
    return np.maximum(spread, MIN_RELATIVE_SCALE * largest) if largest > 0 else np.ones_like(spread)


def _leave_one_out(demos: list[np.ndarray]) -> np.ndarray:
    """Distance of each state to the nearest one of another demonstration, shape (N,)."""
    if len(demos) == 1:
        squared = _squared_distances(demos[0], demos[0])
        np.fill_diagonal(squared, np.inf)
        return np.sqrt(squared.min(axis=1))
    nearest = []
    for left_out, demo in enumerate(demos):
        others = np.concatenate([d for i, d in enumerate(demos) if i != left_out])
        nearest.append(_squared_distances(demo, others).min(axis=1))
    return np.sqrt(np.concatenate(nearest))


def _squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """‖a_i − b_j‖², shape (len(a), len(b)); row by row, so that memory stays small."""
    return np.stack([np.square(b - row).sum(axis=1) for row in a])
