"""Episodes written live as rosbag2/MCAP directories, one directory per episode.

`rosbags` writes the bag's metadata and knows the message types, `mcap` writes the file; in between stands
:class:`_LiveMcap`, because rosbags' own MCAP storage keeps everything in memory until the bag is closed. A bag grows in
a hidden directory beside its final place and gets its name, by one rename, when it is complete and on disk: whatever
has a name is whole. Until then its file is locked (:mod:`irl_ros.data.bag_lock`). `metadata.yaml` is the authority on `custom_data`: a label given late is changed there.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml
from mcap.writer import CompressionType
from mcap.writer import Writer as McapFile
from rosbags.interfaces import Connection, Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import StoragePlugin, Writer, WriterError

from irl_ros.contract import COMMAND_ROLES, Contract
from irl_ros.data.bag import typestore
from irl_ros.data.bag_lock import BagLock, lock_bag
from irl_ros.data.clocks import RECEIVE
from irl_ros.data.listing import BagError, load_texts, read_listing, seal
from irl_ros.data.recording import next_episode

METADATA_VERSION = 8
"""Read by rosbag2 from Humble on; version 9 writes its QoS profiles in a form that Humble refuses."""
CHUNK_BYTES = 64 * 1024
PARTIAL = ".partial"
DESCRIPTION = "recording.json"
"""What `metadata.yaml` will say beside counts and label, there from the start: a killed recording is repaired by it."""
TRIES = 20
"""Names tried where other programs write into the same directory."""
_FOREVER = QosTime(2147483647, 4294967295)


def offered_qos(reliable: bool, latched: bool) -> Qos:
    """The QoS a topic was offered with, as it stands in a bag: `ros2 bag play` publishes with it."""
    return Qos(
        QosHistory.KEEP_LAST,
        1 if latched else 10,
        QosReliability.RELIABLE if reliable else QosReliability.BEST_EFFORT,
        QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        _FOREVER,
        _FOREVER,
        QosLiveliness.AUTOMATIC,
        _FOREVER,
        False,
    )


def usual_qos(contract: Contract, role: str) -> Qos:
    """What a topic of the contract should be offered with, where nobody says what it was."""
    return offered_qos(reliable=True, latched=role not in COMMAND_ROLES and contract.topics[role].latched)


def partial_directory(final: Path) -> Path:
    """Where a recording grows until it is complete."""
    return final.parent / f".{final.name}{PARTIAL}"


class _LiveMcap:
    """rosbags' storage interface on a file that grows while it is written."""

    def __init__(self, directory: Path, compression: object):
        name = directory.name.removeprefix(".").removesuffix(PARTIAL)
        self.path = directory / f"{name}_0.mcap"
        self._stream = self.path.open("xb")
        self._file = McapFile(
            self._stream, chunk_size=CHUNK_BYTES, compression=CompressionType.NONE, enable_data_crcs=True
        )
        self._file.start(profile="ros2")
        self.lock = BagLock(directory, self._stream.fileno())
        self._schemas: dict[str, int] = {}
        self._channels: dict[int, int] = {}
        # fsync waits for the disk; the thread that stamps messages must not.
        self._disk = ThreadPoolExecutor(1, "fsync")
        self._syncing: Future[None] | None = None

    def add_msgtype(self, connection: Connection) -> None:
        definition = connection.msgdef.data.encode()
        self._schemas[connection.msgtype] = self._file.register_schema(connection.msgtype, "ros2msg", definition)

    def add_connection(self, connection: Connection, offered_qos_profiles: str) -> None:
        self._channels[connection.id] = self._file.register_channel(
            connection.topic, "cdr", self._schemas[connection.msgtype], {"offered_qos_profiles": offered_qos_profiles}
        )

    def write(self, connection: Connection, timestamp: int, data: bytes) -> None:
        self._file.add_message(self._channels[connection.id], timestamp, data, publish_time=timestamp)

    def sync(self) -> None:
        """Hand everything to the disk; raises what the sync before this one met."""
        self._file.flush()
        if self._syncing is not None:
            if not self._syncing.done():
                return
            self._syncing.result()
        self._syncing = self._disk.submit(os.fsync, self._stream.fileno())

    def close(self, version: int, metadata: str) -> None:
        self._file.add_metadata("rosbag2", {"serialized_metadata": metadata})
        self._file.finish()
        self._stream.flush()
        self._disk.shutdown()
        if self._syncing is not None:
            self._syncing.result()
        os.fsync(self._stream.fileno())
        self._stream.close()

    def abort(self) -> None:
        self._disk.shutdown()
        try:
            self._file.flush()
            self._stream.close()
        except OSError:
            # What is still buffered cannot be written: it is given up together with the recording.
            self._stream.raw.close()


class _LiveWriter(Writer):
    STORAGE_PLUGINS = {StoragePlugin.MCAP: _LiveMcap}


