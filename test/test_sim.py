"""The simulated arm and the reach task: determinism, horizon, motion, picture, arms of one's own."""

from __future__ import annotations

import dataclasses
import hashlib
import subprocess
import sys
import warnings
from pathlib import Path

import expert_demonstrations
import gymnasium
import numpy as np
import pytest
import yaml
from gymnasium.utils.env_checker import check_env
from scipy.interpolate import CubicHermiteSpline

import irl_ros_sim  # noqa: F401  registers the env
from irl_ros.contract import Contract, ContractError, share_directory
from irl_ros.motion import JointTrajectory, joint_target, target_trajectory
from irl_ros_sim.arm import Arm
from irl_ros_sim.follower import TrajectoryFollower
from irl_ros_sim.tasks.reach import ReachEnv

CONTRACT = Contract.load("panda", "reach")


def episode(env: gymnasium.Env, seed: int, action_seed: int = 0) -> np.ndarray:
    """Observations (H+1, n) of an episode of random actions."""
    rng = np.random.default_rng(action_seed)
    rows, truncated = [env.reset(seed=seed)[0]], False
    while not truncated:
        observation, _, _, truncated, _ = env.step(rng.uniform(-1, 1, 7))
        rows.append(observation)
    return np.array(rows)


@pytest.fixture(scope="module", params=["panda", "iiwa"])
def env(request):
    env = gymnasium.make("irl_ros/Reach-v0", robot=request.param)
    yield env
    env.close()


def test_gymnasiums_checker_has_nothing_to_say(env):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # An unbounded observation space is what joints and poses have.
        warnings.filterwarnings("ignore", message=".*Box observation space (min|max)imum value is.*infinity")
        check_env(env.unwrapped, skip_render_check=True)


def test_equal_seeds_are_bit_identical_also_after_other_episodes_and_in_a_new_env(env):
    first = episode(env, seed=5)
    episode(env, seed=6, action_seed=1)
    env.reset(seed=7)
    env.step(np.ones(7))
    assert np.array_equal(first, episode(env, seed=5))
    assert not np.array_equal(first, episode(env, seed=6))
    other = gymnasium.make("irl_ros/Reach-v0", robot=env.unwrapped.contract.robot.name)
    try:
        episode(other, seed=8)
        assert np.array_equal(first, episode(other, seed=5))
    finally:
        other.close()


