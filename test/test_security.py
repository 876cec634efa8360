"""The SROS2 policy that is shipped, held against the running graph: nothing that a node needs is missing, no right is
given that it never uses."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import dds
import handmade
import numpy as np
import pytest
from runners import activate

from irl_ros.contract import Contract, share_directory

NODES = ("policy_runner", "demo_recorder", "teleop")
ON_DEMAND = {
    "publish": {
        "/demo_recorder/request",
        "/forward_position_controller/commands",
        "/forward_velocity_controller/commands",
        "/gripper_controller/commands",
        "/policy_runner/proposal",
        "/policy_runner/reward_map",
        "/joint_trajectory_controller/joint_trajectory",
        "/teleop/command",
        "/teleop/gripper_command",
    },
    "subscribe": {
        "/clock",
        "/gripper_controller/commands",
        "/joint_trajectory_controller/joint_trajectory",
        "/joy",
        "/leader/joint_states",
        "/goal_pose",
        "/object_pose",
        "/obstacle_pose",
        "/parameter_events",
        "/teleop/gripper_command",
    },
    "reply": set(),
}
"""What other tasks, command interfaces, simulated time or a dry run use."""
Rights = dict[str, set[str]]


def allowed(node: str) -> Rights:
    """Full names by right, as the policy gives them."""
    policy = ElementTree.parse(share_directory() / "config" / "security" / "policy.xml").getroot()
    assert policy.tag == "policy" and policy.attrib == {"version": "0.2.0"}
    found: Rights = {"publish": set(), "subscribe": set(), "reply": set()}
    for rules in policy.find(f"enclaves/enclave[@path='/irl_ros/{node}']/profiles/profile[@node='{node}']"):
        for right, qualifier in rules.attrib.items():
            assert qualifier == "ALLOW" and rules.tag in ("topics", "services")
            found[right] |= {full(expression.text, node) for expression in rules}
    return found


def full(name: str, node: str) -> str:
    if name.startswith("~/"):
        return f"/{node}/{name[2:]}"
    return name if name.startswith("/") else f"/{name}"


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Rights]]:
    """What each node of a deployment with a human beside it uses."""
    directory, contract = tmp_path_factory.mktemp("graph"), Contract.load("panda", "reach")
    handmade.checkpoint(contract, np.zeros(7)).save(directory / "checkpoint")
    recorder = {"robot": "panda", "out": directory / "takeovers", "takeover": "policy_runner/takeover"}
    with (
        dds.domain() as domain,
        dds.process("irl_ros.nodes.policy_runner", domain, robot="panda", checkpoint=directory / "checkpoint"),
        dds.process("irl_ros.nodes.recorder", domain, **recorder),
        dds.process("irl_ros.nodes.teleop", domain, robot="panda", mode="joy"),
        dds.client(domain) as client,
    ):
        activate(client)
        expected = {node: set().union(*allowed(node).values()) - set().union(*ON_DEMAND.values()) for node in NODES}
        client.wait(lambda: all(expected[n] <= set().union(*used(client, n).values()) for n in NODES), "the graph")
        yield {node: used(client, node) for node in NODES}


def used(client: dds.Client, node: str) -> Rights:
    asked = {"publish": "publisher", "subscribe": "subscriber", "reply": "service"}
    if node not in client.node.get_node_names():
        return {right: set() for right in asked}
    ask = {right: getattr(client.node, f"get_{kind}_names_and_types_by_node") for right, kind in asked.items()}
    return {right: {name for name, _ in names(node, "/")} for right, names in ask.items()}


@pytest.mark.parametrize("node", NODES)
def test_the_policy_allows_what_the_node_uses_and_no_more(graph: dict[str, Rights], node: str):
    for right, names in allowed(node).items():
        assert graph[node][right] - names == set(), f"{node} cannot {right}"
        assert names - graph[node][right] - ON_DEMAND[right] == set(), f"{node} may {right} what it never does"


def test_nothing_read_from_files_can_run_code():
    """No pickle, no eval, no unsafe YAML anywhere in what is installed."""
    root = Path(__file__).parents[1]
    forbidden = ("import pickle", "pickle.load", "eval(", "exec(", "yaml.load(", "torch.load(", "allow_pickle=True")
    for path in (*root.glob("irl_ros/**/*.py"), *root.glob("sim/**/*.py")):
        lines = [line for line in path.read_text().splitlines() if "def _eval" not in line and "#" not in line]
        found = [f"{path}: {line.strip()}" for line in lines for word in forbidden if f" {word}" in f" {line.strip()}"]
        assert not found, found
