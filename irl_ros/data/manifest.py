"""What a recording session was: one file beside its episodes, written before the first of them."""

from __future__ import annotations

import json
import subprocess
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path

import irl_ros
from irl_ros.contract import Contract, Thresholds
from irl_ros.data.listing import BagError

SESSIONS = "sessions"
"""Where manifests lie, inside a data set."""
PATIENCE = 2.0
"""[s] for git to answer."""


def write_manifest(out: Path, contract: Contract, thresholds: Thresholds, operator: str, demonstrated_by: str) -> str:
    """Write `<out>/sessions/<name>.json` and return the name, which every bag of the session carries.

    Raises BagError where nothing can be written: before anybody demonstrates in vain.
    """
    now = datetime.now(timezone.utc)
    content = {
        "started": now.isoformat(timespec="seconds"),
        "operator": operator,
        "robot": contract.robot.name,
        "task": contract.task.name,
        "demonstrated_by": demonstrated_by,
        "version": irl_ros.__version__,
        "revision": revision(),
        "thresholds": asdict(thresholds),
        "contract": contract.to_dict(),
    }
    try:
        (out / SESSIONS).mkdir(parents=True, exist_ok=True)
        return _write_new(out / SESSIONS, now.strftime("%Y%m%dT%H%M%SZ"), json.dumps(content, indent=1) + "\n")
    except OSError as error:
        raise BagError(f"cannot write {out / SESSIONS}: {error.strerror}") from error


def _write_new(directory: Path, stem: str, text: str) -> str:
    """Under a name that no other session has, however many start in the same second."""
    taken = 0
    while True:
        name = f"{stem}_{taken}" if taken else stem
        try:
            with (directory / f"{name}.json").open("x") as file:
                file.write(text)
            return name
        except FileExistsError:
            taken += 1


def revision() -> str:
    """The git revision of this package's source, with a + where it was changed; empty where it is no checkout."""
    source = str(Path(__file__).resolve().parents[2])

    def git(*words: str) -> str:
        command = ["git", "-C", source, *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != Path(source):
            return ""
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return ""
