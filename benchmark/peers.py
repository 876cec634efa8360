"""The peers in a virtual environment of their own, and one of their processes that waits for its turn.

They pin old releases of what we use (`imitation` 1.0.1: gymnasium 0.29, numpy 1), so they never share ours. This
package is installed beside them without its dependencies, so that a peer can learn on our envs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from argparse import ArgumentParser
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
THREADS = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
TORCH = ("torch==2.13.0", "setuptools<81", "wheel", "numpy<2")
"""First, else gigabytes of CUDA packages may come along."""
PINS = (
    *("imitation==1.0.1", "gymnasium==0.29.1", "stable-baselines3==2.2.1", "numpy<2", "setuptools<81", "datasets<3"),
    *("panda-gym==3.0.7", "pybullet==3.2.7", "pin", "pyyaml"),
)


def add_argument(parser: ArgumentParser) -> None:
    """--peer-environment."""
    parser.add_argument(
        "--peer-environment",
        type=Path,
        default=Path.home() / ".cache" / "irl_ros" / "peers",
        help="virtual environment of imitation 1.0.1 and panda-gym 3.0.7, made when missing (default: %(default)s)",
    )


def python(directory: Path) -> Path | None:
    """The Python of the peers' environment, which is made when it is missing; None where that fails."""
    found, ready = directory.absolute() / "bin" / "python", directory / "ready"
    if not ready.exists():
        print(f"making {directory} for imitation 1.0.1 and panda-gym 3.0.7 (minutes, once)", file=sys.stderr)
        install = [found, "-m", "pip", "install", "--quiet"]
        commands = (
            [sys.executable, "-m", "venv", "--clear", directory],
            [*install, *TORCH],
            [*install, *PINS],
            [*install, "--no-deps", "--no-build-isolation", "--editable", ROOT],
        )
        for command in commands:
            if subprocess.run(command, stdout=sys.stderr).returncode:  # it has said why
                return None
        ready.touch()
    return found


class Peer:
    """`script` run by the peers' Python: takes a line of JSON on stdin, answers each with one on stdout."""

    def __init__(self, python: Path, script: str | Path, *arguments: str | Path):
        command = [python, Path(__file__).parent / script, *arguments]
        environment = {**os.environ, **THREADS}
        environment.pop("PYTHONPATH", None)
        self._script = script
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def ask(self, question: object) -> object:
        """Its answer; RuntimeError when it has ended."""
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._script} ended with exit code {self._process.wait()}; its error is above")
        return json.loads(line)

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()
