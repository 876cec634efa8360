"""Where the names and files of a contract are looked up, and the error when they cannot be used."""

from __future__ import annotations

import difflib
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path


LONGEST_GUESSED = 100
"""Characters of a wrong name that are compared with the valid ones."""
MOST_LISTED = 60
"""Valid names that an error lists."""


class ContractError(ValueError):
    """A robot, task or contract that cannot be used; the message says what, where, and what to do."""


def share_directory() -> Path:
    """Where config/ and launch/ lie: ament index, then the installation prefix, then the source tree."""
    candidates = [Path(p) / "share" / "irl_ros" for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    candidates += [Path(sys.prefix) / "share" / "irl_ros", Path(__file__).resolve().parent.parent]
    for candidate in candidates:
        if (candidate / "config" / "robots").is_dir():
            return candidate
    raise ContractError(f"irl_ros: no config directory found in {', '.join(map(str, candidates))}; reinstall irl_ros")


def resolve_path(reference: str, what: str) -> Path:
    """A file from a path or from `package:path/inside/it`; raises ContractError when it is not there."""
    package, separator, inside = reference.partition(":")
    path = Path(reference).expanduser()
    if separator:
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise ContractError(f"{what}: Python package {package!r} is not installed (from {reference!r})")
        path = Path(list(spec.submodule_search_locations)[0]) / inside
    if not path.is_file():
        raise ContractError(f"{what}: no file {path}")
    return path


def did_you_mean(name: str, valid: Sequence[str]) -> str:
    """' (did you mean …?) Valid: …' for error messages."""
    names = list(valid)
    near = difflib.get_close_matches(name[:LONGEST_GUESSED], names, 1)
    more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    listed = ", ".join(names[:MOST_LISTED]) + more
    return (f" Did you mean {near[0]!r}?" if near else "") + f" Valid: {listed}."
