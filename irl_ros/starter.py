"""Starts a graph as child processes where there is no `ros2 launch`: one node, one process.

Every line of output carries its node's name. Ctrl-C stops all nodes; a node that dies takes the graph down with its
exit code; nodes never outlive the starter, however it ends.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from irl_ros.graph import ENVIRONMENT, Graph, Node, Stage, environment, write_parameters
from irl_ros.command import coloured
from irl_ros.lifetime import die_with_parent

PROGRESS_PERIOD_S = 10.0
"""[s] Between two states of a progress bar where the output is no terminal."""
SAFE_PATH = ("-P", "-m")
"""Options of Python that run a module without importing from the working directory, which may be a stranger's."""
if sys.version_info < (3, 11):  # knows no -P
    SAFE_PATH = (
        "-c",
        "import sys; del sys.path[0], sys.argv[0]; "
        "import runpy; runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)",
    )
COLOURS = (36, 33, 35, 32, 34, 31)


def start(graph: Graph, output: TextIO | None = None) -> int:
    """Run the graph's stages in order; returns the exit code: 0, a failed node's, or 128 + the signal that ended us."""
    console = Console(output or sys.stdout, [node.name for stage in graph.stages for node in stage.nodes])
    with contextlib.ExitStack() as stack:
        variables, said = stack.enter_context(environment(graph))
        stack.enter_context(_terminal())
        received = stack.enter_context(_signals())
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="irl_ros_"))
        if said:
            console.line(graph.name, said)
        for stage in graph.stages:
            code = _run_stage(stage, Path(directory), variables, console, received)
            if code != 0:
                return code
    return 0


def node_command(node: Node, parameter_files: Sequence[Path]) -> list[str]:
    """The command line of a node: this very Python (its start-up sets library paths), parameters, remappings."""
    renames = [("__node", node.name), *([("__ns", "/" + node.namespace.strip("/"))] if node.namespace else [])]
    command = [sys.executable, *SAFE_PATH, node.module, "--ros-args"]
    for source, target in (*renames, *node.remappings):
        command += ["-r", f"{source}:={target}"]
    for path in parameter_files:
        command += ["--params-file", str(path)]
    return command


class Console:
    """One output for many nodes: lines with a prefix, and below them the newest progress bar."""

    def __init__(self, output: TextIO, names: Sequence[str]):
        self._output, self._tty, self._coloured = output, output.isatty(), coloured(output)
        self._names = list(dict.fromkeys(names))
        self._width = max(map(len, self._names), default=0)
        self._bar = ""
        self._shown = -PROGRESS_PERIOD_S

    def line(self, name: str, text: str) -> None:
        """A whole line; a progress bar that is shown moves below it."""
        clear = "\r\x1b[K" if self._bar else ""
        self._write(f"{clear}{self._prefix(name)}{text}\n{self._bar}")

    def progress(self, name: str, text: str) -> None:
        """The state of a progress bar: drawn over the last one, or printed now and then where there is no terminal."""
        if self._tty:
            columns = shutil.get_terminal_size().columns - self._width - 4
            self._bar = self._prefix(name) + text[: max(columns, 10)]
            self._write(f"\r\x1b[K{self._bar}")
        elif time.monotonic() - self._shown >= PROGRESS_PERIOD_S:
            self._shown = time.monotonic()
            self.line(name, text)

    def finish_progress(self) -> None:
        """The bar is complete: its last state arrives as a line."""
        if self._bar:
            self._write("\r\x1b[K")
            self._bar = ""

    def _prefix(self, name: str) -> str:
        label = f"[{name}]".ljust(self._width + 3)
        if not self._coloured or name not in self._names:
            return label
        return f"\x1b[{COLOURS[self._names.index(name) % len(COLOURS)]}m{label}\x1b[0m"

    def _write(self, text: str) -> None:
        self._output.write(text)
        self._output.flush()


class LineReader:
    """Splits a node's output into lines and states of progress bars, which end in a carriage return or nothing."""

    def __init__(self, name: str, console: Console):
        self._name, self._console = name, console
        self._rest = b""
        self._has_bar = False

    def feed(self, data: bytes) -> None:
        """Take the next bytes of output."""
        if self._has_bar and not data.startswith((b"\r", b"\n")):
            self._rest = b""  # a log line that begins right behind the bar
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            state = _last_state(line)
            self._finish_bar()
            if state or b"\r" not in line:
                self._console.line(self._name, state)
        if b"\r" in self._rest[:-1]:  # at the very end it may be half of an end of line
            self._show_bar(_last_state(self._rest))
            self._rest = b"\r" + b"\r".join(self._rest.rsplit(b"\r", 2)[-2:])

    def _show_bar(self, state: str) -> None:
        if state:
            self._has_bar = True
            self._console.progress(self._name, state)
        else:
            self._finish_bar()

    def _finish_bar(self) -> None:
        if self._has_bar:
            self._console.finish_progress()
            self._has_bar = False

    def close(self) -> None:
        """What is left without an end of line."""
        if self._rest or self._has_bar:
            self.feed(b"\n")


