"""Lifecycle transitions that say what went wrong: rclpy swallows their exceptions."""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable
from typing import Any, Protocol

from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn


class Refusing(Protocol):
    """A lifecycle node that can drop a half-done transition and remember why."""

    def get_logger(self) -> Any:
        """The node's logger."""

    def refuse(self, reason: str) -> None:
        """Drop everything that was built; `reason` is for the operator."""


Change = Callable[[Refusing, LifecycleState], None]
Callback = Callable[[Refusing, LifecycleState], TransitionCallbackReturn]


def transition(*refusals: type[Exception]) -> Callable[[Change], Callback]:
    """Make a method a lifecycle callback: `refusals` are logged by their message, anything else with its traceback.

    A refusal leaves the node in the state it came from; anything else goes through error processing.
    """

    def decorate(change: Change) -> Callback:
        @functools.wraps(change)
        def callback(self: Refusing, state: LifecycleState) -> TransitionCallbackReturn:
            try:
                change(self, state)
                return TransitionCallbackReturn.SUCCESS
            except refusals as error:
                self.get_logger().error(f"{change.__name__}: {error}")
                self.refuse(str(error))
                return TransitionCallbackReturn.FAILURE
            except Exception as error:
                self.get_logger().error(f"{change.__name__}: {traceback.format_exc()}")
                self.refuse(repr(error))
                return TransitionCallbackReturn.ERROR

        return callback

    return decorate
