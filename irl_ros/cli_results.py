"""The command line's words about a finished run: report, evaluation, and the last lines of a training."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

from irl_ros.checkpoint import Checkpoint
from irl_ros.command import add_json, tell

COMPARISON = "comparison.html"
EVALUATED_AT_ONCE = 20
"""Episodes between two states of the progress bar."""


class UserError(ValueError):
    """Something that the user asked for and that cannot be; the message says why and what to do."""


def add_commands(commands: Any, add: Any) -> None:
    """`evaluate` and `report` to argparse's `commands`; `add` makes a subcommand of a name and a help text."""
    evaluate = add(commands, "evaluate", "run a checkpoint's policy in simulation and count successes")
    evaluate.add_argument("--checkpoint", required=True, help="directory of the checkpoint")
    evaluate.add_argument("--episodes", type=int, default=100, help="episodes")
    evaluate.add_argument("--seed", type=int, default=0, help="start poses and goals come from it")
    add_env(evaluate)
    add_json(evaluate)
    evaluate.set_defaults(run=_evaluate)
    report = add(commands, "report", "write summary.json and report.html of a run, or one page about several runs")
    report.add_argument("directory", nargs="+", help="run directory; several: learning curves with seeds as bands")
    report.add_argument("--out", default="", help=f"the page about several runs; empty: {COMPARISON}")
    add_env(report)
    add_json(report)
    report.set_defaults(run=_report)


def add_env(command: argparse.ArgumentParser) -> None:
    """Add the option that allows a checkpoint's env to be imported."""
    command.add_argument(
        "--env", default="", metavar="MODULE:ID", help="the checkpoint's env, where it is your own: importing it runs its code"
    )


def _evaluate(options: argparse.Namespace) -> int:
    from irl_ros.learning.environment import EnvSpec
    from irl_ros.learning.rollout import Outcome, Rollouts
    from irl_ros.learning.train import EVALUATION_SEED, success_figures
    from irl_ros.report.run import wilson

    if options.episodes < 1 or options.seed < 0:
        raise UserError("--episodes must be at least 1 and --seed at least 0")
    checkpoint = Checkpoint.load(options.checkpoint)
    seeds = [EVALUATION_SEED + 100_000 * options.seed + k for k in range(options.episodes)]
    bar = tqdm(total=len(seeds), desc="evaluate", unit="episode", file=sys.stderr, mininterval=1.0, dynamic_ncols=True)
    outcomes: list[Outcome] = []
    with bar, Rollouts(EnvSpec(checkpoint.contract.allow_env(options.env)), workers=2) as rollouts:
        for first in range(0, len(seeds), EVALUATED_AT_ONCE):
            outcomes += rollouts.evaluate(checkpoint.policy_arrays, seeds[first : first + EVALUATED_AT_ONCE])
            bar.update(len(outcomes) - bar.n)
    figures = success_figures(outcomes)
    successes = sum(outcome.success for outcome in outcomes)
    low, high = wilson(successes, len(outcomes))
    said = f"{successes} of {len(outcomes)} episodes succeed: {figures['success']:.0%}, 95 % confidence {low:.0%} to {high:.0%}"
    counted = {"episodes": len(outcomes), "successes": successes, "confidence_95": [low, high]}
    tell(options, {"checkpoint": options.checkpoint, **counted, **figures}, [said])
    return 0


def _report(options: argparse.Namespace) -> int:
    if len(options.directory) > 1:
        return _compare(options)
    if options.out:
        raise UserError("--out names the page about several runs; the page about one is report.html in its directory")
    run = Path(options.directory[0])
    if not (run / "checkpoint").is_dir():
        raise UserError(f"{run} holds no run: there is no checkpoint in it")
    finish(options, run, options.env)
    return 0


def _compare(options: argparse.Namespace) -> int:
    from irl_ros.report import RunError, write_comparison

    try:
        page = str(write_comparison([Path(run) for run in options.directory], Path(options.out or COMPARISON)))
    except RunError as error:
        raise UserError(str(error)) from None
    tell(options, {"report": page}, [f"report: {page}"])
    return 0


def finish(options: argparse.Namespace, run: Path, env: str = "", dataset: str | None = None, **more: Any) -> None:
    """Write summary and report, and print the last lines. `env`: the one that may be imported for the report."""
    from irl_ros.report import RunError, write_report
    from irl_ros.summary import SummaryError, sentences, write_summary

    try:
        summary = write_summary(run, **more)
        report = write_report(run, dataset, env)
    except (RunError, SummaryError) as error:
        raise UserError(str(error)) from None
    made = {"checkpoint": str(run / "checkpoint"), "figures": str(run / "summary.json"), "report": str(report)}
    tell(options, {**summary, **made}, ["", *sentences(summary), *(f"{what}: {path}" for what, path in made.items())])
