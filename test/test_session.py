"""The conductor of scripted demonstrations, between real nodes."""

from __future__ import annotations

from pathlib import Path

import dds
import pytest
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory

from irl_ros.contract import Contract
from irl_ros.data.dataset import load_demonstrations

pytest.importorskip("pybullet")

COMMAND = Contract.load("panda", "reach").robot.command.name


def test_an_episode_whose_commands_were_not_heard_is_demonstrated_again(tmp_path: Path) -> None:
    """As where teleop has found the arm and not the recorder yet: the relay between is silent for an episode."""
    out, clock = tmp_path / "demonstrations", {"use_sim_time": True}
    with (
        dds.domain() as domain,
        dds.client(domain) as client,
        dds.process("irl_ros_sim.arm_node", domain, real_time_factor=4.0),
        dds.process("irl_ros.nodes.teleop", domain, noise=0.0, **clock),
        dds.process("irl_ros.nodes.recorder", domain, {COMMAND: "heard"}, out=out, **clock),
    ):
        heard = client.publisher(JointTrajectory, "heard")
        kept = client.collect(String, "demo_recorder/quality", dds.LATCHED)
        client.node.create_subscription(JointTrajectory, COMMAND, lambda msg: kept and heard.publish(msg), dds.COMMAND)
        with dds.process("irl_ros.nodes.session", domain, episodes=1, out=tmp_path, **clock) as session:
            client.wait(lambda: session.returncode is not None, "the end of the session", 60.0)
        assert session.returncode == 0
    demonstrations, rejected = load_demonstrations(out)
    assert [e.name for e in demonstrations] == ["episode_0001"]
    assert len(rejected) == 1 and "episode_0000" in rejected[0] and "no command was recorded" in rejected[0]
    assert "episode_0000: not used by training" in session.output and "episode_0001: success" in session.output
