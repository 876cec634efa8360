"""What policy_runner is started with: its parameters, the checkpoint that fits the robot, and the pilot made of both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import JointState

from irl_ros.checkpoint import Checkpoint, CheckpointError
from irl_ros.contract import Contract, ContractError, Safety, Topic, load_robot, load_safety, load_task
from irl_ros.control.caution import Caution
from irl_ros.control.controller import Controller
from irl_ros.control.pilot import Pilot, Send
from irl_ros.kinematics import Kinematics
from irl_ros.messages import COMMAND_INTERFACES, DRY_RUN, GROUP_VELOCITY, JOINT_TRAJECTORY
from irl_ros.nodes.parameters import ParameterError, parameter

MESSAGE_TYPES = {"sensor_msgs/msg/JointState": JointState, "geometry_msgs/msg/PoseStamped": PoseStamped}
LOOP_MARGIN = 0.1
"""[s] beyond one period without a tick."""
SLOWEST = 10.0
"""Seconds of real time that a second of simulated time may last."""
SAME_PLACE = 1e-3
"""[m] between two ends of an arm that count as one."""


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
    speed: float = parameter(1.0, "share of every step that is taken", range=(0.01, 1.0), read_only=False)
    unlike: str = parameter(
        "halt",
        "what is measured is unlike the demonstrations: go slower, then halt; or only tell",
        choices=("halt", "tell"),
    )

    def __post_init__(self) -> None:
        if self.command_interface == GROUP_VELOCITY and not self.velocity_timeout > 0:
            raise ParameterError(
                "parameter velocity_timeout: a velocity goes on when its sender dies, so command_interface "
                "joint_group_velocity needs a robot driver that stops by itself; say after how many seconds (above 0 "
                "to 10 s), or use joint_trajectory"
            )


def make_pilot(settings: Parameters, send: Send, simulated: bool, warn: Callable[[str], object]) -> Pilot:
    """Checkpoint, controller and gate, everything checked. Raises CheckpointError, ContractError."""
    checkpoint = load_fitting(settings.checkpoint, settings.robot, settings.task)
    controller, robot = Controller(checkpoint), settings.robot or checkpoint.contract.robot.name
    safety = load_safety(robot)
    if safety == Safety():
        warn(f"robot {robot} has no safety limits in its file: no acceleration, margin or box")
    timeout = (SLOWEST if simulated else 1.0) * checkpoint.contract.task.period + LOOP_MARGIN
    caution = Caution(controller.likeness_threshold) if settings.unlike == "halt" else None
    dry = settings.command_interface == DRY_RUN
    kinematics = own_kinematics(robot, checkpoint, warn)
    interface = settings.command_interface
    return Pilot(controller, send, timeout, safety, caution, dry, kinematics, simulated, interface)


def own_kinematics(robot: str, checkpoint: Checkpoint, warn: Callable[[str], object]) -> Kinematics:
    """Kinematics by the URDF of the robot's file here; by the checkpoint's where that URDF is not on this machine. The
    gate's own in both cases: the watchdog's thread asks them too.

    Raises ContractError where the two disagree about where the end effector is: a longer tool, another mounting.
    """
    parsed, trained = load_robot(robot), Kinematics(checkpoint.contract.robot, checkpoint.urdf or None)
    try:
        parsed.urdf_path()
    except ContractError as error:
        warn(f"the gate goes by the checkpoint's kinematics: {error}")
        return trained
    own, quarters = Kinematics(parsed), np.array([0.25, 0.5, 0.75])[:, None]
    between = (1.0 - quarters) * np.array(parsed.position_lower) + quarters * np.array(parsed.position_upper)
    apart = max(float(np.linalg.norm(own.position(q) - trained.position(q))) for q in (np.array(parsed.home), *between))
    if apart > SAME_PLACE:
        raise ContractError(
            f"robot {parsed.name}: by its URDF the end effector is {apart:.3f} m from where the checkpoint's has it in "
            "the same pose; give the URDF and end_effector_frame that it was trained with, or train again"
        )
    return own


def load_fitting(directory: str, robot: str, task: str = "") -> Checkpoint:
    """Return the checkpoint in `directory` if it was made for `robot` and, where one is named, for `task`.

    Limits and topics of the robot are those of its file here, the task is the checkpoint's without what it records.
    Raises CheckpointError when it cannot be read, ContractError naming every field that differs.
    """
    if not directory:
        raise CheckpointError("parameter checkpoint is empty: give the directory of a trained checkpoint")
    checkpoint = Checkpoint.load(directory)
    if checkpoint.contract.robot is None:
        raise ContractError(f"checkpoint {directory} was made for an env without a robot; give one made for a robot")
    if not robot and set(checkpoint.contract.robot.name) & set("/.~"):  # a path would bring limits of its own
        raise ContractError("parameter robot is empty, and the checkpoint names no robot of config/robots: name yours")
    parsed = load_robot(robot or checkpoint.contract.robot.name)
    here = Contract(parsed, replace(load_task(task, parsed) if task else checkpoint.contract.task, recorded=()))
    differences = here.differences(checkpoint.contract)
    if differences:
        raise ContractError(f"checkpoint {directory} does not fit robot {robot!r}: {'; '.join(differences)}")
    return replace(checkpoint, contract=here)


def message_type(topic: Topic) -> type:
    """The message class of an observation's topic; raises ContractError where it is none that can be read."""
    if topic.type not in MESSAGE_TYPES:
        valid = ", ".join(MESSAGE_TYPES)
        raise ContractError(f"topic {topic.name}: type {topic.type} is not supported; valid: {valid}")
    return MESSAGE_TYPES[topic.type]

