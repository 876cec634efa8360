"""Bags that somebody recorded with other tools, made into episodes: any rosbag2 directory or file, mcap or sqlite3.

A long bag is cut by what is in it or by a table of times. Messages are taken over byte for byte with the receive times
that stand in the bag; what the contract does not name is left out, by name.
"""

from __future__ import annotations

import csv
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from mcap.stream_reader import StreamReader
from rosbags.interfaces import Connection, Qos
from rosbags.rosbag2 import Reader

from irl_ros import messages
from irl_ros.contract import COMMAND_ROLES, Contract
from irl_ros.data.alignment import SECOND
from irl_ros.data.bag import typestore
from irl_ros.data.bag_writer import BagWriter, usual_qos
from irl_ros.data.clocks import RECEIVE
from irl_ros.data.listing import BagError
from irl_ros.data.recording import next_episode

STILL = 0.02
"""[rad/s] A joint slower than this stands still."""
SPEED_OVER = 0.1
"""[s] over which speed is taken: from one sample to the next, at 1 kHz, an encoder's noise looks like motion."""
SERVICE_EVENT = "/_service_event"
"""Ends the name of the topic that a service's calls are recorded on, from Iron on."""
EPOCH = 1e8
"""[s] From here on a time in a table counts from 1970, not from the bag's first message."""
MARGIN = 0.2
"""[s] kept before and after a motion."""
Raw = tuple[int, bytes]
"""Receive time [ns] and serialized message."""


class Foreign(NamedTuple):
    """A bag's messages by the contract's roles, in order of time; `events` by full topic name."""

    path: Path
    start: int
    """[ns]"""
    end: int
    streams: dict[str, list[Raw]]
    names: dict[str, str]
    qos: dict[str, Qos]
    events: dict[str, list[Raw]]
    left_out: tuple[str, ...]
    """Topics that are not the contract's, with their types."""


class Cut(NamedTuple):
    """An episode within a bag [ns], and its label."""

    start: int
    end: int
    label: bool | None = None


def read_foreign(
    path: Path, contract: Contract, renamed: Mapping[str, str] = {}, events: Sequence[str] = ()
) -> Foreign:
    """Read what `contract` names. `renamed`: role → topic where the bag has another; `events`: topics to cut by.

    Raises BagError where the bag cannot be read, lacks a topic of the observation or has another type on one.
    """
    path = Path(path).expanduser()
    unknown = [role for role in renamed if role not in contract.topics]
    if unknown:
        raise BagError(f"no topic {', '.join(unknown)} in the contract; it has {', '.join(contract.topics)}")
    names = {role: _full(renamed.get(role, topic.name)) for role, topic in contract.topics.items()}
    try:
        _check_sums(path)
        with Reader(path) as reader:
            found = {c.topic: c for c in reader.connections}
            _check_topics(path, contract, names, {topic: c.msgtype for topic, c in found.items()})
            marks = {topic: _mark(path, topic, found) for topic in events}
            wanted = {*names.values(), *marks.values()}
            streams: dict[str, list[Raw]] = {topic: [] for topic in wanted}
            chosen = [c for c in reader.connections if c.topic in wanted]
            for connection, time, data in reader.messages(chosen) if chosen else ():
                streams[connection.topic].append((time, bytes(data)))
            _check_counts(path, chosen, streams)
            left_out = tuple(f"{t} ({c.msgtype})" for t, c in sorted(found.items()) if t not in wanted)
            span = reader.start_time, reader.end_time
    except BagError:
        raise
    # What damaged files of two formats and two compressions end in is theirs to choose.
    except Exception as error:
        raise BagError(f"{path}: cannot be read: {error}") from None
    qos = {role: _qos(found.get(name), contract, role) for role, name in names.items()}
    by_role = {role: streams[name] for role, name in names.items()}
    return Foreign(path, *span, by_role, names, qos, {t: streams[mark] for t, mark in marks.items()}, left_out)


def _check_sums(path: Path) -> None:
    """Raise where an MCAP file's checksums are wrong; sqlite3 has none."""
    for file in [path] if path.is_file() else sorted(path.glob("*.mcap")):
        if file.suffix == ".mcap":
            with file.open("rb") as stream:
                deque(StreamReader(stream, validate_crcs=True, record_size_limit=file.stat().st_size).records, 0)


def _check_counts(path: Path, chosen: Sequence[Connection], streams: Mapping[str, Sequence[Raw]]) -> None:
    """What the bag says of itself and what was read must agree: nothing is lost in silence."""
    for topic in {c.topic for c in chosen}:
        said, read = sum(c.msgcount for c in chosen if c.topic == topic), len(streams[topic])
        if said != read:
            raise BagError(
                f"{path}: {read} messages on {topic}, its metadata says {said}: damaged, or cut short; `ros2 bag "
                "reindex` may mend its metadata"
            )


def _mark(path: Path, topic: str, found: Mapping[str, Connection]) -> str:
    """The topic to cut by, which may be given as the name of a service whose calls were recorded."""
    for name in (_full(topic), _full(topic) + SERVICE_EVENT):
        if name in found:
            return name
    raise BagError(f"{path}: no topic {_full(topic)} to cut by; it has {', '.join(sorted(found))}")


def _check_topics(path: Path, contract: Contract, names: Mapping[str, str], types: Mapping[str, str]) -> None:
    for role, name in names.items():
        wanted = contract.topics[role].type
        if role in contract.sources and name not in types:
            raise BagError(
                f"{path}: no topic {name} for {role}; it has {', '.join(sorted(types))}. Name the right one: "
                f"{role}=TOPIC"
            )
        if name in types and types[name] != wanted:
            raise BagError(f"{path}: {name} is of type {types[name]}, {role} must be {wanted}")


