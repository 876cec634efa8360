"""Controller, likeness, and the control loop around them; oracles by hand."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import handmade
import numpy as np
import pytest

from irl_ros.checkpoint import Checkpoint, CheckpointError
from irl_ros.contract import Contract
from irl_ros.control.controller import Controller
from irl_ros.control.gate import Command, GateError, GateState, Halt
from irl_ros.control.pilot import Pilot
from irl_ros.models.inference import Policy, Reward
from irl_ros.models.likeness import Likeness, LikenessError, calibrate

CONTRACT = Contract.load("panda", "reach")
HOME = np.array(CONTRACT.robot.home)
ACTION = np.array([0.5, -0.25, 0.0, 0.1, 0.2, 0.3, 1.5])
GOAL = np.array([0.5, 0.0, 0.4])


@pytest.fixture
def checkpoint(tmp_path) -> Checkpoint:
    handmade.checkpoint(CONTRACT, ACTION, gain=0.2).save(tmp_path)
    return Checkpoint.load(tmp_path)


def test_act_and_reward_are_the_checkpoints(checkpoint: Checkpoint):
    controller = Controller(checkpoint)
    policy = Policy.from_arrays(checkpoint.policy_arrays, CONTRACT)
    reward = Reward.from_arrays(checkpoint.reward_arrays, CONTRACT)
    before, after = handmade.demonstrations(CONTRACT)[0][:2]
    np.testing.assert_array_equal(controller.act(before), policy.mean(before))
    np.testing.assert_allclose(controller.act(before), ACTION + 0.2 * before[0])
    assert controller.reward(before, ACTION, after) == reward(before, ACTION, after)


def test_observation_is_the_contracts(checkpoint: Checkpoint):
    controller = Controller(checkpoint)
    measured = {"joint_position": HOME, "joint_velocity": np.full(7, 0.1), "goal_position": GOAL}
    observation = controller.observe(measured)
    np.testing.assert_array_equal(CONTRACT.field(observation, "joint_position"), HOME)
    hand = controller.end_effector(HOME)
    np.testing.assert_allclose(CONTRACT.field(observation, "end_effector_to_goal"), GOAL - hand)


def test_likeness_is_full_on_demonstrated_states_and_none_far_away(checkpoint: Checkpoint):
    controller = Controller(checkpoint)
    for demonstration in handmade.demonstrations(CONTRACT):
        assert [controller.likeness(o) for o in demonstration] == [100.0] * len(demonstration)
    far = demonstration[0] + 5.0
    assert controller.likeness(far) == 0.0
    assert 0.0 < controller.likeness_threshold < 10.0


def test_likeness_against_hand_computed_distances():
    """Demonstrations at 0, 1 and 10 on a line, spread s: leave-one-out distances 1/s, 1/s and 9/s."""
    arrays = calibrate([np.array([[0.0]]), np.array([[1.0]]), np.array([[10.0]])])
    spread = np.std([0.0, 1.0, 10.0])
    np.testing.assert_allclose(arrays["distances"], np.array([1.0, 1.0, 9.0]) / spread)
    likeness = Likeness.from_arrays(arrays)
    assert [likeness(np.array([x])) for x in (0.0, 0.5, 2.0 - 1e-9, 3.0, 18.9, 19.1)] == pytest.approx(
        [100, 100, 100, 100 / 3, 100 / 3, 0]
    )
    assert likeness.distance(np.array([13.0])) == pytest.approx(3.0 / spread)


def test_likeness_from_one_demonstration_leaves_each_state_out():
    arrays = calibrate([np.array([[0.0], [1.0], [3.0]])])
    np.testing.assert_allclose(arrays["distances"] * np.std([0.0, 1.0, 3.0]), [1.0, 1.0, 2.0])


def test_an_input_that_never_varies_does_not_outweigh_the_others():
    rng = np.random.default_rng(0)
    arrays = calibrate([np.column_stack([rng.normal(size=50), np.zeros(50)]) for _ in range(3)])
    assert np.isfinite(Likeness.from_arrays(arrays).distance(np.array([0.0, 0.01])))
    assert arrays["scale"][1] == pytest.approx(0.05 * arrays["scale"][0])


@pytest.mark.parametrize("states", [[], [np.zeros((0, 2))], [np.zeros((2, 2)), np.zeros((2, 3))], [np.zeros((1, 2))]])
def test_likeness_refuses_unusable_states(states: list[np.ndarray]):
    with pytest.raises(LikenessError, match="likeness needs"):
        calibrate(states)
    with pytest.raises(LikenessError, match="lack scale"):
        Likeness.from_arrays({"states": np.zeros((2, 2)), "distances": np.zeros(2), "threshold": np.zeros(1)})


@pytest.mark.parametrize(
    "change",
    [
        {"policy_arrays": {"mean.0.weight": np.zeros((7, 5)), "mean.0.bias": np.zeros(7), "log_std": np.zeros(7)}},
        {"policy_arrays": {"mean.0.weight": np.zeros((3, 21)), "mean.0.bias": np.zeros(3), "log_std": np.zeros(3)}},
        {"policy_arrays": {}},
        {"likeness_arrays": {}},
    ],
)
def test_networks_that_do_not_fit_the_contract_are_refused(checkpoint: Checkpoint, change: dict):
    with pytest.raises(CheckpointError, match="checkpoint's"):
        Controller(dataclasses.replace(checkpoint, **change))


def test_a_clone_has_no_reward(checkpoint: Checkpoint):
    controller = Controller(dataclasses.replace(checkpoint, reward_arrays={}))
    observation = np.zeros(CONTRACT.observation_size)
    assert controller.reward(observation, np.zeros(CONTRACT.action_size), observation) is None


def test_a_policy_that_gives_nan_is_refused(checkpoint: Checkpoint):
    arrays = {**checkpoint.policy_arrays, "mean.0.bias": np.full(7, np.nan)}
    with pytest.raises(CheckpointError, match="do not fit"):
        Controller(dataclasses.replace(checkpoint, policy_arrays=arrays))


class Loop:
    """A pilot with an arm that reaches every target at once, and a clock that the test turns."""

    def __init__(self, checkpoint: Checkpoint, **options: float):
        self.now, self.sent = 100.0, []
        self.pilot = Pilot(Controller(checkpoint), self.sent.append, **options)
        self.position = HOME

    def measure(self) -> None:
        joints = {"joint_position": self.position, "joint_velocity": np.zeros(7)}
        self.pilot.inputs.update("joint_states", joints, self.now)
        self.pilot.inputs.update("goal_pose", {"goal_position": GOAL}, self.now)

    def tick(self):
        score = self.pilot.tick(lambda: self.now)
        if self.sent and isinstance(self.sent[-1], Command):
            self.position = self.sent[-1].target
        self.now += 0.05
        self.measure()
        return score


def test_the_reward_of_a_tick_is_that_of_the_action_executed_the_tick_before(checkpoint: Checkpoint):
    loop = Loop(checkpoint)
    controller = loop.pilot.controller
    assert loop.tick() is None  # nothing received yet
    assert loop.tick().reward is None and not loop.sent  # not enabled
    loop.pilot.enable(loop.now)
    before, total = controller.observe(loop.pilot.inputs.measured), 0.0
    assert loop.tick().reward is None
    for _ in range(3):
        after = controller.observe(loop.pilot.inputs.measured)
        executed = np.clip(controller.act(before), -1, 1)
        np.testing.assert_array_equal(loop.sent[-1].action, executed)
        score = loop.tick()
        expected = controller.reward(before, executed, after)
        total += expected
        assert score.reward == expected and score.episode_return == pytest.approx(total)
        before = after
    assert loop.pilot.disable("disabled", loop.now) and isinstance(loop.sent[-1], Halt)
    sent = len(loop.sent)
    for _ in range(3):  # an arm that has just moved is not enabled
        assert loop.tick().reward is None and len(loop.sent) == sent
    loop.pilot.enable(loop.now)
    observation = controller.observe(loop.pilot.inputs.measured)
    assert loop.tick() == (controller.likeness(observation), None, 0.0)


def test_a_pilot_is_not_enabled_without_fresh_input(checkpoint: Checkpoint):
    loop = Loop(checkpoint)
    with pytest.raises(GateError, match="nothing received on joint_states"):
        loop.pilot.enable(loop.now)
    loop.measure()
    with pytest.raises(GateError, match="stale: last message 0.200 s ago"):
        loop.pilot.enable(loop.now + 0.2)
    loop.pilot.enable(loop.now)


def test_the_watchdog_sees_stale_input_and_a_loop_that_stands_still(checkpoint: Checkpoint):
    loop = Loop(checkpoint, loop_timeout=0.15)
    loop.measure()
    assert loop.pilot.overdue(loop.now + 9.0) is None  # nothing can move
    loop.pilot.enable(loop.now)
    assert loop.pilot.overdue(loop.now + 0.1 - 1e-6) is None
    assert "stale" in loop.pilot.overdue(loop.now + 0.11)
    loop.now += 0.2
    loop.measure()
    assert "not ticked for 0.200 s" in loop.pilot.overdue(loop.now)
    assert loop.pilot.halt("overdue", loop.now) and not loop.pilot.halt("overdue", loop.now)
    assert loop.pilot.gate.state is GateState.HALTED and len(loop.sent) == 1


def test_an_action_that_took_too_long_meets_stale_input(checkpoint: Checkpoint):
    loop = Loop(checkpoint)
    loop.measure()
    loop.pilot.enable(loop.now)
    times = iter([loop.now, loop.now + 0.3])
    loop.pilot.tick(lambda: next(times))
    assert isinstance(loop.sent[-1], Halt) and "stale" in loop.sent[-1].reason


def test_control_imports_neither_torch_nor_ros():
    code = (
        "import sys, irl_ros.control.pilot, irl_ros.control.controller, irl_ros.control.gate\n"
        "assert not {'torch', 'rclpy', 'pybullet', 'gymnasium'} & set(sys.modules), 'too much imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
