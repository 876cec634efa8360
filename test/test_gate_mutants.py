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
    Mutant("lower margin removed", "limits", "lower + margin", "lower"),
    Mutant("upper margin removed", "limits", "upper - margin", "upper"),
    Mutant("upper margin's sign flipped", "limits", "upper - margin", "upper + margin"),
    Mutant("lower margin's sign flipped", "limits", "lower + margin", "lower - margin"),
    Mutant("lower limit removed", "limits", "return _between(target, self.lower, self._inner_lower)", "return target - 9.0"),
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
    Mutant("no braking", "limits", "if braking(step, brake) > room:", "if step > room:"),
    Mutant("no braking at all", "limits", "if braking(step, brake) > room:", "if False:"),
    Mutant("braking to a stop, but too late", "limits", "braking(step, brake) > room", "0.5 * braking(step, brake) > room"),
    Mutant("braking shortens nothing", "limits", "shorter = stoppable(room, brake)", "shorter = room"),
    Mutant("braking twice too late", "limits", "stoppable(room, brake)", "stoppable(2.0 * room, brake)"),
    Mutant("room below taken for room above", "limits", "wanted - target, top - target", "wanted - target, target - bottom"),
    # velocity
    Mutant("velocity limit removed", "limits", "velocity * period", "9.0"),
    Mutant("velocity's sign flipped", "limits", "target - self._max_change", "target + self._max_change"),
    Mutant("velocity of one direction", "limits", "target - self._max_change", "target - 9.0"),
    Mutant("velocity in rad a period", "limits", "velocity * period", "velocity"),
    # acceleration
    Mutant(
        "acceleration limit removed",
        "limits",
        "acceleration * period**2, UNLIMITED",
        "UNLIMITED, UNLIMITED",
    ),
    Mutant(
        "acceleration once by the period",
        "limits",
        "acceleration * period**2",
        "acceleration * period",
    ),
    Mutant("acceleration's sign flipped", "limits", "target + change - self._brake", "target + change + self._brake"),
    Mutant(
        "velocity's sign flipped in acceleration",
        "limits",
        "target + change + self._brake",
        "target - change + self._brake",
    ),
    Mutant(
        "acceleration from rest each time",
        "limits",
        "target + change - self._brake",
        "target - self._brake",
    ),
    Mutant("no ramp after enable", "gate", "np.zeros_like(measured, dtype=np.float64)", "self._change"),
    Mutant("velocity not remembered", "gate", "target, target - self._target, excess", "target, 0.0 * target, excess"),
    # lead
    Mutant("lead downwards removed", "limits", "measured - self._lead", "measured - 9.0"),
    Mutant("lead upwards removed", "limits", "measured + self._lead", "measured + 9.0"),
    Mutant("lead's sign flipped", "limits", "measured - self._lead", "measured + self._lead"),
    Mutant("lead over the commanded pose", "limits", "measured + self._lead", "target + self._lead"),
    Mutant("the robot's own lead removed", "limits", "min(contract.task.max_lead, safety.lead)", "contract.task.max_lead"),
    Mutant(
        "braking before the commanded pose's lead",
        "limits",
        "self._lead + (measured - target)",
        "self._lead + (target - target)",
    ),
    Mutant(
        "the arm's distance the other way",
        "limits",
        "self._lead - (measured - target)",
        "self._lead + (measured - target)",
    ),
    Mutant("conflicts unseen", "limits", "i if conflict is None and lower > upper + ROUNDING else conflict", "None"),
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
    Mutant("no slowing on the way to the stop", "limits", "max(1.0 - self._period / time, 0.0) * moved", "moved"),
    Mutant("steps not shortened at the box", "box", "if max(excess, stop_excess) <= allowed:", "if True:"),
    Mutant(
        "the stop may leave the box",
        "box",
        "if max(excess, stop_excess) <= allowed:",
        "if excess <= allowed:",
    ),
    Mutant("no halt where the box cannot be kept", "gate", "if excess > self._excess + ROUNDING:", "if False:"),
    Mutant("the stop leaves the box behind a short step", "box", "limits.at_rest(step.target), box", "step, box"),
    Mutant("braking only on the way to the last stop", "box", "if inside(step):", "if True:"),
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
    Mutant("action not clipped", "gate", "executed = clip(action, -1.0, 1.0)", "executed = action.copy()"),
    # the trajectory
    Mutant("a stop too hard", "limits", "*(abs(v) / most for v, most in zip(fastest, self._accelerations))", "0.0"),
    Mutant(
        "a stop beyond the limits",
        "limits",
        "_between(end + v * time / 2.0, lower, upper)",
        "end + v * time",
    ),
    Mutant(
        "feed-forward into a limit",
        "limits",
        "v = math.copysign(min(abs(v), 2.0 * room / time), v)",
        "pass",
    ),
    Mutant("together into a limit", "limits", "if abs(v) * time / 2.0 > room:", "if False:"),
    Mutant("a stop too hard before a limit", "limits", "max(math.sqrt(2.0 * room / most), self._period)", "self._period"),
    Mutant(
        "feed-forward the other way",
        "limits",
        "(end - start) / self._period",
        "(start - end) / self._period",
    ),
    # refusals
    Mutant("not-finite taken", "faults", "if all(finite):", "if True:"),
    Mutant("infinite taken", "faults", "map(math.isfinite, value.tolist())", "map(lambda x: x == x, value.tolist())"),
    Mutant("any shape taken", "faults", "or value.shape != (size,):", "or False:"),
    Mutant("any type taken", "faults", 'if value.dtype.kind != "f":', "if False:"),
    Mutant("stale taken", "faults", "topic.too_old(age)", "age > 9.0"),
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
    Mutant("rest in the last stop", "gate", "clip(np.array(self._step.stop), measured - way, measured + way)", "np.array(self._step.stop)"),
    Mutant("rest in the measured pose", "gate", "clip(np.array(self._step.stop), measured - way, measured + way)", "measured"),
    Mutant("a halt leaves the box", "gate", "measured if leaves else rest", "rest"),
    Mutant("a halt too hard", "gate", "times = np.maximum(self._step.times, self._before.times)", "times = np.full(7, self._contract.task.period)"),
    Mutant("a blind halt past its stop", "gate", ", 1.5 * np.array(self._step.times))", ", 9.0)"),
    Mutant("a halt goes by the last step alone", "gate", "np.abs(self._before.velocity)) * times", "0.0) * times"),
    Mutant("a halt behind where the arm is by now", "gate", ' + max(ages["joint_states"], 0.0)', ""),
    Mutant("hold where the command ended", "gate", "clip(np.asarray(hold, np.float64), self._target - lead, self._target + lead)", "rest"),
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
        "measured.astype(np.float64), change",
        "self._target, change",
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
    gate_drives.check(mutated(Mutant("none", "box", "HALVINGS = 6", "HALVINGS = 6")))