def _full(name: str) -> str:
    return name if name.startswith("/") else f"/{name}"


def _qos(connection: Connection | None, contract: Contract, role: str) -> Qos:
    offered = connection.ext.offered_qos_profiles if connection is not None else []
    return offered[0] if offered else usual_qos(contract, role)


def whole(bag: Foreign) -> list[Cut]:
    """The bag is one episode."""
    return [Cut(bag.start, bag.end)]


def by_pauses(bag: Foreign, contract: Contract, pause: float) -> list[Cut]:
    """Cut where the arm stands still for `pause` [s] or more."""
    kind, names = contract.robot.joint_states.type, contract.robot.joint_names
    stream = bag.streams["joint_states"]
    try:
        decoded = (typestore().deserialize_cdr(data, kind) for _, data in stream)
        positions = np.array([messages.joint_state(msg, names, require_velocity=False)[0] for msg in decoded])
    except messages.MessageError as error:
        raise BagError(f"{bag.path}: {error}") from None
    times = np.array([time for time, _ in stream])
    before = np.maximum(np.searchsorted(times, times - round(SPEED_OVER * SECOND), side="right") - 1, 0)
    lasted = np.maximum((times - times[before]) / SECOND, SPEED_OVER)
    moving = times[np.abs(positions - positions[before]).max(1) / lasted > STILL]
    if not len(moving):
        return []
    breaks = np.flatnonzero(np.diff(moving) > pause * SECOND)
    margin = round(MARGIN * SECOND)
    starts, ends = moving[[0, *(breaks + 1)]], moving[[*breaks, -1]]
    return [Cut(max(int(s) - margin, bag.start), min(int(e) + margin, bag.end)) for s, e in zip(starts, ends)]


def by_events(bag: Foreign, start: str, stop: str) -> list[Cut]:
    """From the last message on topic `start` to the next one on `stop`. A service's call leaves up to four messages,
    and one that was started twice was begun anew."""
    starts, cuts, last = [time for time, _ in bag.events[start]], [], -1
    for end, _ in bag.events[stop]:
        k = bisect_right(starts, end) - 1
        if k >= 0 and starts[k] > last:
            cuts.append(Cut(starts[k], end))
        last = end
    return cuts


def by_label(bag: Foreign, topic: str) -> list[Cut]:
    """An episode ends with each std_msgs/Bool on `topic`, which says whether it succeeded; the next begins there."""
    cuts, begin = [], bag.start
    for time, data in bag.events[topic]:
        cuts.append(Cut(begin, time, bool(typestore().deserialize_cdr(data, "std_msgs/msg/Bool").data)))
        begin = time
    return cuts


def by_table(bag: Foreign, file: Path) -> list[Cut]:
    """Rows of start, end and, if known, success (1 or 0), in seconds from the bag's first message or from 1970."""
    try:
        with open(file, newline="") as stream:
            rows = [row for row in csv.reader(stream) if row and not row[0].lstrip().startswith("#")]
        if rows and not _is_number(rows[0][0]):
            rows = rows[1:]  # a head
        cuts = [
            Cut(
                _instant(bag, float(row[0])),
                _instant(bag, float(row[1])),
                bool(int(row[2])) if len(row) > 2 and row[2].strip() else None,
            )
            for row in rows
        ]
    except (OSError, ValueError, IndexError) as error:
        raise BagError(f"{file}: needs rows of start, end and perhaps 1 or 0 for success, in seconds: {error}") from None
    wrong = [k for k, cut in enumerate(cuts, start=1) if not bag.start <= cut.start < cut.end]
    if wrong:
        raise BagError(f"{file}: row {wrong[0]}: its end must lie after its start, and both after the bag's beginning")
    return cuts


def _instant(bag: Foreign, seconds: float) -> int:
    return round(seconds * SECOND) + (0 if seconds >= EPOCH else bag.start)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def write_episodes(
    bag: Foreign,
    cuts: Sequence[Cut],
    contract: Contract,
    out: Path,
    demonstrated_by: str,
    operator: str = "",
    clock: str = RECEIVE,
) -> list[Path]:
    """One bag for each cut, numbered after those in `out`; each begins with the last message of latched topics.

    `clock`: what their samples are dated by when they are read; receive times are kept either way.
    """
    out = Path(out).expanduser()
    out.mkdir(parents=True, exist_ok=True)
    topics = {role: (bag.names[role], bag.qos[role]) for role in bag.names}
    written = []
    for cut in cuts:
        writer = BagWriter(out / next_episode(out), contract, topics, demonstrated_by, operator, clock=clock)
        for time, role, data in _within(bag, cut, contract):
            writer.write(role, data, time)
        written.append(writer.save(cut.label))
    return written


def _within(bag: Foreign, cut: Cut, contract: Contract) -> list[tuple[int, str, bytes]]:
    """In order of time. A command of the same instant comes after what was measured: it answers it."""
    found = []
    for role, stream in bag.streams.items():
        times = [time for time, _ in stream]
        first, last = bisect_left(times, cut.start), bisect_left(times, cut.end + 1)
        if first and role not in COMMAND_ROLES and contract.topics[role].latched:
            found.append((cut.start, role, stream[first - 1][1]))
        found += [(time, role, data) for time, data in stream[first:last]]
    return sorted(found, key=lambda entry: (entry[0], entry[1] in COMMAND_ROLES))
