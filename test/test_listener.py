"""Subscriptions that a node waits for itself, between two turns of its executor."""

from __future__ import annotations

import time
from collections.abc import Iterator

import dds
import pytest
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile, ReliabilityPolicy
from runners import spin
from std_msgs.msg import Int64

from irl_ros.nodes.listener import Listener

NEWEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
STRICT = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)


@pytest.fixture
def client() -> Iterator[dds.Client]:
    with dds.domain() as domain, dds.client(domain) as client:
        yield client


def connected(client: dds.Client, topic: str) -> Publisher:
    publisher = client.node.create_publisher(Int64, topic, STRICT)
    client.wait(publisher.get_subscription_count, f"a subscriber of {topic}")
    return publisher


def test_messages_wait_for_it_and_the_executor_leaves_them_alone(client: dds.Client) -> None:
    heard: list[tuple[str, int]] = []
    listener = Listener(client.node)
    for topic in ("one", "other"):
        listener.subscribe(Int64, topic, lambda m, topic=topic: heard.append((topic, m.data)), NEWEST)
    one, other = connected(client, "one"), connected(client, "other")
    for number in range(3):
        one.publish(Int64(data=number))
    other.publish(Int64(data=7))
    spin(client, 0.3)
    assert not heard
    listener.wait(5.0)
    assert heard == [("one", 2), ("other", 7)], "the newest of each"


def test_it_waits_as_long_as_it_is_told_and_no_longer_than_for_a_message(client: dds.Client) -> None:
    heard: list[int] = []
    listener = Listener(client.node)
    listener.subscribe(Int64, "number", lambda message: heard.append(message.data), NEWEST)
    began = time.monotonic()
    listener.wait(0.2)
    assert not heard and 0.2 <= time.monotonic() - began
    listener.wait(0.0)
    listener.wait(-1.0)  # what is left until a moment that has passed
    publisher = connected(client, "number")
    publisher.publish(Int64(data=1))
    began = time.monotonic()
    listener.wait(20.0)
    assert heard == [1] and time.monotonic() - began < 10.0
    listener.close()
    client.wait(lambda: not publisher.get_subscription_count(), "the subscriptions to end")


def test_the_executor_still_tells_of_a_publisher_that_does_not_fit(client: dds.Client, capfd: pytest.CaptureFixture) -> None:
    Listener(client.node).subscribe(Int64, "number", lambda message: None, STRICT)
    client.node.create_publisher(Int64, "number", NEWEST)
    said = ""

    def told() -> bool:
        nonlocal said
        said += capfd.readouterr().err
        return "incompatible QoS" in said and "RELIABILITY" in said

    client.wait(told, "a warning")
