"""Makes `test/bags`: one small reach as `ros2 bag record` leaves it on Humble, and one as on Kilted.

    python test/foreign_forms.py

rosbags writes them; what it does not write as those distributions do is put into their form here: Humble's metadata of
version 5 and its sqlite3 schema 3, which know no message definitions; Kilted's metadata of version 9 with hashes of the
types, from an MCAP file. Both hold a topic of a type that nobody here knows, and Kilted's the calls of two services.
"""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from irl_ros.data.alignment import SECOND
from irl_ros.data.bag import typestore
from test_bag import CONTRACT, HOME, START, command, goal_pose, joint_state

BAGS = Path(__file__).parent / "bags"
PERIODS = 12
STEP = 0.5 * CONTRACT.max_step
UNKNOWN = "gripper_vendor/msg/ForceTorque"
SERVICES = "/demo_recorder/start/_service_event", "/demo_recorder/stop/_service_event"
TRIGGER = "std_srvs/srv/Trigger_Event"


def recorded_qos(durability: QosDurability) -> Qos:
    """As `ros2 bag record` writes it: the graph does not tell a publisher's history and depth."""
    forever = QosTime(9223372036, 854775807)
    return Qos(
        QosHistory.UNKNOWN,
        0,
        QosReliability.RELIABLE,
        durability,
        forever,
        forever,
        QosLiveliness.AUTOMATIC,
        forever,
        False,
    )


KINDS = {
    "/joint_states": ("sensor_msgs/msg/JointState", recorded_qos(QosDurability.VOLATILE)),
    "/joint_trajectory_controller/joint_trajectory": (
        "trajectory_msgs/msg/JointTrajectory",
        recorded_qos(QosDurability.VOLATILE),
    ),
    "/goal_pose": ("geometry_msgs/msg/PoseStamped", recorded_qos(QosDurability.TRANSIENT_LOCAL)),
    "/wrist/force": (UNKNOWN, recorded_qos(QosDurability.VOLATILE)),
}


def record(path: Path, storage: StoragePlugin, kinds: dict[str, tuple[str, Qos]]) -> None:
    """A reach of twelve periods, every joint half a step in each, a message each period on every topic but the goal."""
    bag = Writer(path, version=9, storage_plugin=storage)
    if storage is StoragePlugin.MCAP:
        bag.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
    with bag as writer:
        on = {topic: _connect(writer, topic, kind, qos) for topic, (kind, qos) in kinds.items()}

        def write(topic: str, seconds: float, data: bytes) -> None:
            writer.write(on[topic], START + round(seconds * SECOND), data)

        write("/goal_pose", 0.0, goal_pose())
        for k in range(PERIODS + 2):
            now, position = k * CONTRACT.task.period, HOME + STEP * k
            write("/joint_states", now, joint_state(position, now))
            if k < PERIODS:
                write("/joint_trajectory_controller/joint_trajectory", now + 0.001, command(position, position + STEP))
            if k % 4 == 0:
                write("/wrist/force", now + 0.002, b"\x00\x01\x00\x00" + np.arange(6.0).tobytes())
        for service, called in zip(SERVICES, (0.0, PERIODS * CONTRACT.task.period + 0.02)):
            for part in range(4 if service in kinds else 0):  # sent, received, answered, answer received
                write(service, called + 0.001 * part, bytes(32))


def _connect(writer: Writer, topic: str, kind: str, qos: Qos) -> Any:
    profiles = [qos]
    if kind in typestore().fielddefs:
        return writer.add_connection(topic, kind, typestore=typestore(), offered_qos_profiles=profiles)
    hash_ = f"RIHS01_{hashlib.sha256(kind.encode()).hexdigest()}"
    return writer.add_connection(topic, kind, msgdef="float64[6] wrench\n", rihs01=hash_, offered_qos_profiles=profiles)


def humble(path: Path) -> None:
    """Turn a fresh sqlite3 bag into the form of Humble."""
    file = next(path.glob("*.db3"))
    with sqlite3.connect(file) as database:
        database.executescript(
            "DROP TABLE message_definitions; ALTER TABLE topics DROP COLUMN type_description_hash;"
            "DELETE FROM metadata; UPDATE schema SET schema_version = 3, ros_distro = 'humble';"
        )
        topics = database.execute("SELECT id, offered_qos_profiles FROM topics").fetchall()
        for key, profiles in topics:
            text = _dump_in_numbers(profiles)
            database.execute("UPDATE topics SET offered_qos_profiles = ? WHERE id = ?", (text, key))
    with closing(sqlite3.connect(file)) as database:
        database.executescript("PRAGMA page_size = 512; VACUUM;")
    content = yaml.safe_load((path / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    for key in ("custom_data", "ros_distro"):
        content.pop(key)
    for entry in content["topics_with_message_count"]:
        topic = entry["topic_metadata"]
        topic.pop("type_description_hash")
        topic["offered_qos_profiles"] = _dump_in_numbers(yaml.safe_dump(topic["offered_qos_profiles"]))
    _write_metadata(path, {**content, "version": 5})


NUMBERS = {
    "history": {"keep_last": 1, "keep_all": 2, "unknown": 3},
    "reliability": {"reliable": 1, "best_effort": 2},
    "durability": {"transient_local": 1, "volatile": 2},
    "liveliness": {"automatic": 1},
}
"""What the words of version 9 were until Iron."""


def _dump_in_numbers(profiles: str) -> str:
    found = yaml.safe_load(profiles)
    for profile in found:
        for key, numbers in NUMBERS.items():
            profile[key] = numbers.get(profile[key], profile[key])
    return yaml.safe_dump(found, sort_keys=False).strip()


def kilted(path: Path) -> None:
    """Turn a fresh MCAP bag into the form of Kilted."""
    content = yaml.safe_load((path / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    _write_metadata(path, {**content, "custom_data": None, "ros_distro": "kilted"})


ORDER = (
    "version storage_identifier duration starting_time message_count topics_with_message_count compression_format "
    "compression_mode relative_file_paths files custom_data ros_distro"
).split()


def _write_metadata(path: Path, content: dict[str, Any]) -> None:
    (file,) = (path / name for name in content["relative_file_paths"])
    name = f"{path.name}_0{file.suffix}"
    file.rename(path / name)
    content = {**content, "relative_file_paths": [name], "files": [{**content["files"][0], "path": name}]}
    ordered = {key: content[key] for key in ORDER if key in content}
    text = yaml.safe_dump({"rosbag2_bagfile_information": ordered}, sort_keys=False)
    (path / "metadata.yaml").write_text(text)


if __name__ == "__main__":
    for name in ("humble", "kilted"):
        shutil.rmtree(BAGS / name, ignore_errors=True)
    record(BAGS / "humble", StoragePlugin.SQLITE3, KINDS)
    humble(BAGS / "humble")
    services = {service: (TRIGGER, recorded_qos(QosDurability.VOLATILE)) for service in SERVICES}
    record(BAGS / "kilted", StoragePlugin.MCAP, {**KINDS, **services})
    kilted(BAGS / "kilted")
