"""Bags out of what is left of recordings: nothing corrupt gets in, nothing intact is thrown away."""

from __future__ import annotations

import multiprocessing
import resource
import shutil
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from mcap.records import Channel, Chunk, Message
from mcap.stream_reader import StreamReader
from rosbags.rosbag2 import Reader

from irl_ros.cli import main
from irl_ros.data.bag import BagError, read_bag
from irl_ros.data.bag_writer import BagWriter, partial_directory, set_label
from irl_ros.data.dataset import load_demonstrations
from irl_ros.data.episode import EpisodeError
from irl_ros.data.recording import next_episode
from irl_ros.data.repair import repair, repair_directory
from test_bag import CONTRACT, TOPICS, write

PERIODS = 150
COUNTS = {"joint_states": 300, "command": 60, "goal_pose": 1}
"""Messages of a bag of 60 periods."""
GIB = 1024**3


def messages(directory: Path) -> list[tuple[str, int, bytes]]:
    """Topic, time and bytes of every message in a bag's file, checked."""
    with next(directory.glob("*.mcap")).open("rb") as stream:
        records = list(StreamReader(stream, validate_crcs=True).records)
    topics = {r.id: r.topic for r in records if isinstance(r, Channel)}
    return [(topics[r.channel_id], r.log_time, bytes(r.data)) for r in records if isinstance(r, Message)]


