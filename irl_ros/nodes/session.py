"""session: the conductor, the one place that knows the order of reset, record, label, enable and score.

`phase: record` walks reset → start → teleoperate for a horizon → label → stop until enough demonstrations are good:
successes that training will use; `phase: accompany` brings a fresh scene for each episode that a person records and conducts, until as many are
good; `phase: deploy` walks configure → activate, then reset → enable → drive for a horizon → score.
"""

from __future__ import annotations

import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool, Float64, String
from std_srvs.srv import SetBool, Trigger
from tqdm import tqdm

from irl_ros import messages
from irl_ros.contract import Contract
from irl_ros.nodes import process
from irl_ros.nodes.parameters import declare, parameter
from irl_ros.nodes.services import Caller

PATIENCE = 30.0  # [s] wall time for a service or a state before the session gives up and says what is missing
RETRY = 0.5  # [s] between two tries of a start that was refused
ATTEMPTS = 3  # demonstrations tried per one wanted
RECORD_SEED, DEPLOY_SEED, EPISODES_PER_SEED = 1_200_000_000, 1_500_000_000, 1000
"""Where episode seeds start: training and evaluation draw from below, so no phase sees another's goals."""
LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
EACH = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
"""Of a latched topic on which no word between the last ones may be missed."""
SENSOR = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)

Script = Generator[Callable[[], bool], None, Any]


class SessionError(RuntimeError):
    """A step that could not be done; the message says which, and why."""


@dataclass(frozen=True)
class Parameters:
    """Parameters of the node."""

    phase: str = parameter("record", "what to conduct", choices=("record", "accompany", "deploy"))
    robot: str = parameter("", "robot: a name in config/robots or a YAML file; empty: the task's own")
    task: str = parameter("reach", "task: a name in config/tasks or a YAML file")
    episodes: int = parameter(5, "successful demonstrations to record, or episodes to drive", range=(1, 100_000))
    seed: int = parameter(0, "start poses and goals come from it", range=(0, 2**31 - 1))
    out: str = parameter("runs/demo", "run directory; deployment.json is written here")


