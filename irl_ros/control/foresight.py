"""Where the policy would lead the arm from here: its mean, with an arm that follows at once and a world that stands still."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from irl_ros.control.controller import Controller
from irl_ros.motion import joint_target


def predict(controller: Controller, measured: Mapping[str, np.ndarray], step: int, periods: int) -> np.ndarray:
    """End effector positions [m] over the next control periods, shape (periods + 1, 3), the present one first.

    `measured`: quantities by name, for Contract.observe; `step`: periods since enable. The gate is not asked.
    """
    contract, kinematics = controller.contract, controller.kinematics
    state = dict(measured)
    path = [kinematics.position(state["joint_position"])]
    for k in range(periods):
        action, here = controller.act(controller.observe(state), step + k), state["joint_position"]
        there = joint_target(contract, here, action, here, kinematics)
        state.update(joint_position=there, joint_velocity=(there - here) / contract.task.period)
        path.append(kinematics.position(there))
    return np.array(path)
