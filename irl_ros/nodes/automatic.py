"""When an episode begins and ends by itself: at the first motion, at a success that lasts, after a time."""

from __future__ import annotations

import time
from collections import deque

import numpy as np
from rclpy.node import Node
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool

from irl_ros import messages
from irl_ros.contract import Contract
from irl_ros.data.alignment import SECOND
from irl_ros.data.take import Arrival
from irl_ros.nodes.conduct import Settings

REST = 0.5
"""[s] after which a pose that was kept is where the arm rests: it may creep, or have been put there."""


class Motion:
    """Tells motion from rest: a joint is further than `threshold` [rad] from where the arm rested."""

    def __init__(self, threshold: float):
        self._threshold = threshold
        self._rested: tuple[np.ndarray, float] | None = None
        self._still_since = 0.0

    def moves(self, position: np.ndarray, now: float) -> bool:
        """Whether the arm at `position` [rad] moves, at the time `now` [s]."""
        if self._rested is None:
            self._rested, self._still_since = (position, now), now
        reference, since = self._rested
        moved = bool(np.abs(position - reference).max() > self._threshold)
        if moved:
            self._still_since = now
        if moved or now - since > REST:
            self._rested = position, now
        return moved

    def rested(self, now: float) -> float:
        """For how long it has not moved [s]; 0 before it was seen."""
        return now - self._still_since if self._rested is not None else 0.0

    def forget(self) -> None:
        """The next pose is where the arm rests."""
        self._rested = None


class Ending:
    """Whether an episode is over: `hold` [s] after the task said success without taking it back, or after `timeout`
    [s], 0: never."""

    def __init__(self, hold: float, timeout: float):
        self._hold, self._timeout = hold, timeout
        self._succeeded: float | None = None

    def begin(self) -> None:
        """An episode starts: what was said before does not count."""
        self._succeeded = None

    def say(self, success: bool, now: float) -> None:
        """The task says at `now` [s] whether it is done."""
        if not success:
            self._succeeded = None
        elif self._succeeded is None:
            self._succeeded = now

    def over(self, lasted: float, now: float) -> bool:
        """Whether to stop an episode that has `lasted` so long [s]."""
        done = self._succeeded is not None and now - self._succeeded >= self._hold
        return done or 0 < self._timeout <= lasted

    @property
    def success(self) -> bool:
        """Whether the task is done, as far as was said."""
        return self._succeeded is not None


class Automatic:
    """Watches what arrives for an episode's beginning and end, as the operator's settings say."""

    def __init__(self, node: Node, settings: Settings, contract: Contract):
        self._node, self._settings, self._contract = node, settings, contract
        self._motion = Motion(settings.motion)
        self._ending = Ending(settings.success_hold, settings.timeout)
        self._recent: deque[Arrival] = deque()
        self._numbers: dict[bytes, int | None] = {}
        self.waits = settings.start_on_motion
        if settings.success_topic:
            say = lambda msg: self._ending.say(msg.data, time.monotonic())  # noqa: E731
            node.create_subscription(Bool, settings.success_topic, say, 10)

    def keep(self, arrival: Arrival) -> None:
        """What arrived while nothing was recorded. No episode begins with a hole: there is one where the recorder
        subscribes anew to what a publisher offers, and longer than that until the publisher has found it."""
        if self.waits:
            last, self._numbers[arrival.publisher] = self._numbers.get(arrival.publisher), arrival.number
            if last is not None and arrival.number > last + 1:
                self._recent.clear()
            self._recent.append(arrival)
            while self._recent[0].wall < arrival.wall - self._settings.lead_in * SECOND:
                self._recent.popleft()

    def lead_in(self) -> list[Arrival]:
        """What arrived just before the motion."""
        found = list(self._recent)
        self._recent.clear()
        return found

    def wait(self) -> None:
        """The arm rests from now on."""
        self._motion.forget()

    def begin(self) -> None:
        """An episode has started; where the arm rests after it is not known."""
        self._ending.begin()
        self._motion.forget()

    def moves(self, state: Arrival | None) -> bool:
        """Whether the arm moves by its last joint state."""
        if state is None:
            return False
        message = deserialize_message(state.data, JointState)
        try:
            position = messages.measured(message, "joint_states", self._contract, False)["joint_position"]
        except messages.MessageError as error:
            self._node.get_logger().error(f"joint_states: {error}", throttle_duration_sec=2.0)
            return False
        return self._motion.moves(position, time.monotonic())

    def rests(self) -> bool:
        """Whether the arm has rested for so long that the next motion is an episode's."""
        return 0 < self._settings.rearm <= self._motion.rested(time.monotonic())

    def over(self, lasted: float) -> bool:
        """Whether an episode that has `lasted` so long [s] is over."""
        return self._ending.over(lasted, time.monotonic())

    def verdict(self) -> bool | None:
        """Success or failure, where the task says so."""
        return self._ending.success if self._settings.success_topic else None
