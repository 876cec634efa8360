"""Peg insertion: the robot that holds a peg, contact in and about the hole, its demonstrator, randomisation."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import irl_ros_sim  # noqa: F401  registers the env
from irl_ros.contract import Contract, load_robot
from irl_ros.kinematics import Kinematics
from irl_ros_sim.experts import make_expert
from irl_ros_sim.experts.peg_insertion import PegExpert
from irl_ros_sim.tasks.peg_insertion import DEPTH, HOLE, PegInsertionEnv

CLEARANCE = HOLE / 2 - 0.01  # [m] to each side of a peg in the middle of the hole
TOP = DEPTH  # [m] from the goal up to the block's top


@contextlib.contextmanager
def made(**options) -> Iterator[PegInsertionEnv]:
    env = gymnasium.make("irl_ros/PegInsertion-v0", disable_env_checker=True, **options).unwrapped
    try:
        yield env
    finally:
        env.close()


def play(env: PegInsertionEnv, expert: PegExpert, seed: int) -> dict:
    """The last info of an episode."""
    observation, info = env.reset(seed=seed)
    expert.reset()
    for _ in range(env.contract.task.horizon):
        observation, _, _, _, info = env.step(expert.act(observation))
    return info


def tip(env: PegInsertionEnv) -> np.ndarray:
    """Where the tip is, seen from the goal [m]."""
    return env.end_effector() - env.goal


def press(env: PegInsertionEnv, aside: np.ndarray, steps: int) -> np.ndarray:
    """Go `aside` [m] of the hole's axis along x and y, then down whatever comes; tips (steps, 3) on the way down [m]."""
    env.reset(seed=1)
    for _ in range(30):
        way = [*aside, TOP + 0.01] - tip(env)
        env.step(np.clip(0.5 * way / 0.01, -1.0, 1.0))
    tips = []
    for _ in range(steps):
        env.step(np.array([*(0.5 * (aside - tip(env)[:2]) / 0.01), -0.5]))
        tips.append(tip(env))
    return np.array(tips)


def test_the_robot_is_the_panda_and_its_tip_nine_centimetres_beyond_where_the_panda_grasps():
    peg, panda = load_robot("panda_peg"), load_robot("panda")
    assert (peg.joint_names, peg.position_lower, peg.velocity_limit) == (
        (panda.joint_names, panda.position_lower, panda.velocity_limit)
    )
    rng, ours, theirs = np.random.default_rng(0), Kinematics(peg), Kinematics(panda)
    for q in rng.uniform(panda.position_lower, panda.position_upper, (20, 7)):
        x, y, z, w = theirs.orientation(q)
        hand = np.array([2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)])
        np.testing.assert_allclose(ours.position(q), theirs.position(q) + 0.09 * hand, atol=1e-6)


def test_gymnasiums_checker_is_content():
    with made() as env:
        check_env(env, skip_render_check=True)


def test_the_same_seed_gives_the_same_episode_contact_included():
    actions = np.random.default_rng(4).uniform([-0.3, -0.3, -1.0], [0.3, 0.3, -0.8], (40, 3))
    with made() as env:
        runs = [[env.reset(seed=seed)[0], *(env.step(a)[0] for a in actions)] for seed in (5, 6, 5)]
        assert tip(env)[2] < TOP + 0.001, "it never came down to the block"
    assert np.isfinite(runs).all()
    np.testing.assert_array_equal(runs[0], runs[2])
    assert not np.array_equal(runs[0], runs[1])


def test_the_hole_moves_and_no_scene_is_a_success_already():
    with made() as env:
        infos = [(env.reset(seed=seed)[1], env.goal, tip(env)[2]) for seed in range(200)]
        np.testing.assert_allclose(env.kinematics.orientation(env.arm.state()[0]), [1, 0, 0, 0], atol=1e-4)
    assert not any(info["success"] for info, _, _ in infos)
    assert np.ptp([goal for _, goal, _ in infos], axis=0) == pytest.approx([0.1, 0.1, 0.0], abs=0.005)
    assert min(height for *_, height in infos) > TOP + 0.08


