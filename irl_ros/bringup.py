"""Which nodes, parameters and remappings make up each graph: as data.

Two starters read it: :mod:`irl_ros.launching` turns a graph into launch_ros actions on a ROS 2 distribution,
:mod:`irl_ros.starter` into child processes on a machine without one. Launch arguments and the command line are made
from :data:`GRAPHS` and :class:`irl_ros.options.Options`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from irl_ros.contract import Contract, did_you_mean
from irl_ros.contract_yaml import task_demonstrations, task_robot
from irl_ros.graph import FREE_DOMAIN, SIMULATED_ARM, Graph, Node, Stage
from irl_ros.learning.config import TrainConfig, check_method
from irl_ros.messages import DRY_RUN, JOINT_TRAJECTORY
from irl_ros.options import OPERATED, TELEOP_MODES, BringupError, Options, operating, parse


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
        """The graph for these option values, strings as they come from a launch file included.

        Raises BringupError for an option, ContractError for a robot or task and ConfigError for a method that cannot
        be: before anything starts.
        """
        for name in values:
            if name not in self.options:
                raise BringupError(f"unknown option {name!r}.{did_you_mean(name, self.options)}")
        kinds = {spec.name: type(spec.default) for spec in dataclasses.fields(Options)}
        parsed = {name: parse(kinds[name], name, value) for name, value in {**self.defaults, **values}.items()}
        options = Options(**parsed)
        options = dataclasses.replace(options, robot=options.robot or task_robot(options.task))
        check_method(options.method, Contract.load(options.robot, options.task))
        TrainConfig.from_options(options, options.task)  # a wrong option in the task's file is found before anything starts
        return _guarded(self.build(options), options)


def _guarded(graph: Graph, options: Options) -> Graph:
    """The graph in the domain that the options name, where it is guarded against robots that are there too."""
    graph = dataclasses.replace(graph, domain=options.domain)
    if not graph.simulated or options.domain == FREE_DOMAIN:
        return graph
    check = _node(options, "irl_ros.nodes.domain_check", "domain_check", robot=options.robot, task=options.task)
    check = dataclasses.replace(check, parameters={**check.parameters, "use_sim_time": False})
    return dataclasses.replace(graph, stages=(Stage("check", (check,), leader=check.name), *map(_watched, graph.stages)))


def _watched(stage: Stage) -> Stage:
    """The stage with a simulated arm that knows which nodes belong to it, and ends where others meet it."""
    names = ",".join(node.name for node in stage.nodes)
    nodes = tuple(
        dataclasses.replace(node, parameters={**node.parameters, "graph_nodes": names})
        if node.executable == SIMULATED_ARM
        else node
        for node in stage.nodes
    )
    return dataclasses.replace(stage, nodes=nodes)


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
    alone = dataclasses.replace(options, teleop="none")
    return Graph("demo", (record, train, _deploy_stage(alone, checkpoint_directory(options))))


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
        SIMULATED_ARM,
        robot=options.robot,
        task=options.task,
        seed=options.seed,
        real_time_factor=options.real_time_factor,
        gui=options.gui,
    )
    # The arm makes the clock: following its own would stop it.
    return dataclasses.replace(node, parameters={**node.parameters, "use_sim_time": False})


def _conducted(options: Options, name: str, nodes: tuple[Node, ...], episodes: int, phase: str = "") -> Stage:
    """In simulation an arm is added, and a session that conducts and leads; on a robot that is the operator."""
    if not options.simulate:
        return Stage(name, nodes)
    parts = {"robot": options.robot, "task": options.task, "seed": options.seed, "out": options.out}
    session = _node(options, "irl_ros.nodes.session", "session", phase=phase or name, episodes=episodes, **parts)
    return Stage(name, (_arm(options), *nodes, session), leader="session")


def _record_stage(options: Options) -> Stage:
    if options.teleop == "none":
        others = ", ".join(mode for mode in TELEOP_MODES if mode != "none")
        raise BringupError(f"option teleop: none demonstrates nothing; valid: {others}")
    by_hand, operated = options.teleop == "hand_guiding", options.teleop in OPERATED
    recorder = _recorder(options, demonstrations_directory(options), by_hand, **operating(options))
    # A terminal has one reader: a keyboard that moves the arm passes the keys for episodes on.
    recorder = dataclasses.replace(recorder, terminal=operated and options.teleop != "keyboard")
    nodes = (recorder,) if by_hand else (*_joystick(options), _teleop(options, takeover=operated), recorder)
    wanted = options.demonstrations or task_demonstrations(options.task)
    return _conducted(options, "record", nodes, wanted, "accompany" if operated else "")


def _recorder(options: Options, out: str, by_hand: bool, **more: Any) -> Node:
    parts = {"robot": options.robot, "task": options.task, "out": out, **more}
    shown = "hand_guiding" if by_hand else "command"
    return _node(options, "irl_ros.nodes.recorder", "demo_recorder", demonstrated_by=shown, **parts)


def _joystick(options: Options) -> tuple[Node, ...]:
    """The joystick's driver, where it is ours to start."""
    if options.teleop != "joy" or not options.joystick:
        return ()
    return (_node(options, "irl_ros.nodes.joystick", "joystick", device=options.joystick),)


