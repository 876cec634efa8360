"""irl_trainer as a real process over DDS: it answers while it learns, and a killed one goes on where it was."""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import dds
import expert_demonstrations
import numpy as np
import pytest
import yaml
from diagnostic_msgs.msg import DiagnosticArray
from std_msgs.msg import Float64
from std_srvs.srv import Trigger

from irl_ros.checkpoint import Checkpoint
from irl_ros.contract import Contract, share_directory
from irl_ros.learning.config import TrainConfig
from irl_ros.learning.train import train
from irl_ros.nodes.services import Caller

TRAINER = "irl_ros.nodes.trainer"
HORIZON, ITERATIONS = 10, 8
STEPS = ITERATIONS * TrainConfig.batch_episodes * HORIZON
LONG = 180.0
"""[s] What a training may take on a machine that does other things too."""


@dataclass(frozen=True)
class Data:
    """A task with short episodes, and a directory of two demonstrations of it."""

    task: str
    directory: Path

    def parameters(self, out: Path, **more) -> dict:
        return {"task": self.task, "dataset": self.directory, "out": out, "workers": 1, "device": "cpu", **more}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Data:
    directory = tmp_path_factory.mktemp("data")
    task = yaml.safe_load((share_directory() / "config/tasks/reach.yaml").read_text())
    (directory / "brief.yaml").write_text(yaml.safe_dump({**task, "horizon": HORIZON}, sort_keys=False))
    contract = Contract.load("panda", str(directory / "brief.yaml"))
    for episode in expert_demonstrations.demonstrations(contract, 2):
        np.savez(directory / f"{episode.name}.npz", observations=episode.observations, actions=episode.actions)
    return Data(str(directory / "brief.yaml"), directory)


@pytest.fixture(scope="module")
def uninterrupted(data: Data, tmp_path_factory) -> Path:
    """The same training in this process: what an interrupted one must come to."""
    from irl_ros.data.dataset import load_dataset

    demonstrations, _ = load_dataset(data.directory, Contract.load("panda", data.task))
    directory = tmp_path_factory.mktemp("uninterrupted")
    train(demonstrations, TrainConfig(environment_steps=STEPS, workers=1, device="cpu"), directory)
    return directory


def metrics(directory: Path) -> list[dict[str, float]]:
    path = directory / "training/metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def weights(directory: Path) -> set[str]:
    """Names of the checkpoint's files, which are hashes of their content."""
    return {path.name for path in (directory / "checkpoint").glob("*.safetensors")}


