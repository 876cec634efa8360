"""Checks that decide whether a measured joint state may be used.

A finite value can still be wrong: degrees for radians, a turn too many, another robot's pose, the last reading
repeated. A controller that starts or halts from such a pose drives the arm there.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from irl_ros.contract import Contract, Safety
from irl_ros.control.limits import JointLimits

POSITION_NOISE = 0.02
"""Change between two joint states that is always believed [rad]."""
SPEED_TOLERANCE = 1.25
"""Ratio to a joint's velocity limit up to which a change of position is believed."""
MAX_VELOCITY_RATIO = 10.0
"""Ratio to a joint's velocity limit up to which a reported velocity is believed: differences of positions are noisy."""
SETTLED_SAMPLES = 3
"""Joint states at a new pose after which an operator may accept it."""
FROZEN_AGES = 2.5
"""Time without any change of a joint that is commanded to move, in multiples of the topic's max_age."""
FROZEN_TRAVEL = 0.05
"""Commanded displacement that a joint must answer with a change of its position [rad]."""


class Sample(NamedTuple):
    """Joint positions [rad] in contract order, received at [monotonic s] and stamped [s of the sender's clock]."""

    position: list[float]
    received: float
    stamp: float | None
    quantities: Mapping[str, np.ndarray]
    """All that the message brought."""


class JointStateCheck:
    """Check of each joint state against the joints' limits and against the one before it.

    A state is rejected where a position lies outside its limits, a velocity is impossible, another publisher sends the
    same joints, or a joint moved farther than its velocity limit allows. After such a jump nothing is believed until
    the old pose is back or an operator accepts the new one (:meth:`ask`, :meth:`accept`). `may_jump` returns True where
    a jump is no fault: a simulated arm that is reset. `at_once`: the arm goes to each command without a ramp, as a forward
    position controller makes it, so that it may move one control period's step between two states.

    Plain floats: a handful of joints is too few for numpy, and every joint state passes here.
    """

    def __init__(self, contract: Contract, may_jump: Callable[[], bool] = lambda: False, at_once: bool = False):
        robot = contract.robot
        self._slack = [POSITION_NOISE + (step if at_once else 0.0) for step in contract.max_joint_step.tolist()]
        self._topic, self._names = robot.joint_states, robot.joint_names
        self._limits = JointLimits(contract, Safety())
        self._max_speed = [SPEED_TOLERANCE * limit for limit in robot.velocity_limit]
        self._max_velocity = [MAX_VELOCITY_RATIO * limit for limit in robot.velocity_limit]
        self._opening_range = robot.gripper.opening_range if robot.gripper is not None else (-math.inf, math.inf)
        self._may_jump = may_jump
        self._publisher, self._publisher_seen = b"", -math.inf
        self._believed: deque[Sample] = deque()
        self._candidates: list[Sample] = []
        self._asked = False
        self._rejection, self._rejected = "", -math.inf

    def believe(
        self, quantities: Mapping[str, np.ndarray], now: float, stamp: float | None = None, publisher: bytes = b""
    ) -> bool:
        """Return whether a joint state received at `now` [monotonic s] may be used.

        `quantities` are those of :func:`irl_ros.messages.measured`, `publisher` is the sender's DDS identity.
        """
        position = quantities["joint_position"].tolist()
        reason = self._impossible(position, quantities) or self._second_publisher(publisher, now)
        if reason:
            self._rejection, self._rejected = f"{self._topic.name}: {reason}", now
            return False
        return self._follow(Sample(position, now, stamp, quantities))

    def fault(self, now: float) -> str | None:
        """Return why joint states cannot be believed at `now`, None while they can."""
        if self._candidates or now - self._rejected <= self._topic.max_age:
            return self._rejection
        return None

    def ask(self) -> str:
        """Return how the operator can accept a new pose, empty where there is none that has settled."""
        if len(self._candidates) < SETTLED_SAMPLES:
            return ""
        self._asked = True
        return "; check that the arm really is there, then enable again to accept it"

    def accept(self) -> Sample | None:
        """Believe the new pose that :meth:`ask` named and return it, None where nothing was asked."""
        if not (self._asked and self._candidates):
            return None
        sample = self._candidates[-1]
        self._restart(sample)
        self._rejected = -math.inf
        return sample

    def speed(self) -> np.ndarray:
        """Return each joint's mean velocity over the last max_age of positions [rad/s], shape (n_joints,)."""
        first, last = (self._believed[0], self._believed[-1]) if self._believed else (None, None)
        if first is None or last.received - first.received < self._topic.max_age / 2.0:
            return np.zeros(len(self._names))
        return np.subtract(last.position, first.position) / (last.received - first.received)

    def _impossible(self, position: list[float], quantities: Mapping[str, np.ndarray]) -> str | None:
        if (outside := self._limits.impossible(position)) is not None:
            return f"{outside}; check its unit and calibration, or move it back by hand"
        velocity, opening = quantities.get("joint_velocity"), quantities.get("gripper_opening")
        for name, value, most in zip(self._names, () if velocity is None else velocity.tolist(), self._max_velocity):
            if not abs(value) <= most:
                return f"{name} moves at {value:.4g} rad/s, its limit is {most / MAX_VELOCITY_RATIO:g} rad/s"
        return None if opening is None else self._impossible_opening(float(opening[0]))

    def _impossible_opening(self, opening: float) -> str | None:
        closed, opened = self._opening_range
        slack = opened - closed
        if closed - slack <= opening <= opened + slack:
            return None
        return f"the gripper's opening is {opening:.4g} m, outside [{closed:g}, {opened:g}]"

    def _second_publisher(self, publisher: bytes, now: float) -> str | None:
        """Return a reason where the publisher before this one still sends, too."""
        if publisher != self._publisher and now - self._publisher_seen <= self._topic.max_age:
            return f"two publishers send the position of {self._names[0]}; stop one (ros2 topic info -v shows both)"
        self._publisher, self._publisher_seen = publisher, now
        return None

    def _follow(self, sample: Sample) -> bool:
        """Return whether the sample follows from those before it."""
        if not self._candidates and (not self._believed or self._reachable(self._believed[-1], sample)):
            self._append(sample)
            return True
        if self._may_jump():
            self._restart(sample)
            return True
        if self._candidates:
            return self._follow_after_jump(sample)
        self._rejection = f"{self._topic.name}: {self._jump(self._believed[-1], sample)}"
        self._rejected, self._asked, self._candidates = sample.received, False, [sample]
        return False

    def _follow_after_jump(self, sample: Sample) -> bool:
        if self._reachable(self._candidates[-1], sample):
            self._candidates = [*self._candidates[1 - SETTLED_SAMPLES :], sample]
            return False
        back = sample.received - self._believed[-1].received <= self._topic.max_age
        if back and self._reachable(self._believed[-1], sample):
            self._append(sample)
            self._candidates, self._rejected = [], sample.received  # a fault for max_age after the last wrong value
            return True
        self._candidates, self._asked = [sample], False
        return False

    def _reachable(self, before: Sample, after: Sample) -> bool:
        elapsed = self._elapsed(before, after)
        return all(
            abs(b - a) <= speed * elapsed + slack
            for a, b, speed, slack in zip(before.position, after.position, self._max_speed, self._slack)
        )

    def _elapsed(self, before: Sample, after: Sample) -> float:
        """Return the time between two samples [s]: by the receiver's clock, or the sender's up to max_age."""
        received = after.received - before.received
        if before.stamp is None or after.stamp is None:
            return received
        return max(received, min(after.stamp - before.stamp, self._topic.max_age))

    def _jump(self, before: Sample, after: Sample) -> str:
        elapsed = self._elapsed(before, after)
        pairs = zip(self._names, before.position, after.position, self._max_speed)
        name, start, end, _ = max(pairs, key=lambda p: abs(p[2] - p[1]) - p[3] * elapsed)
        return f"{name} was at {start:.3f} rad and {elapsed:.3f} s later at {end:.3f} rad, farther than it can move"

    def _append(self, sample: Sample) -> None:
        self._believed.append(sample)
        while sample.received - self._believed[0].received > self._topic.max_age:
            self._believed.popleft()

    def _restart(self, sample: Sample) -> None:
        self._believed = deque([sample])
        self._candidates, self._asked = [], False


