"""Forty kinds of wrong joint state, and a control loop on the true simulated arm that receives them.

No DDS: the clock is the simulation's, so that thousands of faults take minutes. Everything else is what the policy
runner uses: messages, input checks, pilot, gate, command output, and PyBullet's arm behind its controllers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from sensor_msgs.msg import JointState

from irl_ros import messages
from irl_ros.contract import Contract, load_safety
from irl_ros.control.gate import Command, GateError, Halt
from irl_ros.control.pilot import Pilot
from irl_ros.kinematics import Kinematics
from irl_ros.messages import GROUP_POSITION, GROUP_VELOCITY, JOINT_TRAJECTORY, MessageError
from irl_ros.motion import JointTrajectory
from irl_ros.nodes.outputs import CommandOutput
from irl_ros_sim.arm import Arm
from irl_ros_sim.world import TIME_STEP

CONTRACT, SAFETY = Contract.load("panda", "reach"), load_safety("panda")
ROBOT, KINEMATICS = CONTRACT.robot, Kinematics(Contract.load("panda", "reach").robot)
NAMES, HOME, N = ROBOT.joint_names, np.array(ROBOT.home), ROBOT.n_joints
LOWER, UPPER = np.array(ROBOT.position_lower), np.array(ROBOT.position_upper)
SPEED = np.array(ROBOT.velocity_limit)
INTERFACES = (JOINT_TRAJECTORY, GROUP_POSITION, GROUP_VELOCITY)
VELOCITY_TIMEOUT = 0.2
"""After which the velocity controller's driver stops [s]."""
STATE_STEPS, WATCH_STEPS = 2, 3
"""Physics steps between two joint states, and between two looks of the watchdog."""
TICK_STEPS = round(CONTRACT.task.period / TIME_STEP)
BEFORE_ENABLE = 1.0
"""Time after a fault's beginning at which somebody enables the arm again [s]."""
RESTING = 0.02
"""Speed below which the arm counts as at rest [rad/s]."""
SWING = np.array([0.45, 0.10, 0.3, 0.12, 0.4, -0.3, 0.6])
"""Half of the way between the poses that the policy swings between [rad]."""


class State(NamedTuple):
    """What a driver is about to send: positions [rad], velocities [rad/s], stamp [s], sender; and a memory of its own."""

    position: np.ndarray
    velocity: np.ndarray
    stamp: float
    rng: np.random.Generator
    elapsed: float
    """Since the fault began [s]."""
    first: bool
    """Whether this is the first wrong one."""
    odd: bool
    memory: dict[str, np.ndarray]
    past: list[np.ndarray]
    """Positions sent before, the newest last."""


Fault = Callable[[State], Iterator[tuple[JointState, bytes]]]
OWN, OTHER = b"driver", b"another"


def message(state: State, position: object = None, velocity: object = None, **changes: object) -> JointState:
    """A joint state with other values or names than the true ones."""
    values = state.position if position is None else np.asarray(position, float)
    speeds = state.velocity if velocity is None else np.asarray(velocity, float)
    names = changes.get("names", NAMES)
    return messages.fill_joint_state(JointState(), names, values, speeds, changes.get("stamp", state.stamp))


def replaced(change: Callable[[State], dict[str, object]]) -> Fault:
    """One message in place of each."""

    def fault(state: State) -> Iterator[tuple[JointState, bytes]]:
        yield message(state, **change(state)), OWN

    return fault


def added(value: object, when: Callable[[State], bool] = lambda _: True) -> Fault:
    return replaced(lambda s: {"position": s.position + np.asarray(value)} if when(s) else {})


def beside(position: Callable[[State], np.ndarray]) -> Fault:
    """Another publisher's message after each of ours."""

    def fault(state: State) -> Iterator[tuple[JointState, bytes]]:
        yield message(state), OWN
        yield message(state, position(state), np.zeros(N), stamp=state.stamp + 1e-3), OTHER

    return fault


def frozen(state: State, noise: float = 0.0) -> np.ndarray:
    kept = state.memory.setdefault("position", state.position.copy())
    return kept + noise * state.rng.normal(size=N)


def unit(joint: int) -> np.ndarray:
    return np.eye(N)[joint - 1]


def nothing(_: State) -> Iterator[tuple[JointState, bytes]]:
    yield from ()


def first(s: State) -> bool:
    return s.first


def odd(s: State) -> bool:
    return s.odd


