"""`irl_ros sweep`: many trainings from one file, on this machine's cores or a cluster's."""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from irl_ros.cli_results import COMPARISON, UserError
from irl_ros.command import FAILED, INTERRUPTED, add_json, tell
from irl_ros.data.dataset import load_dataset
from irl_ros.data.episode import Demonstrations
from irl_ros.learning.sweep_plan import STATE, Plan, name_of

if TYPE_CHECKING:
    from irl_ros.learning.sweep import Run

PLAN = "plan.yaml"


def add_command(commands: Any, add: Any) -> None:
    """`sweep` to argparse's `commands`; `add` makes a subcommand of a name and a help text."""
    command = add(commands, "sweep", "train all combinations of methods, tasks, seeds and options that a file names")
    command.add_argument("plan", help="YAML file: tasks with their demonstrations, and what to vary")
    command.add_argument("--out", default="runs/sweep", help="directory: all runs, sweep.json and the page are written here")
    command.add_argument("--ray-address", default="auto", help="auto, local, or host:port of a Ray cluster's head")
    command.add_argument("--resume", action="store_true", help="go on with the runs that an interrupted sweep left")
    add_json(command)
    command.set_defaults(run=_sweep)


def _sweep(options: argparse.Namespace) -> int:
    path, out = Path(options.plan), Path(options.out)
    plan = Plan.read(path)
    demonstrations = {task: _demonstrations(plan, task) for task in plan.datasets}
    _keep_plan(path, out, options.resume)
    from irl_ros.learning.sweep import sweep  # torch takes seconds to import

    print(f"{plan.count} runs; Ctrl-C once ends them, to be gone on with by --resume", file=sys.stderr)
    runs = sweep(plan, demonstrations, out, options.ray_address, options.resume)
    trained = [run for run in runs if run.figures]
    page = str(_page(trained, out)) if trained else None
    for run in runs:
        if not run.figures:
            print(f"{run.name}: {run.state}", file=sys.stderr)
    counted = {"runs": plan.count, "trained": len(trained), "figures": str(out / "sweep.json"), "report": page}
    made = [f"figures: {out / 'sweep.json'}", *([f"report: {page}"] if page else [])]
    tell(options, counted, [*(_table(trained) if trained else []), f"{len(trained)} of {plan.count} runs are trained", *made])
    if len(runs) < plan.count or any(run.state == "unfinished" for run in runs):
        print(f"stopped; the same command with --resume goes on from {out}", file=sys.stderr)
        return INTERRUPTED
    return 0 if len(trained) == plan.count else FAILED


def _demonstrations(plan: Plan, task: str) -> Demonstrations:
    found, rejected = load_dataset(plan.datasets[task], plan.contract({"task": task}))
    for reason in rejected:
        print(f"not used: {reason}", file=sys.stderr)
    return found


def _keep_plan(path: Path, out: Path, resume: bool) -> None:
    """A sweep goes on by the plan with which it began. Raises UserError."""
    kept = out / PLAN
    if resume and not kept.is_file():
        raise UserError(f"{out} holds no sweep to go on with: leave --resume out")
    if resume and kept.read_text() != path.read_text():
        raise UserError(f"{path} is not the plan with which the sweep in {out} began, which is {kept}")
    if not resume and (out / STATE).exists():
        raise UserError(f"{out} holds a sweep already: give another --out, remove it, or go on with it by --resume")
    out.mkdir(parents=True, exist_ok=True)
    kept.write_text(path.read_text())


def _page(runs: Sequence[Run], out: Path) -> Path:
    from irl_ros.report import write_comparison

    return write_comparison([run.directory for run in runs], out / COMPARISON)


def _table(runs: Sequence[Run]) -> list[str]:
    """Success by what was varied, seeds together: the true reward's word, which no run has heard."""
    kinds: dict[str, list[Run]] = {}
    for run in runs:
        kinds.setdefault(_kind(run), []).append(run)
    lines = []
    for kind, some in kinds.items():
        success = [run.figures["policy_success"] for run in some]
        states = ", ".join(dict.fromkeys(run.state for run in some))
        lines.append((statistics.median(success), f"{statistics.median(success):6.2f} {min(success):6.2f}  {kind}: {states}"))
    return ["", "median  worst  success of", *(line for _, line in sorted(lines, reverse=True)), ""]


def _kind(run: Run) -> str:
    return name_of({name: value for name, value in run.varied.items() if name != "seed"})
