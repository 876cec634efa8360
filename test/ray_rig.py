"""Ray clusters of a test's own: a head and nodes as real processes on this machine, each with a raylet, ended whatever
fails."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from irl_ros.lifetime import die_with_parent

# Of every cluster here, so that no other on this machine is joined, nor is one of these by others. Ray reads them when it
# is imported.
DIRECTORY = tempfile.TemporaryDirectory(prefix="ray_", dir="/tmp", ignore_cleanup_errors=True)  # short: sockets lie there
os.environ.update(RAY_TMPDIR=DIRECTORY.name)
os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(16), RAY_USAGE_STATS_ENABLED="0")


class Node:
    """One raylet with `cpus` CPUs, and what it starts."""

    def __init__(self, *options: str, cpus: int = 1):
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", f"--num-cpus={cpus}", *options]
        self._process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        self._said = ""
        for line in self._process.stdout:
            self._said += line
            if "Ray runtime started" in line:
                return
        raise AssertionError(f"no node came up:\n{self._said}")

    def actors(self, kind: str) -> list[int]:
        """Its processes that hold an actor of a class of that name."""
        return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if self._holds(pid, kind)]

    def _holds(self, pid: int, kind: str) -> bool:
        try:
            title = Path(f"/proc/{pid}/cmdline").read_text()
            return os.getsid(pid) == self._process.pid and title.startswith(f"ray::{kind}")
        except OSError:  # it has just ended
            return False

    def kill(self) -> None:
        """As a machine that loses power: the raylet and all its workers at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process.stdout.close()


class Cluster:
    """A head with a CPU, and the nodes that were added."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"127.0.0.1:{port}"
        self._nodes = [Node("--head", f"--port={port}", "--include-dashboard=false")]

    @property
    def head(self) -> Node:
        return self._nodes[0]

    def add(self, cpus: int = 1) -> Node:
        self._nodes.append(Node(f"--address={self.address}", cpus=cpus))
        return self._nodes[-1]

    def close(self) -> None:
        for node in reversed(self._nodes):
            node.kill()


@contextlib.contextmanager
def cluster() -> Iterator[Cluster]:
    with contextlib.closing(Cluster()) as made:
        yield made
