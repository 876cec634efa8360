"""What happens to the runs of a sweep, as it happens: a line on stderr, and one in ``events.jsonl``.

The extra ``irl_ros[ray]`` alone can import this module.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from ray.tune import Callback
from tqdm import tqdm

from irl_ros.learning.ray_cluster import last_line

FILE = "events.jsonl"
DIED, DONE, FAILED, REFUSED, STARTED = "died", "done", "failed", "refused", "started"


class SweepLog(Callback):
    """Tune's callbacks, in words. A resumed sweep's go on in the same file."""

    def __init__(self, path: Path, total: int):
        self._path, self._total = path, total

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._say(STARTED, trial, trials)

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._say(DIED, trial, trials, self._reason(trial))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._say(FAILED, trial, trials, self._reason(trial))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        refused = (trial.last_result or {}).get("refused", "")
        self._say(REFUSED if refused else DONE, trial, trials, refused)

    def _reason(self, trial: Any) -> str:
        known = trial.error_file and Path(trial.error_file).is_file()
        return last_line(Path(trial.error_file).read_text() if known else "")

    def _say(self, event: str, trial: Any, trials: list[Any], reason: str = "") -> None:
        done = (trial.last_result or {}).get("iteration", 0)
        where = Path(trial.path).name
        line = {"time": time.time(), "run": str(trial), "directory": where, "event": event, "iteration": done}
        with self._path.open("a") as file:
            file.write(json.dumps({**line, "reason": reason} if reason else line) + "\n")
        over = sum(t.is_finished() for t in trials)
        what = {
            STARTED: f"begins after iteration {done}" if done else "begins",
            DIED: f"died after iteration {done} ({reason}); it goes on from its last state",
            FAILED: f"failed ({reason})",
            REFUSED: f"is refused: {reason}",
            DONE: "is done",
        }[event]
        tqdm.write(f"[{over} of {self._total}] {trial} {what}", file=sys.stderr)


def deaths(path: Path) -> Counter[str]:
    """How often each run died, by its directory of Tune's."""
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    return Counter(line["directory"] for line in lines if line["event"] == DIED)
