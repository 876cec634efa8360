"""One training of a tabular method on an arm's grid: the same run directory as the learning loop's.

Where the dynamics are known nothing is sampled but the evaluation at the end.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from irl_ros.checkpoint import Checkpoint
from irl_ros.contract import ContractError
from irl_ros.data.episode import Demonstrations, EpisodeError
from irl_ros.learning import grid, max_margin, maxent, maxent_sampled, tabular_health
from irl_ros.learning.batch import Featurizer
from irl_ros.learning.bc import clone
from irl_ros.learning.checks import TABULAR_CHECKS
from irl_ros.learning.config import ConfigError, TrainConfig, check_method
from irl_ros.learning.diagnostics import Health
from irl_ros.learning.environment import EnvSpec
from irl_ros.learning.health import choose
from irl_ros.learning.mdp import TabularError
from irl_ros.learning.metrics import MetricsLog
from irl_ros.learning.observer import Observer
from irl_ros.learning.rollout import Rollouts, open_rollouts
from irl_ros.learning.tabular import TabularResult
from irl_ros.learning.train import EVALUATION_SEED, Result, write_json, run_figures, success_figures
from irl_ros.models.demonstrated import yardsticks


class Learner(NamedTuple):
    """A method: how it learns, whether its policy is of maximum entropy. Its options: TrainConfig's of its name."""

    learn: Callable[..., TabularResult]
    soft: bool


LEARNERS: dict[str, Learner] = {
    "max_margin": Learner(max_margin.learn, soft=False),
    "maxent": Learner(maxent.learn, soft=True),
    "maxent_sampled": Learner(maxent_sampled.learn, soft=True),
}


class LoggedObserver:
    """Passes everything on, writes each iteration's figures, remembers whether the training was stopped."""

    def __init__(self, observer: Observer, log: MetricsLog):
        self._observer, self._log = observer, log
        self.iterations, self.done, self.stopped = 0, 0, False

    def on_phase(self, name: str, total: int) -> None:
        self._observer.on_phase(name, total)

    def on_progress(self, done: int, metrics: dict[str, float]) -> None:
        self.done = done
        if metrics:
            self.iterations += 1
            self._log.write(self.iterations, metrics)
        self._observer.on_progress(done, metrics)

    def on_health(self, findings: Any, converged: bool) -> None:
        self._observer.on_health(findings, converged)

    def should_stop(self) -> bool:
        self.stopped = self.stopped or self._observer.should_stop()
        return self.stopped


