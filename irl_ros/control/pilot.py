"""One control loop around a controller and a gate: the tick, the reward that follows it, a human who takes over.

No ROS; times are monotonic seconds that the caller brings. A watchdog calls :meth:`Pilot.overdue` and
:meth:`Pilot.halt` from another thread while a tick computes: whatever touches the gate holds one lock, and no network
is evaluated under it.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from irl_ros.contract import Safety
from irl_ros.control.caution import Caution
from irl_ros.control.controller import Controller
from irl_ros.control.gate import Command, Gate, GateError, Halt
from irl_ros.control.inputs import Inputs
from irl_ros.control.joint_state_check import FrozenJointCheck
from irl_ros.kinematics import Kinematics
from irl_ros.messages import GROUP_POSITION, GROUP_VELOCITY, JOINT_TRAJECTORY

Send = Callable[[Command | Halt], None]
TAKEOVER_AGE = 0.1
TAKEOVER_PERIODS = 2.0
"""Since a human's last command, [s] or control periods, whichever is longer, the human is held to have let go."""
AT_REST = 0.1
"""[rad/s] of any joint above which the arm is not enabled: its first command would start at rest."""
REST_TOLERANCE = 0.05
"""Distance [rad] from the end of a halt within which a joint has come to rest where it should."""
LIKE = 100.0
"""Percentile of a state as close to the demonstrations as any."""
LET_GO = "the human let go; enable to let the policy go on"


class Score(NamedTuple):
    """What one tick says about how well it goes."""

    likeness: float
    """Percentile [0, 100] of the observation."""
    reward: float | None
    """Of the action executed at the tick before; None where there was none."""
    episode_return: float
    """Sum of rewards since enable."""


class Wish(NamedTuple):
    """What a human wants: a joint target [rad], shape (n_joints,), a gripper opening [m], and when it came."""

    target: np.ndarray
    opening: float | None
    received: float


