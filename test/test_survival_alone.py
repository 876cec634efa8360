"""What becomes of the arm and its command topic when runners die, start together, or somebody else drives."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import dds
import handmade
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from runners import ACTION, CONTRACT, ROBOT, Received, activate, enable, get_moving, runner
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger

from irl_ros import messages
from irl_ros.contract import share_directory
from irl_ros.nodes.claims import Claim, obstacle

NAMES = ("first", "cell/second")
ROOT = {name: f"/{name}" for name in ("joint_states", "goal_pose", ROBOT.command.name)}
"""Of the runner in a namespace: it drives the same arm."""
AT_REST = 0.02
"""[rad/s] of every joint, measured."""
TURN = 0.005
"""[s] of wall time after which the simulated arm looks for commands again, be it catching up after a stall."""
ARRIVAL = 3 / 120
"""[s] from a joint state to a command sent after it that the arm has taken up: two blocks between them, one block."""
SHORT_LEASE = """<discovery_config>
  <leaseDuration><sec>5</sec></leaseDuration>
  <leaseAnnouncement><sec>1</sec></leaseAnnouncement>
</discovery_config>"""
"""Of a runner that will be killed: DDS forgets it after five seconds, not after twenty."""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("checkpoint")
    handmade.checkpoint(CONTRACT, 0.5 * ACTION).save(directory)
    return directory


class Claims:
    """What the runners say of themselves: name → start [ns], and whether armed."""

    def __init__(self, client: dds.Client):
        self._messages = client.collect(DiagnosticStatus, "command_claims", dds.LATCHED)

    def armed(self) -> dict[str, bool]:
        return {m.name.removeprefix("/"): m.message == "armed" for m in self._messages}

    def by_start(self) -> list[str]:
        """Names, the one that started first first."""
        started = {m.name.removeprefix("/"): int(m.values[1].value) for m in self._messages}
        return sorted(started, key=started.get)


@contextlib.contextmanager
def two_runners(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple]:
    own = (share_directory() / "config" / "dds" / "this_machine.xml").read_text()
    profile = tmp_path / "short_lease.xml"
    profile.write_text(own.replace("<builtin>", f"<builtin>{SHORT_LEASE}"))
    with contextlib.ExitStack() as stack:
        domain = stack.enter_context(dds.domain())
        stack.enter_context(dds.process("irl_ros_sim.arm_node", domain, robot="panda"))
        names = {"first": {"__node": "first"}, "cell/second": {"__node": "second", "__ns": "/cell", **ROOT}}
        with monkeypatch.context() as patch:  # what a runner sets for itself, else its death would stall the others
            patch.setenv("FASTDDS_DEFAULT_PROFILES_FILE", str(profile))
            patch.setitem(dds.LOOPBACK, "ROS_AUTOMATIC_DISCOVERY_RANGE", "SYSTEM_DEFAULT")
            processes = {n: stack.enter_context(runner(domain, checkpoint, names[n])) for n in NAMES}
        yield processes, stack.enter_context(dds.client(domain))


def test_of_two_runners_the_one_that_started_later_yields_until_the_other_is_gone(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with two_runners(checkpoint, tmp_path, monkeypatch) as (processes, client):
        received, claims = Received(client), Claims(client)
        for name in NAMES:
            activate(client, name)
        client.wait(lambda: len(claims.by_start()) == 2 and received.states, "both claims, and the arm")
        earlier, later = claims.by_start()
        client.wait(lambda: "started" in enable(client, node=later).message, "the later one to yield")
        get_moving(client, received, node=earlier)
        client.wait(lambda: f"/{earlier} drives the robot" in enable(client, node=later).message, "a refusal")
        client.wait(lambda: claims.armed() == {earlier: True, later: False}, "the claims to tell")
        get_moving(client, received, 10, node=earlier)
        os.kill(processes[earlier].pid, signal.SIGKILL)
        killed = time.monotonic()
        check_rest(client, received)
        waits = client.wait(lambda: "killed" in (text := enable(client, node=later).message) and text, "the reason")
        assert f"/{earlier} is still on it and has been silent for" in waits and "DDS forgets" in waits
        client.wait(lambda: enable(client, node=later).success, "the end of the lease")
        assert time.monotonic() - killed > 3.0
        sent = len(received.commands)
        client.wait(lambda: len(received.commands) > sent + 3, "the later one's commands")


@pytest.mark.full
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_runner_that_ends_while_moving_leaves_an_arm_at_rest_every_time(checkpoint: Path, number: int):
    """Twenty runners one after the other. A newcomer never hears of one that was killed before it started."""
    with (
        dds.domain() as domain,
        dds.process("irl_ros_sim.arm_node", domain, robot="panda"),
        dds.client(domain) as client,
    ):
        received = Received(client)
        for k in range(20):  # by names of their own: requests to a killed one's services would be lost
            assert client.call(Trigger, "arm_sim/reset").success
            received.commands.clear()
            with runner(domain, checkpoint, {"__node": f"runner_{k}"}) as process:
                activate(client, f"runner_{k}")
                get_moving(client, received, node=f"runner_{k}")
                client.wait(lambda: speed(received.states[-1][1]) > 5 * AT_REST, "motion: the arm may hear it last")
                more = len(received.since_halt()) + 3  # thrown into motion by the first one it heard, it needs a moment
                get_moving(client, received, more, node=f"runner_{k}")
                asked = time.monotonic()
                process.send_signal(number)
                client.wait(lambda: process.returncode is not None, "the end")
                if number != signal.SIGKILL:
                    assert process.returncode == 0 and time.monotonic() - asked < 2.0
                    assert received.halted and "Traceback" not in process.output
                check_rest(client, received)


def speed(state: JointState) -> float:
    """Of the fastest joint [rad/s]."""
    return float(np.abs(messages.joint_state(state, ROBOT.joint_names)[1]).max())


def check_rest(client: dds.Client, received: Received) -> None:
    """The arm comes to rest by the end of the last trajectory, and stays there; by the arm's clock, should it stall."""
    states = len(received.states)
    client.wait(lambda: len(received.states) > states + 60, "joint states")
    sent, last = received.commands[-1]
    stamps = [(t, messages.stamp_seconds(s.header.stamp), s) for t, s in received.states]
    heard = max(stamp for t, stamp, _ in stamps if t <= sent + TURN) + ARRIVAL
    end = heard + messages.stamp_seconds(last.points[-1].time_from_start)
    speeds = [(stamp - end, speed(s)) for _, stamp, s in stamps]
    assert max(v for t, v in speeds if -1.0 < t < 0.0) > 5 * AT_REST
    late = [(round(t, 3), round(float(v), 3)) for t, v in speeds if t > 0.0 and v >= AT_REST]
    assert not late, late


def test_who_stands_in_the_way_of_whom():
    """Every answer of the rule, without topics."""
    own, name = Claim(100, "b", "/own"), {"a": "/other"}

    def answer(other: Claim | None, now: float = 10.0) -> str | None:
        return obstacle(own, name if other is None else {other.participant: other.name}, claims(other), now)

    def claims(other: Claim | None) -> dict[str, Claim]:
        return {} if other is None else {other.participant: other}

    def other(started: int, participant: str = "a", armed: bool = False) -> Claim:
        return Claim(started, participant, "/other", armed, heard=9.0)

    assert obstacle(own, {}, {}, 10.0) is None and answer(other(101)) is None
    assert "another publisher, /other" in answer(None)
    assert "started" in answer(other(99)) and "drives the robot" in answer(other(101, armed=True))
    assert "started" in answer(other(100, "a")) and answer(other(100, "c")) is None, "a tie is broken, not shared"
    assert "silent for 4 s" in answer(other(101), now=13.0) and "killed" in answer(other(99, armed=True), now=13.0)
