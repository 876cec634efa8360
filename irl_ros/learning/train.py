"""The one learning loop: rollout → reward step → KL-bounded policy step → metrics, for every method.

A run directory gets ``training/metrics.jsonl``, TensorBoard events and a resume state, and at the end
``checkpoint/`` and ``training/result.json``. Everything random comes from the seed and the iteration's number, so a
resumed run goes on to the very same figures.
"""

from __future__ import annotations

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

from irl_ros.checkpoint import Checkpoint, load_groups, save_groups
from irl_ros.contract import Contract, did_you_mean
from irl_ros.data.episode import Demonstrations
from irl_ros.learning import state as arrays_of
from irl_ros.learning.batch import Batch, Featurizer
from irl_ros.learning.bc import clone
from irl_ros.learning.config import ConfigError, TrainConfig
from irl_ros.learning.density import DemonstrationDensity
from irl_ros.learning.environment import EnvSpec
from irl_ros.learning.gcl import GuidedCostLearning
from irl_ros.learning.metrics import MetricsLog
from irl_ros.learning.observer import Observer, SilentObserver
from irl_ros.learning.policy_step import PolicyStep
from irl_ros.learning.rollout import Outcome, Rollouts
from irl_ros.models import likeness
from irl_ros.models.policies import GaussianPolicy, ValueFunction

METHODS = ("bc", "gcl")
SUCCESS_2CM = 0.02
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
    if config.method not in METHODS:
        raise ConfigError(f"unknown method {config.method!r}.{did_you_mean(config.method, METHODS)}")
    torch.set_num_threads(1)  # small networks: more threads only wait for one another
    run = _Run(demonstrations, config, Path(directory), observer or SilentObserver())
    return run.train(resume)


