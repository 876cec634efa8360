"""Sweeps: what a plan says, and a sweep on a real cluster that loses a worker, a node, and the sweep itself."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import expert_demonstrations
import numpy as np
import pytest
import ray_rig  # before Ray
import yaml

from irl_ros.cli import main
from irl_ros.contract import Contract, share_directory
from irl_ros.data.episode import Demonstrations
from irl_ros.learning.config import ConfigError, TrainConfig
from irl_ros.learning.diagnostics import Health
from irl_ros.learning.sweep_plan import Plan, Range, distinct, name_of
from irl_ros.learning.train import train

TRIAL = "ImplicitFunc"
"""Tune's actor for a run."""


@pytest.fixture(scope="module")
def task(tmp_path_factory) -> Path:
    """A task with short episodes, its demonstrations beside it."""
    directory = tmp_path_factory.mktemp("task")
    data = yaml.safe_load((share_directory() / "config/tasks/reach.yaml").read_text())
    (directory / "brief.yaml").write_text(yaml.safe_dump({**data, "horizon": 8}, sort_keys=False))
    shown = expert_demonstrations.demonstrations(Contract.load("panda", str(directory / "brief.yaml")), 3)
    (directory / "shown").mkdir()
    for episode in shown:
        where = directory / "shown" / f"{episode.name}.npz"
        np.savez(where, observations=episode.observations, actions=episode.actions)
    return directory / "brief.yaml"


def write(where: Path, task: Path, **more: object) -> Path:
    training = {"environment_steps": 4 * 6 * 8, "batch_episodes": 6, "evaluation_episodes": 4}
    data = {"tasks": {str(task): str(task.parent / "shown")}, "training": training}
    where.write_text(yaml.safe_dump({**data, **more}, sort_keys=False))
    return where


def test_a_plan_is_every_combination_with_the_same_draws_for_all(tmp_path: Path, task: Path):
    features = [["joint_position"], ["end_effector_to_goal", "action"]]
    vary = {"method": ["gcl", "airl"], "seed": [0, 1, 2], "reward_features": features}
    ranges = {"reward.lcr": {"low": 1.0, "high": 10.0, "log": True}, "clone.steps": {"low": 1, "high": 3}}
    plan = Plan.read(write(tmp_path / "p.yaml", task, vary={**vary, **ranges}, draws=4))
    assert plan.count == 2 * 3 * 2 * 4 and plan.ranges["clone.steps"] == Range(1, 3)
    runs = list(plan.combinations({"reward.lcr": (2.0,), "clone.steps": (2,)}))
    assert len(runs) == 12 and len({name_of(run) for run in runs}) == 12
    config, contract = plan.config(runs[-1]), plan.contract(runs[-1])
    assert (config.method, config.seed, config.reward.lcr, config.clone.steps) == ("airl", 2, 2.0, 2)
    assert (config.stop_when_converged, config.stop_when_unhealthy, config.batch_episodes) == (True, 5, 6)
    assert contract.task.reward_features == tuple(features[1]) and contract.task.horizon == 8
    assert name_of(runs[-1]) == "task-brief_method-airl_seed-2_reward_features-end_effector_to_goal+action_lcr-2_steps-2"


