"""The command topic has one publisher: who else is on it, and which of two policy runners may drive.

Every runner says on `command_claims`, latched and again each second, when it started and whether it is armed. Of two
runners the one that started later yields, however their names and enables cross: it refuses to arm while the other is
there, and halts when it finds out too late. A publisher without a claim, and a claim that is no longer renewed, block
the topic until DDS forgets them: the sender may be alive.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from std_msgs.msg import String

from irl_ros.nodes import diagnostics

TOPIC = "/command_claims"
"""Absolute: two namespaces may command one absolute topic."""
SILENT = 3.0
"""[s] A runner that lives renews its claim each second."""
FORGOTTEN = 60.0
"""[s] after its last word a claim is dropped: by then DDS has forgotten who made it."""
LEASE = "DDS forgets a sender that was killed about 20 s after its death; ask again then"
PREFIX = 12
"""Bytes at the start of an endpoint's GID that name the DDS participant, one for each process."""
LATCHED = QoSProfile(depth=20, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Claim(NamedTuple):
    """What one runner says of itself."""

    started: int
    """[ns] of the system's clock; ties are broken by the participant."""
    participant: str
    name: str
    armed: bool = False
    heard: float = 0.0
    """When it was last renewed [monotonic s]."""


def obstacle(own: Claim, publishers: Mapping[str, str], claims: Mapping[str, Claim], now: float) -> str | None:
    """Why `own` may not drive yet, in words; None when it may.

    `publishers` are the others on the command topic, names by participant; `claims` are by participant too.
    """
    for participant, name in publishers.items():
        claim = claims.get(participant)
        if claim is None:
            return f"it has another publisher, {name}: stop it. {LEASE}"
        if now - claim.heard > SILENT:
            silent = now - claim.heard
            return f"{name} is still on it and has been silent for {silent:.0f} s, as one that was killed. {LEASE}"
        if claim.armed:
            return f"{name} drives the robot: disable it first"
        if claim[:2] < own[:2]:
            ahead = (own.started - claim.started) * 1e-9
            return f"{name} started {ahead:.3f} s earlier, and the later one yields: stop one of the two"
    return None


class Claims:
    """This runner's claim to the command topic `topic`, and those of others. `yield_to` is called with the reason when
    this runner is armed and one with the better claim is too."""

    def __init__(self, node: Node, topic: str, started: int, yield_to: Callable[[str], None]):
        self._node, self._topic, self._yield_to = node, topic, yield_to
        self._own = Claim(started, _participant(node), node.get_fully_qualified_name())
        self._claims: dict[str, Claim] = {}
        self._publisher = node.create_publisher(DiagnosticStatus, TOPIC, LATCHED)
        self._subscription = node.create_subscription(DiagnosticStatus, TOPIC, self._on_claim, LATCHED)
        self.renew()

    def close(self) -> None:
        self._node.destroy_subscription(self._subscription)
        self._node.destroy_publisher(self._publisher)

    def renew(self, armed: bool | None = None) -> None:
        """Say it again, with another state of the gate where one is given."""
        self._own = self._own if armed is None else self._own._replace(armed=armed)
        message = "armed" if self._own.armed else "idle"
        values = {"topic": self._topic, "started": self._own.started}
        claim = diagnostics.status(self._own.name, diagnostics.OK, message, **values)
        claim.hardware_id = self._own.participant
        self._publisher.publish(claim)

    def others(self) -> dict[str, str]:
        """Names of the other publishers of commands by participant; a second node of our own name counts."""
        infos = self._node.get_publishers_info_by_topic(self._topic)
        found = {_prefix(i): f"{i.node_namespace.rstrip('/')}/{i.node_name}" for i in infos}
        return {participant: name for participant, name in found.items() if participant != self._own.participant}

    def obstacle(self) -> str | None:
        """Why this runner may not drive yet, in words; None when it may."""
        return obstacle(self._own, self.others(), self._claims, time.monotonic())

    def _on_claim(self, message: DiagnosticStatus) -> None:
        values = {pair.key: pair.value for pair in message.values}
        if message.hardware_id == self._own.participant or values.get("topic") != self._topic:
            return
        started = values.get("started", "")[:20]  # anybody may publish here
        started = int(started) if started.isdecimal() else 0
        claim = Claim(started, message.hardware_id, message.name, message.message == "armed", time.monotonic())
        lately = {p: c for p, c in self._claims.items() if claim.heard - c.heard < FORGOTTEN}
        self._claims = {**lately, claim.participant: claim}
        if self._own.armed and claim.armed and claim[:2] < self._own[:2]:
            self._yield_to(f"{claim.name} is armed on {self._topic} too and started earlier: this one yields")


def _participant(node: Node) -> str:
    """The DDS participant that this node's endpoints belong to: asked of a publisher whose topic nobody else has."""
    publisher = node.create_publisher(String, f"{TOPIC}/p{uuid.uuid4().hex}", 1)
    try:
        return _prefix(node.get_publishers_info_by_topic(publisher.topic_name)[0])
    finally:
        node.destroy_publisher(publisher)


def _prefix(endpoint: Any) -> str:
    return bytes(endpoint.endpoint_gid[:PREFIX]).hex()
