"""Nothing that a checkpoint or a bag names is imported, unless an option on the command line names it too."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dds
import handmade
import numpy as np
import pytest
from lifecycle_msgs.msg import Transition
from runners import change, runner
from test_bag import write

from irl_ros.checkpoint import Checkpoint
from irl_ros.contract import Contract, ContractError, Topic, resolve_path
from irl_ros.contract_lookup import locate_package
from irl_ros.graph import Node
from irl_ros.learning.environment import EnvSpec
from irl_ros.nodes.intake import _message_type
from irl_ros.report import write_report
from irl_ros.starter import node_command

CONTRACT = Contract.load("panda", "reach")
CHECKPOINT = handmade.checkpoint(CONTRACT, np.zeros(7))
EVIL = "from pathlib import Path\nPath(__file__).with_name('imported').write_text('')\n"
STATES = {"name": "joint_states", "type": "sensor_msgs/msg/JointState"}


@pytest.fixture
def strange(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stranger's directory, the working one: with evilpkg, which leaves a file behind where it is imported."""
    for directory in (tmp_path / "evilpkg", tmp_path / "evilpkg" / "sub"):
        directory.mkdir()
        (directory / "__init__.py").write_text(EVIL)
    (tmp_path / "evilpkg" / "sub" / "robot.urdf").write_text("<robot/>")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def imported(directory: Path) -> bool:
    return any(directory.rglob("imported"))


def forged(directory: Path, forge: Callable[[dict[str, Any]], None]) -> Path:
    """A checkpoint whose description `forge` has changed."""
    CHECKPOINT.save(directory)
    handmade.rewrite(directory, lambda manifest: forge(manifest["description"]))
    return directory


def strange_urdf(description: dict[str, Any]) -> None:
    description["urdf"] = ""
    description["contract"]["robot"]["urdf"] = "evilpkg.sub:robot.urdf"


def strange_env(description: dict[str, Any]) -> None:
    description["contract"]["task"]["env"] = "evilpkg:Evil-v0"


