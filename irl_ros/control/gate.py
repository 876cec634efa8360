"""The last word on every command: pure, no ROS, no learning.

A :class:`Gate` is disarmed, armed or halted. Armed, it turns an action, or the joint target that a human wants, into a
:class:`Command`, or into a :class:`Halt` when anything is wrong. After a halt nothing moves until somebody enables it
again, and enabling starts from the measured pose, at rest.

Every target of a command, and the stop that follows it, lies within the position limits and their margin and within
the box of the end effector. Every target lies within the contract's ``max_lead`` of the measured pose, and neither
velocity nor acceleration from target to target exceeds the joints' limits. Where these contradict each other (somebody
pushed the arm away from its target) the gate halts. An arm that is found inside a margin, or outside the box by no more
than its tolerance, may stay or go back in, never farther out; farther outside it is not enabled: move it by hand.

Acceleration is that of the commanded velocities, one period to the next; a controller's cubic spline between two of
them peaks at up to four times as much for an instant, and at six where a joint comes to its position limit
(docs/results.md).

A halt ends in the stop that the last command promised, or short of it where the arm is not that far: no farther from
the measured pose than the arm gets by braking, the age of that measurement included, so that one which is held or
pushed stays about where it is. It takes long enough for a controller that starts from the last target: where the
measured pose is wrong, the arm goes there no faster than its joints may.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

import numpy as np

from irl_ros.contract import Contract, ContractError, Safety
from irl_ros.control.box import ROUNDING, Box, fit
from irl_ros.control.faults import Freshness, array_fault
from irl_ros.control.limits import JointLimits
from irl_ros.motion import (
    DifferentialKinematics,
    JointTrajectory,
    asked_action,
    clip,
    gripper_action,
    gripper_target,
    halt_trajectory,
    wanted_target,
)


class GateError(ValueError):
    """The gate was asked for something it refuses; the message says what and what to do."""


class GateState(Enum):
    DISARMED = "disarmed"
    ARMED = "armed"
    HALTED = "halted"


class Command(NamedTuple):
    """One period of motion. Shapes: action (m,) as executed, in [-1, 1]; target (n_joints,) [rad]."""

    trajectory: JointTrajectory
    action: np.ndarray
    target: np.ndarray
    limited: tuple[str, ...]
    """What was cut to its limit: "action", "step", "box", "<position|lead|velocity|acceleration> of <joint>"."""
    opening: float | None = None
    """Of the gripper [m], within its range; None where the task leaves it alone. A halt leaves it as it is."""


class Halt(NamedTuple):
    """Come to rest; nothing follows until the gate is enabled again."""

    trajectory: JointTrajectory
    reason: str
    hold: np.ndarray
    """For a controller that goes to its command at once [rad], shape (n_joints,): the measured pose, no farther than the
    contract's ``max_lead`` from the last target; the last target where the pose is not known."""