def test_equal_seeds_are_bit_identical_in_another_process(env):
    name = env.unwrapped.contract.robot.name
    script = (
        "import hashlib, gymnasium, irl_ros_sim, test_sim;"
        f"e = gymnasium.make('irl_ros/Reach-v0', robot={name!r});"
        "print(hashlib.sha256(test_sim.episode(e, 5).tobytes()).hexdigest())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.strip() == hashlib.sha256(episode(env, 5).tobytes()).hexdigest(), done.stderr


def test_an_episode_is_truncated_at_the_horizon_and_never_terminated(env):
    env.reset(seed=0)
    horizon = env.unwrapped.contract.task.horizon
    for t in range(horizon):
        _, reward, terminated, truncated, info = env.step(np.zeros(7))
        assert not terminated and truncated == (t == horizon - 1)
        assert reward == -info["distance"] and info["success"] == (info["distance"] < 0.05)


def test_success_does_not_end_an_episode(env):
    inner = env.unwrapped
    env.reset(seed=0)
    inner.goal = inner.kinematics.position(inner.arm.state()[0])
    _, _, terminated, truncated, info = env.step(np.zeros(7))
    assert info["success"] and inner.is_success() and not terminated and not truncated


def test_starts_and_goals_vary_within_bounds_and_no_goal_is_reached_at_the_start(env):
    robot, contract = env.unwrapped.contract.robot, env.unwrapped.contract
    starts = [env.reset(seed=k) for k in range(60)]
    q = np.array([contract.field(o, "joint_position") for o, _ in starts])
    goals = np.array([contract.field(o, "goal_position") for o, _ in starts])
    assert (q >= robot.position_lower).all() and (q <= robot.position_upper).all() and (q.std(0) > 0.03).all()
    assert (np.abs(q - robot.home) <= 0.1 + 1e-9).all()
    assert (goals >= robot.workspace_lower).all() and (goals <= robot.workspace_upper).all()
    size = np.array(robot.workspace_upper) - robot.workspace_lower
    assert (np.ptp(goals, axis=0) > 0.8 * size).all()
    assert min(info["distance"] for _, info in starts) > 0.1
    assert len(np.unique(goals, axis=0)) == 60


def test_the_observation_is_what_the_contract_says(env):
    contract = env.unwrapped.contract
    o, info = env.reset(seed=3)
    hand = env.unwrapped.kinematics.position(contract.field(o, "joint_position"))
    np.testing.assert_array_equal(contract.field(o, "end_effector_position"), hand)
    to_goal = contract.field(o, "end_effector_to_goal")
    np.testing.assert_array_equal(to_goal, contract.field(o, "goal_position") - hand)
    assert np.linalg.norm(to_goal) == pytest.approx(info["distance"], abs=1e-12)
    np.testing.assert_array_equal(contract.field(o, "joint_velocity"), np.zeros(7))


@pytest.mark.parametrize("robot", ["panda", "iiwa"])
def test_the_scripted_demonstrator_reaches(robot: str):
    demonstrations = expert_demonstrations.demonstrations(Contract.load(robot, "reach"), 40, seed=1)
    assert np.mean([e.success for e in demonstrations]) >= 0.95
    actions = np.concatenate([e.actions for e in demonstrations])
    assert np.abs(actions).max() <= 1.0
    still = [np.all(e.actions == 0, axis=1).mean() for e in demonstrations]
    assert 0.0 < np.mean(still) < 0.3  # it hesitates, as people do


def motion(contract: Contract, start: np.ndarray, actions: np.ndarray, **options) -> tuple[np.ndarray, np.ndarray]:
    """Joint paths, measured and commanded, (T, n) each, of a sequence of actions."""
    arm, rows = Arm(contract.robot, **options), []
    try:
        arm.reset(start)
        target = arm.state()[0]
        for action in actions:
            new = joint_target(contract, target, action, arm.state()[0])
            arm.command(target_trajectory(contract, target, new))
            target = new
            arm.step(12)
            rows.append((arm.state()[0], target))
    finally:
        arm.close()
    measured, commanded = np.array(rows).swapaxes(0, 1)
    return measured, commanded


@pytest.mark.parametrize("robot", ["panda", "iiwa"])
def test_the_arm_follows_closely(robot: str):
    """All joints at 0.4 rad/s, then still: 10 mrad behind the command on the way, 2 mrad at rest."""
    contract = Contract.load(robot, "reach")
    actions = np.repeat([0.0, 0.4, 0.0], 15)[:, None] * np.ones(7)
    measured, commanded = motion(contract, np.array(contract.robot.home), actions)
    lag = np.abs(measured - commanded).max(axis=1)
    assert lag.max() < 0.01 and lag[:15].max() < 0.002 and lag[-5:].max() < 0.002


@pytest.mark.parametrize("robot", ["panda", "iiwa"])
def test_five_solver_iterations_move_a_free_arm_like_fifty(robot: str):
    """Within 3 mrad as a person moves it, within 1 mrad on average."""
    contract = Contract.load(robot, "reach")
    for episode in expert_demonstrations.demonstrations(contract, 3):
        start = contract.field(episode.observations[0], "joint_position")
        five, fifty = (motion(contract, start, episode.actions, solver_iterations=n)[0] for n in (5, 50))
        difference = np.abs(five - fifty)
        assert difference.max() < 3e-3 and difference.mean() < 1e-3


def test_position_and_velocity_commands_and_hold():
    arm = Arm(CONTRACT.robot)
    try:
        start = arm.state()[0]
        arm.command_velocity(np.full(7, 0.2))
        arm.step(120)
        np.testing.assert_allclose(arm.state()[0], start + 0.1, atol=5e-3)
        arm.hold()
        arm.step(60)
        held = arm.state()[0]
        arm.step(60)
        np.testing.assert_allclose(arm.state()[0], held, atol=1e-4)
        arm.command_position(start)
        arm.step(240)
        np.testing.assert_allclose(arm.state()[0], start, atol=2e-3)
    finally:
        arm.close()


def test_velocity_commands_rest_at_the_joint_limits():
    arm = Arm(CONTRACT.robot)
    try:
        arm.command_velocity(np.ones(7))
        arm.step(240 * 6)
        position, velocity = arm.state()
        np.testing.assert_allclose(position, CONTRACT.robot.position_upper, atol=5e-3)
        np.testing.assert_allclose(velocity, 0.0, atol=1e-2)
    finally:
        arm.close()


def test_a_spline_passes_its_points_with_their_velocities_and_rests_after_the_last():
    follower = TrajectoryFollower(np.zeros(2))
    first = np.array([0.1, -0.2])
    command = target_trajectory(CONTRACT, np.zeros(7), np.full(7, -0.5))._replace(
        positions=np.array([first, 2 * first]), velocities=np.array([first, np.zeros(2)])
    )
    follower.follow(command)
    period, h = CONTRACT.task.period, 1e-6
    positions, velocities = follower.sample(np.array([0.0, period, 2 * period, 3 * period]))
    np.testing.assert_allclose(positions, [[0, 0], first, 2 * first, 2 * first], atol=1e-12)
    np.testing.assert_allclose(velocities, [[0, 0], first, [0, 0], [0, 0]], atol=1e-12)
    for t in (0.3 * period, 1.7 * period):
        (before, after), _ = follower.sample(np.array([t - h, t + h]))
        _, (velocity,) = follower.sample(np.array([t]))
        np.testing.assert_allclose((after - before) / (2 * h), velocity, atol=1e-6)


@pytest.mark.parametrize("n_points", [1, 2, 5])
def test_any_trajectory_is_followed_along_its_splines_in_steps_of_any_length(n_points: int):
    rng = np.random.default_rng(n_points)
    for _ in range(5):
        times, start = np.cumsum(rng.uniform(0.01, 0.2, n_points)), rng.normal(size=3)
        command = JointTrajectory(times, rng.normal(size=(n_points, 3)), rng.normal(size=(n_points, 3)))
        spline = CubicHermiteSpline(
            [0.0, *times], np.vstack([start, command.positions]), np.vstack([np.zeros(3), command.velocities])
        )
        follower = TrajectoryFollower(start)
        follower.follow(command)
        positions, velocities = np.concatenate(
            [follower.advance(1 / 240, n) for n in (1, 12, 2, 30, 7, 200)], axis=1
        )
        t = np.arange(1, 253) / 240
        wanted = np.where(t < times[-1], spline(np.minimum(t, times[-1])).T, command.positions[-1][:, None]).T
        np.testing.assert_allclose(positions, wanted, atol=1e-12)
        np.testing.assert_allclose(velocities, np.where(t < times[-1], spline(t, 1).T, 0.0).T, atol=1e-9)


def test_a_command_starts_where_the_reference_is_and_a_reference_at_rest_stays_to_the_last_bit():
    follower, rng = TrajectoryFollower(np.array([0.3, -0.7])), np.random.default_rng(0)
    for elapsed in (1, 12, 7):
        positions, velocities = follower.advance(1 / 240, elapsed)
        assert (positions == [0.3, -0.7]).all() and (velocities == 0.0).all()
    command = JointTrajectory(np.array([0.05, 0.1]), rng.normal(size=(2, 2)), np.array([[0.5, 0.5], [0.0, 0.0]]))
    for _ in range(3):
        follower.follow(command)
        (first, *_, last), (_, *_, velocity) = follower.advance(1 / 240, 7)
        follower.follow(command)
        (position,), (after,) = follower.sample(np.zeros(1))
        np.testing.assert_array_equal(position, last)
        np.testing.assert_array_equal(after, velocity)
    end, still = follower.advance(1 / 240, 100)
    assert (end[24:] == command.positions[-1]).all() and (still[24:] == 0.0).all()
    assert (follower.advance(1 / 240, 1)[0] == command.positions[-1]).all()


def test_a_picture_shows_the_arm_and_the_goal():
    env = gymnasium.make("irl_ros/Reach-v0", render_mode="rgb_array")
    try:
        env.reset(seed=0)
        first = env.render()
        assert first.dtype == np.uint8 and first.ndim == 3 and first.shape[2] == 3
        assert first.std() > 10 and len(np.unique(first.reshape(-1, 3), axis=0)) > 100
        green = (first[..., 1] > 1.4 * first[..., 0].astype(float)) & (first[..., 1] > 60)
        assert green.sum() > 20
        for _ in range(10):
            env.step(np.ones(7))
        assert np.abs(env.render().astype(int) - first).max() > 50
        env.reset(seed=1)
        assert not np.array_equal(env.render(), first)
        env.reset(seed=0)
        assert np.array_equal(env.render(), first)
    finally:
        env.close()


def test_rendering_changes_nothing():
    plain, drawn = ReachEnv(), ReachEnv(render_mode="rgb_array")
    try:
        plain.reset(seed=2), drawn.reset(seed=2)
        for _ in range(10):
            drawn.render()
            assert np.array_equal(plain.step(np.ones(7))[0], drawn.step(np.ones(7))[0])
    finally:
        plain.close(), drawn.close()


TWO_JOINTS = """<robot name="two">
  <link name="base"><inertial><mass value="1"/>
    <inertia ixx="1" iyy="1" izz="1" ixy="0" ixz="0" iyz="0"/></inertial></link>
  <link name="upper"><inertial><origin xyz="0.2 0 0"/><mass value="1"/>
    <inertia ixx=".01" iyy=".01" izz=".01" ixy="0" ixz="0" iyz="0"/></inertial></link>
  <link name="lower"><inertial><origin xyz="0.2 0 0"/><mass value="1"/>
    <inertia ixx=".01" iyy=".01" izz=".01" ixy="0" ixz="0" iyz="0"/></inertial></link>
  <link name="tip"><inertial><mass value="0.1"/>
    <inertia ixx=".01" iyy=".01" izz=".01" ixy="0" ixz="0" iyz="0"/></inertial></link>
  <joint name="shoulder" type="revolute"><parent link="base"/><child link="upper"/><axis xyz="0 0 1"/>
    <origin xyz="0 0 0.3"/><limit lower="-3" upper="3" effort="200" velocity="2"/></joint>
  <joint name="elbow" type="revolute"><parent link="upper"/><child link="lower"/><axis xyz="0 1 0"/>
    <origin xyz="0.4 0 0"/><limit lower="-3" upper="3" effort="200" velocity="2"/></joint>
  <joint name="flange" type="fixed"><parent link="lower"/><child link="tip"/><origin xyz="0.4 0 0"/></joint>
</robot>"""


def test_an_arm_of_ones_own_is_a_urdf_and_one_yaml(tmp_path):
    (tmp_path / "two.urdf").write_text(TWO_JOINTS)
    description = yaml.safe_load((share_directory() / "config/robots/panda.yaml").read_text())
    joint = {"position": [-2.5, 2.5], "velocity": 1.5, "home": 0.3}
    description.update(
        name="two",
        urdf="two.urdf",
        base_frame="base",
        end_effector_frame="tip",
        joints={"shoulder": joint, "elbow": joint},
        fixed_joints={},
        gripper=None,
        workspace={"lower": [0.3, -0.4, 0.1], "upper": [0.6, 0.4, 0.5]},
    )
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(description, sort_keys=False))
    contract = Contract.load(str(tmp_path / "two.yaml"), "reach")
    assert contract.observation_size == 2 + 2 + 9 and contract.action_size == 2
    demonstrations = expert_demonstrations.demonstrations(contract, 5)
    for e in demonstrations:
        to_goal = contract.field(e.observations, "end_effector_to_goal")
        assert np.linalg.norm(to_goal[-1]) < np.linalg.norm(to_goal[0])


def test_what_a_robot_lacks_is_named():
    missing = dataclasses.replace(CONTRACT.robot, joint_names=("nope", *CONTRACT.robot.joint_names[1:]))
    with pytest.raises(ContractError, match="its URDF has no joint nope"):
        Arm(missing)
    homeless = dataclasses.replace(CONTRACT.robot, workspace_lower=(), workspace_upper=())
    with pytest.raises(ContractError, match="robot panda: .*workspace"):
        ReachEnv(contract=Contract(homeless, CONTRACT.task))
    with pytest.raises(ContractError, match="unknown robot 'pand'"):
        ReachEnv(robot="pand")
