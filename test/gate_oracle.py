"""What the gate promises, said a second time and in other words, for its property tests and its mutants."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Iterable
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
        return not usable or self.excess(self.measured) > BOX_TOLERANCE

    def room(self) -> tuple[np.ndarray, np.ndarray]:
        """Where the next target may lie by the limits of every joint."""
        period, lead, margin = self.contract.task.period, self.contract.task.max_lead, self.safety.position_margin
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
        known = event.age <= MEASURED_AGE
        np.testing.assert_array_equal(halt.trajectory.positions, [self.measured if known else self.target])
        assert not halt.trajectory.velocities.any()
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
        (time, end), (target, stop) = command.trajectory.times, command.trajectory.positions
        velocity, rest = command.trajectory.velocities
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
        assert (np.abs(velocity) <= self.acceleration * (end - time) + EPS).all(), "a stop too hard"
        bounds = self.within(self.target)
        assert (stop >= bounds[0]).all() and (stop <= bounds[1]).all(), "a stop outside"
        self.steps += 1
        if self.steps % self.path_every == 0:
            there = spline(time, self.target, self.velocity, target, velocity)
            path = np.concatenate([there, spline(end - time, target, velocity, stop, rest)])
            assert (path >= bounds[0] - EPS).all() and (path <= bounds[1] + EPS).all(), "a path outside"
        self.target, self.change, self.velocity = target.copy(), target - self.target, velocity.copy()

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
            assert (np.abs(move) <= np.maximum(share * step, slower) + EPS).all(), "faster than its share"


def spline(duration: float, q0: np.ndarray, v0: np.ndarray, q1: np.ndarray, v1: np.ndarray) -> np.ndarray:
    """Points of the cubic that a joint_trajectory_controller follows from one point to the next, shape (9, n)."""
    s = np.linspace(0.0, 1.0, 9)[:, None]
    return (
        (2 * s**3 - 3 * s**2 + 1) * q0
        + (s**3 - 2 * s**2 + s) * duration * v0
        + (3 * s**2 - 2 * s**3) * q1
        + (s**3 - s**2) * duration * v1
    )


def wild(rng: np.random.Generator, size: int, count: int, **fixed: object) -> Iterable[Event]:
    """Drifting wild actions, a lagging arm, now and then a jolt, a blocked arm, a human or an old measurement."""
    drift, follow = rng.uniform(-1.5, 1.5, size), 1.0
    for k in range(count):
        if k % 50 == 0:
            drift, follow = rng.uniform(-1.2, 1.2, size), rng.choice([0.0, 0.3, 0.6, 1.0])
        event = Event(
            action=drift + rng.standard_normal(size) * rng.choice([0.01, 0.1, 1.0, 100.0]),
            pace=float(rng.choice([1.0, 1.0, 0.5, 0.1])),
            age=0.2 if rng.random() < 0.002 else 0.1 * rng.random(),
            follow=follow * rng.random(),
            push=rng.normal(0.0, 0.1, 7) * (rng.random(7) < 0.3) if rng.random() < 0.01 else 0.0,
        )
        yield event._replace(**fixed)


def steady(action: np.ndarray, count: int, **more: object) -> list[Event]:
    return [Event(action, **more)] * count


def check(modules: SimpleNamespace) -> None:
    """Everything the gate promises on a fixed set of drives, quick ones first; AssertionError where it breaks one."""
    for drive in DRIVES:
        drive(modules)


def refusals(modules: SimpleNamespace) -> None:
    zero, home = np.zeros(7), np.array(REACH.robot.home)
    bad = [np.full(7, math.nan), np.full(7, math.inf), np.full(7, -math.inf)]
    bad += [np.zeros(6), np.zeros(8), None, zero.astype(int)]
    for driver in (Driver(modules, REACH, SAFETY) for _ in range(2)):
        for action in bad:
            halt = driver.gate.command(action, home, driver.ages(0.0))
            assert isinstance(halt, modules.Halt), f"{action} was taken"
            driver.begin(home)
            halt = driver.gate.forward(action, home, driver.ages(0.0))
            assert isinstance(halt, modules.Halt), f"{action} was taken from a human"
            driver.begin(home)
            if action is not None and action.dtype == float:
                halt = driver.gate.command(zero, action, driver.ages(0.0))
                assert isinstance(halt, modules.Halt), f"{action} was measured"
                np.testing.assert_array_equal(halt.trajectory.positions, [home])
                driver.begin(home)
        for age in (0.1001, math.inf, math.nan):
            for ask, what in ((driver.gate.command, zero), (driver.gate.forward, home)):
                assert isinstance(ask(what, home, driver.ages(age)), modules.Halt), "stale input was used"
                driver.begin(home)
        goal_missing = {"joint_states": 0.0}
        assert isinstance(driver.gate.command(zero, home, goal_missing), modules.Halt)
        for speed in (0.0, -0.1, 1.1, math.nan):
            try:
                driver.gate.speed = speed
            except modules.GateError:
                continue
            raise AssertionError(f"speed {speed} was taken")


def following(modules: SimpleNamespace) -> None:
    """An arm that follows is never halted, whatever is asked of it, and it gets where it is asked to go."""
    for contract, safety in ((REACH, SAFETY), (FAST, SAFETY), (REACH, TIGHT)):
        driver = Driver(modules, contract, safety)
        for direction in (1.0, -1.0):
            driver.run(steady(np.full(7, direction), 40))
            driver.run(steady(np.resize([1.0, -1.0], 7) * direction, 40))
        assert not driver.seen["halt"] and driver.seen["acceleration"]
    assert driver.seen["box"]
    free = dataclasses.replace(SAFETY, box_lower=(), box_upper=())
    driver = Driver(modules, REACH, free).run(steady(np.ones(7), 80))
    np.testing.assert_allclose(driver.target, driver.upper - SAFETY.position_margin, atol=1e-6)
    driver.run(steady(-np.ones(7), 140))
    np.testing.assert_allclose(driver.target, driver.lower + SAFETY.position_margin, atol=1e-6)
    assert driver.seen["position"] and not driver.seen["halt"]


def blocked(modules: SimpleNamespace) -> None:
    """Before an arm that is held the target stops at the lead; an arm carried off halts."""
    for contract in (REACH, FAST):
        driver = Driver(modules, contract, SAFETY).run(steady(np.eye(7)[0], 100, follow=0.0))
        assert driver.seen["lead"] and not driver.seen["halt"]
        assert abs(driver.target[0] - driver.measured[0] - contract.task.max_lead) < 1e-6
        driver.run(steady(np.zeros(7), 5, push=0.03 * np.eye(7)[0]))
    too_fast = REACH.task.max_lead + REACH.robot.velocity_limit[2] * REACH.task.period + 0.005
    for push in (-too_fast, too_fast):  # back to the lead in one period
        driver = Driver(modules, REACH, Safety()).run(steady(np.zeros(7), 2, push=push * np.eye(7)[2]))
        assert driver.seen["conflict"] == 1


def edges(modules: SimpleNamespace) -> None:
    """Found within a margin, or a little outside the box, an arm goes back in and never farther out."""
    rng = np.random.default_rng(1)
    free = dataclasses.replace(SAFETY, box_lower=(), box_upper=())
    for end, sign in ((REACH.robot.position_upper, 1.0), (REACH.robot.position_lower, -1.0)):
        start = np.array(REACH.robot.home)
        start[[0, 3]] = np.array(end)[[0, 3]] - sign * SAFETY.position_margin / 2
        driver = Driver(modules, REACH, free, start).run(steady(np.full(7, sign), 5))
        assert not driver.seen["halt"]
        np.testing.assert_array_equal(driver.target[[0, 3]], start[[0, 3]])
        driver.run(steady(np.full(7, -sign), 20)).run(steady(np.full(7, sign), 40))
        assert (np.abs(driver.target - np.array(end))[[0, 3]] >= SAFETY.position_margin - EPS).all()
    hand = Kinematics(REACH.robot).position(np.array(REACH.robot.home))
    for outside in (0.005, 0.05):
        box = dataclasses.replace(SAFETY, box_lower=(0.2, -0.4, 0.1), box_upper=(hand[0] - outside, 0.4, 0.8))
        try:
            driver = Driver(modules, REACH, box)
        except modules.GateError:
            assert outside > BOX_TOLERANCE, "not enabled for nothing"
            continue
        assert outside < BOX_TOLERANCE, "enabled far outside"
        driver.run(wild(rng, 7, 200, human=False, age=0.0, push=0.0, follow=1.0))
        driver = Driver(modules, REACH, box).run(steady(np.array([0, -1.0, 0, -1, 0, 0, 0]), 30))
        assert not driver.seen["halt"] and driver.excess(driver.target) == 0.0


def bulging(modules: SimpleNamespace) -> None:
    """Target and stop lie in the box, and the way between them bulges out of it: when told to stop there, halt."""
    home = np.array(REACH.robot.home)
    radius = Kinematics(REACH.robot).position(home)[0]
    box = dataclasses.replace(SAFETY, box_lower=(0.2, -0.4, 0.1), box_upper=(radius * np.cos(0.01), 0.4, 0.8))
    start = home - (0.012 + 0.0375 + 3 * 0.05) * np.eye(7)[0]
    driver = Driver(modules, REACH, box, start).run(steady(np.eye(7)[0], 4)).run(steady(np.zeros(7), 1))
    assert driver.seen["box halt"] == 1


def carried(modules: SimpleNamespace) -> None:
    """Carried out of the box by hand, an arm whose target is still inside halts."""
    driver = Driver(modules, REACH, TIGHT)
    driver.run(steady(np.zeros(7), 20, push=0.02 * np.eye(7)[0], follow=0.0))
    assert driver.seen["halt"]


def human(modules: SimpleNamespace) -> None:
    """A human's far targets meet the same limits, and are reached."""
    rng = np.random.default_rng(2)
    driver = Driver(modules, REACH, SAFETY)
    wanted = driver.home + rng.uniform(-0.2, 0.2, 7)
    driver.run(steady(wanted, 40, human=True))
    np.testing.assert_allclose(driver.target, wanted, atol=1e-9)
    for _ in range(10):
        driver.run(steady(driver.home + rng.uniform(-2, 2, 7), 20, human=True, follow=0.7))


def slowly(modules: SimpleNamespace) -> None:
    """The operator's speed scales every step, and may change under way."""
    driver = Driver(modules, REACH, SAFETY)
    for speed in (0.1, 1.0, 0.3):
        driver.gate.speed = speed
        driver.run(steady(np.resize([0.5, -0.5], 7), 6))
        np.testing.assert_allclose(driver.change, speed * np.resize([0.5, -0.5], 7) * REACH.max_joint_step, atol=1e-9)
        driver.run(steady(driver.target + np.resize([-0.7, 0.7], 7), 10, human=True))
        assert np.abs(driver.change).max() > 0.95 * speed * REACH.max_joint_step[0]


def random(modules: SimpleNamespace) -> None:
    rng = np.random.default_rng(3)
    for contract, safety in ((REACH, SAFETY), (FAST, TIGHT), (REACH, TIGHT)):
        Driver(modules, contract, safety).run(wild(rng, 7, 300))
    Driver(modules, DETOUR, TIGHT).run(wild(rng, 3, 100))


DRIVES: tuple[Callable[[SimpleNamespace], None], ...] = (
    refusals, blocked, bulging, carried, human, slowly, edges, following, random
)  # fmt: skip
