"""Demonstrations from rosbag2/MCAP directories, every byte checked. :mod:`irl_ros.data.bag_writer` wrote them."""

from __future__ import annotations

import struct
from collections.abc import Container, Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mcap.exceptions import McapError
from mcap.records import Channel, DataEnd, Message, Schema
from mcap.stream_reader import StreamReader
from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore

from irl_ros.contract import Contract
from irl_ros.data.alignment import Sample, align
from irl_ros.data.episode import Episode, EpisodeError
from irl_ros.data.listing import BagError, Listing, read_listing
from irl_ros.kinematics import Kinematics

_SHOWN = 3


class Recording(NamedTuple):
    """One bag in memory. `samples` by the contract's roles (joint_states, command, …), in order of arrival.

    What is only recorded beside the observation's topics comes without its messages: None.
    """

    listing: Listing
    samples: dict[str, list[Sample]]


@cache
def typestore() -> Typestore:
    """Definitions of the standard messages."""
    return get_typestore(Stores.ROS2_KILTED)


def episode(recording: Recording, contract: Contract, kinematics: Kinematics) -> Episode:
    """The recording at the contract's rate; raises EpisodeError, which names the recording and the reason."""
    check_use(recording.listing, contract)
    return aligned(recording, contract, kinematics)


def aligned(recording: Recording, contract: Contract, kinematics: Kinematics) -> Episode:
    """As :func:`episode`, whatever label and quality say of it: for looking at."""
    listing = recording.listing
    how = listing.demonstrated_by, listing.label, listing.clock
    return align(listing.name, recording.samples, contract, kinematics, *how)


def check_use(listing: Listing, contract: Contract) -> None:
    """Raise EpisodeError where the metadata alone says that a bag cannot be learned from under `contract`."""
    refusal = _mismatch(contract, listing.contract) or listing.refusal
    if refusal:
        raise EpisodeError(f"episode {listing.name}: {refusal}")


@lru_cache(maxsize=64)
def _mismatch(contract: Contract, recorded: Contract) -> str:
    """How a recording's contract differs, in words; empty where it fits."""
    differences = contract.differences(recorded, recorded=True)
    if not differences:
        return ""
    more = f" and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
    return f"another contract: {'; '.join(differences[:_SHOWN])}{more}"


def read_bag(directory: Path | str) -> Recording:
    """A recorder's bag, checked from its first byte to its last. Raises BagError."""
    return read_messages(read_listing(directory))


def read_messages(listing: Listing) -> Recording:
    """The messages of a listed bag, checked from the file's first byte to its last. Raises BagError."""
    roles, undecoded = {name: role for role, name in listing.topics.items()}, dict(listing.contract.task.recorded)
    samples = _read_samples(listing.file, roles, undecoded)
    found = {role: len(s) for role, s in samples.items()}
    if found != listing.counts:
        raise BagError(f"{listing.file}: it holds {found} messages, metadata.yaml says {listing.counts}")
    return Recording(listing, samples)


def _read_samples(file: Path, roles: Mapping[str, str], undecoded: Container[str]) -> dict[str, list[Sample]]:
    samples: dict[str, list[Sample]] = {role: [] for role in roles.values()}
    content = _read_mcap(file)
    # A topic's messages are written as they came; a busy recorder may have taken one topic's before another's.
    order = np.argsort(np.argsort([message.log_time for _, _, message in content], kind="stable"), kind="stable")
    for place, (topic, kind, message) in zip(order.tolist(), content):
        if role := roles.get(topic):
            decoded = None if role in undecoded else decode(file, topic, kind, message.data)
            samples[role].append(Sample(message.log_time, place, decoded))
    return samples


def _read_mcap(file: Path) -> list[tuple[str, str, Message]]:
    """Topic, type and message in the order of writing, after every checksum in the file was found right."""
    schemas: dict[int, Schema] = {}
    channels: dict[int, Channel] = {}
    messages: list[Message] = []
    try:
        with file.open("rb") as stream:
            reader = StreamReader(stream, validate_crcs=True, record_size_limit=file.stat().st_size)
            records = reader.records
            for record in records:
                if isinstance(record, DataEnd):
                    break
                for kind, known in ((Schema, schemas), (Channel, channels)):
                    if isinstance(record, kind):
                        known[record.id] = record
                if isinstance(record, Message):
                    messages.append(record)
            # The summary that follows repeats what was read; going through it finds a file that was cut short.
            for record in records:
                continue
        named = [(channels[m.channel_id], m) for m in messages]
        return [(channel.topic, schemas[channel.schema_id].name, m) for channel, m in named]
    except (McapError, struct.error, KeyError, ValueError, OSError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise BagError(f"{file}: damaged or cut short: {reason}") from None


def decode(file: Path, topic: str, kind: str, data: bytes) -> Any:
    """A message of the type `kind` from its bytes; raises BagError, which names the file and the topic."""
    try:
        return typestore().deserialize_cdr(data, kind)
    # Bytes that are no such message end in whatever the generated decoder stumbles over.
    except Exception as error:
        raise BagError(f"{file}: a message on {topic} is no {kind}: {error!r}") from None
