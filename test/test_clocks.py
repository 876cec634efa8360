"""By whose clock samples are dated, and alignment whatever the times: never a sample from the future, never backwards,
never too old, and the same for a bag as for a policy that drives."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace as Message

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irl_ros import messages
from irl_ros.cli import main
from irl_ros.control.faults import Freshness
from irl_ros.control.inputs import Inputs
from irl_ros.data.alignment import align, choose, command_grid, guided_grid
from irl_ros.data.clocks import HEADER, RECEIVE, SECOND, ClockWarning, Sample, dated
from irl_ros.data.dataset import load_demonstrations
from irl_ros.data.episode import EpisodeError
from irl_ros.data.listing import read_listing
from test_alignment import CONTRACT, HOME, KINEMATICS, NAMES, PERIOD, command, goal_pose

MILLISECOND = SECOND // 1000
AGE = CONTRACT.robot.joint_states.max_age
EPOCH = 1_700_000_000 * SECOND


def stamp(time: int) -> Message:
    return Message(sec=time // SECOND, nanosec=time % SECOND)


def state(measured: int, stamped: bool = True) -> Message:
    """A joint state whose first joint tells when it was measured [ms since EPOCH]."""
    position = HOME.copy()
    position[0] = (measured - EPOCH) / MILLISECOND * 1e-4
    header = Message(stamp=stamp(measured if stamped else 0), frame_id="")
    return Message(header=header, name=NAMES, position=position, velocity=np.zeros(len(NAMES)), effort=[])


def ordered(events: list[tuple[int, str, object]], late: int = 0) -> dict[str, list[Sample]]:
    """Events (time [ns], role, message) to samples, in the order of arrival: joint states arrive `late` [ns]."""
    found: dict[str, list[Sample]] = {}
    arriving = sorted(events, key=lambda event: event[0] + late * (event[1] == "joint_states"))
    for order, (time, role, message) in enumerate(arriving):
        found.setdefault(role, []).append(Sample(time, order, message))
    return found


@st.composite
def streams(draw: st.DrawFn) -> list[tuple[int, str, object]]:
    """A goal, and joint states and commands at times of any spacing, bursts and gaps too, of at least 12 periods."""
    gaps = st.lists(st.integers(0, int(1.3 * AGE * 1000)), min_size=30, max_size=80)
    states = EPOCH + np.cumsum(draw(gaps)) * MILLISECOND
    last = max(int(states[-1]), EPOCH + round(14 * PERIOD * SECOND))
    states = [*states.tolist(), last]
    waits = draw(st.lists(st.integers(1, 200), min_size=3, max_size=40))
    commands = EPOCH + 60 * MILLISECOND + np.cumsum(waits) * MILLISECOND
    events: list[tuple[int, str, object]] = [(EPOCH, "goal_pose", goal_pose())]
    events += [(int(t), "joint_states", state(int(t))) for t in states]
    return events + [(int(t), "command", command(HOME, HOME)) for t in commands if t < last - SECOND // 2]


@given(streams(), st.sampled_from([0, 20, 150]))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_the_sample_of_a_tick_is_the_newest_that_could_be_seen_whatever_the_times(events, late) -> None:
    """`late` [ms]: by the headers' clock, samples need not come in the order of their times."""
    samples = ordered(events, late * MILLISECOND)
    times = np.array([s.time for s in samples["joint_states"]])
    grid = guided_grid(samples, CONTRACT)
    allowed = times[[np.flatnonzero(times <= tick)[-1] for tick in grid.ticks]]
    old = (grid.ticks - allowed).max() / SECOND > AGE
    try:
        index = choose("joint_states", samples, grid, CONTRACT)
    except EpisodeError as error:
        assert old and "a gap in joint_states" in str(error)
        return
    assert not old
    np.testing.assert_array_equal(times[index], allowed)


