"""The launch files under the real launch and, where the package is in a sourced workspace, the real `ros2 launch`."""

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("launch_ros", reason="launch files need a ROS 2 distribution")

from launch import LaunchContext  # noqa: E402
from launch.actions import DeclareLaunchArgument, OpaqueFunction  # noqa: E402

from irl_ros import launching  # noqa: E402
from irl_ros.bringup import GRAPHS  # noqa: E402

FILES = sorted((Path(__file__).resolve().parent.parent / "launch").glob("*.launch.py"))


def in_a_workspace() -> bool:
    prefixes = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
    return any((Path(p) / "lib" / "irl_ros" / "arm_sim").is_file() for p in prefixes if p)


workspace = pytest.mark.skipif(
    shutil.which("ros2") is None or not in_a_workspace(), reason="build this package with colcon and source it"
)


def description(path: Path):
    spec = importlib.util.spec_from_file_location("launch_file", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.generate_launch_description()


def test_every_graph_has_a_launch_file():
    assert [path.name.partition(".")[0] for path in FILES] == sorted(GRAPHS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_launch_arguments_are_the_options_and_their_defaults_work(path):
    recipe = GRAPHS[path.name.partition(".")[0]]
    context, actions = LaunchContext(), description(path).entities
    arguments = [action for action in actions if isinstance(action, DeclareLaunchArgument)]
    assert [argument.name for argument in arguments] == list(recipe.options)
    for action in actions:
        started = action.execute(context)
    assert isinstance(actions[-1], OpaqueFunction)
    nodes = recipe.graph().stages[0].nodes
    assert len(started) == 2 * len(nodes), "a handler of its exit and a start for each node of the first stage"


@contextlib.contextmanager
def ros2_launch(*arguments: str, domain: int):
    from dds import environment

    command = [shutil.which("ros2"), "launch", "--noninteractive", "irl_ros", *arguments]
    process = subprocess.Popen(
        command,
        env=environment(domain),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@workspace
def test_ros2_launch_brings_up_the_arm_and_takes_it_down():
    import dds
    from sensor_msgs.msg import JointState

    with dds.domain() as domain, ros2_launch("sim.launch.py", "real_time_factor:=2", domain=domain) as launched:
        with dds.client(domain) as client:
            states = client.collect(JointState, "joint_states", dds.SENSOR)
            client.wait(lambda: len(states) > 10, "joint states")
        launched.send_signal(signal.SIGINT)
        output, _ = launched.communicate(timeout=30)
        assert "[arm_sim-1]: process has finished cleanly" in output


@workspace
def test_ros2_launch_fails_when_a_node_fails(tmp_path):
    import dds

    with dds.domain() as domain:
        arguments = "train.launch.py", f"dataset:={tmp_path / 'nowhere'}", f"out:={tmp_path}"
        with ros2_launch(*arguments, domain=domain) as launched:
            output, _ = launched.communicate(timeout=60)
    assert launched.returncode == 1
    assert "train failed: irl_trainer ended with exit code" in output


@workspace
def test_ros2_launch_names_a_wrong_option():
    import dds

    with dds.domain() as domain, ros2_launch("sim.launch.py", "seed:=one", domain=domain) as launched:
        output, _ = launched.communicate(timeout=30)
    assert launched.returncode == 1
    assert "option seed: 'one' is not a number" in output


@pytest.mark.parametrize("simulate, installed", [("true", True), ("false", True), ("true", False)])
def test_a_simulated_arm_gets_transforms_where_their_publisher_is_installed(tmp_path, monkeypatch, simulate, installed):
    marker = tmp_path / "share/ament_index/resource_index/packages/robot_state_publisher"
    marker.parent.mkdir(parents=True)
    if installed:
        marker.touch()
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))  # the index's own way of finding what is installed
    values = {"robot": "iiwa", "teleop": "scripted", "simulate": simulate, "namespace": "left"}
    started = launching._state_publisher(GRAPHS["record"].graph(**values))
    assert len(started) == (installed and simulate == "true")
    for node in started:
        assert node.node_package == "robot_state_publisher"
        (parameters,) = node._Node__parameters
        description = {"".join(p.text for p in name): value for name, value in parameters.items()}
        assert "lbr_iiwa_joint_7" in description["robot_description"].evaluate(LaunchContext())