TURN = 2.0 * math.pi
FAULTS: dict[str, Fault] = {
    "degrees": replaced(lambda s: {"position": np.degrees(s.position), "velocity": np.degrees(s.velocity)}),
    "degrees, one message": replaced(lambda s: {"position": np.degrees(s.position)} if s.first else {}),
    "a turn too many, joint 1": added(TURN * unit(1)),
    "a turn too many, one message": added(TURN * unit(1), first),
    "a turn too few, joint 7": added(-TURN * unit(7)),
    "a turn too few, all joints": added(-TURN),
    "jump of 0.1 rad": added(0.1),
    "jump of 0.13 rad": added(0.13),
    "jump of -0.3 rad, joint 4": added(-0.3 * unit(4)),
    "jump of 0.5 rad, one message": added(0.5, first),
    "jump of 1 rad": added(1.0),
    "jump of -1.2 rad, joint 2": added(-1.2 * unit(2)),
    "jump of 0.13 rad, every second message": added(0.13, odd),
    "jump of 0.3 rad, every second message": added(0.3, odd),
    "random jumps of up to 0.5 rad": replaced(lambda s: {"position": s.position + s.rng.uniform(-0.5, 0.5, N)}),
    "drift of 0.5 rad/s": replaced(lambda s: {"position": s.position + 0.5 * s.elapsed}),
    "drift of -2 rad/s": replaced(lambda s: {"position": s.position - 2.0 * s.elapsed}),
    "scaled by 1.1": replaced(lambda s: {"position": 1.1 * s.position}),
    "scaled by 0.5": replaced(lambda s: {"position": 0.5 * s.position}),
    "signs turned": replaced(lambda s: {"position": -s.position}),
    "zeros": replaced(lambda s: {"position": np.zeros(N), "velocity": np.zeros(N)}),
    "another arm's pose": replaced(lambda s: {"position": HOME + 0.4, "velocity": np.zeros(N)}),
    "another arm beside, 0.4 rad off": beside(lambda s: s.position + 0.4),
    "another arm beside, 0.01 rad off": beside(lambda s: s.position + 0.01),
    "joints 1 and 2 exchanged": replaced(lambda s: {"position": s.position[[1, 0, *range(2, N)]]}),
    "names doubled": replaced(lambda s: {"names": (NAMES[0], NAMES[0], *NAMES[2:])}),
    "a joint missing": replaced(
        lambda s: {"names": NAMES[1:], "position": s.position[1:], "velocity": s.velocity[1:]}
    ),
    "empty": replaced(lambda s: {"names": (), "position": np.zeros(0), "velocity": np.zeros(0)}),
    "NaN": added(math.nan * unit(3)),
    "infinite": added(math.inf),
    "1e300 rad": added(1e300 * unit(5)),
    "velocities NaN": replaced(lambda s: {"velocity": np.full(N, math.nan)}),
    "velocities 1e300": replaced(lambda s: {"velocity": np.full(N, 1e300)}),
    "velocities missing": replaced(lambda s: {"velocity": np.zeros(0)}),
    "frozen": replaced(lambda s: {"position": frozen(s)}),
    "frozen, velocities zero": replaced(lambda s: {"position": frozen(s), "velocity": np.zeros(N)}),
    "frozen, 0.1 mrad of noise": replaced(lambda s: {"position": frozen(s, 1e-4), "velocity": np.zeros(N)}),
    "frozen stamps": replaced(
        lambda s: {"stamp": float(s.memory.setdefault("stamp", np.array(s.stamp)))}
    ),
    "clock set back an hour": replaced(lambda s: {"stamp": s.stamp - 3600.0}),
    "clock set ahead an hour, one message": replaced(lambda s: {"stamp": s.stamp + 3600.0 * s.first}),
    "0.3 s late": replaced(lambda s: {"position": s.past[-round(0.3 / TIME_STEP / STATE_STEPS)]}),
    "silence": nothing,
}


class Swing:
    """A policy that swings between two poses at full speed; what the pilot asks of a controller."""

    def __init__(self) -> None:
        self.contract, self.kinematics, self.side = CONTRACT, KINEMATICS, 1.0

    def observe(self, measured: dict[str, np.ndarray]) -> np.ndarray:
        return np.array(measured["joint_position"])

    def act(self, observation: np.ndarray, step: int) -> np.ndarray:
        return 6.0 * (HOME + self.side * SWING - observation)

    def reward(self, *_: object) -> float:
        return 0.0

    def likeness(self, _: np.ndarray) -> float:
        return 100.0


class Outcome(NamedTuple):
    """What the true arm did after a fault began."""

    halted: str
    """The reason of the halt, empty where there was none."""
    speed: float
    """The largest speed, in multiples of the joint's limit."""
    step: float
    """The largest change of the commanded position, or of the commanded velocity times the period [rad]."""
    outside: float
    """How far a joint was beyond its limit [rad]."""
    outside_box: float
    """How far the hand was beyond its box [m]."""
    travel: float
    """The largest displacement of a joint [rad]."""
    rest: float
    """When the arm came to rest [s]; infinite where it did not."""


class Publisher:
    """Hands each message to the arm's controller, as arm_sim does."""

    def __init__(self, deliver: Callable[[object], None]):
        self.publish = deliver


