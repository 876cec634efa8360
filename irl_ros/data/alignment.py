"""Stamped samples to a fixed rate: which observation belongs to which action.

Time is the recorder's **receive time** unless the bag says otherwise (:mod:`irl_ros.data.clocks`). Under simulated time
these times are floored to the /clock period, so that samples with equal times are told apart by their order of arrival.

- Tick t lies `t` control periods after tick 0. With commands, tick 0 is the first command, corrected by the median of
  all the commands' offsets to the grid: one late first command must not shift an episode. The idle time before is no
  part of the episode. Where a demonstrator guides the arm by hand, tick 0 is when every topic has been received once.
- Command t is the last one received before tick t + half a period, and in force over (t, t+1]; a tick without a new
  one keeps the one before.
- Observation t is the latest sample at or before tick t, and before command t arrived: what the demonstrator can have
  seen. It must not be older than the topic's `max_age`; latched topics never go stale.
- Action t is the displacement that command t asks for, target(t) − target(t−1), in units of the contract's allowed
  step, with the measured position as the target before tick 0; by hand it is q(t+1) − q(t). Where actions move the end
  effector, the displacement is that of its position at these targets.
- The gripper's part of action t is what the last gripper command before tick t + half a period asks for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from irl_ros import messages
from irl_ros.contract import COMMAND_ROLES, Contract
from irl_ros.motion import DifferentialKinematics, asked_action, gripper_action
from irl_ros.data.clocks import RECEIVE, SECOND, Sample, dated
from irl_ros.data.episode import Episode, EpisodeError

DEMONSTRATED_BY = ("command", "hand_guiding")
MINIMUM_PERIODS = 10
COMMAND_TYPE = "trajectory_msgs/msg/JointTrajectory"
TOO_FAST = 1.05
"""An action beyond this many allowed steps is clipped and counted."""
MOST_TOO_FAST = 0.2
"""Share of clipped periods from which on an episode does not show what the demonstrator did."""


class Grid(NamedTuple):
    """`ticks` [ns], shape (T+1,); `commands`, shape (T,): index of the command in force, None when guided by hand."""

    ticks: np.ndarray
    commands: np.ndarray | None


def align(
    name: str,
    samples: Mapping[str, Sequence[Sample]],
    contract: Contract,
    kinematics: DifferentialKinematics,
    demonstrated_by: str = "command",
    success: bool | None = None,
    clock: str = RECEIVE,
) -> Episode:
    """Samples by role (joint_states, command, …) to an episode of at most the task's horizon. Raises EpisodeError.

    Of a bag or of what a recorder has just heard; `clock` as in :func:`irl_ros.data.clocks.dated`.
    """
    try:
        commanding = COMMAND_ROLES if demonstrated_by == "command" else ()
        used = {role: some for role, some in samples.items() if role in (*contract.sources, *commanding)}
        samples = dated(name, used, contract, clock)
        _check(samples, contract, demonstrated_by)
        if demonstrated_by == "command":
            grid = command_grid(samples, contract)
        else:
            grid = guided_grid(samples, contract)
        chosen = {role: choose(role, samples, grid, contract) for role in contract.sources}
        rows = _measured(samples, chosen, contract)
        observations = np.stack([contract.observe(row, kinematics) for row in rows])
        position = np.stack([row["joint_position"] for row in rows])
        actions, clipped = _actions(position, samples, grid, contract, kinematics)
        if contract.task.gripper:
            opening = np.concatenate([row["gripper_opening"] for row in rows])
            actions = np.concatenate([actions, gripper_action(contract, _openings(opening, samples, grid, contract))], 1)
    except (EpisodeError, messages.MessageError) as error:
        raise EpisodeError(f"episode {name}: {error}") from None
    return Episode(name, observations, actions, success=success, clipped=clipped)


def _check(samples: Mapping[str, Sequence[Sample]], contract: Contract, demonstrated_by: str) -> None:
    if demonstrated_by not in DEMONSTRATED_BY:
        raise EpisodeError(f"demonstrated by {demonstrated_by!r}; valid: {', '.join(DEMONSTRATED_BY)}")
    for role in contract.sources:
        if not samples.get(role):
            raise EpisodeError(f"no message on {role}")
    for role, stream in samples.items():
        back = np.flatnonzero(np.diff([s.time for s in stream]) < 0)
        if len(back):
            raise EpisodeError(f"the clock went back at message {back[0] + 1} of {role}: was the simulator restarted?")


def command_grid(samples: Mapping[str, Sequence[Sample]], contract: Contract) -> Grid:
    """Ticks from the first command on, and the command of each."""
    if not samples.get("command"):
        raise EpisodeError("no command was recorded: was the teleoperator enabled?")
    period = contract.task.period * SECOND
    times = np.array([s.time for s in samples["command"]])
    offsets = (times - times[0]) / period
    start = times[0] + round(np.median(offsets - np.round(offsets)) * period)
    first = [samples[role][0] for role in contract.sources]
    known, order = max(s.time for s in first), max(s.order for s in first)
    if known <= start + period and (start < known or samples["command"][0].order < order):
        start += round(period)  # recorded from the middle of a motion: its first tick saw less than all
    ticks = _ticks(start, samples, contract)
    commands = np.searchsorted(times, ticks[:-1] + round(period / 2), side="left") - 1
    # A first command that came half a period late or more is still the first one.
    return Grid(ticks, np.maximum(commands, 0))


def guided_grid(samples: Mapping[str, Sequence[Sample]], contract: Contract) -> Grid:
    """Ticks from the moment on when every topic that the observation needs has been received."""
    return Grid(_ticks(max(samples[role][0].time for role in contract.sources), samples, contract), None)


def _ticks(start: int, samples: Mapping[str, Sequence[Sample]], contract: Contract) -> np.ndarray:
    """Ticks [ns] from `start` to the horizon or to the end of the recording, shape (T+1,)."""
    end = max(stream[-1].time for stream in samples.values() if stream)
    period = contract.task.period
    available = int((end - start) // round(period * SECOND))
    if available < MINIMUM_PERIODS:
        raise EpisodeError(f"too short: {available} periods of {period:g} s; at least {MINIMUM_PERIODS} are needed")
    count = min(available, contract.task.horizon)
    return start + np.round(np.arange(count + 1) * period * SECOND).astype(np.int64)


def choose(role: str, samples: Mapping[str, Sequence[Sample]], grid: Grid, contract: Contract) -> np.ndarray:
    """Index of the sample that each tick sees, shape (T+1,). Raises EpisodeError on a gap."""
    times, orders = (np.array(column) for column in zip(*((s.time, s.order) for s in samples[role])))
    index = np.searchsorted(times, grid.ticks, side="right") - 1
    if grid.commands is not None:
        arrivals = np.array([s.order for s in samples["command"]])[grid.commands]
        new = np.diff(grid.commands, prepend=-1) > 0
        seen = np.searchsorted(orders, arrivals) - 1
        index[:-1][new] = np.minimum(index[:-1], seen)[new]
        # Where stamps are not in the order of arrival, an older sample is taken rather than time turned back.
        index = np.minimum.accumulate(index[::-1])[::-1]
    if index[0] < 0:
        raise EpisodeError(f"no {role} before the demonstration begins")
    _check_age(role, grid.ticks - times[index], grid, contract)
    return index


def _check_age(role: str, age: np.ndarray, grid: Grid, contract: Contract) -> None:
    topic, worst = contract.topics[role], int(np.argmax(age))
    if topic.too_old(age[worst] / SECOND):
        at = (grid.ticks[worst] - grid.ticks[0]) / SECOND
        old = age[worst] / SECOND
        raise EpisodeError(f"a gap in {role}: {old:.3f} s old at {at:.2f} s, at most {topic.max_age:g} s allowed")


def _measured(
    samples: Mapping[str, Sequence[Sample]], chosen: Mapping[str, np.ndarray], contract: Contract
) -> list[dict[str, np.ndarray]]:
    """What :meth:`Contract.observe` takes, one dict for each tick."""
    velocity = "joint_velocity" in contract.slices
    rows: list[dict[str, np.ndarray]] = [{} for _ in next(iter(chosen.values()))]
    for role in chosen:
        found = _decode(role, samples, chosen, lambda msg: messages.measured(msg, role, contract, velocity))
        for row, quantities in zip(rows, found):
            row.update(quantities)
    return rows


def _decode(
    role: str,
    samples: Mapping[str, Sequence[Sample]],
    chosen: Mapping[str, np.ndarray],
    read: Callable[[Any], Any],
) -> list[Any]:
    """The chosen messages' values. Those between them are read too: one bad message spoils the episode."""
    index, stream = chosen[role], samples[role]
    values = {}
    for i in range(index[0], index[-1] + 1):
        try:
            values[i] = read(stream[i].message)
        except messages.MessageError as error:
            raise EpisodeError(f"{role}, message {i}: {error}") from None
    return [values[i] for i in index]


