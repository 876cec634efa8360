"""policy_runner: drives the arm by a learned policy and tells, live, how well it does by the learned reward.

A lifecycle node. Configure loads the checkpoint and checks it against the robot; while active it listens; it commands
while active and enabled (`~/enable`). Every command passes the gate (:mod:`irl_ros.control.gate`), a human's on
`teleop/command` too, and a watchdog thread halts the arm when an input goes stale or the loop stops ticking.
"""

from __future__ import annotations

import functools
import gc
import math
import sys
import time
import traceback
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState
from rclpy.qos import QoSProfile
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import SetBool

from irl_ros import messages
from irl_ros.checkpoint import CheckpointError
from irl_ros.contract import Contract, ContractError
from irl_ros.control.gate import Command, GateError, GateState, Halt
from irl_ros.control.metronome import Metronome
from irl_ros.control.pilot import Pilot
from irl_ros.nodes import diagnostics, process
from irl_ros.nodes.claims import Claims
from irl_ros.nodes.human import SENSOR, Human
from irl_ros.nodes.lifecycle import transition
from irl_ros.nodes.listener import Listener, publisher_of
from irl_ros.nodes.loading import Parameters, make_pilot, message_type
from irl_ros.nodes.monitor import Monitor, gate_status, model_status
from irl_ros.nodes.near_topics import near_topic
from irl_ros.nodes.outputs import QUIET, RELIABLE, CommandOutput
from irl_ros.nodes.parameters import declare
from irl_ros.nodes.scoreboard import LATCHED, Scoreboard
from irl_ros.nodes.transport import without_shared_memory
from irl_ros.nodes.watchdog import Watchdog

MARKER_PERIOD = 0.2  # [s]
TURN = 0.01
"""[s] at least between two turns of the executor, twice that at most: services, reports and signals wait so long."""
CALLBACKS = 4
"""The most that one turn runs: a disable must not queue behind what is only told."""