def _teleop(options: Options, **more: Any) -> Node:
    human = {"mode": options.teleop, "noise": options.noise, "seed": options.seed, **more}
    if options.teleop == "leader":
        human["leader_topic"] = options.leader
    robot = {"robot": options.robot, "task": options.task}
    teleop = _node(options, "irl_ros.nodes.teleop", "teleop", **robot, **human)
    return dataclasses.replace(teleop, terminal=options.teleop == "keyboard")


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
        steps=options.steps,
        workers=options.workers,
        rollout_backend=options.rollout_backend,
        ray_address=options.ray_address,
        device=options.device,
        held_out=options.held_out,
        stop_when_converged=options.stop_when_converged,
        randomise=options.randomise,
        resume=options.resume,
    )
    # Stopped, it saves what it has learned.
    return Stage("train", (dataclasses.replace(trainer, patience=30.0),), leader="irl_trainer")


def _deploy_stage(options: Options, checkpoint: str) -> Stage:
    robot = {"robot": options.robot, "task": options.task}
    runner = _node(
        options,
        "irl_ros.nodes.policy_runner",
        "policy_runner",
        **robot,
        checkpoint=checkpoint,
        command_interface=options.command_interface,
        velocity_timeout=options.velocity_timeout,
        speed=options.speed,
    )
    return _conducted(options, "deploy", (runner, *_joystick(options), *_humans(options)), options.episodes)


def _humans(options: Options) -> tuple[Node, ...]:
    """Who drives beside the policy, and a recorder of it: through the runner's gate, in a dry run by themselves."""
    if options.teleop == "none":
        return ()
    if options.teleop == "hand_guiding":
        raise BringupError("option teleop: who takes over from a policy does it by scripted, joy, keyboard or leader")
    if options.command_interface == DRY_RUN:
        return (_teleop(options),)
    robot = Contract.load(options.robot, options.task).robot
    remappings = [(robot.command.name, "teleop/command")]
    if robot.gripper is not None:
        remappings.append((robot.gripper.command.name, "teleop/gripper_command"))
    # Of commands that are no trajectories the recorder can read nothing: the arm's own motion is left.
    by_hand = options.command_interface != JOINT_TRAJECTORY
    out = options.takeovers or str(Path(options.out) / "takeovers")
    recorder = _recorder(options, out, by_hand, takeover="policy_runner/takeover")
    return dataclasses.replace(_teleop(options, takeover=True), remappings=tuple(remappings)), recorder


_EVERY = ("robot", "task", "seed", "namespace", "params_file")
_OPERATING = ("operator", "joystick", "leader", "start_on_motion", "success_topic", "timeout")
_SIMULATOR = ("real_time_factor", "gui", "domain")
_ROLLOUTS = ("workers", "rollout_backend", "ray_address")
_LEARNING = ("out", "method", "steps", *_ROLLOUTS, "device", "held_out", "stop_when_converged", "randomise")
_COMMANDING = ("command_interface", "velocity_timeout", "speed", "teleop", "joystick", "leader", "noise", "takeovers")
_TRAINING = (*_LEARNING, "demonstrations", "noise")

GRAPHS: dict[str, Recipe] = {
    "sim": Recipe(sim_graph, "the simulated arm as a robot", (*_EVERY, *_SIMULATOR), {"real_time_factor": 1.0}),
    "record": Recipe(
        record_graph,
        "record demonstrations as bags",
        (*_EVERY, *_SIMULATOR, "out", "demonstrations", "teleop", "noise", "simulate", *_OPERATING),
        {"out": "runs/record", "real_time_factor": 1.0},
    ),
    "train": Recipe(
        train_graph,
        "learn reward and policy from demonstrations",
        (*_EVERY, *_SIMULATOR, *_TRAINING, "dataset", "resume"),
        {"out": "runs/train"},
    ),
    "deploy": Recipe(
        deploy_graph,
        "drive the robot by a learned policy",
        (*_EVERY, *_SIMULATOR, "out", "checkpoint", "episodes", "simulate", *_COMMANDING),
        {"out": "runs/deploy", "real_time_factor": 1.0, "teleop": "none"},
    ),
    "demo": Recipe(
        demo_graph,
        "record, train and deploy in simulation",
        (*_EVERY, *_SIMULATOR, *_TRAINING, "episodes"),
    ),
}
