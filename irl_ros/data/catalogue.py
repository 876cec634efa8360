"""What lies in a directory of recorded demonstrations, and what may be done with it without losing anything."""

from __future__ import annotations

import os
import shutil
import sys
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from irl_ros.contract import Contract, Robot, did_you_mean
from irl_ros.data.bag import Recording, aligned, read_bag
from irl_ros.data.bag_lock import in_use, lock_bag
from irl_ros.data.bag_writer import set_label
from irl_ros.data.clocks import SECOND, ClockWarning, Sample
from irl_ros.data.episode import Episode, EpisodeError
from irl_ros.data.listing import BagError, Listing, bags, is_bag
from irl_ros.data.recording import DROPPED
from irl_ros.kinematics import Kinematics


class Stream(NamedTuple):
    """One topic of an episode: messages, their mean rate [Hz], the longest time between two [s], and how many the
    recorder knows to be lost; None where nobody counted."""

    count: int
    rate: float
    longest_gap: float
    lost: int | None


class Entry(NamedTuple):
    """One episode. `problem` says why training would not use it; empty where it would. `streams` by role."""

    name: str
    label: bool | None
    operator: str
    problem: str
    notes: tuple[str, ...]
    """What is worth knowing although it is used: clocks that drift, for one."""
    duration: float
    """[s] from the first message to the last."""
    periods: int | None
    """At the contract's rate; None where it cannot be aligned."""
    clipped: int
    """Of these, how many asked for more than the task allows."""
    streams: dict[str, Stream]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {**self._asdict(), "streams": {role: stream._asdict() for role, stream in self.streams.items()}}


def catalogue(directory: Path) -> list[Entry]:
    """Every episode in `directory`, in name order; each is held against its own contract. Raises EpisodeError.

    One is in memory at a time.
    """
    shown = tqdm(bags(directory), desc="episodes", file=sys.stderr, disable=None, mininterval=1.0, dynamic_ncols=True)
    return [_entry(path) for path in shown]


def aligned_episodes(directory: Path, names: Collection[str]) -> Iterator[tuple[Contract, Episode]]:
    """Those of `names` that can be aligned, whatever their labels, each under its own contract."""
    for path in bags(directory):
        if path.name in names:
            recording = read_bag(path)
            contract = recording.listing.contract
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ClockWarning)  # told already by the catalogue
                found = aligned(recording, contract, _kinematics(contract.robot))
            yield contract, found


def _entry(path: Path) -> Entry:
    try:
        recording = read_bag(path)
    except BagError as error:
        advice = "" if in_use(path) else "; `irl_ros repair` may help"
        return Entry(path.name, None, "", f"{error}{advice}", (), 0.0, None, 0, {})
    listing, problem, found = recording.listing, recording.listing.refusal, None
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always", ClockWarning)
        try:
            found = aligned(recording, listing.contract, _kinematics(listing.contract.robot))
        except EpisodeError as error:
            problem = problem or _short(error, path)
    return Entry(
        path.name,
        listing.label,
        listing.operator,
        problem,
        tuple(_short(note.message, path) for note in notes),
        _duration(recording),
        len(found) if found else None,
        found.clipped if found else 0,
        {role: _stream(samples, _lost(listing, role)) for role, samples in recording.samples.items()},
    )


def _short(said: object, path: Path) -> str:
    return str(said).removeprefix(f"episode {path.name}: ")


def _lost(listing: Listing, role: str) -> int | None:
    counted = listing.quality.get("streams", {}).get(role)
    return counted["lost"] if counted and counted["numbered"] else None


@lru_cache(maxsize=8)
def _kinematics(robot: Robot) -> Kinematics:
    """Of each robot once: most data sets have one."""
    return Kinematics(robot)


def _duration(recording: Recording) -> float:
    times = [s.time for samples in recording.samples.values() for s in samples]
    return (max(times) - min(times)) / SECOND if times else 0.0


def _stream(samples: Sequence[Sample], lost: int | None) -> Stream:
    gaps = np.diff([s.time for s in samples]) / SECOND
    lasted = float(gaps.sum())
    return Stream(len(samples), len(gaps) / lasted if lasted else 0.0, float(gaps.max(initial=0.0)), lost)


def label(directory: Path, names: Sequence[str], success: bool) -> list[Path]:
    """Label episodes; what a message says of another label before is not kept. Raises EpisodeError."""
    chosen = _named(directory, names)
    for path in chosen:
        try:
            set_label(path, success)
        except BagError as error:
            raise EpisodeError(str(error)) from None
    return chosen


def drop(directory: Path, names: Sequence[str]) -> list[Path]:
    """Put episodes aside, into a hidden directory of the data set; :func:`restore` brings them back."""
    aside = Path(directory).expanduser() / DROPPED
    chosen = _named(directory, names)
    aside.mkdir(exist_ok=True)
    return [_move(path, aside) for path in chosen]


def restore(directory: Path, names: Sequence[str]) -> list[Path]:
    """Bring dropped episodes back."""
    directory = Path(directory).expanduser()
    return [_move(path, directory) for path in _named(directory / DROPPED, names)]


def split(directory: Path, parts: Mapping[str, float], seed: int) -> dict[str, list[str]]:
    """Give each episode to one of `parts` (directory → share), drawn from `seed`; returns the names by directory.

    The bags are linked where the disk allows it, else copied; the data set itself stays as it is.
    """
    targets = {Path(name).expanduser(): share for name, share in parts.items()}
    used = [str(t) for t in targets if t.exists()]
    if used:
        raise EpisodeError(f"{', '.join(used)} exists already: name new directories")
    if not targets or min(targets.values()) <= 0 or abs(sum(targets.values()) - 1.0) > 1e-6:
        raise EpisodeError(f"shares must be above 0 and add up to 1, not {', '.join(map(str, targets.values()))}")
    found = bags(directory)
    order = np.random.default_rng(seed).permutation(len(found))
    ends = np.round(np.cumsum([0.0, *targets.values()]) * len(found)).astype(int)
    given = {}
    for target, start, end in zip(targets, ends, ends[1:]):
        chosen = [found[k] for k in sorted(order[start:end])]
        target.mkdir(parents=True)
        for path in chosen:
            with _locked(path):
                shutil.copytree(path, target / path.name, copy_function=_link)
        given[str(target)] = [path.name for path in chosen]
    return given


def _link(source: str, target: str) -> None:
    """A label given later replaces metadata.yaml, so that a link never changes the other's."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _named(directory: Path, names: Sequence[str]) -> list[Path]:
    """The episodes of these names, all of them or EpisodeError."""
    if is_bag(directory):
        raise EpisodeError(f"{directory} is an episode itself: give the directory that it lies in")
    found = {path.name: path for path in bags(directory)}
    for name in names:
        if name not in found:
            raise EpisodeError(f"{directory} has no episode {name!r}.{did_you_mean(name, tuple(found))}")
    return [found[name] for name in names]


def _move(path: Path, into: Path) -> Path:
    target = into / path.name
    if target.exists():
        raise EpisodeError(f"{target} exists already; move it away first")
    with _locked(path):
        return path.rename(target)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep other programs from a bag. Raises EpisodeError where one is at work on it or the disk refuses."""
    try:
        with lock_bag(path):
            yield
    except OSError as error:
        raise EpisodeError(f"{path}: {error.strerror or error}") from None
