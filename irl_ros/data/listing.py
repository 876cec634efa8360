"""What a bag says of itself, in its metadata.yaml alone: enough to list, to filter and to choose, at a millisecond a
bag, before a message of any is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from irl_ros.contract import Contract
from irl_ros.data.bag_lock import in_use
from irl_ros.data.clocks import RECEIVE
from irl_ros.data.episode import EpisodeError

_LOADER = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
"""libyaml's is ten times as fast; a PyYAML that was built without it has the other. Both take every scalar as the text
that it is: custom_data holds texts, and an operator called No is not False."""

DIGEST = "digest"


class BagError(ValueError):
    """A bag that cannot be written or read; the message names the file and the reason."""


class Listing(NamedTuple):
    """One recorded episode, by its metadata."""

    path: Path
    file: Path
    """The MCAP file."""
    contract: Contract
    topics: dict[str, str]
    """Full name by the contract's role."""
    counts: dict[str, int]
    """Messages by role."""
    duration: float
    """[s] from the first message to the last."""
    label: bool | None
    interrupted: bool
    demonstrated_by: str
    operator: str
    clock: str
    """By which samples are dated, one of :data:`irl_ros.data.clocks.CLOCKS`."""
    quality: Mapping[str, Any]
    """What the recorder found, as :meth:`irl_ros.data.quality.Quality.to_dict` gives it; empty where none looked."""

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def refusal(self) -> str:
        """Why nothing is learned from it, as far as this is known without its messages; else empty."""
        if self.interrupted:
            return "the recorder was interrupted before it was stopped"
        if self.label is False:
            return "labelled as a failure"
        problems = "; ".join(self.quality.get("problems", ()))
        return f"below what the task asks of a recording: {problems}" if problems else ""


def bags(directory: Path | str) -> list[Path]:
    """Bag directories in `directory`, in name order, or itself where it is one; raises EpisodeError where there is
    none. Hidden ones are unfinished recordings."""
    directory = Path(directory).expanduser()
    if not directory.is_dir():
        raise EpisodeError(f"no directory {directory}; record demonstrations there first")
    if is_bag(directory):
        return [directory]
    found = [p for p in sorted(directory.iterdir()) if not p.name.startswith(".") and p.is_dir() and is_bag(p)]
    if not found and any(directory.glob("*.npz")):
        raise EpisodeError(f"{directory} holds npz files, not bags: training takes them as they are")
    if not found:
        raise EpisodeError(f"no episode bag in {directory}; record demonstrations there first")
    return found


def is_bag(path: Path) -> bool:
    """Whether a directory holds a bag, whole or not."""
    return (path / "metadata.yaml").exists() or any(path.glob("*.mcap"))


def read_listing(directory: Path | str) -> Listing:
    """What the metadata of a recorder's bag says. Raises BagError."""
    directory = Path(directory)
    file, duration, custom = _read_metadata(directory / "metadata.yaml")
    try:
        check_seal(custom)
        return Listing(
            directory,
            file,
            _contract(custom["contract"]),
            json.loads(custom["topics"]),
            json.loads(custom["counts"]),
            duration,
            json.loads(custom["label"]),
            json.loads(custom["interrupted"]),
            custom["demonstrated_by"],
            custom.get("operator", ""),
            custom.get("clock", RECEIVE),
            dict(json.loads(custom.get("quality", "{}"))),
        )
    except KeyError as missing:
        raise BagError(f"{directory}/metadata.yaml: custom_data has no {missing}: not demo_recorder's") from None
    except (ValueError, AttributeError, TypeError) as error:
        raise BagError(f"{directory}/metadata.yaml: its custom_data is damaged: {error}") from None


def seal(custom: Mapping[str, str]) -> dict[str, str]:
    """`custom` with a checksum of all its entries: metadata.yaml and recording.json themselves have none."""
    plain = {key: value for key, value in custom.items() if key != DIGEST}
    text = json.dumps(plain, sort_keys=True)
    return {**plain, DIGEST: hashlib.sha256(text.encode()).hexdigest()}


def check_seal(custom: Mapping[str, str]) -> None:
    """Raise ValueError where an entry has changed since :func:`seal`. Older bags, and others' tools, have no seal."""
    if DIGEST in custom and custom != seal(custom):
        raise ValueError("its entries do not fit their checksum")


def load_texts(text: str) -> Any:
    """Mappings and lists of texts from YAML; raises yaml.YAMLError."""
    return yaml.load(text, _LOADER)  # a BaseLoader either way: it makes nothing but these


@lru_cache(maxsize=64)
def _contract(text: str) -> Contract:
    """All bags of a session carry the same contract: one object for them all."""
    contract = Contract.from_dict(json.loads(text))
    hash(contract)  # what is damaged enough not to be hashable is found here, not by a later cache
    return contract


def _read_metadata(path: Path) -> tuple[Path, float, Mapping[str, str]]:
    try:
        information = load_texts(path.read_text())["rosbag2_bagfile_information"]
        names = [Path(name).name for name in information["relative_file_paths"]]
        custom, storage = information.get("custom_data"), information.get("storage_identifier")
        duration = int(information["duration"]["nanoseconds"]) / 1e9
    except FileNotFoundError:
        if in_use(path.parent):
            raise BagError(f"{path.parent} is being recorded: read it when the recorder has saved it") from None
        raise BagError(f"{path} is missing: no complete bag") from None
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError, OSError) as error:
        raise BagError(f"{path}: no rosbag2 metadata: {error!r}") from None
    if storage != "mcap" or len(names) != 1:
        raise BagError(f"{path}: only bags of one MCAP file are read, this one has {len(names)} of {storage!r}")
    return path.parent / names[0], duration, custom if isinstance(custom, dict) else {}
