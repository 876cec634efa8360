"""TensorBoard: the papers' symbols, histograms and pictures, and that drawing them changes nothing and costs little."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_train import QUICK, brief, same_checkpoint, uninterrupted  # noqa: F401

from irl_ros.learning import album
from irl_ros.learning.observer import ProgressObserver
from irl_ros.learning.symbols import symbol
from irl_ros.learning.train import train

ITERATIONS = 4


@pytest.fixture(scope="module")
def drawn(brief, tmp_path_factory) -> Path:  # noqa: F811
    """A training with everything drawn in every iteration."""
    directory = tmp_path_factory.mktemp("drawn")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(album, "SHARES", dict.fromkeys(album.SHARES, 1e9))
        train(brief, QUICK, directory)
    return directory


@pytest.fixture(scope="module")
def events(drawn: Path) -> EventAccumulator:
    return EventAccumulator(str(drawn / "training/tensorboard"), {"histograms": 0, "images": 0}).Reload()


def test_drawing_changes_nothing_that_is_learned(drawn, uninterrupted):  # noqa: F811
    assert same_checkpoint(drawn, uninterrupted)
    first, second = ((d / "training/metrics.jsonl").read_text() for d in (drawn, uninterrupted))
    assert first == second


def test_scalars_have_the_papers_symbols_and_the_figures_values(drawn, events):
    lines = [json.loads(line) for line in (drawn / "training/metrics.jsonl").read_text().splitlines()]
    names = {name for line in lines for name in line} - {"iteration"}
    tags = [symbol(name) for name in names]
    assert sorted(tags) == sorted(events.Tags()["scalars"]) and len(set(tags)) == len(names) > 20
    assert {"weights/β", "weights/log_Z", "gcl/L_IOC", "gcl/g_lcr", "gcl/g_mono", "policy/D_KL", "policy/σ"} <= set(
        events.Tags()["scalars"]
    )
    found = [event.value for event in events.Scalars("weights/log_Z")]
    assert found == pytest.approx([line["weights/log_z"] for line in lines])


def test_rewards_actions_slices_and_paths_are_there_for_every_iteration(events):
    tags = events.Tags()
    assert set(tags["histograms"]) == {f"{what}/{who}" for what in ("r(x,u)", "u") for who in ("demonstrations", "samples")}
    assert set(tags["images"]) == {"r/around_the_goal", "τ/end_effector"}
    for read, kind in ((events.Histograms, "histograms"), (events.Images, "images")):
        assert all([event.step for event in read(tag)] == [1, 2, 3, 4] for tag in tags[kind])
    first, last = (events.Images("r/around_the_goal")[k].encoded_image_string for k in (0, -1))
    assert first != last, "the picture does not follow the reward"


@pytest.fixture
def now(monkeypatch) -> list[float]:
    """The clock that albums look at."""
    time = [0.0]
    monkeypatch.setattr(album.time, "monotonic", lambda: time[0])
    return time


def test_the_last_pictures_are_made_where_the_training_was_long_enough(now, brief):  # noqa: F811
    dearest = album.DEAREST["pictures"] / album.AT_THE_END
    for seconds, expected in ((dearest - 1.0, []), (dearest + 1.0, ["made"])):
        now[0], made = 0.0, []
        book = album.Album(brief, None, None)
        book._latest = lambda: made.append("made")
        now[0] = seconds
        book.close()
        assert made == expected


def test_of_many_demonstrations_some_of_all_are_shown(brief, monkeypatch):  # noqa: F811
    monkeypatch.setattr(album, "MOST_SHOWN", 1)
    assert album.Album(brief, None, None)._shown == [brief.episodes[0]]


def test_an_album_keeps_to_its_share_of_the_time(now, brief):  # noqa: F811
    book, made = album.Album(brief, None, None), []

    def draw() -> None:
        made.append(now[0])
        now[0] += 0.4

    for second in range(200):
        now[0] += 1.0
        book._pay("pictures", draw)
        assert book.spent["pictures"] <= album.SHARES["pictures"] * now[0]
    assert len(made) == int(now[0] * album.SHARES["pictures"] / 0.4) > 5


def test_a_line_per_iteration_with_the_health_of_the_moment(brief, tmp_path, capsys):  # noqa: F811
    observer = ProgressObserver()
    train(brief, QUICK, tmp_path, observer)
    observer.close()
    said = [line for line in capsys.readouterr().err.replace("\r", "\n").splitlines() if line.startswith("iteration ")]
    assert [line.split(" · ")[0] for line in said] == [f"iteration {k} of 4" for k in range(1, ITERATIONS + 1)]
    assert "healthy so far" in said[0] and all("KL" in line and "reward gap" in line for line in said)
