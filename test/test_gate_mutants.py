"""For each limit of the gate, faults that somebody could write into it: gate_drives.py's drives must notice every one.

A mutant is one fragment of a module's source replaced by another; the fragment must be there exactly once.
"""

from __future__ import annotations

import importlib
import sys
import types
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import gate_drives
import pytest

import irl_ros.control

ROOMS = ("faults", "limits", "box", "gate")
"""Modules of irl_ros.control, each importing only those before it."""


class Mutant(NamedTuple):
    fault: str
    module: str
    original: str
    replaced: str


MUTANTS = [
    # position and its margin
    Mutant("lower margin removed", "limits", "self.lower + safety.position_margin", "self.lower"),
    Mutant("upper margin removed", "limits", "self.upper - safety.position_margin", "self.upper"),
    Mutant(
        "upper margin's sign flipped",
        "limits",
        "self.upper - safety.position_margin",
        "self.upper + safety.position_margin",
    ),
    Mutant(
        "lower margin's sign flipped",
        "limits",
        "self.lower + safety.position_margin",
        "self.lower - safety.position_margin",
    ),
    Mutant(
        "lower limit removed",
        "limits",
        "lower = _between(target, self.lower, self._inner_lower)",
        "lower = target - 9.0",
    ),
    Mutant("upper limit removed", "limits", "_between(target, self._inner_upper, self.upper)\n", "target + 9.0\n"),
    Mutant(
        "farther out within the margin",
        "limits",
        "_between(target, self._inner_upper, self.upper)\n",
        "self.upper\n",
    ),
    Mutant(
        "out of the margin in one step",
        "limits",
        "_between(target, self._inner_upper, self.upper)\n",
        "self._inner_upper\n",
    ),
    Mutant("no braking before a position", "limits", "stoppable(rooms, self._brakes)", "np.maximum(rooms, 0.0)"),
    Mutant(
        "braking twice too late",
        "limits",
        "stoppable(rooms, self._brakes)",
        "stoppable(2.0 * rooms, self._brakes)",
    ),
    # velocity
    Mutant(
        "velocity limit removed",
        "limits",
        "self._max_change = np.array(robot.velocity_limit)",
        "self._max_change = 9.0",
    ),
    Mutant(
        "velocity's sign flipped",
        "limits",
        '"velocity", target - self._max_change',
        '"velocity", target + self._max_change',
    ),
    Mutant(
        "velocity from the measured pose",
        "limits",
        "target - self._max_change, target +",
        "target - 9.0, target +",
    ),
    Mutant(
        "velocity in rad a period",
        "limits",
        "np.array(robot.velocity_limit) * self._period",
        "np.array(robot.velocity_limit)",
    ),
    # acceleration
    Mutant(
        "acceleration limit removed",
        "limits",
        "self._acceleration * self._period**2, UNLIMITED",
        "UNLIMITED, UNLIMITED",
    ),
    Mutant(
        "acceleration once by the period",
        "limits",
        "self._acceleration * self._period**2",
        "self._acceleration * self._period",
    ),
    Mutant("acceleration's sign flipped", "limits", "target + change - self._brake,", "target + change + self._brake,"),
    Mutant(
        "velocity's sign flipped in acceleration",
        "limits",
        "change - self._brake, target + change +",
        "change - self._brake, target - change +",
    ),
    Mutant(
        "acceleration from rest each time",
        "limits",
        "target + change - self._brake, target + change",
        "target - self._brake, target",
    ),
    Mutant("no ramp after enable", "gate", "np.zeros_like(measured, dtype=np.float64)", "self._change"),
    Mutant("velocity not remembered", "gate", "target, target - self._target, excess", "target, 0.0 * target, excess"),
    # lead
    Mutant(
        "lead removed",
        "limits",
        '"lead", measured - self._lead, measured + self._lead',
        '"lead", measured - 9.0, measured + 9.0',
    ),
    Mutant(
        "lead's sign flipped",
        "limits",
        '"lead", measured - self._lead, measured +',
        '"lead", measured + self._lead, measured +',
    ),
    Mutant(
        "lead over the commanded pose",
        "limits",
        '"lead", measured - self._lead, measured + self._lead',
        '"lead", target - self._lead, target + self._lead',
    ),
    Mutant(
        "braking before the commanded pose's lead",
        "limits",
        "ahead = measured - target",
        "ahead = target - target",
    ),
    Mutant("the arm's distance the other way", "limits", "ahead = measured - target", "ahead = target - measured"),
    Mutant("conflicts unseen", "limits", "int(conflicts.argmax()) if conflicts.any() else None", "None"),
    Mutant(
        "conflicts in commands passed over",
        "gate",
        "if bounded.conflict is not None:\n            return self.halt",
        "if False:\n            return self.halt",
    ),
    # box
    Mutant("box removed", "box", "if not self._lower:", "if True:"),
    Mutant("box's lower side removed", "box", "*map(sub, self._lower, hand), ", ""),
    Mutant("box's upper side removed", "box", ", *map(sub, hand, self._upper)", ""),
    Mutant("box's sign flipped", "box", "sub, hand, self._upper", "sub, self._upper, hand"),
    Mutant("box of one side only", "box", "*map(sub, self._lower, hand)", "min(map(sub, self._lower, hand))"),
    Mutant("steps not shortened at the box", "gate", "if max(excess, stop_excess) <= self._excess:", "if True:"),
    Mutant(
        "the stop may leave the box",
        "gate",
        "if max(excess, stop_excess) <= self._excess:",
        "if excess <= self._excess:",
    ),
    Mutant("no halt where the box cannot be kept", "gate", "if excess > self._excess + ROUNDING:", "if False:"),
    Mutant("the stop leaves the box behind a short step", "gate", "if stop_excess > self._excess:", "if False:"),
    Mutant(
        "measured end effector not looked at",
        "gate",
        "or self._box.fault(measured) or self._action_fault",
        "or self._action_fault",
    ),
    Mutant(
        "commanded in place of the measured end effector",
        "gate",
        "self._box.fault(measured) or self._action_fault",
        "self._box.fault(self._target) or self._action_fault",
    ),
    Mutant("tolerance without end", "box", "if excess <= TOLERANCE:", "if excess <= 9.0:"),
    Mutant("no tolerance", "box", "if excess <= TOLERANCE:", "if excess <= 0.0:"),
    Mutant("enabled anywhere", "gate", "or self._rest_fault(measured)", ""),
    # speed, pace, a human's step
    Mutant("speed ignored", "gate", "share = self._speed * pace", "share = pace"),
    Mutant("pace ignored", "gate", "share = self._speed * pace", "share = self._speed"),
    Mutant("speed's range ignored", "gate", "if not 0.0 < value <= 1.0:", "if False:"),
    Mutant(
        "speed ignored for a human",
        "gate",
        "(self._speed * self._contract.max_joint_step)",
        "self._contract.max_joint_step",
    ),
    Mutant("a human's step as long as wanted", "gate", "before + move / max(1.0, longer)", "before + move"),
    Mutant(
        "a human's step the other way",
        "gate",
        "before + move / max(1.0, longer)",
        "before - move / max(1.0, longer)",
    ),
    Mutant("action not clipped", "gate", "executed = np.clip(action, -1.0, 1.0)", "executed = action.copy()"),
    # the trajectory
    Mutant("a stop too hard", "limits", "float((np.abs(velocity) / self._acceleration).max())", "0.0"),
    Mutant(
        "a stop beyond the limits",
        "limits",
        "stop = _between(target + velocity * time / 2, lower, upper)",
        "stop = target + velocity * time",
    ),
    Mutant(
        "feed-forward into a limit",
        "limits",
        "velocity = _between(velocity, -2 * room_below / time, 2 * room_above / time)",
        "pass",
    ),
    Mutant(
        "feed-forward the other way",
        "limits",
        "else (target - previous) / self._period",
        "else (previous - target) / self._period",
    ),
    # refusals
    Mutant("not-finite taken", "faults", "if finite.all():", "if True:"),
    Mutant("infinite taken", "faults", "np.isfinite(value)", "~np.isnan(value)"),
    Mutant("any shape taken", "faults", "or value.shape != (size,):", "or False:"),
    Mutant("any type taken", "faults", "if not np.issubdtype(value.dtype, np.floating):", "if False:"),
    Mutant("stale taken", "faults", "age > max_age:", "age > 9.0:"),
    Mutant("missing taken", "faults", "if not age < math.inf:", "if False:"),
    Mutant("an age that is no number taken", "faults", "if not age < math.inf:", "if age == math.inf:"),
    Mutant("a human's wish not looked at", "gate", 'array_fault("wanted joint position", wanted, n_joints)', "None"),
    Mutant(
        "a human on stale input",
        "gate",
        "fault = self._input_fault(measured, ages) or self._box.fault(measured)\n",
        "fault = None\n",
    ),
    # halts
    Mutant("rest in the commanded pose", "gate", "if known else self._target", "if False else self._target"),
    Mutant("rest in a stale pose", "gate", ' and self._freshness.stale_role("joint_states", ages) is None', ""),
    Mutant("armed after a halt", "gate", "self.state, self.reason = GateState.HALTED, reason", "self.reason = reason"),
    Mutant(
        "commands while halted",
        "gate",
        "_refuse_unless_armed(self) -> None:\n        if not",
        "_refuse_unless_armed(self) -> None:\n        if False and not",
    ),
    Mutant(
        "enabled where the target was",
        "gate",
        "measured.astype(np.float64), np.zeros_like(",
        "self._target, np.zeros_like(",
    ),
]


