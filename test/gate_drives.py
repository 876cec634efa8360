"""Drives of an arm through a gate, each judged at every step by gate_oracle.py; together they tell a mutant."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable
from types import SimpleNamespace

import numpy as np
from gate_oracle import BOX_TOLERANCE, DETOUR, EPS, FAST, REACH, SAFETY, TIGHT, Driver, Event

from irl_ros.contract import Safety
from irl_ros.kinematics import Kinematics


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


def halted(modules: SimpleNamespace) -> None:
    """Halted in full motion, an arm that follows brakes ahead, within its box, and one that is blocked stays."""
    bad, full = np.full(7, math.nan), np.resize([1.0, -1.0], 7)
    for safety in (SAFETY, TIGHT, Safety()):
        for age in (0.0, 0.05, 0.2):
            for follow in (1.0, 0.9, 0.3):
                driver = Driver(modules, FAST, safety)
                driver.run(steady(full, 12, follow=follow)).run([Event(bad, age=age)])
                assert driver.seen["halt"] == 1
    rng, kept = np.random.default_rng(4), 0
    for _ in range(40):
        driver = Driver(modules, REACH, TIGHT).run(steady(rng.choice([-1.0, 1.0], 7), 12, follow=0.8))
        kept += driver.run([Event(bad)]).seen["kept in the box"]
    assert kept
    near = dataclasses.replace(SAFETY, lead=0.04)
    driver = Driver(modules, FAST, near).run(steady(full, 40, follow=0.0))
    assert driver.seen["lead"] and abs(np.abs(driver.target - driver.measured).max() - near.lead) < 1e-6


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
    followed = wild(np.random.default_rng(1), 7, 1500, human=False, age=0.0, pace=1.0, push=0.0, follow=1.0)
    assert not Driver(modules, REACH, TIGHT, path_every=10).run(followed).seen["halt"]


DRIVES: tuple[Callable[[SimpleNamespace], None], ...] = (
    refusals, halted, blocked, bulging, carried, human, slowly, edges, following, random
)  # fmt: skip
