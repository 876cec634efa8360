"""What a run came to, in one file: `summary.json`, and the sentences that the command line ends with."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from pathlib import Path
from typing import Any

import irl_ros

PACKAGES = ("torch", "numpy", "pybullet", "gymnasium", "pin", "mcap", "rosbags", "ros-kilted-rclpy")


SUCCESS = {"reach": "within 5 cm", "reach_grid": "ended in the goal cell without entering the region"}
"""What counts as a success of a task, in words."""


class SummaryError(ValueError):
    """A run directory without a training's figures, or with damaged ones; the message names the file."""


def write_summary(run: str | Path, **more: Any) -> dict[str, Any]:
    """Join a run's training and deployment figures and `more` into ``summary.json``; returns them. SummaryError."""
    run = Path(run)
    figures = _read(run / "training" / "result.json")
    if not figures:
        raise SummaryError(f"{run}: no training/result.json, so no training has ended here; train with --out {run}")
    deployment = _read(run / "deployment.json")
    deployed = {key: deployment.get(key) for key in ("deployed_success", "deployed_episodes")}
    summary = {**figures, **deployed, **more, "versions": versions()}
    (run / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    return summary


def versions() -> dict[str, str]:
    """Of this package, of Python, and of everything installed that shapes a result."""
    found = {"irl_ros": irl_ros.__version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def sentences(summary: dict[str, Any]) -> list[str]:
    """What was learned and how well it does, for people."""
    count, method = summary["demonstrations"], summary["method"].upper()
    learned = "cloned a policy" if method == "BC" else f"learned a reward and a policy by {method}"
    of = f"for {summary['task']}" + (f" on {summary['robot']}" if summary["robot"] else "")
    lines = [f"{learned} {of} from {count} demonstration{'s' * (count != 1)}: {summary['environment_steps']} env steps"]
    episodes = summary["policy_episodes"]
    if summary["policy_success_2cm"] is not None:
        judged = SUCCESS.get(summary["task"], "successful")
        near = f", {summary['policy_success_2cm']:.0%} within 2 cm" if summary["task"] == "reach" else ""
        lines.append(
            f"simulated, {episodes} episodes: {summary['policy_success']:.0%} {judged}{near}; a clone of the same "
            f"demonstrations: {summary['behaviour_cloning_success']:.0%}"
        )
    else:
        lines.append(
            f"simulated, {episodes} episodes: mean return of the env's own reward {summary['policy_return']:.4g}; "
            f"of a clone of the same demonstrations: {summary['behaviour_cloning_return']:.4g}"
        )
    if summary.get("deployed_episodes"):
        successes = round(summary["deployed_success"] * summary["deployed_episodes"])
        lines.append(f"driving the arm over topics: {successes} of {summary['deployed_episodes']} episodes")
    return lines


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text()) if path.is_file() else {}
    except ValueError as error:
        raise SummaryError(f"{path}: damaged, not JSON ({error}); remove it to go on without it") from None
