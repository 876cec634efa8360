"""policy_runner: drives the arm by a learned policy and tells, live, how well it does by the learned reward.

A lifecycle node. Configure loads the checkpoint and checks it against the robot; while active it listens; it commands
while active and enabled (`~/enable`). Every command passes the gate (:mod:`irl_ros.control.gate`), and a watchdog
thread halts the arm when an input goes stale or the loop stops ticking.
"""

from __future__ import annotations

import functools
import math
import sys
import time
import traceback
from collections import deque
from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import OccupancyGrid
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64, Float64MultiArray
from std_srvs.srv import SetBool
from visualization_msgs.msg import MarkerArray

from irl_ros import messages
from irl_ros.checkpoint import Checkpoint, CheckpointError
from irl_ros.contract import Contract, ContractError, Topic, load_robot, load_task
from irl_ros.control.controller import Controller
from irl_ros.control.gate import Command, GateError, GateState, Halt
from irl_ros.control.pilot import Pilot, Score
from irl_ros.messages import COMMAND_INTERFACES, GROUP_VELOCITY, JOINT_TRAJECTORY
from irl_ros.nodes import diagnostics, markers, process
from irl_ros.nodes.lifecycle import transition
from irl_ros.nodes.monitor import Monitor, model_status
from irl_ros.nodes.outputs import RELIABLE, CommandOutput
from irl_ros.nodes.parameters import ParameterError, declare, parameter
from irl_ros.nodes.reward_map import occupancy_grid
from irl_ros.nodes.watchdog import Watchdog

LOOP_MARGIN = 0.1  # [s] beyond one period without a tick
MARKER_PERIOD, PATH_LENGTH = 0.2, 200  # [s], ticks
MESSAGE_TYPES = {
    "sensor_msgs/msg/JointState": JointState,
    "geometry_msgs/msg/PoseStamped": PoseStamped,
}
SENSOR = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@dataclass(frozen=True)
class Parameters:
    """Parameters of the node."""

    robot: str = parameter("", "robot: a name in config/robots or a YAML file; empty: the one the checkpoint names")
    task: str = parameter("", "task to hold the checkpoint against: a name or a YAML file; empty: the checkpoint's own")
    checkpoint: str = parameter("", "directory of the checkpoint")
    command_interface: str = parameter(
        JOINT_TRAJECTORY,
        "what the arm's controller takes; none: a dry run, shown on ~/proposal",
        choices=COMMAND_INTERFACES,
    )
    velocity_timeout: float = parameter(
        0.0,
        "joint_group_velocity: how long after the last command the robot's driver stops by itself; 0: not known",
        "s",
        range=(0.0, 10.0),
    )

    def __post_init__(self) -> None:
        if self.command_interface == GROUP_VELOCITY and not self.velocity_timeout > 0:
            raise ParameterError(
                "parameter velocity_timeout: a velocity goes on when its sender dies, so command_interface "
                "joint_group_velocity needs a robot driver that stops by itself; say after how many seconds (above 0 "
                "to 10 s), or use joint_trajectory"
            )


def load_fitting(directory: str, robot: str, task: str = "") -> Checkpoint:
    """The checkpoint in `directory` if it was made for `robot` and, where one is named, for `task`.

    Raises CheckpointError when it cannot be read, ContractError naming every field that differs.
    """
    if not directory:
        raise CheckpointError("parameter checkpoint is empty: give the directory of a trained checkpoint")
    checkpoint = Checkpoint.load(directory)
    parsed = load_robot(robot or checkpoint.contract.robot.name)
    here = Contract(parsed, load_task(task, parsed) if task else checkpoint.contract.task)
    differences = here.differences(checkpoint.contract)
    if differences:
        raise ContractError(f"checkpoint {directory} does not fit robot {robot!r}: {'; '.join(differences)}")
    return checkpoint