def _actions(
    position: np.ndarray,
    samples: Mapping[str, Sequence[Sample]],
    grid: Grid,
    contract: Contract,
    kinematics: DifferentialKinematics,
) -> tuple[np.ndarray, int]:
    """Displacements in units of the allowed step, in [-1, 1], shape (T, task.arm_action_size), and how many were cut."""
    targets = position
    if grid.commands is not None:
        names = contract.robot.joint_names
        points = _decode(
            "command", samples, {"command": grid.commands}, lambda msg: messages.joint_trajectory(msg, names).positions
        )
        targets = np.stack([position[0], *(p[0] for p in points)])
    actions = asked_action(contract, targets, kinematics)
    clipped = int(np.sum(np.abs(actions).max(axis=1) > TOO_FAST))
    too_fast = clipped / len(actions)
    if too_fast > MOST_TOO_FAST:
        task = contract.task
        limit = f"max_step ({task.max_step:g} m)" if task.moves_end_effector else f"max_speed ({task.max_speed:g} rad/s)"
        raise EpisodeError(
            f"faster than the task allows in {too_fast:.0%} of its periods: demonstrate more slowly, or raise "
            f"{limit} in the task"
        )
    return np.clip(actions, -1.0, 1.0), clipped


def _openings(
    opening: np.ndarray, samples: Mapping[str, Sequence[Sample]], grid: Grid, contract: Contract
) -> np.ndarray:
    """Opening of the gripper [m] that is asked for over (t, t+1], shape (T,): the last command's; the measured
    `opening` (T+1,) at t + 1 where none had come, and where a hand guides the arm."""
    asked = opening[1:].copy()
    stream = samples.get("gripper_command") or ()
    if grid.commands is None or not stream:
        return asked
    half = round(contract.task.period * SECOND / 2)
    index = np.searchsorted([s.time for s in stream], grid.ticks[:-1] + half, side="left") - 1
    n = len(contract.robot.gripper.joint_names)
    for t in np.flatnonzero(index >= 0):
        asked[t] = messages.joint_group(stream[index[t]].message, n).sum()
    return asked
