"""A robot's driver as a policy runner sees it, and the runner as a process: for benchmarks that need both and no arm.

The pretended arm is where it was last told to be; joint states come at an exact rate, as far as the machine keeps it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "test"))  # processes over DDS are started as the tests start them
import dds  # noqa: E402
from demonstrations import scripted  # noqa: E402
from geometry_msgs.msg import PoseStamped  # noqa: E402
from lifecycle_msgs.msg import Transition  # noqa: E402
from lifecycle_msgs.srv import ChangeState  # noqa: E402
from sensor_msgs.msg import JointState  # noqa: E402
from std_srvs.srv import SetBool  # noqa: E402
from trajectory_msgs.msg import JointTrajectory  # noqa: E402

from irl_ros import messages  # noqa: E402
from irl_ros.checkpoint import Checkpoint  # noqa: E402
from irl_ros.contract import Contract  # noqa: E402
from irl_ros.learning.config import CloneConfig, RewardConfig, TrainConfig  # noqa: E402
from irl_ros.learning.train import train  # noqa: E402
from irl_ros.nodes.services import Caller  # noqa: E402

GOAL = np.array([0.45, 0.1, 0.4])  # [m]


def reach_checkpoint(directory: Path) -> Checkpoint:
    """A policy and a reward of the usual sizes for `reach`, hardly trained."""
    contract = Contract.load("panda", "reach")
    quick = TrainConfig(environment_steps=100, batch_episodes=2, evaluation_episodes=1, workers=1, device="cpu")
    config = dataclasses.replace(quick, clone=CloneConfig(steps=100), reward=RewardConfig(updates=1))
    return Checkpoint.load(train(scripted(contract, 5, 0), config, directory).checkpoint)


def at_rate(checkpoint: Checkpoint, rate: float, directory: Path) -> Path:
    """The same for another control rate [Hz], saved."""
    task = dataclasses.replace(checkpoint.contract.task, rate=rate)
    dataclasses.replace(checkpoint, contract=dataclasses.replace(checkpoint.contract, task=task)).save(directory)
    return directory


class Driver:
    """Joint states at `rate` [Hz] out, commands in; it works only inside :meth:`run`."""

    def __init__(self, client: dds.Client, rate: float):
        self._client, self._period = client, 1.0 / rate
        self._robot = Contract.load("panda", "reach").robot
        self._states = client.node.create_publisher(JointState, self._robot.joint_states.name, 1)
        topic = self._robot.command.name
        self._commands = client.node.create_subscription(JointTrajectory, topic, lambda _: None, dds.COMMAND)
        goals = client.node.create_publisher(PoseStamped, "goal_pose", dds.LATCHED)
        goals.publish(messages.fill_pose(PoseStamped(), GOAL, self._robot.base_frame, 1.0))
        self._position, self._due = np.array(self._robot.home), time.monotonic()
        self.sent: list[int] = []
        """When each joint state went out [ns of the system's clock]."""
        self.received: list[tuple[int, JointTrajectory]] = []
        """Each command with the time that its sender wrote it [ns of the system's clock]."""
        self.silent = False
        """No joint states, as when the driver hangs."""

    def forget(self) -> None:
        """Start counting anew."""
        self.sent, self.received = [], []
        gc.freeze()  # a collection of all that a benchmark keeps would stall the driver, by up to 0.3 s

    def run(self, until: Callable[[], Any], timeout: float = 30.0) -> Any:
        """Work until `until()` is true and return its value; TimeoutError after `timeout` [s]."""
        end = time.monotonic() + timeout
        while not (value := until()):
            if time.monotonic() > end:
                raise TimeoutError(f"no end after {timeout} s")
            self._step()
        return value

    def run_for(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        self.run(lambda: time.monotonic() >= end, seconds + 30.0)

    def call(self, kind: type, name: str, request: Any) -> Any:
        """Call a service of the runner while joint states go on."""
        service = Caller(self._client.node, kind, f"policy_runner/{name}")
        try:
            self.run(lambda: self._client.spin_once() or service.ready())
            future = service.call_async(request)
            self.run(lambda: self._client.spin_once() or future.done())
            return future.result()
        finally:
            service.destroy()

    def activate(self) -> None:
        """Configure and activate the runner."""
        for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
            request = ChangeState.Request()
            request.transition.id = transition
            if not self.call(ChangeState, "change_state", request).success:
                raise RuntimeError("the runner refused; see its log")

    def enable(self) -> None:
        """Enable, as soon as the runner has fresh inputs."""
        self.run(lambda: self.call(SetBool, "enable", SetBool.Request(data=True)).success)

    def _step(self) -> None:
        self._due = max(self._due + self._period, time.monotonic() - self._period)
        time.sleep(max(0.0, self._due - time.monotonic()))
        names = self._robot.joint_names
        now = time.time_ns()
        if not self.silent:
            state = messages.fill_joint_state(JointState(), names, self._position, np.zeros(len(names)), now * 1e-9)
            self.sent.append(time.time_ns())
            self._states.publish(state)
        while (taken := self._commands.handle.take_message(JointTrajectory, False)) is not None:
            message, info = taken
            self.received.append((info["source_timestamp"], message))
            self._position = messages.joint_trajectory(message, names).positions[0]


def is_halt(message: JointTrajectory) -> bool:
    """One point, at rest."""
    return len(message.points) == 1 and not np.any(message.points[0].velocities)


@contextlib.contextmanager
def driven(command: Sequence[str], rate: float) -> Iterator[tuple[dds.Process, Driver]]:
    """A node as a process, started by `command`, and its driver, in a ROS domain of their own."""
    with dds.domain() as domain, dds.client(domain) as client:
        child = dds.Process(command, domain)
        try:
            yield child, Driver(client, rate)
        except BaseException:
            print(f"--- output of {command[1:4]}\n{child.output}---", file=sys.stderr)
            raise
        finally:
            child.stop()


def runner_command(checkpoint: Path, **parameters: Any) -> list[str]:
    """Of the policy runner for the Panda. A hardly trained policy goes where nobody demonstrated: it only tells."""
    given = {"robot": "panda", "checkpoint": checkpoint, "unlike": "tell", **parameters}
    return dds.node_command("irl_ros.nodes.policy_runner", **given)