class Session(Node):
    """Runs its script, a generator that yields the conditions it waits for, between spins."""

    def __init__(self) -> None:
        super().__init__("session")
        self._settings = declare(self, Parameters)
        self._contract = Contract.load(self._settings.robot, self._settings.task)
        self.done, self.exit_code = False, 0
        self._success: bool | None = None
        self._episode_return: float | None = None
        self._state_stamp = -1.0
        self.create_subscription(Bool, "arm_sim/success", self._on_success, LATCHED)
        self.create_subscription(JointState, self._contract.robot.joint_states.name, self._on_state, SENSOR)
        self.create_subscription(Float64, "policy_runner/episode_return", self._on_return, 10)
        self._callers: dict[str, Caller] = {}
        self._recorder_state, self._begun = "", 0
        self._good: dict[str, bool] = {}
        self.create_subscription(String, "demo_recorder/state", self._on_recorder_state, EACH)
        self.create_subscription(String, "demo_recorder/quality", self._on_quality, LATCHED)
        scripts = {"record": self._record, "accompany": self._accompany, "deploy": self._deploy}
        self._script = scripts[self._settings.phase]()
        self._condition: Callable[[], bool] = lambda: True

    def step(self) -> None:
        """Go on with the script when what it waits for has come."""
        try:
            while not self.done and self._condition():
                self._condition = next(self._script)
        except StopIteration:
            self.done = True
        except SessionError as error:
            print(f"error: {error}", file=sys.stderr, flush=True)
            self.done, self.exit_code = True, 1

    def _record(self) -> Script:
        wanted, kept = self._settings.episodes, 0
        with self._bar("demonstrations", wanted) as bar:
            for k in range(ATTEMPTS * wanted):
                good = yield from self._demonstrate(self._seed(RECORD_SEED, k))
                kept += good
                bar.update(int(good))
                if kept == wanted:
                    return
        raise SessionError(f"only {kept} of {ATTEMPTS * wanted} demonstrations are good, {wanted} were wanted")

    def _demonstrate(self, seed: int) -> Script:
        """One demonstration on a fresh scene; returns whether it is good. Until teleop has found the recorder, which
        nobody is told, its commands are not recorded: such an episode is not."""
        yield from self._reset(seed)
        yield from self._insist("demo_recorder/start", Trigger, Trigger.Request())
        yield from self._call("teleop/enable", SetBool, SetBool.Request(data=True))
        # Two periods longer than the horizon: the first command waits for teleop's tick, the last for its effect.
        yield from self._sleep((self._contract.task.horizon + 2) * self._contract.task.period)
        success = bool(self._success)
        yield from self._call("teleop/enable", SetBool, SetBool.Request(data=False))
        yield from self._call("demo_recorder/label_success", SetBool, SetBool.Request(data=success))
        saved = yield from self._call("demo_recorder/stop", Trigger, Trigger.Request())
        name = Path(saved.message).name
        yield from self._until(lambda: name in self._good, f"the quality of {name}")
        told = "not used by training" if success and not self._good[name] else "failure, labelled as such"
        self.get_logger().info(f"{saved.message}: {'success' if self._good[name] else told}")
        return self._good[name]

    def _accompany(self) -> Script:
        """A person demonstrates and conducts. Nobody knows how long that takes: nothing is given up."""
        enough = lambda: sum(self._good.values()) >= self._settings.episodes  # noqa: E731
        with self._bar("demonstrations", self._settings.episodes) as bar:
            for k in itertools.count():
                # Who was quick and has begun already, or waits for the first motion, keeps the scene.
                yield lambda: self._recorder_state == "idle"
                bar.n = sum(self._good.values())
                bar.refresh()
                if enough():
                    return
                begun = self._begun
                yield from self._reset(self._seed(RECORD_SEED, k))
                yield lambda: self._begun > begun or enough()  # a label may come late

    def _deploy(self) -> Script:
        for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
            request = ChangeState.Request(transition=Transition(id=transition))
            yield from self._call("policy_runner/change_state", ChangeState, request)
        results: list[dict[str, Any]] = []
        with self._bar("episodes", self._settings.episodes) as bar:
            for k in range(self._settings.episodes):
                results.append((yield from self._drive(self._seed(DEPLOY_SEED, k))))
                bar.set_postfix(success=f"{sum(r['success'] for r in results)}/{len(results)}", refresh=False)
                bar.update()
        request = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_DEACTIVATE))
        yield from self._call("policy_runner/change_state", ChangeState, request)
        self._write(results)

    def _drive(self, seed: int) -> Script:
        """One episode on a fresh scene; returns its seed, success and learned return."""
        yield from self._reset(seed)
        self._episode_return = None
        yield from self._insist("policy_runner/enable", SetBool, SetBool.Request(data=True))
        yield from self._sleep((self._contract.task.horizon + 1) * self._contract.task.period)
        result = {"seed": seed, "success": bool(self._success), "learned_return": self._episode_return}
        yield from self._call("policy_runner/enable", SetBool, SetBool.Request(data=False))
        return result

    def _write(self, results: list[dict[str, Any]]) -> None:
        successes = sum(r["success"] for r in results)
        summary = {"deployed_episodes": len(results), "deployed_success": successes / len(results), "episodes": results}
        path = Path(self._settings.out) / "deployment.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(summary, indent=1) + "\n")
        returns = [r["learned_return"] for r in results if r["learned_return"] is not None]
        judged = f", median learned return {statistics.median(returns):.1f}" if returns else ""
        self.get_logger().info(f"{successes} of {len(results)} episodes succeeded{judged}")

    def _seed(self, base: int, k: int) -> int:
        return base + (self._settings.seed * EPISODES_PER_SEED + k) % 10**8

    def _bar(self, name: str, total: int) -> tqdm:
        return tqdm(total=total, desc=name, file=sys.stderr, mininterval=1.0, dynamic_ncols=True)

    def _reset(self, seed: int) -> Script:
        """A fresh scene: seed, reset, then wait for a joint state from after the reset."""
        value = ParameterValue(type=ParameterType.PARAMETER_INTEGER, integer_value=seed)
        request = SetParameters.Request(parameters=[Parameter(name="seed", value=value)])
        answer = yield from self._call("arm_sim/set_parameters", SetParameters, request)
        if not answer.results[0].successful:
            raise SessionError(f"arm_sim refused the seed {seed}: {answer.results[0].reason}")
        self._success = None
        answer = yield from self._call("arm_sim/reset", Trigger, Trigger.Request())
        stamp = float(answer.message.split("stamp=")[1])
        fresh = lambda: self._state_stamp >= stamp and self._success is not None  # noqa: E731
        yield from self._until(fresh, "a joint state from after the reset; is the arm publishing?")

    def _insist(self, name: str, kind: type, request: Any) -> Script:
        """Like :meth:`_call`, again and again: a node that was just started has not discovered its inputs yet."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return (yield from self._call(name, kind, request))
            except SessionError:
                if time.monotonic() > deadline:
                    raise
            again = time.monotonic() + RETRY
            yield lambda: time.monotonic() >= again

    def _call(self, name: str, kind: type, request: Any) -> Script:
        """Call a service and return its answer; an unsuccessful one raises SessionError with its message."""
        if name not in self._callers:
            self._callers[name] = Caller(self, kind, name)
        caller = self._callers[name]
        yield from self._until(caller.ready, f"the service {name}; is its node running?")
        future = caller.call_async(request)
        yield from self._until(future.done, f"the answer of {name}")
        answer = future.result()
        if not getattr(answer, "success", True):
            raise SessionError(f"{name}: {getattr(answer, 'message', '') or 'refused; see the log of its node'}")
        return answer

    def _until(self, condition: Callable[[], bool], what: str) -> Iterator[Callable[[], bool]]:
        """Yield until `condition` holds; SessionError after PATIENCE of wall time."""
        deadline = time.monotonic() + PATIENCE

        def ready() -> bool:
            if time.monotonic() > deadline:
                raise SessionError(f"waited {PATIENCE:.0f} s in vain for {what}")
            return condition()

        yield ready

    def _sleep(self, seconds: float) -> Script:
        """Wait on the node's clock: simulated time where the arm is simulated."""
        end = self.get_clock().now().nanoseconds + round(seconds * 1e9)
        yield from self._until(lambda: self.get_clock().now().nanoseconds >= end, "the clock to move on")

    def _on_success(self, message: Bool) -> None:
        self._success = message.data

    def _on_state(self, message: JointState) -> None:
        self._state_stamp = messages.stamp_seconds(message.header.stamp)

    def _on_recorder_state(self, message: String) -> None:
        """An episode that is discarded at once is over before anybody looks: that it began is counted."""
        self._recorder_state = message.data
        self._begun += message.data == "recording"

    def _on_quality(self, message: String) -> None:
        """A good episode: a success that training will use, until it is discarded."""
        found = json.loads(message.data)
        used = not found["interrupted"] and not found["problems"] and not found["discarded"]
        self._good[found["episode"]] = bool(found["label"]) and used

    def _on_return(self, message: Float64) -> None:
        self._episode_return = message.data


def main() -> None:
    sys.exit(process.run(Session))


if __name__ == "__main__":
    main()