@pytest.mark.parametrize(
    "more, message",
    [
        ({"tasks": {}}, "tasks must name each task"),
        ({"varied": {}}, "unknown entry 'varied'. Did you mean 'vary'?"),
        ({"vary": {"methods": ["gcl"]}}, "unknown option 'methods'. Did you mean 'method'?"),
        ({"vary": {"method": ["gcl", "gclx"]}}, "unknown method 'gclx'. Did you mean 'gcl'?"),
        ({"vary": {"method": ["maxent"]}}, "method maxent needs a task with a grid"),
        ({"vary": {"seed": 3}}, "vary: seed must be a list of values or a range"),
        ({"vary": {"seed": []}}, "vary: seed has nothing to choose from"),
        ({"vary": {"reward.lcr": {"low": 2.0, "high": 1.0}}}, "vary: reward.lcr: low must be a number below high"),
        ({"vary": {"reward.lcr": ["much"]}}, "option lcr: 'much' is not a float"),
        ({"vary": {"workers": [1, 2]}}, "vary: workers changes no result"),
        ({"vary": {"reward_features": ["joint_position"]}}, "'joint_position' is no list of features"),
        ({"draws": 3}, "draws: nothing is drawn"),
        ({"cpus": "many"}, "cpus: 'many' is no int"),
        ({"vary": {"task": ["reach"]}}, "vary: task: each task has demonstrations of its own"),
        ({"vary": {"seed": [0, 1, 0]}}, "vary: seed names 0 twice"),
        ({"vary": {1: [0]}}, "1 is no name"),
        ({"vary": {"reward.lcr": {"low": 1.0, "high": 2.0, "log": "no"}}}, "log must be true or false, not 'no'"),
        ({"vary": {"reward.lcr": {"low": 1.0, "high": float("inf")}}}, "low must be a number below high, both finite"),
        ({"tasks": {"reach": None}}, "tasks: reach needs the directory of its demonstrations, not None"),
        ({"training": {"rollout_backend": "ray"}}, "the runs of a sweep have no CPUs but their own"),
    ],
)
def test_a_plan_that_cannot_be_run_is_refused_before_anything_starts(tmp_path: Path, task: Path, more, message):
    path = write(tmp_path / "p.yaml", task, **more)
    with pytest.raises(ConfigError, match=re.escape(message)) as refusal:
        Plan.read(path)
    assert str(path) in str(refusal.value)


def test_files_of_robot_and_tasks_lie_where_the_plan_says_and_are_called_differently(tmp_path: Path, task: Path, monkeypatch):
    here = {name: (share_directory() / f"config/{name}.yaml").read_text() for name in ("robots/panda", "tasks/reach")}
    for name, text in here.items():
        (tmp_path / "mine" / name).parent.mkdir(parents=True)
        (tmp_path / "mine" / f"{name}.yaml").write_text(text)
    tasks = {"tasks/reach.yaml": "shown"}
    plan = Plan.read(write(tmp_path / "mine/plan.yaml", task, robot="robots/panda.yaml", tasks=tasks))
    monkeypatch.chdir(tmp_path)
    [run] = plan.combinations({})
    assert plan.contract(run).task.name == "reach" and plan.datasets[run["task"]] == tmp_path / "mine/shown"
    shutil.rmtree(tmp_path / "mine/tasks")  # a node need not see it
    assert plan.config(run).method == "gcl" and name_of(run) == "task-reach"
    with pytest.raises(ConfigError, match="are both called reach"):
        Plan.read(write(tmp_path / "p.yaml", task, tasks={"reach": "shown", **{str(task): "shown"}}))


def test_values_that_differ_are_called_differently():
    lists = [{"maxent.hidden": [32, 32]}, {"maxent.hidden": [32]}, {"reward.lcr": 1.0001}, {"reward.lcr": 1.0002}]
    assert [name_of(run) for run in lists] == ["hidden-32+32", "hidden-32", "lcr-1.0001", "lcr-1.0002"]
    assert distinct(["a", "b" * 300, "a"]) == ["a", "b" * 200, "a_2"]  # drawn alike, longer than a directory's name


def test_a_training_ends_once_a_warning_has_lasted(tmp_path: Path, task: Path, monkeypatch):
    monkeypatch.setattr(Health, "lasting", lambda self, n: "overfit" if self._iteration >= n else None)
    shown = Demonstrations.load(task.parent / "shown", Contract.load("panda", str(task)))
    config = TrainConfig(environment_steps=6 * 48, batch_episodes=6, workers=1, evaluation_episodes=2, device="cpu")
    ended = train(shown, dataclasses.replace(config, stop_when_unhealthy=3), tmp_path).figures
    assert ended["unhealthy"] == "overfit" and ended["environment_steps"] == 3 * 48


def until(condition: Callable[[], object], what: str, timeout: float = 120.0) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.1)


@pytest.mark.ray
def test_a_sweep_that_never_began_needs_no_other_directory(tmp_path: Path, task: Path, capsys):
    pytest.importorskip("ray")
    command = ["sweep", str(write(tmp_path / "plan.yaml", task)), "--out", str(tmp_path), "--ray-address", "127.0.0.1:9"]
    for resume in ([], [], ["--resume"]):
        assert main([*command, *resume]) == 2
        assert "127.0.0.1:9: no Ray cluster can be reached" in capsys.readouterr().err


