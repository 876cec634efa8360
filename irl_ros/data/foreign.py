"""Bags that somebody recorded with other tools, made into episodes: any rosbag2 directory or file, mcap or sqlite3.

A long bag is cut (:mod:`irl_ros.data.cutting`). Messages are taken over byte for byte with the receive times
that stand in the bag; what the contract does not name is left out, by name.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import NamedTuple

from mcap.stream_reader import StreamReader
from rosbags.interfaces import Connection, Qos
from rosbags.rosbag2 import Reader

from irl_ros import messages
from irl_ros.contract import COMMAND_ROLES, Contract, did_you_mean
from irl_ros.data.bag import decode
from irl_ros.data.bag_writer import create_bag, usual_qos
from irl_ros.data.clocks import RECEIVE
from irl_ros.data.listing import BagError

SERVICE_EVENT = "/_service_event"
"""Ends the name of the topic that a service's calls are recorded on, from Iron on."""
Raw = tuple[int, bytes]
"""Receive time [ns] and serialized message."""


class Foreign(NamedTuple):
    """A bag whose every message was read once; what is kept of it is small, the rest is read again when it is cut."""

    path: Path
    start: int
    """[ns]"""
    end: int
    counts: dict[str, int]
    """Messages by the contract's roles."""
    names: dict[str, str]
    """Full topic name by role."""
    qos: dict[str, Qos]
    latched: dict[str, list[Raw]]
    """All messages of latched topics, by role: an episode begins with the last one before it."""
    events: dict[str, list[Raw]]
    """All messages of the topics to cut by."""
    left_out: tuple[str, ...]
    """Topics that are not the contract's, with their types."""

    def messages(self, roles: Collection[str], start: int | None = None, stop: int | None = None) -> Iterator[Message]:
        """In order of time, from `start` [ns] to before `stop`. Raises BagError."""
        by_name = {self.names[role]: role for role in roles}
        with _reading(self.path), Reader(self.path) as reader:
            chosen = [c for c in reader.connections if c.topic in by_name]
            for connection, time, data in reader.messages(chosen, start, stop) if chosen else ():
                yield Message(time, by_name[connection.topic], bytes(data))


class Cut(NamedTuple):
    """An episode within a bag [ns], and its label."""

    start: int
    end: int
    label: bool | None = None


class Message(NamedTuple):
    """Receive time [ns], role, serialized."""

    time: int
    role: str
    data: bytes


def read_foreign(
    path: Path, contract: Contract, renamed: Mapping[str, str] = {}, events: Sequence[str] = ()
) -> Foreign:
    """What a bag has of what `contract` names. `renamed`: role → topic where the bag has another; `events`: topics to cut
    by.

    Raises BagError where the bag cannot be read, lacks a topic of the observation or has another type on one.
    """
    path, names = Path(path).expanduser(), _names(contract, renamed)
    latched = {r: names[r] for r, t in contract.topics.items() if t.latched and r not in COMMAND_ROLES}
    with _reading(path):
        _check_sums(path)
        with Reader(path) as reader:
            found = {c.topic: c for c in reader.connections}
            _check_topics(path, contract, names, {topic: c.msgtype for topic, c in found.items()})
            marks = {topic: _mark(path, topic, found) for topic in events}
            wanted = {*names.values(), *marks.values()}
            kept: dict[str, list[Raw]] = {topic: [] for topic in (*latched.values(), *marks.values())}
            counts = Counter({topic: 0 for topic in wanted})
            chosen = [c for c in reader.connections if c.topic in wanted]
            for connection, time, data in reader.messages(chosen) if chosen else ():
                if not counts[connection.topic]:
                    _check_first(path, connection.topic, bytes(data), names, contract)
                counts[connection.topic] += 1
                if connection.topic in kept:
                    kept[connection.topic].append((time, bytes(data)))
            _check_counts(path, chosen, counts)
            left_out = tuple(f"{t} ({c.msgtype})" for t, c in sorted(found.items()) if t not in wanted)
            span = reader.start_time, reader.end_time
    return Foreign(
        path,
        *span,
        counts={role: counts[name] for role, name in names.items()},
        names=names,
        qos={role: _qos(found.get(name), contract, role) for role, name in names.items()},
        latched={role: kept[name] for role, name in latched.items()},
        events={topic: kept[mark] for topic, mark in marks.items()},
        left_out=left_out,
    )


