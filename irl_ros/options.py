"""The one list of options of all graphs; launch arguments and the command line are made from it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from irl_ros import ros_domain
from irl_ros.contract import did_you_mean
from irl_ros.graph import FREE_DOMAIN
from irl_ros.learning.config import METHODS, ROLLOUT_BACKENDS
from irl_ros.messages import COMMAND_INTERFACES, JOINT_TRAJECTORY

TELEOP_MODES = ("scripted", "joy", "keyboard", "leader", "hand_guiding", "none")
OPERATED = ("joy", "keyboard", "leader", "hand_guiding")
"""Modes in which a person demonstrates, and says when an episode begins and how it ended."""


class BringupError(ValueError):
    """An option that is unknown, of the wrong type or out of range; the message names what is valid."""


def option(default: Any, help: str, unit: str = "", minimum: float | None = None, choices: tuple[str, ...] = ()) -> Any:
    """A field of :class:`Options` with what launch arguments and --help say about it."""
    return field(default=default, metadata={"help": help, "unit": unit, "minimum": minimum, "choices": choices})


@dataclass(frozen=True)
class Options:
    """Everything a user may say about a graph; each graph takes the ones that :data:`irl_ros.bringup.GRAPHS` names."""

    robot: str = option("", "robot: a name in config/robots or the path of a YAML file; empty: the task's own")
    task: str = option("reach", "task: a name in config/tasks or the path of a YAML file")
    method: str = option("gcl", "learning method", choices=METHODS)
    out: str = option("runs/demo", "run directory: demonstrations, checkpoint and results are written here")
    dataset: str = option("", "directory of recorded demonstrations; empty: record scripted ones in simulation first")
    checkpoint: str = option("runs/demo/checkpoint", "directory of the checkpoint that drives the robot")
    command_interface: str = option(
        JOINT_TRAJECTORY, "what the arm's controller takes; none: a dry run", choices=COMMAND_INTERFACES
    )
    velocity_timeout: float = option(
        0.0, "joint_group_velocity: when the robot's driver stops by itself; 0: not known", "s", minimum=0.0
    )
    speed: float = option(1.0, "share of every step that the policy takes: 0.1 for a first run", minimum=0.01)
    takeovers: str = option("", "directory for what a human drove while the policy runs; empty: <out>/takeovers")
    seed: int = option(0, "everything random comes from it", minimum=0)
    demonstrations: int = option(0, "successful episodes to record in simulation; 0: as the task asks", minimum=0)
    episodes: int = option(20, "episodes to drive in simulation", minimum=1)
    steps: int = option(0, "control periods of experience in training; 0: as the task asks", minimum=0)
    workers: int = option(0, "simulation processes in training; 0: one per core, two at most", minimum=0)
    rollout_backend: str = option("local", "where these run; ray: on a Ray cluster (irl_ros[ray])", choices=ROLLOUT_BACKENDS)
    ray_address: str = option("auto", "auto: the cluster that runs here, else one for this training; local; or host:port")
    device: str = option("auto", "where networks learn", choices=("auto", "cpu", "cuda"))
    held_out: int = option(-1, "demonstrations the reward never sees; -1: one in six, so none of five", minimum=-1)
    randomise: bool = option(False, "draw the task's randomisation anew in every simulated episode of training")
    stop_when_converged: bool = option(False, "end training when its health figures say that it has converged")
    resume: bool = option(False, "go on from the state that an unfinished training left in `out`")
    real_time_factor: float = option(2.0, "simulated seconds per second", minimum=0.1)
    domain: int = option(
        FREE_DOMAIN, "ROS domain of a simulation, 0 to 232; -1: a free one, apart from every robot", minimum=FREE_DOMAIN
    )
    gui: bool = option(False, "show the simulated arm in a window")
    simulate: bool = option(True, "a simulated arm, and a session that conducts it; false: your robot, and you")
    teleop: str = option(
        "scripted",
        "who demonstrates, or who may take over from the policy; hand_guiding: no teleoperation",
        choices=TELEOP_MODES,
    )
    operator: str = option("", "who demonstrates; kept with every episode")
    joystick: str = option(
        "", "teleop joy: the joystick's device, such as /dev/input/js0; empty: another node publishes `joy`"
    )
    leader: str = option("leader/joint_states", "teleop leader: the topic of the other arm's joint states")
    start_on_motion: bool = option(False, "a start waits for the arm's first motion")
    success_topic: str = option("", "topic (std_msgs/Bool) on which the task says that it is done: ends an episode")
    timeout: float = option(0.0, "end an episode after this; 0: never", "s", minimum=0.0)
    noise: float = option(0.1, "standard deviation of the scripted demonstrator's tremble, in actions", minimum=0.0)
    namespace: str = option("", "ROS namespace of the whole graph; empty: none")
    params_file: str = option("", "YAML file of ROS parameters for the nodes, read last: it overrides all others")

    def __post_init__(self) -> None:
        for spec in dataclasses.fields(self):
            _check(spec, getattr(self, spec.name))
        if self.simulate and self.teleop == "hand_guiding":
            raise BringupError("option teleop: nobody can guide a simulated arm by hand; say simulate false too")


def operating(options: Options) -> dict[str, Any]:
    """Parameters of the recorder by which a person conducts; a script is conducted by the session."""
    if options.teleop not in OPERATED:
        return {"operator": options.operator, "bell": False}
    names = ("operator", "start_on_motion", "success_topic", "timeout")
    keys = {"joystick": options.teleop == "joy", "keyboard": options.teleop != "keyboard"}
    return {**keys, **{name: getattr(options, name) for name in names}}


def parse(kind: type, name: str, value: Any) -> Any:
    """`value`, perhaps a string, as `kind`; raises BringupError."""
    if not isinstance(value, str) or kind is str:
        return float(value) if kind is float and type(value) is int else value
    words = {"true": True, "false": False}
    try:
        return words[value.lower()] if kind is bool else kind(value)
    except (KeyError, ValueError):
        wanted = "true or false" if kind is bool else f"a number ({kind.__name__})"
        raise BringupError(f"option {name}: {value!r} is not {wanted}") from None


def _check(spec: dataclasses.Field, value: Any) -> None:
    minimum, choices = spec.metadata["minimum"], spec.metadata["choices"]
    if type(value) is not type(spec.default):
        raise BringupError(f"option {spec.name}: {value!r} is not a {type(spec.default).__name__}")
    if choices and value not in choices:
        raise BringupError(f"option {spec.name}: unknown {value!r}.{did_you_mean(value, choices)}")
    if minimum is not None and not minimum <= value < float("inf"):
        raise BringupError(f"option {spec.name}: {value} is not a number from {minimum:g} up")
    if spec.name == "domain" and value > ros_domain.LAST:
        raise BringupError(f"option domain: {value} is no ROS domain; valid: 0 to {ros_domain.LAST}")
    if spec.name == "params_file" and value and not Path(value).expanduser().is_file():
        raise BringupError(f"option params_file: no file {value}")
