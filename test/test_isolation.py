"""Simulations and tests meet no robot: domains of their own, and a guard where the user names the domain."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dds
import pytest
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from irl_ros import ros_domain
from irl_ros.bringup import GRAPHS
from irl_ros.contract import Contract

ROBOT = Contract.load("panda", "reach").robot
COMMANDS = {
    "joint_trajectory_controller/joint_trajectory": JointTrajectory,
    "forward_position_controller/commands": Float64MultiArray,
    "forward_velocity_controller/commands": Float64MultiArray,
    "gripper_controller/commands": Float64MultiArray,
}


class RealArm:
    """Stands for a robot: listens to every command topic of a domain, and may publish joint states there."""

    def __init__(self, client: dds.Client, publishes: bool = True):
        self.client = client
        self.received = [client.collect(kind, topic) for topic, kind in COMMANDS.items()]
        self._states = client.node.create_publisher(JointState, ROBOT.joint_states.name, 10) if publishes else None
        self._timer = client.node.create_timer(0.02, self._publish)

    def _publish(self) -> None:
        if self._states is not None:
            stamp = self.client.node.get_clock().now().to_msg()
            state = JointState(name=ROBOT.joint_names, position=ROBOT.home, velocity=[0.0] * 7)
            state.header.stamp = stamp
            self._states.publish(state)

    @property
    def commands(self) -> int:
        return sum(map(len, self.received))


@contextlib.contextmanager
def graph(domain: int, *words: object) -> Iterator[dds.Process]:
    """`irl_ros` with these words, called in a robot's domain."""
    child = dds.Process([sys.executable, "-m", "irl_ros.cli", *words], domain)
    try:
        yield child
    finally:
        child.stop()


def test_a_domain_is_nobody_elses_and_not_the_callers(monkeypatch: pytest.MonkeyPatch):
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(ros_domain.free_domain()) for _ in range(20)]
        assert len(set(held)) == 20 and all(102 <= domain <= 232 for domain in held)
    monkeypatch.setattr(ros_domain, "FIRST", 150)
    monkeypatch.setattr(ros_domain, "LAST", 151)
    monkeypatch.setenv("ROS_DOMAIN_ID", "150")
    with ros_domain.free_domain() as domain:
        assert domain == 151
        with pytest.raises(ros_domain.DomainError, match="all ROS domains from 150 to 151 are in use"):
            ros_domain.free_domain().__enter__()


def test_a_participant_of_another_program_takes_its_domain(monkeypatch: pytest.MonkeyPatch):
    with ros_domain.free_domain() as domain, dds.client(domain):
        assert ros_domain.used_ports(domain)
    with ros_domain.free_domain() as domain, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        assert not ros_domain.used_ports(domain)
        other.bind(("127.0.0.1", 7400 + 250 * domain + 10))
        assert ros_domain.used_ports(domain) == [7400 + 250 * domain + 10]
        monkeypatch.setattr(ros_domain, "FIRST", domain)
        monkeypatch.setattr(ros_domain, "LAST", domain)
        monkeypatch.setattr(socket.socket, "bind", lambda *_: None)  # the lock alone would hold it, too
        with pytest.raises(ros_domain.DomainError, match="in use"):
            ros_domain.free_domain().__enter__()


def test_the_domain_is_free_again_when_its_program_was_killed():
    code = "import irl_ros.ros_domain as r, time; d = r.free_domain(); print(d.__enter__(), flush=True); time.sleep(60)"
    program = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    domain = int(program.stdout.readline())
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as lock, pytest.raises(OSError):
        lock.bind(f"\0irl_ros_domain_{domain}")
    program.kill()
    program.wait()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as lock:
        lock.bind(f"\0irl_ros_domain_{domain}")


