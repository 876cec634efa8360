"""A topic that nobody publishes is told with the one that was probably meant."""

from __future__ import annotations

from pathlib import Path

import dds
import handmade
import numpy as np
from geometry_msgs.msg import PoseStamped
from runners import activate, enable, runner
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger

from irl_ros.contract import Contract


def test_recorder_and_runner_propose_a_near_topic_of_the_same_type(tmp_path: Path):
    handmade.checkpoint(Contract.load("panda", "reach"), np.zeros(7)).save(tmp_path / "checkpoint")
    with dds.domain() as domain, dds.client(domain) as client, runner(domain, tmp_path / "checkpoint"):
        with dds.process("irl_ros.nodes.recorder", domain, out=tmp_path):
            client.publisher(JointState, "joint_state", dds.SENSOR, subscribers=0)
            client.publisher(PoseStamped, "left/goal_pose", dds.LATCHED, subscribers=0)
            client.publisher(PoseStamped, "joint_statez", dds.LATCHED, subscribers=0)  # near, and of another type
            activate(client)
            client.wait(lambda: "/joint_state has one" in enable(client).message, "the runner's proposal")
            answer = client.wait(lambda: said(client), "the recorder's proposals")
            for proposal in ("/joint_states: it has no publisher; /joint_state has one", "/left/goal_pose has one"):
                assert proposal in answer
            assert "joint_statez" not in answer


def said(client: dds.Client) -> str:
    """The recorder's refusal, once it has heard of both publishers."""
    answer = client.call(Trigger, "demo_recorder/start").message
    return answer if "/joint_state has" in answer and "/left/goal_pose has" in answer else ""


def test_nothing_near_is_no_proposal(tmp_path: Path):
    with dds.domain() as domain, dds.client(domain) as client:
        with dds.process("irl_ros.nodes.recorder", domain, out=tmp_path):
            answer = client.call(Trigger, "demo_recorder/start").message
            assert "/joint_states: it has no publisher" in answer and "has one" not in answer
