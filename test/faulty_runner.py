"""policy_runner with a policy that goes wrong when told so on `policy_fault` (String); empty: it works.

`policy_fault/began` (Float64) says when the fault was first met [s of the system's clock].
"""

from __future__ import annotations

import sys
import time

import numpy as np
from std_msgs.msg import Float64, String

from irl_ros.control.controller import Controller
from irl_ros.nodes import process
from irl_ros.nodes.policy_runner import PolicyRunner
from irl_ros.nodes.transport import without_shared_memory


def fail(_action: np.ndarray) -> np.ndarray:
    raise RuntimeError("the policy fails")


def sleep(action: np.ndarray) -> np.ndarray:
    time.sleep(0.5)
    return action


FAULTS = {
    "nan": lambda action: action * np.nan,
    "infinite": lambda action: action + np.inf,
    "huge": lambda action: np.sign(action) * 1e9,
    "short": lambda action: action[:-1],
    "nothing": lambda _action: None,
    "text": lambda _action: "forward",
    "sleep": sleep,
    "raise": fail,
}


class FaultyRunner(PolicyRunner):
    def __init__(self) -> None:
        super().__init__()
        self._fault, self._act = "", Controller.act
        self._began = self.create_publisher(Float64, "policy_fault/began", 10)
        self.create_subscription(String, "policy_fault", self._on_fault, 10)
        Controller.act = lambda controller, observation, step=0: self._spoilt(controller, observation, step)

    def _on_fault(self, message: String) -> None:
        self._fault, self._told = message.data, False

    def _spoilt(self, controller: Controller, observation: np.ndarray, step: int) -> np.ndarray:
        action = self._act(controller, observation, step)
        if not self._fault:
            return action
        if not self._told:
            self._told = True
            self._began.publish(Float64(data=time.time()))
        return FAULTS[self._fault](action)


if __name__ == "__main__":
    without_shared_memory()
    sys.exit(process.run(FaultyRunner))
