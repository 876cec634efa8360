"""The one learning loop: rollout → reward step → KL-bounded policy step → metrics, for every method.

A run directory gets ``training/metrics.jsonl``, TensorBoard events and a resume state, and at the end
``checkpoint/`` and ``training/result.json``. Everything random comes from the seed and the iteration's number, so a
resumed run goes on to the very same figures.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from irl_ros.checkpoint import Checkpoint
from irl_ros.contract import Contract
from irl_ros.data.episode import Demonstrations
from irl_ros.learning.album import Album
from irl_ros.learning.batch import Featurizer
from irl_ros.learning.bc import clone
from irl_ros.learning.config import ConfigError, TrainConfig, check_method
from irl_ros.learning.environment import EnvSpec
from irl_ros.learning.health import Monitor, split
from irl_ros.learning.leave_one_out import LeaveOneOut
from irl_ros.learning.method import Method, Problem, Selective
from irl_ros.learning.methods import ALTERNATING, CLONE, TABULAR
from irl_ros.learning.metrics import MetricsLog
from irl_ros.learning.observer import Observer, SilentObserver
from irl_ros.learning.policy_step import PolicyStep
from irl_ros.learning.resume import load_state, save_state
from irl_ros.learning.rollout import Outcome, Rollouts, open_rollouts
from irl_ros.learning.trajectory_step import TrajectoryStep, clone_controllers
from irl_ros.models.demonstrated import yardsticks
from irl_ros.models.policies import ValueFunction

SUCCESS_2CM = 0.02
FREE_TO_CHANGE = (
    "environment_steps",
    "workers",
    "rollout_backend",
    "ray_address",
    "stop_when_converged",
    "stop_when_unhealthy",
)
"""Options that a resumed training may have other values of."""
HELD_OUT_STREAM = 10**6
"""Random stream of the choice of held-out demonstrations; iterations have the streams from 1 on."""
EVALUATION_SEED = 10**9
"""Evaluation episodes are drawn from here on, training episodes far below: no goal is seen twice."""


@dataclass(frozen=True)
class Result:
    """What a training came to. `figures` is what ``training/result.json`` holds; empty when cancelled."""

    checkpoint: Path | None
    figures: dict[str, Any] = field(default_factory=dict)
    cancelled: bool = False


def train(
    demonstrations: Demonstrations,
    config: TrainConfig,
    directory: str | Path,
    observer: Observer | None = None,
    resume: bool = False,
) -> Result:
    """Learn a reward and a policy from `demonstrations`; writes below `directory` (see the module's docstring).

    Raises ConfigError for an unknown method, or for a resume state of another run.
    """
    check_method(config.method, demonstrations.contract)
    torch.set_num_threads(1)  # small networks: more threads only wait for one another
    observer = observer or SilentObserver()
    has_grid = demonstrations.contract.task.grid is not None
    if config.method in TABULAR and (has_grid or config.method not in ALTERNATING):
        from irl_ros.learning.tabular_run import train_tabular  # which uses this module's figures

        return train_tabular(demonstrations, config, Path(directory), observer, resume)
    run = _Run(demonstrations, config, Path(directory), observer)
    return run.train(resume)


class _Run:
    """One training's state and its phases."""

    def __init__(self, demonstrations: Demonstrations, config: TrainConfig, directory: Path, observer: Observer):
        self._demonstrations, self._config, self._observer = demonstrations, config, observer
        self._contract: Contract = demonstrations.contract
        self._directory, self._training = directory, directory / "training"
        self._device = device(config.device)
        self._featurizer = Featurizer(self._contract, self._device)
        self._batch = self._featurizer.demonstrations(demonstrations)
        steps = config.batch_episodes * self._contract.task.horizon
        self._iterations = 0 if config.method == CLONE else math.ceil(config.environment_steps / steps)
        self._steps_per_iteration = steps
        self._iteration = 0
        self._seconds = 0.0
        self._last: dict[str, float] = {}

    def train(self, resume: bool) -> Result:
        start = time.monotonic()
        self._clone()
        if resume:
            self._load()
        log = MetricsLog(self._training, keep=self._iteration)
        album = Album(self._demonstrations, self._batch, log.writer)
        with open_rollouts(_env(self._contract, self._config), self._config) as rollouts:
            before = self._seconds
            cancelled = self._learn(rollouts, log, album, lambda: before + time.monotonic() - start)
            log.close()
            if cancelled:
                return Result(None, cancelled=True)
            if isinstance(self._method, Selective):
                self._policy = self._method.chosen_policy()
            checkpoint = self._save_checkpoint()
            figures = self._evaluate(rollouts)
        write_json(self._training / "result.json", figures)
        return Result(checkpoint, figures)

    def _clone(self) -> None:
        """Fit the clone and the demonstrations' density; build everything that learns."""
        config, generator = self._config, self._generator(0)
        self._observer.on_phase("clone", 1)
        self._policy = clone(self._batch, config.clone, generator)
        self._clone_arrays = self._policy.arrays()
        with torch.no_grad():
            self._policy.log_std.fill_(math.log(config.policy_step.initial_std))
        by_time = config.policy_step.kind == "trajectory"
        if by_time:
            self._policy = clone_controllers(self._batch, config.policy_step.initial_std)
        value = ValueFunction(self._featurizer.n_inputs, generator).to(self._device)
        demonstrations = split(self._batch, config.held_out, self._generator(HELD_OUT_STREAM))
        problem = Problem(demonstrations.shown, config, config.policy_step.discount, generator)
        build = ALTERNATING.get(config.method)
        needs_all = build is not None and not len(demonstrations.held_out) and len(demonstrations.shown) > 1
        self._monitor = Monitor(demonstrations, LeaveOneOut(build, problem) if needs_all else None)
        self._method: Method | None = build(problem) if build else None
        holds_entropy = self._method is not None and self._method.reward_holds_entropy
        bonus = 0.0 if holds_entropy else config.policy_step.entropy_weight
        step = dataclasses.replace(config.policy_step, entropy_weight=bonus)
        self._step = (
            TrajectoryStep(self._policy, step, self._method) if by_time else PolicyStep(self._policy, value, step)
        )
        self._observer.on_progress(1, {})

    def _learn(self, rollouts: Rollouts, log: MetricsLog, album: Album, elapsed: Callable[[], float]) -> bool:
        """Iterate to the end; True when the observer stopped it. Either way the resume state is on disk."""
        self._observer.on_phase("learn", self._iterations)
        self._observer.on_progress(self._iteration, {})
        while self._iteration < self._iterations and not self._ends_early():
            if self._observer.should_stop():
                self._save(elapsed())
                return True
            metrics = self._iterate(rollouts, album)
            self._iteration += 1
            self._last = {**metrics, "environment_steps": float(self._iteration * self._steps_per_iteration)}
            log.write(self._iteration, self._last)
            if self._iteration % self._config.checkpoint_every == 0:
                self._save(elapsed())
            self._observer.on_progress(self._iteration, self._last)
            self._observer.on_health(self._monitor.health.findings, self._monitor.converged)
        album.close()
        self._seconds = elapsed()
        return False

    def _ends_early(self) -> bool:
        return (self._config.stop_when_converged and self._monitor.converged) or self._unhealthy() is not None

    def _unhealthy(self) -> str | None:
        """The warning that has held for too long, if one has."""
        limit = self._config.stop_when_unhealthy
        return self._monitor.health.lasting(limit) if limit else None

    def _iterate(self, rollouts: Rollouts, album: Album) -> dict[str, float]:
        generator = self._generator(self._iteration + 1)
        first = self._iteration * self._config.batch_episodes
        seeds = [episode_seed(self._config.seed, first + k) for k in range(self._config.batch_episodes)]
        trajectories = rollouts.sample(self._policy.arrays(), seeds)
        samples = self._featurizer.trajectories(trajectories)
        metrics = self._method.update(samples, self._policy, self._iteration, generator)
        with torch.no_grad():
            reward = self._method.policy_reward(samples, self._policy)
        metrics.update(self._step.improve(samples, reward, self._iteration == 0, generator))
        album.observe(self._iteration + 1, trajectories, samples, self._method)
        return {**metrics, **self._monitor.observe(self._method, samples, self._policy, metrics)}

    def _evaluate(self, rollouts: Rollouts) -> dict[str, Any]:
        """Success of clone and policy on the same fresh episodes: for the report, after learning is over."""
        seeds = [EVALUATION_SEED + k for k in range(self._config.evaluation_episodes)]
        self._observer.on_phase("evaluate", 2)
        cloned = success_figures(rollouts.evaluate(self._clone_arrays, seeds))
        self._observer.on_progress(1, {})
        learned = success_figures(rollouts.evaluate(self._policy.arrays(), seeds)) if self._method else cloned
        self._observer.on_progress(2, {})
        labels = self._demonstrations.labels
        weights = ("effective_sample_size", "tempered_effective_sample_size", "log_z", "beta")
        return {
            **run_figures(self._demonstrations, self._config),
            "demonstration_success": float(np.mean(labels)) if labels else None,
            "behaviour_cloning_success": cloned["success"],
            "behaviour_cloning_success_2cm": cloned["success_2cm"],
            "behaviour_cloning_return": cloned["return"],
            "policy_success": learned["success"],
            "policy_success_2cm": learned["success_2cm"],
            "policy_median_distance": learned["median_distance"],
            "policy_return": learned["return"],
            "policy_episodes": len(seeds),
            "environment_steps": self._iteration * self._steps_per_iteration,
            "training_wall_s": round(self._seconds, 2),
            "converged": self._monitor.converged,
            "unhealthy": self._unhealthy(),
            "health": self._monitor.health.table(),
            **{name: self._last.get(f"weights/{name}") for name in weights},
        }

    def _save_checkpoint(self) -> Path:
        robot, path = self._contract.robot, self._directory / "checkpoint"
        reward_arrays = self._method.reward_arrays() if self._method else {}
        Checkpoint(
            contract=self._contract,
            policy_arrays=self._policy.arrays(),
            reward_arrays=reward_arrays,
            likeness_arrays=yardsticks(self._demonstrations, reward_arrays),
            urdf=robot.urdf_path().read_text() if robot is not None else "",
            provenance={
                **run_figures(self._demonstrations, self._config),
                "config": self._config.to_dict(),
                "findings": [finding.to_dict() for finding in self._monitor.health.findings],
            },
        ).save(path)
        return path

    def _generator(self, stream: int) -> torch.Generator:
        return torch.Generator().manual_seed(episode_seed(self._config.seed, stream) ^ 0x5EED)

    def _identity(self) -> dict[str, Any]:
        """What a resume state must agree with."""
        digest = hashlib.sha256()
        for part in self._batch:
            digest.update(part.cpu().numpy().tobytes())
        config = {k: v for k, v in self._config.to_dict().items() if k not in FREE_TO_CHANGE}
        return {"config": config, "contract": self._contract.to_dict(), "demonstrations": digest.hexdigest()}

    def _save(self, seconds: float) -> None:
        progress = {"iteration": self._iteration, "seconds": seconds, "metrics": self._last}
        progress["health"] = self._monitor.state()
        save_state(self._training / "state", self._step, self._method, self._identity(), progress)

    def _load(self) -> None:
        if self._method is None:
            raise ConfigError("behaviour cloning takes seconds and leaves nothing to resume from; train without resume")
        progress = load_state(self._training / "state", self._step, self._method, self._identity())
        self._iteration, self._seconds, self._last = (progress[k] for k in ("iteration", "seconds", "metrics"))
        self._monitor.restore(progress["health"])


def success_figures(outcomes: list[Outcome]) -> dict[str, float | None]:
    """Success, success within 2 cm, median final distance [m], mean return of the env; None where it has no distance."""
    distance = np.array([o.distance for o in outcomes])
    known = bool(np.isfinite(distance).all())
    return {
        "success": float(np.mean([o.success for o in outcomes])),
        "success_2cm": float((distance < SUCCESS_2CM).mean()) if known else None,
        "median_distance": float(np.median(distance)) if known else None,
        "return": float(np.mean([o.env_return for o in outcomes])),
    }


def run_figures(demonstrations: Demonstrations, config: TrainConfig) -> dict[str, Any]:
    """What was trained, from what."""
    contract = demonstrations.contract
    return {
        "method": config.method,
        "task": contract.task.name,
        "robot": contract.robot.name if contract.robot is not None else None,
        "seed": config.seed,
        "demonstrations": len(demonstrations),
    }


def episode_seed(seed: int, k: int) -> int:
    """The k-th episode's seed, below EVALUATION_SEED."""
    return int(np.random.SeedSequence([seed, k]).generate_state(1)[0] % EVALUATION_SEED)


def _env(contract: Contract, config: TrainConfig) -> EnvSpec:
    """What rollouts are sampled from; ConfigError where there is nothing to randomise."""
    if not config.randomise:
        return EnvSpec(contract)
    if not contract.task.randomisation:
        raise ConfigError(f"task {contract.task.name} names no ranges under randomisation: train without randomise")
    return EnvSpec(contract, {"randomise": True})


def device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device cuda: torch sees no CUDA device here; use cpu or auto")
    return torch.device("cuda" if name == "cuda" or (name == "auto" and torch.cuda.is_available()) else "cpu")


def write_json(path: Path, data: dict[str, Any]) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(data, indent=1) + "\n")
    temporary.replace(path)
