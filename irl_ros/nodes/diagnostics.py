"""diagnostic_msgs for the nodes: one status line, and the array that carries them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

TOPIC = "/diagnostics"
OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR


def status(name: str, level: bytes, message: str, **values: Any) -> DiagnosticStatus:
    """One line of diagnostics; floats among `values` are rounded to six digits."""
    shown = [(key, f"{value:.6g}" if isinstance(value, float) else str(value)) for key, value in values.items()]
    pairs = [KeyValue(key=key, value=value) for key, value in shown]
    return DiagnosticStatus(name=name, level=level, message=message, values=pairs)


def array(stamp: Time, statuses: Sequence[DiagnosticStatus]) -> DiagnosticArray:
    """What is published on `/diagnostics`."""
    message = DiagnosticArray(status=list(statuses))
    message.header.stamp = stamp
    return message
