"""One demonstration or rollout in memory, and a set of demonstrations."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from irl_ros.contract import Contract

LABELS = {True: "success", False: "failure", None: "not labelled"}
"""A label in words."""
Thing = TypeVar("Thing")
MOST_SHOWN = 60
"""Episodes in a picture; of more, these are spread over all."""


class EpisodeError(ValueError):
    """An episode that cannot be used; the message names the episode and the reason."""


@dataclass(frozen=True)
class Episode:
    """T control periods: observations (T+1, observation_size), actions (T, action_size), float64, read-only.

    Action t is in force over (t, t+1]. `terminated`: the env ended the episode by itself; `truncated`: the horizon
    did. `success` is the demonstrator's label, None when nobody gave one. `clipped` periods asked for more than the task
    allows.
    """

    name: str
    observations: np.ndarray
    actions: np.ndarray
    terminated: bool = False
    truncated: bool = True
    success: bool | None = None
    clipped: int = 0

    def __post_init__(self) -> None:
        for key in ("observations", "actions"):
            array = np.array(getattr(self, key), dtype=np.float64)
            array.setflags(write=False)
            object.__setattr__(self, key, array)
        observations, actions = self.observations, self.actions
        if observations.ndim != 2 or actions.ndim != 2 or len(observations) != len(actions) + 1 or not len(actions):
            raise EpisodeError(
                f"episode {self.name}: needs observations (T+1, n) and actions (T, m) with T ≥ 1, "
                f"got {observations.shape} and {actions.shape}"
            )
        for key, array in (("observation", observations), ("action", actions)):
            bad = np.argwhere(~np.isfinite(array))
            if len(bad):
                raise EpisodeError(f"episode {self.name}: {key} {bad[0][0]} has a non-finite element {bad[0][1]}")

    def __len__(self) -> int:
        return len(self.actions)


@dataclass(frozen=True)
class Demonstrations:
    """Episodes under one contract; at least one, all of the contract's widths.

    `episodes` is a tuple, or a sequence that reads its episodes when they are asked for and has checked them before:
    go through it once where once is enough, and keep no more than is needed.
    """

    contract: Contract
    episodes: Sequence[Episode]

    def __post_init__(self) -> None:
        if not len(self.episodes):
            raise EpisodeError("no demonstrations: record or name at least one episode")
        for episode in self.episodes if isinstance(self.episodes, tuple) else ():
            check_widths(episode, self.contract)

    @classmethod
    def load(cls, directory: str | Path, contract: Contract | None = None) -> Demonstrations:
        """Every usable episode of a directory of bags or npz files; a warning says which are not, and why.

        `contract`: what they must fit; None takes that of the first bag. Raises EpisodeError when nothing is left.
        """
        from irl_ros.data.dataset import load_dataset  # which makes Demonstrations

        demonstrations, rejected = load_dataset(directory, contract)
        for reason in rejected:
            warnings.warn(f"not used: {reason}", stacklevel=2)
        return demonstrations

    def __len__(self) -> int:
        return len(self.episodes)

    def __iter__(self) -> Iterator[Episode]:
        return iter(self.episodes)

    @property
    def labels(self) -> list[bool]:
        """What demonstrators said of those that they labelled."""
        return [e.success for e in self.episodes if e.success is not None]


def spread(things: Sequence[Thing], most: int) -> list[Thing]:
    """At most so many of them, spread over all, the first and the last included."""
    places = np.linspace(0, len(things) - 1, min(len(things), most)).round().astype(int)
    return [things[k] for k in places.tolist()]


def check_widths(episode: Episode, contract: Contract) -> None:
    """Raise EpisodeError where an episode's arrays are not as wide as the contract says."""
    widths = episode.observations.shape[1], episode.actions.shape[1]
    expected = contract.observation_size, contract.action_size
    if widths != expected:
        raise EpisodeError(
            f"episode {episode.name}: observations are {widths[0]} wide and actions {widths[1]}; "
            f"the contract says {expected[0]} and {expected[1]}"
        )
