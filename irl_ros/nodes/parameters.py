"""Node parameters as a frozen dataclass: description, unit, range and choices become ROS parameter descriptors."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

from irl_ros.contract import did_you_mean

P = TypeVar("P")


class ParameterError(ValueError):
    """A parameter outside its range or choices; the message names it and what is valid."""


def parameter(
    default: Any,
    description: str,
    unit: str = "",
    range: tuple[float, float] | None = None,
    choices: Sequence[str] = (),
    read_only: bool = True,
) -> Any:
    """A dataclass field that :func:`declare` turns into a ROS parameter."""
    metadata = {"description": description, "unit": unit, "range": range, "choices": choices, "read_only": read_only}
    return dataclasses.field(default=default, metadata=metadata)


def declare(node: Node, kind: type[P]) -> P:
    """Declare every field of the dataclass `kind` on `node`; returns it filled. Raises ParameterError.

    What is set later is held to the same: refused with what is valid.
    """
    fields = {f.name: f for f in dataclasses.fields(kind)}
    values = {name: _declare_one(node, field) for name, field in fields.items()}

    def check(changes: Sequence[Parameter]) -> SetParametersResult:
        faults = [_fault(fields[c.name], c.value) for c in changes if c.name in fields]
        return SetParametersResult(successful=not any(faults), reason=" ".join(filter(None, faults)))

    node.add_on_set_parameters_callback(check)
    return kind(**values)


def _declare_one(node: Node, field: dataclasses.Field) -> Any:
    try:
        value = node.declare_parameter(field.name, field.default, _descriptor(field)).value
    except (InvalidParameterValueException, InvalidParameterTypeException) as error:
        given = node._parameter_overrides.get(field.name)
        shown = given.value if given is not None else error
        raise ParameterError(f"parameter {field.name}: {shown!r} is not valid; {_valid(field)}") from None
    if fault := _fault(field, value):
        raise ParameterError(fault)
    return value


def _fault(field: dataclasses.Field, value: Any) -> str | None:
    """What is wrong with a value of the right type and, for rclpy, in range: it takes NaN and any string."""
    choices = field.metadata["choices"]
    if choices and value not in choices:
        return f"parameter {field.name}: unknown {value!r}.{did_you_mean(str(value), choices)}"
    if isinstance(value, float) and not math.isfinite(value):
        return f"parameter {field.name}: {value!r} is not valid; {_valid(field)}"
    return None


def _valid(field: dataclasses.Field) -> str:
    limits, unit = field.metadata["range"], field.metadata["unit"]
    within = f" from {limits[0]} to {limits[1]}" if limits else ""
    return f"it takes a {type(field.default).__name__}{within}{' ' + unit if unit else ''}"


def _descriptor(field: dataclasses.Field) -> ParameterDescriptor:
    data = field.metadata
    unit = f" [{data['unit']}]" if data["unit"] else ""
    descriptor = ParameterDescriptor(description=data["description"] + unit, read_only=data["read_only"])
    if data["choices"]:
        descriptor.additional_constraints = "one of: " + ", ".join(data["choices"])
    if data["range"]:
        low, high = data["range"]
        if isinstance(field.default, float):
            descriptor.floating_point_range = [FloatingPointRange(from_value=float(low), to_value=float(high))]
        else:
            descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high), step=1)]
    return descriptor
