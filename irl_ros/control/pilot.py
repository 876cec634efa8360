"""One control loop around a controller and a gate: inputs with their ages, the tick, the reward that follows it.

No ROS; times are monotonic seconds that the caller brings. A watchdog calls :meth:`Pilot.overdue` and
:meth:`Pilot.halt` from another thread while a tick computes: whatever touches the gate holds one lock, and no network
is evaluated under it.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from irl_ros.contract import Contract
from irl_ros.control.controller import Controller
from irl_ros.control.gate import Command, Gate, GateError, Halt

Send = Callable[[Command | Halt], None]


class Inputs:
    """The latest measured quantities and when each topic was last received [monotonic s]."""

    def __init__(self, contract: Contract):
        self.roles = tuple(dict.fromkeys(("joint_states", *contract.sources)))
        self._received = {role: -math.inf for role in self.roles}
        self._measured: dict[str, np.ndarray] = {}

    def update(self, role: str, quantities: Mapping[str, np.ndarray], now: float) -> None:
        """Take what a message of topic `role` brought at `now`."""
        self._measured = {**self._measured, **quantities}
        self._received[role] = now

    def ages(self, now: float) -> dict[str, float]:
        """Seconds since each topic was received; inf where nothing came yet."""
        return {role: now - received for role, received in self._received.items()}

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


class Score(NamedTuple):
    """What one tick says about how well it goes."""

    likeness: float
    """Percentile [0, 100] of the observation."""
    reward: float | None
    """Of the action executed at the tick before; None where there was none."""
    episode_return: float
    """Sum of rewards since enable."""


class Pilot:
    """Ticks a controller through a gate; `send` publishes a command or a halt and is called under the lock.

    `loop_timeout` [s]: an armed loop that has not ticked for so long is overdue.
    """

    def __init__(self, controller: Controller, send: Send, loop_timeout: float = math.inf):
        self.controller, self._send, self._loop_timeout = controller, send, loop_timeout
        self.inputs, self.gate = Inputs(controller.contract), Gate(controller.contract, controller.kinematics)
        self._lock = threading.Lock()
        self._executed: tuple[np.ndarray, np.ndarray] | None = None
        self._return, self._ticked, self._step = 0.0, -math.inf, 0

    def enable(self, now: float) -> None:
        """Arm from the measured pose; motion starts with the next tick. Raises GateError on unusable input."""
        with self._lock:
            if self.gate.armed:
                return
            if self.inputs.joint_position is None:
                raise GateError(f"not enabled: {self.gate.stale(self.inputs.ages(now))}")
            self.gate.enable(self.inputs.joint_position, self.inputs.ages(now))
            self._executed, self._return, self._ticked, self._step = None, 0.0, now, 0

    def disable(self, reason: str, now: float) -> bool:
        """Disarm, with a halt if the arm was under way; True when a halt was sent."""
        with self._lock:
            halt = self.gate.disable(reason, self.inputs.joint_position, self.inputs.ages(now))
            if halt is not None:
                self._send(halt)
            return halt is not None

    def halt(self, reason: str, now: float) -> bool:
        """Halt if armed; True when a halt was sent."""
        with self._lock:
            if not self.gate.armed:
                return False
            self._send(self.gate.halt(reason, self.inputs.joint_position, self.inputs.ages(now)))
            return True

    def overdue(self, now: float) -> str | None:
        """The watchdog's question: why an armed loop must halt now, None when it need not."""
        if not self.gate.armed:
            return None
        idle = now - self._ticked
        late = f"the control loop has not ticked for {idle:.3f} s" if idle > self._loop_timeout else None
        return late or self.gate.stale(self.inputs.ages(now))

    def tick(self, clock: Callable[[], float]) -> Score | None:
        """Score the last action, then command the next one while armed; None before all inputs came.

        `clock` is read when the action is ready: an action that took too long to compute meets stale inputs.
        """
        self._ticked = clock()
        if not self.inputs.complete:
            return None
        observation = self.controller.observe(self.inputs.measured)
        score = self._score(observation)
        if self.gate.armed:
            action, self._step = self.controller.act(observation, self._step), self._step + 1
            self._command(observation, action, clock)
        return score

    def _score(self, observation: np.ndarray) -> Score:
        reward = None
        if self.gate.armed and self._executed is not None:
            reward = self.controller.reward(*self._executed, observation)
            self._return += reward or 0.0
        return Score(self.controller.likeness(observation), reward, self._return)

    def _command(self, observation: np.ndarray, action: np.ndarray, clock: Callable[[], float]) -> None:
        with self._lock:
            if not self.gate.armed:  # halted by the watchdog meanwhile
                return
            result = self.gate.command(action, self.inputs.joint_position, self.inputs.ages(clock()))
            self._executed = (observation, result.action) if isinstance(result, Command) else None
            self._send(result)
