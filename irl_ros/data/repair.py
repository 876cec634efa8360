"""What a killed recorder, a full disk or a flipped bit left of a bag, made into a whole bag again.

Every chunk whose checksum is right is kept, whatever lies between them. Nothing is thrown away: a killed recording goes
on lying beside its repair under a hidden name, a damaged bag stays as it is.
"""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from mcap.exceptions import McapError
from mcap.records import Channel, Chunk, McapRecord, Message, Metadata
from mcap.stream_reader import StreamReader, breakup_chunk
from rosbags.interfaces import Qos
from rosbags.rosbag2.metadata import parse_qos

from irl_ros.contract import Contract, ContractError
from irl_ros.data.bag import read_bag
from irl_ros.data.bag_lock import in_use, lock_bag
from irl_ros.data.bag_writer import DESCRIPTION, PARTIAL, BagWriter, partial_directory, usual_qos
from irl_ros.data.clocks import RECEIVE
from irl_ros.data.episode import EpisodeError
from irl_ros.data.listing import DIGEST, BagError, check_seal, is_bag, load_texts
from irl_ros.data.recording import unfinished

BROKEN = ".broken"
"""Ends the hidden name of a killed recording that has been repaired."""
REPAIRED = "_repaired"
HOW = ("demonstrated_by", "operator", "session", "clock")
"""What a bag says of how it was recorded, beside contract and topics."""
_DAMAGE = (McapError, struct.error, KeyError, ValueError, OSError, MemoryError, OverflowError)
"""What reading damaged bytes ends in."""


class Repaired(NamedTuple):
    """A bag made of `source`: how many messages it holds, and what was lost, in words; empty where nothing was."""

    source: Path
    bag: Path
    messages: int
    lost: str


class _Found(NamedTuple):
    """Messages and channels of intact chunks, the metadata that the file repeats, and what was wrong. What stands
    outside a chunk has no checksum."""

    messages: list[Message]
    channels: dict[int, Channel]
    metadata: list[str]
    faults: list[str]


def repair_directory(directory: Path) -> tuple[list[Repaired], list[str]]:
    """Repair every killed or damaged recording in `directory`, or itself where it is a bag; and why some cannot be.

    Whole bags are left alone. Raises EpisodeError where there is no such directory.
    """
    directory = Path(directory).expanduser()
    repaired, hopeless = [], []
    for source in _broken(directory):
        try:
            repaired.append(repair(source))
        except BagError as error:
            hopeless.append(str(error))
    return repaired, hopeless


def repair(source: Path) -> Repaired:
    """A whole bag of what is intact in `source`: a killed recording's hidden directory, or a damaged bag.

    It is marked as interrupted and has no label. Raises BagError where nothing can be made of it, and where another
    program is recording or repairing it.
    """
    file = _file(source)
    try:
        lock = lock_bag(source, patience=0.0)
    except OSError as error:
        raise BagError(f"{source}: {error.strerror}") from None
    with lock:
        return _repair(source, file)


def _repair(source: Path, file: Path) -> Repaired:
    found = _salvage(file)
    described = _description(source, found.metadata)
    if not found.messages:
        raise BagError(f"{source}: no message in it is intact ({'; '.join(found.faults) or 'it is empty'})")
    final, kept = _destination(source)
    if kept != source:
        source.rename(kept)
    bag, count = _write(final, described, found)
    return Repaired(kept, bag, count, "; ".join(found.faults))


def _broken(directory: Path) -> list[Path]:
    """Killed recordings without a repair, and bags that cannot be read."""
    if not directory.is_dir():
        raise EpisodeError(f"no directory {directory}: give one that demonstrations were recorded in")
    if is_bag(directory):
        return [] if _is_whole(directory) else [directory]
    children = sorted(p for p in directory.iterdir() if p.is_dir())
    unrepaired = [p for p in children if p.name.endswith(BROKEN) and not p.with_name(_plain_name(p)).exists()]
    again = [p for p in unrepaired if not in_use(p)]
    for path in again:  # its repair was killed
        shutil.rmtree(partial_directory(path.with_name(_plain_name(path))), ignore_errors=True)
    named = [p for p in children if not p.name.startswith(".") and is_bag(p)]
    damaged = [p for p in named if not _is_whole(p) and not p.with_name(p.name + REPAIRED).exists()]
    return [*again, *unfinished(directory), *damaged]


