"""What was measured last, how old it is, and whether its sender's clock can be believed.

Age is counted from when a message was received, on the monotonic clock: what a sender's clock shows does not matter,
it may be an hour off. Only its differences do: a message that does not carry a later stamp than the one before brings
nothing new.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from irl_ros.contract import Contract
from irl_ros.control.joint_state_check import JointStateCheck


class Inputs:
    """The latest measured quantities and when each topic was last received [monotonic s].

    Of topics that go stale, a message whose stamp stands still is not counted, so that its topic grows old; one whose
    stamp runs backwards makes its topic a fault until its stamps have run forwards for its max_age. Its quantities are
    not taken: an older sample must not replace a newer one. A latched topic is exempt. A joint state that the arm cannot
    have reached is a fault too, and not taken (:class:`~irl_ros.control.joint_state_check.JointStateCheck`).
    """

    def __init__(self, contract: Contract, may_jump: Callable[[], bool] = lambda: False, at_once: bool = False):
        """`may_jump` and `at_once`: see JointStateCheck."""
        self.roles = tuple(dict.fromkeys(("joint_states", *contract.sources)))
        self._topics = {role: contract.topics[role] for role in self.roles}
        self._received = {role: -math.inf for role in self.roles}
        self._backwards = {role: -math.inf for role in self.roles}
        self._stamps: dict[str, float] = {}
        self._still: set[str] = set()
        self._measured: dict[str, np.ndarray] = {}
        self.joint_states = JointStateCheck(contract, may_jump, at_once)

    def update(
        self,
        role: str,
        quantities: Mapping[str, np.ndarray],
        now: float,
        stamp: float | None = None,
        publisher: bytes = b"",
    ) -> None:
        """Take what a message of topic `role` brought at `now`.

        `stamp` is its header's [s of the sender's clock], `publisher` its sender's DDS identity.
        """
        if stamp is not None and not self._topics[role].latched and not self._advances(role, stamp, now):
            return
        if role == "joint_states" and not self.joint_states.believe(quantities, now, stamp, publisher):
            return
        self._measured = {**self._measured, **quantities}
        self._received[role] = now

    def forget(self, role: str) -> None:
        """What this topic brought no longer holds, as if nothing had come yet."""
        self._received[role] = -math.inf

    def ages(self, now: float) -> dict[str, float]:
        """Seconds since each topic was received; inf where nothing came yet."""
        return {role: now - received for role, received in self._received.items()}

    def fault(self, now: float) -> str | None:
        """Which topic's stamps cannot be believed, in words."""
        for role, topic in self._topics.items():
            if topic.latched:
                continue
            if now - self._backwards[role] <= topic.max_age:
                return f"{topic.name}: its stamps run backwards: a clock was set back, or two nodes publish it"
            if role in self._still and now - self._received[role] > topic.max_age:
                return f"{topic.name}: its messages keep coming, but their stamps stand still"
        return self.joint_states.fault(now)

    def accept_new_pose(self) -> None:
        """Take the pose after a jump, where the operator was asked and enables again."""
        sample = self.joint_states.accept()
        if sample is not None:
            self._measured = {**self._measured, **sample.quantities}
            self._received["joint_states"] = sample.received

    @property
    def complete(self) -> bool:
        """Whether every topic has been received at least once."""
        return all(received > -math.inf for received in self._received.values())

    @property
    def measured(self) -> Mapping[str, np.ndarray]:
        """Quantities by name, for Contract.observe."""
        return self._measured

    @property
    def joint_position(self) -> np.ndarray | None:
        """[rad], shape (n_joints,); None before the first message."""
        return self._measured.get("joint_position")

    def _advances(self, role: str, stamp: float, now: float) -> bool:
        """Whether `stamp` is later than the topic's last one."""
        last = self._stamps.get(role, -math.inf)
        self._stamps[role] = stamp
        if stamp < last:
            self._backwards[role] = now
        (self._still.add if stamp == last else self._still.discard)(role)
        return stamp > last
