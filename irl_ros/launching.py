"""Turns the graphs of :mod:`irl_ros.bringup` into launch_ros actions; for launch files, needs a ROS 2 distribution."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch import LaunchContext, LaunchDescription
from launch.action import Action
from launch.actions import DeclareLaunchArgument, EmitEvent, LogInfo, OpaqueFunction, RegisterEventHandler
from launch.actions import SetEnvironmentVariable
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown, matches_action
from launch.events.process import ProcessExited, ShutdownProcess
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node as LaunchNode
from launch_ros.parameter_descriptions import ParameterValue

from irl_ros.bringup import GRAPHS, Recipe
from irl_ros.graph import ENVIRONMENT, Graph, Node, Stage, environment, write_parameters
from irl_ros.contract import load_robot


class StageError(RuntimeError):
    """A node ended that should not have."""


def describe(graph_name: str) -> LaunchDescription:
    """The launch description of a graph: its options as launch arguments, its stages one after the other."""
    recipe = GRAPHS[graph_name]
    arguments = [_argument(name, kind, default, data) for name, kind, default, data in recipe.fields()]
    environment = [SetEnvironmentVariable(n, value) for n, value in ENVIRONMENT.items() if n not in os.environ]
    return LaunchDescription([*arguments, *environment, OpaqueFunction(function=_start, args=[recipe])])


def _argument(name: str, kind: type, default: Any, data: Any) -> DeclareLaunchArgument:
    unit = f" [{data['unit']}]" if data["unit"] else ""
    text = str(default).lower() if kind is bool else str(default)
    help = data["help"] + unit
    return DeclareLaunchArgument(name, default_value=text, description=help, choices=data["choices"] or None)


def _start(context: LaunchContext, recipe: Recipe) -> list[Action]:
    values = {name: LaunchConfiguration(name).perform(context) for name in recipe.options}
    directory = Path(tempfile.mkdtemp(prefix="irl_ros_"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    graph = recipe.graph(**values)
    stack = contextlib.ExitStack()
    atexit.register(stack.close)  # a simulation's domain is held as long as the launch lasts
    variables, said = stack.enter_context(environment(graph))
    shown = [LogInfo(msg=said)] if said else []
    return [*shown, *_state_publisher(graph, variables), *_stage_actions(graph.stages, directory, variables)]


def _state_publisher(graph: Graph, variables: Mapping[str, str]) -> list[Action]:
    """Transforms of a simulated arm's links, for RViz, where robot_state_publisher is installed; a real arm's driver
    brings its own."""
    arm = next((node for stage in graph.stages for node in stage.nodes if node.executable == "arm_sim"), None)
    try:
        get_package_prefix("robot_state_publisher")
    except (PackageNotFoundError, OSError):  # the latter: no workspace is sourced
        arm = None
    if arm is None:
        return []
    urdf = load_robot(str(arm.parameters["robot"])).urdf_path().read_text()
    parameters = {"robot_description": ParameterValue(urdf, value_type=str), "use_sim_time": True}
    name = "robot_state_publisher"
    # Its own robot_description would be a second one beside the arm's.
    remappings = [("robot_description", f"{name}/robot_description")]
    return [
        LaunchNode(
            package=name,
            executable=name,
            namespace=arm.namespace,
            parameters=[parameters],
            remappings=remappings,
            additional_env=dict(variables),
        )
    ]


def _stage_actions(stages: tuple[Stage, ...], directory: Path, variables: Mapping[str, str]) -> list[Action]:
    """The first stage's nodes, and what follows when one of them exits."""
    stage, later = stages[0], stages[1:]
    actions = {node.name: _launch_node(node, directory, variables) for node in stage.nodes}
    progress = _StageProgress(stage, actions, lambda: _stage_actions(later, directory, variables) if later else [])
    exits = [OnProcessExit(target_action=action, on_exit=progress.on_exit) for action in actions.values()]
    return [*map(RegisterEventHandler, exits), *actions.values()]


class _StageProgress:
    """What the exit of a stage's node leads to: the end of the stage, the next stage, or the end of the launch."""

    def __init__(self, stage: Stage, actions: dict[str, LaunchNode], later: Callable[[], list[Action]]):
        """`later`: the actions of what follows the stage, none after the last one."""
        self._stage, self._actions, self._later = stage, actions, later
        self._running = set(actions)
        self._complete = False

    def on_exit(self, event: ProcessExited, context: LaunchContext) -> list[Action] | None:
        """Called once for each node of the stage; the error ends the launch, and makes its exit code 1."""
        name = next(name for name, action in self._actions.items() if action is event.action)
        self._running.discard(name)
        if context.is_shutdown:
            return None
        if not self._complete:
            if name != self._stage.leader or event.returncode != 0:
                raise StageError(f"{self._stage.name} failed: {name} ended with exit code {event.returncode}")
            self._complete = True
        if not self._running:
            return self._next()
        # SIGINT now, SIGTERM and SIGKILL after launch's usual patience; a second request changes nothing.
        running = [self._actions[other] for other in sorted(self._running)]
        return [EmitEvent(event=ShutdownProcess(process_matcher=matches_action(action))) for action in running]

    def _next(self) -> list[Action]:
        return self._later() or [EmitEvent(event=Shutdown(reason=f"{self._stage.name} is complete"))]


def _launch_node(node: Node, directory: Path, variables: Mapping[str, str]) -> LaunchNode:
    return LaunchNode(
        package="irl_ros",
        executable=node.executable,
        name=node.name,
        namespace=node.namespace,
        parameters=[str(path) for path in write_parameters(node, directory)],
        remappings=list(node.remappings),
        output="screen",
        sigterm_timeout=str(node.patience),
        additional_env=dict(variables),
    )
