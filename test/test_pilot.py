"""The control loop: stamps that cannot be believed, a human who takes over, observations unlike the demonstrations."""

from __future__ import annotations

import dataclasses
import math

import handmade
import numpy as np
import pytest

from irl_ros.contract import Contract, load_safety
from irl_ros.control.caution import Caution
from irl_ros.control.controller import Controller
from irl_ros.control.gate import Command, GateError, GateState, Halt
from irl_ros.control.inputs import Inputs
from irl_ros.control.pilot import Pilot

CONTRACT = Contract.load("panda", "reach")
HOME = np.array(CONTRACT.robot.home)
JOINTS = {"joint_position": HOME, "joint_velocity": np.zeros(7)}
GOAL = {"goal_position": np.array([0.5, 0.0, 0.4])}
HOUR = 3600.0
STEP = CONTRACT.task.period


def heard(*messages: tuple[float, float | None]) -> Inputs:
    """Inputs after joint states received at [s] with stamp [s]."""
    inputs = Inputs(CONTRACT)
    for k, (now, stamp) in enumerate(messages):
        inputs.update("joint_states", {"joint_position": HOME + 0.01 * k}, now, stamp)
    return inputs


@pytest.mark.parametrize("offset", [-HOUR, 0.0, HOUR, 1e9])
def test_a_senders_clock_may_show_any_time(offset: float):
    inputs = heard(*((t, t + offset) for t in (10.0, 10.01, 10.02)))
    assert inputs.ages(10.05)["joint_states"] == pytest.approx(0.03) and inputs.fault(10.05) is None
    assert inputs.fault(11.0) is None  # stale by its age, and that is another fault
    np.testing.assert_array_equal(inputs.joint_position, HOME + 0.02)


def test_messages_whose_stamps_stand_still_bring_nothing_new():
    inputs = heard((10.0, 5.0), (10.05, 5.0), (10.1, 5.0))
    assert inputs.fault(10.1) is None
    assert inputs.ages(10.11)["joint_states"] == pytest.approx(0.11)
    assert inputs.fault(10.11) == "joint_states: its messages keep coming, but their stamps stand still"
    np.testing.assert_array_equal(inputs.joint_position, HOME)
    inputs.update("joint_states", JOINTS, 10.12, 5.001)
    assert inputs.fault(10.12) is None and inputs.ages(10.12)["joint_states"] == 0.0


def test_messages_without_a_stamp_of_their_own_stand_still():
    assert "stand still" in heard((10.0, 0.0), (10.05, 0.0), (10.11, 0.0)).fault(10.11)


def test_a_clock_set_back_is_a_fault_until_it_has_run_forwards_for_max_age():
    inputs = heard((10.0, 50.0), (10.01, 45.0))
    assert inputs.fault(10.01).startswith("joint_states: its stamps run backwards: a clock was set back, or two nodes")
    np.testing.assert_array_equal(inputs.joint_position, HOME)
    for k in range(1, 12):
        inputs.update("joint_states", JOINTS, 10.01 + 0.01 * k, 45.0 + 0.01 * k)
        assert (inputs.fault(10.01 + 0.01 * k) is None) == (k > 10)


def test_two_publishers_with_different_clocks_are_a_fault_for_as_long_as_both_go_on():
    inputs = heard(*((10.0 + 0.01 * k, 0.01 * k + (HOUR if k % 2 else 0.0)) for k in range(100)))
    assert "two nodes publish it" in inputs.fault(11.0)


def test_a_latched_topic_may_repeat_any_stamp():
    inputs = heard((10.0, 1.0))
    for stamp in (7.0, 7.0, 3.0):
        inputs.update("goal_pose", GOAL, 10.0, stamp)
    assert inputs.fault(10.0) is None and inputs.ages(10.0)["goal_pose"] == 0.0


def test_inputs_without_stamps_go_by_their_age_alone():
    inputs = heard((10.0, None), (10.05, None))
    assert inputs.fault(10.06) is None and inputs.ages(10.06)["joint_states"] == pytest.approx(0.01)


