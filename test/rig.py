"""Simulated arm, robot driver, runner and client for tests of what the runner survives; and what a halt must be.

A halt is the interface's stop command within STALE + PERIOD of the event, nothing after it, and ERROR on /diagnostics
within a second. Times are those at which nodes sent; how long this machine let a thread oversleep meanwhile is added.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dds
import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from runners import PERIOD, ROBOT, STALE, activate, enable, enable_when_ready, is_halt, keep, spin
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger
from std_msgs.msg import Float64, Float64MultiArray, String
from trajectory_msgs.msg import JointTrajectory

from irl_ros import messages
from irl_ros.messages import GROUP_POSITION, GROUP_VELOCITY, JOINT_TRAJECTORY

HERE = Path(__file__).parent
TOPICS = {
    JOINT_TRAJECTORY: (JointTrajectory, "joint_trajectory_controller/joint_trajectory"),
    GROUP_POSITION: (Float64MultiArray, "forward_position_controller/commands"),
    GROUP_VELOCITY: (Float64MultiArray, "forward_velocity_controller/commands"),
}
TOLD = 1.0
"""[s] in which /diagnostics must show a halt."""
SILENCE = 0.3
"""[s] of listening for commands that must not come."""


class Stalls:
    """How much longer than asked a sleeping thread of this machine slept, at worst, since :meth:`reset`."""

    interval = 0.005

    def __init__(self) -> None:
        self.worst, self._stop = 0.0, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def reset(self) -> None:
        self.worst = 0.0

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        before = time.monotonic()
        while not self._stop.wait(self.interval):
            now = time.monotonic()
            self.worst, before = max(self.worst, now - before - self.interval), now


@contextlib.contextmanager
def script(name: str, domain: int, **parameters: Any) -> Iterator[dds.Process]:
    """A script beside the tests as a process."""
    command = [sys.executable, str(HERE / name), *dds.node_command("", **parameters)[3:]]
    child = dds.Process(command, domain)
    try:
        yield child
    except BaseException:
        print(f"--- output of {name}\n{child.output}---")
        raise
    finally:
        child.stop()


class Rig:
    """Everything that runs, and what it sent: (time [s], message) of commands, joint states and diagnostics."""

    def __init__(self, domain: int, client: dds.Client, runner: dds.Process, interface: str, stack: Any):
        self.domain, self.client, self.runner, self.interface, self._stack = domain, client, runner, interface, stack
        self.commands: list[tuple[float, Any]] = []
        self.states: list[tuple[float, JointState]] = []
        self.reports: list[tuple[float, DiagnosticArray]] = []
        keep(client, *TOPICS[interface], dds.COMMAND, self.commands)
        keep(client, JointState, ROBOT.joint_states.name, dds.SENSOR, self.states)
        keep(client, DiagnosticArray, "/diagnostics", dds.RELIABLE, self.reports)
        self._faults = {name: client.node.create_publisher(String, name, 10) for name in ("fault", "policy_fault")}
        self.began = client.collect(Float64, "policy_fault/began")
        self._imported = client.collect(String, "policy_fault/imported")
        self.stalls = Stalls()
        self.start_relay()

    def start_relay(self) -> None:
        """The driver, the first or after one that was killed; heard by us too."""
        self.relay = self._stack.enter_context(script("relay.py", self.domain))
        known = len(self.states)
        self.client.wait(lambda: len(self.states) > known + 5, "joint states")

    def spoil(self, fault: str = "", policy: str = "") -> None:
        """What the driver and the policy do wrong from now on."""
        for name, value in (("fault", fault), ("policy_fault", policy)):
            publisher = self._faults[name]
            self.client.wait(lambda: publisher.get_subscription_count() > 0, f"a subscriber of {name}")
            publisher.publish(String(data=value))

    def get_moving(self, commands: int = 5) -> None:
        """Enabled, and that many commands without a halt."""
        start = len(self.commands)
        enable_when_ready(self.client)

        def going() -> bool:
            nonlocal start
            if len(self.commands) > start and self.halted:
                start = len(self.commands)
                enable_when_ready(self.client)
            return len(self.commands) >= start + commands

        self.client.wait(going, f"{commands} commands in a row")

    @property
    def halted(self) -> bool:
        """Whether the last command is the interface's stop."""
        return len(self.commands) > 1 and self._is_halt(self.commands[-1][1], self.commands[-2][1])

    def _is_halt(self, message: Any, previous: Any) -> bool:
        if self.interface == JOINT_TRAJECTORY:
            return is_halt(message)
        values = np.array(message.data)
        if self.interface == GROUP_VELOCITY:
            return not values.any()
        recent = [list(messages.joint_state(s, ROBOT.joint_names)[0]) for _, s in self.states[-60:] if usable(s)]
        return list(values) in [list(previous.data), *recent]

    def restart(self) -> None:
        """The arm back at a start pose, the gate halted or disabled, nothing spoilt."""
        enable(self.client, False)
        if self.relay.returncode is not None:
            self.start_relay()
        self.spoil()
        self.client.call(Trigger, "arm_sim/reset")

    def halts_after(self, cause: Callable[[], None], event: Callable[[], float], good: str = "") -> float:
        """Get moving, bring `cause` about, check the halt; returns its delay [s] after `event()`, a time.

        A machine that stalls may halt the arm before the cause does: then once more, from joint states as in `good`.
        """
        for _ in range(5):
            self.get_moving()
            self.stalls.reset()
            cause()
            self.client.wait(lambda: self.halted, "the halt")
            halted = self.commands[-1][0]
            spin(self.client, SILENCE)
            if halted >= event():
                break
            self.restart()
            self.spoil(good)
        print(f"halt after {halted - event():.4f} s, stalls of {self.stalls.worst:.4f} s")
        self._check(halted, event())
        return halted - event()

    def _check(self, halted: float, event: float) -> None:
        assert 0.0 <= halted - event <= STALE + PERIOD + self.stalls.worst, (halted - event, self.stalls.worst)
        assert self.commands[-1][0] == halted, "a command after the halt"
        imported = self.client.wait(lambda: self._imported[-1:], "what the halt imported")[0].data
        assert not imported, f"imported while a halt was due: {imported}"
        told = self.client.wait(lambda: [t for t, r in self.reports if t >= event and shows_error(r)], "an ERROR")
        assert told[0] - event <= TOLD + self.stalls.worst, told[0] - event

    def lines(self, name: str) -> list[DiagnosticStatus]:
        """Every line of that name in the diagnostics."""
        return [s for _, r in self.reports for s in r.status if s.name == f"policy_runner: {name}"]

    def said(self) -> str:
        """The gate's last line in the diagnostics."""
        return self.lines("gate")[-1].message

    def position(self) -> np.ndarray:
        """The arm's last measured pose [rad]."""
        return messages.joint_state(self.states[-1][1], ROBOT.joint_names)[0]

    def last_state(self) -> float:
        """When the last joint state was sent."""
        return self.states[-1][0]

    def last_good(self, fault: str) -> float:
        """When the last joint state was sent before the fault began."""
        stamps = [messages.stamp_seconds(message.header.stamp) for _, message in self.states]
        if fault == "frozen":
            return self.states[stamps.index(stamps[-1])][0]
        if fault == "back":
            return self.states[max(np.flatnonzero(np.diff(stamps) < 0))][0]
        return next(t for t, message in reversed(self.states) if usable(message))


