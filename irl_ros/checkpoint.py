"""A learned policy and reward with everything needed to run them: one directory, hashed, written atomically.

`manifest.json` names each safetensors file with its SHA-256. A new version writes new files under names made from
their content and then replaces the manifest in one step; whoever reads finds the old version or the new one, whole.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from irl_ros.contract import Contract, ContractError

FORMAT = 1
MANIFEST = "manifest.json"
UNFINISHED = ".part"  # ending of files that a killed writer leaves
Arrays = dict[str, np.ndarray]


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged or of another format; the message names the file and the reason."""


@dataclass(frozen=True)
class Checkpoint:
    """Policy, reward and likeness as plain arrays, the contract they were learned under, and where they come from."""

    contract: Contract
    policy_arrays: Arrays
    reward_arrays: Arrays
    likeness_arrays: Arrays
    urdf: str = ""
    """Text of the robot's URDF (its kinematics serve the policy runner); empty without a robot."""
    provenance: dict[str, Any] = field(default_factory=dict)

    def save(self, directory: str | Path) -> None:
        """Write to `directory`, replacing an older checkpoint there atomically."""
        groups = {"policy": self.policy_arrays, "reward": self.reward_arrays, "likeness": self.likeness_arrays}
        description = {"contract": self.contract.to_dict(), "urdf": self.urdf, "provenance": self.provenance}
        save_groups(directory, "checkpoint", groups, description)

    @classmethod
    def load(cls, directory: str | Path) -> Checkpoint:
        """Read and verify; raises CheckpointError, and never runs anything that lies in the directory."""
        groups, description = load_groups(directory, "checkpoint", ("policy", "reward", "likeness"))
        try:
            contract = Contract.from_dict(description["contract"])
            urdf, provenance = str(description["urdf"]), dict(description["provenance"])
        except (ContractError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{Path(directory) / MANIFEST}: {error}") from None
        return cls(contract, groups["policy"], groups["reward"], groups["likeness"], urdf, provenance)


def save_groups(
    directory: str | Path, kind: str, groups: Mapping[str, Mapping[str, np.ndarray]], description: Mapping[str, Any]
) -> None:
    """Write named groups of arrays and a JSON description; the manifest's replacement makes them current at once."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    files = {}
    for name, arrays in groups.items():
        data = safetensors.numpy.save({key: np.asarray(value, order="C") for key, value in arrays.items()})
        digest = hashlib.sha256(data).hexdigest()
        files[name] = {"file": f"{name}-{digest[:16]}.safetensors", "sha256": digest}
        _write(directory / files[name]["file"], data)
    body = {"files": files, "description": dict(description)}
    manifest = {"format": FORMAT, "kind": kind, "sha256": _digest(body), **body}
    _write(directory / MANIFEST, json.dumps(manifest, indent=1, allow_nan=False).encode())
    current = {entry["file"] for entry in files.values()}
    for path in (*directory.glob("*.safetensors"), *directory.glob(f".*{UNFINISHED}")):
        if path.name not in current:
            path.unlink(missing_ok=True)


def load_groups(
    directory: str | Path, kind: str, names: tuple[str, ...]
) -> tuple[dict[str, Arrays], dict[str, Any]]:
    """What :func:`save_groups` wrote, verified against its hashes; raises CheckpointError."""
    directory = Path(directory)
    manifest = _read_manifest(directory / MANIFEST, kind)
    while True:
        try:
            return {name: _read_group(directory, manifest, name) for name in names}, manifest["description"]
        except CheckpointError:
            newer = _read_manifest(directory / MANIFEST, kind)
            if newer["sha256"] == manifest["sha256"]:
                raise
            manifest = newer  # replaced while we read, and its files removed


def _read_manifest(path: Path, kind: str) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_bytes(), parse_constant=_refuse)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); is this a {kind} directory?") from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: damaged, not JSON ({error})") from None
    if not isinstance(manifest, dict) or manifest.get("kind") != kind:
        raise CheckpointError(f"{path}: not a {kind} written by irl_ros")
    if manifest.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: format {manifest.get('format')!r}, this version reads {FORMAT}; use the irl_ros that wrote it"
        )
    body = {key: manifest.get(key) for key in ("files", "description")}
    if not isinstance(body["files"], dict) or manifest.get("sha256") != _digest(body):
        raise CheckpointError(f"{path}: damaged, its hash does not match its content")
    return manifest


def _read_group(directory: Path, manifest: Mapping[str, Any], name: str) -> Arrays:
    try:
        entry = manifest["files"][name]
        path = directory / Path(entry["file"]).name  # never outside the directory
        data, expected = path.read_bytes(), entry["sha256"]
    except (KeyError, TypeError, ValueError):
        raise CheckpointError(f"{directory / MANIFEST}: names no file for {name!r}") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None
    if hashlib.sha256(data).hexdigest() != expected:
        raise CheckpointError(f"{path}: damaged, its SHA-256 does not match the manifest's")
    try:
        return safetensors.numpy.load(data)
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"{path}: not a safetensors file ({error})") from None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON number")


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True, allow_nan=False).encode()).hexdigest()


def _write(path: Path, data: bytes) -> None:
    """Temporary file, fsync, rename, fsync of the directory: after a crash the file is the old one or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}{UNFINISHED}")
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
