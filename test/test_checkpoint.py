"""Checkpoints: bit-identical copies, damage and foreign content refused, no reader sees half a version."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import handmade
import numpy as np
import pytest
import safetensors.numpy

from irl_ros.checkpoint import Checkpoint, CheckpointError, load_groups, save_groups
from irl_ros.contract import Contract

CONTRACT = Contract.load("panda", "reach")


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return handmade.checkpoint(CONTRACT, np.linspace(-1, 1, 7), gain=0.3)


@pytest.fixture
def saved(checkpoint: Checkpoint, tmp_path: Path) -> Path:
    checkpoint.save(tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


def arrays_equal(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    same = (a[k].dtype == b[k].dtype and a[k].shape == b[k].shape and a[k].tobytes() == b[k].tobytes() for k in a)
    return a.keys() == b.keys() and all(same)


def test_a_copy_is_bit_identical(checkpoint: Checkpoint, saved: Path):
    loaded = Checkpoint.load(saved)
    for group in ("policy_arrays", "reward_arrays", "likeness_arrays"):
        assert arrays_equal(getattr(loaded, group), getattr(checkpoint, group))
    assert loaded.contract == checkpoint.contract
    assert (loaded.urdf, loaded.provenance) == (checkpoint.urdf, checkpoint.provenance)


def test_types_shapes_and_odd_values_survive(tmp_path: Path):
    groups = {
        "a": {
            "scalar": np.array(0.1, np.float32),
            "empty": np.zeros((0, 3)),
            "odd": np.array([np.nan, np.inf, -0.0, 5e-324]),
            "integers": np.arange(5),
            "transposed": np.arange(6.0).reshape(2, 3).T,
        },
        "nothing": {},
    }
    save_groups(tmp_path, "thing", groups, {"text": "ü", "list": [1, None]})
    loaded, description = load_groups(tmp_path, "thing", ("a", "nothing"))
    assert arrays_equal(loaded["a"], {k: np.ascontiguousarray(v).reshape(v.shape) for k, v in groups["a"].items()})
    assert loaded["nothing"] == {} and description == {"text": "ü", "list": [1, None]}


def test_saving_the_same_twice_writes_the_same_bytes_and_an_older_version_leaves_nothing(
    checkpoint: Checkpoint, saved: Path
):
    before = {p.name: p.read_bytes() for p in saved.iterdir()}
    assert len(before) == 4
    checkpoint.save(saved)
    assert {p.name: p.read_bytes() for p in saved.iterdir()} == before
    dataclasses.replace(checkpoint, policy_arrays={"mean.0.weight": np.ones((7, 3))}).save(saved)
    after = {p.name for p in saved.iterdir()}
    assert len(after) == 4 and len(after & set(before)) == 3


@pytest.mark.parametrize("group", ["policy", "reward", "likeness"])
@pytest.mark.parametrize("where", [0, 9, 0.5, -1])
def test_a_flipped_bit_is_found(saved: Path, group: str, where: float):
    (path,) = saved.glob(f"{group}-*.safetensors")
    data = bytearray(path.read_bytes())
    data[int(where * len(data)) if isinstance(where, float) else where] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=f"{path.name}: damaged, its SHA-256"):
        Checkpoint.load(saved)


@pytest.mark.parametrize("kept", [0, 7, 0.5, -1])
def test_a_truncated_file_is_found(saved: Path, kept: float):
    for path in [next(saved.glob("policy-*.safetensors")), saved / "manifest.json"]:
        data = path.read_bytes()
        path.write_bytes(data[: int(kept * len(data)) if isinstance(kept, float) else kept])
        with pytest.raises(CheckpointError, match=f"{path.name}: damaged"):
            Checkpoint.load(saved)
        path.write_bytes(data)


def test_every_flipped_bit_of_the_manifest_is_found(checkpoint: Checkpoint, saved: Path):
    """One bit in each of many bytes; what still reads must be what was saved (a flip in white space)."""
    path = saved / "manifest.json"
    data = path.read_bytes()
    refused = 0
    for k in np.random.default_rng(0).integers(0, len(data), 150):
        broken = bytearray(data)
        broken[k] ^= 1 << (k % 8)
        path.write_bytes(broken)
        try:
            assert Checkpoint.load(saved).contract == checkpoint.contract
        except CheckpointError:
            refused += 1
    assert refused >= 100


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"null", b"{}", b"\xff\xfe", b"3", b'{"kind": "checkpoint"}', b"[" * 100_000]
)
def test_a_foreign_manifest_is_refused(saved: Path, content: bytes):
    (saved / "manifest.json").write_bytes(content)
    with pytest.raises(CheckpointError, match="manifest.json"):
        Checkpoint.load(saved)


def test_what_is_missing_is_named(saved: Path, tmp_path: Path):
    with pytest.raises(CheckpointError, match="nothing/manifest.json: cannot be read .* is this a checkpoint"):
        Checkpoint.load(tmp_path / "nothing")
    (path,) = saved.glob("reward-*.safetensors")
    path.unlink()
    with pytest.raises(CheckpointError, match=f"{path.name}: cannot be read"):
        Checkpoint.load(saved)


def test_another_kind_is_refused(saved: Path, tmp_path: Path):
    handmade.rewrite(saved, lambda m: m.update(kind="training state"))
    with pytest.raises(CheckpointError, match="not a checkpoint written by irl_ros"):
        Checkpoint.load(saved)


@pytest.mark.parametrize("number", [2, 0, "1", None])
def test_another_format_is_refused(saved: Path, number: Any):
    handmade.rewrite(saved, lambda m: m.update(format=number))
    with pytest.raises(CheckpointError, match="this version reads 1; use the irl_ros that wrote it"):
        Checkpoint.load(saved)


@pytest.mark.parametrize("form", ["../{name}", "{absolute}", "sub/../../{name}", "..", ".", "", "/", "a\0b", 3, None])
def test_a_path_outside_the_directory_is_never_read(saved: Path, tmp_path: Path, form: Any):
    (inside,) = saved.glob("policy-*.safetensors")
    outside = tmp_path / "stolen.safetensors"
    inside.rename(outside)
    name = form.format(name=outside.name, absolute=outside) if isinstance(form, str) else form
    handmade.rewrite(saved, lambda m: m["files"]["policy"].update(file=name))
    with pytest.raises(CheckpointError):
        Checkpoint.load(saved)


def test_a_link_that_leads_outside_is_held_to_its_hash(saved: Path, tmp_path: Path):
    (inside,) = saved.glob("policy-*.safetensors")
    (tmp_path / "secret").write_text("secret")
    inside.unlink()
    inside.symlink_to(tmp_path / "secret")
    with pytest.raises(CheckpointError, match="damaged"):
        Checkpoint.load(saved)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m["files"].pop("policy"),
        lambda m: m["files"].update(policy="text"),
        lambda m: m["files"]["policy"].pop("sha256"),
        lambda m: m.update(description=None),
        lambda m: m.update(description=[1]),
        lambda m: m["description"].pop("contract"),
        lambda m: m["description"].update(contract={"robot": None}),
        lambda m: m["description"]["contract"]["task"].update(colour="blue"),
        lambda m: m["description"].update(provenance=3),
        lambda m: m["description"].update(provenance=float("nan")),
        lambda m: m.update(files=[]),
    ],
)
def test_a_well_hashed_manifest_that_makes_no_sense_is_refused(saved: Path, change: Callable):
    handmade.rewrite(saved, change)
    with pytest.raises(CheckpointError):
        Checkpoint.load(saved)


def test_a_well_hashed_file_that_is_no_safetensors_is_refused(saved: Path):
    data = b"cos\nsystem\n(S'true'\ntR."  # a pickle that would run a command
    (saved / "x.safetensors").write_bytes(data)
    entry = {"file": "x.safetensors", "sha256": hashlib.sha256(data).hexdigest()}
    handmade.rewrite(saved, lambda m: m["files"].update(policy=entry))
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        Checkpoint.load(saved)


WRITER = """
import sys, numpy as np
from irl_ros.checkpoint import save_groups
k = 0
while True:
    k += 1
    groups = {name: {"value": np.full(2000, k)} for name in ("policy", "reward", "likeness")}
    save_groups(sys.argv[1], "checkpoint", groups, {"version": k})
    print(k, flush=True)
