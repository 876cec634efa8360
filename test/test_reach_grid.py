"""The task reach_grid: its contract, end effector actions, its env and expert, and the table policy over topics."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import dds
import numpy as np
import pytest
import yaml
from gymnasium.utils.env_checker import check_env
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from nav_msgs.msg import OccupancyGrid
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool
from std_srvs.srv import SetBool

from irl_ros import messages
from irl_ros.checkpoint import Checkpoint
from irl_ros.contract import Contract, ContractError, share_directory
from irl_ros.motion import asked_action, joint_target, wanted_target
from irl_ros.control.gate import Command, Gate
from irl_ros.data.episode import Episode
from irl_ros.kinematics import Kinematics
from irl_ros.models.likeness import calibrate
from irl_ros.models.tables import LOG_POLICY, REWARD, TablePolicy, towards
from irl_ros.nodes.demonstrators import displacement_action
from irl_ros_sim.experts import make_expert
from irl_ros_sim.experts.grid import GridExpert, way_to_goal
from irl_ros_sim.experts.reach import ReachExpert
from irl_ros_sim.tasks.reach_grid import ReachGridEnv

CONTRACT = Contract.load("panda", "reach_grid")
GRID, STEP, HORIZON = CONTRACT.task.grid, CONTRACT.task.max_step, CONTRACT.task.horizon
ROBOTS = ("panda", "iiwa")


@cache
def arm(robot: str) -> tuple[Contract, Kinematics]:
    contract = Contract.load(robot, "reach_grid")
    return contract, Kinematics(contract.robot)


@contextlib.contextmanager
def made(robot: str = "panda") -> Iterator[ReachGridEnv]:
    env = ReachGridEnv(robot=robot)
    yield env
    env.close()


def pose(robot: str, state: int) -> np.ndarray:
    """Joint positions with the end effector in the middle of a cell."""
    contract, kinematics = arm(robot)
    return kinematics.solve(np.array(contract.robot.home), contract.task.grid.centres[state], iterations=200)


# The contract


def changed(tmp_path: Path, *keys_and_value) -> str:
    data = yaml.safe_load((share_directory() / "config/tasks/reach_grid.yaml").read_text())
    *keys, last, value = keys_and_value
    place = data
    for key in keys:
        place = place[key]
    place[last] = value
    path = tmp_path / "task.yaml"
    path.write_text(yaml.safe_dump(data))
    return str(path)


@pytest.mark.parametrize("robot", ROBOTS)
def test_the_grid_lies_in_both_robots_workspaces_and_survives_json(robot: str):
    contract = Contract.load(robot, "reach_grid")
    centres, lower, upper = contract.task.grid.centres, contract.robot.workspace_lower, contract.robot.workspace_upper
    assert (centres > lower).all() and (centres < upper).all()
    assert contract.action_size == 3 and Contract.from_dict(contract.to_dict()) == contract


@pytest.mark.parametrize(
    "change, message",
    [
        (("grid", "goal", [3, 7]), "goal .* inside keep_out"),
        (("grid", "goal", [9, 7]), "goal .* is no cell"),
        (("grid", "keep_out", [[4, 6], [2, 8]]), "keep_out .* is no cell or box"),
        (("grid", "start", [[2, 6], [3, 7]]), "start .* has no cell outside"),
        (("grid", "shape", [70, 15]), "leaves panda's workspace"),
        (("grid", "height", 0.9), "leaves panda's workspace"),
        (("grid", "cell", 0.0), "cell must be a number above 0"),
        (("grid", "features", "cell"), "unknown features 'cell'. Did you mean 'cells'"),
        (("grid", "gaol", [1, 1]), "unknown key 'gaol'. Did you mean 'goal'"),
        (("grid", "shape", 3), "wrong form"),
        (("action", "max_step", 0.03), "max_step spans a cell"),
        (("action", "max_step", 0), "max_step must be a number above 0"),
        (("action", {"kind": "joint_displacement", "max_speed": 1.0, "max_lead": 0.3}), "needs actions of kind"),
    ],
)
def test_a_grid_that_cannot_be_used_is_refused_with_the_reason(tmp_path: Path, change: tuple, message: str):
    with pytest.raises(ContractError, match=message):
        Contract.load("panda", changed(tmp_path, *change))


def test_features_are_the_learners_choice_and_bags_do_not_depend_on_them(tmp_path: Path):
    other = Contract.load("panda", changed(tmp_path, "grid", "features", "cells"))
    assert CONTRACT.differences(other) == ["task.grid.features: goal_and_zone here, cells there"]
    assert CONTRACT.differences(other, recorded=True) == []


# Actions that displace the end effector


@pytest.mark.parametrize("robot", ROBOTS)
def test_the_end_effector_moves_by_the_asked_displacement(robot: str):
    contract, kinematics = arm(robot)
    rng = np.random.default_rng(0)
    for state in rng.choice(contract.task.grid.n_states, 12, replace=False):
        q = pose(robot, state)
        action = rng.uniform(-1, 1, 3)
        target = joint_target(contract, q, action, q, kinematics)
        moved = kinematics.position(target) - kinematics.position(q)
        np.testing.assert_allclose(moved, action * contract.task.max_step, atol=1e-4)


@pytest.mark.parametrize("robot", ROBOTS)
def test_the_simulated_arm_is_where_it_was_sent_within_a_millimetre(robot: str):
    with made(robot) as env:
        rng = np.random.default_rng(1)
        observation, _ = env.reset(seed=1)
        for _ in range(6):
            env.step(np.zeros(3))  # at rest
            start = env.end_effector()
            action = rng.uniform(-1, 1, 3)
            env.step(action)
            env.step(np.zeros(3))
            np.testing.assert_allclose(env.end_effector() - start, action * env.contract.task.max_step, atol=1e-3)


@pytest.mark.parametrize("robot", ROBOTS)
def test_recorded_commands_give_the_actions_back(robot: str):
    contract, kinematics = arm(robot)
    rng = np.random.default_rng(2)
    targets, actions = [pose(robot, 40)], rng.uniform(-0.8, 0.8, (8, 3))
    for action in actions:
        targets.append(wanted_target(contract, targets[-1], action, kinematics))
    np.testing.assert_allclose(asked_action(contract, np.array(targets), kinematics), actions, atol=1e-3)


def test_joint_actions_are_as_they_were():
    contract = Contract.load("panda", "reach")
    rng, home = np.random.default_rng(3), np.array(contract.robot.home)
    actions = rng.uniform(-1, 1, (5, 7))
    targets = np.vstack([home, home + np.cumsum(actions * contract.max_step, axis=0)])
    np.testing.assert_allclose(asked_action(contract, targets), actions, atol=1e-12)
    np.testing.assert_array_equal(wanted_target(contract, home, actions[0]), home + actions[0] * contract.max_step)


def test_a_step_beyond_what_the_joints_may_do_is_shortened_in_its_direction():
    contract, kinematics = arm("panda")
    slow = dataclasses.replace(contract, task=dataclasses.replace(contract.task, max_speed=0.1))
    q = pose("panda", 20)
    move = wanted_target(slow, q, np.array([1.0, 0.5, 0.0]), kinematics) - q
    whole = wanted_target(contract, q, np.array([1.0, 0.5, 0.0]), kinematics) - q
    assert np.abs(move).max() == pytest.approx(0.1 * contract.task.period)
    np.testing.assert_allclose(move / np.linalg.norm(move), whole / np.linalg.norm(whole), atol=1e-9)


def test_without_kinematics_the_error_says_what_is_missing():
    q = pose("panda", 0)
    for use in (
        lambda: joint_target(CONTRACT, q, np.zeros(3), q),
        lambda: asked_action(CONTRACT, np.stack([q, q])),
        lambda: Gate(CONTRACT),
    ):
        with pytest.raises(ContractError, match="task reach_grid: its actions move the end effector"):
            use()


def test_the_gate_commands_the_contracts_target_and_says_what_it_cut():
    contract, kinematics = arm("panda")
    gate, q, fresh = Gate(contract, kinematics), pose("panda", 30), {"joint_states": 0.0}
    gate.enable(q, fresh)
    command = gate.command(np.array([0.0, 2.0, 0.0]), q, fresh)
    assert isinstance(command, Command) and command.limited == ("action",)
    np.testing.assert_array_equal(command.action, [0, 1, 0])
    np.testing.assert_array_equal(command.target, joint_target(contract, q, np.array([0.0, 1, 0]), q, kinematics))


def test_a_hands_wish_is_the_action_itself():
    contract, kinematics = arm("panda")
    action = displacement_action(contract, kinematics, pose("panda", 0), np.array([0.02, -0.1, 0.0]))
    np.testing.assert_allclose(action, [0.2, -1.0, 0.0])


# The env and its expert


def test_gymnasiums_checker_is_content():
    with made() as env:
        check_env(env, skip_render_check=True)


def test_the_same_seed_gives_the_same_episode():
    actions = np.random.default_rng(4).uniform(-1, 1, (10, 3))
    runs = []
    with made() as env:
        for seed in (5, 6, 5):
            runs.append([env.reset(seed=seed)[0], *(env.step(a)[0] for a in actions)])
    np.testing.assert_array_equal(runs[0], runs[2])
    assert not np.array_equal(runs[0], runs[1])


def test_it_starts_in_a_start_cell_and_knows_goal_and_trespass():
    with made() as env:
        for seed in range(5):
            env.reset(seed=seed)
            assert env.grid.state(env.end_effector()) in env.grid.start_states
        env.arm.reset(pose("panda", GRID.goal_state))
        assert env.is_success() and env.judge()[0] == 1.0
        env.arm.reset(pose("panda", int(np.flatnonzero(GRID.keep_out_cells)[0])))
        assert not env.is_success() and env.judge()[0] == -1.0
        env.arm.reset(pose("panda", GRID.goal_state))
        assert not env.is_success(), "it has been inside"
        env.reset(seed=0)
        env.arm.reset(pose("panda", GRID.goal_state))
        assert env.is_success()


def test_a_way_through_the_region_is_no_success():
    """Straight from one side to the goal: the trespass is remembered when it is over."""
    with made() as env:
        env.reset(seed=0)
        through = GRID.goal[0] * GRID.shape[1]
        hand = lambda o: CONTRACT.field(o, "end_effector_position")  # noqa: E731
        act = lambda o: towards(CONTRACT, hand(o), min(int(GRID.state(hand(o))) + 1, GRID.goal_state))  # noqa: E731
        env.arm.reset(pose("panda", through))
        env._target = pose("panda", through)
        observation = CONTRACT.observe(env.measured(), env.kinematics)
        for _ in range(HORIZON):
            observation, _, _, _, info = env.step(act(observation))
        assert GRID.state(env.end_effector()) == GRID.goal_state
        assert info["trespassed"] and not info["success"] and not env.is_success()


def test_shortest_ways_lead_around_the_region():
    way = way_to_goal(GRID)
    assert way[GRID.goal_state] == 1.0
    for state in np.flatnonzero(~GRID.keep_out_cells):
        path = [int(state)]
        while path[-1] != GRID.goal_state and len(path) < GRID.n_states:
            following = GRID.next_state[path[-1]]
            path.append(int(following[way[following].argmin()]))
        assert path[-1] == GRID.goal_state and not GRID.keep_out_cells[path].any() and len(path) == way[state]
    (i, j), (k, m) = GRID.keep_out
    middle = (i + k) // 2 * GRID.shape[1]
    straight = np.abs(GRID.cells[middle] - GRID.goal).sum()
    assert way[middle] - 1 == straight + 2 * min((i + k) // 2 - i + 1, k - (i + k) // 2 + 1)


def played(env: ReachGridEnv, act, seed: int) -> Episode:
    observation, info = env.reset(seed=seed)
    observations, actions = [observation], []
    for _ in range(env.contract.task.horizon):
        actions.append(act(observation))
        observation, _, _, _, info = env.step(actions[-1])
        observations.append(observation)
    return Episode(f"episode_{seed}", np.array(observations), np.array(actions), success=info["success"])


def test_the_tasks_have_their_experts(tmp_path: Path):
    contract, kinematics = arm("panda")
    rng = np.random.default_rng(0)
    assert isinstance(make_expert(contract, kinematics, rng), GridExpert)
    assert isinstance(make_expert(Contract.load("panda", "reach"), kinematics, rng), ReachExpert)
    blind = Contract.load("panda", changed(tmp_path, "observation", ["joint_position"]))
    without = Contract(blind.robot, dataclasses.replace(blind.task, grid=None))
    with pytest.raises(ContractError, match="no script demonstrates task reach_grid"):
        make_expert(without, kinematics, rng)


# On the arm


def shortest_paths() -> Checkpoint:
    """A table that walks a shortest path; its reward is the task's own."""
    way = way_to_goal(GRID)[GRID.next_state]
    way[GRID.goal_state, 0] = 0.0
    log_policy = np.log(np.where(np.arange(GRID.n_actions) == way.argmin(axis=1)[:, None], 0.96, 0.01))
    reward = GRID.task_reward[GRID.next_state]
    urdf = CONTRACT.robot.urdf_path().read_text()
    near = calibrate([GRID.centres[:50], GRID.centres[50:]])
    return Checkpoint(CONTRACT, {LOG_POLICY: log_policy}, {REWARD: reward}, near, urdf, {"method": "handmade"})


