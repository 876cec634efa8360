"""A node as a process: signals that leave time for a halt, errors without a traceback, an exit code that tells.

rclpy's default signal handlers invalidate the context before a node can publish its halt; so the signals only set a
flag here, and the node's own `shutdown()` still has a working context.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable

import rclpy
from rclpy.executors import ExternalShutdownException, ShutdownException, SingleThreadedExecutor, TimeoutException
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from irl_ros.contract import ContractError
from irl_ros.nodes.parameters import ParameterError

USAGE_ERROR = 2
IDLE = 0.05
"""[s] between two looks at whether a signal came."""


def run(factory: Callable[[], Node], user_errors: tuple[type[Exception], ...] = ()) -> int:
    """Spin `factory()` until SIGINT, SIGTERM, SIGHUP, SIGQUIT or until its `done` is true; returns its `exit_code` (default 0).

    The node may define `done: bool`, `exit_code: int`, `shutdown()` (called once with a valid context, also when a
    callback raised: what moves must be halted), `step()` (called between spins: work that must not wait for a callback),
    `spin_timeout: float` (how long a spin may wait for a callback [s], :data:`IDLE` by default) and
    `callbacks_per_spin: int` (the most that one spin runs of those that are ready, one by default).
    """
    stopped = False

    def stop(_signal: int, _frame: object) -> None:
        nonlocal stopped
        stopped = True

    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(name, stop)
    rclpy.init(args=sys.argv, signal_handler_options=SignalHandlerOptions.NO)
    node = None
    try:
        node = factory()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        step = getattr(node, "step", lambda: None)
        try:
            while not stopped and not getattr(node, "done", False):
                _spin(executor, getattr(node, "spin_timeout", IDLE), getattr(node, "callbacks_per_spin", 1))
                step()
        finally:
            if hasattr(node, "shutdown") and rclpy.ok():
                node.shutdown()
        executor.remove_node(node)
        return getattr(node, "exit_code", 0)
    except (ParameterError, ContractError, *user_errors) as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return USAGE_ERROR
    except ExternalShutdownException:
        return 0
    finally:
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()


def _spin(executor: SingleThreadedExecutor, timeout: float, most: int) -> None:
    """Run `most` callbacks, or as many as are ready; wait up to `timeout` [s] for the first."""
    for timeout in (timeout, *[0.0] * (most - 1)):
        try:
            handler, *_ = executor.wait_for_ready_callbacks(timeout)
        except (TimeoutException, ShutdownException):
            return
        handler()
        if (error := handler.exception()) is not None:
            raise error
