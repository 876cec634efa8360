"""policy_runner with a policy that goes wrong when told so on `policy_fault` (String); empty: it works.

`policy_fault/began` (Float64) says when the fault was first met [s of the system's clock], `policy_fault/imported`
(String) at a halt, which modules were imported since activation: an import takes longer than a halt may.
"""

from __future__ import annotations

import sys
import time

import numpy as np
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from std_msgs.msg import Float64, String

from irl_ros.control.controller import Controller
from irl_ros.control.gate import Command, Halt
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
        self._imported = self.create_publisher(String, "policy_fault/imported", 10)
        self._modules: set[str] = set()
        self.create_subscription(String, "policy_fault", self._on_fault, 10)
        Controller.act = lambda controller, observation, step=0: self._spoilt(controller, observation, step)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        done = super().on_activate(state)
        self._modules = set(sys.modules)
        return done

    def _send(self, result: Command | Halt) -> None:
        super()._send(result)
        if isinstance(result, Halt):
            self._imported.publish(String(data=" ".join(sorted(set(sys.modules) - self._modules))))

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