def _is_whole(path: Path) -> bool:
    try:
        read_bag(path)
    except BagError:
        return False
    return True


def _plain_name(source: Path) -> str:
    return source.name.removeprefix(".").removesuffix(PARTIAL).removesuffix(BROKEN)


def _destination(source: Path) -> tuple[Path, Path]:
    """The repaired bag, and where the source lies from then on."""
    plain = _plain_name(source)
    if not source.name.startswith("."):
        return source.with_name(plain + REPAIRED), source
    final = source.with_name(plain)
    return final.with_name(plain + REPAIRED) if final.exists() else final, source.with_name(f".{plain}{BROKEN}")


def _description(source: Path, repeated: list[str]) -> dict[str, str]:
    """Contract, topics and HOW of a recording, as its writer noted them: beside the file, or in it, of which `repeated`
    is what was found."""
    said = []
    for read in (_noted, _metadata, *(partial(_custom, text) for text in repeated)):
        try:
            found = read(source)
            check_seal(found)
            needed = {key: str(found[key]) for key in ("contract", "topics", "demonstrated_by", "operator")}
            return {"session": "", "clock": RECEIVE, **{key: str(found[key]) for key in HOW if key in found}, **needed}
        except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
            said.append(repr(error))
    raise BagError(
        f"{source}: neither {DESCRIPTION} nor metadata.yaml says what was recorded ({'; '.join(said)}); of an older "
        "recording, or damaged"
    )


def _noted(source: Path) -> Any:
    return json.loads((source / DESCRIPTION).read_text())


def _metadata(source: Path) -> Any:
    return load_texts((source / "metadata.yaml").read_text())["rosbag2_bagfile_information"]["custom_data"]


def _custom(text: str, _source: Path) -> Any:
    """Of the metadata that an MCAP file repeats: without a seal there is nothing to trust it by."""
    found = load_texts(text)["custom_data"]
    if DIGEST not in found:
        raise KeyError(DIGEST)
    return found


def _file(source: Path) -> Path:
    files = sorted(source.glob("*.mcap"))
    if len(files) != 1:
        raise BagError(f"{source}: {len(files)} MCAP files in it, not one")
    return files[0]


def _salvage(file: Path) -> _Found:
    found = _Found([], {}, [], [])
    for record in _records(file, found.faults):
        if isinstance(record, Metadata) and record.name == "rosbag2":
            found.metadata.append(record.metadata.get("serialized_metadata", ""))
        try:
            inside = breakup_chunk(record, validate_crc=True) if isinstance(record, Chunk) else []
        except _DAMAGE as error:
            found.faults.append(f"a chunk of {len(record.data)} bytes is damaged: {_said(error)}")
            continue
        found.channels.update((r.id, r) for r in inside if isinstance(r, Channel))
        found.messages.extend(r for r in inside if isinstance(r, Message))
    return found


def _records(file: Path, faults: list[str]) -> Iterator[McapRecord]:
    """Records of a file up to where it can be followed."""
    try:
        with file.open("rb") as stream:
            yield from StreamReader(stream, emit_chunks=True, record_size_limit=file.stat().st_size).records
    except _DAMAGE as error:
        faults.append(f"it cannot be followed to its end: {_said(error)}")


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__


def _write(final: Path, described: dict[str, str], found: _Found) -> tuple[Path, int]:
    try:
        contract, names = Contract.from_dict(json.loads(described["contract"])), json.loads(described["topics"])
        _ = [contract.topics[role] for role in names]
    except (ContractError, ValueError, KeyError, TypeError) as error:
        raise BagError(f"{final}: its contract and topics cannot be read: {error!r}") from None
    by_topic = {channel.topic: channel for channel in found.channels.values()}
    topics = {role: (name, _qos(by_topic.get(name), contract, role)) for role, name in names.items()}
    bag = BagWriter(final, contract, topics, **{key: described[key] for key in HOW})
    # The writer numbers channels from 1 in the order of its topics; the chunk that says so may be the one that is lost.
    roles = dict(enumerate(names, start=1))
    for message in found.messages:
        bag.write(roles[message.channel_id], message.data, message.log_time)
    return bag.save(label=None, interrupted=True), sum(bag.counts.values())


def _qos(channel: Channel | None, contract: Contract, role: str) -> Qos:
    """As the topic was offered when it was recorded."""
    if channel is not None and (text := channel.metadata.get("offered_qos_profiles")):
        return parse_qos(text)[0]
    return usual_qos(contract, role)