class Trial:
    """One arm with one loop; `run` breaks the joint states of a moving arm and returns what came of it."""

    def __init__(self, interface: str):
        self.interface, self.arm, self.controller = interface, Arm(ROBOT, rigid=True), Swing()

    def close(self) -> None:
        self.arm.close()

    def begin(self, rng: np.random.Generator) -> None:
        self.arm.reset(HOME + rng.uniform(-0.1, 0.1, N))
        self.rng, self.steps, self.velocity_at = rng, 0, -math.inf
        self._fault: Fault | None = nothing
        self._past: list[np.ndarray] = []
        self.halts: list[tuple[float, str]] = []
        self.largest, self._last = 0.0, None
        self.pilot = Pilot(self.controller, self._send, 0.15, SAFETY, interface=self.interface)
        timeout = VELOCITY_TIMEOUT if self.interface == GROUP_VELOCITY else 0.0
        self.output = CommandOutput(CONTRACT, SAFETY, self.interface, timeout, lambda *_: Publisher(self._deliver))

    @property
    def now(self) -> float:
        return 100.0 + self.steps * TIME_STEP

    def _send(self, result: Command | Halt) -> None:
        if isinstance(result, Halt):
            self.halts.append((self.now, result.reason))
        self.output.send(result, self.pilot.inputs.joint_position, self.now)

    def _deliver(self, msg: object) -> None:
        if self.interface == JOINT_TRAJECTORY:
            trajectory = messages.joint_trajectory(msg, NAMES)
            self.arm.command(JointTrajectory(*trajectory))
            value = trajectory.positions[-1]
        else:
            value = messages.joint_group(msg, N)
            if self.interface == GROUP_POSITION:
                self.arm.command_position(value)
            else:
                self.velocity_at = self.now
                self.arm.command_velocity(value)
                value = (self._last if self._last is not None else value) + value * CONTRACT.task.period
        if self._last is not None:
            self.largest = max(self.largest, float(np.abs(value - self._last).max()))
        self._last = value

    def receive(self, msg: JointState, publisher: bytes) -> None:
        """As the policy runner takes a message."""
        try:
            quantities = messages.measured(msg, "joint_states", CONTRACT)
        except MessageError:
            return
        stamp = messages.stamp_seconds(msg.header.stamp)
        self.pilot.inputs.update("joint_states", quantities, self.now, stamp, publisher)

    def advance(self, seconds: float, fault: Fault | None = None) -> list[tuple[np.ndarray, np.ndarray]]:
        """Run for a time; returns the arm's true positions and velocities after each physics step."""
        states = []
        if fault is not self._fault:
            self._fault, self._memory, self._began, self._wrong = fault, {}, self.steps, 0
        self.pilot.inputs.update("goal_pose", {"goal_position": np.array([0.5, 0.0, 0.4])}, self.now, 1.0)
        for _ in range(round(seconds / TIME_STEP)):
            if self.interface == GROUP_VELOCITY and self.now - self.velocity_at > VELOCITY_TIMEOUT:
                self.arm.hold()
                self.velocity_at = math.inf
            self.arm.step(1)
            self.steps += 1
            position, velocity = self.arm.state()
            states.append((position, velocity))
            if self.steps % STATE_STEPS == 0:
                state = State(
                    position,
                    velocity,
                    5000.0 + self.steps * TIME_STEP,
                    self.rng,
                    (self.steps - self._began) * TIME_STEP,
                    self._wrong == 0,
                    self._wrong % 2 == 1,
                    self._memory,
                    self._past,
                )
                self._past.append(position)
                self._wrong += 1
                for msg, publisher in [(message(state), OWN)] if fault is None else fault(state):
                    self.receive(msg, publisher)
            if self.steps % 180 == 0:
                self.controller.side *= -1.0
            if self.steps % WATCH_STEPS == 0 and (reason := self.pilot.overdue(self.now)):
                self.pilot.halt(reason, self.now)
            if self.steps % TICK_STEPS == 0:
                self.pilot.tick(lambda: self.now)
        return states

    def run(self, fault: Fault | None, seed: int, seconds: float = 1.5) -> Outcome:
        """Break the joint states of an arm in motion; after a second somebody enables it once, as after any halt."""
        self.begin(np.random.default_rng(seed))
        self.advance(0.2)
        self.pilot.enable(self.now)
        self.advance(self.rng.uniform(0.7, 1.5))
        if self.halts:
            raise AssertionError(f"halted before the fault: {self.halts}")
        self.largest, began = 0.0, self.now
        states = self.advance(BEFORE_ENABLE, fault)
        moving = np.flatnonzero((np.abs([v for _, v in states]) > RESTING).any(axis=1))
        rest = (moving[-1] + 1) * TIME_STEP if len(moving) else 0.0
        try:
            self.pilot.enable(self.now)
        except GateError:
            pass
        states += self.advance(seconds - BEFORE_ENABLE, fault)
        positions, velocities = map(np.array, zip(*states))
        hands = np.array([KINEMATICS.position(q) for q in positions[::4]])
        box = np.maximum(np.array(SAFETY.box_lower) - hands, hands - np.array(SAFETY.box_upper))
        halted = next((reason for at, reason in self.halts if at >= began), "")
        return Outcome(
            halted,
            float((np.abs(velocities) / SPEED).max()),
            self.largest,
            float(max((LOWER - positions).max(), (positions - UPPER).max(), 0.0)),
            float(max(box.max(), 0.0)),
            float(np.abs(positions - positions[0]).max()),
            rest if rest < BEFORE_ENABLE - TIME_STEP else math.inf,
        )
