"""Episodes one after the other, without ROS: names, labels, second thoughts, what begins and ends by itself."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irl_ros.contract import Thresholds
from irl_ros.data import catalogue
from irl_ros.data.alignment import SECOND
from irl_ros.data.bag import read_bag
from irl_ros.data.listing import BagError, bags
from irl_ros.data.recording import EpisodeStates, Refused, State
from irl_ros.data.take import Arrival
from irl_ros.data.taping import Taping
from irl_ros.nodes import automatic
from irl_ros.nodes.automatic import Automatic, Ending, Motion
from irl_ros.nodes.conduct import Buttons, Settings
from test_bag import CONTRACT, HOME, START, TOPICS, goal_pose, joint_state


def taping(out: Path) -> Taping:
    return Taping(str(out), CONTRACT, Thresholds(), None, "hand_guiding", "Ada")


def tape(session: Taping, seconds: float = 1.0) -> str:
    """Begin an episode and fill it."""
    name = session.begin(TOPICS, "Ada", START)
    session.take.write(Arrival("goal_pose", goal_pose(), START), START)
    for k in range(round(50 * seconds)):
        time = START + k * SECOND // 50
        session.take.write(Arrival("joint_states", joint_state(HOME, 0.0), time), time)
    return name


def test_the_last_episode_can_be_discarded_and_comes_back(tmp_path: Path):
    session = taping(tmp_path)
    tape(session)
    session.finish(START + SECOND)
    assert session.label(True) == "episode_0000" and session.kept.label is True
    assert session.discard() == f"episode_0000, now in {tmp_path / '.dropped'}"
    with pytest.raises(Refused, match="nothing to discard"):
        session.discard()
    with pytest.raises(Refused, match="no episode to label"):
        session.label(True)
    assert tape(session) == "episode_0001", "its name is not given away: it may come back"
    session.finish(START + SECOND)
    catalogue.restore(tmp_path, ["episode_0000"])
    assert [e.name for e in catalogue.catalogue(tmp_path)] == ["episode_0000", "episode_0001"]
    assert read_bag(tmp_path / "episode_0000").listing.label is True


def test_discarding_takes_back_what_was_begun_last(tmp_path: Path):
    session = taping(tmp_path)
    tape(session)
    session.finish(START + SECOND)
    session.states.wait()
    assert session.discard() == "the wait for a motion" and session.kept is not None
    tape(session)
    assert session.discard() == "episode_0001" and session.kept is None
    assert session.states.last is None, "a second press must not reach the episode before"
    assert [p.name for p in bags(tmp_path)] == ["episode_0000"]


def test_recorders_in_one_directory_never_take_each_others_names(tmp_path: Path):
    sessions = [taping(tmp_path) for _ in range(4)]
    found: list[str] = []

    def run(session: Taping) -> None:
        for _ in range(5):
            found.append(tape(session, 0.1))
            session.finish(START + SECOND)

    threads = [threading.Thread(target=run, args=(session,)) for session in sessions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == len(set(found)) == 20 and len(bags(tmp_path)) == 20
    manifests = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "sessions").glob("*.json")}
    assert len(manifests) == 4 and all(m["operator"] == "Ada" for m in manifests.values())
    custom = (tmp_path / found[0] / "metadata.yaml").read_text()
    assert any(f"session: {name}" in custom for name in manifests)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sampled_from(["wait", "start", "stop", "saved", "discard", "fail", "label"]), max_size=30))
def test_whatever_is_asked_in_whatever_order_a_label_or_discard_hits_no_other_episode(requests):
    states, started = EpisodeStates(), 0
    for request in requests:
        before, last = states.state, states.last
        try:
            if request == "start":
                states.start(f"episode_{started:04d}")
                started += 1
                assert before in (State.IDLE, State.WAITING)
            elif request == "saved":
                states.saved(Path(states.name or "none"))
                assert before is State.SAVING and states.last.name == f"episode_{started - 1:04d}"
            elif request == "discard":
                gone = states.discard()
                assert gone == (last if before is State.IDLE else None)
                assert before is State.WAITING or states.last is None
            elif request == "label":
                current = states.label_current(True)
                assert current == (before is State.RECORDING) and (current or last is not None)
            else:
                getattr(states, request)()
        except Refused:
            assert (states.state, states.last) == (before, last)
        assert (states.name is not None) == (states.state in (State.RECORDING, State.SAVING))


def test_motion_is_told_from_noise_and_creep():
    rng, motion = np.random.default_rng(0), Motion(0.01)
    pose = lambda now: HOME + rng.uniform(-0.002, 0.002, 7) + 0.004 * now  # noqa: E731
    assert not any(motion.moves(pose(now), now) for now in np.arange(0.0, 5.0, 0.01))
    assert motion.rested(5.0) == pytest.approx(5.0)
    assert not motion.moves(HOME + 0.02, 5.0) and motion.moves(HOME + 0.035, 5.1)
    assert motion.rested(5.6) == pytest.approx(0.5)
    motion.forget()
    assert not motion.moves(HOME - 1.0, 6.0), "where it rests now was not told before"


def test_it_waits_again_once_the_arm_has_rested_and_the_episode_between_is_no_rest(monkeypatch):
    """Also where the episode ended in the pose in which it began."""
    now, home = 0.0, Arrival("joint_states", joint_state(HOME, 0.0), START)
    monkeypatch.setattr(automatic.time, "monotonic", lambda: now)
    watch = Automatic(None, Settings(start_on_motion=True, rearm=2.0), CONTRACT)  # it hears no topic, needs no node

    def rests(at: float) -> bool:
        nonlocal now
        now = at
        return not watch.moves(home) and watch.rests()

    assert [rests(1.0), rests(2.9), rests(3.1)] == [False, False, True]
    watch.begin()
    assert [rests(10.0), rests(11.9), rests(12.1)] == [False, False, True]


def test_an_episode_ends_at_a_success_that_lasts_or_at_the_timeout():
    ending = Ending(hold=0.5, timeout=10.0)
    ending.say(True, 0.0)
    ending.begin()
    assert not ending.over(0.1, 5.0), "what was said before it began does not count"
    ending.say(True, 5.0)
    ending.say(True, 5.3)
    assert not ending.over(1.0, 5.4) and ending.over(1.0, 5.5) and ending.success
    ending.say(False, 5.6)
    assert not ending.over(1.2, 9.0) and not ending.success and ending.over(10.0, 14.0)
    assert not Ending(0.5, 0.0).over(1e6, 1e6)


def test_a_button_counts_when_it_goes_down():
    buttons = Buttons({7: "start", 3: "success"})

    def press(*down: int) -> list[str]:
        return buttons.pressed([int(k in down) for k in range(8)])

    assert [press(), press(7), press(7), press(7, 3), press(3), press(), press(3, 7)] == [
        [], ["start"], [], ["success"], [], [], ["success", "start"]
    ]
    assert buttons.pressed([0, 0]) == [], "another joystick with fewer buttons"


def test_a_save_that_fails_leaves_the_recording_and_nothing_with_a_name(tmp_path: Path):
    session = taping(tmp_path)
    tape(session)
    (tmp_path / "episode_0000").mkdir()
    with pytest.raises(BagError, match="exists already"):
        session.finish(START + SECOND)
    assert session.fail() == "episode_0000" and session.take is None and session.saved == 0
    assert session.state is State.IDLE and not any((tmp_path / "episode_0000").iterdir())
    assert (tmp_path / ".episode_0000.partial").is_dir()
