"""Checkpoints that are damaged, foreign or hostile: a running policy_runner refuses to be configured with them."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dds
import handmade
import numpy as np
import pytest
from lifecycle_msgs.msg import State, Transition
from runners import ACTION, CONTRACT, change, enable, runner, state

from irl_ros.checkpoint import Checkpoint
from irl_ros.contract import Contract

PATIENCE = 5.0
"""[s] for the answer to one configure, on a shared machine."""


class Target:
    """A runner that waits unconfigured, and the directory that it would load."""

    def __init__(self, client: dds.Client, process: dds.Process, directory: Path, good: Path):
        self.client, self.process, self.directory, self.good = client, process, directory, good

    def restore(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)
        shutil.copytree(self.good, self.directory)

    def configures(self) -> bool:
        """Whether the runner takes what lies there now; it is unconfigured again afterwards."""
        asked = time.monotonic()
        taken = change(self.client, Transition.TRANSITION_CONFIGURE)
        assert time.monotonic() - asked < PATIENCE, "it hung"
        if taken:
            assert change(self.client, Transition.TRANSITION_CLEANUP)
        return taken


@pytest.fixture(scope="module")
def target(tmp_path_factory) -> Iterator[Target]:
    good, directory = tmp_path_factory.mktemp("good"), tmp_path_factory.mktemp("given")
    handmade.checkpoint(CONTRACT, ACTION).save(good)
    with dds.domain() as domain, runner(domain, directory) as process, dds.client(domain) as client:
        made = Target(client, process, directory, good)
        made.restore()
        assert made.configures()
        yield made
        made.restore()
        assert made.configures() and process.stop() == 0 and "Traceback" not in process.output


def mutate(directory: Path, rng: np.random.Generator) -> str:
    """One file cut off, with a flipped bit, a region of zeros or foreign bytes inside; says what was done."""
    path = sorted(directory.iterdir())[rng.integers(4)]
    data = bytearray(path.read_bytes())
    at, kind = int(rng.integers(len(data))), ("cut", "flip", "zeros", "foreign")[rng.integers(4)]
    if kind == "cut":
        data = data[:at]
    elif kind == "flip":
        data[at] ^= 1 << int(rng.integers(8))
    elif kind == "zeros":
        data[at : at + 64] = bytes(len(data[at : at + 64]))
    else:
        data[at:at] = rng.bytes(16)
    path.write_bytes(data)
    return f"{kind} at {at} of {path.name}"


@pytest.mark.parametrize("count", [50, pytest.param(1000, marks=pytest.mark.full)])
def test_damage_anywhere_is_refused(target: Target, count: int):
    rng, whole, refused = np.random.default_rng(count), Checkpoint.load(target.good), 0
    for _ in range(count):
        target.restore()
        done = mutate(target.directory, rng)
        if not target.configures():
            refused += 1
            continue
        left = Checkpoint.load(target.directory)  # what still reads is what was saved: a flip in white space
        assert left.contract == whole.contract and left.provenance == whole.provenance, done
        assert all((left.policy_arrays[k] == v).all() for k, v in whole.policy_arrays.items()), done
    assert refused >= 0.8 * count
    assert state(target.client) == State.PRIMARY_STATE_UNCONFIGURED


def foreign(directory: Path, robot: str = "panda", task: str = "reach") -> None:
    contract = Contract.load(robot, task)
    shutil.rmtree(directory)
    handmade.checkpoint(contract, np.full(contract.action_size, 0.1)).save(directory)


def pickled(directory: Path) -> None:
    """A pickle that would make a file, under a hash that fits."""
    data = f"cos\nsystem\n(S'touch {directory.parent / 'canary'}'\ntR.".encode()
    (directory / "x.safetensors").write_bytes(data)
    entry = {"file": "x.safetensors", "sha256": hashlib.sha256(data).hexdigest()}
    handmade.rewrite(directory, lambda m: m["files"].update(policy=entry))


@pytest.mark.parametrize(
    "spoil, reason",
    [
        (lambda d: foreign(d, robot="iiwa"), "robot.name: panda here, iiwa there"),
        (lambda d: handmade.rewrite(d, lambda m: m["description"]["contract"]["task"].update(rate=0.0)), "rate"),
        (lambda d: handmade.rewrite(d, lambda m: m.update(format=2)), "format 2, this version reads 1"),
        (pickled, "not a safetensors file"),
        (lambda d: handmade.rewrite(d, lambda m: m["description"].pop("contract")), "contract"),
        (lambda d: (d / "manifest.json").unlink(), "cannot be read"),
    ],
    ids=["robot", "contract", "format", "pickle", "no contract", "no manifest"],
)
def test_what_is_foreign_is_refused_by_its_reason(target: Target, spoil: Callable[[Path], None], reason: str):
    target.restore()
    spoil(target.directory)
    assert not target.configures()
    refusal = enable(target.client)
    assert not refusal.success and reason in refusal.message
    assert not (target.directory.parent / "canary").exists()
