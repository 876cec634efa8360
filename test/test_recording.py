"""What a recorder goes by: the states of an episode, its number, when a message arrived in simulated time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from irl_ros.contract import Contract
from irl_ros.data.clocks import SECOND
from irl_ros.data.recording import EpisodeStates, Refused, SimTime, State, next_episode, unfinished
from irl_ros.data.take import Arrival


def test_states_refuse_what_does_not_fit(tmp_path: Path) -> None:
    states = EpisodeStates()
    for refused in (states.stop, states.discard, lambda: states.label_current(True)):
        with pytest.raises(Refused, match="start"):
            refused()
    states.start("episode_0003")
    with pytest.raises(Refused, match="already recording episode_0003: stop or discard it first"):
        states.start("episode_0004")
    assert states.label_current(True) and states.label is True
    states.stop()
    assert states.state is State.SAVING
    with pytest.raises(Refused, match="already saving"):
        states.start("episode_0004")
    states.saved(tmp_path)
    assert not states.label_current(False) and states.last == tmp_path
    states.start("episode_0004")
    assert states.label is None
    states.discard()
    with pytest.raises(Refused, match="no episode to label"):
        states.label_current(True)


def test_numbers_go_on_after_what_is_there(tmp_path: Path) -> None:
    assert next_episode(tmp_path) == "episode_0000"
    for name in ("episode_0001", ".episode_0007.partial", "episode_x", "other"):
        (tmp_path / name).mkdir()
    assert next_episode(tmp_path) == "episode_0008"
    assert [p.name for p in unfinished(tmp_path)] == [".episode_0007.partial"]


def test_simulated_receive_times_are_those_of_arrival() -> None:
    sim = SimTime()
    assert not sim
    ticks = 1000 + 7 * np.arange(100_000)
    for count, wall in enumerate(ticks.tolist()):
        sim.tick(wall, 10 * count)
    assert [sim.at(wall) for wall in (ticks[-1], ticks[-1] + 50, ticks[-5], ticks[-5] - 1)] == [
        999_990, 999_990, 999_950, 999_940
    ]


def test_what_came_before_the_first_motion_is_kept_from_the_last_hole_on() -> None:
    """Where the recorder subscribes anew to a publisher, messages are missing until that has found it again."""
    automatic_module = pytest.importorskip("irl_ros.nodes.automatic")
    from irl_ros.nodes.conduct import Settings

    settings = Settings(start_on_motion=True, lead_in=5.0)
    automatic = automatic_module.Automatic(None, settings, Contract.load("panda", "reach"))
    for time, number in ((0, 7), (1, 8), (2, 12), (3, 13)):
        automatic.keep(Arrival("joint_states", b"", time * SECOND, b"driver", number))
        automatic.keep(Arrival("goal_pose", b"", time * SECOND, b"camera", time))
        automatic.keep(Arrival("command", b"", time * SECOND, b"", None))
    kept = [(a.wall // SECOND, a.number) for a in automatic.lead_in() if a.role == "joint_states"]
    assert kept == [(2, 12), (3, 13)] and automatic.lead_in() == []
