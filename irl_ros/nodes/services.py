"""Calling another node's services so that no answer gets lost."""

from __future__ import annotations

import time
from typing import Any

from rcl_interfaces.srv import GetParameters
from rclpy.node import Node
from rclpy.task import Future

ASK_AGAIN = 0.5  # [s] wall time


class Caller:
    """A client of the service `name`, relative to `node` as names of services are; NODE/SERVICE, as all of ours.

    A server takes requests before it has discovered the client: what they ask for is done, and rmw_fastrtps gives
    the answer up after 0.1 s. Discovery keeps the order in which clients were made: whoever answers one that was made
    after ours has discovered ours. That one asks for the values of no parameters, which may be asked again.
    """

    def __init__(self, node: Node, kind: type, name: str):
        self._node = node
        self._client = node.create_client(kind, name)
        self._later = node.create_client(GetParameters, f"{name.rpartition('/')[0]}/get_parameters")
        self._asked = 0.0
        self._answers: list[Future] = []
        self._discovered = False

    def ready(self) -> bool:
        """Whether the server is there and has discovered this client; to be polled while the node spins."""
        if not self._discovered and self._client.service_is_ready() and self._later.service_is_ready():
            if time.monotonic() > self._asked + ASK_AGAIN:
                self._asked = time.monotonic()
                self._answers.append(self._later.call_async(GetParameters.Request()))
            self._discovered = any(answer.done() for answer in self._answers)
        return self._discovered

    def call_async(self, request: Any) -> Future:
        """Send the request, once ready."""
        return self._client.call_async(request)

    def destroy(self) -> None:
        """Give its clients back to the node."""
        self._node.destroy_client(self._later)
        self._node.destroy_client(self._client)
