"""The starter of child processes: stages, exit codes, stopping, output; with real processes."""

import io
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from irl_ros.graph import Graph, Node, Stage
from irl_ros.starter import Console, LineReader, start

# An actor does what its parameters say: `log` gets a line when it is up, `wait_for` is a text it awaits in there.
ACTOR = """
    import json, os, signal, subprocess, sys, time
    (parameters,) = json.load(open(sys.argv[sys.argv.index("--params-file") + 1])).values()
    p = parameters["ros__parameters"]
    ended = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None if p.get("stubborn") else ended.append(1))
    name = [a for a in sys.argv if a.startswith("__node:=")][0][8:]
    log = open(p["log"], "a")
    def note(text):
        log.write(text + "\\n"); log.flush()
    note(f"{name} up {os.getpid()}")
    if p.get("worker"):
        worker = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
        note(f"worker up {worker.pid}")
    end = time.monotonic() + 60
    while p.get("wait_for", "never") not in open(p["log"]).read() and not ended and time.monotonic() < end:
        time.sleep(0.01)
    note(f"{name} down")
    print("bye from", name)
    if p.get("signal"):
        os.kill(os.getpid(), p["signal"])
    sys.exit(p.get("code", 0))
"""


@pytest.fixture
def actor(tmp_path, monkeypatch):
    """Makes a node that runs ACTOR; `actor.log` is the file that all write to."""
    (tmp_path / "irl_ros_test_actor.py").write_text(textwrap.dedent(ACTOR))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")

    def make(name, patience=5.0, **parameters):
        return Node("irl_ros_test_actor", name, name, {"log": str(make.log), **parameters}, patience=patience)

    make.log = tmp_path / "log"
    make.log.write_text("")
    return make


def pids(log):
    return [int(line.split()[-1]) for line in log.read_text().splitlines() if " up " in line]


def wait_until(condition, what, timeout=30.0):
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, f"waited {timeout} s for {what}"
        time.sleep(0.01)


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def assert_all_gone(log):
    assert pids(log)
    wait_until(lambda: not any(alive(pid) for pid in pids(log)), "the end of every process")


def test_stages_follow_one_another_and_stop_their_nodes(actor):
    graph = Graph(
        "two",
        (
            Stage("a", (actor("helper"), actor("first", wait_for="helper up")), leader="first"),
            Stage("b", (actor("second", wait_for="second up"),), leader="second"),
        ),
    )
    output = io.StringIO()
    assert start(graph, output) == 0
    notes = [line.rpartition(" up")[0] or line for line in actor.log.read_text().splitlines()]
    assert notes.index("helper down") < notes.index("second") < notes.index("second down")
    assert "[first]  bye from first\n" in output.getvalue()
    assert "[helper] bye from helper\n" in output.getvalue()
    assert_all_gone(actor.log)


@pytest.mark.parametrize(
    ("fate", "code"), [({"code": 3}, 3), ({"code": 0}, 1), ({"signal": int(signal.SIGKILL)}, 128 + signal.SIGKILL)]
)
def test_a_node_that_dies_takes_the_graph_down_with_its_code(actor, fate, code):
    nodes = actor("leader"), actor("helper", wait_for="leader up", **fate)
    output = io.StringIO()
    later = Stage("later", (actor("later"),), leader="later")
    assert start(Graph("g", (Stage("a", nodes, leader="leader"), later)), output) == code
    assert f"[helper] ended with exit code {fate.get('code', 128 + signal.SIGKILL)}: stopping" in output.getvalue()
    assert "later up" not in actor.log.read_text()
    assert_all_gone(actor.log)


def test_a_failing_leader_fails_the_graph(actor):
    stage = Stage("a", (actor("leader", wait_for="leader up", code=5),), leader="leader")
    assert start(Graph("g", (stage, Stage("b", (actor("later"),)))), io.StringIO()) == 5
    assert "later up" not in actor.log.read_text()


def test_stubborn_nodes_and_their_own_children_are_killed(actor):
    nodes = actor("stubborn", stubborn=True, worker=True, patience=0.2), actor("leader", wait_for="worker up")
    output = io.StringIO()
    assert start(Graph("g", (Stage("a", nodes, leader="leader"),)), output) == 0
    assert "does not stop: killed" in output.getvalue()
    assert len(pids(actor.log)) == 3
    assert_all_gone(actor.log)


