"""One arm state through the simulated env, through a recorded bag and through the live policy runner: the same
observation, to the last bit."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dds
import handmade
import numpy as np
import pytest
from geometry_msgs.msg import PoseStamped
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from irl_ros import messages
from irl_ros.contract import Contract, share_directory
from irl_ros.data.dataset import load_demonstrations
from irl_ros.motion import target_trajectory
from irl_ros.models.features import Features
from irl_ros.models.inference import Policy
from irl_ros_sim.tasks.reach import ReachEnv


@pytest.fixture
def contract(tmp_path: Path) -> Contract:
    """The Panda with a max_age that this test's publisher keeps to however busy the machine is."""
    text = (share_directory() / "config" / "robots" / "panda.yaml").read_text()
    (tmp_path / "patient.yaml").write_text(text.replace("max_age: 0.1", "max_age: 20.0"))
    return Contract.load(str(tmp_path / "patient.yaml"), "reach")


@pytest.fixture
def env(contract: Contract) -> Iterator[ReachEnv]:
    """A moving arm, somewhere."""
    env = ReachEnv(contract=contract)
    env.reset(seed=3)
    rng = np.random.default_rng(3)
    for _ in range(7):
        env.step(rng.uniform(-1, 1, contract.action_size))
    yield env
    env.close()


class OneState:
    """Publishes the same measured state at 100 Hz, its joints in another order than the contract's, and the goal."""

    def __init__(self, client: dds.Client, contract: Contract, measured: dict[str, np.ndarray], commands: bool):
        self._contract, self._measured = contract, measured
        topics, node = contract.topics, client.node
        self._states = node.create_publisher(JointState, topics["joint_states"].name, dds.SENSOR)
        self._goal = node.create_publisher(PoseStamped, topics["goal_pose"].name, dds.LATCHED)
        frame = contract.robot.base_frame
        self._goal.publish(messages.fill_pose(PoseStamped(), measured["goal_position"], frame, 0.0))
        self._commands = node.create_publisher(JointTrajectory, topics["command"].name, dds.COMMAND) if commands else None
        self.commanding, self.commands = False, 0
        self._running = True
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> OneState:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._running = False
        self._thread.join()

    def _run(self) -> None:
        names = self._contract.robot.joint_names[::-1]
        position, velocity = (self._measured[k][::-1] for k in ("joint_position", "joint_velocity"))
        count = 0
        while self._running:
            self._states.publish(messages.fill_joint_state(JointState(), names, position, velocity, time.time()))
            count += 1
            if self.commanding and count % 5 == 0:
                target = self._measured["joint_position"]
                command = target_trajectory(self._contract, target, target)
                names_in_order = self._contract.robot.joint_names
                message = messages.fill_joint_trajectory(
                    JointTrajectory(), JointTrajectoryPoint, names_in_order, command
                )
                self._commands.publish(message)
                self.commands += 1
            time.sleep(0.01)


def test_a_recorded_bag_holds_the_observation_of_the_env(contract: Contract, env: ReachEnv, tmp_path: Path) -> None:
    robot, out = str(tmp_path / "patient.yaml"), tmp_path / "demonstrations"
    with dds.domain() as domain, dds.process("irl_ros.nodes.recorder", domain, robot=robot, out=str(out)):
        with dds.client(domain) as client, OneState(client, contract, env.measured(), commands=True) as publisher:
            client.wait(lambda: client.call(Trigger, "demo_recorder/start").success, "an episode to start")
            publisher.commanding = True
            client.wait(lambda: publisher.commands >= 30, "30 commands")
            assert client.call(Trigger, "demo_recorder/stop").success
    demonstrations, rejected = load_demonstrations(out, contract)
    assert not rejected
    (episode,) = demonstrations
    expected = contract.observe(env.measured(), env.kinematics)
    assert len(episode) >= 10
    assert np.array_equal(episode.observations, np.repeat(expected[None], len(episode) + 1, 0))


def test_the_policy_runner_acts_on_the_observation_of_the_env(
    contract: Contract, env: ReachEnv, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    inputs = Features(contract, contract.task.policy_inputs).size
    made = handmade.checkpoint(contract, np.zeros(contract.action_size))
    weight = 0.05 * rng.normal(size=(contract.action_size, inputs))  # small: no action is clipped
    made = replace(made, policy_arrays={**made.policy_arrays, "mean.0.weight": weight})
    made.save(tmp_path / "checkpoint")
    expected = Policy.from_arrays(made.policy_arrays, contract).mean(contract.observe(env.measured(), env.kinematics))
    assert 0.05 < np.abs(expected).max() < 1.0
    # A dry run: this arm is in motion, and one that moves is not enabled otherwise.
    parameters = {"robot": str(tmp_path / "patient.yaml"), "checkpoint": str(tmp_path / "checkpoint")}
    parameters["command_interface"] = "none"
    with dds.domain() as domain, dds.process("irl_ros.nodes.policy_runner", domain, **parameters):
        with dds.client(domain) as client, OneState(client, contract, env.measured(), commands=False):
            actions = client.collect(Float64MultiArray, "policy_runner/action")
            for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
                request = ChangeState.Request()
                request.transition.id = transition
                assert client.call(ChangeState, "policy_runner/change_state", request).success
            enable = SetBool.Request(data=True)
            client.wait(lambda: client.call(SetBool, "policy_runner/enable", enable).success, "to be enabled")
            client.wait(lambda: actions, "an action")
    assert np.array_equal(np.array(actions[0].data), expected)
