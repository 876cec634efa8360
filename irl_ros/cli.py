"""`irl_ros`: the command line. Graphs of nodes start as child processes; training on a data set needs no ROS at all."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import irl_ros
from irl_ros import cli_data, cli_exchange, cli_results, cli_sweep
from irl_ros.bringup import GRAPHS, BringupError, Recipe
from irl_ros.checkpoint import Checkpoint, CheckpointError
from irl_ros.cli_results import UserError, finish
from irl_ros.command import EXIT_CODES, INTERRUPTED, USAGE_ERROR, Parser, add_json, run_command, tell
from irl_ros.contract import Contract, ContractError, load_robot, share_directory
from irl_ros.data.dataset import load_dataset
from irl_ros.data.episode import Demonstrations, EpisodeError
from irl_ros.data.listing import BagError, bags, read_listing
from irl_ros.graph import Graph
from irl_ros.ros_domain import DomainError
from irl_ros.learning.config import LOCAL, ROLLOUT_BACKENDS, ConfigError, TrainConfig, check_method

__all__ = ["USAGE_ERROR", "build_parser", "main"]

OTHER_ARM = "other_arm"
"""The variant that changes the robot; the others are the simulated arm's own."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand; returns the exit code. Errors of use are one sentence, a traceback comes with `--debug`."""
    if arguments is None:
        os.environ.setdefault("PYTHONSAFEPATH", "1")  # inherited: no child imports from the working directory
    options = build_parser().parse_args(arguments)
    expected = (BringupError, CheckpointError, ConfigError, ContractError, DomainError, EpisodeError, UserError)
    return run_command(options.run, options, expected)


