"""Demonstrations for any gymnasium env, as npz files: one file per episode."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from irl_ros.contract import Contract
from irl_ros.data.alignment import MINIMUM_PERIODS
from irl_ros.data.episode import Demonstrations, Episode, EpisodeError

REQUIRED = ("observations", "actions")


def load_npz(directory: Path | str, contract: Contract) -> tuple[Demonstrations, list[str]]:
    """Every usable ``*.npz`` in `directory`, in name order, and why the others are not usable, one line each.

    A file holds ``observations`` (T+1, n), ``actions`` (T, m) and, if the demonstrator said so, ``success``. What goes
    past the task's horizon is dropped. Raises EpisodeError when nothing is left.
    """
    directory = Path(directory).expanduser()
    files = sorted(directory.glob("*.npz"))
    if not files:
        raise EpisodeError(
            f"no .npz file in {directory}; write one per episode: observations (T+1, n), actions (T, m)"
        )
    episodes: list[Episode] = []
    rejected: list[str] = []
    for file in files:
        try:
            episodes.append(read_npz(file, contract))
        except EpisodeError as error:
            rejected.append(str(error))
    if not episodes:
        reasons = "\n  ".join(rejected)
        raise EpisodeError(f"no usable demonstration in {directory}; mend or add some. Rejected:\n  {reasons}")
    return Demonstrations(contract, tuple(episodes)), rejected


def read_npz(file: Path, contract: Contract) -> Episode:
    """One episode under the contract; raises EpisodeError, which names the file and the reason."""
    arrays = _arrays(file)
    horizon = contract.task.horizon
    observations, actions = (_numbers(file, name, arrays) for name in REQUIRED)
    label = None if "success" not in arrays else bool(np.all(arrays["success"]))
    if label is False:
        raise EpisodeError(f"episode {file.stem}: labelled as a failure")
    # Checks the whole file, also what lies past the horizon.
    whole = Episode(file.stem, observations, actions, success=label)
    Demonstrations(contract, (whole,))
    least = min(MINIMUM_PERIODS, horizon)
    if len(whole) < least:
        raise EpisodeError(f"episode {file.stem}: too short: {len(whole)} periods; at least {least} are needed")
    return Episode(file.stem, observations[: horizon + 1], actions[:horizon], success=label)


def _arrays(file: Path) -> dict[str, np.ndarray]:
    """All arrays of a file. Pickled objects are refused: loading them would run what they say."""
    try:
        with np.load(file, allow_pickle=False) as content:
            return {name: content[name] for name in content.files}
    except (ValueError, OSError, EOFError, KeyError, AttributeError, zipfile.BadZipFile) as error:
        raise EpisodeError(f"episode {file.stem}: {file} cannot be read: {error}") from None


def _numbers(file: Path, name: str, arrays: dict[str, np.ndarray]) -> np.ndarray:
    if name not in arrays:
        raise EpisodeError(f"episode {file.stem}: no array {name!r}; it holds {', '.join(arrays) or 'nothing'}")
    array = arrays[name]
    if array.dtype.kind not in "fiu":
        raise EpisodeError(f"episode {file.stem}: {name} holds {array.dtype}, not numbers")
    return array.astype(np.float64)
