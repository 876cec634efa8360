"""Pictures of demonstrations alone: the paths of the end effector, and the joints over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.etree import ElementTree

import numpy as np
from matplotlib.figure import Figure

from irl_ros.contract import Contract, ContractError
from irl_ros.data.episode import Episode
from irl_ros.kinematics import Kinematics
from irl_ros.report.figures import DPI, GROUPS, paths


def paths_of(episodes: Sequence[Episode], contract: Contract) -> Figure:
    """Paths of the end effector [m], and the goals where the observation has them."""
    kinematics = Kinematics(contract.robot)
    positions = [_field(e, contract, "joint_position") for e in episodes]
    tracks = [np.array([kinematics.position(q) for q in rows]) for rows in positions]
    goal = contract.slices.get("goal_position")
    goals = [] if goal is None else [e.observations[-1, goal] for e in episodes]
    return paths({"demonstrations": tracks}, {"demonstrations": goals})


def joint_curves(episodes: Sequence[Episode], contract: Contract) -> Figure:
    """Position of every joint [rad], or [m] where it slides, over time [s], one panel each, all episodes in it."""
    return joints_of({"demonstrations": episodes}, contract)


def joints_of(groups: Mapping[str, Sequence[Episode]], contract: Contract) -> Figure:
    """The same of several groups, each in its colour."""
    names, sliding = contract.robot.joint_names, _sliding(contract)
    rows = -(-len(names) // 4)
    figure = Figure(figsize=(11.0, 2.4 * rows + 0.4), dpi=DPI, layout="constrained")
    panels = figure.subplots(rows, min(4, len(names)), squeeze=False, sharex=True).ravel()
    for group, episodes in groups.items():
        for k, episode in enumerate(episodes):
            values = _field(episode, contract, "joint_position")
            for axes, curve in zip(panels, values.T):
                time, label = np.arange(len(curve)) * contract.task.period, "" if k else group
                axes.plot(time, curve, color=GROUPS[group], lw=0.8, alpha=0.7, label=label)
    for axes, name in zip(panels, names):
        axes.set_title(name, fontsize=9)
        axes.set(xlabel="time [s]", ylabel=f"position [{'m' if name in sliding else 'rad'}]")
        axes.grid(alpha=0.3)
    for axes in panels[len(names) :]:
        axes.axis("off")
    if len(groups) > 1:
        panels[0].legend(fontsize=8)
    return figure


def _sliding(contract: Contract) -> set[str]:
    """Names of the joints that slide; none where the URDF is not on this machine."""
    try:
        joints = ElementTree.parse(contract.robot.urdf_path()).iter("joint")
    except ContractError:
        return set()
    return {joint.get("name", "") for joint in joints if joint.get("type") == "prismatic"}


def _field(episode: Episode, contract: Contract, name: str) -> np.ndarray:
    """(T+1, n) of an observation's field; ContractError where it has none."""
    if name not in contract.slices:
        raise ContractError(f"task {contract.task.name}: its observation has no {name} to draw")
    return episode.observations[:, contract.slices[name]]
