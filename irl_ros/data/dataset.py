"""A directory of demonstrations, bags or npz files, whichever it holds."""

from __future__ import annotations

from pathlib import Path

from irl_ros.contract import Contract
from irl_ros.data.bag import load_demonstrations
from irl_ros.data.episode import Demonstrations, EpisodeError
from irl_ros.data.interchange import load_npz


def load_dataset(directory: Path | str, contract: Contract | None = None) -> tuple[Demonstrations, list[str]]:
    """Every usable episode and, one line each, why the others are not; raises EpisodeError when nothing is left.

    `contract`: what the episodes must fit; None takes that of the first bag, which npz files do not have.
    """
    directory = Path(directory).expanduser()
    if not any(directory.glob("*.npz")):
        return load_demonstrations(directory, contract)
    if contract is None:
        raise EpisodeError(f"{directory}: npz files say nothing of robot and task; give a contract, Contract.load(robot, task)")
    return load_npz(directory, contract)
