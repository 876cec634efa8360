"""The graphs are well formed: modules exist, parameters are ones their nodes declare, options are checked."""

import ast
import dataclasses
import importlib
import importlib.util
from pathlib import Path

import pytest

from irl_ros.bringup import GRAPHS
from irl_ros.contract import ContractError, share_directory
from irl_ros.learning.config import ConfigError, TrainConfig
from irl_ros.options import BringupError, Options

EVERY_GRAPH = [recipe.graph() for recipe in GRAPHS.values()]
EVERY_GRAPH += [GRAPHS["train"].graph(dataset="bags")]
EVERY_GRAPH += [GRAPHS["record"].graph(simulate=False, teleop=mode) for mode in ("joy", "keyboard", "leader", "hand_guiding")]
EVERY_GRAPH += [GRAPHS["record"].graph(teleop="joy", joystick="/dev/input/js0")]
EVERY_GRAPH += [GRAPHS["deploy"].graph(teleop=mode) for mode in ("scripted", "joy")]
EVERY_GRAPH += [GRAPHS["deploy"].graph(teleop="scripted", command_interface="none")]
NODES = {f"{i}-{g.name}-{s.name}-{n.name}": n for i, g in enumerate(EVERY_GRAPH) for s in g.stages for n in s.nodes}


def declared_parameters(module_name: str) -> dict[str, dataclasses.Field]:
    """Fields of the dataclass that the node's module hands to `declare(self, …)`."""
    module = importlib.import_module(module_name)
    calls = [node for node in ast.walk(ast.parse(Path(module.__file__).read_text())) if isinstance(node, ast.Call)]
    kinds = {c.args[1].id for c in calls if getattr(c.func, "id", getattr(c.func, "attr", "")) == "declare"}
    assert len(kinds) == 1, f"{module_name} declares its parameters once, by a dataclass"
    return {field.name: field for field in dataclasses.fields(getattr(module, kinds.pop()))}


@pytest.mark.parametrize("node", NODES.values(), ids=NODES)
def test_nodes_exist_and_declare_what_they_are_given(node):
    pytest.importorskip("rclpy")
    assert importlib.util.find_spec(node.module) is not None
    declared = declared_parameters(node.module)
    for name, value in node.parameters.items():
        if name == "use_sim_time":  # every ROS node has it
            continue
        assert name in declared, f"{node.name} has no parameter {name}"
        assert type(value) is type(declared[name].default), name
        choices = declared[name].metadata["choices"]
        assert not choices or value in choices


@pytest.mark.parametrize("graph", EVERY_GRAPH, ids=lambda graph: graph.name)
def test_stages_have_a_leader_among_their_nodes(graph):
    for stage in graph.stages:
        names = [node.name for node in stage.nodes]
        assert len(set(names)) == len(names)
        assert stage.leader is None or stage.leader in names
    assert all(stage.leader for stage in graph.stages[:-1]), "a stage without a leader never leads on"


def test_all_but_the_clocks_maker_and_the_trainer_follow_simulated_time():
    for stage in GRAPHS["demo"].graph().stages:
        for node in stage.nodes:
            follows = node.executable not in ("arm_sim", "irl_trainer")
            assert node.parameters["use_sim_time"] is follows, node.name


def test_a_real_robots_graph_has_no_simulated_arm_and_wall_time():
    for name in ("record", "deploy"):
        for node in GRAPHS[name].graph(simulate=False).stages[0].nodes:
            assert node.executable not in ("arm_sim", "session") and node.parameters["use_sim_time"] is False


def test_a_human_beside_the_policy_commands_through_its_gate_and_is_recorded():
    graph = GRAPHS["deploy"].graph(teleop="scripted", out="here", speed="0.1")
    nodes = {node.executable: node for node in graph.stages[0].nodes}
    assert dict(nodes["teleop"].remappings)["joint_trajectory_controller/joint_trajectory"] == "teleop/command"
    assert nodes["teleop"].parameters["takeover"] is True and nodes["policy_runner"].parameters["speed"] == 0.1
    recorder = nodes["demo_recorder"].parameters
    assert (recorder["out"], recorder["takeover"]) == ("here/takeovers", "policy_runner/takeover")
    assert recorder["demonstrated_by"] == "command"
    other = GRAPHS["deploy"].graph(teleop="joy", takeovers="there", command_interface="joint_group_position")
    (recorder,) = [n.parameters for n in other.stages[0].nodes if n.executable == "demo_recorder"]
    assert (recorder["out"], recorder["demonstrated_by"]) == ("there", "hand_guiding")


def test_in_a_dry_run_the_human_drives_the_robot_itself():
    nodes = {n.executable: n for n in GRAPHS["deploy"].graph(teleop="joy", command_interface="none").stages[0].nodes}
    assert not nodes["teleop"].remappings and "takeover" not in nodes["teleop"].parameters
    assert "demo_recorder" not in nodes and nodes["policy_runner"].parameters["command_interface"] == "none"


def test_nobody_takes_over_in_a_demo_and_nobody_records_without_a_demonstrator():
    assert {n.executable for n in GRAPHS["demo"].graph().stages[2].nodes} == {"arm_sim", "policy_runner", "session"}
    with pytest.raises(BringupError, match="teleop: none demonstrates nothing"):
        GRAPHS["record"].graph(teleop="none")
    with pytest.raises(BringupError, match="teleop: who takes over"):
        GRAPHS["deploy"].graph(teleop="hand_guiding", simulate=False)


