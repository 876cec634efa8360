"""Episodes, one after the other, into a directory: what the recorder does, without ROS."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from rosbags.interfaces import Qos

from irl_ros.contract import Contract, Thresholds
from irl_ros.data import catalogue
from irl_ros.data.bag_writer import create_bag, set_label
from irl_ros.data.episode import EpisodeError
from irl_ros.data.listing import BagError
from irl_ros.data.manifest import write_manifest
from irl_ros.data.quality import Quality
from irl_ros.data.recording import EpisodeStates, Refused, State
from irl_ros.data.take import Take
from irl_ros.motion import DifferentialKinematics

MEGABYTE = 1_000_000


class Kept(NamedTuple):
    """An episode that is on disk under its name."""

    path: Path
    label: bool | None
    quality: Quality
    interrupted: bool


class Taping:
    """A recording session in `out`. Methods raise Refused where a request does not fit, BagError where the disk fails.

    `kinematics`: of the contract's robot, to try episodes as training would; None where its model is not at hand.
    `kept` is the last saved episode, as long as it may be labelled or discarded.
    """

    def __init__(
        self,
        out: str,
        contract: Contract,
        thresholds: Thresholds,
        kinematics: DifferentialKinematics | None,
        demonstrated_by: str,
        operator: str,
    ):
        self.out = _output_directory(out)
        self._contract, self._thresholds, self._kinematics = contract, thresholds, kinematics
        self._demonstrated_by = demonstrated_by
        self._session = write_manifest(self.out, contract, thresholds, operator, demonstrated_by)
        self.states = EpisodeStates()
        self.take: Take | None = None
        self.kept: Kept | None = None
        self.saved = 0
        """Episodes kept so far."""

    @property
    def state(self) -> State:
        return self.states.state

    def begin(self, topics: Mapping[str, tuple[str, Qos]], operator: str, began: int) -> str:
        """Start an episode at `began` [ns]; `topics`: resolved name and QoS by role. Returns its name."""
        self.states.check_start()
        bag = create_bag(self.out, self._contract, topics, self._demonstrated_by, operator, self._session)
        self.take = Take(bag, self._thresholds, self._kinematics, self._demonstrated_by, began)
        self.kept = None
        self.states.start(bag.final.name)
        return bag.final.name

    def finish(self, end: int, interrupted: bool = False) -> Kept:
        """Stop at `end` [ns] and keep the episode; `interrupted`: as one that training does not use."""
        self.states.stop()
        label = None if interrupted else self.states.label
        quality = self.take.quality(self.states.name, end)
        path = self.take.bag.save(label, interrupted, quality.to_dict()).absolute()
        self.take = None
        self.states.saved(path)
        if interrupted:
            self.states.fail()
        self.kept = Kept(path, label, quality, interrupted)
        self.saved += 1
        return self.kept

    def discard(self) -> str:
        """Give up what is recorded or waited for, or put the last saved episode aside; returns what, in words."""
        name, last = self.states.name, self.states.discard()
        if last is not None:
            self.kept = None
            return f"{last.name}, now in {self._put_aside(last)}"
        take, self.take = self.take, None
        if take is None:
            return "the wait for a motion"
        take.bag.discard()
        return name

    def _put_aside(self, last: Path) -> Path:
        try:
            return catalogue.drop(last.parent, [last.name])[0].parent
        except (EpisodeError, OSError) as error:
            raise Refused(f"{last.name} cannot be put aside: {error}") from None

    def label(self, success: bool) -> str:
        """Label the episode that is recorded or the last one saved; returns its name."""
        if self.states.label_current(success):
            return self.states.name
        set_label(self.states.last, success)
        self.kept = self.kept._replace(label=success)
        return self.states.last.name

    def free(self) -> float:
        """Space on the disk [MB]."""
        try:
            return shutil.disk_usage(self.out).free / MEGABYTE
        except OSError as error:
            raise BagError(f"cannot look at {self.out}: {error.strerror}") from error

    def fail(self) -> str | None:
        """Give up after the disk failed; returns the name of the episode that is lost."""
        name, take, self.take = self.states.name, self.take, None
        if take is not None:
            take.bag.abort()
        self.states.fail()
        return name


def _output_directory(name: str) -> Path:
    path = Path(name).expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BagError(f"parameter out: cannot create {path}: {error.strerror}") from error
    return path
