"""Ray and its cluster, for those who installed the extra ``irl_ros[ray]``: reach one, or say why not.

Ray itself waits for minutes for an address at which nothing answers, or something else does.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

from irl_ros.learning.config import ConfigError

AUTO, LOCAL = "auto", "local"
CONNECTS = 5.0
"""[s] for an address to accept a connection."""
ANSWERS = 15.0
"""[s] for a cluster's head to answer then."""
INSTALL = "pip install 'irl_ros[ray]'"


def engine() -> ModuleType:
    """The module ray. Raises ConfigError where it is not installed.

    `ray start` asks for the user's token as soon as there is one; by itself a client would not show it.
    """
    if "ray" not in sys.modules and _has_token():
        os.environ.setdefault("RAY_AUTH_MODE", "token")  # read when Ray is imported; afterwards it would not hold here
    try:
        import ray
    except ImportError:
        raise ConfigError(f"Ray is not installed here: {INSTALL}, or leave rollout_backend at local") from None
    return ray


def connect(address: str, cpus: int) -> Callable[[], None]:
    """Join the cluster at `address` (auto, local, host:port or ray://host:port); returns what leaves it again.

    One that is started here gets `cpus` CPUs and ends with this process. Where this process is a cluster's already,
    that one serves. Raises ConfigError, naming the address, within half a minute.
    """
    ray = engine()
    if ray.is_initialized():
        return lambda: None
    options = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == AUTO:
        address = os.environ.get("RAY_ADDRESS", "") or _running_here()
    if address == LOCAL:
        ray.init(address=LOCAL, num_cpus=cpus, include_dashboard=False, **options)
    else:
        _check(address)
        try:
            ray.init(address=address, **options)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise _unreachable(address, last_line(str(error))) from None
    connected = contextlib.ExitStack()
    connected.callback(ray.shutdown)
    connected.enter_context(contextlib.redirect_stdout(sys.stderr))  # Ray tells of deaths there, beside our figures
    return connected.close


def _has_token() -> bool:
    named = os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH")
    return bool(named) or (Path.home() / ".ray" / "auth_token").is_file()


def _running_here() -> str:
    """The cluster that runs on this machine, by what `ray start` wrote down; LOCAL without one, also where it was killed
    and the file stayed: Ray itself would wait for it."""
    temporary = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    written = Path(temporary, "ray", "ray_current_cluster")
    address = written.read_text().strip() if written.is_file() else ""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), CONNECTS).close()
    except (OSError, ValueError):
        return LOCAL
    return address


def last_line(text: str) -> str:
    """Of a traceback or a longer explanation: it says why."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "no reason given")


def look_in(paths: Sequence[str]) -> None:
    """On a node: look for modules where the asking process, whose sys.path this is, does too: a user's own env may lie
    there, on the same machine or a shared disk."""
    sys.path.extend(path for path in paths if path not in sys.path)


def _check(address: str) -> None:
    """Raises ConfigError where no cluster answers at `address`."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise ConfigError(f"ray_address {address!r} is neither auto nor local nor host:port of a cluster's head")
    try:
        socket.create_connection((host, int(port)), CONNECTS).close()
    except OSError as error:
        raise _unreachable(address, error) from None
    if address.startswith("ray://"):
        return  # Ray's client has half a minute of its own
    ask = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    try:
        said = subprocess.run(ask, capture_output=True, text=True, timeout=ANSWERS)
    except subprocess.TimeoutExpired:
        raise _unreachable(address, f"what listens there does not answer as Ray does within {ANSWERS:g} s") from None
    if said.returncode:
        raise _unreachable(address, last_line(said.stderr))


def _unreachable(address: str, reason: object) -> ConfigError:
    return ConfigError(
        f"ray_address {address}: no Ray cluster can be reached there: {reason}. `ray start --head` starts one, "
        "ray_address local needs none"
    )
