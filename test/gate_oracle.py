"""What the gate promises, said a second time and in other words, for its property tests and its mutants."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np

from irl_ros.contract import Contract, Safety, load_safety
from irl_ros.kinematics import Kinematics

EPS = 1e-8
BOX_TOLERANCE = 0.01
REACH = Contract.load("panda", "reach")
FAST = dataclasses.replace(REACH, task=dataclasses.replace(REACH.task, rate=100.0))
"""At 100 Hz braking takes many periods."""
DETOUR = Contract.load("panda", "detour")
SAFETY = load_safety("panda")
TIGHT = dataclasses.replace(SAFETY, box_lower=(0.45, -0.1, 0.35), box_upper=(0.65, 0.1, 0.55))
"""A box whose faces are a few periods away."""
MEASURED_AGE = 0.1
LIMIT_MARGIN = 0.1
"""Distance beyond a position limit from which a pose is impossible [rad]."""
MOMENT = 1e-3
"""[s] Points of a trajectory are at least so far apart."""


class Event(NamedTuple):
    """What happens in one period: an action or, with `human`, a wanted target; then how the arm goes on."""

    action: np.ndarray
    human: bool = False
    pace: float = 1.0
    age: float = 0.0
    """Of the joint states [s]."""
    follow: float = 1.0
    """Share of the way to its target that the arm covers."""
    push: np.ndarray | float = 0.0
    """[rad] added to the measured pose."""


class Driver:
    """A gate on an arm, and every promise of the gate checked at every step. `modules` has Gate, GateError, Halt."""

    def __init__(
        self,
        modules: SimpleNamespace,
        contract: Contract,
        safety: Safety,
        start: np.ndarray | None = None,
        path_every: int = 1,
    ):
        """Every `path_every`-th command is looked at between its points too."""
        self.path_every, self.steps = path_every, 0
        self.contract, self.safety, self.modules = contract, safety, modules
        self.kinematics, robot = Kinematics(contract.robot), contract.robot
        self.lower, self.upper = np.array(robot.position_lower), np.array(robot.position_upper)
        self.top_speed = np.array(robot.velocity_limit)
        self.acceleration = np.array(safety.acceleration_limit or np.full(robot.n_joints, np.inf))
        self.home = np.array(robot.home) if start is None else start
        self.gate = modules.Gate(contract, self.kinematics, safety)
        self.seen: Counter[str] = Counter()
        self.begin(self.home)

    def begin(self, pose: np.ndarray) -> None:
        """Enable at rest in `pose`."""
        self.gate.enable(pose, self.ages(0.0))
        assert self.gate.armed
        self.measured = pose.copy()
        self.target, self.change = pose.copy(), np.zeros_like(pose)
        self.velocity, self.allowed = np.zeros_like(pose), self.excess(pose)
        self.stop, self.fastest = pose.copy(), np.zeros_like(pose)
        self.last_times = self.braking_times = np.full_like(pose, self.contract.task.period)

    def ages(self, age: float) -> dict[str, float]:
        return {"joint_states": age, "goal_pose": 1e6, "obstacle_pose": 1e6}

    def excess(self, pose: np.ndarray) -> float:
        """How far the end effector is outside the box [m]."""
        if not self.safety.box_lower:
            return 0.0
        hand = self.kinematics.position(pose)
        return max(0.0, *(self.safety.box_lower - hand), *(hand - self.safety.box_upper))

    def run(self, events: Iterable[Event]) -> Driver:
        for event in events:
            self.step(event)
        return self

    def step(self, event: Event) -> None:
        share = self.gate.speed * (1.0 if event.human else event.pace)
        if event.human:
            result = self.gate.forward(event.action, self.measured, self.ages(event.age))
        else:
            result = self.gate.command(event.action, self.measured, self.ages(event.age), event.pace)
        if isinstance(result, self.modules.Halt):
            self.check_halt(event, result)
            self.recover()
        else:
            self.check_command(event, result, share)
            self.measured = self.measured + event.follow * (self.target - self.measured) + event.push

    def bad_input(self, event: Event) -> bool:
        numbers = isinstance(event.action, np.ndarray) and event.action.dtype == float
        finite = numbers and np.isfinite(event.action).all()
        size = self.contract.robot.n_joints if event.human else self.contract.action_size
        usable = finite and event.action.shape == (size,) and event.age <= MEASURED_AGE
        return not usable or self.impossible() or self.excess(self.measured) > BOX_TOLERANCE

    def impossible(self) -> bool:
        """Return whether the measured pose is one that the arm cannot have."""
        far = np.maximum(self.lower - self.measured, self.measured - self.upper)
        return bool((far > LIMIT_MARGIN).any())

    def room(self) -> tuple[np.ndarray, np.ndarray]:
        """Where the next target may lie by the limits of every joint."""
        period, margin = self.contract.task.period, self.safety.position_margin
        lead = min(self.contract.task.max_lead, self.safety.lead)
        fastest, change = self.top_speed * period, self.acceleration * period**2
        low = [np.maximum(self.lower, np.minimum(self.lower + margin, self.target)), self.measured - lead]
        high = [np.minimum(self.upper, np.maximum(self.upper - margin, self.target)), self.measured + lead]
        low += [self.target - fastest, self.target + self.change - change]
        high += [self.target + fastest, self.target + self.change + change]
        return np.max(low, axis=0), np.min(high, axis=0)

    def check_halt(self, event: Event, halt: object) -> None:
        """A halt has a reason that holds, stops, and ends all motion."""
        self.seen["halt"] += 1
        assert not self.gate.armed
        self.check_rest(halt, event.age)
        assert not halt.trajectory.velocities[-1].any()
        try:
            self.gate.command(np.zeros(self.contract.action_size), self.measured, self.ages(0.0))
        except self.modules.GateError:
            pass
        else:
            raise AssertionError("a command after a halt")
        if not self.bad_input(event):
            low, high = self.room()
            self.seen["conflict" if (low > high).any() else "box halt"] += 1
            slower = np.abs(self.change) - self.acceleration * self.contract.task.period**2
            braked = np.clip(self.target + np.sign(self.change) * np.maximum(slower, 0.0), low, high)
            leaves = self.excess(braked) > self.allowed
            assert (low > high).any() or leaves, f"halted for nothing: {halt.reason}"

    def check_rest(self, halt: object, age: float) -> None:
        """At the last stop, or short of it by as much as the arm is behind; no harder than the limits allow, at either
        of the last two commands' speeds."""
        rest, times, period = halt.trajectory.positions[-1], stopping_times(*halt.trajectory), self.contract.task.period
        if not age <= MEASURED_AGE or self.impossible():
            np.testing.assert_array_equal(rest, self.stop)
            np.testing.assert_array_equal(halt.hold, self.target)
            assert (self.last_times < times).all() and (times <= period + self.last_times + MOMENT).all()
            path = along(halt.trajectory, self.target, self.velocity)
            assert (path >= np.minimum(self.target, rest) - EPS).all(), "past its stop"
            assert (path <= np.maximum(self.target, rest) + EPS).all(), "past its stop"
            return
        lead = self.contract.task.max_lead
        hold = np.clip(np.clip(self.measured, self.target - lead, self.target + lead), self.lower, self.upper)
        np.testing.assert_array_equal(halt.hold, hold)
        stays = (rest == self.measured) & (len(halt.trajectory.times) > 1)  # where it is, held or pushed
        assert (times >= period).all() and (stays | (self.fastest / self.acceleration <= times + EPS)).all()
        whole, braking = self.stop - self.measured, self.fastest * (self.braking_times / 2 + age)
        far = self.measured + np.sign(whole) * np.minimum(np.abs(whole), braking)
        room = max(self.allowed, self.excess(self.measured)) - self.excess(far)
        if abs(room) > EPS or room == 0.0:
            self.seen["kept in the box"] += room < 0.0
            np.testing.assert_allclose(rest, far if room >= 0.0 else self.measured, atol=EPS)

    def recover(self) -> None:
        """Enable where the arm is; where the gate refuses that, at home."""
        inside = (self.measured >= self.lower).all() and (self.measured <= self.upper).all()
        try:
            self.begin(self.measured)
        except self.modules.GateError:
            assert not inside or self.excess(self.measured) > BOX_TOLERANCE, "not enabled for nothing"
            self.begin(self.home)

    def check_command(self, event: Event, command: object, share: float) -> None:
        assert not self.bad_input(event), "a command on bad input"
        (time, *_), (target, *_, stop), (velocity, *_, rest) = command.trajectory
        times = stopping_times(*(values[1:] for values in command.trajectory)) - time
        self.seen.update({name.partition(" of ")[0] for name in command.limited} or {"free"})
        assert (target == command.target).all()
        low, high = self.room()
        assert (target >= low - EPS).all(), f"below {low - target}"
        assert (target <= high + EPS).all(), f"above {target - high}"
        self.check_share(event, command, share)
        excess = self.excess(target)
        assert max(excess, self.excess(stop)) <= self.allowed + EPS, "outside the box"
        self.allowed = excess
        assert time == self.contract.task.period and not rest.any() and (np.abs(velocity) <= self.top_speed + EPS).all()
        assert (np.abs(velocity) / self.acceleration <= times + EPS).all(), "a stop too hard"
        bounds = self.within(self.target)
        assert (stop >= bounds[0]).all() and (stop <= bounds[1]).all(), "a stop outside"
        self.steps += 1
        if self.steps % self.path_every == 0:
            path = along(command.trajectory, self.target, self.velocity)
            assert (path >= bounds[0] - EPS).all() and (path <= bounds[1] + EPS).all(), "a path outside"
        self.fastest = np.maximum(np.abs(self.velocity), np.abs(velocity))
        self.target, self.change, self.velocity = target.copy(), target - self.target, velocity.copy()
        self.braking_times, self.last_times = np.maximum(times, self.last_times), times
        self.stop = stop.copy()

    def within(self, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Position limits with their margin; from within the margin, no farther out."""
        margin = self.safety.position_margin
        lower = np.minimum(np.maximum(target, self.lower), self.lower + margin)
        upper = np.maximum(np.minimum(target, self.upper), self.upper - margin)
        # An arm a little outside is led back in the first step, along a path that starts where it is.
        return np.minimum(lower, target), np.maximum(upper, target)

    def check_share(self, event: Event, command: object, share: float) -> None:
        """A step is what was asked for, times the share, unless a limit is named; and only then it is less."""
        move, arm = command.target - self.target, command.action[: self.contract.task.arm_action_size]
        assert (np.abs(command.action) <= 1.0).all()
        if self.contract.task.moves_end_effector:
            return
        step = self.contract.max_joint_step
        if not command.limited:
            wanted = event.action - self.target if event.human else share * event.action * step
            assert (np.abs(move - wanted) <= EPS).all(), "not what was asked for, and no limit named"
        if not event.human:
            assert (np.abs(arm - np.clip(event.action, -1, 1) * share) <= EPS).all(), "another action than executed"
        cut = {name.partition(" of ")[0] for name in command.limited}
        if not cut & {"lead", "position"}:
            slower = np.maximum(np.abs(self.change) - self.acceleration * self.contract.task.period**2, 0.0)
            if "box" in cut:  # on the way to the last stop, be it at less than a joint's own limit
                left = np.maximum(1.0 - self.contract.task.period / self.last_times, 0.0)
                slower = np.maximum(slower, left * np.abs(self.change))
            assert (np.abs(move) <= np.maximum(share * step, slower) + EPS).all(), "faster than its share"


def stopping_times(times: np.ndarray, positions: np.ndarray, velocities: np.ndarray) -> np.ndarray:
    """When each joint has come to rest where a trajectory ends, shape (n_joints,)."""
    return times[np.argmax((positions == positions[-1]) & (velocities == 0.0), axis=0)]


def along(trajectory: object, start: np.ndarray, velocity: np.ndarray) -> np.ndarray:
    """Points of the path to a trajectory's points and between them, shape (9 · points, n_joints)."""
    path, before, time = [], (start, velocity), 0.0
    for end, *point in zip(*trajectory):
        path.append(spline(end - time, *before, *point))
        before, time = point, end
    return np.concatenate(path)


def spline(duration: float, q0: np.ndarray, v0: np.ndarray, q1: np.ndarray, v1: np.ndarray) -> np.ndarray:
    """Points of the cubic that a joint_trajectory_controller follows from one point to the next, shape (9, n)."""
    s = np.linspace(0.0, 1.0, 9)[:, None]
    return (
        (2 * s**3 - 3 * s**2 + 1) * q0
        + (s**3 - 2 * s**2 + s) * duration * v0
        + (3 * s**2 - 2 * s**3) * q1
        + (s**3 - s**2) * duration * v1
    )
