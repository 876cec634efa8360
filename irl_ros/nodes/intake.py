"""Serialized messages of every topic that a contract names, stamped by when they arrived."""

from __future__ import annotations

import importlib
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy, qos_policy_name_from_kind
from rclpy.subscription import Subscription
from rosbags.interfaces import Qos
from rosgraph_msgs.msg import Clock

from irl_ros.contract import COMMAND_ROLES, Contract, ContractError, Topic
from irl_ros.contract_lookup import locate_package
from irl_ros.data.alignment import SECOND
from irl_ros.data.bag_writer import offered_qos, usual_qos
from irl_ros.data.recording import SimTime
from irl_ros.data.take import Arrival
from irl_ros.nodes.near_topics import near_topic

try:
    from rclpy.event_handler import SubscriptionEventCallbacks, UnsupportedEventTypeError
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks, UnsupportedEventTypeError

DEPTH = 1000
"""Messages of a topic that wait while the recorder cannot: a second of one at 1 kHz."""
LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
BEST_EFFORT = QoSProfile(depth=DEPTH, reliability=ReliabilityPolicy.BEST_EFFORT)
RELIABLE = QoSProfile(depth=DEPTH, reliability=ReliabilityPolicy.RELIABLE)
POLL = 0.01
"""[s] between two looks at what has arrived; stamps are the middleware's, so that it costs no accuracy."""
SILENCE = 1.0
"""[s] A topic is silent this long after its max_age, by the wall clock: also where sim time stands still."""


class Polled(CallbackGroup):
    """What the executor leaves alone. With a turn of its own for each message it would need a core at 3,000 messages a
    second, and their subscriptions' events wake it as often."""

    def can_execute(self, entity: Any) -> bool:
        return False

    def beginning_execution(self, entity: Any) -> bool:
        return False

    def ending_execution(self, entity: Any) -> None:
        """Nothing was held."""


class _EverythingReady:
    """What an event takes for a wait set: it has not to be waited for."""

    def add_event(self, event: Any) -> int:
        return 0

    def is_ready(self, kind: str, index: int) -> bool:
        return True


class Poller:
    """Calls `poll` again and again from a thread: through timers of the executor, which asks for everything at each
    turn, it would cost half a core."""

    def __init__(self, poll: Callable[[], object]):
        self._poll, self._running = poll, True
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="poller", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._running = False
        self._thread.join()

    def check(self) -> None:
        """Raise what `poll` has raised."""
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            while self._running:
                time.sleep(POLL)
                self._poll()
        except BaseException as error:
            self._error = error