@pytest.mark.parametrize(
    "name, value, said",
    [
        ("ROS_DISCOVERY_SERVER", "127.0.0.1:11811", "unset ROS_DISCOVERY_SERVER"),
        ("ROS2_EASY_MODE", "127.0.0.1", "unset ROS2_EASY_MODE"),
        ("RMW_IMPLEMENTATION", "rmw_none", "RMW_IMPLEMENTATION=rmw_none is not installed; valid here: rmw_"),
    ],
)
def test_an_environment_that_leads_out_of_the_domain_is_refused_before_a_node_starts(name: str, value: str, said: str):
    command = [sys.executable, "-m", "irl_ros.cli", "sim"]
    ended = subprocess.run(command, env={**os.environ, name: value}, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2 and said in ended.stderr and ended.stderr.count("\n") == 1, ended


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make a network namespace")
def test_a_loopback_that_is_down_is_told():
    command = ["unshare", "-n", sys.executable, "-m", "irl_ros.cli", "sim"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2 and "the loopback interface is down" in ended.stderr and "Traceback" not in ended.stderr


def test_every_graph_with_a_simulated_arm_is_apart_and_no_other():
    assert {name for name, recipe in GRAPHS.items() if recipe.graph().simulated} == {*GRAPHS}
    for name, options in {"record": {"simulate": False, "teleop": "joy"}, "deploy": {"simulate": False}}.items():
        assert not GRAPHS[name].graph(**options).simulated
    assert not GRAPHS["train"].graph(dataset="d").simulated


def test_a_real_arm_in_the_callers_domain_gets_no_command(tmp_path: Path):
    """Before, `irl_ros demo` sent it 134."""
    words = ("record", "--demonstrations", 1, "--real-time-factor", 4.0, "--out", tmp_path)
    with dds.domain() as callers, dds.client(callers) as client:
        arm = RealArm(client)
        with graph(callers, *words) as record:
            client.wait(lambda: record.returncode is not None, "the end of the recording", timeout=60.0)
            assert record.returncode == 0, record.output
        assert "apart from every robot; to look on in another terminal: export ROS_DOMAIN_ID=" in record.output
        assert f"ROS_DOMAIN_ID={callers} " not in record.output
        assert arm.commands == 0 and client.node.count_publishers("joint_trajectory_controller/joint_trajectory") == 0
    assert len(list((tmp_path / "demonstrations").glob("episode_*"))) == 1


@pytest.mark.parametrize("publishes", [True, False], ids=["an arm", "a listener"])
def test_a_simulation_in_a_named_domain_does_not_start_beside_a_robot(publishes: bool):
    with dds.domain() as domain, dds.client(domain, "real_arm") as client:
        arm = RealArm(client, publishes)
        with graph(domain, "record", "--domain", domain) as record:
            client.wait(lambda: record.returncode is not None, "the refusal")
        assert record.returncode == 1 and "not simulated in this domain: /real_arm listens to commands" in record.output
        assert "leave --domain out" in record.output and "arm_sim" not in record.output
        assert arm.commands == 0


def test_a_simulation_in_a_named_domain_ends_when_a_robot_comes():
    with dds.domain() as domain, graph(domain, "sim", "--domain", domain) as sim:
        sim.wait_output("panda is up")
        with dds.client(domain, "arm_sim") as client:  # a name that the graph has, too
            publisher = client.node.create_publisher(JointState, ROBOT.joint_states.name, 10)
            client.wait(lambda: sim.returncode is not None, "the end")
            assert publisher is not None
        assert sim.returncode == 1 and "the simulation ends: /arm_sim publishes /joint_states" in sim.output


@pytest.mark.full
def test_no_robot_in_any_domain_that_robots_use_gets_a_command(tmp_path: Path):
    """Listeners in domains 0 to 20 and in the caller's, while a demo runs."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(dds.client(domain)) for domain in range(21)]
        arms = [RealArm(client) for client in clients]
        demo = stack.enter_context(graph(7, "demo", "--out", tmp_path / "run", "--steps", 2000, "--episodes", 2))
        while demo.returncode is None:
            for client in clients:
                client.spin_once(0.005)
        assert demo.returncode == 0, demo.output
        assert [arm.commands for arm in arms] == [0] * 21
