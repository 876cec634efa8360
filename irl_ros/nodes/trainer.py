"""irl_trainer: learns from a directory of bags, in a process of its own, so that its services answer while it learns.

`~/pause` pauses and resumes, `~/cancel` saves and ends; metrics go out as `~/metrics/<group>/<name>` (Float64).
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.node import Node
from std_msgs.msg import Float64
from std_srvs.srv import Trigger

from irl_ros.checkpoint import CheckpointError
from irl_ros.contract import Contract, ContractError
from irl_ros.data.dataset import load_dataset
from irl_ros.data.episode import EpisodeError
from irl_ros.learning.config import ROLLOUT_BACKENDS, ConfigError, TrainConfig, check_method
from irl_ros.learning.diagnostics import WARNING, Finding
from irl_ros.learning.observer import ProgressObserver
from irl_ros.lifetime import die_with_parent
from irl_ros.nodes import diagnostics, process
from irl_ros.nodes.parameters import declare, parameter

if TYPE_CHECKING:
    from irl_ros.learning.train import Result

USER_ERRORS = (CheckpointError, ConfigError, ContractError, EpisodeError)
CANCEL_PATIENCE = 20.0  # [s] for the iteration in progress to end and its state to be saved
FAILED = 1


@dataclass(frozen=True)
class Parameters:
    """Parameters of the node."""

    dataset: str = parameter("", "directory of recorded demonstrations")
    robot: str = parameter("", "robot: a name in config/robots or a YAML file; empty: the task's own")
    task: str = parameter("reach", "task: a name in config/tasks or a YAML file")
    method: str = parameter("gcl", "learning method")
    seed: int = parameter(0, "everything random comes from it", range=(0, 2**31 - 1))
    out: str = parameter("runs/train", "run directory: checkpoint and figures are written here")
    steps: int = parameter(0, "control periods of simulated experience; 0: as the task asks", range=(0, 10**9))
    workers: int = parameter(0, "simulation processes; 0: one per core, two at most", range=(0, 4096))
    rollout_backend: str = parameter("local", "where these run; ray: on a Ray cluster", choices=ROLLOUT_BACKENDS)
    ray_address: str = parameter("auto", "auto: the cluster that runs here, else one of its own; local; or host:port")
    device: str = parameter("auto", "where networks learn", choices=("auto", "cpu", "cuda"))
    held_out: int = parameter(-1, "demonstrations the reward never sees; -1: one in six", range=(-1, 10**6))
    randomise: bool = parameter(False, "draw the task's randomisation anew in every simulated episode")
    stop_when_converged: bool = parameter(False, "end when the health figures say that learning has converged")
    resume: bool = parameter(False, "go on from the state that an unfinished training left in `out`")


class PipeObserver(ProgressObserver):
    """In the training process: tells the node how it goes and does what it says."""

    def __init__(self, pipe: Connection):
        super().__init__()
        self._pipe, self._paused = pipe, False

    def on_progress(self, done: int, metrics: dict[str, float]) -> None:
        super().on_progress(done, metrics)
        if metrics:
            self._pipe.send(("metrics", metrics))

    def on_health(self, findings: Sequence[Finding], converged: bool) -> None:
        super().on_health(findings, converged)
        self._pipe.send(("health", ([f.to_dict() for f in findings if f.active], converged)))

    def should_stop(self) -> bool:
        while self._paused or self._pipe.poll():
            command = self._pipe.recv()
            if command == "cancel":
                return True
            self._paused = command == "pause"
        return False


def run_training(pipe: Connection, settings: Parameters) -> None:
    """The training process: from bags to a checkpoint; reports ("done", figures), ("cancelled", None) or an error."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C reaches the node, which asks for a cancel
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    observer = PipeObserver(pipe)
    try:
        result = _train(settings, observer)
        observer.close()
        pipe.send(("cancelled", None) if result.cancelled else ("done", result.figures))
    except USER_ERRORS as error:
        observer.close()
        pipe.send(("refused", str(error)))
    except Exception:
        observer.close()
        pipe.send(("failed", traceback.format_exc()))


def _train(settings: Parameters, observer: PipeObserver) -> Result:
    # Here, because env workers import the main module too: torch would cost each of them a second and 200 MB.
    from irl_ros.learning.train import train

    contract = Contract.load(settings.robot, settings.task)
    demonstrations, rejected = load_dataset(settings.dataset, contract)
    for reason in rejected:
        print(f"not used: {reason}", file=sys.stderr, flush=True)
    config = TrainConfig.from_options(settings, settings.task)
    return train(demonstrations, config, settings.out, observer, settings.resume)