class PolicyRunner(LifecycleNode):
    """Subscribes to the contract's observation topics, publishes on its command topic."""

    def __init__(self) -> None:
        super().__init__("policy_runner")
        self._settings = declare(self, Parameters)
        self._refusal = "not configured"
        self._contract: Contract | None = None
        self._pilot: Pilot | None = None
        self._watchdog: Watchdog | None = None
        self._timer = self._marker_timer = None
        self._subscriptions_built, self._publishers_built = [], []
        self._monitor, self._path = Monitor(), deque(maxlen=PATH_LENGTH)
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._diagnostics = self.create_publisher(DiagnosticArray, diagnostics.TOPIC, RELIABLE)
        self.create_timer(1.0, self._publish_diagnostics, clock=self._steady)
        self.create_service(SetBool, "~/enable", self._on_enable)

    @transition(CheckpointError, ContractError)
    def on_configure(self, _state: LifecycleState) -> None:
        """Load and check everything; refused with the differing fields named."""
        checkpoint = load_fitting(self._settings.checkpoint, self._settings.robot, self._settings.task)
        self._contract = checkpoint.contract
        simulated = self.get_parameter("use_sim_time").value
        timeout = math.inf if simulated else self._contract.task.period + LOOP_MARGIN
        self._pilot = Pilot(Controller(checkpoint), self._send, timeout)
        self._build()
        self._refusal = ""
        self.get_logger().info(f"checkpoint {self._settings.checkpoint}: {self._contract.task.name} loaded")

    @transition()
    def on_activate(self, _state: LifecycleState) -> None:
        """Listen and score; commands wait for `~/enable`."""
        self._monitor = Monitor()
        self._timer = self.create_timer(self._contract.task.period, self._tick)
        self._marker_timer = self.create_timer(MARKER_PERIOD, self._publish_markers, clock=self._steady)
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

    def _build(self) -> None:
        topics, settings = self._contract.topics, self._settings
        self._output = CommandOutput(
            self._contract, settings.command_interface, settings.velocity_timeout, self._publisher
        )
        self._score_publishers = {
            name: self._publisher(Float64, f"~/{name}", RELIABLE)
            for name in ("reward", "episode_return", "demo_likeness")
        }
        self._actions = self._publisher(Float64MultiArray, "~/action", RELIABLE)
        self._markers = self._publisher(MarkerArray, "~/markers", LATCHED)
        if (rewards := self._pilot.controller.reward_map) is not None:
            frame = self._contract.robot.base_frame
            reward_map = occupancy_grid(self._contract.task.grid, rewards, frame)
            self._publisher(OccupancyGrid, "~/reward_map", LATCHED).publish(reward_map)
        for role in self._pilot.inputs.roles:
            receive = functools.partial(self._on_message, role)
            qos = LATCHED if topics[role].latched else SENSOR
            kind = _message_type(topics[role])
            self._subscriptions_built.append(self.create_subscription(kind, topics[role].name, receive, qos))

    def _publisher(self, kind: type, topic: str, qos: QoSProfile) -> object:
        """A plain publisher: an inactive lifecycle publisher would drop the halt in silence."""
        publisher = self.create_publisher(kind, topic, qos)
        self._publishers_built.append(publisher)
        return publisher

    def _stop(self, reason: str) -> None:
        """Timers and watchdog first, the halt last; tolerates a half-built node."""
        for timer in filter(None, (self._timer, self._marker_timer)):
            self.destroy_timer(timer)
        self._timer = self._marker_timer = None
        if self._watchdog is not None:
            self._watchdog.stop()
            self._watchdog = None
        if self._pilot is not None and self._pilot.disable(reason, time.monotonic()):
            self._output.wait()

    def _tear_down(self) -> None:
        self._stop("shut down")
        for subscription in self._subscriptions_built:
            self.destroy_subscription(subscription)
        for publisher in self._publishers_built:
            self.destroy_publisher(publisher)
        self._subscriptions_built, self._publishers_built = [], []
        self._pilot = self._contract = None

    def _on_message(self, role: str, message: object) -> None:
        try:
            quantities = messages.measured(message, role, self._contract)
        except messages.MessageError as error:
            self._monitor.rejected[f"refused: {role}"] += 1
            self.get_logger().warning(f"message refused: {role}: {error}", throttle_duration_sec=5.0)
            return
        self._pilot.inputs.update(role, quantities, time.monotonic())

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
        others = [] if self._output.dry else self._other_publishers()
        if others:
            raise GateError(
                f"not enabled: {self._output.topic} has another publisher ({', '.join(others)}); stop it, or "
                "wait: one that was killed is only forgotten when its DDS lease ends (about 20 s)"
            )
        self._pilot.enable(time.monotonic())
        self._path.clear()
        self._monitor.limited.clear()

    def _disable(self) -> None:
        if self._pilot is not None:
            self._pilot.disable("disabled", time.monotonic())

    def _other_publishers(self) -> list[str]:
        """Who else publishes commands; a second node of our own name counts."""
        infos = self.get_publishers_info_by_topic(self._output.topic)
        names = [f"{info.node_namespace.rstrip('/')}/{info.node_name}" for info in infos]
        if (own := self.get_fully_qualified_name()) in names:
            names.remove(own)
        return names

    def _tick(self) -> None:
        self._monitor.ticked(self.get_clock().now().nanoseconds * 1e-9)
        try:
            score = self._pilot.tick(time.monotonic)
        except Exception:
            self.get_logger().error(traceback.format_exc())
            self._pilot.halt("error in the control loop; see the log", time.monotonic())
            return
        if score is not None:
            self._publish_score(score)

    def _publish_score(self, score: Score) -> None:
        self._monitor.score = score
        self._score_publishers["demo_likeness"].publish(Float64(data=score.likeness))
        if score.reward is not None:
            self._score_publishers["reward"].publish(Float64(data=score.reward))
            self._score_publishers["episode_return"].publish(Float64(data=score.episode_return))
            self._path.append((self._pilot.inputs.joint_position, score.reward))

    def _send(self, result: Command | Halt) -> None:
        """Publish what the gate decided; called from a tick or from the watchdog, one at a time."""
        self._output.send(result, self._pilot.inputs.joint_position)
        if isinstance(result, Halt):
            if self._pilot.gate.state is GateState.DISARMED:  # asked for
                self.get_logger().info(f"halt: {result.reason}")
            else:
                self.get_logger().warning(f"halt: {result.reason}")
            return
        self._actions.publish(Float64MultiArray(data=result.action.tolist()))
        self._monitor.limited.update(result.limited)

    def _watch(self) -> None:
        now = time.monotonic()
        reason = self._pilot.overdue(now)
        if reason is not None:
            self._pilot.halt(reason, now)

    def _publish_markers(self) -> None:
        points = [self._pilot.controller.end_effector(q) for q, _ in self._path]
        rewards = [reward for _, reward in self._path]
        self._markers.publish(markers.path(points, rewards, self._contract.robot.base_frame))

    def _publish_diagnostics(self) -> None:
        if self._pilot is None:
            lines = [model_status(diagnostics.ERROR, self._refusal, checkpoint=self._settings.checkpoint)]
        else:
            lines = self._monitor.statuses(self._pilot, self._settings.checkpoint, self._watchdog is not None)
        self._diagnostics.publish(diagnostics.array(self.get_clock().now().to_msg(), lines))


def _message_type(topic: Topic) -> type:
    if topic.type not in MESSAGE_TYPES:
        valid = ", ".join(MESSAGE_TYPES)
        raise ContractError(f"topic {topic.name}: type {topic.type} is not supported; valid: {valid}")
    return MESSAGE_TYPES[topic.type]


def main() -> None:
    sys.exit(process.run(PolicyRunner))


if __name__ == "__main__":
    main()