@pytest.mark.ray
def test_a_sweep_goes_on_when_a_worker_and_a_node_die_and_all_runs_are_what_they_would_have_been(
    tmp_path: Path, task: Path, capsys
):
    pytest.importorskip("ray")
    long = {"environment_steps": 30 * 6 * 8, "batch_episodes": 6, "evaluation_episodes": 4}
    plan = write(tmp_path / "plan.yaml", task, vary={"method": ["gcl"], "seed": [0, 1]}, training=long)
    out = tmp_path / "sweep"
    with ray_rig.cluster() as cluster:
        node = cluster.add()

        def states() -> list[Path]:
            return list(out.glob("tune/*gcl*/checkpoint_*"))

        def disturb() -> None:
            until(states, "a run's first state")
            os.kill(cluster.head.actors(TRIAL)[0], signal.SIGKILL)
            until(lambda: "died" in (out / "events.jsonl").read_text(), "the first death")
            until(lambda: node.actors(TRIAL), "a run on the other node")
            node.kill()

        disturber = threading.Thread(target=disturb)
        disturber.start()
        code = main(["sweep", str(plan), "--out", str(out), "--ray-address", cluster.address, "--json"])
        disturber.join()
    told = capsys.readouterr()
    assert code == 0 and json.loads(told.out)["trained"] == 2, told.err
    found = json.loads((out / "sweep.json").read_text())["runs"]
    assert sorted(run["name"] for run in found) == [f"task-brief_method-gcl_seed-{s}" for s in (0, 1)]
    assert sum(run["deaths"] for run in found) >= 2 and len(re.findall(r"died after iteration \d+ \(", told.err)) >= 2
    shown = Demonstrations.load(task.parent / "shown", Contract.load("panda", str(task)))
    for run in found:
        alone = train(shown, Plan.read(plan).config(run["varied"]), tmp_path / run["name"]).figures
        there = json.loads((Path(run["directory"]) / "training/result.json").read_text())
        for figures in (alone, there):
            figures.pop("training_wall_s")
        assert there == json.loads(json.dumps(alone)) == {k: v for k, v in run["figures"].items() if k != "training_wall_s"}
        logs = [(d / "training/metrics.jsonl").read_text() for d in (Path(run["directory"]), tmp_path / run["name"])]
        assert logs[0] == logs[1]
    assert "2 runs: gcl: reach on panda (2)" in (out / "comparison.html").read_text()


@pytest.mark.ray
def test_a_sweep_that_was_interrupted_goes_on_without_training_anything_twice(tmp_path: Path, task: Path, capfd):
    pytest.importorskip("ray")
    vary = {"method": ["bc"], "seed": [0, 1], "clone.steps": [5, 50]}
    plan, out = write(tmp_path / "plan.yaml", task, vary=vary), tmp_path / "sweep"
    command = [sys.executable, "-m", "irl_ros.cli", "sweep", str(plan), "--out", str(out), "--ray-address", "local"]
    child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        said = ""
        for line in child.stderr:
            said += line
            if " is done" in line:
                break
        child.send_signal(signal.SIGINT)
        said += child.stderr.read()
        assert child.wait(60) == 130 and "the same command with --resume goes on from" in said, said
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
    done = [json.loads(line)["run"] for line in (out / "events.jsonl").read_text().splitlines() if '"done"' in line]
    assert 1 <= len(done) < 4
    assert main(["sweep", str(plan), "--out", str(out)]) == 2
    assert "holds a sweep already" in capfd.readouterr().err
    assert main(["sweep", str(plan), "--out", str(out), "--ray-address", "local", "--resume"]) == 0
    events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    assert sorted(e["run"] for e in events if e["event"] == "done") == sorted({e["run"] for e in events}), "one twice"
    assert len(json.loads((out / "sweep.json").read_text())["runs"]) == 4
    assert "clone.steps 5 (2)" in (out / "comparison.html").read_text()
