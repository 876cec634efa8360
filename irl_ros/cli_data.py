"""The command line's tools for recorded demonstrations: nothing that they do loses anything."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from irl_ros.command import add_json, tell
from irl_ros.data import catalogue
from irl_ros.data.episode import LABELS, MOST_SHOWN, EpisodeError, spread
from irl_ros.data.listing import BagError, bags, read_listing

_CELLS = {**LABELS, None: "-"}
_CHOSEN = {"success": True, "failure": False, "none": None}


def add_commands(commands: Any, add: Any) -> None:
    """`inspect`, `list`, `label`, `drop`, `split` and `repair` to argparse's `commands`; `add` makes a subcommand of
    a name and a help text."""
    inspect = _add(commands, add, "inspect", "what demonstrations lie there, how good, and which of them training uses")
    add_json(inspect)
    inspect.add_argument("--pictures", metavar="DIR", help="draw end effector paths and joint curves there")
    inspect.set_defaults(run=_inspect)
    listing = _add(commands, add, "list", "what bags say of themselves, a millisecond each: for large data sets")
    listing.add_argument("--label", choices=tuple(_CHOSEN), help="only those labelled so")
    listing.add_argument("--by", metavar="OPERATOR", help="only those that this operator demonstrated")
    listing.add_argument("--names", action="store_true", help="names alone, one a line: for other commands to take")
    add_json(listing)
    listing.set_defaults(run=_list)
    label = _add(commands, add, "label", "say whether recorded episodes succeeded")
    label.add_argument("outcome", choices=("success", "failure"))
    label.add_argument("episodes", nargs="+", metavar="EPISODE")
    label.set_defaults(run=_label)
    drop = _add(commands, add, "drop", "put episodes aside; --restore brings them back")
    drop.add_argument("episodes", nargs="+", metavar="EPISODE")
    drop.add_argument("--restore", action="store_true", help="bring dropped episodes back")
    drop.set_defaults(run=_drop)
    split = _add(commands, add, "split", "share episodes out among new data sets; the old one stays")
    split.add_argument("parts", nargs="+", metavar="DIR=SHARE", help="a new directory and its share, 0 to 1")
    split.add_argument("--seed", type=int, default=0, help="which episode goes where comes from it")
    add_json(split)
    split.set_defaults(run=_split)
    repair = _add(commands, add, "repair", "whole bags of what killed recorders and bad disks left; nothing is deleted")
    add_json(repair)
    repair.set_defaults(run=_repair)


def _add(commands: Any, add: Any, name: str, help: str) -> argparse.ArgumentParser:
    command = add(commands, name, help)
    command.add_argument("directory", help="data set: a directory of episodes")
    return command


def _inspect(options: argparse.Namespace) -> int:
    directory = Path(options.directory)
    entries = catalogue.catalogue(directory)
    tell(options, [entry.to_dict() for entry in entries], [_table(entries)])
    if options.pictures:
        for path in _pictures(entries, directory, Path(options.pictures)):
            print(f"picture: {path}", file=sys.stderr)
    return 0 if any(not entry.problem for entry in entries) else 1


def _table(entries: list[catalogue.Entry]) -> str:
    """Columns as wide as what stands in them; a topic that is latched has no rate to show."""
    roles = list(dict.fromkeys(r for entry in entries for r, stream in entry.streams.items() if stream.count > 1))
    columns = ["episode", "label", "seconds", "periods", "clipped", *(f"{role} [Hz]" for role in roles)]
    head = [*columns, "longest gap [s]", "lost", "by", "used"]
    lines = _aligned([head, *(_row(entry, roles) for entry in entries)])
    notes = [f"{entry.name}: {note}" for entry in entries for note in entry.notes]
    usable = sum(not entry.problem for entry in entries)
    return "\n".join([*lines, *notes, f"{usable} of {len(entries)} episodes are usable"])


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]


def _row(entry: catalogue.Entry, roles: list[str]) -> list[str]:
    streams, aligned = entry.streams.values(), entry.periods is not None
    rates = [f"{entry.streams[r].rate:.0f}" if r in entry.streams else "-" for r in roles]
    gap = max((s.longest_gap for s in streams), default=0.0)
    counted = [s.lost for s in streams if s.lost is not None]
    return [
        entry.name,
        _CELLS[entry.label],
        f"{entry.duration:.1f}",
        *((str(entry.periods), str(entry.clipped)) if aligned else ("-", "-")),
        *rates,
        f"{gap:.3f}",
        str(sum(counted)) if counted else "-",
        entry.operator or "-",
        f"no: {entry.problem}" if entry.problem else "yes",
    ]


def _pictures(entries: list[catalogue.Entry], data: Path, directory: Path) -> list[Path]:
    from irl_ros.report.episodes import joints_of, paths_of

    drawable = [entry.name for entry in entries if entry.periods is not None]
    if not drawable:
        raise EpisodeError(f"no episode in {data} that can be drawn")
    shown = list(catalogue.aligned_episodes(data, set(spread(drawable, MOST_SHOWN))))
    if len(shown) < len(drawable):
        print(f"drawn: {len(shown)} of {len(drawable)} episodes, spread over all", file=sys.stderr)
    contract = shown[0][0]
    groups = {told: [e for _, e in shown if e.success is label] for label, told in LABELS.items()}
    groups = {told: some for told, some in groups.items() if some}
    directory.mkdir(parents=True, exist_ok=True)
    drawn = {"paths": paths_of(groups, contract), "joints": joints_of(groups, contract)}
    for name, figure in drawn.items():
        figure.savefig(directory / f"{name}.png")
    return [directory / f"{name}.png" for name in drawn]


def _list(options: argparse.Namespace) -> int:
    shown, unreadable = [], 0
    for path in bags(Path(options.directory)):
        try:
            found = read_listing(path)
        except BagError as error:
            print(error, file=sys.stderr)
            unreadable += 1
            continue
        labelled = options.label is None or found.label is _CHOSEN[options.label]
        if labelled and options.by in (None, found.operator):
            shown.append(found)
    figures = [
        {"name": f.name, "label": f.label, "duration": f.duration, "operator": f.operator, "problem": f.refusal}
        for f in shown
    ]
    rows = [[f.name, _CELLS[f.label], f"{f.duration:.1f}", f.operator or "-", f.refusal or "-"] for f in shown]
    head = ["episode", "label", "seconds", "by", "not used because"]
    tell(options, figures, [f.name for f in shown] if options.names else _aligned([head, *rows]))
    return 1 if unreadable else 0


def _label(options: argparse.Namespace) -> int:
    for path in catalogue.label(Path(options.directory), options.episodes, options.outcome == "success"):
        print(f"{path}: {options.outcome}")
    return 0


def _drop(options: argparse.Namespace) -> int:
    move = catalogue.restore if options.restore else catalogue.drop
    for path in move(Path(options.directory), options.episodes):
        print(f"{path.name} lies in {path.parent}")
    return 0


def _split(options: argparse.Namespace) -> int:
    parts = dict(_part(text) for text in options.parts)
    shares = catalogue.split(Path(options.directory), parts, options.seed)
    said = [f"{target}: {len(names)} episodes: {', '.join(names)}" for target, names in shares.items()]
    tell(options, {str(target): list(names) for target, names in shares.items()}, said)
    return 0


def _part(text: str) -> tuple[str, float]:
    name, _, share = text.rpartition("=")
    try:
        return name, float(share)
    except ValueError:
        raise EpisodeError(f"{text!r} is no DIR=SHARE such as train=0.8") from None


def _repair(options: argparse.Namespace) -> int:
    from irl_ros.data.recording import under_way
    from irl_ros.data.repair import repair_directory

    repaired, hopeless = repair_directory(Path(options.directory))
    live = [str(path) for path in under_way(Path(options.directory).expanduser())]
    made = [f"left alone: {path} is being recorded" for path in live]
    for found in repaired:
        lost = f"; lost: {found.lost}" if found.lost else ""
        made.append(f"{found.bag}: {found.messages} messages of {found.source}, marked as interrupted{lost}")
    for reason in hopeless:
        print(f"not repaired: {reason}", file=sys.stderr)
    if not repaired and not hopeless and not live:
        made.append(f"nothing to repair in {options.directory}")
    figures = [{**f._asdict(), "source": str(f.source), "bag": str(f.bag)} for f in repaired]
    tell(options, {"repaired": figures, "not_repaired": list(hopeless), "being_recorded": live}, made)
    return 1 if hopeless else 0
