"""Demonstrations from npz files: what is usable is used, what is not is rejected by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from irl_ros.contract import Contract, Field, Task
from irl_ros.data.episode import EpisodeError
from irl_ros.data.interchange import load_npz

TASK = Task("env", "Some-v0", 20.0, 30, "env", 2, (Field("observation", 4),), ("observation",), ("observation",))
CONTRACT = Contract(None, TASK)


def arrays(length: int = 20, n: int = 4, m: int = 2, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {"observations": rng.normal(size=(length + 1, n)), "actions": rng.normal(size=(length, m))}


def test_files_are_read_in_name_order_and_cut_at_the_horizon(tmp_path: Path) -> None:
    for seed, name in enumerate(("b", "a", "c")):
        np.savez(tmp_path / f"{name}.npz", **arrays(length=20 + 10 * seed, seed=seed))
    demonstrations, rejected = load_npz(tmp_path, CONTRACT)
    assert not rejected
    assert [(e.name, len(e)) for e in demonstrations] == [("a", 30), ("b", 20), ("c", 30)]
    np.testing.assert_array_equal(demonstrations.episodes[1].observations, arrays(20, seed=0)["observations"])


@pytest.mark.parametrize(
    "reason, change",
    [
        ("too short: 5 periods", lambda a: arrays(length=5)),
        ("non-finite", lambda a: {**a, "actions": a["actions"] * np.nan}),
        ("3 wide", lambda a: {**a, "observations": a["observations"][:, :3]}),
        ("(T+1, n)", lambda a: {**a, "observations": a["observations"][:-1]}),
        ("no array 'actions'", lambda a: {"observations": a["observations"]}),
        ("not numbers", lambda a: {**a, "actions": a["actions"].astype(str)}),
        ("allow_pickle", lambda a: {**a, "actions": a["actions"].astype(object)}),
        ("labelled as a failure", lambda a: {**a, "success": np.array(False)}),
    ],
)
def test_an_unusable_file_is_rejected_by_name_and_the_rest_go_on(tmp_path: Path, reason: str, change) -> None:
    np.savez(tmp_path / "bad.npz", **change(arrays()))
    np.savez(tmp_path / "good.npz", **arrays(), success=np.array(True))
    demonstrations, rejected = load_npz(tmp_path, CONTRACT)
    assert [e.name for e in demonstrations] == ["good"] and demonstrations.episodes[0].success is True
    assert len(rejected) == 1 and rejected[0].startswith("episode bad: ") and reason in rejected[0]


@pytest.mark.parametrize("content", [b"", b"no npz", b"PK\x03\x04"])
def test_a_damaged_file_is_rejected(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.npz").write_bytes(content)
    np.savez(tmp_path / "good.npz", **arrays())
    demonstrations, rejected = load_npz(tmp_path, CONTRACT)
    assert len(demonstrations) == 1 and rejected[0].startswith("episode bad: ")


def test_nothing_usable_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(EpisodeError, match="write one per episode"):
        load_npz(tmp_path, CONTRACT)
    np.savez(tmp_path / "bad.npz", **arrays(length=2))
    with pytest.raises(EpisodeError, match="no usable demonstration(.|\n)*episode bad: too short"):
        load_npz(tmp_path, CONTRACT)
