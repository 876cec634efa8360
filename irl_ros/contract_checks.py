"""Bounds of a contract's values, and the checks that hold them.

A value passes the same check whether it comes from a YAML file, a checkpoint, a bag or a Python program: the
dataclasses of :mod:`irl_ros.contract_terms` call them at construction, before anything of that size is allocated.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from irl_ros.contract_lookup import ContractError, did_you_mean

MIN_RATE, MAX_RATE = 1.0, 1000.0
"""Control rate [Hz]. Below it a halt may come more than a second late, above it no arm's controller runs."""
MAX_HORIZON = 1_000_000
"""Maximum length of an episode [control periods]: 1,000 s at 1 kHz, 14 h at 20 Hz."""
MAX_EPISODE_VALUES = 30_000_000
"""Maximum numbers in one episode, observations and actions together: 240 MB."""
MAX_AGE = 60.0
"""Maximum `max_age` of a topic [s]. Latch a topic that is published more rarely."""
MAX_JOINTS = 128
"""Maximum joints of a robot: a humanoid with two hands has about 60."""
MAX_FIXED_JOINTS = 256
"""Maximum joints that the simulated robot holds still."""
MAX_FINGERS = 32
"""Maximum joints of a gripper."""
MAX_FIELDS = 4096
"""Maximum fields of an observation: a gymnasium env has one per element of its Box."""
MAX_OBSERVATION_SIZE = 100_000
"""Maximum numbers in an observation: 28,224 are four stacked frames of 84 by 84 pixels."""
MAX_ACTION_SIZE = 1024
"""Maximum numbers in an action."""
MAX_FEATURES = 4096
"""Maximum feature expressions in each list of a task."""
MAX_FEATURE_LENGTH = 2048
"""Maximum length of a feature expression [characters]."""
MAX_TOPICS = 64
"""Maximum topics of a task, and of those recorded beside them."""
MAX_GRID_CELLS = 10_000
"""Maximum cells of a grid: 100 by 100."""
MAX_ONE_HOT_CELLS = 2_500
"""Maximum cells of a grid whose features are its cells: memory goes with the square, 250 MB here."""
MAX_GRID_PERIODS = 2_000_000
"""Maximum cells times horizon of a grid task [cells × periods]: 800 MB of values over ten horizons."""
MAX_NAME = 255
"""Maximum length of a name, a frame, a topic, an env [characters], as DDS has it for topics."""
MAX_PATH = 4096
"""Maximum length of a path [characters], as Linux has it."""
MAX_JOINT_POSITION = 1e6
"""Maximum absolute joint position [rad, or m where joints slide]: wheels and winches turn often."""
MAX_JOINT_VELOCITY = 1000.0
"""Maximum velocity of a joint [rad/s, or m/s where joints slide]."""
MAX_ACCELERATION = 1e6
"""Maximum acceleration of a joint [rad/s², or m/s² where joints slide]."""
MAX_LEAD = 1.0
"""Maximum distance between target and measured pose that a task allows [rad, or m where joints slide]."""
MAX_STEP = 1.0
"""Maximum displacement of the end effector in a control period [m]."""
MAX_DISTANCE = 10_000.0
"""Maximum absolute coordinate of a workspace, a box, a grid, a gripper's opening [m]."""
MAX_FORCE = 10_000.0
"""Maximum force of a gripper's joint [N]."""
MIN_SCALE, MAX_SCALE = 1e-9, 1e12
"""Scale that a network's input is divided by, in the field's unit, and the absolute center subtracted before."""
MAX_NESTING = 4
"""Maximum depth of lists within lists in a contract's values."""

TYPE = re.compile(r"[a-z][a-z0-9_]*/msg/[A-Za-z][A-Za-z0-9]*")
TOPIC = re.compile(r"(/|~/)?[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*")

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 60
_REPR.maxlevel = 3


def shown(value: Any) -> str:
    """Return a value's repr, shortened: at most a few hundred characters, whatever it is."""
    try:
        return _REPR.repr(value)[:300]
    except ValueError:  # a whole number of more digits than Python prints
        return f"a {type(value).__name__} too long to show"


