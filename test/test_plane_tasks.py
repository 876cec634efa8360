"""The tasks without contact, planar_reach, navigate2d and detour: their envs, robots, demonstrators and zones."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from task_envs import made

import irl_ros_sim  # noqa: F401  registers the envs
from irl_ros.contract import Contract, ContractError
from irl_ros.kinematics import Kinematics
from irl_ros.models.features import Features
from irl_ros_sim.discs import DETOUR_RADIUS, NAVIGATION_OBSTACLES, Disc, blocking, shorter_side, tangent
from irl_ros_sim.experts import make_expert
from irl_ros_sim.experts.detour import DetourExpert
from irl_ros_sim.experts.reach import ReachExpert

IDS = {
    "planar_reach": "irl_ros/PlanarReach-v0",
    "navigate2d": "irl_ros/Navigate2D-v0",
    "detour": "irl_ros/Detour-v0",
}
EXPERT_EPISODES = 20


def play(env: gymnasium.Env, expert, seed: int) -> tuple[np.ndarray, dict]:
    """Observations (T+1, n) of an episode, and its last info."""
    observation, info = env.reset(seed=seed)
    expert.reset()
    rows, truncated = [observation], False
    while not truncated:
        observation, _, _, truncated, info = env.step(expert.act(observation))
        rows.append(observation)
    return np.array(rows), info


def successes(env: gymnasium.Env, kind: type, episodes: int) -> list[bool]:
    expert = kind(env.contract, Kinematics(env.contract.robot), np.random.default_rng(0))
    return [play(env, expert, seed)[1]["success"] for seed in range(episodes)]


# Every one of them


@pytest.mark.parametrize("task", IDS)
def test_gymnasiums_checker_is_content(task):
    with made(task) as env:
        check_env(env, skip_render_check=True)


@pytest.mark.parametrize("task", IDS)
def test_the_same_seed_gives_the_same_episode_and_other_episodes_leave_no_trace(task):
    with made(task) as env:
        actions = np.random.default_rng(4).uniform(-1, 1, (15, env.contract.action_size))
        runs = [[env.reset(seed=seed)[0], *(env.step(a)[0] for a in actions)] for seed in (5, 6, 5)]
    with made(task) as env:
        runs.append([env.reset(seed=5)[0], *(env.step(a)[0] for a in actions)])
    assert np.isfinite(runs).all()
    np.testing.assert_array_equal(runs[0], runs[2])
    np.testing.assert_array_equal(runs[0], runs[3])
    assert not np.array_equal(runs[0], runs[1])


@pytest.mark.parametrize("task", IDS)
def test_no_scene_is_a_success_or_inside_a_zone_already(task):
    with made(task) as env:
        infos = [env.reset(seed=seed)[1] for seed in range(200)]
    assert not any(info["success"] or info.get("trespassed", False) for info in infos)


@pytest.mark.parametrize("task", IDS)
def test_an_episode_ends_at_the_horizon_alone(task):
    with made(task) as env:
        env.reset(seed=0)
        ends = [env.step(np.zeros(env.contract.action_size))[2:4] for _ in range(env.contract.task.horizon)]
    assert ends == [(False, False)] * (env.contract.task.horizon - 1) + [(False, True)]


@pytest.mark.parametrize("task", IDS)
def test_the_demonstrator_succeeds(task):
    with made(task) as env:
        expert = make_expert(env.contract, Kinematics(env.contract.robot), np.random.default_rng(0))
        results = [play(env, expert, seed)[1]["success"] for seed in range(EXPERT_EPISODES)]
    assert np.mean(results) >= 0.95


@pytest.mark.parametrize("task", IDS)
def test_randomisation_changes_motion_and_sensing_by_the_seed(task):
    def rows(**options) -> np.ndarray:
        with made(task, **options) as env:
            rows = [env.reset(seed=3)[0], *(env.step(np.ones(env.contract.action_size))[0] for _ in range(5))]
            return env.contract.field(np.array(rows), "joint_position")

    plain, drawn, again = rows(), rows(randomise=True), rows(randomise=True)
    np.testing.assert_array_equal(drawn, again)
    assert 1e-5 < np.abs(drawn - plain).max() < 0.5


@pytest.mark.parametrize("task", IDS)
def test_pictures_show_the_scene(task):
    with made(task, render_mode="rgb_array") as env:
        env.reset(seed=0)
        first = env.render()
        for _ in range(10):
            env.step(np.full(env.contract.action_size, 0.8))
        assert first.shape == (360, 480, 3) and (env.render() != first).any()
        for colour in ("red", "green") if task != "planar_reach" else ("green",):
            red, green = first[..., 0].astype(int), first[..., 1].astype(int)
            assert ((red > 2 * green) if colour == "red" else (green > 2 * red)).any(), colour


# Robots of our own


def test_a_task_brings_its_own_robot():
    assert [Contract.load("", task).robot.name for task in IDS] == ["planar3", "point_mass", "panda"]


def test_the_planar_arms_links_are_as_long_as_its_file_says():
    kinematics = Kinematics(Contract.load("", "planar_reach").robot)
    q = np.array([0.3, -1.1, 0.7])
    angles = np.cumsum(q)
    lengths = np.array([0.3, 0.25, 0.15])
    expected = [(lengths * np.cos(angles)).sum(), (lengths * np.sin(angles)).sum(), 0.05]
    np.testing.assert_allclose(kinematics.position(q), expected, atol=1e-12)


def test_the_point_mass_is_where_its_sliders_are_and_gets_there():
    with made("navigate2d") as env:
        env.reset(seed=0)
        start = env.arm.state()[0]
        np.testing.assert_allclose(env.end_effector(), [*start, 0.05], atol=1e-12)
        for _ in range(10):
            env.step(np.array([0.4, -0.2]))
        for _ in range(5):
            env.step(np.zeros(2))
        step = env.contract.max_step[0]
        np.testing.assert_allclose(env.arm.state()[0] - start, [4 * step, -2 * step], atol=1e-3)


# Keeping out


def test_a_trespass_is_remembered_to_the_end_of_the_episode_and_no_longer():
    with made("navigate2d") as env:
        env.reset(seed=0)
        disc = NAVIGATION_OBSTACLES[1]
        env.arm.reset(disc.centre)
        assert env.judge()[1]["trespassed"]
        env.arm.reset(env.goal[:2])
        reward, info = env.judge()
        assert info == {"success": False, "distance": pytest.approx(0.0, abs=1e-9), "trespassed": True}
        assert reward == pytest.approx(0.0, abs=1e-9)
        env.reset(seed=0)
        env.arm.reset(env.goal[:2])
        assert env.is_success()


def test_crossing_between_two_control_periods_is_seen():
    with made("navigate2d") as env:
        env.reset(seed=0)
        disc = NAVIGATION_OBSTACLES[0]
        env.arm.reset(disc.centre - [disc.radius + 0.03, 0.0])
        env._target = env.arm.state()[0]
        assert not any(env.step(np.array([-0.2, 0.0]))[4]["trespassed"] for _ in range(3))
        seen = [env.step(np.array([1.0, 0.0]))[4]["trespassed"] for _ in range(6)]
        assert seen[-1] and not seen[0]


@pytest.mark.parametrize("task", ["navigate2d", "detour"])
def test_who_goes_straight_fails_more_often_than_not(task):
    with made(task) as env:
        assert np.mean(successes(env, ReachExpert, 10)) <= 0.4


def test_the_moved_obstacle_stands_elsewhere_and_the_demonstrator_finds_around_it():
    with made("detour") as env, made("detour", variant="obstacle_moved") as moved:
        for seed in range(20):
            (there, _), (here, _) = moved.reset(seed=seed), env.reset(seed=seed)
            field = env.contract.field
            np.testing.assert_array_equal(field(here, "goal_position"), field(there, "goal_position"))
            shift = field(there, "obstacle_position") - field(here, "obstacle_position")
            np.testing.assert_allclose(shift, [0.1, 0.0, 0.0], atol=1e-12)
        assert all(successes(moved, DetourExpert, 5))
        assert np.mean(successes(moved, ReachExpert, 5)) <= 0.4
    with pytest.raises(ContractError, match="unknown variant 'obstacle_move'. Did you mean 'obstacle_moved'"):
        gymnasium.make(IDS["detour"], variant="obstacle_move")


@pytest.mark.parametrize("task", ["navigate2d", "detour"])
def test_the_reward_is_not_told_how_wide_a_zone_is(task):
    """Its features of a place just inside the zone differ by as little as the place does."""
    with made(task) as env:
        env.reset(seed=1)
        contract, disc = env.contract, NAVIGATION_OBSTACLES[0]
        centre = disc.centre if task == "navigate2d" else env.obstacle[:2]
        radius = disc.radius if task == "navigate2d" else DETOUR_RADIUS
        features = Features(contract, contract.task.reward_features)
        rows = []
        for away in (-1e-4, 1e-4):
            measured = env.measured()
            hand = np.array([centre[0] - radius - away, centre[1], 0.3])
            row = contract.observe(measured, _Placed(hand))
            rows.append(features(row, np.zeros(contract.action_size), row))
        assert np.abs(rows[0] - rows[1]).max() < 0.01


class _Placed:
    """Kinematics whose end effector is at a given place."""

    def __init__(self, position: np.ndarray):
        self._position = position

    def position(self, _joint_position: np.ndarray) -> np.ndarray:
        return self._position


# Going around


def test_what_blocks_the_way_and_which_side_is_shorter():
    near, far = Disc(1.0, 0.2, 0.5), Disc(3.0, -0.1, 0.5)
    start, end = np.zeros(2), np.array([4.0, 0.0])
    assert blocking(start, end, (far, near)) == 1
    assert blocking(start, np.array([0.4, 0.0]), (far, near)) is None
    assert blocking(np.array([1.8, 0.0]), end, (far, near)) == 0
    assert blocking(end, np.array([5.0, 0.0]), (far, near)) is None
    assert blocking(start, start, (near,)) is None
    # the nearer disc's centre lies on the left of the way: pass it on its right, the other on its left
    assert shorter_side(start, end, near) == -1.0 and shorter_side(start, end, far) == 1.0


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_a_tangent_touches_the_disc_and_leads_out_of_it(side):
    disc = Disc(0.7, -0.4, 0.3)
    start = np.array([-0.2, 0.1])
    heading = tangent(start, disc, side)
    to_centre = disc.centre - start
    assert np.linalg.norm(heading) == pytest.approx(1.0)
    assert np.linalg.norm(to_centre - (to_centre @ heading) * heading) == pytest.approx(disc.radius)
    assert np.sign(to_centre[0] * heading[1] - to_centre[1] * heading[0]) == side
    inside = disc.centre + [0.1, 0.05]
    assert tangent(inside, disc, side) @ (disc.centre - inside) < 0
