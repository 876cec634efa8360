"""Data sets of any size: listed and filtered without their messages, read when asked for, and learned from so."""

from __future__ import annotations

import dataclasses
import shutil
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch

from irl_ros.contract import Contract
from irl_ros.data.dataset import Bags, load_dataset, load_demonstrations
from irl_ros.data.episode import EpisodeError
from irl_ros.data.listing import read_listing
from irl_ros.learning.batch import PART, Featurizer
from irl_ros.learning.config import CloneConfig, TrainConfig
from irl_ros.learning.train import train
from irl_ros.models import demonstrated
from test_bag import CONTRACT, damage, write

COUNT = 7
NOTHING_KEPT = 0


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven episodes of different lengths: the fourth is a failure, the second has no label, the sixth is damaged."""
    directory = tmp_path_factory.mktemp("data")
    for k in range(COUNT):
        label = {1: None, 3: False}.get(k, True)
        path = write(directory, f"episode_{k:04d}", 20 + k, label=label, operator="Ada" if k % 2 else "Grace")
    damage(directory / "episode_0005", 5000)
    assert path.name == "episode_0006"
    return directory


def test_a_listing_is_what_the_bag_says_of_itself(data: Path):
    listing = read_listing(data / "episode_0001")
    assert (listing.name, listing.label, listing.operator, listing.interrupted) == ("episode_0001", None, "Ada", False)
    assert listing.counts == {"joint_states": 105, "command": 21, "goal_pose": 1}
    # 21 periods of 50 ms, a joint state each 10 ms: the last one at 1.04 s
    assert listing.duration == pytest.approx(1.04) and listing.contract == CONTRACT
    assert listing.contract is read_listing(data / "episode_0002").contract, "the same words, one contract"


def test_listing_and_filtering_need_no_message(data: Path, tmp_path: Path):
    for path in data.iterdir():
        (tmp_path / path.name).mkdir()
        shutil.copy(path / "metadata.yaml", tmp_path / path.name)
    found = Bags.list(tmp_path)
    assert [listing.name[-1] for listing in found.listings] == ["0", "1", "2", "4", "5", "6"]
    assert found.rejected == ["episode episode_0003: labelled as a failure"]
    ada = found.where(lambda listing: listing.operator == "Ada" and listing.label is True)
    assert [listing.name for listing in ada.listings] == ["episode_0005"]
    assert list(ada) == [] and "episode_0005_0.mcap" in ada.rejected[0], "read only now, and told"


def test_batches_hold_no_more_than_they_say(data: Path):
    seen, sizes = [], []
    for batch in Bags.list(data).batches(2):
        assert sum(reference() is not None for reference in seen) <= 2, "the batch before, at most"
        seen += [weakref.ref(episode) for episode in batch]
        sizes.append(len(batch))
    assert sizes == [2, 2, 1]


def test_what_does_not_fit_is_read_again_to_the_same_bits(data: Path):
    kept, rejected = load_demonstrations(data)
    again, rejected_again = load_demonstrations(data, kept_bytes=NOTHING_KEPT)
    assert isinstance(kept.episodes, tuple) and not isinstance(again.episodes, tuple)
    assert rejected == rejected_again and [line.split("episode_000")[1][0] for line in rejected] == ["3", "5"]
    assert len(kept) == len(again) == 5 and kept.labels == again.labels == [True] * 4
    for first, second in zip(kept, again, strict=True):
        assert first.name == second.name
        np.testing.assert_array_equal(first.observations, second.observations)
        np.testing.assert_array_equal(first.actions, second.actions)
    assert again.episodes[0] is not again.episodes[0] and kept.episodes[0] is kept.episodes[0]


def test_an_episode_that_has_gone_since_is_an_error_not_a_hole(data: Path, tmp_path: Path):
    shutil.copytree(data, tmp_path / "data")
    lazy, _ = load_demonstrations(tmp_path / "data", kept_bytes=NOTHING_KEPT)
    shutil.rmtree(tmp_path / "data" / "episode_0002")
    with pytest.raises(EpisodeError, match="episode_0002: it was usable before"):
        list(lazy)


def test_a_directory_without_a_bag_that_says_what_it_is(data: Path, tmp_path: Path):
    (tmp_path / "episode_0000").mkdir()
    shutil.copy(data / "episode_0000" / "episode_0000_0.mcap", tmp_path / "episode_0000")
    with pytest.raises(EpisodeError, match="record some more(.|\n)*metadata.yaml is missing"):
        Bags.list(tmp_path)


def test_bags_beside_npz_files_are_not_left_out_in_silence(data: Path, tmp_path: Path):
    shutil.copytree(data / "episode_0000", tmp_path / "episode_0000")
    np.savez(tmp_path / "one.npz", observations=np.zeros((21, 23)), actions=np.zeros((20, 7)))
    with pytest.raises(EpisodeError, match="holds bags and npz files"):
        load_dataset(tmp_path, CONTRACT)


def test_features_are_the_same_however_many_parts_they_are_taken_in(data: Path, monkeypatch: pytest.MonkeyPatch):
    demonstrations, _ = load_demonstrations(data)
    featurizer = Featurizer(CONTRACT, torch.device("cpu"))
    assert len(demonstrations) < PART
    whole = featurizer.demonstrations(demonstrations)
    monkeypatch.setattr("irl_ros.learning.batch.PART", 2)
    for one, other in zip(whole, featurizer.demonstrations(demonstrations)):
        assert torch.equal(one, other)


def test_training_on_what_is_read_again_learns_the_same(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    brief = Contract(CONTRACT.robot, dataclasses.replace(CONTRACT.task, horizon=10))
    config = TrainConfig(method="bc", workers=1, device="cpu", evaluation_episodes=1, clone=CloneConfig(steps=5))
    monkeypatch.setattr(demonstrated, "MOST", 3)
    made = {}
    for name, kept_bytes in (("kept", 1 << 30), ("again", NOTHING_KEPT)):
        demonstrations, _ = load_demonstrations(data, brief, kept_bytes)
        checkpoint = train(demonstrations, config, tmp_path / name).checkpoint
        made[name] = {path.name for path in checkpoint.glob("*.safetensors")}
    assert made["kept"] == made["again"], "files are named by what is in them"


def test_yardsticks_are_taken_all_over_a_large_data_set(data: Path, monkeypatch: pytest.MonkeyPatch):
    demonstrations, _ = load_demonstrations(data)
    monkeypatch.setattr(demonstrated, "MOST", 3)
    states = demonstrated.yardsticks(demonstrations, {})["states"]
    lengths = [len(demonstrations.episodes[k]) + 1 for k in (0, 2, 4)]
    assert len(states) == sum(lengths)
