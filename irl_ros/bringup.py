"""Which nodes, parameters and remappings make up each graph: as data.

Two starters read it: :mod:`irl_ros.launching` turns a graph into launch_ros actions on a ROS 2 distribution,
:mod:`irl_ros.starter` into child processes on a machine without one. :class:`Options` is the one list of options;
launch arguments and the command line are made from it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from irl_ros.contract import did_you_mean

TELEOP_MODES = ("scripted", "joy", "keyboard")

ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""Set for every node where the user has not: many processes with small networks are fastest with a thread each."""


class BringupError(ValueError):
    """An option that is unknown, of the wrong type or out of range; the message names what is valid."""


def option(default: Any, help: str, unit: str = "", minimum: float | None = None, choices: tuple[str, ...] = ()) -> Any:
    """A field of :class:`Options` with what launch arguments and --help say about it."""
    return field(default=default, metadata={"help": help, "unit": unit, "minimum": minimum, "choices": choices})


@dataclass(frozen=True)
class Options:
    """Everything a user may say about a graph; each graph takes the ones that :data:`GRAPHS` names."""

    robot: str = option("panda", "robot: a name in config/robots or the path of a YAML file")
    task: str = option("reach", "task: a name in config/tasks or the path of a YAML file")
    method: str = option("gcl", "learning method")
    out: str = option("runs/demo", "run directory: demonstrations, checkpoint and results are written here")
    dataset: str = option("", "directory of recorded demonstrations; empty: record scripted ones in simulation first")
    checkpoint: str = option("runs/demo/checkpoint", "directory of the checkpoint that drives the robot")
    seed: int = option(0, "everything random comes from it", minimum=0)
    demonstrations: int = option(5, "episodes to record", minimum=1)
    episodes: int = option(20, "episodes to drive", minimum=1)
    steps: int = option(20_000, "control periods of simulated experience in training", minimum=1)
    real_time_factor: float = option(5.0, "simulated seconds per second", minimum=0.1)
    gui: bool = option(False, "show the simulated arm in a window")
    simulate: bool = option(True, "start the simulated arm; false: a real robot's topics are there already")
    teleop: str = option("scripted", "who demonstrates", choices=TELEOP_MODES)
    noise: float = option(0.1, "standard deviation of the scripted demonstrator's tremble, in actions", minimum=0.0)
    namespace: str = option("", "ROS namespace of the whole graph; empty: none")
    params_file: str = option("", "YAML file of ROS parameters for the nodes, read last: it overrides all others")

    def __post_init__(self) -> None:
        for spec in dataclasses.fields(self):
            _check(spec, getattr(self, spec.name))


@dataclass(frozen=True)
class Node:
    """A process: `python -m module`, the package's `executable`, under the node name `name`."""

    module: str
    executable: str
    name: str
    parameters: Mapping[str, bool | int | float | str]
    remappings: tuple[tuple[str, str], ...] = ()
    namespace: str = ""
    params_file: str = ""
    terminal: bool = False
    """Whether it reads the terminal's stdin."""


@dataclass(frozen=True)
class Stage:
    """Nodes that run together until the leader exits: 0 leads on, anything else fails the graph with that code.

    Any other node's exit fails the graph too. Without a leader the stage runs until it is stopped.
    """

    name: str
    nodes: tuple[Node, ...]
    leader: str | None = None


@dataclass(frozen=True)
class Graph:
    """Stages, one after the other."""

    name: str
    stages: tuple[Stage, ...]


@dataclass(frozen=True)
class Recipe:
    """How a graph is made: its builder, what it is for, the options it takes, and defaults of its own."""

    build: Callable[[Options], Graph]
    help: str
    options: tuple[str, ...]
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def fields(self) -> list[tuple[str, type, Any, Mapping[str, Any]]]:
        """(name, type, default, metadata) of each option, for launch arguments and --help."""
        specs = {spec.name: spec for spec in dataclasses.fields(Options)}
        chosen = [(name, specs[name]) for name in self.options]
        return [(n, type(s.default), self.defaults.get(n, s.default), s.metadata) for n, s in chosen]

    def graph(self, **values: Any) -> Graph:
        """The graph for these option values, strings as they come from a launch file included; BringupError."""
        for name in values:
            if name not in self.options:
                raise BringupError(f"unknown option {name!r}.{did_you_mean(name, self.options)}")
        kinds = {spec.name: type(spec.default) for spec in dataclasses.fields(Options)}
        parsed = {name: parse(kinds[name], name, value) for name, value in {**self.defaults, **values}.items()}
        return self.build(Options(**parsed))


def sim_graph(options: Options) -> Graph:
    """The simulated arm alone."""
    return Graph("sim", (Stage("sim", (_arm(options),)),))


def record_graph(options: Options) -> Graph:
    """Teleoperation, recorded as one bag per episode in `<out>/demonstrations`."""
    return Graph("record", (_record_stage(options),))


def train_graph(options: Options) -> Graph:
    """Training on `dataset`; without one, scripted demonstrations are recorded in simulation first."""
    if options.dataset:
        return Graph("train", (_train_stage(options, options.dataset),))
    recorded = dataclasses.replace(options, simulate=True, teleop="scripted")
    return Graph("train", (_record_stage(recorded), _train_stage(options, demonstrations_directory(options))))


def deploy_graph(options: Options) -> Graph:
    """The checkpoint drives the robot for `episodes` episodes; results in `<out>/deployment.json`."""
    return Graph("deploy", (_deploy_stage(options, options.checkpoint),))