def build_parser() -> argparse.ArgumentParser:
    """Every subcommand with its options, units and defaults."""
    parser = Parser(prog="irl_ros", description=__doc__, epilog=EXIT_CODES)
    parser.add_argument("--version", action="version", version=f"irl_ros {irl_ros.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, recipe in GRAPHS.items():
        command = _add(commands, name, recipe.help)
        _add_graph_options(command, recipe)
        command.set_defaults(run=_demo if name == "demo" else _graph)
    _add_train_options(commands.choices["train"])
    for name in ("train", "demo"):
        add_json(commands.choices[name])
    _add_transfer(_add(commands, "transfer", "optimise a policy on a checkpoint's frozen reward in a changed world"))
    cli_results.add_commands(commands, _add)
    cli_sweep.add_command(commands, _add)
    cli_data.add_commands(commands, _add)
    cli_exchange.add_commands(commands, _add)
    return parser


def _add(commands: Any, name: str, help: str) -> argparse.ArgumentParser:
    return commands.add_parser(
        name, help=help, description=help, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )


def _add_graph_options(command: argparse.ArgumentParser, recipe: Recipe) -> None:
    for name, kind, default, data in recipe.fields():
        flag = "--" + name.replace("_", "-")
        help = data["help"] + (f" [{data['unit']}]" if data["unit"] else "")
        if kind is bool:
            command.add_argument(flag, action=argparse.BooleanOptionalAction, default=default, help=help)
        else:
            choices = data["choices"] or None
            command.add_argument(flag, type=kind, default=default, choices=choices, help=help)


def _add_train_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--env", default="", help="any gymnasium id (module:ID too), instead of robot and task")
    command.add_argument("--horizon", type=int, default=0, help="control periods of an --env episode; 0: its own limit")
    command.add_argument(
        "--reward-features",
        nargs="+",
        default=[],
        metavar="FEATURE",
        help="what the reward sees: obs[0:3], obs[0:3]-obs[3:6], norm(obs[0:3]), next(...), action, a field's name",
    )
    command.set_defaults(run=_train)


def _graph(options: argparse.Namespace) -> int:
    from irl_ros.starter import start  # not needed by training on a data set, nor on Windows

    graph = _built(options)
    if options.command == "deploy":
        # The runner looks too, but by then an arm is up and a session waits.
        _refuse_another(options, Checkpoint.load(options.checkpoint).contract, f"checkpoint {options.checkpoint} was made")
    return start(graph, sys.stderr if getattr(options, "json", False) else sys.stdout)


def _refuse_another(options: argparse.Namespace, theirs: Contract, what: str) -> None:
    """Raises UserError with the options that fit where robot or task are others than the options name."""
    ours = Contract.load(options.robot, options.task)
    parts = (("robot", ours.robot, theirs.robot), ("task", ours.task, theirs.task))
    other = [(kind, there.name) for kind, here, there in parts if there is not None and here.name != there.name]
    if other:
        known = share_directory() / "config"
        given = [name if (known / f"{kind}s" / f"{name}.yaml").is_file() else f"<YAML file of {name}>" for kind, name in other]
        say = " ".join(f"--{kind} {word}" for (kind, _), word in zip(other, given))
        raise UserError(f"{what} for {' and '.join(f'{kind} {name}' for kind, name in other)}: say {say}")


def _built(options: argparse.Namespace) -> Graph:
    """The command's graph; raises what a wrong option deserves."""
    recipe = GRAPHS[options.command]
    return recipe.graph(**{name: getattr(options, name) for name in recipe.options})


def _demo(options: argparse.Namespace) -> int:
    _built(options)  # a wrong option is told before a used directory
    _refuse_used(Path(options.out))
    started = time.monotonic()
    code = _graph(options)
    if code == 0:
        finish(options, Path(options.out), _env(options), wall_s=round(time.monotonic() - started, 1))
    return code


def _env(options: argparse.Namespace) -> str:
    """Return the env that the options name: --env, or that of --task."""
    return getattr(options, "env", "") or Contract.load(options.robot, options.task).task.env


def _refuse_used(run: Path) -> None:
    """Demonstrations of another run would be learned from as well; nothing is deleted unasked."""
    if any((run / "demonstrations").glob("episode_*")):
        raise UserError(f"{run} holds a run already: give another --out, or remove it")


def _train(options: argparse.Namespace) -> int:
    if not options.dataset:
        alone = [f"--{name}" for name in ("env", "reward_features", "resume") if getattr(options, name)]
        if alone:
            raise UserError(f"{', '.join(alone).replace('_', '-')} needs --dataset, a directory of demonstrations")
        code = _graph(options)
        if code == 0:
            finish(options, Path(options.out), _env(options))
        return code
    return _train_here(options)


def _train_here(options: argparse.Namespace) -> int:
    from irl_ros.learning.train import train  # torch takes seconds to import

    config = TrainConfig.from_options(options, "" if options.env else options.task)
    demonstrations = _demonstrations(options)
    with contextlib.closing(_interruptible_observer()) as observer:
        result = train(demonstrations, config, options.out, observer, options.resume)
    if result.cancelled:
        print(f"stopped; the same command with --resume goes on from {options.out}", file=sys.stderr)
        return INTERRUPTED
    finish(options, Path(options.out), _env(options), dataset=options.dataset)
    return 0


def _demonstrations(options: argparse.Namespace) -> Demonstrations:
    from irl_ros.learning.environment import env_contract, standardise

    features = tuple(options.reward_features)
    if options.env:
        contract = env_contract(options.env, options.horizon or None, features)
    else:
        contract = Contract.load(options.robot, options.task)
        if features:
            contract = dataclasses.replace(
                contract, task=dataclasses.replace(contract.task, reward_features=features)
            )
    check_method(options.method, contract)
    try:
        demonstrations, rejected = load_dataset(options.dataset, contract)
    except EpisodeError:
        if not options.env and (recorded := _recorded_for(Path(options.dataset))) is not None:
            _refuse_another(options, recorded, f"{options.dataset} was recorded")
        raise
    for reason in rejected:
        print(f"not used: {reason}", file=sys.stderr)
    return standardise(demonstrations) if options.env else demonstrations


def _recorded_for(dataset: Path) -> Contract | None:
    """The contract of a data set's first readable bag; None where there is none."""
    try:
        return next((read_listing(bag).contract for bag in bags(dataset)), None)
    except (BagError, EpisodeError):
        return None


def _interruptible_observer() -> Any:
    """A progress bar; the first Ctrl-C ends the training after the iteration, saved, the second at once."""
    from irl_ros.learning.observer import ProgressObserver

    class Interruptible(ProgressObserver):
        stopped = False

        def should_stop(self) -> bool:
            return self.stopped

    observer = Interruptible()

    def stop(_signal: int, _frame: object) -> None:
        observer.stopped = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        print("\nstopping after this iteration; Ctrl-C again ends at once", file=sys.stderr)

    signal.signal(signal.SIGINT, stop)
    return observer


def _add_transfer(command: argparse.ArgumentParser) -> None:
    command.add_argument("--checkpoint", required=True, help="directory of the checkpoint whose reward is frozen")
    command.add_argument("--variant", required=True, help=f"{OTHER_ARM}, or a variant of the task's simulated arm")
    command.add_argument("--robot", default="iiwa", help=f"of {OTHER_ARM}: a name in config/robots or a YAML file")
    cli_results.add_env(command)
    command.add_argument("--out", default="runs/transfer", help="run directory: the new checkpoint is written here")
    command.add_argument("--steps", type=int, default=TrainConfig.environment_steps, help="control periods")
    command.add_argument("--seed", type=int, default=0, help="everything random comes from it")
    command.add_argument("--reward", choices=("learned", "true"), default="learned", help="true: the env's own, an oracle")
    command.add_argument("--workers", type=int, default=TrainConfig().workers, help="simulation processes")
    command.add_argument("--rollout-backend", default=LOCAL, choices=ROLLOUT_BACKENDS, help="where these run")
    command.add_argument("--ray-address", default="auto", help="auto, local, or host:port of a Ray cluster's head")
    command.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"), help="where the policy learns")
    command.add_argument("--resume", action="store_true", help="go on from the state that a stopped transfer left")
    add_json(command)
    command.set_defaults(run=_transfer)


def _transfer(options: argparse.Namespace) -> int:
    from irl_ros.learning.transfer import ChangedWorld, transfer

    checkpoint = Checkpoint.load(options.checkpoint)
    contract, variant = checkpoint.contract.allow_env(options.env), options.variant
    if variant == OTHER_ARM:
        contract, variant = dataclasses.replace(contract, robot=load_robot(options.robot)), ""
    config = TrainConfig(
        seed=options.seed,
        environment_steps=options.steps,
        workers=options.workers,
        rollout_backend=options.rollout_backend,
        ray_address=options.ray_address,
        device=options.device,
    )
    world, true_reward = ChangedWorld(contract, variant), options.reward == "true"
    with contextlib.closing(_interruptible_observer()) as observer:
        result = transfer(checkpoint, world, config, options.out, true_reward, observer, options.resume)
    if result.cancelled:
        print(f"stopped; the same command with --resume goes on from {options.out}", file=sys.stderr)
        return INTERRUPTED
    figures = result.figures
    said = (
        f"{options.variant}: the policy as it was succeeds in {figures['policy_as_is_success']:.0%} of "
        f"{figures['policy_episodes']} episodes, re-optimised on the {options.reward} reward in "
        f"{figures['policy_success']:.0%}"
    )
    path = str(Path(options.out) / "checkpoint")
    tell(options, {**figures, "checkpoint": path}, [said, f"checkpoint: {path}"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