class PolicyRunner(LifecycleNode):
    """Subscribes to the contract's observation topics, publishes on the command topic of its interface."""

    def __init__(self) -> None:
        super().__init__("policy_runner")
        self._settings = declare(self, Parameters)
        self._started = time.time_ns()
        self._refusal = "not configured"
        self._contract: Contract | None = None
        self._pilot: Pilot | None = None
        self._watchdog: Watchdog | None = None
        self._claims: Claims | None = None
        self._timer = self._marker_timer = None
        self._metronome: Metronome | None = None
        self._listener: Listener | None = None
        self._ticked = False
        self._subscriptions_built, self._publishers_built = [], []
        self._monitor = Monitor()
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._diagnostics = self.create_publisher(DiagnosticArray, diagnostics.TOPIC, RELIABLE)
        self.create_timer(1.0, self._on_second, clock=self._steady)
        self.create_service(SetBool, "~/enable", self._on_enable)

    @transition(CheckpointError, ContractError)
    def on_configure(self, _state: LifecycleState) -> None:
        """Load and check everything; refused with the differing fields named."""
        settings, log = self._settings, self.get_logger()
        self._pilot = make_pilot(settings, self._send, self.get_parameter("use_sim_time").value, log.warning)
        self._contract = self._pilot.controller.contract
        self._build()
        self._refusal = ""
        log.info(f"checkpoint {settings.checkpoint}: {self._contract.task.name} loaded")

    @transition()
    def on_activate(self, _state: LifecycleState) -> None:
        """Listen and score; commands wait for `~/enable`."""
        self._monitor = Monitor()
        period = self._contract.task.period
        if self._listener is None:  # simulated time, whose clock jumps from tick to tick: no phase to speak of
            self._timer = self.create_timer(period, self._tick)
        else:
            self._metronome = Metronome(period, time.monotonic())
        self._marker_timer = self.create_timer(MARKER_PERIOD, self._scoreboard.publish_path, clock=self._steady)
        gc.freeze()  # what is there by now stays: a collection of all of it would take longer than a period
        self._watchdog = Watchdog(self._watch)
        self._watchdog.start()

    @transition()
    def on_deactivate(self, _state: LifecycleState) -> None:
        """Stop the timers, then the arm."""
        self._stop("deactivated")

    @transition()
    def on_cleanup(self, _state: LifecycleState) -> None:
        """Drop everything that configure built."""
        self._tear_down()
        self._refusal = "not configured"

    @transition()
    def on_shutdown(self, _state: LifecycleState) -> None:
        """From any state: stop and drop everything."""
        self._tear_down()

    @transition()
    def on_error(self, _state: LifecycleState) -> None:
        """Back to unconfigured after an unexpected error."""
        self._tear_down()

    def shutdown(self) -> None:
        """Halt on SIGINT and SIGTERM."""
        self._tear_down()

    def refuse(self, reason: str) -> None:
        """Drop what a failed transition left; `reason` is shown in the diagnostics."""
        self._tear_down()
        self._refusal = reason

    @property
    def spin_timeout(self) -> float:
        """[s] that a turn of the executor may wait for something to do."""
        return process.IDLE if self._listener is None else 0.0

    @property
    def callbacks_per_spin(self) -> int:
        """One where nothing else waits: the next spin follows at once."""
        return 1 if self._listener is None else CALLBACKS

    def step(self) -> None:
        """Take inputs and tick until the executor shall have a turn: after a tick where one comes by then, so that the
        next does not wait for it."""
        if self._listener is None:
            return
        begun = time.monotonic()
        end = begun + 2.0 * TURN
        while True:
            self._ticked = False
            until = end if self._metronome is None else min(self._metronome.deadline, end)
            self._listener.wait(until - time.monotonic())
            now = time.monotonic()
            if self._metronome is not None and now >= self._metronome.deadline:
                self._beat()
            if now >= end or self._ticked and now >= begun + TURN:
                return

    def _build(self) -> None:
        topics, settings = self._contract.topics, self._settings
        self._output = CommandOutput(
            self._contract,
            self._pilot.safety,
            settings.command_interface,
            settings.velocity_timeout,
            self._publisher,
        )
        if not self.get_parameter("use_sim_time").value:  # else /clock is as urgent, and that is the executor's
            self._listener = Listener(self)
        self._actions = self._publisher(Float64MultiArray, "~/action", RELIABLE)
        self._scoreboard = Scoreboard(self._pilot, self._publisher)
        self._human = Human(
            self._contract, self._pilot, self._output.dry, self._publisher, self._subscribe, self._refused
        )
        for role in self._pilot.inputs.roles:
            qos = LATCHED if topics[role].latched else SENSOR
            receive = functools.partial(self._on_message, role)
            self._subscribe(message_type(topics[role]), topics[role].name, receive, qos)
        if not self._output.dry:
            self._claims = Claims(self, self._output.topic, self._started, self._halt)

    def _publisher(self, kind: type, topic: str, qos: QoSProfile) -> Any:
        """A plain publisher: an inactive lifecycle publisher would drop the halt in silence."""
        publisher = self.create_publisher(kind, topic, qos, event_callbacks=QUIET)
        self._publishers_built.append(publisher)
        return publisher

    def _subscribe(self, kind: type, topic: str, receive: Any, qos: QoSProfile) -> None:
        if self._listener is not None:
            self._listener.subscribe(kind, topic, receive, qos)
        else:
            self._subscriptions_built.append(self.create_subscription(kind, topic, receive, qos))

    def _stop(self, reason: str) -> None:
        """Timers and watchdog first, the halt last; tolerates a half-built node."""
        for timer in filter(None, (self._timer, self._marker_timer)):
            self.destroy_timer(timer)
        self._timer = self._marker_timer = self._metronome = None
        if self._watchdog is not None:
            self._watchdog.stop()
            self._watchdog = None
        if self._pilot is not None and self._pilot.disable(reason, time.monotonic()):
            self._output.wait()

    def _tear_down(self) -> None:
        self._stop("shut down")
        if self._claims is not None:
            self._claims.close()
        if self._listener is not None:
            self._listener.close()
        for subscription in self._subscriptions_built:
            self.destroy_subscription(subscription)
        for publisher in self._publishers_built:
            self.destroy_publisher(publisher)
        self._subscriptions_built, self._publishers_built = [], []
        self._pilot = self._contract = self._claims = self._listener = None

    def _on_message(self, role: str, message: Any, info: Any) -> None:
        try:
            quantities = messages.measured(message, role, self._contract)
        except messages.MessageError as error:
            self._refused(role, error)
            if self._contract.topics[role].latched:  # it never goes stale, and the one before no longer holds
                self._pilot.inputs.forget(role)
                self._halt(f"message refused: {role}: {error}")
            return
        now, stamp = time.monotonic(), messages.stamp_seconds(message.header.stamp)
        self._pilot.inputs.update(role, quantities, now, stamp, publisher_of(info))
        if role == "joint_states" and self._metronome is not None and self._metronome.arrived(now):
            self._beat()

    def _refused(self, what: str, error: messages.MessageError) -> None:
        self._monitor.rejected[f"refused: {what}"] += 1
        self.get_logger().warning(f"message refused: {what}: {error}", throttle_duration_sec=5.0)

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        try:
            self._enable() if request.data else self._disable()
            response.success, response.message = True, "enabled" if request.data else "disabled"
        except GateError as error:
            response.success, response.message = False, str(error)
            self.get_logger().warning(str(error))
        return response

    def _enable(self) -> None:
        if self._watchdog is None:
            raise GateError(f"not enabled: the node is not active ({self._refusal or 'configured'}); activate it first")
        if not self._watchdog.alive:
            raise GateError("not enabled: the watchdog has ended, see the log; deactivate and activate the node")
        if self._pilot.gate.armed:
            return
        if obstacle := self._obstacle():
            raise GateError(f"not enabled: {self._output.topic}: {obstacle}")
        self._pilot.gate.speed = self.get_parameter("speed").value
        self._monitor.enabled()
        self._scoreboard.enabled()
        self._human.agreement.reset()
        try:
            self._pilot.enable(time.monotonic())
        except GateError as error:
            raise GateError(f"{error}{self._meant()}") from None
        self._claim()
        self._diagnose(self._gate_status())

    def _meant(self) -> str:
        """Which topic was probably meant where one has never been heard."""
        ages = self._pilot.inputs.ages(time.monotonic())
        silent = next((role for role, age in ages.items() if age == math.inf), None)
        return near_topic(self, self._contract.topics[silent]) if silent else ""

    def _disable(self) -> None:
        if self._pilot is not None:
            self._pilot.disable("disabled", time.monotonic())

    def _obstacle(self) -> str | None:
        return (self._claims and self._claims.obstacle()) or self._output.unheard()

    def _claim(self) -> None:
        if self._claims is not None:
            self._claims.renew(self._pilot.gate.armed)

    def _halt(self, reason: str) -> None:
        self._pilot.halt(reason, time.monotonic())

    def _beat(self) -> None:
        """Tick with the joint state that just arrived, or because none did in time."""
        self._metronome.ticked(time.monotonic())
        self._tick()
        self._ticked = True

    def _tick(self) -> None:
        try:
            score = self._pilot.tick(time.monotonic)
        except Exception:
            self.get_logger().error(traceback.format_exc())
            self._halt("error in the control loop; see the log")
            return
        if self._pilot.gate.armed and (reason := self._output.unheard()):
            self._halt(f"{self._output.topic}: {reason}")
        self._pilot.gate.speed = self.get_parameter("speed").value  # after the command, as all that can wait
        period = self._monitor.ticked(self.get_clock().now().nanoseconds * 1e-9)
        self._scoreboard.ticked(score, period, self._pilot.inputs.joint_position, self._monitor)

    def _send(self, result: Command | Halt) -> None:
        """Publish what the gate decided; called from a tick or from the watchdog, one at a time."""
        if isinstance(result, Command):
            self._human.tell(self._pilot.taken_over)  # first: a recorder shall hear this command too
            self._output.send(result, self._pilot.inputs.joint_position, self.get_clock().now().nanoseconds * 1e-9)
            self._actions.publish(Float64MultiArray(data=result.action.tolist()))
            self._monitor.commanded(result)
            if self._output.dry:
                self._human.agreement.policy(self._pilot.proposed)
            return
        self._output.send(result, self._pilot.inputs.joint_position, self.get_clock().now().nanoseconds * 1e-9)
        self._human.tell(False)
        self._claim()
        self._diagnose(self._gate_status())
        log = self.get_logger()
        asked_for = self._pilot.gate.state is GateState.DISARMED
        log.info(f"halt: {result.reason}") if asked_for else log.warning(f"halt: {result.reason}")

    def _watch(self) -> None:
        try:
            reason = self._pilot.overdue(time.monotonic())
            if reason is not None:
                self._halt(reason)
        except Exception:  # a thread ends without a word
            self.get_logger().fatal(f"the watchdog ends:\n{traceback.format_exc()}")
            self._halt("the watchdog has ended; see the log")
            raise

    def _on_second(self) -> None:
        if self._pilot is None:
            self._diagnose(model_status(diagnostics.ERROR, self._refusal, checkpoint=self._settings.checkpoint))
            return
        self._claim()
        lines = self._monitor.statuses(self._pilot, self._watchdog is not None)
        self._diagnose(*lines, self._gate_status(self._obstacle()), self._model_status())

    def _gate_status(self, obstacle: str | None = None) -> DiagnosticStatus:
        interface = self._settings.command_interface
        return gate_status(self._pilot, obstacle, self._output.dry, interface=interface, topic=self._output.topic)

    def _model_status(self) -> DiagnosticStatus:
        agreement = {"action_difference_to_teleop": self._human.agreement.mean, "compared": self._human.agreement.count}
        values = {"checkpoint": self._settings.checkpoint, **(agreement if self._human.agreement.count else {})}
        return model_status(diagnostics.OK, self._contract.task.name, **values)

    def _diagnose(self, *lines: DiagnosticStatus) -> None:
        self._diagnostics.publish(diagnostics.array(self.get_clock().now().to_msg(), lines))


def main() -> None:
    without_shared_memory()
    sys.exit(process.run(PolicyRunner))


if __name__ == "__main__":
    main()