class Gate:
    """Limits on commands under `contract`. Positions and targets are [rad], shape (n_joints,); ages [s] by role.

    An age is the time since the topic's last message was received, on a monotonic clock; `math.inf` if there was none.
    """

    def __init__(
        self, contract: Contract, kinematics: DifferentialKinematics | None = None, safety: Safety = Safety()
    ):
        """`safety` comes from the robot's file here, not from a checkpoint. `kinematics` is needed where actions
        displace the end effector or `safety` has a box."""
        if contract.robot is None:
            raise ContractError(f"task {contract.task.name}: there is no robot in this contract to command")
        if contract.task.moves_end_effector and kinematics is None:
            raise ContractError(f"task {contract.task.name}: its actions move the end effector; give its kinematics")
        if safety.box_lower and kinematics is None:
            raise ContractError(f"robot {contract.robot.name}: its box bounds the end effector; give its kinematics")
        if len(safety.acceleration_limit) not in (0, contract.robot.n_joints):
            raise ContractError(f"robot {contract.robot.name}: safety limits of another robot, with other joints")
        self._contract, self._kinematics = contract, kinematics
        self._limits, self._box = JointLimits(contract, safety), Box(safety, kinematics)
        self._freshness = Freshness(contract)
        self._speed, self._opening = 1.0, None
        self._begin(np.array(contract.robot.home), np.zeros(contract.robot.n_joints))
        self.state = GateState.DISARMED
        self.reason = "not enabled yet"
        """Why the gate is not armed; empty while it is."""

    @property
    def armed(self) -> bool:
        return self.state is GateState.ARMED

    @property
    def target(self) -> np.ndarray:
        """Joint target of the last command [rad], shape (n_joints,)."""
        return self._target.copy()

    @property
    def speed(self) -> float:
        """Share of every step that is taken, in (0, 1]: 0.1 for a first run on metal. May change under way."""
        return self._speed

    @speed.setter
    def speed(self, value: float) -> None:
        if not 0.0 < value <= 1.0:
            raise GateError(f"speed must lie in (0, 1], not {value}")
        self._speed = float(value)

    def enable(self, measured: np.ndarray, ages: Mapping[str, float], opening: float | None = None) -> None:
        """Arm, with the target at the measured pose, at rest. Raises GateError, and stays as it was, on unusable input
        and where no command from this pose could keep every limit. `opening`: the gripper's [m], where it is known."""
        fault = self.stale(ages) or self._array_fault(measured) or self._rest_fault(measured)
        if fault:
            raise GateError(f"not enabled: {fault}")
        self._begin(measured, np.zeros_like(measured, dtype=np.float64))
        self._opening = opening
        self.state, self.reason = GateState.ARMED, ""

    def follow(self, measured: np.ndarray, velocity: np.ndarray) -> None:
        """Start the next step from the arm as it moves, [rad] and [rad/s], both (n_joints,): for a dry run, in which
        somebody else commands it."""
        self._begin(measured, velocity * self._contract.task.period)

    def _begin(self, measured: np.ndarray, change: np.ndarray) -> None:
        """As if the last target had been the measured pose, with this change before it [rad]."""
        self._target, self._change = measured.astype(np.float64), change
        self._excess = self._box.excess(self._target)
        self._step = self._before = self._limits.at_rest(self._target)

    def disable(self, reason: str, measured: np.ndarray | None, ages: Mapping[str, float]) -> Halt | None:
        """Disarm; the halt to send if the arm may be moving, None when nothing was under way."""
        halt = self.halt(reason, measured, ages) if self.armed else None
        self.state, self.reason = GateState.DISARMED, reason
        return halt

    def command(
        self, action: np.ndarray, measured: np.ndarray, ages: Mapping[str, float], pace: float = 1.0
    ) -> Command | Halt:
        """The command for `action`, shape (action_size,), or the halt that ends all motion.

        `pace` in [0, 1] scales the step further than `speed` does. Raises GateError when the gate is not armed or
        `pace` is out of its range.
        """
        self._refuse_unless_armed()
        if not 0.0 <= pace <= 1.0:
            raise GateError(f"pace must lie in [0, 1], not {pace}")
        fault = self._input_fault(measured, ages) or self._box.fault(measured) or self._action_fault(action)
        if fault:
            return self.halt(fault, measured, ages)
        share = self._speed * pace
        executed = clip(action, -1.0, 1.0)
        wanted = wanted_target(self._contract, self._target, action, self._kinematics)
        if share < 1.0:
            wanted = self._target + share * (wanted - self._target)
            executed[: self._contract.task.arm_action_size] *= share
        cut = ("action",) if max(map(abs, action.tolist())) > 1.0 else ()
        return self._move(wanted, executed, gripper_target(self._contract, action), cut, measured, ages)

    def forward(
        self, wanted: np.ndarray, measured: np.ndarray, ages: Mapping[str, float], opening: float | None = None
    ) -> Command | Halt:
        """The command towards the joint target that a human wants [rad], within every limit that an action meets.

        The step keeps its direction and is no longer than an action's. `opening` of the gripper [m]; None leaves it.
        Raises GateError when the gate is not armed.
        """
        self._refuse_unless_armed()
        n_joints = self._contract.robot.n_joints
        fault = self._input_fault(measured, ages) or self._box.fault(measured)
        fault = fault or array_fault("wanted joint position", wanted, n_joints)
        if fault:
            return self.halt(fault, measured, ages)
        move, before = wanted - self._target, self._target
        longer = float((np.abs(move) / (self._speed * self._contract.max_joint_step)).max())
        near, cut = before + move / max(1.0, longer), ("step",) if longer > 1.0 + ROUNDING else ()
        opening = self._known_opening(opening) if self._contract.task.gripper else None
        result = self._move(near, wanted, opening, cut, measured, ages)
        return result._replace(action=self._executed(before, result)) if isinstance(result, Command) else result

    def halt(self, reason: str, measured: np.ndarray | None, ages: Mapping[str, float]) -> Halt:
        """Halt; see above. Where the measurement is missing, stale or bad, in the last command's stop: the arm has moved
        on since, and that is what silence would have done.

        Raises GateError when the gate is not armed: there is nothing to halt.
        """
        if not self.armed:
            raise GateError(f"no halt: the gate is {self.state.value} ({self.reason})")
        known = self._position_fault(measured) is None and self._freshness.stale_role("joint_states", ages) is None
        times = np.maximum(self._step.times, self._before.times)
        if known:
            start, hold = measured, measured
            rest = self._braked(measured, times / 2.0 + max(ages["joint_states"], 0.0))
        else:
            start, rest, hold = self._target, np.array(self._step.stop), self._target
            # Longer, and the way there from an arm that is at the target already would lead past the stop.
            times = np.minimum(np.array(self._step.times) + self._contract.task.period, 1.5 * np.array(self._step.times))
        lead, longer = self._contract.task.max_lead, self._limits.travel_times(rest - self._target)
        if (longer > times).any() or np.abs(start - self._target).max() > lead / 3.0:
            # The controller may start elsewhere than the arm is measured: one point, no early one to rush to.
            times = np.full_like(longer, max(longer.max(), np.max(times)))
        hold = self._limits.within(clip(np.asarray(hold, np.float64), self._target - lead, self._target + lead))
        self.state, self.reason = GateState.HALTED, reason
        return Halt(halt_trajectory(start, rest, times), reason, hold)

    def _braked(self, measured: np.ndarray, times: np.ndarray) -> np.ndarray:
        """The last command's stop, or as far that way from the measured pose as each joint gets at full speed in its
        time [s]; not out of the box. An arm may still be at the speed of the command before the last."""
        way = np.maximum(np.abs(self._step.velocity), np.abs(self._before.velocity)) * times
        rest = clip(np.array(self._step.stop), measured - way, measured + way)
        leaves = self._box.excess(rest) > max(self._excess, self._box.excess(measured))
        return measured if leaves else rest

    def stale(self, ages: Mapping[str, float]) -> str | None:
        """What is missing or too old, in words; None when every input is fresh."""
        return self._freshness.stale(ages)

    def _move(
        self,
        wanted: np.ndarray,
        action: np.ndarray,
        opening: float | None,
        cut: tuple[str, ...],
        measured: np.ndarray,
        ages: Mapping[str, float],
    ) -> Command | Halt:
        asked, change = wanted.tolist(), self._change.tolist()
        if not all(map(math.isfinite, asked)):
            return self.halt("the kinematics gave a target that is no number", measured, ages)
        bounded = self._limits.bound(asked, self._step.target, change, measured.tolist())
        if bounded.conflict is not None:
            return self.halt(self._contradiction(bounded.conflict, measured), measured, ages)
        step, excess = fit(self._limits, self._box, self._step, change, bounded, self._excess)
        if excess > self._excess + ROUNDING:
            return self.halt("the end effector cannot brake any more before it leaves its box", measured, ages)
        if not all(map(math.isfinite, (*step.target, *step.velocity, *step.stop))):
            return self.halt("the limits gave a command that is no number", measured, ages)
        limited = (*cut, *bounded.limited, *(() if step.target == bounded.target else ("box",)))
        target = np.array(step.target)
        self._target, self._change, self._excess, self._opening = target, target - self._target, excess, opening
        self._step, self._before = step, self._step
        return Command(self._limits.trajectory(step), action, target.copy(), limited, opening)

    def _executed(self, before: np.ndarray, command: Command) -> np.ndarray:
        """The action that would have asked for this command, clipped to [-1, 1]."""
        arm = asked_action(self._contract, np.stack([before, command.target]), self._kinematics)[0]
        if command.opening is None:
            return clip(arm, -1.0, 1.0)
        return np.clip([*arm, *gripper_action(self._contract, np.array([command.opening]))[0]], -1.0, 1.0)

    def _known_opening(self, opening: float | None) -> float:
        """Of the gripper [m], within its range: the wanted one, else the last commanded, else wide open."""
        closed, opened = self._contract.robot.gripper.opening_range
        wanted = next(filter(lambda o: o is not None and math.isfinite(o), (opening, self._opening)), opened)
        return float(np.clip(wanted, closed, opened))

    def _refuse_unless_armed(self) -> None:
        if not self.armed:
            raise GateError(f"no command: the gate is {self.state.value} ({self.reason}); enable it first")

    def _input_fault(self, measured: np.ndarray, ages: Mapping[str, float]) -> str | None:
        return self.stale(ages) or self._position_fault(measured)

    def _position_fault(self, measured: np.ndarray | None) -> str | None:
        return self._array_fault(measured) or self._limits.impossible(measured)

    def _array_fault(self, measured: np.ndarray | None) -> str | None:
        return array_fault("measured joint position", measured, self._contract.robot.n_joints)

    def _action_fault(self, action: np.ndarray) -> str | None:
        return array_fault("action", action, self._contract.action_size)

    def _rest_fault(self, measured: np.ndarray) -> str | None:
        """Why no motion can start at rest in `measured`."""
        pose = measured.tolist()
        conflict = self._limits.bound(pose, pose, [0.0] * len(pose), pose).conflict
        if conflict is not None:
            return f"{self._whereabouts(conflict, measured)}; move it back by hand"
        fault = self._box.fault(measured)
        return f"{fault}; move it back by hand" if fault else None

    def _contradiction(self, joint: int, measured: np.ndarray) -> str:
        """Why no target satisfies every limit at once: the arm is not where it should be."""
        away = abs(measured[joint] - self._target[joint])
        lower, upper = self._limits.range(joint)
        outside = not lower <= measured[joint] <= upper
        if outside and away <= self._contract.task.max_lead:
            return self._whereabouts(joint, measured)
        name = self._limits.names[joint]
        return (
            f"{name} is at {measured[joint]:.3f} rad, {away:.3f} rad from its target: held, pushed or commanded by "
            "somebody else"
        )

    def _whereabouts(self, joint: int, measured: np.ndarray) -> str:
        lower, upper = self._limits.range(joint)
        return f"{self._limits.names[joint]} is at {measured[joint]:.3f} rad, outside [{lower}, {upper}]"

