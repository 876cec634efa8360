"""Tests run in two processes side by side: those of real nodes over DDS in one, since deadlines are promised there and
two graphs at once would disturb each other, and the rest, module by module, in whichever is free."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TIMED = re.compile(r"^(?:import|from) (?:dds|rig|runners|irl_ros\.starter)\b", re.MULTILINE)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Group them for pytest-xdist, the timed ones first: they take longest."""
    paths = {item.path for item in items}
    timed = {path for path in paths if TIMED.search(Path(path).read_text())}
    for item in items:
        item.add_marker(pytest.mark.xdist_group("timed" if item.path in timed else item.path.stem))
    items.sort(key=lambda item: item.path not in timed)