def check_number(
    where: str, name: str, value: Any, low: float, high: float, unit: str = "", above: bool = False
) -> None:
    """Raise ContractError unless `value` is a number from `low` to `high`; `above` leaves `low` itself out."""
    number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not (number and low <= value <= high and not (above and value == low)):
        least = f"above {low:g} and at most {high:g}" if above else f"from {low:g} to {high:g}"
        raise ContractError(f"{where}: {name} must be a number {least}{' ' + unit if unit else ''}, not {shown(value)}")


def check_integer(where: str, name: str, value: Any, low: int, high: int, unit: str = "") -> None:
    """Raise ContractError unless `value` is a whole number from `low` to `high`."""
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not (whole and low <= value <= high):
        words = f"a whole number from {low} to {high}{' ' + unit if unit else ''}"
        raise ContractError(f"{where}: {name} must be {words}, not {shown(value)}")


def check_flag(where: str, name: str, value: Any) -> None:
    """Raise ContractError unless `value` is true or false."""
    if not isinstance(value, bool):
        raise ContractError(f"{where}: {name} must be true or false, not {shown(value)}")


def check_text(where: str, name: str, value: Any, longest: int = MAX_NAME, least: int = 1) -> None:
    """Raise ContractError unless `value` is printable text of `least` to `longest` characters."""
    if not (isinstance(value, str) and least <= len(value) <= longest and value.isprintable()):
        words = f"printable text of {least} to {longest} characters"
        raise ContractError(f"{where}: {name} must be {words}, not {shown(value)}")


def check_choice(where: str, what: str, value: Any, valid: Sequence[str]) -> None:
    """Raise ContractError unless `value` is one of `valid`."""
    if not isinstance(value, str) or value not in valid:
        near = value if isinstance(value, str) else ""
        raise ContractError(f"{where}: unknown {what} {shown(value)}.{did_you_mean(near, valid)}")


def check_tuple(where: str, name: str, value: Any, least: int, most: int) -> None:
    """Raise ContractError unless `value` is a tuple of `least` to `most` elements."""
    if not (isinstance(value, tuple) and least <= len(value) <= most):
        found = f"{len(value)}" if isinstance(value, tuple) else shown(value)
        count = f"{least}" if least == most else f"{least} to {most}"
        raise ContractError(f"{where}: {name} must be a list (in Python, a tuple) of {count} elements, not {found}")


def check_each(where: str, name: str, values: tuple[Any, ...], check: Callable[..., None], *bounds: Any) -> None:
    """Call `check` on every element of a tuple, each under its index."""
    for index, value in enumerate(values):
        check(where, f"{name}[{index}]", value, *bounds)


def check_unique(where: str, name: str, values: Iterable[Any]) -> None:
    """Raise ContractError where a name occurs twice."""
    seen: set[Any] = set()
    for value in values:
        if value in seen:
            raise ContractError(f"{where}: {name} must differ from one another; {shown(value)} occurs twice")
        seen.add(value)


def check_kind(where: str, name: str, value: Any, kind: type) -> None:
    """Raise ContractError unless `value` is an instance of `kind`."""
    if not isinstance(value, kind):
        raise ContractError(f"{where}: {name} must be a {kind.__name__}, not {shown(value)}")


def check_pairs(where: str, name: str, value: Any, most: int) -> None:
    """Raise ContractError unless `value` is a tuple of at most `most` pairs (name, …) with unique names."""
    check_tuple(where, name, value, 0, most)
    for index, pair in enumerate(value):
        check_tuple(where, f"{name}[{index}]", pair, 2, 2)
        check_text(where, f"{name}[{index}][0]", pair[0])
    check_unique(where, f"names in {name}", (pair[0] for pair in value))


def check_box(where: str, name: str, lower: Any, upper: Any) -> None:
    """Raise ContractError unless two corners [m] are opposite ones, or both of them are empty."""
    for corner, value in (("lower", lower), ("upper", upper)):
        check_tuple(where, f"{name}.{corner}", value, 0, 3)
        check_each(where, f"{name}.{corner}", value, check_number, -MAX_DISTANCE, MAX_DISTANCE, "m")
    if not (len(lower) == len(upper) and len(lower) in (0, 3) and all(a < b for a, b in zip(lower, upper))):
        raise ContractError(
            f"{where}: {name} needs lower and upper of three numbers, lower < upper, not {lower} and {upper}"
        )