def test_hand_guiding_has_no_teleoperation():
    (recorder,) = GRAPHS["record"].graph(simulate=False, teleop="hand_guiding").stages[0].nodes
    assert recorder.parameters["demonstrated_by"] == "hand_guiding"
    with pytest.raises(BringupError, match="simulate false"):
        GRAPHS["record"].graph(teleop="hand_guiding")


def test_a_run_lies_in_one_directory():
    record, train, deploy = GRAPHS["demo"].graph(out="here").stages
    by_name = {node.name: node.parameters for stage in (record, train, deploy) for node in stage.nodes}
    assert by_name["demo_recorder"]["out"] == by_name["irl_trainer"]["dataset"] == "here/demonstrations"
    assert by_name["policy_runner"]["checkpoint"] == "here/checkpoint"
    assert by_name["irl_trainer"]["out"] == by_name["session"]["out"] == "here"


def test_a_task_says_how_many_demonstrations_it_needs(tmp_path: Path):
    def recorded(**options) -> int:
        (session,) = [n for n in GRAPHS["record"].graph(**options).stages[0].nodes if n.executable == "session"]
        return session.parameters["episodes"]

    assert recorded() == 5 and recorded(task="reach_grid") == 10
    assert recorded(task="reach_grid", demonstrations=3) == 3
    none = tmp_path / "none.yaml"
    none.write_text((share_directory() / "config/tasks/reach.yaml").read_text() + "demonstrations: none\n")
    with pytest.raises(ContractError, match="demonstrations must be a whole number from 1 up, not 'none'"):
        recorded(task=str(none))


def test_training_records_first_only_without_a_dataset():
    assert [stage.name for stage in GRAPHS["train"].graph().stages] == ["record", "train"]
    (stage,) = GRAPHS["train"].graph(dataset="bags").stages
    assert stage.nodes[0].parameters["dataset"] == "bags"


def test_strings_of_a_launch_file_become_typed_options():
    graph = GRAPHS["sim"].graph(seed="7", real_time_factor="2", gui="True", robot="iiwa")
    arm = graph.stages[0].nodes[0].parameters
    assert (arm["seed"], arm["real_time_factor"], arm["gui"], arm["robot"]) == (7, 2.0, True, "iiwa")
    assert type(arm["real_time_factor"]) is float


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sead": 1}, "Did you mean 'seed'"),
        ({"seed": "one"}, "option seed: 'one' is not a number"),
        ({"seed": -1}, "option seed: -1 is not a number from 0 up"),
        ({"seed": 1.5}, "option seed: 1.5 is not a int"),
        ({"gui": "maybe"}, "not true or false"),
        ({"teleop": "joystick"}, "Valid: scripted, joy, keyboard, leader, hand_guiding"),
        ({"noise": "nan"}, "option noise"),
        ({"params_file": "/no/such.yaml"}, "option params_file: no file"),
    ],
)
def test_wrong_options_are_named(values, message):
    with pytest.raises(BringupError, match=message):
        GRAPHS["record"].graph(**values)


def test_every_option_is_described_and_used():
    names = {field.name for field in dataclasses.fields(Options)}
    assert names == {name for recipe in GRAPHS.values() for name in recipe.options}
    for recipe in GRAPHS.values():
        for name, kind, default, metadata in recipe.fields():
            assert metadata["help"] and type(default) is kind, name


def test_health_options_reach_the_trainer():
    for graph in ("train", "demo"):
        for given in ({}, {"held_out": "2", "stop_when_converged": "true"}):
            stage = next(stage for stage in GRAPHS[graph].graph(**given).stages if stage.name == "train")
            parameters = stage.nodes[0].parameters
            assert (parameters["held_out"], parameters["stop_when_converged"]) == ((2, True) if given else (-1, False))


def test_a_task_brings_its_robot_and_its_training(tmp_path: Path):
    text = (share_directory() / "config/tasks/reach.yaml").read_text()
    task = tmp_path / "mine.yaml"
    task.write_text(text + "robot: iiwa\ntraining: {environment_steps: 3000, policy_step: {initial_std: 0.3}}\n")
    (train,) = GRAPHS["train"].graph(task=str(task), dataset="data").stages
    assert train.nodes[0].parameters["robot"] == "iiwa" and train.nodes[0].parameters["steps"] == 0
    config = TrainConfig.from_options(Options(), str(task))
    assert (config.environment_steps, config.policy_step.initial_std) == (3000, 0.3)
    told = TrainConfig.from_options(Options(steps=500, workers=3, held_out=1, method="airl"), str(task))
    assert (told.environment_steps, told.workers, told.held_out, told.method) == (500, 3, 1, "airl")
    assert TrainConfig.from_options(Options(randomise=True), str(task)).randomise and not told.randomise
    assert GRAPHS["sim"].graph(task=str(task), robot="panda").stages[0].nodes[0].parameters["robot"] == "panda"
    task.write_text(text + "training: {environment_step: 3000}\n")
    with pytest.raises(ConfigError, match="unknown option 'environment_step'. Did you mean 'environment_steps'"):
        GRAPHS["demo"].graph(task=str(task))
    task.write_text(text + "training: 3000\n")
    with pytest.raises(ContractError, match="training must be a mapping of options"):
        GRAPHS["demo"].graph(task=str(task))
