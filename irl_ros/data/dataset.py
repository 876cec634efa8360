"""Directories of demonstrations, of whatever size: listed and filtered by metadata, read when asked for."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from irl_ros.contract import Contract
from irl_ros.data.bag import check_use, episode, read_messages
from irl_ros.data.episode import Demonstrations, Episode, EpisodeError
from irl_ros.data.interchange import load_npz
from irl_ros.data.listing import BagError, Listing, bags, is_bag, read_listing
from irl_ros.kinematics import Kinematics

KEPT_BYTES = 256 * 1024 * 1024
"""How much of a data set's arrays stays in memory; what goes beyond is read again each time it is asked for."""
WORTH_A_BAR = 200
"""Bags from which on reading takes long enough to show how far it is, on a terminal."""


def load_dataset(directory: Path | str, contract: Contract | None = None) -> tuple[Demonstrations, list[str]]:
    """Every usable episode and, one line each, why the others are not; raises EpisodeError when nothing is left.

    `contract`: what the episodes must fit; None takes that of the first bag or of an export.
    """
    directory = Path(directory).expanduser()
    if not any(directory.glob("*.npz")):
        return load_demonstrations(directory, contract)
    if any(map(is_bag, directory.glob("episode_*"))):
        raise EpisodeError(f"{directory} holds bags and npz files: put them into a directory each")
    return load_npz(directory, contract)


def load_demonstrations(
    directory: Path | str, contract: Contract | None = None, kept_bytes: int = KEPT_BYTES
) -> tuple[Demonstrations, list[str]]:
    """Every usable episode bag under `directory`, in name order, and why the others are not usable, one line each.

    `contract`: what the bags must fit; None takes the first readable bag's. Every bag is read once, here: what an
    episode is worth is known only then. Raises EpisodeError when nothing is left.
    """
    found = Bags.list(directory, contract)
    episodes = found.read(kept_bytes)
    if not len(episodes):
        raise _nothing(directory, found.rejected)
    return Demonstrations(found.contract, episodes), found.rejected


def _nothing(directory: Path | str, rejected: Sequence[str]) -> EpisodeError:
    reasons = "\n  ".join(rejected)
    return EpisodeError(f"no usable demonstration in {directory}; record some more. Rejected:\n  {reasons}")


class Bags:
    """Episode bags that are known by their metadata; `listings` in name order, without those that cannot be used.

    Iterating reads one episode after the other and keeps none. `rejected` says of every bag that turned out to be
    unusable why, one line each.
    """

    def __init__(self, contract: Contract, listings: Sequence[Listing], rejected: Mapping[Path, str] = {}):
        self.contract, self.listings = contract, tuple(listings)
        self._rejected = dict(rejected)
        self._kinematics = Kinematics(contract.robot)

    @classmethod
    def list(cls, directory: Path | str, contract: Contract | None = None) -> Bags:
        """All bags in `directory` that by their metadata may be learned from under `contract`; None: the first one's.

        Raises EpisodeError where there is no bag, or none that says what it is.
        """
        usable, rejected = [], {}
        for path in bags(directory):
            try:
                listing = read_listing(path)
                contract = contract or listing.contract
                check_use(listing, contract)
                usable.append(listing)
            except (BagError, EpisodeError) as error:
                rejected[path] = str(error)
        if contract is None:
            raise _nothing(directory, [*rejected.values()])
        return cls(contract, usable, rejected)

    @property
    def rejected(self) -> list[str]:
        return [reason for _, reason in sorted(self._rejected.items())]

    def where(self, keep: Callable[[Listing], bool]) -> Bags:
        """Those whose metadata pass."""
        return Bags(self.contract, [listing for listing in self.listings if keep(listing)])

    def __len__(self) -> int:
        return len(self.listings)

    def __iter__(self) -> Iterator[Episode]:
        return (found for _, found in self._usable())

    def _usable(self) -> Iterator[tuple[Listing, Episode]]:
        quick = len(self.listings) < WORTH_A_BAR
        bar = {"desc": "episodes", "unit": "bag", "file": sys.stderr, "mininterval": 1.0, "dynamic_ncols": True}
        for listing in tqdm(self.listings, disable=quick or None, **bar):
            try:
                yield listing, self.episode(listing)
            except (BagError, EpisodeError) as error:
                self._rejected[listing.path] = str(error)

    def episode(self, listing: Listing) -> Episode:
        """One of them at the contract's rate; raises BagError or EpisodeError."""
        return episode(read_messages(listing), self.contract, self._kinematics)

    def batches(self, size: int) -> Iterator[list[Episode]]:
        """Episodes, `size` at a time, the last batch perhaps fewer."""
        batch: list[Episode] = []
        for found in self:
            batch.append(found)
            if len(batch) == size:
                yield batch
                batch = []
        if batch:
            yield batch

    def read(self, kept_bytes: int) -> Sequence[Episode]:
        """All that are usable, after reading each once: a tuple, or what reads the rest again where they do not fit."""
        usable: list[Episode | Listing] = []
        for listing, found in self._usable():
            kept_bytes -= found.observations.nbytes + found.actions.nbytes
            usable.append(found if kept_bytes >= 0 else listing)
        return tuple(usable) if kept_bytes >= 0 else _Reread(self, usable)


class _Reread(Sequence[Episode]):
    """Episodes of which some are read again each time they are asked for. One that has become unusable since raises."""

    def __init__(self, source: Bags, episodes: list[Episode | Listing]):
        self._source, self._episodes = source, episodes

    def __len__(self) -> int:
        return len(self._episodes)

    def __getitem__(self, k: int) -> Episode:  # type: ignore[override]
        found = self._episodes[k]
        if isinstance(found, Episode):
            return found
        try:
            return self._source.episode(found)
        except BagError as error:
            raise EpisodeError(f"episode {found.name}: it was usable before: {error}") from None