class Intake:
    """Subscriptions by the contract's roles, asked for what has arrived by :meth:`poll`, which gives it to `deliver` in
    order of arrival.

    `received` counts messages, `latched` holds the last one of each latched topic, `last` the last one of the others
    that are measured, `names` the resolved topic names, `needed` the roles that the observation needs; `lost` is told
    how many messages of a role the middleware gave up, `incompatible` names the policy by role where a publisher's QoS
    keeps it from being heard.
    """

    def __init__(
        self, node: Node, contract: Contract, deliver: Callable[[Arrival], None], lost: Callable[[str, int], None]
    ):
        self._node, self._contract, self._deliver, self._lost = node, contract, deliver, lost
        self.names = {role: node.resolve_topic_name(topic.name) for role, topic in contract.topics.items()}
        self.needed = contract.sources
        self.received: Counter[str] = Counter()
        self.latched: dict[str, Arrival] = {}
        self.last: dict[str, Arrival] = {}
        self.incompatible: dict[str, str] = {}
        self._heard: dict[str, float] = {}
        self._early: list[Arrival] = []
        self._polled = Polled()
        self._sim = SimTime() if node.get_parameter("use_sim_time").value else None
        if self._sim is not None:
            self._ticks = node.create_subscription(
                Clock, "/clock", lambda _: None, BEST_EFFORT, callback_group=self._polled
            )
        self._inputs = {role: self._subscribe(role, self._usual(role)) for role in contract.topics}

    def poll(self) -> None:
        """Deliver what arrived before now, in order; what arrives meanwhile on some topic is for next time."""
        now = time.time_ns()
        arrived = self._arrived()
        self._early = [a for a in arrived if a.wall > now]
        self._pass_on(a for a in arrived if a.wall <= now)

    def drain(self) -> None:
        """Deliver everything that has arrived by now."""
        arrived, self._early = self._arrived(), []
        self._pass_on(arrived)

    def stamp(self, wall: int) -> int:
        """Receive time on the node's clock [ns] of what arrived at `wall`."""
        return wall if self._sim is None else self._sim.at(wall)

    def missing(self) -> list[str]:
        """What the observation needs and is not there, in words."""
        self._take_ticks()
        found = {self.names[role]: self._lack(role) for role in self.needed}
        if self._sim is not None and not self._sim:
            found["/clock"] = "use_sim_time is set and nothing was received"
        return [f"{name}: {problem}" for name, problem in found.items() if problem]

    def connected(self, role: str) -> bool:
        """Whether a publisher of this topic can be heard, of one that need not have said anything yet; it may not have
        found us. True where rclpy does not tell (before Kilted)."""
        count = getattr(self._inputs[role], "get_publisher_count", lambda: 1)
        return count() > 0

    def silent(self, role: str) -> float:
        """Wall time since a topic that should go on was heard [s]; 0 when that is not long."""
        limit = self._contract.topics[role].max_age
        age = time.monotonic() - self._heard.get(role, 0.0)
        return age if limit is not None and age > limit + SILENCE else 0.0

    def adapt(self) -> list[str]:
        """Ask for what the publishers offer: reliable where all are, so that the network loses nothing; returns the
        topics where that is new. Not while an episode is recorded: messages may be missed meanwhile."""
        changed = []
        for role, subscription in self._inputs.items():
            offered = [i.qos_profile for i in self._node.get_publishers_info_by_topic(self.names[role])]
            if self._latched(role) or not offered:
                continue
            wanted = RELIABLE if all(o.reliability == ReliabilityPolicy.RELIABLE for o in offered) else BEST_EFFORT
            if subscription.qos_profile.reliability != wanted.reliability:
                self._node.destroy_subscription(subscription)
                self._heard.pop(role, None)
                self.incompatible.pop(role, None)
                self._inputs[role] = self._subscribe(role, wanted)
                changed.append(self.names[role])
        return changed

    def offered(self, role: str) -> Qos:
        """The QoS of the topic's publisher, or what it should be where nothing publishes."""
        found = self._node.get_publishers_info_by_topic(self.names[role])
        if not found:
            return usual_qos(self._contract, role)
        profile = found[0].qos_profile
        return offered_qos(
            profile.reliability == ReliabilityPolicy.RELIABLE, profile.durability == DurabilityPolicy.TRANSIENT_LOCAL
        )

    def events(self) -> None:
        """Ask the middleware what it lost and which publishers it cannot hear."""
        ready = _EverythingReady()
        for subscription in self._inputs.values():
            for event in subscription.event_handlers:
                event.add_to_wait_set(ready)
                if event.is_ready(ready) and (found := event.take_data()) is not None and found.total_count_change:
                    event.callback(found)

    def _lack(self, role: str) -> str:
        if role not in self._heard:
            if not self._node.count_publishers(self.names[role]):
                return "it has no publisher" + near_topic(self._node, self._contract.topics[role])
            if role in self.incompatible:
                return f"its publisher's {self.incompatible[role]} does not fit" + self._must(role)
            return "nothing received yet" + self._must(role)
        silent = self.silent(role)
        return f"silent for {silent:.1f} s" if silent else ""

    def _must(self, role: str) -> str:
        return " (its publisher must be reliable, transient local)" if self._latched(role) else ""

    def _latched(self, role: str) -> bool:
        return role not in COMMAND_ROLES and self._contract.topics[role].latched

    def _usual(self, role: str) -> QoSProfile:
        if self._latched(role):
            return LATCHED
        return RELIABLE if role in COMMAND_ROLES else BEST_EFFORT

    def _subscribe(self, role: str, qos: QoSProfile) -> Subscription:
        topic = self._contract.topics[role]
        make = partial(
            self._node.create_subscription, _message_type(topic), topic.name, lambda _: None, qos, raw=True,
            callback_group=self._polled,
        )
        bad = partial(self._on_incompatible, role)
        try:
            # Of a latched topic only the last message counts.
            told = None if self._latched(role) else lambda event: self._lost(role, event.total_count_change)
            events = SubscriptionEventCallbacks(message_lost=told, incompatible_qos=bad, use_default_callbacks=False)
            return make(event_callbacks=events)
        except UnsupportedEventTypeError:
            return make()

    def _on_incompatible(self, role: str, event: Any) -> None:
        policy = qos_policy_name_from_kind(event.last_policy_kind)
        self.incompatible[role] = policy
        self._node.get_logger().error(
            f"{self.names[role]}: a publisher offers another {policy} than is needed{self._must(role)}: it is not heard"
        )

    def _arrived(self) -> list[Arrival]:
        found = self._early
        for role, subscription in self._inputs.items():
            found += [_arrival(role, data, info) for data, info in _waiting(subscription)]
        self._take_ticks()  # stamping needs every tick that has arrived
        return sorted(found, key=lambda arrival: arrival.wall)

    def _pass_on(self, arrivals: Any) -> None:
        for arrival in arrivals:
            role = arrival.role
            self.received[role] += 1
            self._heard[role] = time.monotonic()
            if self._latched(role):
                self.latched[role] = arrival
            elif role not in COMMAND_ROLES:
                self.last[role] = arrival
            self._deliver(arrival)

    def _take_ticks(self) -> None:
        if self._sim is not None:
            for tick, info in _waiting(self._ticks):
                self._sim.tick(_received(info), tick.clock.sec * SECOND + tick.clock.nanosec)


def _arrival(role: str, data: bytes, info: dict[str, Any]) -> Arrival:
    publisher = (info.get("publisher_gid") or {}).get("data", b"")
    number = info.get("publication_sequence_number") if publisher else None
    return Arrival(role, data, _received(info), publisher, number)


def _received(info: dict[str, Any]) -> int:
    """When the middleware received a message, by the wall clock [ns]; now, where it does not say."""
    return info["received_timestamp"] or time.time_ns()


def _waiting(subscription: Subscription) -> list[tuple[Any, dict[str, Any]]]:
    """What has arrived and was not taken yet."""
    with subscription.handle:
        return list(iter(partial(subscription.handle.take_message, subscription.msg_type, subscription.raw), None))


def _message_type(topic: Topic) -> type:
    """The class of `package/msg/Name`; raises ContractError where that package is not installed."""
    package, _, name = topic.type.rpartition("/")
    try:
        if locate_package(package.partition("/")[0]) is None:  # also where the working directory has one
            raise ImportError(package)
        return getattr(importlib.import_module(package.replace("/", ".")), name)
    except (ImportError, AttributeError, ValueError):
        raise ContractError(f"topic {topic.name}: no message type {topic.type!r} is installed") from None