class TabularRun:
    """A method, its problem, and where its run lies. Raises before anything is learned on what cannot be used."""

    def __init__(self, demonstrations: Demonstrations, config: TrainConfig, directory: Path, observer: Observer):
        contract = demonstrations.contract
        check_method(config.method, contract)
        self._demonstrations, self._contract, self._config = demonstrations, contract, config
        self._directory, self._observer = directory, observer
        try:
            self._mdp, self._features = grid.mdp_of(contract), grid.features_of(contract)
            cells = grid.tabular_demonstrations(demonstrations)
            cells.check(self._mdp)
        except (TabularError, ContractError) as error:
            raise EpisodeError(str(error)) from None
        shown, kept = choose(len(cells), config.held_out, torch.Generator().manual_seed(config.seed))
        self._cells, self._held_out = cells.some(shown.numpy()), cells.some(kept.numpy()) if len(kept) else None
        self.health = Health(TABULAR_CHECKS)

    def learn(self) -> TabularResult | None:
        """Reward and policy; None when the observer stopped it."""
        log = MetricsLog(self._directory / "training")
        observer = LoggedObserver(self._observer, log)
        name, generator = self._config.method, np.random.default_rng(self._config.seed)
        learner, options = LEARNERS[name], getattr(self._config, name)
        try:
            result = learner.learn(self._mdp, self._features, self._cells, options, generator, observer)
            if not observer.stopped:
                self._judge(result, observer)
        except TabularError as error:
            raise ConfigError(f"method {name}: {error}") from None
        finally:
            log.close()
        return None if observer.stopped else result

    def _judge(self, result: TabularResult, observer: LoggedObserver) -> None:
        """Health, in the last line of the metrics and to the observer."""
        figures = tabular_health.figures(self._mdp, self._features, self._cells, self._held_out, result)
        figures = {**result.metrics, **figures}
        self.health.observe(figures)
        observer.on_progress(observer.done, figures)
        observer.on_health(self.health.findings, bool(result.metrics[f"{self._config.method}/converged"]))

    def clone_arrays(self) -> dict[str, np.ndarray]:
        """The behaviour clone of the same demonstrations, to compare with: continuous, as for every other task."""
        self._observer.on_phase("clone", 1)
        batch = Featurizer(self._contract, torch.device("cpu")).demonstrations(self._demonstrations)
        arrays = clone(batch, self._config.clone, torch.Generator().manual_seed(self._config.seed)).arrays()
        self._observer.on_progress(1, {})
        return arrays

    def policy_arrays(self, result: TabularResult) -> dict[str, np.ndarray]:
        """The policy that the checkpoint holds."""
        return grid.policy_arrays(result, self._mdp, LEARNERS[self._config.method].soft)

    def save(self, result: TabularResult, provenance: dict[str, Any]) -> Path:
        """The checkpoint, in the form that every method's has."""
        path, reward_arrays = self._directory / "checkpoint", grid.reward_arrays(result)
        Checkpoint(
            contract=self._contract,
            policy_arrays=self.policy_arrays(result),
            reward_arrays=reward_arrays,
            likeness_arrays=yardsticks(self._demonstrations, reward_arrays),
            urdf=self._contract.robot.urdf_path().read_text(),
            provenance={
                **provenance,
                "config": self._config.to_dict(),
                "findings": [finding.to_dict() for finding in self.health.findings],
            },
        ).save(path)
        return path

    def evaluate(self, policies: list[dict[str, np.ndarray]]) -> list[dict[str, float | None]]:
        """Success figures of each policy on the same fresh episodes."""
        seeds = [EVALUATION_SEED + k for k in range(self._config.evaluation_episodes)]
        self._observer.on_phase("evaluate", len(policies))
        figures = []
        with open_rollouts(EnvSpec(self._contract), self._config) as rollouts:
            for arrays in policies:
                figures.append(success_figures(rollouts.evaluate(arrays, seeds)))
                self._observer.on_progress(len(figures), {})
        return figures


def train_tabular(
    demonstrations: Demonstrations, config: TrainConfig, directory: Path, observer: Observer, resume: bool = False
) -> Result:
    """Learn by a tabular method; writes below `directory` what :func:`irl_ros.learning.train.train` writes.

    Raises ConfigError for a task without a grid and for a resume, EpisodeError for demonstrations that do not fit it.
    """
    if resume:
        raise ConfigError(f"{config.method} takes seconds and leaves nothing to resume from; train without resume")
    run, start = TabularRun(demonstrations, config, directory, observer), time.monotonic()
    result = run.learn()
    if result is None:
        return Result(None, cancelled=True)
    seconds = time.monotonic() - start
    origin = run_figures(demonstrations, config)
    checkpoint = run.save(result, origin)
    cloned, learned = run.evaluate([run.clone_arrays(), run.policy_arrays(result)])
    labels = demonstrations.labels
    figures = {
        **origin,
        "demonstration_success": float(np.mean(labels)) if labels else None,
        **{f"behaviour_cloning_{name}": cloned[name] for name in ("success", "success_2cm", "return")},
        **{f"policy_{name}": value for name, value in learned.items()},
        "policy_episodes": config.evaluation_episodes,
        "environment_steps": int(result.metrics.get("maxent_sampled/env_steps", 0)),
        "training_wall_s": round(seconds, 2),
        "converged": bool(result.metrics[f"{config.method}/converged"]),
        "health": run.health.table(),
        **result.metrics,
    }
    write_json(directory / "training" / "result.json", figures)
    return Result(checkpoint, figures)
