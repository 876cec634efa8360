"""A finished run as it lies on disk: what of it is there, and why the rest is not."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium

from irl_ros.checkpoint import Checkpoint
from irl_ros.contract import Contract, ContractError
from irl_ros.data.dataset import load_dataset
from irl_ros.data.episode import MOST_SHOWN, Demonstrations, Episode, EpisodeError, spread
from irl_ros.learning.environment import standardise

_Z_95 = 1.959964

SCORES = {  # what succeeded how often → keys of rate and number of trials in summary.json
    "demonstrations": ("demonstration_success", "demonstrations"),
    "behaviour clone, simulated": ("behaviour_cloning_success", "policy_episodes"),
    "learned policy, simulated": ("policy_success", "policy_episodes"),
    "learned policy, simulated, within 2 cm": ("policy_success_2cm", "policy_episodes"),
    "learned policy, deployed over topics": ("deployed_success", "deployed_episodes"),
}


class RunError(ValueError):
    """A run directory with a damaged file; the message names it."""


class Proportion(NamedTuple):
    """`successes` of `trials`, and the Wilson interval: what the true rate is with 95 % confidence."""

    name: str
    successes: int
    trials: int
    low: float
    high: float

    @property
    def rate(self) -> float:
        return self.successes / self.trials


@dataclass(frozen=True)
class Run:
    """A run directory's content. `facts` are the keys of ``summary.json``, `metrics` one mapping per iteration."""

    path: Path
    checkpoint: Checkpoint
    facts: dict[str, Any]
    metrics: list[dict[str, float]]
    dataset: Path
    demonstrations: tuple[Episode, ...]
    """At most MOST_SHOWN, spread over all, actions in [-1, 1]; empty for the reason `no_demonstrations`."""
    no_demonstrations: str
    rejected: list[str]

    @classmethod
    def read(cls, path: Path, dataset: Path | None = None, env: str = "") -> Run:
        """Read a run whose demonstrations lie in `dataset` (default: below `path`) and whose env is `env`. Raises CheckpointError, RunError."""
        checkpoint = Checkpoint.load(path / "checkpoint")
        checkpoint = dataclasses.replace(checkpoint, contract=checkpoint.contract.allow_env(env))
        known = {k: v for k, v in checkpoint.provenance.items() if k != "config"}
        known.update(read_facts(path))
        dataset = dataset or path / "demonstrations"
        demonstrations, missing, rejected = _demonstrations(dataset, checkpoint.contract)
        metrics = read_metrics(path)
        return cls(path, checkpoint, known, metrics, dataset, demonstrations, missing, rejected)

    @property
    def contract(self) -> Contract:
        return self.checkpoint.contract

    @property
    def method(self) -> str:
        return str(self.facts.get("method", "an unnamed method"))

    @property
    def scores(self) -> dict[str, Proportion | None]:
        """By name; None where the run did not measure it."""
        return {name: proportion(name, *map(self.facts.get, keys)) for name, keys in SCORES.items()}


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """Wilson's score interval of a proportion at 95 % confidence: low and high."""
    z, n, p = _Z_95, trials, successes / trials
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return min(max(0.0, centre - half), p), max(min(1.0, centre + half), p)


def proportion(name: str, rate: float | None, trials: int | None) -> Proportion | None:
    """From a rate and a number of trials; None where the run did not measure it."""
    if rate is None or not trials:
        return None
    successes = round(rate * trials)
    return Proportion(name, successes, trials, *wilson(successes, trials))


def _demonstrations(dataset: Path, contract: Contract) -> tuple[tuple[Episode, ...], str, list[str]]:
    """Episodes, or why there are none; and what was rejected."""
    try:
        demonstrations, rejected = load_dataset(dataset, contract)
        return tuple(spread(_in_policy_units(demonstrations).episodes, MOST_SHOWN)), "", rejected
    except EpisodeError as error:
        return (), str(error), []
    except (gymnasium.error.Error, ImportError, ContractError) as error:
        return (), f"the env {contract.task.env} cannot be made here: {error}", []


def _in_policy_units(demonstrations: Demonstrations) -> Demonstrations:
    """A gymnasium env's demonstrations act within the env's bounds; policies and rewards think in [-1, 1]."""
    return demonstrations if demonstrations.contract.robot is not None else standardise(demonstrations)


def flat(values: Mapping[str, Any], name: str = "") -> list[tuple[str, Any]]:
    """Options and their values, those in a section as section.option."""
    rows: list[tuple[str, Any]] = []
    for key, value in values.items():
        rows += flat(value, f"{name}{key}.") if isinstance(value, Mapping) else [(f"{name}{key}", value)]
    return rows


def read_facts(path: Path) -> dict[str, Any]:
    """What the JSON files of a run directory say together. Raises RunError for a damaged one."""
    known: dict[str, Any] = {}
    for name in ("training/result.json", "deployment.json", "summary.json"):
        known.update((k, v) for k, v in _read_json(path / name).items() if v is not None)
    return known


def _read_json(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise RunError(f"{path}: damaged, not a JSON object ({error}); remove it to go on without it") from None


def read_metrics(run: Path) -> list[dict[str, float]]:
    """The lines of a run's metrics.jsonl; a last line that a kill cut short is left out. Raises RunError."""
    path = run / "training" / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            found.append(json.loads(line))
        except ValueError as error:
            if number < len(lines):
                raise RunError(f"{path}:{number}: damaged, not JSON ({error}); remove the line") from None
    return found
