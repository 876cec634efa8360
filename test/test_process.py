"""A node as a process: it is shut down in order however it ends."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import dds
import pytest

NODE = """
import sys
from rclpy.node import Node
from irl_ros.nodes import process

class Moving(Node):
    def __init__(self):
        super().__init__("moving")
        self.create_timer(0.05, self.tick)
        print("up", flush=True)

    def tick(self):
        if "raise" in sys.argv:
            raise RuntimeError("a fault in a callback")

    def shutdown(self):
        print("halted", flush=True)

sys.exit(process.run(Moving))
"""


def test_a_callback_that_raises_still_halts():
    with dds.domain() as domain:
        done = subprocess.run(
            [sys.executable, "-c", NODE, "raise"], env=dds.environment(domain), capture_output=True, text=True, timeout=60
        )
    assert done.returncode == 1 and done.stdout.split() == ["up", "halted"] and "a fault in a callback" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_in_order(number: int):
    with dds.domain() as domain:
        child = dds.Process([sys.executable, "-c", NODE], domain)
        try:
            child.wait_output("up")
            started = time.monotonic()
            child.send_signal(number)
            assert child.wait() == 0 and "halted" in child.output and time.monotonic() - started < 10.0
        finally:
            child.stop()


READY = """
import sys, time
from rclpy.node import Node
from irl_ros.nodes import process

class Busy(Node):
    spin_timeout, callbacks_per_spin, done = 0.0, int(sys.argv[1]), False

    def __init__(self):
        super().__init__("busy")
        self.ran = 0
        for _ in range(3):
            self.create_timer(0.001, self.tick)
        time.sleep(0.01)  # all are due

    def tick(self):
        self.ran += 1

    def step(self):
        if self.ran:
            print(self.ran, flush=True)
            self.done = True
        time.sleep(0.05)

sys.exit(process.run(Busy))
"""


@pytest.mark.parametrize("most, ran", [(1, 1), (2, 2), (4, 3)])
def test_one_spin_runs_as_many_callbacks_as_the_node_says(most: int, ran: int):
    with dds.domain() as domain:
        done = subprocess.run(
            [sys.executable, "-c", READY, str(most)], env=dds.environment(domain), capture_output=True, text=True, timeout=60
        )
    assert done.returncode == 0 and int(done.stdout) == ran, done.stderr
