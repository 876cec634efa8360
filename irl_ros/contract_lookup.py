"""Where the names and files of a contract are looked up, and the error when they cannot be used."""

from __future__ import annotations

import difflib
import importlib
import os
import shlex
import sys
from collections.abc import Sequence
from importlib.machinery import PathFinder
from pathlib import Path


LONGEST_GUESSED = 100
"""Characters of a wrong name that are compared with the valid ones."""
MOST_LISTED = 60
"""Valid names that an error lists."""


OWN_ENVS = "irl_ros_sim"
"""Package whose envs any file may name."""


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


def locate_package(package: str) -> Path | None:
    """Return the directory of an installed top-level package, without importing anything; None where there is none.

    The working directory does not count: it may be a stranger's.
    """
    if not package.isidentifier():
        return None
    here = os.getcwd()
    paths = [path for path in sys.path if path and os.path.abspath(path) != here]
    for finder in sys.meta_path:  # a package of an editable install has a finder of its own
        if finder is PathFinder:
            spec = PathFinder.find_spec(package, paths)
        else:
            spec = finder.find_spec(package, None) if hasattr(finder, "find_spec") else None
        if spec is not None:
            return Path(next(iter(spec.submodule_search_locations))) if spec.submodule_search_locations else None
    return None


def resolve_path(reference: str, what: str) -> Path:
    """Return a file from a path or from `package:path/inside/it`; raises ContractError when it is not there."""
    package, separator, inside = reference.partition(":")
    path = Path(reference).expanduser()
    if separator:
        directory = locate_package(package)
        if directory is None:
            raise ContractError(
                f"{what}: Python package {package!r} is not installed (from {reference!r}); give a top-level package, or "
                "the path of the file"
            )
        if Path(inside).is_absolute() or ".." in Path(inside).parts:
            raise ContractError(f"{what}: {inside!r} leads out of the package {package!r} (from {reference!r})")
        path = directory / inside
    if not path.is_file():
        raise ContractError(f"{what}: no file {path}")
    return path


def import_env(env: str, allowed: bool) -> None:
    """Import the module of a gymnasium id `module:Id`: our own, or one that is `allowed`, also from the working directory.

    Raises ContractError where it is not allowed or cannot be imported.
    """
    module = env.rpartition(":")[0]
    if not module:
        return
    if module != OWN_ENVS:
        if not allowed:
            raise ContractError(
                f"env {env!r} was named by a checkpoint or a bag, and importing it runs the code of {module!r}. If you "
                f"trust that code, say so: --env {shlex.quote(env)} (in Python: contract.allow_env({env!r}))"
            )
        if os.getcwd() not in sys.path:
            sys.path.append(os.getcwd())
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise ContractError(
            f"env {env} cannot be imported ({error}); work in the directory where its module lies, or name that "
            "directory in PYTHONPATH"
        ) from None


def did_you_mean(name: str, valid: Sequence[str]) -> str:
    """' (did you mean …?) Valid: …' for error messages."""
    names = list(valid)
    near = difflib.get_close_matches(name[:LONGEST_GUESSED], names, 1)
    more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    listed = ", ".join(names[:MOST_LISTED]) + more
    return (f" Did you mean {near[0]!r}?" if near else "") + f" Valid: {listed}."
