"""`demo_recorder`: every topic the contract names, as serialized bytes, into one bag directory per episode."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from std_msgs.msg import Bool

from irl_ros.contract import Contract, ContractError, load_thresholds
from irl_ros.data.alignment import DEMONSTRATED_BY, MINIMUM_PERIODS, SECOND
from irl_ros.data.listing import BagError
from irl_ros.data.recording import Refused, State, under_way, unfinished
from irl_ros.data.take import Arrival
from irl_ros.data.taping import Kept, Taping
from irl_ros.kinematics import Kinematics
from irl_ros.nodes import conduct, process
from irl_ros.nodes.announce import Announcer
from irl_ros.nodes.automatic import Automatic
from irl_ros.nodes.intake import LATCHED, Intake, Poller
from irl_ros.nodes.parameters import declare, parameter

BEAT = 0.5
"""[s] between two flushes to the disk, looks at its free space, and diagnostics."""


@dataclass(frozen=True)
class Parameters(conduct.Settings):
    """Parameters of the node."""

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
    minimum_free: float = parameter(
        200.0, "free space on the disk below which nothing is recorded", "MB", range=(0.0, 1e9), read_only=False
    )


class DemoRecorder(Node):
    """Brings what arrives and what the operator asks for to :class:`Taping`, and tells what came of it."""

    def __init__(self) -> None:
        super().__init__("demo_recorder")
        self._settings = declare(self, Parameters)
        self._contract = Contract.load(self._settings.robot, self._settings.task)
        self._taping = self._make_taping()
        self._lock = threading.RLock()
        self._error = ""
        self.done, self.exit_code = False, 0
        self._began, self._led = 0, False
        self._announcer = Announcer(self, self._settings.bell)
        self._automatic = Automatic(self, self._settings, self._contract)
        self._intake = Intake(self, self._contract, self._on_message, self._on_lost)
        self._requests = self._make_requests()
        # The disk and diagnostics go on where sim time stands still.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        for period, action in ((BEAT, self._on_beat), (1.0, self._report)):
            self.create_timer(period, partial(self._attempt, action), clock=steady)
        self._announcer.state(self._taping.state)
        self._poller = Poller(partial(self._attempt, self._on_poll))
        for path in unfinished(self._taping.out):
            self.get_logger().warning(f"{path} was left by a recorder that was killed: irl_ros repair {path.parent}")
        for path in under_way(self._taping.out):
            self.get_logger().info(f"{path} is being recorded by another program")

    def shutdown(self) -> None:
        """Keep an unfinished episode, marked as interrupted."""
        self._poller.stop()
        self._intake.drain()
        if self._taping.take is not None:
            self._attempt(partial(self._finish, interrupted=True))
        self._announcer.end(self._taping)

    def step(self) -> None:
        self._poller.check()

    def destroy_node(self) -> None:
        if hasattr(self, "_requests"):
            self._requests.close()
        super().destroy_node()

    def _make_taping(self) -> Taping:
        settings, kinematics = self._settings, None
        try:
            kinematics = Kinematics(self._contract.robot)
        except ContractError as error:
            self.get_logger().warning(f"episodes are not tried as training would try them: {error}")
        who = settings.demonstrated_by, settings.operator
        return Taping(settings.out, self._contract, load_thresholds(settings.task), kinematics, *who)

    def _make_requests(self) -> conduct.Requests:
        if self._settings.takeover:
            self.create_subscription(Bool, self._settings.takeover, self._on_takeover, LATCHED)
        ends = {"success": partial(self._end, True), "failure": partial(self._end, False)}
        actions = {"start": self._start, "stop": self._stop, "discard": self._discard, **ends}
        return conduct.Requests(self, self._settings, actions, self._label, self._attempt, self._announcer.refused)

    def _on_message(self, arrival: Arrival) -> None:
        if self._taping.take is None:
            self._automatic.keep(arrival)
        elif arrival.wall >= self._began:
            self._attempt(partial(self._write, (arrival,)))

    def _write(self, arrivals: Iterable[Arrival]) -> None:
        for arrival in arrivals:
            self._taping.take.write(arrival, self._intake.stamp(arrival.wall))

    def _on_lost(self, role: str, count: int) -> None:
        self.get_logger().error(f"{self._intake.names[role]}: the middleware lost {count} messages")
        if self._taping.take is not None:
            self._taping.take.audits[role].told_lost += count

    def _on_poll(self) -> None:
        self._intake.poll()
        self._requests.answer()
        state = self._taping.state
        if state is State.RECORDING and self._automatic.over(self._lasted()):
            verdict = self._automatic.verdict()
            self._stop() if verdict is None else self._end(verdict)
        elif self._automatic.waits and state in (State.IDLE, State.WAITING):
            moves = self._automatic.moves(self._intake.last.get("joint_states"))
            if state is State.WAITING and moves:
                self._record(self._automatic.lead_in)
            elif state is State.IDLE and self._automatic.rests():
                self._start()

    def _lasted(self) -> float:
        """For how long the episode has been recorded, on the node's clock [s]."""
        return (self._intake.stamp(time.time_ns()) - self._taping.take.began) / SECOND

    def _on_takeover(self, message: Bool) -> None:
        """A stretch that a person drove is a demonstration; one too short to learn from is not kept."""
        with self._lock:
            self._follow(message.data)

    def _follow(self, led: bool) -> None:
        self._led = led
        recording = self._taping.state is State.RECORDING
        if led and not recording:
            self._attempt(self._start_under_way)
        elif recording and not led:
            self._intake.drain()
            long_enough = self._lasted() >= MINIMUM_PERIODS * self._contract.task.period
            self._attempt(partial(self._end, True) if long_enough else self._discard)

    def _start_under_way(self) -> str:
        """Start with what was measured just before: the first command may come before the next measurement."""
        return self._record(lambda: sorted(self._intake.last.values(), key=lambda arrival: arrival.wall))

    def _on_beat(self) -> None:
        self._intake.events()
        if self._taping.take is None:
            self._intake.adapt()
            if self._led and not self._error:  # refused before, for a topic that was not heard yet
                self._start_under_way()
            return
        self._taping.take.bag.sync()
        if problem := self._disk():
            self._intake.drain()
            self._finish(interrupted=True)
            self._announcer.say("RECORDING STOPPED: THE DISK IS NEARLY FULL", problem, bells=3)

    def _attempt(self, action: Callable[[], Any]) -> tuple[bool, str]:
        """Success and what to answer. A disk that fails ends the node: nothing may look saved that is not, and no other
        thread shall see an episode half given up."""
        with self._lock:
            try:
                return True, action() or ""
            except Refused as refusal:
                self.get_logger().warning(f"refused: {refusal}", throttle_duration_sec=1.0)
                return False, str(refusal)
            except BagError as error:
                self._fail(str(error))
                return False, str(error)

    def _fail(self, error: str) -> None:
        self._error = error
        self.done, self.exit_code = True, 1
        lost = self._taping.fail() or "the label"
        self.get_logger().error(f"recording stopped, {lost} is not saved: {error}")
        self._announcer.say("RECORDING FAILED", f"{lost} is not saved: {error}", bells=3)
        self._announcer.state(self._taping.state)
        self._report()
        self._announcer.flush()

    def _start(self) -> str:
        """What a start asks for: an episode, or where it begins with the first motion, the wait for it."""
        if not self._automatic.waits:
            return self._record(tuple)
        self._check_ready()
        self._taping.states.wait()
        self._automatic.wait()
        self._announcer.state(self._taping.state)
        self._announcer.say("READY: the first motion starts the recording")
        return "waiting for the first motion"

    def _record(self, before: Callable[[], Iterable[Arrival]]) -> str:
        """An episode that begins now, or with what arrived `before`: asked for once all that came is delivered."""
        self._intake.drain()
        self._intake.events()  # what was lost before is not this episode's
        self._check_ready()
        first = tuple(before())
        self._began = min((arrival.wall for arrival in first), default=time.time_ns())
        start = self._intake.stamp(self._began)
        topics = {role: (full, self._intake.offered(role)) for role, full in self._intake.names.items()}
        name = self._taping.begin(topics, self.get_parameter("operator").value, start)
        self._intake.incompatible = self._taping.take.incompatible
        for arrival in self._intake.latched.values():
            self._taping.take.write(arrival, start)
        self._write(arrival for arrival in first if arrival.role not in self._intake.latched)
        self._automatic.begin()
        self._announcer.state(self._taping.state)
        self._announcer.say(f"RECORDING {name}")
        return name

    def _check_ready(self) -> None:
        self._taping.states.check_start()
        problems = [f"{name}: its publisher was found just now, ask again" for name in self._intake.adapt()]
        problems += self._missing()
        if disk := self._disk():
            problems.append(disk)
        if problems:
            raise Refused(f"cannot record: {'; '.join(problems)}")

    def _missing(self) -> list[str]:
        """What a recording needs and has not, in words."""
        missing, command = self._intake.missing(), self._intake.names["command"]
        if self._settings.demonstrated_by == "command" and not self.count_publishers(command):
            missing.append(f"{command}: nothing publishes commands, and demonstrated_by is command")
        elif self._settings.demonstrated_by == "command" and not self._intake.connected("command"):
            wanted = self._contract.topics["command"].type
            missing.append(f"{command}: its publisher cannot be heard: it is new, ask again, or it is no {wanted}")
        return missing

    def _disk(self) -> str:
        """What is wrong with the room on the disk, in words; empty where there is enough."""
        free, wanted = self._taping.free(), self.get_parameter("minimum_free").value
        return f"{self._taping.out}: {free:.0f} MB are free, minimum_free is {wanted:g} MB" if free < wanted else ""

    def _stop(self) -> str:
        self._intake.drain()
        if self._error:
            raise Refused(f"nothing is saved: {self._error}")
        return str(self._finish().path)

    def _finish(self, interrupted: bool = False) -> Kept:
        self._announcer.state(State.SAVING)
        self._intake.events()
        kept = self._taping.finish(self._intake.stamp(time.time_ns()), interrupted)
        self._announcer.kept(kept)
        self._announcer.state(self._taping.state)
        return kept

    def _end(self, success: bool) -> str:
        """End the episode with this label; where none is recorded, the last one gets it."""
        answer = self._label(success)
        return self._stop() if self._taping.state is State.RECORDING else answer

    def _discard(self) -> str:
        kept = self._taping.kept
        what = self._taping.discard()
        self._announcer.discarded(what, kept if self._taping.kept is None else None)
        self._announcer.state(self._taping.state)
        return f"discarded {what}"

    def _label(self, success: bool) -> str:
        name = self._taping.label(success)
        if self._taping.kept is not None:
            self._announcer.kept(self._taping.kept)
        return f"{name} labelled {'success' if success else 'failure'}"

    def _report(self) -> None:
        self._announcer.report(self._taping, self._intake, self._error)


def main() -> None:
    sys.exit(process.run(DemoRecorder, (BagError,)))


if __name__ == "__main__":
    main()
