"""A directory of demonstrations, bags or npz files, whichever it holds."""

from __future__ import annotations

from pathlib import Path

from irl_ros.contract import Contract
from irl_ros.data.bag import load_demonstrations
from irl_ros.data.episode import Demonstrations
from irl_ros.data.interchange import load_npz


def load_dataset(directory: Path | str, contract: Contract) -> tuple[Demonstrations, list[str]]:
    """Every usable episode and, one line each, why the others are not; raises EpisodeError when nothing is left."""
    directory = Path(directory).expanduser()
    if any(directory.glob("*.npz")):
        return load_npz(directory, contract)
    return load_demonstrations(directory, contract)