class BagWriter:
    """One episode's bag. Ends with :meth:`save`, :meth:`discard` or :meth:`abort`; every failure is a BagError.

    `topics` gives the resolved name and the QoS of each of the contract's roles that is recorded, `session` is the
    recorder's, `clock` what samples shall be dated by (:mod:`irl_ros.data.clocks`).
    """

    def __init__(
        self,
        final: Path,
        contract: Contract,
        topics: Mapping[str, tuple[str, Qos]],
        demonstrated_by: str = "command",
        operator: str = "",
        session: str = "",
        clock: str = RECEIVE,
    ):
        self.final, self.contract = Path(final), contract
        self.partial = partial_directory(self.final)
        self.counts: Counter[str] = Counter({role: 0 for role in topics})
        self._names = {role: name for role, (name, _) in topics.items()}
        self._check_types()
        with _writing(self.partial):
            self._writer = _LiveWriter(self.partial, version=METADATA_VERSION, storage_plugin=StoragePlugin.MCAP)
            self._writer.open()
        self._lock = self._writer.storage.lock
        try:
            with _writing(self.partial):
                self._connections = {role: self._connect(role, name, qos) for role, (name, qos) in topics.items()}
                self._describe(demonstrated_by=demonstrated_by, operator=operator, session=session, clock=clock)
        except BagError:
            with suppress(BagError):
                self.discard()
            self._lock.release()
            raise

    def _describe(self, **how: str) -> None:
        self._custom = {
            "contract": json.dumps(self.contract.to_dict()),
            "task": self.contract.task.name,
            "topics": json.dumps(self._names),
            **{key: _printable(value) for key, value in how.items()},
        }
        path = self.partial / DESCRIPTION
        path.write_text(json.dumps(seal(self._custom)))
        _sync_path(path)
        _sync_path(self.partial)

    def _check_types(self) -> None:
        for role, name in self._names.items():
            kind = self.contract.topics[role].type
            if kind not in typestore().fielddefs:
                raise BagError(f"cannot record {name}: no definition of its type {kind} is known")

    def _connect(self, role: str, name: str, qos: Qos) -> Connection:
        kind = self.contract.topics[role].type
        return self._writer.add_connection(name, kind, typestore=typestore(), offered_qos_profiles=[qos])

    def write(self, role: str, data: bytes, time: int) -> None:
        """Append one serialized message, received at `time` [ns]."""
        with _writing(self.partial):
            self._writer.write(self._connections[role], time, data)
        self.counts[role] += 1

    def sync(self) -> None:
        """Bring what was written to the disk; call it at least every 2 s."""
        with _writing(self.partial):
            self._writer.storage.sync()

    def save(self, label: bool | None, interrupted: bool = False, quality: Mapping[str, Any] = {}) -> Path:
        """Complete the bag and give it its final name, which is returned."""
        found = {"counts": self.counts, "label": label, "interrupted": interrupted, "quality": quality}
        custom = seal({**self._custom, **{key: json.dumps(value) for key, value in found.items()}})
        with _writing(self.partial):
            for key, value in custom.items():
                self._writer.set_custom_data(key, value)
            self._writer.close()
            _sync_path(self.partial / "metadata.yaml")
            (self.partial / DESCRIPTION).unlink()
            _sync_path(self.partial)
            self._publish()
        self._lock.release()
        return self.final

    def _publish(self) -> None:
        if self.final.exists():
            raise BagError(f"{self.final} exists already; the new recording lies in {self.partial}")
        self.partial.rename(self.final)
        _sync_path(self.final.parent)

    def discard(self) -> None:
        """Leave nothing behind."""
        self._writer.abort()
        with _writing(self.partial):
            shutil.rmtree(self.partial)
        self._lock.release()

    def abort(self) -> None:
        """Stop after a failure; what reached the disk stays in the hidden directory."""
        self._writer.abort()
        self._lock.release()


def create_bag(
    out: Path,
    contract: Contract,
    topics: Mapping[str, tuple[str, Qos]],
    demonstrated_by: str = "command",
    operator: str = "",
    session: str = "",
    clock: str = RECEIVE,
) -> BagWriter:
    """Begin a bag in `out` under the next episode name that no other program has. Raises BagError."""
    for _ in range(TRIES):
        try:
            final = out / next_episode(out)
        except OSError as error:
            raise BagError(f"cannot read {out}: {error.strerror}") from error
        try:
            bag = BagWriter(final, contract, topics, demonstrated_by, operator, session, clock)
        except BagError:
            if not partial_directory(final).exists():
                raise
            continue
        if not final.exists():
            return bag
        bag.discard()  # another program completed this name while the directory was listed
    raise BagError(f"{out}: {TRIES} names for an episode were taken while they were tried")


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turns what a disk or the bag library raises into a BagError that names the file."""
    try:
        yield
    except (OSError, WriterError) as error:
        raise BagError(f"cannot write {path}: {getattr(error, 'strerror', None) or error}") from error


def _printable(text: str) -> str:
    """Without what YAML's writers and readers do not agree about."""
    return "".join(c if c.isprintable() or c in "\n\t" else " " for c in text)


def _sync_path(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def set_label(directory: Path, label: bool) -> None:
    """Label a bag that is already saved. Raises BagError, where its metadata is damaged too."""
    path = Path(directory) / "metadata.yaml"
    new = path.with_name(".metadata.yaml.new")
    read_listing(directory)
    with _writing(path), lock_bag(Path(directory)):
        text = path.read_text()
        content = yaml.safe_load(text)
        custom = load_texts(text)["rosbag2_bagfile_information"]["custom_data"]
        content["rosbag2_bagfile_information"]["custom_data"] = seal({**custom, "label": json.dumps(label)})
        new.write_text(yaml.safe_dump(content, sort_keys=False))
        _sync_path(new)
        new.replace(path)
        _sync_path(path.parent)