class _Run:
    """One training's state and its phases."""

    def __init__(self, demonstrations: Demonstrations, config: TrainConfig, directory: Path, observer: Observer):
        self._demonstrations, self._config, self._observer = demonstrations, config, observer
        self._contract: Contract = demonstrations.contract
        self._directory, self._training = directory, directory / "training"
        self._device = _device(config.device)
        self._featurizer = Featurizer(self._contract, self._device)
        self._batch = self._featurizer.demonstrations(demonstrations)
        steps = config.batch_episodes * self._contract.task.horizon
        self._iterations = 0 if config.method == "bc" else math.ceil(config.environment_steps / steps)
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
        with Rollouts(EnvSpec(self._contract), self._config.workers) as rollouts:
            before = self._seconds
            cancelled = self._learn(rollouts, log, lambda: before + time.monotonic() - start)
            log.close()
            if cancelled:
                return Result(None, cancelled=True)
            checkpoint = self._save_checkpoint()
            figures = self._evaluate(rollouts)
        _write_json(self._training / "result.json", figures)
        return Result(checkpoint, figures)

    def _clone(self) -> None:
        """Fit the clone and the demonstrations' density; build everything that learns."""
        config, generator = self._config, self._generator(0)
        self._observer.on_phase("clone", 1)
        self._policy = clone(self._batch, config.clone, generator)
        self._clone_arrays = self._policy.arrays()
        with torch.no_grad():
            self._policy.log_std.fill_(math.log(config.policy_step.initial_std))
        value = ValueFunction(self._featurizer.n_inputs, generator).to(self._device)
        self._step = PolicyStep(self._policy, value, config.policy_step)
        self._method = None
        if config.method == "gcl":
            density = DemonstrationDensity.fit(self._batch, config.clone, generator)
            self._method = GuidedCostLearning(self._batch, density, config.reward, config.seed)
        self._observer.on_progress(1, {})

    def _learn(self, rollouts: Rollouts, log: MetricsLog, elapsed: Callable[[], float]) -> bool:
        """Iterate to the end; True when the observer stopped it. Either way the resume state is on disk."""
        self._observer.on_phase("learn", self._iterations)
        self._observer.on_progress(self._iteration, {})
        while self._iteration < self._iterations:
            if self._observer.should_stop():
                self._save(elapsed())
                return True
            metrics = self._iterate(rollouts)
            self._iteration += 1
            self._last = {**metrics, "environment_steps": float(self._iteration * self._steps_per_iteration)}
            log.write(self._iteration, self._last)
            if self._iteration % self._config.checkpoint_every == 0:
                self._save(elapsed())
            self._observer.on_progress(self._iteration, self._last)
        self._seconds = elapsed()
        return False

    def _iterate(self, rollouts: Rollouts) -> dict[str, float]:
        generator = self._generator(self._iteration + 1)
        first = self._iteration * self._config.batch_episodes
        seeds = [_episode_seed(self._config.seed, first + k) for k in range(self._config.batch_episodes)]
        samples = self._featurizer.trajectories(rollouts.sample(self._policy.arrays(), seeds))
        metrics = self._method.update(samples, self._policy, self._iteration, generator)
        with torch.no_grad():
            reward = self._method.reward(samples.features, samples.actions)
        return {**metrics, **self._step.improve(samples, reward, self._iteration == 0, generator)}

    def _evaluate(self, rollouts: Rollouts) -> dict[str, Any]:
        """Success of clone and policy on the same fresh episodes: for the report, after learning is over."""
        seeds = [EVALUATION_SEED + k for k in range(self._config.evaluation_episodes)]
        self._observer.on_phase("evaluate", 2)
        cloned = success_figures(rollouts.evaluate(self._clone_arrays, seeds))
        self._observer.on_progress(1, {})
        learned = success_figures(rollouts.evaluate(self._policy.arrays(), seeds)) if self._method else cloned
        self._observer.on_progress(2, {})
        labels = [e.success for e in self._demonstrations if e.success is not None]
        gcl = {k: self._last.get(f"gcl/{k}") for k in ("effective_sample_size", "log_z", "beta")}
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
            **gcl,
            "tempered_effective_sample_size": self._last.get("gcl/tempered_effective_sample_size"),
        }

    def _save_checkpoint(self) -> Path:
        robot, path = self._contract.robot, self._directory / "checkpoint"
        per_demonstration = [self._featurizer.inputs(e.observations) for e in self._demonstrations]
        Checkpoint(
            contract=self._contract,
            policy_arrays=self._policy.arrays(),
            reward_arrays=self._method.reward.arrays() if self._method else {},
            likeness_arrays=likeness.calibrate(per_demonstration),
            urdf=robot.urdf_path().read_text() if robot is not None else "",
            provenance={**run_figures(self._demonstrations, self._config), "config": self._config.to_dict()},
        ).save(path)
        return path

    def _generator(self, stream: int) -> torch.Generator:
        return torch.Generator().manual_seed(_episode_seed(self._config.seed, stream) ^ 0x5EED)

    def _identity(self) -> dict[str, Any]:
        """What a resume state must agree with."""
        digest = hashlib.sha256()
        for part in self._batch:
            digest.update(part.cpu().numpy().tobytes())
        config = {k: v for k, v in self._config.to_dict().items() if k not in ("environment_steps", "workers")}
        return {"config": config, "contract": self._contract.to_dict(), "demonstrations": digest.hexdigest()}

    def _save(self, seconds: float) -> None:
        step, method = self._step, self._method
        window = {
            f"window_{k}": {
                **arrays_of.prefixed("batch", arrays_of.batch_arrays(batch)),
                **arrays_of.prefixed("policy", arrays_of.module_arrays(policy)),
            }
            for k, (batch, policy) in enumerate(method.window)
        }
        groups = {
            "policy": arrays_of.module_arrays(step.policy),
            "value": arrays_of.module_arrays(step.value),
            "reward": arrays_of.module_arrays(method.reward),
            "policy_optimiser": arrays_of.optimiser_arrays(step.policy_optimiser),
            "value_optimiser": arrays_of.optimiser_arrays(step.value_optimiser),
            "reward_optimiser": arrays_of.optimiser_arrays(method.optimiser),
            **window,
        }
        description = {"identity": self._identity(), "iteration": self._iteration, "seconds": seconds}
        description.update(window=len(window), metrics=self._last)
        save_groups(self._training / "state", "training state", groups, description)

    def _load(self) -> None:
        modules = ("policy", "value", "reward")
        names = (*modules, *(f"{m}_optimiser" for m in modules))
        directory = self._training / "state"
        groups, description = load_groups(directory, "training state", names)
        if json.loads(json.dumps(self._identity())) != description["identity"]:
            raise ConfigError(
                f"{directory} belongs to a training with other options, another contract or other demonstrations; "
                "resume with the same ones, or train without resume"
            )
        step, method = self._step, self._method
        for module, name in ((step.policy, "policy"), (step.value, "value"), (method.reward, "reward")):
            arrays_of.load_module(module, groups[name])
        optimisers = (step.policy_optimiser, step.value_optimiser, method.optimiser)
        for optimiser, name in zip(optimisers, names[3:]):
            arrays_of.load_optimiser(optimiser, groups[name])
        names = tuple(f"window_{k}" for k in range(description["window"]))
        groups, _ = load_groups(directory, "training state", names)
        method.window = [self._load_window(groups[name]) for name in names]
        self._iteration, self._seconds = description["iteration"], description["seconds"]
        self._last = description["metrics"]

    def _load_window(self, arrays: dict[str, np.ndarray]) -> tuple[Batch, GaussianPolicy]:
        policy = GaussianPolicy(self._featurizer.n_inputs, self._contract.action_size, torch.Generator())
        arrays_of.load_module(policy, arrays_of.under("policy", arrays))
        batch = arrays_of.load_batch(arrays_of.under("batch", arrays), self._device)
        return batch, policy.to(self._device).requires_grad_(False)


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


def _episode_seed(seed: int, k: int) -> int:
    """The k-th episode's seed, below EVALUATION_SEED."""
    return int(np.random.SeedSequence([seed, k]).generate_state(1)[0] % EVALUATION_SEED)


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device cuda: torch sees no CUDA device here; use cpu or auto")
    return torch.device("cuda" if name == "cuda" or (name == "auto" and torch.cuda.is_available()) else "cpu")


def _write_json(path: Path, data: dict[str, Any]) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(data, indent=1) + "\n")
    temporary.replace(path)