class Trainer(Node):
    """Starts the training process, republishes its metrics, passes on pause and cancel."""

    def __init__(self) -> None:
        super().__init__("irl_trainer")
        self._settings = declare(self, Parameters)
        if not self._settings.dataset:
            raise ConfigError("parameter dataset is empty: give the directory of recorded demonstrations")
        check_method(self._settings.method, Contract.load(self._settings.robot, self._settings.task))
        self.done, self.exit_code = False, 0
        self._paused, self._state = False, "training"
        self._metrics: dict[str, float] = {}
        self._findings: list[dict[str, Any]] = []
        self._converged = False
        self._metric_publishers: dict[str, Any] = {}
        self._diagnostics = self.create_publisher(DiagnosticArray, diagnostics.TOPIC, 10)
        self._pipe, child = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        self._process = context.Process(target=run_training, args=(child, self._settings), name="training")
        self._process.start()
        child.close()
        self.create_service(Trigger, "~/pause", self._on_pause)
        self.create_service(Trigger, "~/cancel", self._on_cancel)
        self.create_timer(0.5, self._publish)

    def step(self) -> None:
        """Take what the training process said; its death ends the node."""
        try:
            while not self.done and self._pipe.poll():
                self._take(*self._pipe.recv())
        except (EOFError, ConnectionResetError):
            self._process.join()
            self._fail(f"the training process ended with code {self._process.exitcode}")

    def shutdown(self) -> None:
        """On SIGINT and SIGTERM: cancel, which saves the state to resume from."""
        if self.done:
            self._publish()
        else:
            self._send("cancel")
            deadline = time.monotonic() + CANCEL_PATIENCE
            while not self.done and time.monotonic() < deadline:
                self._pipe.poll(0.1)
                self.step()
        if self._process.is_alive():
            self._process.join(2.0)
            self._process.kill()
        self._process.join()

    def _take(self, kind: str, content: Any) -> None:
        if kind == "metrics":
            self._metrics = content
            self._publish()
            return
        if kind == "health":
            self._findings, self._converged = content
            return
        self.done, self._state = True, kind
        log = self.get_logger()
        if kind == "done":
            log.info(f"checkpoint saved in {Path(self._settings.out) / 'checkpoint'}")
        elif kind == "cancelled":
            log.info(f"cancelled; resume with resume:=true out:={self._settings.out}")
        else:
            self._fail(content, process.USAGE_ERROR if kind == "refused" else FAILED)

    def _fail(self, reason: str, code: int = FAILED) -> None:
        self.done, self.exit_code, self._state = True, code, "failed"
        print(f"error: {reason}", file=sys.stderr, flush=True)

    def _send(self, command: str) -> None:
        try:
            self._pipe.send(command)
        except (BrokenPipeError, OSError):
            self.get_logger().warning(f"{command}: the training process has ended already")

    def _on_pause(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._paused = not self._paused
        self._state = "paused" if self._paused else "training"
        self._send("pause" if self._paused else "resume")
        response.success, response.message = True, "paused" if self._paused else "resumed"
        return response

    def _on_cancel(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._send("cancel")
        response.success, response.message = True, "cancelling: the state is saved after this iteration"
        return response

    def _publish(self) -> None:
        for name, value in self._metrics.items():
            if name not in self._metric_publishers:
                self._metric_publishers[name] = self.create_publisher(Float64, f"~/metrics/{name}", 10)
            self._metric_publishers[name].publish(Float64(data=float(value)))
        level = diagnostics.ERROR if self._state == "failed" else diagnostics.OK
        line = diagnostics.status("irl_trainer: training", level, self._state, **self._metrics)
        lines = [line, self._health()]
        self._diagnostics.publish(diagnostics.array(self.get_clock().now().to_msg(), lines))

    def _health(self) -> DiagnosticStatus:
        """What spoils the training, in words; notes alone leave it at OK."""
        spoils = any(finding["level"] == WARNING for finding in self._findings)
        message = "converged" if self._converged else "healthy"
        if self._findings:
            message = "; ".join(finding["sentence"] for finding in self._findings)
        values = {finding["name"]: finding["value"] for finding in self._findings}
        level = diagnostics.WARN if spoils else diagnostics.OK
        return diagnostics.status("irl_trainer: health", level, message, **values)


def main() -> None:
    sys.exit(process.run(Trainer, USER_ERRORS))


if __name__ == "__main__":
    main()
