"""A bag that is being written is told from one whose writer was killed, and nobody takes it away."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from irl_ros.cli import main
from irl_ros.data import bag_lock, catalogue
from irl_ros.data.bag import read_bag
from irl_ros.data.bag_lock import BagInUse, in_use, lock_bag
from irl_ros.data.bag_writer import create_bag, set_label
from irl_ros.data.episode import EpisodeError
from irl_ros.data.listing import BagError
from irl_ros.data.recording import under_way, unfinished
from irl_ros.data.repair import repair, repair_directory
from test_bag import CONTRACT, START, TOPICS, goal_pose, write

WRITER = """
    import sys
    sys.path.insert(0, {tests!r})
    from pathlib import Path
    from irl_ros.data.bag_writer import create_bag
    from test_bag import CONTRACT, START, TOPICS, goal_pose
    bag = create_bag(Path({out!r}), CONTRACT, TOPICS)
    bag.write("goal_pose", goal_pose(), START)
    bag.sync()
    print(bag.final.name, flush=True)
    sys.stdin.readline()
    bag.save(True)
    print("saved", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def writer(out: Path) -> Iterator[subprocess.Popen]:
    """Another process that has begun an episode in `out`."""
    code = textwrap.dedent(WRITER).format(tests=str(Path(__file__).parent), out=str(out))
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data set of one episode."""
    write(tmp_path, "episode_0000")
    return tmp_path


def test_an_episode_of_a_live_process_is_left_alone_by_every_command(data: Path, capsys: pytest.CaptureFixture):
    with writer(data) as process:
        assert process.stdout.readline() == "episode_0001\n"
        live = data / ".episode_0001.partial"
        content = {path.name: path.read_bytes() for path in live.iterdir()}
        assert unfinished(data) == [] and under_way(data) == [live]
        assert main(["repair", str(data)]) == 0
        assert f"left alone: {live} is being recorded" in capsys.readouterr().out
        assert main(["repair", str(live)]) == 1
        assert "another program is recording or changing it" in capsys.readouterr().err
        for words in (["inspect"], ["list"]):
            assert main([words[0], str(live), *words[1:]]) == 1
            said = capsys.readouterr()
            assert "is being recorded" in said.out + said.err and "irl_ros repair" not in said.out + said.err
        assert main(["export", str(live), "--to", "npz", "--out", str(data / "npz")]) == 2
        assert "is being recorded" in capsys.readouterr().err
        assert main(["drop", str(data), ".episode_0001.partial"]) == 2
        assert main(["label", str(data), "success", ".episode_0001.partial"]) == 2
        assert main(["inspect", str(data)]) == 0 and main(["label", str(data), "failure", "episode_0000"]) == 0
        assert main(["drop", str(data), "episode_0000"]) == 0
        assert main(["drop", "--restore", str(data), "episode_0000"]) == 0
        assert main(["split", str(data), f"{data / 'part'}=1"]) == 0 and os.listdir(data / "part") == ["episode_0000"]
        assert {path.name: path.read_bytes() for path in live.iterdir()} == content
        print(file=process.stdin, flush=True)
        assert process.stdout.readline() == "saved\n"
        assert read_bag(data / "episode_0001").listing.label is True and not in_use(data / "episode_0001")


def test_the_lock_ends_with_its_process(data: Path):
    with writer(data) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGSTOP)
        assert under_way(data), "a stopped process may go on"
        process.kill()
        process.wait()
        assert unfinished(data) == [data / ".episode_0001.partial"] and not under_way(data)
        [found], hopeless = repair_directory(data)
        assert found.bag == data / "episode_0001" and found.messages == 1 and not hopeless


def test_a_name_that_is_completed_meanwhile_is_not_taken_again(data: Path, monkeypatch: pytest.MonkeyPatch):
    listed = iter(["episode_0000", "episode_0007"])
    monkeypatch.setattr("irl_ros.data.bag_writer.next_episode", lambda _: next(listed))
    bag = create_bag(data, CONTRACT, TOPICS)
    assert bag.final.name == "episode_0007" and not (data / ".episode_0000.partial").exists()
    bag.discard()


def test_a_repair_beside_a_whole_bag_of_that_name_has_a_name_of_its_own(data: Path):
    bag = create_bag(data, CONTRACT, TOPICS)
    bag.write("goal_pose", goal_pose(), START)
    bag.abort()
    bag.partial.rename(data / ".episode_0000.partial")
    assert repair(data / ".episode_0000.partial").bag == data / "episode_0000_repaired"
    assert len(read_bag(data / "episode_0000").samples["command"]) > 1


def test_labels_wait_for_one_another_and_a_held_bag_is_not_moved(data: Path):
    episode = data / "episode_0000"
    with lock_bag(episode):
        assert in_use(episode)
        with pytest.raises(BagInUse):
            lock_bag(episode, patience=0.1)
        with pytest.raises(BagError, match="another program is recording or changing it"):
            set_label(episode, False)
        with pytest.raises(EpisodeError, match="another program is recording or changing it"):
            catalogue.drop(data, ["episode_0000"])
    assert not in_use(episode) and read_bag(episode).listing.label is True


def test_without_locks_a_file_that_grew_lately_counts_as_in_use(data: Path, monkeypatch: pytest.MonkeyPatch):
    """No file system without locks can be mounted here: its answer is put in the place of the kernel's."""
    bag = create_bag(data, CONTRACT, TOPICS)
    bag.write("goal_pose", goal_pose(), START)
    bag.abort()

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert under_way(data) == [bag.partial]
    file = next(bag.partial.glob("*.mcap"))
    old = file.stat().st_mtime - bag_lock.FRESH - 1
    os.utime(file, (old, old))
    assert unfinished(data) == [bag.partial]
    assert repair(bag.partial).messages == 1
    set_label(data / "episode_0000", False)