def demo_graph(options: Options) -> Graph:
    """Record, train and deploy in simulation."""
    record, train = _record_stage(options), _train_stage(options, demonstrations_directory(options))
    return Graph("demo", (record, train, _deploy_stage(options, checkpoint_directory(options))))


def demonstrations_directory(options: Options) -> str:
    """Where a run's bags lie."""
    return str(Path(options.out) / "demonstrations")


def checkpoint_directory(options: Options) -> str:
    """Where a run's checkpoint lies."""
    return str(Path(options.out) / "checkpoint")


def _node(options: Options, module: str, executable: str, **parameters: Any) -> Node:
    clock = {"use_sim_time": options.simulate and executable != "irl_trainer"}
    return Node(
        module,
        executable,
        executable,
        {**parameters, **clock},
        namespace=options.namespace,
        params_file=str(Path(options.params_file).expanduser().resolve()) if options.params_file else "",
    )


def _arm(options: Options) -> Node:
    node = _node(
        options,
        "irl_ros_sim.arm_node",
        "arm_sim",
        robot=options.robot,
        task=options.task,
        seed=options.seed,
        real_time_factor=options.real_time_factor,
        gui=options.gui,
    )
    # The arm makes the clock: following its own would stop it.
    return dataclasses.replace(node, parameters={**node.parameters, "use_sim_time": False})


def _robot_nodes(options: Options) -> tuple[Node, ...]:
    return (_arm(options),) if options.simulate else ()


def _session(options: Options, phase: str, episodes: int) -> Node:
    parts = {"phase": phase, "robot": options.robot, "task": options.task, "out": options.out}
    return _node(options, "irl_ros.nodes.session", "session", episodes=episodes, seed=options.seed, **parts)


def _record_stage(options: Options) -> Stage:
    robot = {"robot": options.robot, "task": options.task}
    human = {"mode": options.teleop, "noise": options.noise, "seed": options.seed}
    teleop = dataclasses.replace(
        _node(options, "irl_ros.nodes.teleop", "teleop", **robot, **human), terminal=options.teleop == "keyboard"
    )
    recorder = _node(
        options, "irl_ros.nodes.recorder", "demo_recorder", **robot, out=demonstrations_directory(options)
    )
    session = _session(options, "record", options.demonstrations)
    return Stage("record", (*_robot_nodes(options), teleop, recorder, session), leader="session")


def _train_stage(options: Options, dataset: str) -> Stage:
    trainer = _node(
        options,
        "irl_ros.nodes.trainer",
        "irl_trainer",
        dataset=dataset,
        robot=options.robot,
        task=options.task,
        method=options.method,
        seed=options.seed,
        out=options.out,
        environment_steps=options.steps,
    )
    return Stage("train", (trainer,), leader="irl_trainer")


def _deploy_stage(options: Options, checkpoint: str) -> Stage:
    robot = {"robot": options.robot, "task": options.task}
    runner = _node(options, "irl_ros.nodes.policy_runner", "policy_runner", **robot, checkpoint=checkpoint)
    session = _session(options, "deploy", options.episodes)
    return Stage("deploy", (*_robot_nodes(options), runner, session), leader="session")


_EVERY = ("robot", "task", "seed", "namespace", "params_file")
_SIMULATOR = ("real_time_factor", "gui")

GRAPHS: dict[str, Recipe] = {
    "sim": Recipe(sim_graph, "the simulated arm as a robot", (*_EVERY, *_SIMULATOR), {"real_time_factor": 1.0}),
    "record": Recipe(
        record_graph,
        "record demonstrations as bags",
        (*_EVERY, *_SIMULATOR, "out", "demonstrations", "teleop", "noise", "simulate"),
        {"out": "runs/record", "real_time_factor": 1.0},
    ),
    "train": Recipe(
        train_graph,
        "learn reward and policy from demonstrations",
        (*_EVERY, *_SIMULATOR, "out", "dataset", "method", "steps", "demonstrations", "noise"),
        {"out": "runs/train"},
    ),
    "deploy": Recipe(
        deploy_graph,
        "drive the robot by a learned policy",
        (*_EVERY, *_SIMULATOR, "out", "checkpoint", "episodes", "simulate"),
        {"out": "runs/deploy", "real_time_factor": 1.0},
    ),
    "demo": Recipe(
        demo_graph,
        "record, train and deploy in simulation",
        (*_EVERY, *_SIMULATOR, "out", "method", "steps", "demonstrations", "episodes", "noise"),
    ),
}


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


def write_parameters(node: Node, directory: Path) -> list[Path]:
    """The node's parameter files in the order they are read: the graph's, written into `directory`, then the user's.

    A file keeps types that the command line would guess at ("007" stays a string). JSON is YAML.
    """
    path = directory / f"{node.name}.yaml"
    path.write_text(json.dumps({"/**": {"ros__parameters": dict(node.parameters)}}, indent=1, allow_nan=False))
    return [path, *([Path(node.params_file)] if node.params_file else [])]


def _check(spec: dataclasses.Field, value: Any) -> None:
    minimum, choices = spec.metadata["minimum"], spec.metadata["choices"]
    if type(value) is not type(spec.default):
        raise BringupError(f"option {spec.name}: {value!r} is not a {type(spec.default).__name__}")
    if choices and value not in choices:
        raise BringupError(f"option {spec.name}: unknown {value!r}.{did_you_mean(value, choices)}")
    if minimum is not None and not minimum <= value < float("inf"):
        raise BringupError(f"option {spec.name}: {value} is not a number from {minimum:g} up")
    if spec.name == "params_file" and value and not Path(value).expanduser().is_file():
        raise BringupError(f"option params_file: no file {value}")
