"""The recorder is ended or killed, or its disk fills up or turns read-only: earlier episodes are intact, nothing looks
saved that is not."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dds
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from recorder_rig import RECORDER, FakeRobot, demonstrate, names, robot, start, trigger
from rig import Stalls
from std_srvs.srv import Trigger

from irl_ros import messages
from irl_ros.data.bag import read_bag
from irl_ros.data.repair import repair_directory
from irl_ros.nodes.services import Caller

MOST_LOST = 2.0
"""[s] of the episode that was being recorded."""
TOLD = 1.0
"""[s] from the first write that fails to the report."""


def attempt(client: dds.Client, node: dds.Process, name: str) -> bool:
    """Whether a request succeeded; the recorder may die meanwhile."""
    caller = Caller(client.node, Trigger, f"demo_recorder/{name}")
    try:
        client.wait(lambda: caller.ready() or node.returncode is not None, f"the service {name}")
        future = caller.call_async(Trigger.Request())
        client.wait(lambda: future.done() or node.returncode is not None, f"an answer to {name}")
        return future.done() and future.result().success
    finally:
        caller.destroy()


def record_until(client: dds.Client, node: dds.Process, rng: np.random.Generator) -> None:
    """Episodes of up to a second, one after the other, until the recorder is gone."""
    while node.returncode is None:
        attempt(client, node, "start")
        end = time.monotonic() + rng.uniform(0.1, 1.0)
        client.wait(lambda: time.monotonic() > end or node.returncode is not None, "some of an episode")
        attempt(client, node, "stop")


def last_sent(directory: Path) -> float:
    """When the last joint state of a bag was sent [s]; it says so itself."""
    return messages.stamp_seconds(read_bag(directory).samples["joint_states"][-1].message.header.stamp)


def killed_at_random(tmp_path: Path, patient: Path, kills: int, longest: float) -> None:
    """Each recorder goes on in the same directory, where the one before was killed."""
    rng = np.random.default_rng(0)
    unfinished = 0
    for k in range(kills):
        before = {name: list(content(tmp_path / name)) for name in names(tmp_path)}
        with dds.domain() as domain, dds.client(domain) as client, robot(client) as fake:
            fake.commanding = True
            with dds.process(RECORDER, domain, robot=patient, out=tmp_path) as node:
                start(client)
                killer = threading.Timer(rng.uniform(0.0, longest), os.kill, (node.pid, signal.SIGKILL))
                killer.start()
                record_until(client, node, rng)
                killed = time.time()
                killer.join()
        for name, was in before.items():
            assert list(content(tmp_path / name)) == was, "earlier episodes are intact"
        for name in set(names(tmp_path)) - set(before):
            if not name.startswith("."):
                assert not read_bag(tmp_path / name).listing.interrupted
        partial = [tmp_path / name for name in names(tmp_path) if name.endswith(".partial")]
        unfinished += len(partial)
        repaired, hopeless = repair_directory(tmp_path)
        assert len(partial) == len(repaired) + len(hopeless) <= 1
        for found in repaired:
            assert read_bag(found.bag).listing.interrupted
            assert killed - last_sent(found.bag) < MOST_LOST
        if hopeless:  # killed before anything of it had reached the disk
            assert killed - partial[0].stat().st_mtime < MOST_LOST, hopeless
            partial[0].rename(tmp_path / f".gone_{k}")
    assert unfinished > 0


def content(directory: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            yield path.name, path.read_bytes()


def test_killed_at_a_random_moment_it_loses_two_seconds_at_most(tmp_path: Path, patient: Path) -> None:
    killed_at_random(tmp_path, patient, kills=2, longest=2.0)


@pytest.mark.full
def test_killed_at_twenty_random_moments(tmp_path: Path, patient: Path) -> None:
    killed_at_random(tmp_path, patient, kills=20, longest=5.0)


@contextlib.contextmanager
def small_disk(where: Path, megabytes: int) -> Iterator[Callable[..., None]]:
    """A file system of its own; gives a function that mounts it again with other options."""
    where.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", where]).returncode:
        pytest.skip("a small file system can be mounted by root alone")
    try:
        yield lambda options: subprocess.run(["mount", "-o", f"remount,{options}", where], check=True)
    finally:
        subprocess.run(["umount", "-l", where], check=True)


def fill(directory: Path, left: int = 0) -> None:
    """Write until `left` bytes are free."""
    with (directory / "filler").open("wb", buffering=0) as filler:
        with contextlib.suppress(OSError):
            while (free := os.statvfs(directory)).f_bavail * free.f_frsize > left:
                filler.write(bytes(min(1 << 16, free.f_bavail * free.f_frsize - left)))


@pytest.mark.parametrize("stopped", [False, pytest.param(True, marks=pytest.mark.full)])
def test_a_full_disk_stops_the_recording_at_once_and_says_so(
    tmp_path: Path, patient: Path, stopped: bool
) -> None:
    stalls = Stalls()
    with (
        small_disk(tmp_path / "disk", 4) as _,
        dds.domain() as domain,
        dds.process(RECORDER, domain, robot=patient, out=tmp_path / "disk", minimum_free=0.0) as node,
        dds.client(domain) as client,
        robot(client) as fake,
    ):
        fake.commanding = True
        start(client)
        end = time.monotonic() + 0.7
        client.wait(lambda: time.monotonic() > end, "an episode that is whole, as far as the disk goes")
        assert trigger(client, "stop").success and start(client) == "episode_0001"
        fill(tmp_path / "disk")
        stalls.reset()
        full = time.monotonic()
        if stopped:
            assert not attempt(client, node, "stop"), "nothing looks saved that is not"
        client.wait(lambda: "RECORDING FAILED" in node.output, "the report")
        took = time.monotonic() - full
        assert took < TOLD + stalls.worst, f"told after {took:.2f} s, stalls of {stalls.worst:.2f} s"
        assert node.wait() == 1
        assert "episode_0001 is not saved: cannot write" in node.output and "Traceback" not in node.output
        assert names(tmp_path / "disk") == [".episode_0001.partial", "episode_0000", "filler"]
        assert len(read_bag(tmp_path / "disk" / "episode_0000").samples["joint_states"]) > 10
    stalls.close()


def test_little_room_refuses_more_and_a_read_only_disk_ends_it(tmp_path: Path, patient: Path) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk, 8) as remount, dds.domain() as domain, dds.client(domain) as client, robot(client):
        parameters = {"robot": patient, "out": disk, "minimum_free": 4.0}
        with dds.process(RECORDER, domain, **parameters) as node:
            start(client)
            fill(disk, left=3_000_000)
            client.wait(lambda: "THE DISK IS NEARLY FULL" in node.output, "the warning")
            assert read_bag(disk / "episode_0000").listing.interrupted, "what there is is kept"
            refusal = trigger(client, "start")
            assert not refusal.success and "minimum_free is 4 MB" in refusal.message
            (disk / "filler").unlink()
            assert start(client) == "episode_0001" and trigger(client, "discard").success
            remount("ro")
            answer = trigger(client, "start")
            assert not answer.success and "Read-only file system" in answer.message
            assert node.wait() == 1 and "RECORDING FAILED" in node.output
        with dds.process(RECORDER, domain, **parameters) as node:
            assert node.wait() == 2 and "error: cannot write" in node.output and "Traceback" not in node.output
        assert names(disk) == ["episode_0000"]


@contextlib.contextmanager
def recorder_and_robot(out: Path) -> Iterator[tuple[dds.Process, dds.Client, FakeRobot]]:
    """A recorder that writes to `out`, and a robot beside it."""
    with (
        dds.domain() as domain,
        dds.process(RECORDER, domain, out=out) as recorder,
        dds.client(domain) as client,
        robot(client) as fake,
    ):
        yield recorder, client, fake


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_keeps_the_episode_but_not_for_training(tmp_path: Path, number: int) -> None:
    with recorder_and_robot(tmp_path) as (recorder, client, fake):
        start(client)
        demonstrate(client, fake, 15)
        assert recorder.stop(number) == 0
    recording = read_bag(tmp_path / "episode_0000")
    assert recording.listing.interrupted and recording.listing.label is None and len(recording.samples["command"]) > 10


def test_a_full_disk_ends_the_recorder_and_nothing_looks_saved(tmp_path: Path) -> None:
    with recorder_and_robot(tmp_path) as (recorder, client, fake):
        diagnostics = client.collect(DiagnosticArray, "/diagnostics")
        start(client)
        # From here on no file may grow beyond this: the next flush to the disk fails.
        resource.prlimit(recorder.pid, resource.RLIMIT_FSIZE, (4096, 4096))
        demonstrate(client, fake, 5)
        assert recorder.wait() == 1
        client.wait(lambda: any("cannot write" in d.status[0].message for d in diagnostics), "diagnostics")
    assert "episode_0000 is not saved: cannot write" in recorder.output and "Traceback" not in recorder.output
    assert names(tmp_path) == [".episode_0000.partial"]


def test_a_save_that_fails_is_answered_so(tmp_path: Path) -> None:
    with recorder_and_robot(tmp_path) as (recorder, client, fake):
        start(client)
        demonstrate(client, fake, 5)
        (tmp_path / "episode_0000").mkdir()
        answer = trigger(client, "stop")
        assert not answer.success and "episode_0000 exists already" in answer.message
        assert recorder.wait() == 1
    assert names(tmp_path) == [".episode_0000.partial", "episode_0000"]
    assert not list((tmp_path / "episode_0000").iterdir())


def test_a_live_episode_is_left_to_its_recorder_and_a_second_one_takes_the_next_name(tmp_path: Path) -> None:
    with recorder_and_robot(tmp_path) as (recorder, client, fake):
        assert start(client) == "episode_0000"
        demonstrate(client, fake, 12)
        with dds.domain() as other, dds.process(RECORDER, other, out=tmp_path) as second, dds.client(other) as near:
            with robot(near) as neighbour:
                assert start(near) == "episode_0001"
                assert "irl_ros repair" not in second.output and "is being recorded by another program" in second.output
                assert repair_directory(tmp_path) == ([], [])
                demonstrate(near, neighbour, 12)
                assert trigger(near, "stop").success
        demonstrate(client, fake, 12)
        answer = trigger(client, "stop")
        assert answer.success, answer.message
        assert recorder.returncode is None and "RECORDING FAILED" not in recorder.output
    assert names(tmp_path) == ["episode_0000", "episode_0001"]
    assert len(read_bag(tmp_path / "episode_0000").samples["command"]) >= 24