@st.composite
def teleoperated(draw: st.DrawFn) -> list[tuple[int, str, object]]:
    """Joint states 1 to 30 ms apart, and a command about each period, sometimes none."""
    gaps = [*draw(st.lists(st.integers(1, 30), min_size=40, max_size=60)), *[20] * 45]
    states = EPOCH + np.cumsum(gaps) * MILLISECOND
    ticks = np.arange(3, int((states[-1] - EPOCH) / SECOND / PERIOD) - 1)
    lost = draw(st.sets(st.sampled_from(ticks.tolist()), max_size=5)) - {3}
    late = draw(st.lists(st.integers(-20, 20), min_size=len(ticks), max_size=len(ticks)))
    sent = [EPOCH + round(k * PERIOD * SECOND) + ms * MILLISECOND for k, ms in zip(ticks, late) if k not in lost]
    events: list[tuple[int, str, object]] = [(EPOCH, "goal_pose", goal_pose())]
    events += [(int(t), "joint_states", state(int(t))) for t in states]
    return events + [(int(t), "command", command(HOME, HOME)) for t in sent]


@given(teleoperated(), st.sampled_from([0, 20, 60]))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_a_command_is_paired_with_what_had_arrived_whatever_the_times(events, late) -> None:
    samples = ordered(events, late * MILLISECOND)
    grid = command_grid(samples, CONTRACT)
    times, orders = (np.array([getattr(s, k) for s in samples["joint_states"]]) for k in ("time", "order"))
    asked = np.array([s.order for s in samples["command"]])[grid.commands]
    try:
        index = choose("joint_states", samples, grid, CONTRACT)
    except EpisodeError as error:
        assert late == 60 and ("a gap in joint_states" in str(error) or "no joint_states before" in str(error))
        return
    new = np.diff(grid.commands, prepend=-1) > 0
    assert (times[index] <= grid.ticks).all(), "from the future"
    assert (orders[index[:-1]] < asked)[new].all(), "not there when the command was made"
    assert (np.diff(index) >= 0).all(), "backwards"
    assert ((grid.ticks - times[index]) / SECOND <= AGE).all(), "too old"
    # And no older than these demand: the next sample would be one of the future, or one that had not arrived.
    following = np.minimum(index + 1, len(times) - 1)
    told = np.append(np.where(new, asked, np.iinfo(int).max), np.iinfo(int).max)
    soonest = np.minimum.accumulate(told[::-1])[::-1]
    assert ((times[following] > grid.ticks) | (orders[following] >= soonest) | (following == index)).all(), "needlessly old"


@given(streams())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_a_bag_gives_what_a_policy_that_drives_would_have_seen(events) -> None:
    """The runner's own :class:`Inputs` and :class:`Freshness`, fed message by message, asked at every tick."""
    samples = ordered([event for event in events if event[1] != "command"])
    grid = guided_grid(samples, CONTRACT)
    inputs, freshness, live, stale = Inputs(CONTRACT), Freshness(CONTRACT), [], None
    waiting = sorted((s.order, s.time, role, s.message) for role, some in samples.items() for s in some)
    for tick in grid.ticks:
        while waiting and waiting[0][1] <= tick:
            _, time, role, message = waiting.pop(0)
            inputs.update(role, messages.measured(message, role, CONTRACT), time / SECOND)
        ages = {role: (round(age * SECOND)) / SECOND for role, age in inputs.ages(tick / SECOND).items()}
        stale = stale or freshness.stale(ages)
        live.append(CONTRACT.observe(inputs.measured, KINEMATICS))
    try:
        episode = align("bag", samples, CONTRACT, KINEMATICS, demonstrated_by="hand_guiding")
    except EpisodeError as error:
        assert "faster than the task allows" in str(error) or (stale and "a gap in joint_states" in str(error))
        return
    assert not stale
    np.testing.assert_array_equal(episode.observations, np.array(live))


