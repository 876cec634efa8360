"""The command line's way in and out for demonstrations: other tools' bags, other libraries' data sets."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from irl_ros.command import add_json, tell
from irl_ros.contract import Contract
from irl_ros.data.clocks import CLOCKS, RECEIVE
from irl_ros.data.dataset import load_dataset
from irl_ros.data.episode import EpisodeError
from irl_ros.data.interchange import write_npz
from irl_ros.data.listing import BagError
from irl_ros.exchange import FORMS, ExchangeError, export, take_over

BAG, NPZ = "bag", "npz"
ONLY_BAGS = ("topic", "operator", "hand_guiding", "clock", "pauses", "events", "labels", "times")
"""Options of `import` that say nothing about another library's data set."""


def add_commands(commands: Any, add: Any) -> None:
    """`import` and `export` to argparse's `commands`; `add` makes a subcommand of a name and a help text."""
    _add_import(add(commands, "import", "episodes out of other tools' bags (mcap or sqlite3) or other libraries' data"))
    _add_export(add(commands, "export", "demonstrations in the form of another library, to the last bit"))


def _add_export(command: argparse.ArgumentParser) -> None:
    command.add_argument("directory", help="data set: a directory of episodes")
    command.add_argument("--to", required=True, choices=(*FORMS, NPZ), help="the form")
    command.add_argument("--out", required=True, help="new directory")
    _add_python(command)
    _add_contract(command, "where the episodes do not say it themselves: ")
    add_json(command)
    command.set_defaults(run=_export)


def _add_python(command: argparse.ArgumentParser) -> None:
    command.add_argument("--python", default=sys.executable, help="the Python of an environment that has the library")


def _add_contract(command: argparse.ArgumentParser, where: str, task: str = "") -> None:
    robot = f"{where}a name in config/robots or a YAML file; empty: the task's own"
    command.add_argument("--robot", default="", help=robot)
    command.add_argument("--task", default=task, help=f"{where}a name in config/tasks or a YAML file")


def _export(options: argparse.Namespace) -> int:
    contract = Contract.load(options.robot, options.task) if options.task else None
    demonstrations, rejected = load_dataset(Path(options.directory), contract)
    for reason in rejected:
        print(f"not exported: {reason}", file=sys.stderr)
    out = Path(options.out)
    try:
        if options.to == NPZ:
            out.mkdir(parents=True)
            write_npz(demonstrations, out)
        else:
            export(demonstrations, options.to, out, options.python)
    except ExchangeError as error:
        raise EpisodeError(str(error)) from None
    except FileExistsError:
        raise EpisodeError(f"{out} exists already: name a new directory") from None
    figures = {"episodes": len(demonstrations), "form": options.to, "out": str(out), "not_exported": rejected}
    tell(options, figures, [f"{len(demonstrations)} episodes as {options.to} in {out}"])
    return 0


def _add_import(command: argparse.ArgumentParser) -> None:
    command.add_argument("source", help="bag directory or file, or a library's data set")
    command.add_argument("--from", dest="form", default=BAG, choices=(BAG, *FORMS), help="what it is")
    command.add_argument("--out", required=True, help="data set to add the episodes to; of a library's: a new one")
    _add_python(command)
    _add_contract(command, "", "reach")
    command.add_argument(
        "--topic", action="append", default=[], metavar="ROLE=TOPIC", help="joint_states=/my/joint_states, for one"
    )
    command.add_argument("--operator", default="", help="who demonstrated; kept in every episode")
    command.add_argument("--hand-guiding", action="store_true", help="the arm itself was moved: ignore commands")
    command.add_argument(
        "--clock", choices=CLOCKS, help="date samples by when they were received (the default) or by their headers"
    )
    cut = command.add_mutually_exclusive_group()
    cut.add_argument("--pauses", type=float, metavar="SECONDS", help="cut where the arm stands still for so long")
    cut.add_argument("--events", nargs=2, metavar=("START", "STOP"), help="cut by messages on two topics")
    cut.add_argument("--labels", metavar="TOPIC", help="cut by std_msgs/Bool on a topic: ended, and succeeded or not")
    cut.add_argument("--times", metavar="CSV", help="cut by rows of start, end [s] and perhaps 1 or 0 for success")
    add_json(command)
    command.set_defaults(run=_import)


def _import(options: argparse.Namespace) -> int:
    try:
        return _import_bag(options) if options.form == BAG else _import_library(options)
    except (BagError, ExchangeError) as error:
        raise EpisodeError(str(error)) from None


def _import_library(options: argparse.Namespace) -> int:
    given = [f"--{name.replace('_', '-')}" for name in ONLY_BAGS if getattr(options, name)]
    if given:
        raise ExchangeError(f"{', '.join(given)}: only a bag can be told that, not {options.form}")
    files = take_over(options.form, Path(options.source), Path(options.out), options.python)
    names = [path.stem for path in files]
    tell(options, {"out": options.out, "episodes": names}, [f"{len(files)} episodes in {options.out}: {', '.join(names)}"])
    return 0


def _import_bag(options: argparse.Namespace) -> int:
    from irl_ros.data import foreign

    contract = Contract.load(options.robot, options.task)
    renamed = dict(_renamed(text) for text in options.topic)
    events = options.events or ([options.labels] if options.labels else [])
    bag = foreign.read_foreign(Path(options.source), contract, renamed, events)
    cuts = _cuts(bag, contract, options)
    if not cuts:
        raise BagError(f"{options.source}: nothing in it to cut an episode by; see --help for other ways")
    by_hand = options.hand_guiding or not bag.counts["command"]
    who = "hand_guiding" if by_hand else "command"
    clock = options.clock or RECEIVE
    written = foreign.write_episodes(bag, cuts, contract, Path(options.out), who, options.operator, clock)
    for topic in bag.left_out:
        print(f"left out: {topic}", file=sys.stderr)
    count = "1 episode" if len(written) == 1 else f"{len(written)} episodes"
    names = [path.name for path in written]
    said = f"{count} in {options.out}, by {who.replace('_', ' ')}: {', '.join(names)}"
    tell(options, {"out": options.out, "episodes": names, "by": who, "left_out": list(bag.left_out)}, [said])
    return 0


def _cuts(bag: Any, contract: Contract, options: argparse.Namespace) -> list[Any]:
    from irl_ros.data import cutting

    if options.pauses is not None:
        return cutting.by_pauses(bag, contract, options.pauses)
    if options.events:
        return cutting.by_events(bag, *options.events)
    if options.labels:
        return cutting.by_label(bag, options.labels)
    return cutting.by_table(bag, Path(options.times)) if options.times else cutting.whole(bag)


def _renamed(text: str) -> tuple[str, str]:
    role, equals, topic = text.partition("=")
    if not equals:
        raise EpisodeError(f"{text!r} is no ROLE=TOPIC such as joint_states=/my/joint_states")
    return role, topic
