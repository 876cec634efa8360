"""Demonstrations from rosbag2/MCAP directories, every byte checked. :mod:`irl_ros.data.bag_writer` wrote them."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from mcap.exceptions import McapError
from mcap.records import Channel, DataEnd, Message, Schema
from mcap.stream_reader import StreamReader
from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore

from irl_ros.contract import Contract, ContractError
from irl_ros.data.alignment import Sample, align
from irl_ros.data.episode import Demonstrations, Episode, EpisodeError
from irl_ros.kinematics import Kinematics

_SHOWN = 3


class BagError(ValueError):
    """A bag that cannot be written or read; the message names the file and the reason."""


class Recording(NamedTuple):
    """One bag in memory. `samples` by the contract's roles (joint_states, command, …), in order of arrival."""

    name: str
    contract: Contract
    samples: dict[str, list[Sample]]
    label: bool | None
    interrupted: bool
    demonstrated_by: str
    operator: str


@cache
def typestore() -> Typestore:
    """Definitions of the standard messages."""
    return get_typestore(Stores.ROS2_KILTED)


def load_demonstrations(directory: Path | str, contract: Contract | None = None) -> tuple[Demonstrations, list[str]]:
    """Every usable episode bag under `directory`, in name order, and why the others are not usable, one line each.

    `contract`: what the bags must fit; None takes the first readable bag's. Raises EpisodeError when nothing is left.
    """
    directory = Path(directory).expanduser()
    episodes: list[Episode] = []
    rejected: list[str] = []
    kinematics = None
    for path in _bags(directory):
        try:
            recording = read_bag(path)
            contract = contract or recording.contract
            kinematics = kinematics or Kinematics(contract.robot)
            episodes.append(episode(recording, contract, kinematics))
        except (BagError, EpisodeError) as error:
            rejected.append(str(error))
    if not episodes:
        reasons = "\n  ".join(rejected)
        raise EpisodeError(f"no usable demonstration in {directory}; record some more. Rejected:\n  {reasons}")
    return Demonstrations(contract, tuple(episodes)), rejected


def episode(recording: Recording, contract: Contract, kinematics: Kinematics) -> Episode:
    """The recording at the contract's rate; raises EpisodeError, which names the recording and the reason."""
    differences = contract.differences(recording.contract, recorded=True)
    if differences:
        more = f" and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
        raise EpisodeError(f"episode {recording.name}: another contract: {'; '.join(differences[:_SHOWN])}{more}")
    if recording.interrupted:
        raise EpisodeError(f"episode {recording.name}: the recorder was interrupted before it was stopped")
    if recording.label is False:
        raise EpisodeError(f"episode {recording.name}: labelled as a failure")
    return align(
        recording.name, recording.samples, contract, kinematics, recording.demonstrated_by, recording.label
    )


def _bags(directory: Path) -> list[Path]:
    """Bag directories in `directory`, or itself where it is one. Hidden ones are unfinished recordings."""
    if not directory.is_dir():
        raise EpisodeError(f"no directory {directory}; record demonstrations there first")
    if is_bag(directory):
        return [directory]
    found = [p for p in sorted(directory.iterdir()) if p.is_dir() and not p.name.startswith(".") and is_bag(p)]
    if not found:
        raise EpisodeError(f"no episode bag in {directory}; record demonstrations there first")
    return found


def is_bag(path: Path) -> bool:
    """Whether a directory holds a bag, whole or not."""
    return (path / "metadata.yaml").exists() or any(path.glob("*.mcap"))


def read_bag(directory: Path | str) -> Recording:
    """A recorder's bag, checked from its first byte to its last. Raises BagError."""
    directory = Path(directory)
    file, custom = _read_metadata(directory / "metadata.yaml")
    try:
        contract = Contract.from_dict(json.loads(custom["contract"]))
        roles = {name: role for role, name in json.loads(custom["topics"]).items()}
        label, interrupted = json.loads(custom["label"]), json.loads(custom["interrupted"])
        demonstrated_by, counts = custom["demonstrated_by"], json.loads(custom["counts"])
    except KeyError as missing:
        raise BagError(f"{directory}/metadata.yaml: custom_data has no {missing}: not demo_recorder's") from None
    except (ValueError, AttributeError, TypeError) as error:
        raise BagError(f"{directory}/metadata.yaml: its custom_data is damaged: {error}") from None
    samples = _read_samples(file, roles)
    found = {role: len(s) for role, s in samples.items()}
    if found != counts:
        raise BagError(f"{file}: it holds {found} messages, metadata.yaml says {counts}")
    return Recording(
        directory.name, contract, samples, label, interrupted, demonstrated_by, custom.get("operator", "")
    )


def _read_metadata(path: Path) -> tuple[Path, Mapping[str, str]]:
    try:
        information = yaml.safe_load(path.read_text())["rosbag2_bagfile_information"]
        names = [Path(name).name for name in information["relative_file_paths"]]
        custom, storage = information.get("custom_data") or {}, information.get("storage_identifier")
    except FileNotFoundError:
        raise BagError(f"{path} is missing: no complete bag") from None
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError, OSError) as error:
        raise BagError(f"{path}: no rosbag2 metadata: {error!r}") from None
    if storage != "mcap" or len(names) != 1:
        raise BagError(f"{path}: only bags of one MCAP file are read, this one has {len(names)} of {storage!r}")
    return path.parent / names[0], custom


def _read_samples(file: Path, roles: Mapping[str, str]) -> dict[str, list[Sample]]:
    samples: dict[str, list[Sample]] = {role: [] for role in roles.values()}
    content = _read_mcap(file)
    # A topic's messages are written as they came; a busy recorder may have taken one topic's before another's.
    order = np.argsort(np.argsort([message.log_time for _, _, message in content], kind="stable"), kind="stable")
    for place, (topic, kind, message) in zip(order.tolist(), content):
        if topic in roles:
            samples[roles[topic]].append(Sample(message.log_time, place, _decode(file, topic, kind, message.data)))
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


def _decode(file: Path, topic: str, kind: str, data: bytes) -> Any:
    try:
        return typestore().deserialize_cdr(data, kind)
    # Bytes that are no such message end in whatever the generated decoder stumbles over.
    except Exception as error:
        raise BagError(f"{file}: a message on {topic} is no {kind}: {error!r}") from None
