"""`arm_sim`: the simulated arm as a ROS robot, with `/clock`, so that sim time can run faster or slower than real time.

One thread turns callbacks and physics in turn. Physics is never skipped: where the machine cannot hold the wanted
real-time factor, sim time falls behind and a warning says so.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from geometry_msgs.msg import PoseStamped
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rosgraph_msgs.msg import Clock as ClockMessage
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool, Float64MultiArray, String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from irl_ros import messages
from irl_ros.contract import POSE_TOPICS, Contract, ContractError
from irl_ros.motion import JointTrajectory as Trajectory
from irl_ros.nodes import process
from irl_ros.nodes.domain_check import foreign_node
from irl_ros.nodes.parameters import declare, parameter
from irl_ros_sim.world import TIME_STEP

BLOCK = 2
"""Physics steps between two ticks of /clock: 120 Hz of sim time."""
BLOCKS_PER_SUCCESS = 6
WATCH_PERIOD = 0.2
"""Time between two looks for nodes of another robot in this domain [s]."""
UPRIGHT = (0.0, 0.0, 0.0, 1.0)
TRAJECTORY_TYPE = "trajectory_msgs/msg/JointTrajectory"
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@dataclass(frozen=True)
class Parameters:
    robot: str = parameter("", "robot: a name in config/robots or a YAML file; empty: the task's own")
    task: str = parameter("reach", "task, a name from the package's config or the path of a YAML file")
    seed: int = parameter(
        0, "draws start pose and goal at the next reset", range=(0, 2**31 - 1), read_only=False
    )
    real_time_factor: float = parameter(1.0, "sim seconds per wall second", range=(0.1, 50.0))
    joint_state_rate: float = parameter(100.0, "rate of joint_states in sim time", "Hz", range=(1.0, 120.0))
    velocity_timeout: float = parameter(
        0.0,
        "the arm holds when velocity commands end for this long, as some drivers do; 0: never",
        "s",
        range=(0.0, 10.0),
    )
    gui: bool = parameter(False, "show the arm in a PyBullet window")
    graph_nodes: str = parameter(
        "", "names of the nodes that may command this arm, 'a,b,c': the node ends where another one could; empty: any"
    )


class Pace:
    """When the next block of sim time is due on a monotonic clock [s]; more than `patience` behind is given up."""

    wake = 0.002
    """[s] Blocks shorter than this are run several in a row: waking up costs more than a block."""
    busy = 0.004
    """[s] Callbacks get a turn after this much physics in a row, and at least this often."""
    patience = 0.25

    def __init__(self, block: float, now: float):
        """`block`: wall time of one block [s]."""
        self._block = block
        self._due = self._wake = now

    def wait(self, now: float) -> float:
        """How long to sleep before callbacks and blocks get their turn [s]."""
        return min(max(0.0, self._wake - now), self.busy)

    def run(self, advance: Callable[[], None], clock: Callable[[], float]) -> float:
        """Run the blocks that are due; returns the wall time given up because the machine is too slow [s]."""
        start = now = clock()
        if now < self._wake:
            return 0.0
        while now >= self._due and now - start < self.busy:
            advance()
            self._due += self._block
            now = clock()
        lost = now - self._due if now - self._due > self.patience else 0.0
        self._due += lost
        self._wake = self._due if now >= self._due else max(self._due, start + self.wake)
        return lost


class ArmSim(Node):
    """Steps the task's env by the topics' commands instead of by its `step`, and publishes what it measures."""

    spin_timeout = 0.0
    """[s] A command takes effect at the next block anyway, and asking costs half of what waiting does."""

    def __init__(self) -> None:
        super().__init__("arm_sim")
        self._settings = declare(self, Parameters)
        self._contract = Contract.load(self._settings.robot, self._settings.task)
        self.done, self.exit_code = False, 0
        self._env = _make_env(self._contract, self._settings.gui)
        self._robot, self._arm = self._contract.robot, self._env.arm
        self._blocks = 0
        self._refused: str | None = None
        self._velocity_at: float | None = None
        self._ticks = self.create_publisher(ClockMessage, "/clock", 1)
        self._joint_states = self.create_publisher(JointState, self._robot.joint_states.name, 10)
        self._success = self.create_publisher(Bool, "~/success", LATCHED)
        self._poses = {
            role: self.create_publisher(PoseStamped, topic.name, LATCHED) for role, topic in self._contract.task.topics
        }
        self._description = self.create_publisher(String, "robot_description", LATCHED)
        self._description.publish(String(data=self._robot.urdf_path().read_text()))
        self._reset()
        self.create_service(Trigger, "~/reset", self._on_reset)
        self._subscribe_commands()
        self._foreign: str | None = None
        if self._settings.graph_nodes:
            self.create_timer(WATCH_PERIOD, self._watch, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._pace = Pace(BLOCK * TIME_STEP / self._settings.real_time_factor, time.monotonic())
        self.get_logger().info(f"{self._robot.name} is up: task {self._contract.task.name}, sim time in /clock")

    @property
    def sim_time(self) -> float:
        """[s], never going back, resets included."""
        return self._blocks * BLOCK * TIME_STEP

    def step(self) -> None:
        """Physics that is due by now, then sleep until more is."""
        lost = self._pace.run(self._advance, time.monotonic)
        if lost:
            self.get_logger().warning(
                f"sim time falls behind: this machine cannot hold real_time_factor "
                f"{self._settings.real_time_factor}; lower it, or end other work on this machine",
                throttle_duration_sec=5.0,
            )
        time.sleep(self._pace.wait(time.monotonic()))

    def shutdown(self) -> None:
        self._env.close()

    def _watch(self) -> None:
        """End, and the graph with it, where a node of another graph or robot was found twice in a row."""
        found = foreign_node(self, self._contract, self._settings.graph_nodes.split(","))
        if found and self._foreign:
            self.get_logger().fatal(f"the simulation ends: {found}")
            self.done, self.exit_code = True, 1
        self._foreign = found

    def _advance(self) -> None:
        self._hold_when_velocities_end()
        self._arm.step(BLOCK)
        self._tick()
        rate = self._settings.joint_state_rate * BLOCK * TIME_STEP
        if int(self._blocks * rate) > int((self._blocks - 1) * rate):
            self._publish_measured(latched=False)
        if self._blocks % BLOCKS_PER_SUCCESS == 0:
            self._success.publish(Bool(data=bool(self._env.is_success())))

    def _hold_when_velocities_end(self) -> None:
        timeout, at = self._settings.velocity_timeout, self._velocity_at
        if timeout > 0 and at is not None and self.sim_time - at > timeout:
            self._arm.hold()
            self._velocity_at = None

    def _tick(self) -> None:
        self._blocks += 1
        clock = ClockMessage()
        messages.set_stamp(clock.clock, self.sim_time)
        self._ticks.publish(clock)

    def _publish_measured(self, latched: bool) -> None:
        """Joint states, and the poses that move (`latched`: all of them) at the present sim time."""
        measured, stamp = self._env.measured(), self.sim_time
        state = measured["joint_position"], measured["joint_velocity"]
        names = self._robot.joint_names
        if self._robot.gripper is not None:
            fingers = self._arm.finger_state()
            names, state = (*names, *self._robot.gripper.joint_names), map(np.append, state, fingers)
        self._joint_states.publish(messages.fill_joint_state(JointState(), names, *state, stamp))
        for role, topic in self._contract.task.topics:
            if latched or not topic.latched:
                thing = POSE_TOPICS[role]
                position, orientation = measured[f"{thing}_position"], measured.get(f"{thing}_orientation", UPRIGHT)
                pose = messages.fill_pose(PoseStamped(), position, self._robot.base_frame, stamp, orientation)
                self._poses[role].publish(pose)

    def _reset(self) -> int:
        """Reset env, commands and pace of publishing; what is published afterwards has a later stamp than before."""
        seed = self.get_parameter("seed").value
        self._env.reset(seed=seed)
        self._reset_ns = time.time_ns()
        self._tick()
        self._publish_measured(latched=True)
        self._success.publish(Bool(data=bool(self._env.is_success())))
        return seed

    def _on_reset(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.message = f"seed={self._reset()} stamp={self.sim_time:.9f}"
        response.success = True
        return response

    def _subscribe_commands(self) -> None:
        command = self._robot.command
        trajectory = command.name if command.type == TRAJECTORY_TYPE else "joint_trajectory_controller/joint_trajectory"
        for kind, topic, execute in (
            (JointTrajectory, trajectory, self._follow),
            (Float64MultiArray, "forward_velocity_controller/commands", self._group(self._move)),
            (Float64MultiArray, "forward_position_controller/commands", self._group(self._arm.command_position)),
        ):
            self.create_subscription(kind, topic, self._guard(topic, execute), 10)
        if self._contract.needs_gripper:
            topic = self._robot.gripper.command.name
            self.create_subscription(Float64MultiArray, topic, self._guard(topic, self._grip), 10)

    def _guard(self, topic: str, execute: Callable[[Any], None]) -> Callable[[Any, Any], None]:
        """A callback that refuses what cannot be executed, and what was received before the last reset."""

        def callback(msg: Any, info: Any) -> None:
            if 0 < (info["received_timestamp"] or info["source_timestamp"]) < self._reset_ns:
                return
            try:
                execute(msg)
                self._refused = None
            except messages.MessageError as error:
                refusal = f"refused a command on {topic}: {error}"
                if refusal != self._refused:
                    self.get_logger().error(refusal)
                self._refused = refusal

        return callback

    def _group(self, execute: Callable[[np.ndarray], None]) -> Callable[[Float64MultiArray], None]:
        return lambda msg: execute(messages.joint_group(msg, self._robot.n_joints))

    def _move(self, velocity: np.ndarray) -> None:
        self._velocity_at = self.sim_time
        self._arm.command_velocity(velocity)

    def _grip(self, msg: Float64MultiArray) -> None:
        self._arm.command_gripper(float(messages.joint_group(msg, len(self._robot.gripper.joint_names)).sum()))

    def _follow(self, msg: JointTrajectory) -> None:
        if not msg.points:
            self._arm.hold()
            return
        trajectory = messages.joint_trajectory(msg, self._robot.joint_names)
        stamp = messages.stamp_seconds(msg.header.stamp)
        self._arm.command(from_now(trajectory, stamp - self.sim_time if stamp else 0.0))


def from_now(trajectory: Trajectory, delay: float) -> Trajectory:
    """The part of a trajectory starting `delay` [s] from now (negative: in the past) that is still to come.

    As a joint_trajectory_controller does it: passed points are dropped, and a trajectory that has ended is refused
    with a MessageError.
    """
    times = trajectory.times + delay
    if times[-1] < 0:
        raise messages.MessageError(f"joint trajectory: it ended {-times[-1]:.3f} s ago; leave header.stamp zero")
    ahead = times >= min(TIME_STEP, times[-1])
    return Trajectory(np.maximum(times[ahead], TIME_STEP), trajectory.positions[ahead], trajectory.velocities[ahead])


def _make_env(contract: Contract, gui: bool) -> gymnasium.Env:
    contract.import_env()
    env = gymnasium.make(
        contract.task.env, contract=contract, render_mode="human" if gui else None, disable_env_checker=True
    ).unwrapped
    missing = [name for name in ("arm", "measured", "is_success") if not hasattr(env, name)]
    if missing:
        raise ContractError(f"task {contract.task.name}: its env {contract.task.env} is no arm, it lacks {missing}")
    return env


def main() -> None:
    sys.exit(process.run(ArmSim, (gymnasium.error.Error,)))


if __name__ == "__main__":
    main()