def mutated(mutant: Mutant) -> SimpleNamespace:
    """The gate's names from fresh modules of which one has the mutant's fault; sys.modules is as before."""
    names = [f"irl_ros.control.{room}" for room in ROOMS]
    kept = {name: importlib.import_module(name) for name in names}
    try:
        for name, room in zip(names, ROOMS):
            source = (Path(irl_ros.control.__file__).parent / f"{room}.py").read_text()
            if room == mutant.module:
                assert source.count(mutant.original) == 1, f"{room}.py must have it once: {mutant.original}"
                source = source.replace(mutant.original, mutant.replaced)
            sys.modules[name] = types.ModuleType(name)
            exec(compile(source, f"{room}.py with: {mutant.fault}", "exec"), sys.modules[name].__dict__)
        gate = sys.modules["irl_ros.control.gate"]
        return SimpleNamespace(Gate=gate.Gate, GateError=gate.GateError, Halt=gate.Halt)
    finally:
        sys.modules.update(kept)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("mutant", MUTANTS, ids=[m.fault.replace(" ", "_") for m in MUTANTS])
def test_a_fault_in_a_limit_is_noticed(mutant: Mutant):
    modules = mutated(mutant)
    with pytest.raises(Exception) as caught:  # an assertion of the oracle, or the gate's own code falls over
        gate_drives.check(modules)
    assert not isinstance(caught.value, (ImportError, SyntaxError, NameError))


def test_without_a_fault_fresh_modules_pass():
    gate_drives.check(mutated(Mutant("none", "gate", "HALVINGS = 6", "HALVINGS = 6")))