@dataclass
class _Child:
    node: Node
    process: subprocess.Popen
    reader: LineReader


def _run_stage(
    stage: Stage, directory: Path, variables: Mapping[str, str], console: Console, received: list[int]
) -> int:
    children: list[_Child] = []
    selector = selectors.DefaultSelector()
    try:
        for node in stage.nodes:
            children.append(_spawn(node, directory, variables, console))
            selector.register(children[-1].process.stdout, selectors.EVENT_READ, children[-1])
        return _watch(stage, children, selector, console, received)
    finally:
        _stop(children, selector, console, received)
        selector.close()


def _spawn(node: Node, directory: Path, variables: Mapping[str, str], console: Console) -> _Child:
    process = subprocess.Popen(
        node_command(node, write_parameters(node, directory)),
        stdin=None if node.terminal else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**ENVIRONMENT, **os.environ, **variables, "PYTHONUNBUFFERED": "1"},
        start_new_session=True,  # so that Ctrl-C comes to us alone, and a node's own children can be found
        preexec_fn=_follow_parent(os.getpid()),
    )
    os.set_blocking(process.stdout.fileno(), False)
    return _Child(node, process, LineReader(node.name, console))


def _follow_parent(parent: int) -> Callable[[], None]:
    """Run in the child: a starter that is killed leaves it a SIGTERM, which still allows a halt to be sent."""

    def follow() -> None:
        die_with_parent(signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    return follow


def _watch(
    stage: Stage, children: list[_Child], selector: selectors.BaseSelector, console: Console, received: list[int]
) -> int:
    """Until a node exits or a signal arrives; returns the stage's exit code."""
    while not received:
        _read(selector, 0.05)
        for child in children:
            if child.process.poll() is not None:
                return _stage_code(stage, child, console)
    return 128 + received[0]


def _stage_code(stage: Stage, child: _Child, console: Console) -> int:
    code = child.process.returncode
    code = 128 - code if code < 0 else code
    expected = stage.leader in (None, child.node.name)
    if code or not expected:
        _drain(child)
        console.finish_progress()
        console.line(child.node.name, f"ended with exit code {code}: stopping the other nodes of {stage.name}")
    return code if expected else code or 1


def _stop(
    children: list[_Child], selector: selectors.BaseSelector, console: Console, received: list[int]
) -> None:
    """SIGINT, then SIGTERM, then SIGKILL; a further signal to us shortens the wait. Output is read all along."""
    for number, share in ((signal.SIGINT, 1.0), (signal.SIGTERM, 0.5)):
        alive = [child for child in children if child.process.poll() is None]
        patience = share * max((child.node.patience for child in alive), default=0.0)
        for child in alive:
            child.process.send_signal(number)
        end, heard = time.monotonic() + patience, len(received)
        while time.monotonic() < end and len(received) == heard:
            if all(child.process.poll() is not None for child in alive):
                break
            _read(selector, 0.02)
    for child in children:
        if child.process.poll() is None:
            console.line(child.node.name, "does not stop: killed")
        with contextlib.suppress(ProcessLookupError):  # the usual case: nobody is left in its process group
            os.killpg(child.process.pid, signal.SIGKILL)
        child.process.wait()
        _drain(child)
        child.reader.close()
        child.process.stdout.close()


def _read(selector: selectors.BaseSelector, timeout: float) -> None:
    for key, _ in selector.select(timeout):
        if not _drain(key.data):
            selector.unregister(key.fileobj)


def _drain(child: _Child) -> bool:
    """Pass on what was written; False at the end of the output."""
    while True:
        try:
            data = os.read(child.process.stdout.fileno(), 65536)
        except BlockingIOError:
            return True
        if not data:
            return False
        child.reader.feed(data)


def _last_state(line: bytes) -> str:
    """What a terminal would show of a line with carriage returns in it."""
    return next((part for part in reversed(line.split(b"\r")) if part), b"").decode(errors="replace").rstrip()


@contextlib.contextmanager
def _terminal() -> Iterator[None]:
    """Give the terminal back as it was, also when a node that read keys from it was killed."""
    if not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """SIGINT and SIGTERM are written into a list instead of ending us at once."""
    received: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, lambda number, _frame: received.append(number)) for number in numbers]
    try:
        yield received
    finally:
        for number, handler in zip(numbers, before):
            signal.signal(number, handler)