@pytest.fixture
def starter_process(actor):
    """The starter as a process of its own, with two nodes that are up."""
    code = f"""
    import sys
    from irl_ros.graph import Graph, Node, Stage
    from irl_ros.starter import start
    nodes = tuple(Node("irl_ros_test_actor", n, n, {{"log": {str(actor.log)!r}}}) for n in ("one", "two"))
    sys.exit(start(Graph("g", (Stage("a", nodes, leader="one"),))))
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: len(pids(actor.log)) == 2, "two nodes")
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_every_node(starter_process, actor, number, code):
    starter_process.send_signal(number)
    assert starter_process.wait(30) == code
    assert {"one down", "two down"} <= set(actor.log.read_text().splitlines())
    assert_all_gone(actor.log)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel tells children of their parent's death")
def test_nodes_do_not_outlive_a_killed_starter(starter_process, actor):
    starter_process.kill()
    assert_all_gone(actor.log)


def test_parameters_keep_their_types(tmp_path, monkeypatch):
    pytest.importorskip("rclpy")
    (tmp_path / "irl_ros_test_node.py").write_text(textwrap.dedent("""
        import rclpy
        from rclpy.node import Node
        rclpy.init()
        node = Node("wrong", automatically_declare_parameters_from_overrides=True)
        overrides = {n: p.value for n, p in node._parameter_overrides.items() if n != "use_sim_time"}
        print(node.get_fully_qualified_name(), ascii(sorted(overrides.items())))
        node.destroy_node()
        rclpy.shutdown()
    """))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    values = {"a": "007", "b": "1e5", "c": "yes", "d": "", "e": "null", "f": "a: {b} 'c' \"d\" # \\ é", "g": 1e-05}
    values |= {"h": 5.0, "i": -3, "j": True, "k": "2026-01-01", "l": "/tmp/ü x", "m": 1e22}
    user_file = tmp_path / "user.yaml"
    user_file.write_text("/**:\n  ros__parameters:\n    i: 4\n")
    node = Node("irl_ros_test_node", "n", "right", values, namespace="left_arm", params_file=str(user_file))
    output = io.StringIO()
    assert start(Graph("g", (Stage("s", (node,), leader="right"),)), output) == 0
    assert output.getvalue() == f"[right] /left_arm/right {ascii(sorted({**values, 'i': 4}.items()))}\n"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def shown(chunks, output):
    reader = LineReader("n", Console(output, ["n"]))
    for chunk in chunks:
        reader.feed(chunk)
    reader.close()
    return output.getvalue()


@pytest.mark.parametrize(
    ("chunks", "lines"),
    [
        ([b"a\nb", b"c\n"], ["a", "bc"]),
        ([b"a\r\nb\r", b"\n"], ["a", "b"]),
        ([b"no end"], ["no end"]),
        ([b"\xc3", b"\xa4\n"], ["ä"]),
        ([b"\n"], [""]),
        ([b"\r 10%", b"\r 50%", b"\r100%", b"\n", b"after\n"], [" 10%", "100%", "after"]),
        ([b"\r 10%", b"\r     \r", b"after\n"], [" 10%", "after"]),
        ([b"\r 10%", b"\rdone\n"], [" 10%", "done"]),
        ([b"\r 10%", b"[INFO] log\n", b"\r 20%\n"], [" 10%", "[INFO] log", " 20%"]),
    ],
)
def test_lines_and_progress_bars_without_a_terminal(chunks, lines):
    assert shown(chunks, io.StringIO()) == "".join(f"[n] {line}\n" for line in lines)


def test_progress_bars_are_redrawn_below_lines_on_a_terminal():
    output = Terminal()
    console = Console(output, ["bar", "talk"])
    bar, talk = LineReader("bar", console), LineReader("talk", console)
    bar.feed(b"\r 10%")
    talk.feed(b"hello\n")
    bar.feed(b"\r 90%")
    bar.feed(b"\r100%\n")
    text = output.getvalue()
    for colour in ("\x1b[36m", "\x1b[33m", "\x1b[0m"):
        text = text.replace(colour, "")
    clear = "\r\x1b[K"
    bar_states = f"{clear}[bar]   10%", f"{clear}[bar]   90%{clear}[bar]  100%\n"
    assert text == f"{bar_states[0]}{clear}[talk] hello\n[bar]   10%{bar_states[1]}"