def usable(state: JointState) -> bool:
    """Whether a joint state names every joint once, with finite values."""
    try:
        messages.joint_state(state, ROBOT.joint_names)
    except messages.MessageError:
        return False
    return True


def shows_error(report: DiagnosticArray) -> bool:
    return any(s.name == "policy_runner: gate" and s.level == DiagnosticStatus.ERROR for s in report.status)


@contextlib.contextmanager
def rig(checkpoint: Path, interface: str = JOINT_TRAJECTORY, **parameters: Any) -> Iterator[Rig]:
    """Everything up, the runner active."""
    parameters = {"robot": "panda", "checkpoint": checkpoint, "unlike": "tell", **parameters}
    parameters["command_interface"] = interface
    renamed = {"joint_states": "arm/joint_states", "/clock": "arm/clock"}
    with contextlib.ExitStack() as stack:
        domain = stack.enter_context(dds.domain())
        driver = {"robot": "panda", "velocity_timeout": parameters.get("velocity_timeout", 0.0)}
        stack.enter_context(dds.process("irl_ros_sim.arm_node", domain, renamed, **driver))
        runner = stack.enter_context(script("faulty_runner.py", domain, **parameters))
        client = stack.enter_context(dds.client(domain))
        whole = Rig(domain, client, runner, interface, stack)
        stack.callback(whole.stalls.close)
        activate(client)
        yield whole
