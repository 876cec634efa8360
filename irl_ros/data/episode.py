"""One demonstration or rollout in memory, and a set of demonstrations."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from irl_ros.contract import Contract


class EpisodeError(ValueError):
    """An episode that cannot be used; the message names the episode and the reason."""


@dataclass(frozen=True)
class Episode:
    """T control periods: observations (T+1, observation_size), actions (T, action_size), float64, read-only.

    Action t is in force over (t, t+1]. `terminated`: the env ended the episode by itself; `truncated`: the horizon
    did. `success` is the demonstrator's label, None when nobody gave one.
    """

    name: str
    observations: np.ndarray
    actions: np.ndarray
    terminated: bool = False
    truncated: bool = True
    success: bool | None = None

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
    """Episodes under one contract; at least one, all of the contract's widths."""

    contract: Contract
    episodes: tuple[Episode, ...]

    def __post_init__(self) -> None:
        if not self.episodes:
            raise EpisodeError("no demonstrations: record or name at least one episode")
        n, m = self.contract.observation_size, self.contract.action_size
        for episode in self.episodes:
            widths = episode.observations.shape[1], episode.actions.shape[1]
            if widths != (n, m):
                raise EpisodeError(
                    f"episode {episode.name}: observations are {widths[0]} wide and actions {widths[1]}; "
                    f"the contract says {n} and {m}"
                )

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
