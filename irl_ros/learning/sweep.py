"""Many trainings on Ray Tune: which of them learn, and from what.

Tune places the runs on the cluster's nodes and starts one that died anew, from its last state. A run's directory is
what :func:`irl_ros.learning.train.train` writes; Tune keeps it as the run's checkpoint, in a storage that every node
reaches, and at the end it lies in ``runs/`` below the sweep's own directory.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from irl_ros.checkpoint import CheckpointError
from irl_ros.contract import ContractError
from irl_ros.data.episode import Demonstrations, EpisodeError
from irl_ros.learning.config import ConfigError
from irl_ros.learning.observer import SilentObserver
from irl_ros.learning.ray_cluster import connect, last_line, look_in
from irl_ros.learning.sweep_plan import STATE, Plan, Range, distinct, name_of
from irl_ros.learning.train import train, write_json

logger = logging.getLogger(__name__)

REFUSALS = (CheckpointError, ConfigError, ContractError, EpisodeError)
RESTARTS = 3
"""How often a run may die and begin again from its last state."""
BETWEEN = 1.0
"""[s] between two words of a run: a tabular method has thousands of iterations."""
RESUME_STATE = Path("training", "state")
RESULT = Path("training", "result.json")
TUNE_SETTINGS = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # a task's own env may lie in the working directory
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the run's own figures say more
    "RAY_AIR_NEW_OUTPUT": "0",  # which prints although nothing was asked for
}


@dataclass(frozen=True)
class Run:
    """A run of a sweep: what it varied, how it ended, and its figures; `directory` is None where it left nothing."""

    name: str
    varied: Mapping[str, Any]
    state: str
    """finished, converged, unhealthy: …, refused: …, failed: … or unfinished."""
    directory: Path | None
    deaths: int = 0
    figures: Mapping[str, Any] = field(default_factory=dict)


def sweep(
    plan: Plan, demonstrations: Mapping[str, Demonstrations], out: Path, ray_address: str = "auto", resume: bool = False
) -> list[Run]:
    """Train every run of `plan` on the demonstrations of its task; the figures are in ``<out>/sweep.json`` too.

    `resume`: go on with what an earlier sweep left in `out`. Raises ConfigError where Ray or its cluster is missing.
    """
    os.environ.update(TUNE_SETTINGS)
    leave = connect(ray_address, max(plan.cpus, os.cpu_count() or 1))
    try:
        _tell_of_room(plan.cpus)
        runs = _Tune(plan, demonstrations, out).runs(resume)
    finally:
        leave()
    write_json(out / "sweep.json", {"plan": str(plan.path), "runs": [_to_dict(run) for run in runs]})
    return runs


def _tell_of_room(cpus: int) -> None:
    import ray

    largest = max((node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["Alive"]), default=0.0)
    if largest < cpus:
        logger.warning("cpus: no node has the %d of a run, the largest %g: the runs wait for one to join", cpus, largest)


class _Tune:
    """The plan in Tune's words."""

    def __init__(self, plan: Plan, demonstrations: Mapping[str, Demonstrations], out: Path):
        from ray import tune

        from irl_ros.learning.sweep_log import FILE, SweepLog, deaths

        for wordy in ("execution.tune_controller", "tune"):  # tracebacks of what SweepLog says in a line; they are kept
            logging.getLogger(f"ray.tune.{wordy}").setLevel(logging.CRITICAL)
        self._tune, self._plan, self._out = tune, plan, out.absolute()
        self._log = SweepLog(self._out / FILE, plan.count)
        self._count_deaths = lambda: deaths(self._out / FILE)
        whole = {task: dataclasses.replace(some, episodes=tuple(some.episodes)) for task, some in demonstrations.items()}
        self._trainable = tune.with_resources(
            tune.with_parameters(_train, plan=plan, demonstrations=whole, paths=sys.path), {"cpu": plan.cpus}
        )

    def runs(self, resume: bool) -> list[Run]:
        path = self._out / STATE
        self._out.mkdir(parents=True, exist_ok=True)
        restorer = self._tune.Tuner
        if resume and restorer.can_restore(str(path)):
            tuner = restorer.restore(str(path), self._trainable, resume_errored=True, param_space=self._space())
        else:  # nothing had begun
            tuner = self._tuner(path)
        results = [result for result in tuner.fit() if result.config]  # the others have not begun
        names, deaths = distinct(name_of(result.config) for result in results), self._count_deaths()
        return [self._run(result, name, deaths[Path(result.path).name]) for result, name in zip(results, names)]

    def _tuner(self, path: Path) -> Any:
        from ray.tune.search.basic_variant import BasicVariantGenerator

        tune = self._tune
        same_for_all = BasicVariantGenerator(constant_grid_search=True, random_state=0)
        return tune.Tuner(
            self._trainable,
            param_space=self._space(),
            tune_config=tune.TuneConfig(
                num_samples=self._plan.draws,
                search_alg=same_for_all,
                reuse_actors=True,  # a process imports torch once
                trial_name_creator=lambda trial: name_of(trial.config),
                trial_dirname_creator=lambda trial: f"{trial.trial_id}_{name_of(trial.config)}"[:100],
            ),
            run_config=tune.RunConfig(
                name=path.name,
                storage_path=str(path.parent),
                failure_config=tune.FailureConfig(max_failures=RESTARTS),
                checkpoint_config=tune.CheckpointConfig(num_to_keep=1),
                callbacks=[self._log],
                verbose=0,
            ),
        )

    def _space(self) -> dict[str, Any]:
        grid = {"task": tuple(self._plan.datasets), **self._plan.choices}
        drawn = {name: self._drawn(values) for name, values in self._plan.ranges.items()}
        return {**{name: self._tune.grid_search(list(values)) for name, values in grid.items()}, **drawn}

    def _drawn(self, values: Range) -> Any:
        whole = isinstance(values.low, int) and isinstance(values.high, int)
        high = values.high + 1 if whole else values.high
        kinds = {(True, True): "lograndint", (True, False): "randint", (False, True): "loguniform", (False, False): "uniform"}
        return getattr(self._tune, kinds[whole, values.log])(values.low, high)

    def _run(self, result: Any, name: str, deaths: int) -> Run:
        said = result.metrics or {}
        directory = self._fetch(result.checkpoint, self._out / "runs" / name) if result.checkpoint else None
        if result.error is not None:
            return Run(name, result.config, f"failed: {last_line(str(result.error))}", directory, deaths)
        if "refused" in said:
            return Run(name, result.config, f"refused: {said['refused']}", None, deaths)
        if directory is None or not (directory / RESULT).is_file():
            return Run(name, result.config, "unfinished", directory, deaths)
        figures = json.loads((directory / RESULT).read_text())
        state = f"unhealthy: {figures['unhealthy']}" if figures.get("unhealthy") else "finished"
        state = "converged" if state == "finished" and figures.get("converged") else state
        return Run(name, result.config, state, directory, deaths, figures)

    @staticmethod
    def _fetch(checkpoint: Any, directory: Path) -> Path:
        shutil.rmtree(directory, ignore_errors=True)
        checkpoint.to_directory(str(directory))
        return directory


