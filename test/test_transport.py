"""The runner's own way to others."""

from __future__ import annotations

import os
from pathlib import Path

import dds
import pytest
from runners import runner

from irl_ros.nodes.transport import OWN, PEERS, PROFILES, RANGE, without_shared_memory

BUILTIN = "FASTDDS_BUILTIN_TRANSPORTS"
SHARED = "/dev/shm/fastdds"


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Nobody has chosen anything; what is set is forgotten afterwards."""
    for name in (*OWN, PEERS, RANGE):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return monkeypatch


@pytest.mark.parametrize("wide", ["", "SUBNET", "SYSTEM_DEFAULT"])
def test_on_a_network_it_speaks_udp(plain: pytest.MonkeyPatch, wide: str) -> None:
    plain.setenv(RANGE, wide)
    plain.setenv(PEERS, "192.0.2.1")
    without_shared_memory()
    assert (os.environ[BUILTIN], os.environ[RANGE], PROFILES in os.environ) == ("UDPv4", wide, False)


def test_on_one_machine_it_stays_there(plain: pytest.MonkeyPatch) -> None:
    plain.setenv(RANGE, "localhost")
    without_shared_memory()
    assert os.environ[RANGE] == "SYSTEM_DEFAULT" and BUILTIN not in os.environ
    text = Path(os.environ[PROFILES]).read_text()
    assert "127.0.0.1" in text and "<useBuiltinTransports>false" in text and "SHM" not in text


@pytest.mark.parametrize("name", [*OWN, PEERS])
def test_what_somebody_chose_stays(plain: pytest.MonkeyPatch, name: str) -> None:
    plain.setenv(name, "mine")
    plain.setenv(RANGE, "LOCALHOST")
    before = dict(os.environ)
    without_shared_memory()
    assert dict(os.environ) == before


def test_the_runner_has_no_shared_memory_and_others_do() -> None:
    with (
        dds.domain() as domain,
        runner(domain, Path("/nowhere")) as process,
        dds.client(domain) as client,
    ):
        client.wait(lambda: client.node.count_publishers("/diagnostics"), "the runner")
        assert SHARED not in Path(f"/proc/{process.pid}/maps").read_text()
        assert SHARED in Path("/proc/self/maps").read_text()