def killed(directory: Path, whole: Path) -> Path:
    """What a recorder killed in the middle of `whole` would have left."""
    bag = BagWriter(directory / whole.name, CONTRACT, TOPICS, operator="Ada")
    bag.abort()
    content = next(whole.glob("*.mcap")).read_bytes()
    next(bag.partial.glob("*.mcap")).write_bytes(content[: len(content) // 2])
    return bag.partial


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("whole"), "episode_0003", PERIODS)


def test_a_killed_recording_becomes_a_bag(whole: Path, tmp_path: Path):
    source = killed(tmp_path, whole)
    [found], hopeless = repair_directory(tmp_path)
    assert not hopeless and found.bag == tmp_path / "episode_0003" and found.source.name == ".episode_0003.broken"
    kept, all_ = messages(found.bag), messages(whole)
    assert kept == all_[: len(kept)] and len(kept) == found.messages > len(all_) // 4
    assert "cannot be followed to its end" in found.lost and not source.exists()
    recording = read_bag(found.bag)
    assert recording.listing.interrupted and recording.listing.label is None and recording.listing.operator == "Ada"
    with Reader(found.bag) as reader:
        assert reader.message_count == len(kept)
    assert repair_directory(tmp_path) == ([], [])
    assert next_episode(tmp_path) == "episode_0004"


def test_a_repair_that_was_killed_is_made_again(whole: Path, tmp_path: Path):
    source = killed(tmp_path, whole)
    source.rename(tmp_path / ".episode_0003.broken")
    BagWriter(tmp_path / "episode_0003", CONTRACT, TOPICS).abort()  # the half of a repair
    assert next_episode(tmp_path) == "episode_0004"
    [found], hopeless = repair_directory(tmp_path)
    assert not hopeless and found.messages > 100 and not partial_directory(found.bag).exists()


def test_a_whole_bag_is_left_alone(whole: Path, capsys):
    assert main(["repair", str(whole.parent)]) == 0
    assert "nothing to repair" in capsys.readouterr().out
    assert [p.name for p in whole.parent.iterdir()] == ["episode_0003"]


@pytest.mark.parametrize("number", [0, 1])
def test_a_damaged_chunk_costs_its_own_messages_alone(whole: Path, tmp_path: Path, capsys, number: int):
    copy = tmp_path / whole.name
    shutil.copytree(whole, copy)
    file = next(copy.glob("*.mcap"))
    content = bytearray(file.read_bytes())
    with file.open("rb") as stream:
        chunks = [r for r in StreamReader(stream, emit_chunks=True).records if isinstance(r, Chunk)]
    content[content.index(chunks[number].data) + len(chunks[number].data) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(BagError):
        read_bag(copy)
    assert main(["repair", str(tmp_path)]) == 0
    assert "a chunk of" in capsys.readouterr().out
    kept, all_ = messages(tmp_path / "episode_0003_repaired"), messages(whole)
    lost = [m for m in all_ if m not in kept]
    first = all_.index(lost[0])
    assert lost == all_[first : first + len(lost)] and 0 < len(lost) < 0.7 * len(all_)
    assert file.read_bytes() == content, "the damaged bag stays as it is"
    assert repair_directory(tmp_path) == ([], []), "what has a repair is not repaired again"


@pytest.mark.parametrize("metadata", [None, "", "changed"])
def test_damaged_metadata_is_made_again_from_what_the_file_repeats(whole: Path, tmp_path: Path, metadata: str | None):
    copy = tmp_path / whole.name
    shutil.copytree(whole, copy)
    text = (copy / "metadata.yaml").read_text()
    changed = text.replace('"rate": 20.0', '"rate": 28.0')  # one bit, and sound JSON
    assert changed != text
    (copy / "metadata.yaml").unlink() if metadata is None else (copy / "metadata.yaml").write_text(metadata and changed)
    with pytest.raises(BagError, match="metadata.yaml"):
        read_bag(copy)
    with pytest.raises(BagError, match="metadata.yaml"):
        set_label(copy, True)
    [found], hopeless = repair_directory(tmp_path)
    assert not hopeless and not found.lost and messages(found.bag) == messages(whole)
    assert read_bag(found.bag).listing.contract == CONTRACT


def test_what_cannot_be_repaired_is_told(whole: Path, tmp_path: Path, capsys):
    with pytest.raises(EpisodeError, match="no directory"):
        repair_directory(tmp_path / "nowhere")
    source = killed(tmp_path, whole)
    (source / "recording.json").unlink()
    assert main(["repair", str(tmp_path)]) == 1
    assert "says what was recorded" in capsys.readouterr().err and source.exists()
    empty = killed(tmp_path / "other", whole)
    next(empty.glob("*.mcap")).write_bytes(b"")
    with pytest.raises(BagError, match="no message in it is intact"):
        repair(empty)
    assert empty.exists()


def test_truncated_or_flipped_anywhere_no_corrupt_message_is_accepted(tmp_path: Path):
    judge(mutate(tmp_path, range(24)), 24)


@pytest.mark.full
def test_a_thousand_truncations_and_flips(tmp_path: Path):
    """In processes of their own: what they take of memory is theirs alone."""
    shares = [(tmp_path / str(k), range(250 * k, 250 * (k + 1))) for k in range(4)]
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        outcomes = sum(pool.map(mutate, *zip(*shares), timeout=1200), Counter())
        peak = max(pool.map(peak_memory, range(2)))
    judge(outcomes, 1000)
    assert peak < GIB, f"{peak / GIB:.2f} GiB"


def mutate(directory: Path, places: Iterable[int]) -> Counter:
    """What became of a bag that was cut short or got a flipped bit, once for each of `places`: mostly somewhere among
    the messages, each fifth time in metadata.yaml."""
    whole = write(directory, "whole", 60)
    content = {path.name: path.read_bytes() for path in whole.iterdir()}
    metadata, file = sorted(content, key=lambda name: name.endswith("mcap"))
    right, outcomes = messages(whole), Counter()
    for k in places:
        rng, name = np.random.default_rng(k), metadata if k % 5 == 0 else file
        source = directory / f"episode_{k:04d}"
        source.mkdir()
        for each, data in content.items():
            (source / each).write_bytes(data)
        (source / name).write_bytes(damaged(content[name], rng, cut=k % 2 == 1))
        outcomes[read(source, right)] += 1
        outcomes[repaired(source, right)] += 1
        shutil.rmtree(source)
    return outcomes


def damaged(content: bytes, rng: np.random.Generator, cut: bool) -> bytes:
    place = int(rng.integers(len(content)))
    if cut:
        return content[:place]
    flipped = content[place] ^ (1 << int(rng.integers(8)))
    return content[:place] + bytes([flipped]) + content[place + 1 :]


def read(source: Path, right: list) -> str:
    try:
        recording = read_bag(source)
    except BagError:
        return "found"
    assert messages(source) == right and {r: len(s) for r, s in recording.samples.items()} == COUNTS
    return "read"


def repaired(source: Path, right: list) -> str:
    try:
        bag = repair(source).bag
    except BagError:
        return "refused"
    assert set(messages(bag)) <= set(right)
    recording = read_bag(bag)
    assert recording.listing.interrupted and recording.samples.keys() == TOPICS.keys()
    shutil.rmtree(bag)
    return "repaired"


def judge(outcomes: Counter, count: int) -> None:
    assert outcomes["found"] > 0.8 * count and outcomes["repaired"] > count / 2, outcomes
    assert outcomes["found"] + outcomes["read"] == outcomes["repaired"] + outcomes["refused"] == count


def peak_memory(_: int) -> int:
    """[bytes] that this process has taken at most."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def test_a_repaired_demonstration_is_named_among_those_not_used(whole: Path, tmp_path: Path):
    write(tmp_path, "episode_0000")
    killed(tmp_path, whole)
    repair_directory(tmp_path)
    demonstrations, rejected = load_demonstrations(tmp_path)
    assert len(demonstrations) == 1 and "interrupted" in rejected[0]
