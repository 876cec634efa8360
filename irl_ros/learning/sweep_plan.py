"""What a sweep is to try, read from YAML::

    tasks: {reach: runs/demo/demonstrations}      # each with its demonstrations; paths from where this file lies
    vary:
      method: [gcl, airl]                         # a list: each of it, with each of all others
      seed: [0, 1, 2]
      reward_features: [[end_effector_to_goal], [joint_position, end_effector_to_goal]]
      reward.lcr: {low: 1.0, high: 1000.0, log: true}   # a range: drawn, `draws` times, the same for all combinations
    draws: 4
    training: {environment_steps: 8000}           # options of all runs, over those of the task's file
    cpus: 1                                       # of each run

A task or robot of one's own is named by its YAML file. `vary` takes any option of
:class:`~irl_ros.learning.config.TrainConfig`, one in a section as section.option. Unless `training` says otherwise a run
ends early when its health figures say that it has converged (`stop_when_converged`) or has been unhealthy for 5
iterations on end (`stop_when_unhealthy`); the true reward has no say.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from irl_ros.contract import Contract, did_you_mean
from irl_ros.contract_yaml import task_training
from irl_ros.learning.config import RAY, ConfigError, TrainConfig, check_method

FEATURES = "reward_features"
STATE = "tune"
"""Directory of Ray Tune's state of a sweep, below the sweep's own: there is one once the sweep has begun."""
LONGEST = 200
"""Characters of a run's name."""
EARLY = {"stop_when_converged": True, "stop_when_unhealthy": 5}
NOT_VARIED = ("workers", "rollout_backend", "ray_address", "device")


class Range(NamedTuple):
    """Where a value is drawn from, evenly, or its logarithm is."""

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True)
class Plan:
    """A sweep; see the module's docstring. `datasets`: task → directory of demonstrations; `asked`: task → the options
    that its file asks for, which the nodes of a cluster need not see."""

    path: Path
    datasets: Mapping[str, Path]
    asked: Mapping[str, Mapping[str, Any]]
    robot: str = ""
    choices: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    ranges: Mapping[str, Range] = field(default_factory=dict)
    draws: int = 1
    training: Mapping[str, Any] = field(default_factory=dict)
    cpus: int = 1

    @classmethod
    def read(cls, path: Path) -> Plan:
        """Raises ConfigError, naming the file, for whatever cannot be run; ContractError for a robot or task."""
        try:
            data = yaml.safe_load(path.read_text())
        except yaml.YAMLError as error:
            raise ConfigError(f"{path}: not valid YAML: {error}") from None
        try:
            plan = cls._parse(path, data)
            plan._check()
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None
        return plan

    @classmethod
    def _parse(cls, path: Path, data: Any) -> Plan:
        known = {"tasks": dict, "robot": str, "vary": dict, "draws": int, "training": dict, "cpus": int}
        if not isinstance(data, dict) or not isinstance(data.get("tasks"), dict) or not data["tasks"]:
            raise ConfigError("tasks must name each task with its directory of demonstrations")
        for name, value in data.items():
            if name not in known:
                raise ConfigError(f"unknown entry {name!r}.{did_you_mean(str(name), tuple(known))}")
            if not isinstance(value, known[name]) or isinstance(value, bool):
                raise ConfigError(f"{name}: {value!r} is no {known[name].__name__}")
        vary, directory = data.get("vary", {}), path.absolute().parent
        if wrong := [name for name in (*vary, *data["tasks"]) if not isinstance(name, str)]:
            raise ConfigError(f"{wrong[0]!r} is no name: write it in quotes if it is meant as one")
        for name, where in data["tasks"].items():
            if not isinstance(where, str):
                raise ConfigError(f"tasks: {name} needs the directory of its demonstrations, not {where!r}")
        choices = {name: tuple(values) for name, values in vary.items() if isinstance(values, list)}
        ranges = {name: _range(name, values) for name, values in vary.items() if name not in choices}
        if empty := [name for name, values in choices.items() if not values]:
            raise ConfigError(f"vary: {empty[0]} has nothing to choose from")
        datasets = {_file(name, directory): directory / Path(where).expanduser() for name, where in data["tasks"].items()}
        plain = {name: data[name] for name in ("draws", "training", "cpus") if name in data}
        asked = {task: task_training(task) for task in datasets}
        return cls(path, datasets, asked, _file(data.get("robot", ""), directory), choices, ranges, **plain)

    def _check(self) -> None:
        """Every run that the lists make, with both ends of the ranges, has options and a method that can be."""
        if self.draws < 1 or self.cpus < 1:
            raise ConfigError("draws and cpus must be at least 1")
        if self.draws > 1 and not self.ranges:
            raise ConfigError("draws: nothing is drawn: vary names no range")
        self._check_names()
        tasks: dict[str, str] = {}
        for run in self.combinations({name: (ends.low, ends.high) for name, ends in self.ranges.items()}):
            config, contract = self.config(run), self.contract(run)
            check_method(config.method, contract)
            if config.rollout_backend == RAY:
                raise ConfigError(
                    "rollout_backend ray: the runs of a sweep have no CPUs but their own: leave rollout_backend out, and "
                    "give each as many as its workers by cpus"
                )
            for called in (contract.task.name, _word(run["task"])):
                if (other := tasks.setdefault(called, run["task"])) != run["task"]:
                    raise ConfigError(f"tasks {other} and {run['task']} are both called {called}: rename one, file and name")

    def _check_names(self) -> None:
        """Each is varied, once, and so is each of its values."""
        names = (*self.choices, *self.ranges)
        if "task" in names:
            raise ConfigError("vary: task: each task has demonstrations of its own: name them under tasks")
        if wrong := [name for name in names if name in NOT_VARIED]:
            raise ConfigError(f"vary: {wrong[0]} changes no result")
        for name, values in self.choices.items():
            if twice := [value for k, value in enumerate(values) if value in values[:k]]:
                raise ConfigError(f"vary: {name} names {twice[0]!r} twice")

    def combinations(self, drawn: Mapping[str, tuple[Any, ...]]) -> Iterator[dict[str, Any]]:
        """What each run varies: its task, and a value for each name."""
        axes = {"task": tuple(self.datasets), **self.choices, **drawn}
        for values in itertools.product(*axes.values()):
            yield dict(zip(axes, values))

    @property
    def count(self) -> int:
        """Of runs."""
        return len(self.datasets) * math.prod(map(len, self.choices.values())) * self.draws

    def contract(self, run: Mapping[str, Any]) -> Contract:
        """Of a run's task, with its reward features."""
        return self.with_features(Contract.load(self.robot, run["task"]), run)

    def with_features(self, contract: Contract, run: Mapping[str, Any]) -> Contract:
        """A task's contract with the run's reward features."""
        if FEATURES not in run:
            return contract
        features = run[FEATURES]
        if not isinstance(features, (list, tuple)) or not all(isinstance(text, str) for text in features):
            raise ConfigError(f"vary: {FEATURES}: {features!r} is no list of features")
        return dataclasses.replace(contract, task=dataclasses.replace(contract.task, reward_features=tuple(features)))

    def config(self, run: Mapping[str, Any]) -> TrainConfig:
        """Options of a run; raises ConfigError."""
        data: dict[str, Any] = {"workers": 1, "device": "cpu", **EARLY}
        for options in (self.asked[run["task"]], self.training):
            _merge(data, options)
        for name, value in run.items():
            if name not in ("task", FEATURES):
                _merge(data, _nested(name.split("."), value))
        return TrainConfig.from_dict(data)