class Pilot:
    """Ticks a controller through a gate; `send` publishes a command or a halt and is called under the lock.

    `dry`: the arm does not follow what is sent, somebody else moves it, so every step starts from where it is.

    `loop_timeout` [s]: an armed loop that has not ticked for so long is overdue. `safety`: from the robot's file here.
    `kinematics`: this robot's, for the gate, in place of those that came with the checkpoint.
    `simulated`: the arm is one that is put elsewhere between episodes, which is no fault. `interface`: the
    command interface that the arm is driven by.
    `caution`: what to do about observations unlike the demonstrations; without it, nothing.

    While a human's commands come in (:meth:`takeover`) they are followed in place of the policy, through the same
    gate. When they end, the arm halts, and the policy goes on only when somebody enables it: a human takes over because
    the policy went wrong, a lost joystick looks the same as a hand that lets go, and where the human left the arm the
    policy may never have been.
    """

    def __init__(
        self,
        controller: Controller,
        send: Send,
        loop_timeout: float = math.inf,
        safety: Safety = Safety(),
        caution: Caution | None = None,
        dry: bool = False,
        kinematics: Kinematics | None = None,
        simulated: bool = False,
        interface: str = JOINT_TRAJECTORY,
    ):
        self.controller, self._send, self._loop_timeout = controller, send, loop_timeout
        self.inputs = Inputs(controller.contract, lambda: simulated and not self.gate.armed, interface == GROUP_POSITION)
        self.gate = Gate(controller.contract, kinematics or controller.kinematics, safety)
        self._frozen = FrozenJointCheck(controller.contract, safety)
        self._simulated, self._interface = simulated, interface
        self._rest: np.ndarray | None = None
        """Where the last halt must have brought the arm, until it was measured there."""
        self._rest_asked = False
        self.safety = safety
        self._caution, self._dry, self._lock = caution, dry, threading.Lock()
        self._takeover_age = max(TAKEOVER_AGE, TAKEOVER_PERIODS * controller.contract.task.period)
        self._executed: tuple[np.ndarray, np.ndarray] | None = None
        self._return, self._ticked, self.step, self._likeness = 0.0, -math.inf, 0, LIKE
        """`step`: control periods since enable."""
        self._wish: Wish | None = None
        self.taken_over = False
        """Whether a human leads."""
        self.proposed: np.ndarray | None = None
        """The policy's own last action (action_size,), whole and unlimited; None before one was computed."""

    def enable(self, now: float) -> None:
        """Arm from the measured pose; motion starts with the next tick. Raises GateError on unusable input.

        After a jump of the measured pose the first call says so and the second one accepts it.
        """
        with self._lock:
            if self.gate.armed:
                return
            self.inputs.accept_new_pose()
            fault = self._input_fault(now) or self._motion_fault() or self._rest_fault()
            if fault:
                raise GateError(f"not enabled: {fault}{self.inputs.joint_states.ask()}")
            self._rest, self._rest_asked = None, False
            opening = self.inputs.measured.get("gripper_opening")
            known = None if opening is None else float(opening[0])
            self._executed, self._return, self._ticked, self.step = None, 0.0, now, 0
            self._likeness = LIKE
            self.taken_over = False
            if self._caution is not None:
                self._caution.reset()
            self._frozen.begin(self.inputs.joint_position, now)
            self.gate.enable(self.inputs.joint_position, self.inputs.ages(now), known)  # last: the watchdog looks on

    def _motion_fault(self) -> str | None:
        """Return which joint moves, by its reported velocity or its positions. In a dry run somebody else moves them."""
        reported = self.inputs.measured.get("joint_velocity")  # None before the first message, which is a fault too
        if self._dry or reported is None:
            return None
        by_position = self.inputs.joint_states.speed()
        velocity = np.where(np.abs(by_position) > np.abs(reported), by_position, reported)
        if np.abs(velocity).max() <= AT_REST:
            return None
        fastest = int(np.abs(velocity).argmax())
        name = self.controller.contract.robot.joint_names[fastest]
        return f"{name} moves at {velocity[fastest]:.2f} rad/s; wait until the arm is at rest"

    def disable(self, reason: str, now: float) -> bool:
        """Disarm, with a halt if the arm was under way; True when a halt was sent."""
        with self._lock:
            halt = self.gate.disable(reason, self.inputs.joint_position, self._ages(now))
            if halt is not None:
                self._send_halt(halt)
            return halt is not None

    def halt(self, reason: str, now: float) -> bool:
        """Halt if armed; True when a halt was sent."""
        with self._lock:
            if not self.gate.armed:
                return False
            self._send_halt(self.gate.halt(reason, self.inputs.joint_position, self._ages(now)))
            return True

    def _send_halt(self, halt: Halt) -> None:
        """Send it, and expect the arm where it ends: a velocity controller's stop has no such place."""
        if not (self._dry or self._simulated or self._interface == GROUP_VELOCITY):
            self._rest = halt.hold if self._interface == GROUP_POSITION else halt.trajectory.positions[-1]
            self._rest_asked = False
        self._send(halt)

    def _rest_fault(self) -> str | None:
        """Return which joint was never measured where the last halt ended: once, then it is accepted."""
        if self._rest is None or self._rest_asked:
            return None
        away = np.abs(self.inputs.joint_position - self._rest)
        if away.max() <= REST_TOLERANCE:
            return None
        self._rest_asked, i = True, int(away.argmax())
        name, here = self.controller.contract.robot.joint_names[i], self.inputs.joint_position[i]
        return (
            f"{name} is reported at {here:.3f} rad and was halted at {self._rest[i]:.3f} rad; check that the arm really is "
            "there, then enable again to accept it"
        )

    def takeover(self, target: np.ndarray, now: float, opening: float | None = None) -> None:
        """A human wants the joints at `target` [rad], shape (n_joints,), and the gripper at `opening` [m]: the next
        tick leads there. A disarmed arm stays where it is."""
        self._wish = Wish(target, opening, now)

    def overdue(self, now: float) -> str | None:
        """The watchdog's question: why an armed loop must halt now, None when it need not."""
        if not self.gate.armed:
            return None
        idle = now - self._ticked
        late = f"the control loop has not ticked for {idle:.3f} s" if idle > self._loop_timeout else None
        return late or self._input_fault(now) or (LET_GO if self.taken_over and self._wanted(now) is None else None)

    def tick(self, clock: Callable[[], float]) -> Score | None:
        """Command the next action while armed, then score the last one; None before all inputs came.

        `clock` is read when the action is ready: an action that took too long to compute meets stale inputs. Nothing
        that the command can do without comes before it: caution goes by the likeness of the tick before.
        """
        now = clock()
        idle, self._ticked = now - self._ticked, now
        if self.gate.armed and idle > self._loop_timeout:  # frozen, and awake before the watchdog
            self.halt(f"the control loop had not ticked for {idle:.3f} s", self._ticked)
        if not self.inputs.complete:
            return None
        if self._rest is not None and np.abs(self.inputs.joint_position - self._rest).max() <= REST_TOLERANCE:
            self._rest = None
        observation = self.controller.observe(self.inputs.measured)
        armed, executed = self.gate.armed, self._executed
        if armed:
            wish, step, self.step = self._wanted(self._ticked), self.step, self.step + 1
            led = wish is not None or self.taken_over
            wanted = wish if led else self.controller.act(observation, step)
            self._command(observation, wanted, self._pace(wish), clock)
        return self._score(observation, executed if armed else None)

    def _score(self, observation: np.ndarray, executed: tuple[np.ndarray, np.ndarray] | None) -> Score:
        reward = None
        if executed is not None:
            reward = self.controller.reward(*executed, observation)
            self._return += reward or 0.0
        self._likeness = self.controller.likeness(observation)
        return Score(self._likeness, reward, self._return)

    def _pace(self, wish: Wish | None) -> float:
        """Share of the step that caution allows; a human needs none."""
        if self._caution is None:
            return 1.0
        if wish is not None:
            self._caution.reset()
            return 1.0
        return self._caution.pace(self._likeness, self._ticked, self.gate.speed)

    def _command(
        self, observation: np.ndarray, wanted: np.ndarray | Wish | None, pace: float, clock: Callable[[], float]
    ) -> None:
        with self._lock:
            if not self.gate.armed:  # halted by the watchdog meanwhile
                return
            result = self._result(wanted, pace, clock())
            self._executed = (observation, result.action) if isinstance(result, Command) else None
            self._send(result) if isinstance(result, Command) else self._send_halt(result)

    def _result(self, wanted: np.ndarray | Wish | None, pace: float, now: float) -> Command | Halt:
        """What the gate makes of an action or of a human's wish; of a human who let go, a halt."""
        measured, ages = self.inputs.joint_position, self.inputs.ages(now)
        if not self._dry:  # else somebody else moves the arm
            self._frozen.update(measured, self.gate.target, now)
        let_go = LET_GO if self.taken_over and wanted is None else None
        fault = let_go or self._measurement_fault(now) or (self._caution.fault() if self._caution is not None else None)
        if fault:
            return self.gate.halt(fault, measured, self._ages(now))
        if isinstance(wanted, Wish):
            self.taken_over = True
            return self.gate.forward(wanted.target, measured, ages, wanted.opening)
        self.proposed = wanted
        if self._dry:
            self.gate.follow(measured, self.inputs.measured["joint_velocity"])
        result = self.gate.command(wanted, measured, ages, pace)
        slowed = pace < 1.0 and isinstance(result, Command)
        return result._replace(limited=(*result.limited, "likeness")) if slowed else result

    def _wanted(self, now: float) -> Wish | None:
        """What a human wants now; None where nobody leads."""
        wish = self._wish
        return wish if wish is not None and now - wish.received <= self._takeover_age else None

    def _input_fault(self, now: float) -> str | None:
        return self._measurement_fault(now) or self.gate.stale(self.inputs.ages(now))

    def _measurement_fault(self, now: float) -> str | None:
        return self.inputs.fault(now) or self._frozen.fault(self.inputs.joint_position)

    def _ages(self, now: float) -> dict[str, float]:
        """Return the ages that a halt goes by: the pose of a frozen joint is unknown."""
        ages = self.inputs.ages(now)
        return {**ages, "joint_states": math.inf} if self._frozen.fault(self.inputs.joint_position) else ages
