"""`demo_recorder`: every topic the contract names, as serialized bytes, into one bag directory per episode."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy
from rosbags.interfaces import Qos
from std_msgs.msg import Bool, String
from std_srvs.srv import SetBool, Trigger

from irl_ros.contract import Contract
from irl_ros.data.alignment import DEMONSTRATED_BY, MINIMUM_PERIODS, SECOND
from irl_ros.data.bag import BagError
from irl_ros.data.bag_writer import BagWriter, offered_qos, set_label
from irl_ros.data.recording import EpisodeStates, Refused, State, next_episode, unfinished
from irl_ros.nodes import diagnostics, process
from irl_ros.nodes.intake import LATCHED, Intake
from irl_ros.nodes.parameters import declare, parameter


@dataclass(frozen=True)
class Parameters:
    robot: str = parameter("", "robot: a name in config/robots or a YAML file; empty: the task's own")
    task: str = parameter("reach", "task, a name from the package's config or the path of a YAML file")
    out: str = parameter("demonstrations", "directory for the episodes; one that exists is continued")
    operator: str = parameter("", "who demonstrates; kept in every bag", read_only=False)
    demonstrated_by: str = parameter(
        "command", "command: through the command topic; hand_guiding: the arm itself is moved", choices=DEMONSTRATED_BY
    )
    takeover: str = parameter(
        "", "topic (Bool, latched) that starts an episode when true and keeps it as a success when false; empty: none"
    )


class DemoRecorder(Node):
    """Stamps, counts and writes what arrives; the services drive :class:`EpisodeStates`."""

    def __init__(self) -> None:
        super().__init__("demo_recorder")
        self._settings = declare(self, Parameters)
        self._contract = Contract.load(self._settings.robot, self._settings.task)
        self._out = _output_directory(self._settings.out)
        self._states = EpisodeStates()
        self._bag: BagWriter | None = None
        self._saved = 0
        self._error = ""
        self.done, self.exit_code = False, 0
        self._counted: Counter[str] = Counter()
        self._began, self._led = 0, False
        self._intake = Intake(self, self._contract, self._on_message)
        self._state = self.create_publisher(String, "~/state", LATCHED)
        self._diagnostics = self.create_publisher(DiagnosticArray, diagnostics.TOPIC, 10)
        self._create_services()
        if self._settings.takeover:
            self.create_subscription(Bool, self._settings.takeover, self._on_takeover, LATCHED)
        # Diagnostics and the disk go on where sim time stands still.
        self.create_timer(1.0, self._on_second, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._publish_state()
        for path in unfinished(self._out):
            self.get_logger().warning(f"{path} was left by a recorder that was killed: `irl_ros repair {self._out}` makes a bag of it")

    def shutdown(self) -> None:
        """Keep an unfinished episode, marked as interrupted."""
        self._intake.drain()
        if self._bag is not None:
            self._attempt(partial(self._save, interrupted=True))

    def _create_services(self) -> None:
        for name, action in (("start", self._start), ("stop", self._stop), ("discard", self._discard)):
            self.create_service(Trigger, f"~/{name}", partial(self._on_trigger, action))
        self.create_service(SetBool, "~/label_success", self._on_label)

    def _on_message(self, role: str, data: bytes, arrived: int) -> None:
        if self._bag is not None and arrived >= self._began:
            self._attempt(partial(self._bag.write, role, data, self._intake.stamp(arrived)))

    def _on_trigger(self, action: Callable[[], str], _: Any, response: Trigger.Response) -> Trigger.Response:
        response.success, response.message = self._attempt(action)
        return response

    def _on_label(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        response.success, response.message = self._attempt(partial(self._label, request.data))
        return response

    def _on_takeover(self, message: Bool) -> None:
        """A stretch that a person drove is a demonstration; one too short to learn from is not kept."""
        self._led = message.data
        recording = self._states.state is State.RECORDING
        if message.data and not recording:
            self._attempt(self._start_under_way)
        elif recording and not message.data:
            self._intake.drain()
            lasted = self._intake.stamp(time.time_ns()) - self._intake.stamp(self._began)
            long_enough = lasted >= MINIMUM_PERIODS * self._contract.task.period * SECOND
            self._attempt(self._keep_takeover if long_enough else self._discard)

    def _start_under_way(self) -> str:
        """Start with what was measured just before: the first command may come before the next measurement."""
        name = self._start()
        for role, (data, arrived) in self._intake.last.items():
            self._bag.write(role, data, self._intake.stamp(arrived))
        return name

    def _keep_takeover(self) -> str:
        self._label(True)
        return self._stop()

    def _on_second(self) -> None:
        if self._bag is not None:
            self._attempt(self._bag.sync)
        elif self._led:  # refused before, for a topic that was not heard yet
            self._attempt(self._start_under_way)
        self._publish_diagnostics()

    def _attempt(self, action: Callable[[], Any]) -> tuple[bool, str]:
        """Success and what to answer. A disk that fails ends the node: nothing may look saved that is not."""
        try:
            return True, action() or ""
        except Refused as refusal:
            self.get_logger().warning(f"refused: {refusal}")
            return False, str(refusal)
        except BagError as error:
            self._fail(str(error))
            return False, str(error)

    def _fail(self, error: str) -> None:
        self._error = error
        self.done, self.exit_code = True, 1
        self.get_logger().error(f"recording stopped, {self._states.name or 'the label'} is not saved: {error}")
        bag, self._bag = self._bag, None
        if bag is not None:
            bag.abort()
        self._states.fail()
        self._publish_state()
        self._publish_diagnostics()
        # The node ends now; what it says last must be out before.
        self._diagnostics.wait_for_all_acked(Duration(seconds=1))

    def _start(self) -> str:
        self._states.check_start()
        self._began = time.time_ns()
        self._intake.drain()
        missing = self._missing()
        if missing:
            raise Refused(f"cannot record: {'; '.join(missing)}")
        name = self._next()
        topics = {role: (full, self._offered(role)) for role, full in self._intake.names.items()}
        operator = self.get_parameter("operator").value
        self._bag = BagWriter(self._out / name, self._contract, topics, self._settings.demonstrated_by, operator)
        self._states.start(name)
        for role, data in self._intake.latched.items():
            self._bag.write(role, data, self._intake.stamp(self._began))
        self._publish_state()
        return name

    def _next(self) -> str:
        try:
            return next_episode(self._out)
        except OSError as error:
            raise BagError(f"cannot read {self._out}: {error.strerror}") from error

    def _stop(self) -> str:
        self._intake.drain()
        if self._error:
            raise Refused(f"nothing is saved: {self._error}")
        self._states.stop()
        self._publish_state()
        return self._save()

    def _save(self, interrupted: bool = False) -> str:
        label = None if interrupted else self._states.label
        counts = self._bag.counts
        path = self._bag.save(label, interrupted).absolute()
        self._bag = None
        if interrupted:
            self._states.fail()
        else:
            self._states.saved(path)
        self._saved += 1
        self._publish_state()
        how = "was interrupted and is kept, unusable for training, in" if interrupted else "is saved in"
        self.get_logger().info(f"{path.name} {how} {path}: {', '.join(f'{n} {role}' for role, n in counts.items())}")
        return str(path)

    def _discard(self) -> str:
        name = self._states.name
        self._states.discard()
        bag, self._bag = self._bag, None
        bag.discard()
        self._publish_state()
        return f"discarded {name}"

    def _label(self, success: bool) -> str:
        if self._states.label_current(success):
            return f"{self._states.name} labelled {'success' if success else 'failure'}"
        set_label(self._states.last, success)
        return f"{self._states.last.name} labelled {'success' if success else 'failure'}"

    def _missing(self) -> list[str]:
        """What a recording needs and has not, in words."""
        missing, command = self._intake.missing(), self._intake.names["command"]
        if self._settings.demonstrated_by == "command" and not self.count_publishers(command):
            missing.append(f"{command}: nothing publishes commands, and demonstrated_by is command")
        return missing

    def _offered(self, role: str) -> Qos:
        """The QoS of the topic's publisher, or what it should be where nothing publishes."""
        found = self.get_publishers_info_by_topic(self._intake.names[role])
        if not found:
            return offered_qos(reliable=True, latched=False)
        profile = found[0].qos_profile
        return offered_qos(
            profile.reliability == ReliabilityPolicy.RELIABLE, profile.durability == DurabilityPolicy.TRANSIENT_LOCAL
        )

    def _publish_state(self) -> None:
        self._state.publish(String(data=self._states.state.value))

    def _publish_diagnostics(self) -> None:
        rates, self._counted = self._intake.received - self._counted, self._intake.received.copy()
        silent = [role for role in self._contract.sources if self._intake.silent(role)]
        values = {"state": self._states.state.value, "episode": self._states.name or "", "saved": self._saved}
        values |= {f"{role} rate [Hz]": rates[role] for role in self._contract.topics}
        if self._bag is not None:
            values |= {f"{role} count": count for role, count in self._bag.counts.items()}
        level, message = diagnostics.OK, self._states.state.value
        if silent:
            level, message = diagnostics.WARN, f"silent: {', '.join(silent)}"
        if self._error:
            level, message = diagnostics.ERROR, self._error
        status = diagnostics.status(self.get_fully_qualified_name(), level, message, **values)
        self._diagnostics.publish(diagnostics.array(self.get_clock().now().to_msg(), [status]))


def _output_directory(name: str) -> Path:
    path = Path(name).expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BagError(f"parameter out: cannot create {path}: {error.strerror}") from error
    return path


def main() -> None:
    sys.exit(process.run(DemoRecorder, (BagError,)))


if __name__ == "__main__":
    main()
