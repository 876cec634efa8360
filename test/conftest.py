"""Tests run in two processes side by side: those of real nodes over DDS in one, since deadlines are promised there and
two graphs at once would disturb each other, and the rest, module by module, in whichever is free."""

from __future__ import annotations

import functools
import os
import re
from pathlib import Path

import pytest

TIMED = re.compile(r"^(?:import|from) (?:dds|rig|runners|irl_ros\.starter)\b|runner_latency", re.MULTILINE)
NICE = 10


@functools.cache
def is_timed(path: Path) -> bool:
    return bool(TIMED.search(path.read_text()))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Group them for pytest-xdist, the timed ones first: they take longest."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group("timed" if is_timed(item.path) else item.path.stem))
    items.sort(key=lambda item: not is_timed(item.path))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A process that has come to tests without deadlines has none with them before it: it gives way from now on."""
    if "PYTEST_XDIST_WORKER" in os.environ and not is_timed(item.path) and os.nice(0) < NICE:
        os.nice(NICE)