def name_of(run: Mapping[str, Any]) -> str:
    """Of a run, in words that a directory's name may hold; drawn values are rounded."""
    return "_".join(f"{name.rpartition('.')[2]}-{_word(value)}" for name, value in run.items())


def distinct(names: Iterable[str]) -> list[str]:
    """The names cut to what a directory may be called; those that are the same then, as a drawn run may be, numbered."""
    seen, cut = Counter[str](), [name[:LONGEST] for name in names]
    for k, name in enumerate(cut):
        seen[name] += 1
        cut[k] = name if seen[name] == 1 else f"{name}_{seen[name]}"
    return cut


def _word(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else "+".join(map(str, value)) if isinstance(value, list) else str(value)
    return re.sub(r"[^\w.+-]+", "", Path(text).stem if text.endswith((".yaml", ".yml")) else text)


def _range(name: str, said: Any) -> Range:
    """A range; whole numbers where both ends are. Raises ConfigError."""
    if not isinstance(said, dict) or not {"low", "high"} <= set(said) <= {"low", "high", "log"}:
        raise ConfigError(f"vary: {name} must be a list of values or a range {{low: …, high: …, log: true}}, not {said!r}")
    found = Range(said["low"], said["high"], said.get("log", False))
    numbers = all(isinstance(end, (int, float)) and not isinstance(end, bool) for end in found[:2])
    if not isinstance(found.log, bool):
        raise ConfigError(f"vary: {name}: log must be true or false, not {found.log!r}")
    if not numbers or not -math.inf < found.low < found.high < math.inf or (found.log and found.low <= 0):
        raise ConfigError(f"vary: {name}: low must be a number below high, both finite, and above 0 where log is true")
    return found


def _file(name: str, directory: Path) -> str:
    """A robot or task: what is built in by its name, a file by its whole path, since other nodes work elsewhere."""
    return str(directory / Path(name).expanduser()) if name.endswith((".yaml", ".yml")) else name


def _nested(names: list[str], value: Any) -> dict[str, Any]:
    return {names[0]: value if len(names) == 1 else _nested(names[1:], value)}


def _merge(data: dict[str, Any], more: Mapping[str, Any]) -> None:
    """Options over options, sections entry by entry."""
    for name, value in more.items():
        if isinstance(value, Mapping) and isinstance(data.get(name), dict):
            _merge(data[name], value)
        else:
            data[name] = copy.deepcopy(value)
