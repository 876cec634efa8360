"""Nodes as real processes over DDS, for tests: each test in a ROS domain of its own, on loopback, ended whatever fails.

    with dds.domain() as domain, dds.process("irl_ros_sim.arm_node", domain, robot="panda") as arm:
        with dds.client(domain) as client:
            states = client.collect(JointState, "joint_states", dds.SENSOR)
            client.wait(lambda: states, "a joint state")
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from irl_ros import ros_domain
from irl_ros.nodes.services import Caller

RELIABLE = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)
SENSOR = QoSProfile(depth=1000, reliability=ReliabilityPolicy.BEST_EFFORT)
COMMAND = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
LATCHED = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
LOOPBACK = {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST", "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
TIMEOUT = 30.0
"""[s] A shared machine may stall for seconds; a test that passes never waits this long."""


domain = ros_domain.free_domain
"""A ROS_DOMAIN_ID that no DDS participant on this machine uses, never the caller's own, for the length of a block."""


def environment(domain: int) -> dict[str, str]:
    """The environment of a node in this domain."""
    return {**os.environ, **LOOPBACK, **ros_domain.apart(domain)}


def simulated_domain(graph: Process) -> int:
    """Return the ROS domain that a graph with a simulated arm has chosen and printed."""
    graph.wait_output("ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST")
    return int(re.search(r"simulating in ROS domain (\d+)", graph.output)[1])


class Process:
    """A child process in a session of its own; its output, stdout and stderr together, is kept in `output`."""

    def __init__(self, command: Sequence[str], domain: int, **options: Any):
        self._child = subprocess.Popen(
            [str(part) for part in command],
            env=environment(domain),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=_die_with_parent,
            **{"stdin": subprocess.DEVNULL, **options},
        )
        self.output = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, None while it runs."""
        return self._child.poll()

    def wait_output(self, text: str, timeout: float = TIMEOUT) -> None:
        """Wait until `text` was printed; AssertionError with the whole output if it is not."""
        end = time.monotonic() + timeout
        while True:
            ended = not self._reader.is_alive()
            if text in self.output:
                return
            assert not ended, f"ended before {text!r}:\n{self.output}"
            assert time.monotonic() < end, f"no {text!r} in {timeout} s:\n{self.output}"
            time.sleep(0.01)

    def wait(self, timeout: float = TIMEOUT) -> int:
        """Wait for its end; returns the exit code."""
        code = self._child.wait(timeout)
        self._reader.join(timeout)
        return code

    def send_signal(self, number: int) -> None:
        self._child.send_signal(number)

    def stop(self, number: int = signal.SIGINT, timeout: float = 10.0) -> int:
        """Signal it, wait, kill the whole session if that does not help; returns the exit code."""
        if self.returncode is None:
            self.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(timeout)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)
        return self.wait()

    def _read(self) -> None:
        for line in self._child.stdout:
            self.output += line


def node_command(module: str, remap: dict[str, str] | None = None, **parameters: Any) -> list[str]:
    """Command line of a node: `python -m module` with parameters and remappings."""
    command = [sys.executable, "-m", module, "--ros-args"]
    for name, value in parameters.items():
        command += ["-p", f"{name}:={json.dumps(str(value) if isinstance(value, Path) else value)}"]
    for name, value in (remap or {}).items():
        command += ["-r", f"{name}:={value}"]
    return command


@contextlib.contextmanager
def process(module: str, domain: int, remap: dict[str, str] | None = None, **parameters: Any) -> Iterator[Process]:
    """A node as a process; ended on the way out, and its output printed when the test fails."""
    child = Process(node_command(module, remap, **parameters), domain)
    try:
        yield child
    except BaseException:
        child.stop()
        print(f"--- output of {module}\n{child.output}---")
        raise
    finally:
        child.stop()


class Client:
    """A node inside the test; it runs only while one of the waiting methods does."""

    def __init__(self, node: Node, executor: SingleThreadedExecutor):
        self.node, self._executor = node, executor

    def wait(self, condition: Callable[[], Any], what: str, timeout: float = TIMEOUT) -> Any:
        """Spin until `condition()` is true and return its value; AssertionError naming `what` after `timeout` [s]."""
        end = time.monotonic() + timeout
        while not (value := condition()):
            assert time.monotonic() < end, f"waited {timeout} s for {what}"
            self.spin_once(0.05)
        return value

    def spin_once(self, timeout: float = 0.0) -> None:
        """One callback, if one is ready within `timeout` [s]."""
        self._executor.spin_once(timeout_sec=timeout)

    def collect(self, kind: type, topic: str, qos: QoSProfile = COMMAND) -> list[Any]:
        """A list to which every message on `topic` is appended.

        The executor takes one message per turn, and a turn costs 0.3 ms: the rest of a burst is taken here.
        """
        messages: list[Any] = []

        def take_all(message: Any) -> None:
            messages.append(message)
            while (taken := subscription.handle.take_message(kind, False)) is not None:
                messages.append(taken[0])

        subscription = self.node.create_subscription(kind, topic, take_all, qos)
        return messages

    def publisher(self, kind: type, topic: str, qos: QoSProfile = COMMAND, subscribers: int = 1) -> Any:
        """A publisher that has found `subscribers` subscribers."""
        publisher = self.node.create_publisher(kind, topic, qos)
        self.wait(lambda: publisher.get_subscription_count() >= subscribers, f"a subscriber of {topic}")
        return publisher

    def call(self, kind: type, name: str, request: Any = None, timeout: float = TIMEOUT) -> Any:
        """Call a service and return its response."""
        caller = Caller(self.node, kind, name)
        try:
            self.wait(caller.ready, f"the service {name}", timeout)
            future = caller.call_async(request if request is not None else kind.Request())
            self.wait(future.done, f"an answer of {name}", timeout)
            return future.result()
        finally:
            caller.destroy()

    def set_parameter(self, node: str, name: str, value: Any) -> None:
        """Set a parameter of another node; AssertionError with its reason if it refuses."""
        from rcl_interfaces.srv import SetParameters

        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        result = self.call(SetParameters, f"{node}/set_parameters", request).results[0]
        assert result.successful, result.reason


@contextlib.contextmanager
def client(domain: int, name: str = "") -> Iterator[Client]:
    """A node in the test process, in a context of its own."""
    saved = {key: os.environ.get(key) for key in LOOPBACK}
    os.environ.update(LOOPBACK)
    context = rclpy.Context()
    rclpy.init(args=[], context=context, domain_id=domain)
    node = Node(name or f"test_client_{domain}", context=context, use_global_arguments=False)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    try:
        yield Client(node, executor)
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.shutdown(context=context)
        for key, value in saved.items():
            os.environ.pop(key) if value is None else os.environ.__setitem__(key, value)


def _die_with_parent() -> None:
    """Have the kernel end the child when the test process dies, however it dies (PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
