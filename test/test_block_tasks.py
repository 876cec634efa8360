"""The tasks with a block on a table, push and pick_place: contact, scenes, demonstrators, what counts as success."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import yaml
from gymnasium.utils.env_checker import check_env
from task_envs import made

import irl_ros_sim  # noqa: F401  registers the envs
from irl_ros.contract import Contract, share_directory
from irl_ros.kinematics import Kinematics
from irl_ros.models.features import Features
from irl_ros_sim.experts import make_expert
from irl_ros_sim.tasks.pick_place import LEDGE, PickPlaceEnv
from irl_ros_sim.tasks.push import PushEnv
from irl_ros_sim.tasks.tabletop import BLOCK, SUCCESS_DISTANCE, TABLE_TOP

TASKS = ("push", "pick_place")
LYING = TABLE_TOP + BLOCK / 2


def demonstrate(env: gymnasium.Env, seeds: range, **human: float) -> tuple[list[np.ndarray], list[dict]]:
    """The actions of each episode, and its last info."""
    expert = make_expert(env.contract, Kinematics(env.contract.robot), np.random.default_rng(0), **human)
    actions, infos = [], []
    for seed in seeds:
        observation, info = env.reset(seed=seed)
        expert.reset()
        episode = []
        for _ in range(env.contract.task.horizon):
            episode.append(expert.act(observation))
            observation, _, _, _, info = env.step(episode[-1])
        actions.append(np.array(episode))
        infos.append(info)
    return actions, infos


def block_path(env: gymnasium.Env, seed: int, actions: np.ndarray) -> np.ndarray:
    """Where the block was after each action [m], shape (T, 3)."""
    env.reset(seed=seed)
    return np.array([[env.step(a), env.measured()["object_position"]][1] for a in actions])


@pytest.mark.parametrize("task", TASKS)
def test_gymnasiums_checker_is_content(task: str):
    with made(task) as env:
        check_env(env, skip_render_check=True)


@pytest.mark.parametrize("task", TASKS)
def test_the_same_seed_gives_the_same_episode_and_other_episodes_leave_no_trace(task: str):
    with made(task) as env:
        actions = demonstrate(env, range(5, 6))[0][0][:35]  # long enough to touch the block
        paths = [block_path(env, seed, actions) for seed in (6, 5)]
    with made(task) as env:
        paths.append(block_path(env, 5, actions))
    assert np.isfinite(paths).all() and np.ptp(paths[1], axis=0).max() > 0.02
    np.testing.assert_array_equal(paths[1], paths[2])


@pytest.mark.parametrize("task", TASKS)
def test_no_scene_is_solved_already_and_the_block_lies_still(task: str):
    with made(task) as env:
        for seed in range(200):
            observation, info = env.reset(seed=seed)
            assert not info["success"] and info["distance"] > SUCCESS_DISTANCE and np.isfinite(observation).all()
        for seed in range(2):
            start = env.contract.field(env.reset(seed=seed)[0], "object_position")
            for _ in range(15):
                env.step(np.append(np.zeros(3), [1.0] * env.contract.task.gripper))
            np.testing.assert_allclose(env.measured()["object_position"], start, atol=1e-3)
            assert not env.is_success()


@pytest.mark.parametrize("task", TASKS)
def test_the_demonstrator_succeeds(task: str):
    """Of 150 episodes: docs/results.md."""
    with made(task) as env:
        infos = demonstrate(env, range(10))[1]
    assert sum(info["success"] for info in infos) >= 9


@pytest.mark.parametrize(("task", "iterations", "tolerance"), [("push", 100, 0.005), ("pick_place", 50, 0.002)])
def test_more_solver_iterations_move_the_block_alike(task: str, iterations: int, tolerance: float):
    """`tolerance` [m]. Pushing amplifies differences, so push takes 50; see docs/tasks.md."""
    with made(task) as env:
        episodes = demonstrate(env, range(3), noise=0.0, overshoot=0.0, pause_rate=0.0)[0]
        mine = [block_path(env, seed, actions) for seed, actions in enumerate(episodes)]
        assert iterations > env.solver_iterations
        env.arm.set_solver_iterations(iterations)
        other = [block_path(env, seed, actions) for seed, actions in enumerate(episodes)]
    apart = [np.linalg.norm(a - b, axis=1).max() for a, b in zip(mine, other)]
    assert max(apart) < tolerance, apart


@pytest.mark.parametrize("task", TASKS)
def test_randomisation_changes_the_block_the_arm_and_sensing_by_the_seed(task: str):
    def episode(**options) -> tuple[np.ndarray, np.ndarray]:
        with made(task, **options) as env:
            rows = [env.reset(seed=3)[0], *(env.step(np.ones(env.contract.action_size))[0] for _ in range(5))]
            return env.contract.field(np.array(rows), "joint_position"), env.arm.body_mass_friction(env.block)

    (plain, block), (drawn, other), (again, same) = episode(), episode(randomise=True), episode(randomise=True)
    np.testing.assert_array_equal(drawn, again)
    np.testing.assert_array_equal(other, same)
    assert 1e-5 < np.abs(drawn - plain).max() < 0.5
    np.testing.assert_allclose(block, [0.2, 0.5])
    ratio = other / block
    assert 0.5 <= ratio[0] <= 2.0 and 0.7 <= ratio[1] <= 1.3 and (np.abs(ratio - 1) > 1e-3).all()


def test_only_a_block_near_the_mark_counts_as_pushed():
    with made("push") as env:
        env.reset(seed=0)
        assert env.arm.finger_state()[0].sum() < 1e-3  # closed
        for offset, success in ((0.049, True), (0.051, False)):
            env.arm.place_body(env.block, env.goal + [offset, 0.0, 0.0])
            assert env.is_success() == success


def test_a_block_counts_as_placed_only_when_let_go():
    with made("pick_place") as env:
        env.reset(seed=0)
        assert env.goal[2] == pytest.approx(LYING + LEDGE) and env.start[2] == pytest.approx(LYING)
        env.arm.place_body(env.block, env.goal)
        env.arm.step(5)
        assert env.is_success()
        env.arm.command_gripper(0.0)
        env.arm.step(60)
        assert not env.is_success()  # a closed gripper
        env.arm.command_gripper(0.08)
        env.arm.step(60)
        env.arm.place_body(env.block, env.end_effector())
        env.arm.step(2)
        assert not env.is_success()  # falling, and far off


def test_a_held_block_is_not_a_success_though_it_is_at_the_goal():
    with made("pick_place") as env:
        expert = make_expert(env.contract, env.kinematics, np.random.default_rng(0), noise=0.0, pause_rate=0.0)
        observation, info = env.reset(seed=1)
        held = False
        while not info["success"]:
            near = info["distance"] < SUCCESS_DISTANCE
            held |= near and env.arm.touches(env.block)
            observation, _, _, truncated, info = env.step(expert.act(observation))
            assert not truncated
        assert held and not env.arm.touches(env.block)


@pytest.mark.parametrize("kind", [PushEnv, PickPlaceEnv])
def test_scenes_lie_on_the_table_within_reach(kind: type):
    with made(kind.task) as env:
        for seed in range(20):
            env.reset(seed=seed)
            for place in (env.start, env.goal):
                joints = env.kinematics.solve(env.arm.state()[0], place, (1, 0, 0, 0), iterations=100)
                robot = env.contract.robot
                np.testing.assert_allclose(env.kinematics.position(joints), place, atol=1e-3)
                assert (joints > robot.position_lower).all() and (joints < robot.position_upper).all()


@pytest.mark.parametrize("task", TASKS)
def test_joint_displacements_do_it_as_well(task: str, tmp_path):
    data = yaml.safe_load((share_directory() / f"config/tasks/{task}.yaml").read_text())
    gripper = data["action"].get("gripper", False)
    data["action"] = {"kind": "joint_displacement", "max_speed": 1.0, "max_lead": 0.2, "gripper": gripper}
    (tmp_path / "joints.yaml").write_text(yaml.safe_dump(data))
    with made(task, contract=Contract.load("", str(tmp_path / "joints.yaml"))) as env:
        assert env.contract.action_size == 7 + gripper
        infos = demonstrate(env, range(2), noise=0.0, overshoot=0.0)[1]
    assert all(info["success"] for info in infos)


def test_pushs_inputs_are_where_to_push_from_and_the_line():
    contract = Contract.load("", "push")
    o = np.zeros(contract.observation_size)
    o[contract.slices["object_to_goal"]] = [0.0, 0.2, 0.0]
    o[contract.slices["end_effector_to_object"]] = [-0.03, 0.06, 0.0]  # the hand is behind, 3 cm off the line
    see = lambda text: Features(contract, [text])(o)  # noqa: E731
    inputs = contract.task.policy_inputs
    behind = next(text for text in inputs if text.startswith("end_effector_to_object -"))
    np.testing.assert_allclose(see(behind), np.array([-0.03, 0.0, 0.0]) / 0.06, atol=1e-6)
    line = next(text for text in inputs if text.startswith("cross"))
    np.testing.assert_allclose(see(line), np.array([-0.03, 0.0, 0.0]) / 0.04, atol=1e-6)
