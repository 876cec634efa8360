"""Where an iteration's figures go: a JSON line and TensorBoard."""

from __future__ import annotations

import json
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from irl_ros.learning.symbols import symbol


class MetricsLog:
    """``metrics.jsonl`` and ``tensorboard/`` below `directory`; a resumed run keeps its first `keep` iterations.

    TensorBoard knows the figures by the papers' symbols.
    """

    def __init__(self, directory: Path, keep: int = 0):
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / "metrics.jsonl"
        lines = path.read_text().splitlines() if keep and path.exists() else []
        path.write_text("".join(line + "\n" for line in lines if _iteration(line) <= keep))
        self._file = path.open("a")
        self.writer = SummaryWriter(str(directory / "tensorboard"), purge_step=keep + 1)

    def write(self, iteration: int, metrics: dict[str, float]) -> None:
        self._file.write(json.dumps({"iteration": iteration, **metrics}) + "\n")
        self._file.flush()
        for name, value in metrics.items():
            self.writer.add_scalar(symbol(name), value, iteration)

    def close(self) -> None:
        self._file.close()
        self.writer.close()


def _iteration(line: str) -> int:
    """The line's iteration; a line that a kill cut short belongs to none that is kept."""
    try:
        return int(json.loads(line)["iteration"])
    except (ValueError, KeyError):
        return 1 << 62