def test_the_demonstrator_succeeds():
    with made() as env:
        expert = make_expert(env.contract, env.kinematics, np.random.default_rng(0))
        assert isinstance(expert, PegExpert)
        infos = [play(env, expert, seed) for seed in range(12)]
    assert np.mean([info["success"] for info in infos]) >= 0.95
    assert max(info["distance"] for info in infos) < 0.01


def test_joints_as_actions_are_a_task_as_well():
    contract = Contract.load("", "peg_insertion_joints")
    with made(contract=contract) as env:
        assert env.action_space.shape == (7,)
        expert = make_expert(contract, env.kinematics, np.random.default_rng(0))
        assert all(play(env, expert, seed)["success"] for seed in range(4))


# Contact


def test_beside_the_hole_the_block_stops_the_peg():
    """Without passing into it, and pushing with tens of newtons, as the robot's efforts allow."""
    with made() as env:
        tips = press(env, np.array([0.02, 0.0]), 30)
        force = sum(point[9] for point in env.arm._bullet.getContactPoints(env.arm.body))
    assert -2e-4 < (tips[:, 2] - TOP).min() < 1e-3 and (tips[-10:, 2] - TOP).max() < 1e-3
    assert 10 < force < 150


def test_the_hole_leaves_the_peg_its_clearance_and_no_more():
    """Inside, moved 1.8 mm towards each wall in turn, the tip gets no further than a millimetre."""
    with made() as env:
        for axis, sign in ((0, 1), (0, -1), (1, 1), (1, -1)):
            tips = press(env, np.zeros(2), 12)
            assert tips[-1, 2] < 0.5 * TOP
            push = np.zeros(3)
            push[axis] = 0.03 * sign
            for _ in range(6):
                env.step(push)
            assert sign * tip(env)[axis] == pytest.approx(CLEARANCE, abs=3e-4)


@pytest.mark.parametrize("aside", [0.0, 0.0006, 0.0012])
def test_contact_is_what_fifty_solver_iterations_make_of_it(monkeypatch, aside: float):
    """Down into the hole, at first beside its axis; the last is pushed to the middle by the peg's rounded edge."""
    with made() as env:
        ours = press(env, np.array([aside, 0.0]), 9)
    monkeypatch.setattr(PegInsertionEnv, "solver_iterations", 50)
    with made() as env:
        fine = press(env, np.array([aside, 0.0]), 9)
    assert ours[-1, 2] < 0.2 * TOP
    np.testing.assert_allclose(ours, fine, atol=3e-4)


# Randomisation


def test_randomisation_changes_friction_motion_and_sensing_by_the_seed():
    def rows(env: PegInsertionEnv, seed: int) -> np.ndarray:
        rows = [env.reset(seed=seed)[0], *(env.step(np.array([0.5, 0.5, -0.5]))[0] for _ in range(5))]
        return env.contract.field(np.array(rows), "joint_position")

    def friction(env: PegInsertionEnv) -> set[float]:
        return {env.arm._bullet.getDynamicsInfo(body, -1)[1] for body, _ in env._walls}

    with made() as env:
        plain, untouched = rows(env, 3), friction(env)
    with made(randomise=True) as env:
        drawn, first = rows(env, 3), friction(env)
        other, second = rows(env, 4), friction(env)
        again, third = rows(env, 3), friction(env)
    np.testing.assert_array_equal(drawn, again)
    assert 1e-5 < np.abs(drawn - plain).max() < 0.1
    assert untouched == {0.3} and first == third != second and len(first) == 1
    assert all(0.15 <= f <= 0.45 for f in first | second) and not np.array_equal(drawn, other)


def test_the_picture_shows_block_and_peg():
    with made(render_mode="rgb_array") as env:
        env.reset(seed=0)
        red, green, blue = np.moveaxis(env.render().astype(int), -1, 0)
    assert ((blue > red + 40) & (blue > green + 10)).sum() > 500, "the block"
    assert (red > blue + 60).sum() > 50, "the peg"