def _train(
    config: dict[str, Any], plan: Plan, demonstrations: Mapping[str, Demonstrations], paths: Sequence[str]
) -> None:
    """One run, on some node of the cluster."""
    from ray import tune

    look_in(paths)
    with tempfile.TemporaryDirectory(prefix="irl_ros_sweep_") as temporary:
        directory = Path(temporary) / "run"
        if (left := tune.get_checkpoint()) is not None:
            left.to_directory(str(directory))
        shown = demonstrations[config["task"]]
        try:
            shown = dataclasses.replace(shown, contract=plan.with_features(shown.contract, config))
            resume = (directory / RESUME_STATE).is_dir()
            result = train(shown, plan.config(config), directory, _Reporter(directory), resume)
        except REFUSALS as error:
            tune.report({"refused": str(error)})
            return
        figures = {name: value for name, value in result.figures.items() if isinstance(value, (int, float))}
        tune.report(figures, checkpoint=tune.Checkpoint.from_directory(str(directory)))


class _Reporter(SilentObserver):
    """Tells Tune how a run goes, and gives it each state that the run could go on from."""

    def __init__(self, directory: Path):
        self._directory, self._told, self._saved = directory, -math.inf, self._state_time(directory)

    @staticmethod
    def _state_time(directory: Path) -> float:
        state = directory / RESUME_STATE
        return max((path.stat().st_mtime for path in state.iterdir()), default=0.0) if state.is_dir() else 0.0

    def on_progress(self, done: int, metrics: dict[str, float]) -> None:
        from ray import tune

        saved = self._state_time(self._directory)
        if not metrics or (saved <= self._saved and time.monotonic() - self._told < BETWEEN):
            return
        new = saved > self._saved
        self._told, self._saved = time.monotonic(), saved
        checkpoint = tune.Checkpoint.from_directory(str(self._directory)) if new else None
        tune.report({"iteration": done, **metrics}, checkpoint=checkpoint)


def _to_dict(run: Run) -> dict[str, Any]:
    """JSON of a run, with the figures that a table wants."""
    where = None if run.directory is None else str(run.directory)
    return {**dataclasses.asdict(run), "directory": where}