def drive(delays: np.ndarray, stamped: bool = True, commands: bool = True) -> dict[str, list[Sample]]:
    """A second and a half at 100 Hz, received `delays` [s] after being measured, in the order of measurement."""
    measured = EPOCH + np.arange(150) * 10 * MILLISECOND
    received = np.maximum.accumulate(measured + np.round(delays * SECOND).astype(np.int64))
    events = [(int(received[0]), "goal_pose", goal_pose())]
    events += [(int(r), "joint_states", state(int(m), stamped)) for m, r in zip(measured, received)]
    if commands:
        sent = EPOCH + 52 * MILLISECOND + np.arange(26) * round(PERIOD * SECOND)
        events += [(int(t), "command", command(HOME, HOME)) for t in sent]
    return ordered(events)


def measured_at(episode) -> np.ndarray:
    """[ms] since EPOCH."""
    return CONTRACT.field(episode.observations, "joint_position")[:, 0] / 1e-4


def test_by_the_headers_what_was_held_up_on_its_way_has_its_own_time() -> None:
    """Every tenth second the network holds messages for 40 ms and hands them over at once."""
    delays = np.where(np.arange(150) // 4 % 3 == 0, 0.04, 0.001)
    by_receive = align("e", drive(delays, commands=False), CONTRACT, KINEMATICS, "hand_guiding")
    by_header = align("e", drive(delays, commands=False), CONTRACT, KINEMATICS, "hand_guiding", clock=HEADER)
    lag = np.arange(len(by_header.observations)) * PERIOD * 1000 + measured_at(by_header)[0] - measured_at(by_header)
    np.testing.assert_allclose(lag, 0, atol=1e-6)
    assert np.abs(np.diff(measured_at(by_receive)) - 1000 * PERIOD).max() > 20


@pytest.mark.parametrize("clock", [RECEIVE, HEADER])
def test_clocks_that_drift_apart_are_told_and_those_that_differ_are_not(clock: str) -> None:
    drifting, apart = np.linspace(0, 3 * PERIOD, 150), np.full(150, 1e-3)
    with pytest.warns(ClockWarning, match="episode e: joint_states: stamps and receive times drift apart by 0.07"):
        dated("e", drive(drifting, commands=False), CONTRACT, clock)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dated("e", drive(apart), CONTRACT, clock)
        dated("e", drive(np.full(150, 3600.0), commands=False), CONTRACT, clock)
        dated("e", drive(drifting, stamped=False), CONTRACT, clock)


def test_stamps_of_another_clock_cannot_date_what_has_none() -> None:
    hour = drive(np.full(150, 3600.0))
    with pytest.raises(EpisodeError, match="joint_states is received 3600.000 s after its.*command has no stamps"):
        align("e", hour, CONTRACT, KINEMATICS, clock=HEADER)
    assert dated("e", drive(np.full(150, 3600.0), stamped=False), CONTRACT, HEADER)["joint_states"][0].time > EPOCH
    with pytest.raises(EpisodeError, match="clock 'wall'; valid: receive, header"):
        align("e", drive(np.zeros(150)), CONTRACT, KINEMATICS, clock="wall")


def test_stamps_out_of_order_are_an_error() -> None:
    samples = drive(np.zeros(150), commands=False)
    samples["joint_states"][40] = samples["joint_states"][40]._replace(message=state(EPOCH))
    with pytest.warns(ClockWarning), pytest.raises(EpisodeError, match="the clock went back at message 40"):
        align("e", samples, CONTRACT, KINEMATICS, "hand_guiding", clock=HEADER)


def test_an_imported_bag_remembers_its_clock(tmp_path: Path, capsys) -> None:
    from foreign_forms import BAGS, PERIODS

    bag = str(BAGS / "kilted")
    assert main(["import", bag, "--out", str(tmp_path / "a"), "--clock", "header"]) == 0
    assert read_listing(tmp_path / "a" / "episode_0000").clock == HEADER
    # Its stamps count from zero: another clock than the recorder's, and its commands have none.
    with pytest.raises(EpisodeError, match="align by the receive time"):
        load_demonstrations(tmp_path / "a")
    assert main(["import", bag, "--out", str(tmp_path / "b"), "--clock", "header", "--hand-guiding"]) == 0
    [episode] = load_demonstrations(tmp_path / "b")[0]
    assert PERIODS <= len(episode) <= PERIODS + 1
