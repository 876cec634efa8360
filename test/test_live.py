"""What the operator sees live: markers on topics, and that the RViz and Foxglove files ask for topics that exist."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import dds
import handmade
import numpy as np
import pytest
import yaml
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import OccupancyGrid
from runners import activate, runner
from std_msgs.msg import Float64
from visualization_msgs.msg import Marker, MarkerArray

from irl_ros.checkpoint import Checkpoint, CheckpointError
from irl_ros.contract import Contract, load_safety, share_directory
from irl_ros.control.controller import Controller
from irl_ros.control.foresight import predict
from irl_ros.data.episode import Demonstrations, Episode
from irl_ros.kinematics import Kinematics
from irl_ros.models.demonstrated import MOST_PATHS, PATH_POINTS, PATHS, yardsticks
from irl_ros.nodes import markers
from irl_ros.nodes.scoreboard import FORESIGHT

CONTRACT = Contract.load("panda", "reach")
ROBOT = CONTRACT.robot
ACTION = np.array([0.3, -0.2, 0.1, 0.2, -0.1, 0.0, 0.4])
CONFIG = share_directory() / "config"
ON_DEMAND = {"/object_pose": PoseStamped, "/policy_runner/reward_map": OccupancyGrid}
"""Of some tasks and methods alone."""


def points(marker: Marker) -> np.ndarray:
    return np.array([(p.x, p.y, p.z) for p in marker.points]).reshape(-1, 3)


def checkpoint(count: int = 3) -> Checkpoint:
    """A policy that always acts the same, with the paths of `count` demonstrations."""
    shown = handmade.demonstrations(CONTRACT, count)
    episodes = tuple(Episode(str(k), o, np.zeros((len(o) - 1, 7))) for k, o in enumerate(shown))
    made = handmade.checkpoint(CONTRACT, ACTION)
    paths = yardsticks(Demonstrations(CONTRACT, episodes), {})[PATHS]
    return dataclasses.replace(made, likeness_arrays={**made.likeness_arrays, PATHS: paths})


def test_paths_in_a_checkpoint_are_those_of_the_demonstrations_hands():
    shown, kinematics = handmade.demonstrations(CONTRACT, 3), Kinematics(ROBOT)
    paths = Controller(checkpoint()).demonstrated_paths
    assert paths.shape == (3, PATH_POINTS, 3)
    for path, observations in zip(paths, shown):
        joints = CONTRACT.field(observations, "joint_position")
        np.testing.assert_allclose(path[0], kinematics.position(joints[0]))
        np.testing.assert_allclose(path[-1], kinematics.position(joints[-1]))
    assert Controller(checkpoint(25)).demonstrated_paths.shape[0] == MOST_PATHS


def test_an_older_checkpoint_has_none_and_a_damaged_one_is_refused():
    old = handmade.checkpoint(CONTRACT, ACTION)
    assert not len(Controller(old).demonstrated_paths)
    for wrong in (np.zeros((2, 3)), np.full((1, 2, 3), np.nan)):
        with pytest.raises(CheckpointError, match="demonstrated_paths: finite positions"):
            Controller(dataclasses.replace(old, likeness_arrays={**old.likeness_arrays, PATHS: wrong}))


def test_a_constant_action_is_predicted_step_by_step():
    controller, home = Controller(checkpoint()), np.array(ROBOT.home)
    measured = {"joint_position": home, "joint_velocity": np.zeros(7), "goal_position": np.array([0.5, 0.0, 0.4])}
    steps = [home + k * ACTION * CONTRACT.max_step for k in range(6)]
    expected = [controller.end_effector(q) for q in steps]
    np.testing.assert_allclose(predict(controller, measured, 0, 5), expected, atol=1e-12)
    np.testing.assert_array_equal(measured["joint_position"], ROBOT.home)


def test_a_boxs_edges_are_its_twelve():
    edges = np.array(markers.box_edges((0.0, 0.0, 0.0), (1.0, 2.0, 3.0))).reshape(12, 2, 3)
    lengths = np.linalg.norm(edges[:, 0] - edges[:, 1], axis=-1)
    assert sorted(lengths) == [1.0] * 4 + [2.0] * 4 + [3.0] * 4
    assert len({tuple(sorted(map(tuple, edge))) for edge in edges.tolist()}) == 12


def test_more_reward_is_lighter_and_nothing_to_draw_is_taken_away():
    luminance = markers.colours([3.0, -1.0, 0.0, 2.0]) @ (0.2126, 0.7152, 0.0722)
    assert np.argsort(luminance).tolist() == [1, 2, 3, 0]
    assert len(markers.colours([])) == 0 and np.ptp(markers.colours([1.0, 1.0]), axis=0).max() == 0
    driven, predicted = markers.live([np.zeros(3)], [0.0], (), "base").markers
    assert driven.action == predicted.action == Marker.DELETE
    assert [m.action for m in markers.scene(np.zeros((0, 0, 3)), None, "base").markers] == [Marker.DELETE] * 2


def rviz_topics() -> dict[str, str]:
    """Topic → class of the display that shows it."""
    displays = yaml.safe_load((CONFIG / "live.rviz").read_text())["Visualization Manager"]["Displays"]
    named = {d["Class"]: d.get("Topic", d.get("Description Topic")) for d in displays}
    assert all(cls.startswith("rviz_default_plugins/") for cls in named)
    return {(d.get("Topic") or d["Description Topic"])["Value"]: d["Class"] for d in displays if "Grid" not in d["Class"]}


def foxglove() -> tuple[dict[str, bool], list[str]]:
    """Topics of the 3D panel, and paths of the plots."""
    layout = json.loads((CONFIG / "foxglove.json").read_text())
    panels = layout["configById"]

    def leaves(node) -> list[str]:
        return [node] if isinstance(node, str) else [*leaves(node["first"]), *leaves(node["second"])]

    assert sorted(leaves(layout["layout"])) == sorted(panels)
    plots = [path["value"] for panel in panels.values() for path in panel.get("paths", ())]
    return panels["3D!live"]["topics"], plots


def test_markers_come_and_rviz_and_foxglove_ask_for_topics_that_are_there(tmp_path: Path):
    checkpoint().save(tmp_path)
    with dds.domain() as domain, dds.process("irl_ros_sim.arm_node", domain, robot="panda"):
        with runner(domain, tmp_path, use_sim_time=True), dds.client(domain) as client:
            live = client.collect(MarkerArray, "policy_runner/markers", dds.LATCHED)
            activate(client)
            scene = client.collect(MarkerArray, "policy_runner/scene", dds.LATCHED)  # as one who comes late
            client.wait(lambda: scene and live and len(live[-1].markers[1].points) > 1, "markers")
            visible, plots = foxglove()
            plotted = {path.rpartition(".")[0] for path in plots if not path.startswith("/irl_trainer/")}
            there = topics(client, {*rviz_topics(), *visible, *plotted} - {*ON_DEMAND})
    shown, gate = scene[-1].markers
    assert len(shown.points) == 3 * 2 * (PATH_POINTS - 1) and shown.header.frame_id == ROBOT.base_frame
    safety = load_safety("panda")
    np.testing.assert_allclose([points(gate).min(0), points(gate).max(0)], [safety.box_lower, safety.box_upper])
    assert len(live[-1].markers[1].points) == FORESIGHT + 1
    check_types({**rviz_topics()}, there)
    for path in plots:
        topic, field = path.rsplit(".", 1)
        known = there.get(topic) == "std_msgs/msg/Float64" or re.match("/irl_trainer/metrics/[a-z]+/[a-z_]+$", topic)
        assert known and field in Float64.get_fields_and_field_types(), path


def topics(client: dds.Client, wanted: set[str]) -> dict[str, str]:
    """Topic → type, once all that are wanted were discovered."""
    found = lambda: {name: types[0] for name, types in client.node.get_topic_names_and_types()}  # noqa: E731
    client.wait(lambda: wanted <= set(found()), f"all of {sorted(wanted)}")
    return found()


def check_types(displays: dict[str, str], there: dict[str, str]) -> None:
    """Every display's topic exists and is of the display's kind."""
    kinds = {
        "rviz_default_plugins/MarkerArray": "visualization_msgs/msg/MarkerArray",
        "rviz_default_plugins/Pose": "geometry_msgs/msg/PoseStamped",
        "rviz_default_plugins/RobotModel": "std_msgs/msg/String",
        "rviz_default_plugins/Map": "nav_msgs/msg/OccupancyGrid",
    }
    for topic, display in displays.items():
        if topic in ON_DEMAND:
            module, _, name = kinds[display].partition("/msg/")
            assert ON_DEMAND[topic].__module__.startswith(module) and ON_DEMAND[topic].__name__ == name
        else:
            assert there[topic] == kinds[display], topic