def _names(contract: Contract, renamed: Mapping[str, str]) -> dict[str, str]:
    """Full topic names by role."""
    unknown = [role for role in renamed if role not in contract.topics]
    if unknown:
        raise BagError(f"no topic {', '.join(unknown)} in the contract.{did_you_mean(unknown[0], tuple(contract.topics))}")
    return {role: _full(renamed.get(role, topic.name)) for role, topic in contract.topics.items()}


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except BagError:
        raise
    # What damaged files of two formats and two compressions end in is theirs to choose.
    except Exception as error:
        reason = str(error) or f"{type(error).__name__}: cut short? `ros2 bag reindex` or `mcap recover` may help"
        raise BagError(f"{path}: cannot be read: {reason}") from None


def _check_first(path: Path, topic: str, data: bytes, names: Mapping[str, str], contract: Contract) -> None:
    """Another arm's joints and another frame are told before anything is written."""
    for role in contract.sources:
        if names[role] == topic:
            message = decode(path, topic, contract.topics[role].type, data)
            try:
                messages.measured(message, role, contract, "joint_velocity" in contract.slices)
            except messages.MessageError as error:
                raise BagError(f"{path}: {topic}, its first message: {error}") from None


def _check_sums(path: Path) -> None:
    """Raise where an MCAP file's checksums are wrong; sqlite3 has none."""
    for file in [path] if path.is_file() else sorted(path.glob("*.mcap")):
        if file.suffix == ".mcap":
            with file.open("rb") as stream:
                deque(StreamReader(stream, validate_crcs=True, record_size_limit=file.stat().st_size).records, 0)


def _check_counts(path: Path, chosen: Sequence[Connection], counts: Mapping[str, int]) -> None:
    """What the bag says of itself and what was read must agree: nothing is lost in silence."""
    for topic in {c.topic for c in chosen}:
        said, read = sum(c.msgcount for c in chosen if c.topic == topic), counts[topic]
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
    raise BagError(f"{path}: no topic {_full(topic)} to cut by.{did_you_mean(_full(topic), sorted(found))}")


def _check_topics(path: Path, contract: Contract, names: Mapping[str, str], types: Mapping[str, str]) -> None:
    for role, name in names.items():
        wanted = contract.topics[role].type
        if role in contract.sources and name not in types:
            raise BagError(
                f"{path}: no topic {name} for {role}.{did_you_mean(name, sorted(types))} Name the right one: "
                f"{role}=TOPIC"
            )
        if name in types and types[name] != wanted:
            raise BagError(f"{path}: {name} is of type {types[name]}, {role} must be {wanted}")


def _full(name: str) -> str:
    return name if name.startswith("/") else f"/{name}"


def _qos(connection: Connection | None, contract: Contract, role: str) -> Qos:
    offered = connection.ext.offered_qos_profiles if connection is not None else []
    return offered[0] if offered else usual_qos(contract, role)


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
        writer = create_bag(out, contract, topics, demonstrated_by, operator, clock=clock)
        for message in _within(bag, cut):
            writer.write(message.role, message.data, message.time)
        written.append(writer.save(cut.label))
    return written


def _within(bag: Foreign, cut: Cut) -> Iterator[Message]:
    """In order of time. A command of the same instant comes after what was measured: it answers it."""
    for role, stream in bag.latched.items():
        before = bisect_left(stream, cut.start, key=itemgetter(0))
        if before:
            yield Message(cut.start, role, stream[before - 1][1])
    for _, same in groupby(bag.messages(bag.names, cut.start, cut.end + 1), attrgetter("time")):
        yield from sorted(same, key=lambda message: message.role in COMMAND_ROLES)
