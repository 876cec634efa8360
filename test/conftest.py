"""Tests run in two processes side by side: those of real nodes over DDS in one, since deadlines are promised there and
two graphs at once would disturb each other, and the rest, module by module, in whichever is free."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import re
import time
from pathlib import Path

import pytest

from irl_ros import ros_domain
from irl_ros.contract import share_directory

TIMED = re.compile(r"^(?:import|from) (?:dds|rig|runners|recorder_rig|irl_ros\.starter)\b|runner_latency", re.MULTILINE)
NICE = 10


def pytest_configure() -> None:
    """End where nodes of the tests would meet a robot's, or none."""
    try:
        ros_domain.check_environment()
    except ros_domain.DomainError as error:
        pytest.exit(str(error), 2)


@functools.cache
def is_timed(path: Path) -> bool:
    return bool(TIMED.search(path.read_text()))


def _group(item: pytest.Item) -> str:
    return "timed" if is_timed(item.path) else item.path.stem


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Group them, the timed ones first: they take longest; before pytest-xdist looks for groups."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item)))
    items.sort(key=lambda item: not is_timed(item.path))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A process that has come to tests without deadlines has none with them before it: it gives way from now on."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return
    if not item.nodeid.endswith(f"@{_group(item)}"):
        pytest.exit("pytest-xdist does not know this pytest's names of tests: no group stays in one process", 1)
    if not is_timed(item.path) and os.nice(0) < NICE:
        os.nice(NICE)


def pytest_sessionfinish() -> None:
    """Remove the shared memory of processes that tests have killed: Fast DDS leaves half a MiB of each for good.

    A living process holds the lock of its segment; one that has just made it may not hold it yet. (`fastdds shm clean`
    does the same, where psutil is installed.)
    """
    old = time.time() - 60.0
    for lock in Path("/dev/shm").glob(f"fastdds_{16 * '[0-9a-f]'}_el"):
        with contextlib.suppress(OSError), lock.open() as file:  # held, somebody else's, or gone
            if lock.stat().st_mtime < old:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                lock.with_name(lock.name.removesuffix("_el")).unlink(missing_ok=True)
                lock.unlink()


@pytest.fixture
def patient(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Panda with a max_age that a test's own robot keeps to however busy the machine is: its file."""
    text = (share_directory() / "config" / "robots" / "panda.yaml").read_text()
    path = tmp_path_factory.mktemp("robot") / "patient.yaml"
    path.write_text(text.replace("max_age: 0.1", "max_age: 20.0"))
    return path