"""


def test_a_reader_beside_a_writer_always_gets_one_whole_version(tmp_path: Path):
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert writer.stdout.readline() == "1\n"
        seen: list[int] = []
        while len(set(seen)) < 40:
            groups, description = load_groups(tmp_path, "checkpoint", ("policy", "reward", "likeness"))
            values = np.concatenate([group["value"] for group in groups.values()])
            assert np.all(values == description["version"])
            seen.append(description["version"])
        assert seen == sorted(seen)
    finally:
        writer.kill()
        writer.wait()
        writer.stdout.close()


def test_a_killed_writer_leaves_a_whole_version_and_the_next_one_cleans_up(tmp_path: Path):
    for k in range(6):
        command = [sys.executable, "-c", WRITER, str(tmp_path)]
        writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            for _ in range(3 + k):
                writer.stdout.readline()
        finally:
            writer.kill()
            writer.wait()
            writer.stdout.close()
        groups, description = load_groups(tmp_path, "checkpoint", ("policy", "reward", "likeness"))
        assert all(np.all(group["value"] == description["version"]) for group in groups.values())
    (tmp_path / ".policy-0123.safetensors.77.part").write_bytes(b"half")
    (tmp_path / ".manifest.json.77.part").write_bytes(b"half")
    save_groups(tmp_path, "checkpoint", {"policy": {"value": np.zeros(1)}}, {})
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".json", ".safetensors"]


def test_a_save_that_fails_leaves_the_old_version(checkpoint: Checkpoint, saved: Path):
    with pytest.raises(ValueError):
        dataclasses.replace(checkpoint, provenance={"loss": float("nan")}).save(saved)
    assert Checkpoint.load(saved).provenance == checkpoint.provenance


def test_files_are_plain_safetensors_with_the_hash_in_the_manifest(saved: Path):
    manifest = json.loads((saved / "manifest.json").read_text())
    for entry in manifest["files"].values():
        data = (saved / entry["file"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == entry["sha256"]
        safetensors.numpy.load(data)
    assert not any(os.access(p, os.X_OK) for p in saved.iterdir())