def test_the_table_drives_the_env_to_the_goal_without_drifting_from_the_cells():
    """Every move of the arm ends in the cell that the known dynamics say."""
    policy = TablePolicy.from_arrays(shortest_paths().policy_arrays, CONTRACT)
    with made() as env:
        for seed in range(3):
            episode = played(env, policy.mean, seed)
            positions = CONTRACT.field(episode.observations, "end_effector_position")
            cells = GRID.state(positions)
            np.testing.assert_array_equal(cells[1:], GRID.next_state[cells[:-1], policy.greedy[cells[:-1]]])
            off = np.abs(positions - GRID.centres[GRID.state(positions)]).max(axis=1)
            assert episode.success and off[1:].max() < 0.003
            centre = towards(CONTRACT, positions[-1], GRID.goal_state)
            assert np.abs(centre).max() * STEP < 0.001


def test_the_deployed_table_brings_the_arm_to_the_goal_over_topics(tmp_path: Path):
    """arm_sim and policy_runner as processes: the map is published, the goal reached, the region kept out of."""
    shortest_paths().save(tmp_path)
    task = {"robot": "panda", "task": "reach_grid"}
    with dds.domain() as domain, dds.process("irl_ros_sim.arm_node", domain, **task, seed=3, real_time_factor=2.0):
        runner = dds.process("irl_ros.nodes.policy_runner", domain, **task, checkpoint=tmp_path, use_sim_time=True)
        with runner, dds.client(domain) as client:
            states = client.collect(JointState, "joint_states", dds.SENSOR)
            success = client.collect(Bool, "arm_sim/success", dds.LATCHED)
            maps = client.collect(OccupancyGrid, "policy_runner/reward_map", dds.LATCHED)
            for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
                request = ChangeState.Request()
                request.transition.id = transition
                assert client.call(ChangeState, "policy_runner/change_state", request).success
            client.wait(lambda: maps and states and success, "the reward map and the arm")
            assert not success[-1].data
            enable = SetBool.Request(data=True)
            # Enabled again and again: on a busy machine a late joint state halts the runner, as it must.
            drive = lambda: client.call(SetBool, "policy_runner/enable", enable).success  # noqa: E731
            client.wait(lambda: drive() and success[-1].data, "the goal")
    data = np.array(maps[-1].data).reshape(GRID.shape[::-1]).T.ravel()
    assert data[GRID.goal_state] == 100 and set(data[GRID.keep_out_cells]) == {0} and set(data) == {0, 50, 100}
    kinematics = arm("panda")[1]
    hands = [kinematics.position(messages.joint_state(s, CONTRACT.robot.joint_names)[0]) for s in states]
    assert not GRID.keep_out_cells[GRID.state(np.array(hands))].any()
    assert np.abs(np.array(hands)[:, 2] - GRID.height).max() < 0.02
