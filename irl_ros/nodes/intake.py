"""Serialized messages of every topic that a contract names, stamped by when they arrived."""

from __future__ import annotations

import importlib
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from rosgraph_msgs.msg import Clock

from irl_ros.contract import COMMAND_ROLES, Contract, ContractError, Topic
from irl_ros.data.alignment import SECOND
from irl_ros.data.recording import SimTime

LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
SENSOR = QoSProfile(depth=1000, reliability=ReliabilityPolicy.BEST_EFFORT)
COMMAND = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)
SILENCE = 1.0
"""[s] A topic is silent this long after its max_age, by the wall clock: also where sim time stands still."""


class Intake:
    """Subscriptions by the contract's roles. `deliver(role, data, wall)` gets each message and its arrival [ns].

    `received` counts messages, `latched` holds the last one of each latched topic, `last` the last one of the others
    that are measured and when it arrived [ns], `names` the resolved topic names.
    """

    def __init__(self, node: Node, contract: Contract, deliver: Callable[[str, bytes, int], None]):
        self._node, self._contract, self._deliver = node, contract, deliver
        self.names = {role: node.resolve_topic_name(topic.name) for role, topic in contract.topics.items()}
        self.received: Counter[str] = Counter()
        self.latched: dict[str, bytes] = {}
        self.last: dict[str, tuple[bytes, int]] = {}
        self._heard: dict[str, float] = {}
        self._sim = SimTime() if node.get_parameter("use_sim_time").value else None
        if self._sim is not None:
            self._ticks = node.create_subscription(Clock, "/clock", self._on_tick, SENSOR)
        self._inputs = {role: self._subscribe(role, topic) for role, topic in contract.topics.items()}

    def drain(self) -> None:
        """Deliver everything that has arrived by now."""
        for role, subscription in self._inputs.items():
            self._take(role, _waiting(subscription))

    def stamp(self, wall: int) -> int:
        """Receive time on the node's clock [ns] of what arrived at `wall`."""
        return wall if self._sim is None else self._sim.at(wall)

    def missing(self) -> list[str]:
        """What the observation needs and is not there, in words."""
        self._take_ticks()
        found = {self.names[role]: self._lack(role) for role in self._contract.sources}
        if self._sim is not None and not self._sim:
            found["/clock"] = "use_sim_time is set and nothing was received"
        return [f"{name}: {problem}" for name, problem in found.items() if problem]

    def silent(self, role: str) -> float:
        """Wall time since a topic that should go on was heard [s]; 0 when that is not long."""
        limit = self._contract.topics[role].max_age
        age = time.monotonic() - self._heard.get(role, 0.0)
        return age if limit is not None and age > limit + SILENCE else 0.0

    def _lack(self, role: str) -> str:
        if role not in self._heard:
            if not self._node.count_publishers(self.names[role]):
                return "it has no publisher"
            latched = self._contract.topics[role].latched
            return "nothing received yet" + (" (its publisher must be reliable, transient local)" if latched else "")
        silent = self.silent(role)
        return f"silent for {silent:.1f} s" if silent else ""

    def _subscribe(self, role: str, topic: Topic) -> Subscription:
        sensor = LATCHED if topic.latched else SENSOR
        qos = COMMAND if role in COMMAND_ROLES else sensor
        receive = partial(self._on_message, role)
        return self._node.create_subscription(_message_type(topic), topic.name, receive, qos, raw=True)

    def _on_tick(self, tick: Clock, info: dict[str, int]) -> None:
        self._sim.tick(_received(info), tick.clock.sec * SECOND + tick.clock.nanosec)

    def _on_message(self, role: str, data: bytes, info: dict[str, int]) -> None:
        self._take(role, [(data, info), *_waiting(self._inputs[role])])

    def _take(self, role: str, arrived: list[tuple[bytes, dict[str, int]]]) -> None:
        self._take_ticks()
        for data, info in arrived:
            self.received[role] += 1
            self._heard[role] = time.monotonic()
            if role not in COMMAND_ROLES and self._contract.topics[role].latched:
                self.latched[role] = data
            elif role not in COMMAND_ROLES:
                self.last[role] = data, _received(info)
            self._deliver(role, data, _received(info))

    def _take_ticks(self) -> None:
        """Stamping needs every tick that has arrived."""
        if self._sim is not None:
            for tick, info in _waiting(self._ticks):
                self._on_tick(tick, info)


def _received(info: dict[str, int]) -> int:
    """When the middleware received a message, by the wall clock [ns]; now, where it does not say."""
    return info["received_timestamp"] or time.time_ns()


def _waiting(subscription: Subscription) -> list[tuple[Any, dict[str, int]]]:
    """What has arrived and no callback has got yet: an executor's round for each message would cost too much."""
    with subscription.handle:
        return list(iter(partial(subscription.handle.take_message, subscription.msg_type, subscription.raw), None))


def _message_type(topic: Topic) -> type:
    """The class of `package/msg/Name`; raises ContractError where that package is not installed."""
    package, _, name = topic.type.rpartition("/")
    try:
        return getattr(importlib.import_module(package.replace("/", ".")), name)
    except (ImportError, AttributeError, ValueError):
        raise ContractError(f"topic {topic.name}: no message type {topic.type!r} is installed") from None