class Loop:
    """A pilot with an arm that reaches every target at once, and a clock that each tick turns by a period."""

    def __init__(self, action: float = 0.5, rate: float = CONTRACT.task.rate, **options):
        self.now, self.sent, self.position, self.stamp = 100.0, [], HOME, 0.0
        self.period = 1.0 / rate
        contract = dataclasses.replace(CONTRACT, task=dataclasses.replace(CONTRACT.task, rate=rate))
        controller = Controller(handmade.checkpoint(contract, np.full(7, action)))
        self.pilot = Pilot(controller, self.sent.append, **options)
        self.measure()
        self.pilot.enable(self.now)

    def measure(self, velocity: np.ndarray = np.zeros(7)) -> None:
        self.stamp += self.period
        joints = {"joint_position": self.position, "joint_velocity": velocity}
        self.pilot.inputs.update("joint_states", joints, self.now, self.stamp)
        self.pilot.inputs.update("goal_pose", GOAL, self.now, 1.0)

    def tick(self) -> Command | Halt:
        self.pilot.tick(lambda: self.now)
        result = self.sent[-1]
        self.position = result.target if isinstance(result, Command) else self.position
        self.now += self.period
        self.measure()
        return result


@pytest.mark.parametrize("rate", [100.0, 20.0, 10.0, 4.0])
def test_a_human_leads_at_any_rate_until_they_let_go(rate: float):
    """Their commands come once a period, late by a tenth of one now and then; a watchdog looks in between."""
    loop, rng = Loop(0.0, rate=rate), np.random.default_rng(0)
    for _ in range(30):
        loop.pilot.takeover(loop.position, loop.now - rng.uniform(0.0, 0.1) * loop.period)
        assert isinstance(loop.tick(), Command) and loop.pilot.taken_over
        assert loop.pilot.overdue(loop.now + 0.1 * loop.period - 1e-3) is None
        loop.now += rng.uniform(0.0, 0.1) * loop.period
        loop.measure()
    loop.now += max(0.1, 2.0 * loop.period)
    loop.measure()
    assert "let go" in loop.pilot.overdue(loop.now)


def test_an_arm_in_motion_is_not_enabled():
    loop = Loop()
    loop.pilot.disable("test", loop.now)
    loop.measure(-0.3 * np.eye(7)[2])
    with pytest.raises(GateError, match="panda_joint3 moves at -0.30 rad/s; wait until the arm is at rest"):
        loop.pilot.enable(loop.now)
    loop.measure(0.02 * np.ones(7))  # noise
    loop.pilot.enable(loop.now)
    assert loop.pilot.gate.armed


def test_a_dry_run_watches_an_arm_in_motion():
    loop = Loop(dry=True)
    loop.pilot.disable("test", loop.now)
    loop.measure(-0.3 * np.eye(7)[2])
    loop.pilot.enable(loop.now)
    assert loop.pilot.gate.armed


def test_a_loop_that_was_frozen_halts_before_it_commands():
    loop = Loop(loop_timeout=0.15)
    assert isinstance(loop.tick(), Command)
    loop.now += 2.0
    loop.measure()
    result = loop.tick()
    assert isinstance(result, Halt) and "had not ticked for 2.0" in result.reason


def test_a_clock_set_back_halts_and_the_arm_is_not_enabled_at_once():
    loop = Loop()
    loop.tick()
    loop.stamp -= 5.0
    loop.measure()
    assert "backwards" in loop.pilot.overdue(loop.now)
    assert "backwards" in loop.tick().reason and loop.pilot.gate.state is GateState.HALTED
    with pytest.raises(GateError, match="not enabled: joint_states: its stamps run backwards"):
        loop.pilot.enable(loop.now)
    for _ in range(3):
        loop.now += STEP
        loop.measure()
    loop.pilot.enable(loop.now)


def test_a_humans_target_replaces_the_policys_within_a_period_and_passes_the_same_limits():
    loop = Loop(0.5, safety=load_safety("panda"))
    loop.tick()
    wanted = loop.position - 1.0
    for k in range(6):
        loop.pilot.takeover(wanted, loop.now)
        before = loop.position
        command = loop.tick()
        assert isinstance(command, Command) and "step" in command.limited and loop.pilot.taken_over
        assert (np.abs(command.target - before) <= STEP + 1e-12).all()
        np.testing.assert_allclose(command.target, before + STEP * command.action, atol=1e-12)
    assert (command.target < before - 0.9 * STEP).all() and (command.action < -0.9).all()


def test_a_human_near_the_target_reaches_it_exactly():
    loop = Loop()
    wanted = HOME + 0.6 * STEP * np.array([1, -1, 0, 0.5, 0, 0, 1])
    loop.pilot.takeover(wanted, loop.now)
    command = loop.tick()
    np.testing.assert_allclose(command.target, wanted, atol=1e-15)
    assert command.limited == ()


