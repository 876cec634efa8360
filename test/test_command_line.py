"""How the command line speaks: the near word for a misspelt one, exit codes, JSON for machines, no traceback unasked."""

from __future__ import annotations

import dataclasses
import io
import json
import subprocess
import sys
from pathlib import Path

import handmade
import numpy as np
import pytest
from test_bag import write

from irl_ros import cli, cli_results, command
from irl_ros.bringup import GRAPHS
from irl_ros.contract import Contract


def run(arguments: list[str]) -> int:
    """The exit code, also where argparse ends the program."""
    try:
        return cli.main(arguments)
    except SystemExit as ended:
        return ended.code


@pytest.fixture
def here(tmp_path: Path, monkeypatch) -> Path:
    """A working directory with a run in it: no process may start."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(subprocess.Popen, "__init__", lambda *_a, **_o: pytest.fail("a process was started"))
    handmade.checkpoint(Contract.load("panda", "reach"), np.zeros(7)).save(tmp_path / "runs/demo/checkpoint")
    (tmp_path / "runs/demo/demonstrations").mkdir()
    (tmp_path / "arms").mkdir()
    (tmp_path / "arms/mine.yaml").write_text("name: mine")
    return tmp_path


@pytest.mark.parametrize(
    "arguments, proposal",
    [
        ("demoo", "unknown command 'demoo'. Did you mean 'demo'?"),
        ("train --metod gcl", "unknown option --metod. Did you mean --method?"),
        ("evaluate --checkpoint x --episode=3 --sed 1", "unknown option --sed. Did you mean --seed?"),
        ("demo --method gclx", "unknown method 'gclx'. Did you mean 'gcl'?"),
        ("demo --task reech", "unknown task 'reech'. Did you mean 'reach'?"),
        ("demo --robot pandaa", "unknown robot 'pandaa'. Did you mean 'panda'?"),
        ("label d sucess e", "unknown outcome 'sucess'. Did you mean 'success'?"),
        ("transfer --checkpoint runs/demo/checkpoint --variant joint_lockd", "Did you mean 'joint_locked'?"),
        ("evaluate --checkpoint runs/dmo/checkpoint", "Did you mean runs/demo/checkpoint?"),
        ("deploy --checkpoint runs/demo", "Did you mean runs/demo/checkpoint?"),
        ("train --dataset runs/demo/demonstratoins", "there first. Did you mean runs/demo/demonstrations?"),
        ("inspect runs/demo", "Did you mean runs/demo/demonstrations?"),
        ("report run/demo", "Did you mean runs/demo?"),
        ("record --robot arms/mien.yaml", "Did you mean arms/mine.yaml?"),
    ],
)
def test_what_is_misspelt_is_told_with_the_near_one(here: Path, capsys, arguments: str, proposal: str):
    assert run(arguments.split()) == cli.USAGE_ERROR
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and proposal in said


def test_nothing_is_proposed_where_nothing_is_near(here: Path, capsys):
    for arguments in ("evaluate --checkpoint nowhere/at/all", "train --zzz", "report elsewhere"):
        assert run(arguments.split()) == cli.USAGE_ERROR
        assert "Did you mean" not in capsys.readouterr().err


def test_another_robots_checkpoint_and_demonstrations_are_told_with_the_options_that_fit(here: Path, capsys):
    iiwa = Contract.load("iiwa", "reach")
    own = dataclasses.replace(iiwa, robot=dataclasses.replace(iiwa.robot, name="mine"))
    handmade.checkpoint(iiwa, np.zeros(7)).save(here / "a/checkpoint")
    handmade.checkpoint(own, np.zeros(7)).save(here / "b/checkpoint")
    write(here / "shown", "episode_0000", 30)
    for arguments, said in (
        ("deploy --checkpoint a/checkpoint", "checkpoint a/checkpoint was made for robot iiwa: say --robot iiwa"),
        ("deploy --checkpoint b/checkpoint", "for robot mine: say --robot <YAML file of mine>"),
        ("train --dataset shown --task push --robot iiwa", "for robot panda and task reach: say --robot panda --task reach"),
    ):
        assert run(arguments.split()) == cli.USAGE_ERROR
        told = capsys.readouterr().err
        assert said in told and told.count("\n") == 1


@pytest.mark.parametrize(
    "raised, code, said",
    [
        (KeyboardInterrupt(), 130, ""),
        (ZeroDivisionError("division by zero"), 1, "ZeroDivisionError: division by zero. Again with --debug"),
        (PermissionError(13, "Permission denied", "/root/x"), 2, "error: /root/x: Permission denied"),
        (cli.UserError("no"), 2, "error: no"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
@pytest.mark.parametrize("debug", [False, True])
def test_exit_codes_and_a_traceback_only_where_it_is_asked_for(here, capsys, monkeypatch, raised, code, said, debug):
    def fail(_options):
        raise raised

    monkeypatch.setattr(cli_results, "_report", fail)
    assert run(["report", "runs/demo", *(["--debug"] if debug else [])]) == code
    err = capsys.readouterr().err
    assert said in err and ("Traceback" in err) == (debug and code != 130)


def test_every_command_takes_debug_before_and_after_its_name():
    parser = cli.build_parser()
    assert parser.parse_args(["--debug", "report", "x"]).debug and parser.parse_args(["report", "x", "--debug"]).debug
    assert not hasattr(parser.parse_args(["report", "x"]), "debug")


@pytest.mark.parametrize("name", [*GRAPHS, "evaluate", "transfer", "report", "inspect", "list", "split", "repair", "import", "export"])
def test_help_ends_well_and_names_what_a_machine_may_ask_for(name: str, capsys):
    assert run([name, "--help"]) == 0
    assert ("--json" in capsys.readouterr().out) == (name not in ("sim", "record", "deploy"))


def test_a_report_for_machines_leaves_stdout_to_json(here: Path, capsys, monkeypatch):
    figures = {"demonstrations": 3, "method": "gcl", "task": "reach", "robot": "panda", "environment_steps": 9}
    figures |= {"policy_episodes": 2, "policy_success_2cm": 0.5, "policy_success": 1.0, "behaviour_cloning_success": 0.0}
    (here / "runs/demo/training").mkdir()
    (here / "runs/demo/training/result.json").write_text(json.dumps(figures))
    monkeypatch.setattr("irl_ros.report.write_report", lambda run, dataset, env: run / "report.html")
    assert run(["report", "runs/demo", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["policy_success"] == 1.0 and said["report"] == "runs/demo/report.html" and "irl_ros" in said["versions"]
    assert run(["report", "runs/demo"]) == 0
    assert "report: runs/demo/report.html" in capsys.readouterr().out


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_an_evaluation_counts_and_shows_how_far_it_is(tmp_path: Path, capsys):
    handmade.checkpoint(Contract.load("panda", "reach"), np.zeros(7)).save(tmp_path)
    assert run(["evaluate", "--checkpoint", str(tmp_path), "--episodes", "3", "--json"]) == 0
    told = capsys.readouterr()
    figures = json.loads(told.out)
    assert (figures["episodes"], figures["successes"], figures["success"]) == (3, 0, 0.0), "it does not move"
    assert figures["confidence_95"] == pytest.approx([0.0, 0.5615], abs=1e-4) and "3/3" in told.err


def test_a_name_for_the_page_about_one_run_is_refused(here: Path, capsys):
    assert run("report runs/demo --out mine.html".split()) == cli.USAGE_ERROR
    assert "--out names the page about several runs" in capsys.readouterr().err


def test_colours_are_for_terminals_that_want_them(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert command.paint("x", 31, Terminal()) == "\x1b[31mx\x1b[0m" and command.paint("x", 31, io.StringIO()) == "x"
    monkeypatch.setenv("NO_COLOR", "1")
    assert command.paint("x", 31, Terminal()) == "x"


def test_an_output_that_closes_early_is_no_error(tmp_path: Path):
    code = "import sys; sys.stdout.write('a' * 10**6); sys.stdout.flush(); return_code = 0"
    script = f"from irl_ros import command\ndef f(_):\n    {code}\n    return 0\nraise SystemExit(command.run_command(f, None, ()))"
    shell = f"{sys.executable} -c \"$SCRIPT\" | head -c 1"
    ended = subprocess.run(["bash", "-c", shell], env={"SCRIPT": script, "PATH": "/usr/bin:/bin"}, capture_output=True)
    assert ended.stdout == b"a" and ended.stderr == b""
