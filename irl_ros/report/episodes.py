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

ACROSS = 4
"""Panels beside each other."""
MOST_NAMED = 12
"""Paths of a group that are told apart by their names."""


def paths_of(groups: Mapping[str, Sequence[Episode]], contract: Contract) -> Figure:
    """Paths of the end effector [m], a panel for each group (:data:`irl_ros.report.figures.GROUPS`), and the goals where
    the observation has them. Where a group is small, each path ends in what its episode's name ends in."""
    kinematics = Kinematics(contract.robot)
    tracks = {
        name: [np.array([kinematics.position(q) for q in _field(e, contract, "joint_position")]) for e in some]
        for name, some in groups.items()
    }
    goal = contract.slices.get("goal_position")
    goals = {name: [] if goal is None else [e.observations[-1, goal] for e in some] for name, some in groups.items()}
    named = {name: [e.name.rpartition("_")[2] for e in some if len(some) <= MOST_NAMED] for name, some in groups.items()}
    return paths(tracks, goals, named)


def joints_of(groups: Mapping[str, Sequence[Episode]], contract: Contract) -> Figure:
    """Position of every joint [rad], or [m] where it slides, over time [s], one panel each; each group in its colour."""
    names, sliding = contract.robot.joint_names, _sliding(contract)
    rows, across = -(-len(names) // ACROSS), min(ACROSS, len(names))
    figure = Figure(figsize=(11.0, 2.4 * rows + 0.4), dpi=DPI, layout="constrained")
    panels = figure.subplots(rows, across, squeeze=False, sharex=True).ravel()
    for group, episodes in groups.items():
        for k, episode in enumerate(episodes):
            values = _field(episode, contract, "joint_position")
            for axes, curve in zip(panels, values.T):
                time, label = np.arange(len(curve)) * contract.task.period, "" if k else group
                axes.plot(time, curve, color=GROUPS[group], lw=0.8, alpha=0.7, label=label)
    for k, (axes, name) in enumerate(zip(panels, names)):
        axes.set_title(name, fontsize=9)
        axes.set(ylabel=f"position [{'m' if name in sliding else 'rad'}]")
        axes.grid(alpha=0.3)
        if k + across >= len(names):  # no panel below
            axes.set_xlabel("time [s]")
            axes.tick_params(labelbottom=True)
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