def test_the_policy_does_not_go_on_by_itself_when_the_human_lets_go():
    loop = Loop()
    loop.pilot.takeover(HOME, loop.now)
    loop.tick()
    assert loop.pilot.overdue(loop.now) is None
    loop.now += 0.06
    loop.measure()
    assert "let go" in loop.pilot.overdue(loop.now)
    halt = loop.tick()
    assert isinstance(halt, Halt) and "the human let go; enable" in halt.reason
    assert loop.tick() is halt
    loop.pilot.enable(loop.now)
    np.testing.assert_allclose(loop.tick().action, np.full(7, 0.5))
    assert not loop.pilot.taken_over


def test_a_human_who_leads_on_after_a_halt_needs_an_enable_too():
    loop = Loop()
    loop.pilot.halt("test", loop.now)
    loop.pilot.takeover(HOME + 0.1, loop.now)
    assert isinstance(loop.tick(), Halt)
    loop.pilot.enable(loop.now)
    loop.pilot.takeover(loop.position + 0.01, loop.now)
    np.testing.assert_allclose(loop.tick().target, HOME + 0.01)


@pytest.mark.parametrize("bad", [np.full(7, math.nan), np.zeros(6), None])
def test_a_humans_target_that_is_none_halts(bad: object):
    loop = Loop()
    loop.pilot.takeover(bad, loop.now)
    assert "wanted joint position" in loop.tick().reason


def test_the_reward_of_a_humans_step_is_that_of_the_action_executed():
    loop = Loop()
    loop.pilot.takeover(HOME + 0.5 * STEP, loop.now)
    before = loop.pilot.controller.observe(loop.pilot.inputs.measured)
    executed = loop.tick().action
    np.testing.assert_allclose(executed, np.full(7, 0.5))
    after = loop.pilot.controller.observe(loop.pilot.inputs.measured)
    score = loop.pilot.tick(lambda: loop.now)
    assert score.reward == loop.pilot.controller.reward(before, executed, after)


def test_caution_slows_after_its_grace_and_gives_up_after_its_patience():
    caution = Caution(threshold=5.0, patience=0.5, grace=0.2, slow=0.25)
    assert caution.pace(5.0, 0.0) == 1.0 and caution.fault() is None
    assert [caution.pace(4.9, t) for t in (1.0, 1.1, 1.25, 2.25)] == [1.0, 1.0, 0.25, 0.25]
    assert caution.fault() is None  # 0.25 s, and a second at a quarter of the speed
    assert caution.pace(4.9, 2.4) == 0.25 and "for 0.54 s of motion" in caution.fault()
    assert caution.pace(50.0, 2.5) == 1.0 and caution.fault() is None
    assert caution.pace(math.nan, 3.0) == 1.0 and caution.pace(math.nan, 3.3) == 0.25  # what cannot be told is unlike
    caution.reset()
    assert caution.pace(0.0, 9.0) == 1.0 and caution.fault() is None


def test_at_a_tenth_of_the_speed_patience_lasts_ten_times_as_long():
    caution = Caution(5.0)
    paces = {k: caution.pace(0.0, 0.1 * k, speed=0.1) for k in range(298)}  # 10 s, and 20 s at half of a tenth
    assert (paces[98], paces[102]) == (1.0, 0.5) and caution.fault() is None
    caution.pace(0.0, 30.2, speed=0.1)
    assert caution.fault() is not None


@pytest.mark.parametrize(
    "options", [{"slow": 0.0}, {"slow": 1.1}, {"grace": -1.0}, {"grace": 9.0}, {"patience": math.nan}]
)
def test_a_caution_that_makes_no_sense_is_refused(options: dict[str, float]):
    with pytest.raises(ValueError, match="slow must lie in"):
        Caution(5.0, **options)


def test_an_arm_that_leaves_the_demonstrated_slows_then_halts():
    loop = Loop(1.0, caution=Caution(50.0, patience=0.22, grace=0.09, slow=0.5))
    loop.pilot.controller.likeness = lambda observation: 100.0 * (observation[0] < 0.22)
    results = []
    while not results or isinstance(results[-1], Command):
        before = loop.position
        results.append(loop.tick())
    slow = [isinstance(r, Command) and "likeness" in r.limited for r in results]
    assert slow == [False] * 8 + [True] * 5 + [False]  # by the likeness of the tick before
    np.testing.assert_allclose(results[-2].action, np.full(7, 0.5))
    assert "unlike the demonstrations for 0.22 s of motion" in results[-1].reason
    np.testing.assert_array_equal(results[-1].hold, before)


def test_a_human_may_lead_where_nobody_demonstrated():
    loop = Loop(0.0, caution=Caution(101.0, patience=0.0, grace=0.0))
    for _ in range(10):
        loop.pilot.takeover(loop.position + 0.9 * STEP, loop.now)
        assert loop.tick().limited == ()
