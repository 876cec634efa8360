"""ROS domains in which a simulation, or a test, meets no robot.

Topics of the same name meet wherever two programs share a ROS domain. A simulated arm has the topics of the real one, so
a simulation that ran in the caller's domain would command a robot that listens there. It runs in a domain of its own
instead, on this machine alone.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

FIRST, LAST = 102, 232
"""Domains that are chosen from. ROS 2 recommends 0 to 101 for robots, and 232 is the largest that has ports."""
BASE_PORT, PORTS = 7400, 250
"""UDP ports of a domain's participants: PORTS of them from BASE_PORT + PORTS × domain (RTPS 2.2, 9.6.1.1)."""
SOCKET_TABLES = (Path("/proc/net/udp"), Path("/proc/net/udp6"))
DISCARD_PORT = 9
"""UDP port whose datagrams nobody answers (RFC 863)."""
DISCOVERY_SERVERS = ("ROS_DISCOVERY_SERVER", "ROS2_EASY_MODE")
"""Variables by which Fast DDS asks a server for participants, in every domain."""


class DomainError(ValueError):
    """No domain can be had, or none would be apart from robots. The message says why and what to do."""


@contextlib.contextmanager
def free_domain() -> Iterator[int]:
    """Yield a ROS_DOMAIN_ID that no DDS participant on this machine uses, held until the end of the block.

    Raises DomainError where there is none.
    """
    candidates = [n for n in range(FIRST, LAST + 1) if str(n) != os.environ.get("ROS_DOMAIN_ID", "").strip()]
    random.SystemRandom().shuffle(candidates)
    for domain in candidates:
        with contextlib.ExitStack() as stack:
            lock = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
            try:
                lock.bind(f"\0irl_ros_domain_{domain}")  # the kernel releases it, whoever we are and however we end
            except OSError:
                continue
            if used_ports(domain):
                continue
            yield domain
            return
    raise DomainError(f"all ROS domains from {FIRST} to {LAST} are in use on this machine; end some of their programs")


def used_ports(domain: int) -> list[int]:
    """Return the UDP ports of a domain that programs on this machine have bound."""
    first = BASE_PORT + PORTS * domain
    return sorted(port for table in SOCKET_TABLES for port in _bound(table) if first <= port < first + PORTS)


def apart(domain: int) -> dict[str, str]:
    """Return the environment of a node in `domain` that finds, and is found by, nodes on this machine alone."""
    humble = {"ROS_LOCALHOST_ONLY": "1"} if os.environ.get("ROS_DISTRO") == "humble" else {}
    return {
        "ROS_DOMAIN_ID": str(domain),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "ROS_STATIC_PEERS": "",
        **humble,
    }


def check_environment() -> None:
    """Raise DomainError where this environment would lead a simulation out of its domain, or nowhere."""
    for name in DISCOVERY_SERVERS:
        if os.environ.get(name):
            raise DomainError(
                f"{name} is set ({os.environ[name]}): through a discovery server a simulated arm and real ones meet in "
                f"every domain; unset {name} for simulations and tests"
            )
    wanted, installed = os.environ.get("RMW_IMPLEMENTATION"), middlewares()
    if wanted and installed and wanted not in installed:
        raise DomainError(f"RMW_IMPLEMENTATION={wanted} is not installed; valid here: {', '.join(installed)}")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.sendto(b"", ("127.0.0.1", DISCARD_PORT))
        except OSError as error:
            raise DomainError(
                f"the loopback interface is down ({error.strerror}), and a simulation's nodes talk by it; as root: ip "
                "link set lo up"
            ) from None


def middlewares() -> list[str]:
    """Return the RMW implementations that are installed, by the ament index."""
    prefixes = [*filter(None, os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)), sys.prefix]
    indices = [Path(prefix) / "share" / "ament_index" / "resource_index" / "rmw_typesupport_cpp" for prefix in prefixes]
    found = {entry.name for index in indices if index.is_dir() for entry in index.iterdir()}
    return sorted(found - {"rmw_implementation"})


def _bound(table: Path) -> Iterator[int]:
    """Yield the local ports in a socket table of /proc/net."""
    with contextlib.suppress(FileNotFoundError):  # no IPv6
        for line in table.read_text().splitlines()[1:]:
            yield int(line.split()[1].rpartition(":")[2], 16)
