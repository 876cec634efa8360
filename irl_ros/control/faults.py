"""What makes an input unusable, in words."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from irl_ros.contract import Contract


class Freshness:
    """How old each topic that the observation needs may be. Ages [s] by role, on a monotonic clock."""

    def __init__(self, contract: Contract):
        self._topics = {role: contract.topics[role] for role in ("joint_states", *contract.sources)}

    def stale(self, ages: Mapping[str, float]) -> str | None:
        """What is missing or too old; None when everything is fresh."""
        return next(filter(None, (self.stale_role(role, ages) for role in self._topics)), None)

    def stale_role(self, role: str, ages: Mapping[str, float]) -> str | None:
        """Why this topic's last message cannot be used; None when it can."""
        age, topic = ages.get(role, math.inf), self._topics[role]
        if not age < math.inf:
            return f"nothing received on {topic.name}"
        if topic.too_old(age):
            return f"{topic.name} is stale: last message {age:.3f} s ago, at most {topic.max_age:g} s allowed"
        return None


def array_fault(what: str, value: np.ndarray | None, size: int) -> str | None:
    """Why `value` is no floating point array of shape (size,) with finite elements."""
    if not isinstance(value, np.ndarray) or value.shape != (size,):
        return f"{what} has shape {np.shape(value)}, not ({size},)"
    if value.dtype.kind != "f":
        return f"{what} is of type {value.dtype}, not floating point"
    finite = list(map(math.isfinite, value.tolist()))
    if all(finite):
        return None
    bad = finite.index(False)
    return f"{what}: element {bad} is {value[bad]}"