class FrozenJointCheck:
    """Check that a joint which is commanded to move changes its reported position.

    A driver that repeats its last reading under new stamps looks alive. Positions and targets are [rad], shape
    (n_joints,); times are monotonic [s].
    """

    def __init__(self, contract: Contract, safety: Safety):
        self._names, self._topic = contract.robot.joint_names, contract.robot.joint_states
        self._patience = max(FROZEN_AGES * self._topic.max_age, 2.0 * contract.task.period)
        self._travel = min(FROZEN_TRAVEL, 0.5 * min(contract.task.max_lead, safety.lead))
        self._frozen: int | None = None
        self._position: np.ndarray | None = None
        self._since = np.zeros(contract.robot.n_joints)
        self._target = np.zeros(contract.robot.n_joints)

    def begin(self, position: np.ndarray, now: float) -> None:
        """Start from an arm at rest at `position`."""
        if self._frozen is None:
            self._position, self._target = position.copy(), position.copy()
            self._since[:] = now

    def update(self, position: np.ndarray, target: np.ndarray, now: float) -> None:
        """Take the measured position and the last commanded target at `now`."""
        changed = position != self._position
        self._position = position.copy()
        self._since[changed], self._target[changed] = now, target[changed]
        frozen = (now - self._since > self._patience) & (np.abs(target - self._target) > self._travel)
        if frozen.any():
            self._frozen = int(frozen.argmax())

    def fault(self, position: np.ndarray | None) -> str | None:
        """Return which joint is frozen: from its detection until the reported `position` differs."""
        if self._frozen is None:
            return None
        if position is not None and position[self._frozen] != self._position[self._frozen]:
            self._frozen = None
            return None
        name, value = self._names[self._frozen], self._position[self._frozen]
        return (
            f"{self._topic.name}: {name} was commanded to move and still reports {value:.4f} rad; check the driver and "
            "the joint, then move the joint by hand, or deactivate and activate the node"
        )