def descendants(pid: int) -> list[int]:
    """Every process below `pid`."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found += [child, *descendants(child)]
    return found


def alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def wait_until(condition, what: str, timeout: float = LONG) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout} s for {what}"
        time.sleep(0.02)


def test_it_answers_and_publishes_while_it_learns_and_cancel_saves(data: Data, tmp_path):
    with dds.domain() as domain, dds.client(domain) as client:
        log_z = client.collect(Float64, "irl_trainer/metrics/weights/log_z")
        diagnostics = client.collect(DiagnosticArray, "/diagnostics")
        with dds.process(TRAINER, domain, **data.parameters(tmp_path, steps=10**6)) as trainer:
            client.wait(lambda: log_z, "metrics", LONG)
            start, before = time.monotonic(), len(log_z)
            client.wait(lambda: len(log_z) >= before + 5, "five more metrics")
            assert time.monotonic() - start < 5.0  # 1 Hz or faster

            pause = Caller(client.node, Trigger, "irl_trainer/pause")
            client.wait(pause.ready, "~/pause")
            answers, delays = [], []
            for _ in range(5):
                start, future = time.monotonic(), pause.call_async(Trigger.Request())
                client.wait(future.done, "an answer of ~/pause")
                delays.append(time.monotonic() - start)
                answers.append(future.result())
            assert sorted(delays)[2] < 1.0  # the median: a shared machine may stall once
            assert [a.message for a in answers] == ["paused", "resumed", "paused", "resumed", "paused"]
            assert all(a.success for a in answers)

            client.wait(lambda: diagnostics[-1].status[0].message == "paused", "diagnostics that say so")
            before = len(log_z)
            client.wait(lambda: len(log_z) >= before + 2, "metrics to go on while paused")
            count = len(metrics(tmp_path))
            before = len(log_z)
            client.wait(lambda: len(log_z) >= before + 4, "two seconds of the pause")
            assert len(metrics(tmp_path)) - count <= 1  # the iteration that was under way, then none
            client.call(Trigger, "irl_trainer/pause")
            client.wait(lambda: len(metrics(tmp_path)) > count + 1, "iterations after the pause")

            assert client.call(Trigger, "irl_trainer/cancel").success
            assert trainer.wait(LONG) == 0
            assert "cancelled; resume with" in trainer.output
    state = json.loads((tmp_path / "training/state/manifest.json").read_text())
    assert state["description"]["progress"]["iteration"] == len(metrics(tmp_path)) > 0


def test_killed_and_resumed_it_comes_to_the_same_and_leaves_no_orphans(data: Data, uninterrupted: Path, tmp_path):
    settings = data.parameters(tmp_path, steps=STEPS)
    every = TrainConfig.checkpoint_every
    with dds.domain() as domain, dds.process(TRAINER, domain, **settings) as trainer:
        wait_until(lambda: len(metrics(tmp_path)) > every, "a resume state")
        family = descendants(trainer.pid)
        assert len(family) >= 2  # the training process and its worker
        trainer.send_signal(signal.SIGKILL)
        assert trainer.wait() == -signal.SIGKILL
        wait_until(lambda: not any(map(alive, family)), "the trainer's children to end")
        killed_at = len(metrics(tmp_path))
    assert every < killed_at < ITERATIONS, "killed too late: this machine is too fast for the test, add iterations"
    with dds.domain() as domain, dds.process(TRAINER, domain, **settings, resume=True) as trainer:
        wait_until(lambda: trainer.returncode is not None or descendants(trainer.pid), "a child")
        assert trainer.wait(LONG) == 0
        assert "checkpoint saved in" in trainer.output
    assert metrics(tmp_path) == metrics(uninterrupted) and len(metrics(tmp_path)) == ITERATIONS
    assert weights(tmp_path) == weights(uninterrupted)
    assert Checkpoint.load(tmp_path / "checkpoint").provenance["seed"] == 0


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.full)])
def test_signals_save_what_was_learned_and_end_every_process(data: Data, tmp_path, number: int):
    with dds.domain() as domain:
        with dds.process(TRAINER, domain, **data.parameters(tmp_path, steps=10**6)) as trainer:
            wait_until(lambda: metrics(tmp_path), "an iteration")
            family = descendants(trainer.pid)
            os.killpg(trainer.pid, number) if number == signal.SIGINT else trainer.send_signal(number)
            assert trainer.wait(LONG) == 0, trainer.output
        wait_until(lambda: not any(map(alive, family)), "the trainer's children to end")
    state = json.loads((tmp_path / "training/state/manifest.json").read_text())
    assert state["description"]["progress"]["iteration"] == len(metrics(tmp_path)) > 0


@pytest.mark.full
def test_the_death_of_the_training_process_ends_the_node(data: Data, tmp_path):
    with dds.domain() as domain:
        with dds.process(TRAINER, domain, **data.parameters(tmp_path, steps=10**6)) as trainer:
            wait_until(lambda: metrics(tmp_path), "an iteration")
            (training,) = [p for p in descendants(trainer.pid) if is_training(p)][:1]
            os.kill(training, signal.SIGKILL)
            assert trainer.wait(LONG) == 1
            assert "error: the training process ended with code -9" in trainer.output


def full(*values) -> pytest.param:
    return pytest.param(*values, marks=pytest.mark.full)


def is_training(pid: int) -> bool:
    return "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"method": "gcll"}, "unknown method 'gcll'. Did you mean 'gcl'?"),
        ({"held_out": 2}, "held_out is 2: of 2 demonstrations, 0 to 1 can be held out"),
        full({"dataset": ""}, "parameter dataset is empty: give the directory of recorded demonstrations"),
        ({"dataset": "EMPTY"}, "EMPTY"),
        full({"dataset": "/nowhere/at/all"}, "/nowhere/at/all"),
        full({"robot": "pand"}, "unknown robot 'pand'. Did you mean 'panda'?"),
        full({"device": "gpu"}, "parameter device: unknown 'gpu'"),
        full({"seed": -1}, "parameter seed: -1 is not valid; it takes a int from 0 to"),
        full({"resume": True}, "state/manifest.json: cannot be read"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_cannot_be_trained_ends_with_exit_code_2_and_the_reason(data: Data, tmp_path, change, message):
    if change.get("dataset") == "EMPTY":
        (tmp_path / "EMPTY").mkdir()
        change = {"dataset": tmp_path / "EMPTY"}
    with dds.domain() as domain:
        settings = {**data.parameters(tmp_path, steps=100), **change}
        with dds.process(TRAINER, domain, **settings) as trainer:
            assert trainer.wait(LONG) == 2, trainer.output
            assert "error: " in trainer.output and message in trainer.output
            assert "Traceback" not in trainer.output
