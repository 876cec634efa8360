"""Subscriptions that a node waits for itself, between two turns of its executor.

At each turn rclpy's executor asks for everything that a node has, which takes 0.1 to 0.2 ms before a callback begins
(docs/results.md). What a control loop acts on need not wait for that.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.subscription import Subscription


class _Events(MutuallyExclusiveCallbackGroup):
    """Leaves to the executor what the middleware tells about the subscriptions: a QoS that does not fit."""

    def can_execute(self, entity: Any) -> bool:
        return not isinstance(entity, Subscription) and super().can_execute(entity)


class Listener:
    """Hands messages to their callbacks inside :meth:`wait`, in the thread that calls it."""

    def __init__(self, node: Node):
        self._node, self._group = node, _Events()
        self._subscriptions: list[tuple[Subscription, int]] = []
        """Each with the number of arguments that its callback takes."""
        self._ready = None

    def subscribe(self, kind: type, topic: str, receive: Callable[..., None], qos: QoSProfile) -> None:
        """Subscribe with a callback that takes the message, or the message and its information as rclpy's may."""
        subscription = self._node.create_subscription(kind, topic, receive, qos, callback_group=self._group)
        self._subscriptions.append((subscription, _n_arguments(receive)))
        count = len(self._subscriptions)
        self._ready = rclpy_implementation.WaitSet(count, 0, 0, 0, 0, 0, self._node.context.handle)

    def close(self) -> None:
        for subscription, _ in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions = []

    def wait(self, seconds: float) -> None:
        """Return once something came and was handed on, of each topic one message at most, or after `seconds`."""
        self._ready.clear_entities()
        for subscription, _ in self._subscriptions:
            self._ready.add_subscription(subscription.handle)
        self._ready.wait(max(0, round(seconds * 1e9)))  # below zero it would wait for ever
        ready = self._ready.get_ready_entities("subscription")
        for subscription, arguments in self._subscriptions:
            if subscription.handle.pointer in ready:
                taken = subscription.handle.take_message(subscription.msg_type, subscription.raw)
                if taken is not None:
                    subscription.callback(*taken[:arguments])


def _n_arguments(receive: Callable[..., None]) -> int:
    """Return 1 for a callback that a message alone is enough for, else 2, as rclpy decides."""
    try:
        inspect.signature(receive).bind(None)
    except TypeError:
        return 2
    return 1


def publisher_of(info: Any) -> bytes:
    """Return the DDS identity of a message's publisher, empty where the middleware does not give it."""
    return bytes((info.get("publisher_gid") or {}).get("data", b""))
