"""Scripted demonstrators: as imperfect as a person at a joystick. They need no simulator, only kinematics."""

from __future__ import annotations

import numpy as np

from irl_ros.contract import Contract, ContractError
from irl_ros.kinematics import Kinematics
from irl_ros_sim.experts.block import PickPlaceExpert, PushExpert
from irl_ros_sim.experts.detour import DetourExpert
from irl_ros_sim.experts.grid import GridExpert
from irl_ros_sim.experts.human import Human
from irl_ros_sim.experts.peg_insertion import PegExpert
from irl_ros_sim.experts.reach import ReachExpert

EXPERTS: dict[str, type[Human]] = {
    "irl_ros/Detour-v0": DetourExpert,
    "irl_ros/Navigate2D-v0": DetourExpert,
    "irl_ros/PegInsertion-v0": PegExpert,
    "irl_ros/PickPlace-v0": PickPlaceExpert,
    "irl_ros/Push-v0": PushExpert,
}
"""By env id; the others go by what they observe."""


def make_expert(contract: Contract, kinematics: Kinematics, rng: np.random.Generator, **human: float) -> Human:
    """The demonstrator of the contract's task; `human`: noise, pause_rate, overshoot, reaction."""
    own = EXPERTS.get(contract.task.env.rpartition(":")[2])
    if own is None and contract.task.grid is not None:
        own = GridExpert
    if own is None and "end_effector_to_goal" in contract.slices and not contract.task.moves_end_effector:
        own = ReachExpert
    if own is None:
        raise ContractError(
            f"no script demonstrates task {contract.task.name}: they know this package's tasks, reaching and grids; "
            "demonstrate it yourself with mode joy or keyboard"
        )
    return own(contract, kinematics, rng, **human)
