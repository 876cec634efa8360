"""Services of another process."""

from __future__ import annotations

import signal
from pathlib import Path

import dds
from runners import spin
from std_srvs.srv import Trigger

from irl_ros.nodes.services import Caller


def test_a_caller_is_ready_once_the_server_has_discovered_it(tmp_path: Path) -> None:
    with (
        dds.domain() as domain,
        dds.process("irl_ros.nodes.recorder", domain, out=tmp_path) as recorder,
        dds.client(domain) as client,
    ):
        client.call(Trigger, "demo_recorder/discard")
        recorder.send_signal(signal.SIGSTOP)
        plain = client.node.create_client(Trigger, "demo_recorder/discard")
        caller = Caller(client.node, Trigger, "demo_recorder/discard")
        client.wait(lambda: caller.ready() or plain.service_is_ready(), "the service to be known")
        spin(client, 1.2)
        assert plain.service_is_ready() and not caller.ready(), "the server knows nothing of it"
        recorder.send_signal(signal.SIGCONT)
        client.wait(caller.ready, "the server to discover it")
        answer = caller.call_async(Trigger.Request())
        client.wait(answer.done, "the answer")
        caller.destroy()