def command(*words: object) -> subprocess.CompletedProcess[str]:
    """`irl_ros`, started so that Python looks into the working directory first."""
    line = [sys.executable, "-m", "irl_ros.cli", *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("package", ["evilpkg", "evilpkg.sub", "evilpkg.sub.more"])
def test_a_package_of_the_working_directory_is_neither_imported_nor_found(strange: Path, monkeypatch, package: str):
    monkeypatch.syspath_prepend("")
    monkeypatch.syspath_prepend(str(strange))
    with pytest.raises(ContractError, match="is not installed"):
        resolve_path(f"{package}:robot.urdf", "urdf")
    assert not imported(strange) and "evilpkg" not in sys.modules


def test_an_installed_package_is_found_without_being_imported(strange: Path, monkeypatch):
    monkeypatch.syspath_prepend(str(strange))
    monkeypatch.chdir("/")
    assert resolve_path("evilpkg:sub/robot.urdf", "urdf") == strange / "evilpkg/sub/robot.urdf"
    with pytest.raises(ContractError, match="'evilpkg.sub' is not installed .*give a top-level package"):
        resolve_path("evilpkg.sub:robot.urdf", "urdf")
    assert not imported(strange) and "evilpkg" not in sys.modules


def test_own_packages_are_found():
    assert locate_package("irl_ros_sim") is not None and locate_package("pybullet_data") is not None


@pytest.mark.parametrize("inside", ["../secret", "sub/../../secret", "/etc/hostname"])
def test_a_path_does_not_lead_out_of_its_package(inside: str):
    with pytest.raises(ContractError, match="leads out of the package 'irl_ros_sim'"):
        resolve_path(f"irl_ros_sim:{inside}", "urdf")


def test_a_message_type_of_the_working_directory_is_not_imported(strange: Path, monkeypatch):
    (strange / "evilpkg" / "msg.py").write_text("class Evil: ...\n")
    monkeypatch.syspath_prepend(str(strange))
    with pytest.raises(ContractError, match="no message type 'evilpkg/msg/Evil' is installed"):
        _message_type(Topic("x", "evilpkg/msg/Evil", 1.0))
    assert not imported(strange) and "evilpkg" not in sys.modules


def test_inspect_imports_nothing_that_a_bag_names(strange: Path):
    robot = dataclasses.replace(CONTRACT.robot, urdf="evilpkg.sub:robot.urdf")
    write(strange / "bags", "episode_0000", contract=Contract(robot, CONTRACT.task))
    result = command("inspect", strange / "bags")
    assert result.returncode in (0, 1, 2) and "Traceback" not in result.stderr and not imported(strange), result


def test_evaluate_imports_no_env_that_only_a_checkpoint_names_and_says_how_to_allow_it(strange: Path):
    checkpoint = forged(strange / "checkpoint", strange_env)
    result = command("evaluate", "--checkpoint", checkpoint, "--episodes", 1)
    assert result.returncode == 2 and "--env evilpkg:Evil-v0" in result.stderr and not imported(strange), result
    other = command("evaluate", "--checkpoint", checkpoint, "--episodes", 1, "--env", "evilpkg:Other-v0")
    assert other.returncode == 2 and not imported(strange), other
    allowed = command("evaluate", "--checkpoint", checkpoint, "--episodes", 1, "--env", "evilpkg:Evil-v0")
    assert imported(strange), allowed  # the option does what it says, and this test can fail


def test_report_and_transfer_import_no_env_either(strange: Path):
    checkpoint = forged(strange / "run" / "checkpoint", strange_env)
    result = command("transfer", "--checkpoint", checkpoint, "--variant", "x", "--out", strange / "out")
    assert result.returncode == 2 and "--env evilpkg:Evil-v0" in result.stderr and not imported(strange), result
    result = command("report", strange / "run")
    assert "Traceback" not in result.stderr and not imported(strange), result
    assert "--env evilpkg:Evil-v0" in write_report(strange / "run").read_text() and not imported(strange)


def test_a_contract_from_a_file_stays_one_when_it_is_changed(strange: Path):
    contract = Checkpoint.load(forged(strange / "checkpoint", strange_env)).contract
    later = dataclasses.replace(contract, task=dataclasses.replace(contract.task, horizon=10))
    for spec in (EnvSpec(contract), EnvSpec(later)):
        for use in (spec.find, spec.make):
            with pytest.raises(ContractError, match="--env evilpkg:Evil-v0"):
                use()
    assert not imported(strange)


def test_a_shipped_env_needs_no_option(tmp_path: Path):
    EnvSpec(Checkpoint.load(forged(tmp_path, lambda _: None)).contract).make().close()


def test_nodes_of_the_starter_import_nothing_from_the_working_directory(strange: Path):
    for name in ("numpy", "random", "yaml"):
        (strange / f"{name}.py").write_text(EVIL)
    line = node_command(Node("irl_ros.nodes.teleop", "teleop", "teleop", {}), [])
    assert line[0] == sys.executable
    # As far as its parameters, of which one is wrong.
    result = subprocess.run([*line, "-p", "mode:=none"], capture_output=True, text=True, timeout=60, env=dds.environment(0))
    assert result.returncode != 0 and "mode" in result.stderr and not imported(strange), result


def test_a_runner_in_a_strangers_directory_imports_nothing(strange: Path):
    checkpoint = forged(strange / "checkpoint", strange_urdf)
    with dds.domain() as domain, runner(domain, checkpoint) as process, dds.client(domain) as client:
        change(client, Transition.TRANSITION_CONFIGURE)
        process.stop()
        assert os.getcwd() == str(strange) and not imported(strange), process.output


@pytest.mark.parametrize("where", ["recorded", "topics"])
@pytest.mark.parametrize("task", ["", "reach"])
def test_a_checkpoint_that_overrides_the_robots_joint_states_does_not_configure(tmp_path: Path, where: str, task: str):
    def forge(description: dict[str, Any]) -> None:
        description["contract"]["task"][where].append(["joint_states", {**STATES, "max_age": 50.0}])

    checkpoint = forged(tmp_path / "checkpoint", forge)
    with dds.domain() as domain, runner(domain, checkpoint, task=task) as process, dds.client(domain) as client:
        assert not change(client, Transition.TRANSITION_CONFIGURE)
        process.wait_output("joint_states")
