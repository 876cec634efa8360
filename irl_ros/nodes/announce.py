"""What the recorder tells: topics for machines, and for an operator with both hands at the robot one large line per
change and the terminal's bell."""

from __future__ import annotations

import json
from collections import Counter

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.duration import Duration
from rclpy.node import Node
from std_msgs.msg import String

from irl_ros.data.recording import State
from irl_ros.data.taping import Kept, Taping
from irl_ros.nodes import diagnostics
from irl_ros.nodes.intake import LATCHED, Intake

WIDTH = 78
BELL = "\a"


class Announcer:
    """`~/state`, `~/quality` (JSON of the last saved episode; both latched), `/diagnostics`, and lines on stdout."""

    def __init__(self, node: Node, bell: bool):
        self._node, self._bell = node, BELL if bell else ""
        self._counted: Counter[str] = Counter()
        self._state = node.create_publisher(String, "~/state", LATCHED)
        self._quality = node.create_publisher(String, "~/quality", LATCHED)
        self._diagnostics = node.create_publisher(DiagnosticArray, diagnostics.TOPIC, 10)

    def say(self, what: str, *more: str, bells: int = 1) -> None:
        """The change in large, then a line for each of `more`."""
        print(self._bell * bells + "\n".join([f" {what} ".center(WIDTH, "="), *more]), flush=True)

    def state(self, state: State) -> None:
        self._state.publish(String(data=state.value))

    def kept(self, kept: Kept) -> None:
        """An episode is saved, or has another label now."""
        name, problems = kept.path.name, kept.quality.problems
        self._describe(kept, discarded=False)
        told = {True: "SUCCESS", False: "FAILURE", None: "SAVED"}[kept.label]
        unused = "interrupted: training will not use it" if kept.interrupted else ""
        warned = [f"NOT USED BY TRAINING: {problem}" for problem in (unused, *problems) if problem]
        warned += [f"NOTE: {note}" for note in kept.quality.notes]
        line = kept.quality.line(name, kept.label)
        self.say(f"{told} {name}", line, *warned, f"it is saved in {kept.path}", bells=3 if warned else 2)

    def refused(self, why: str) -> None:
        """To a button or a key: a service has its answer."""
        self.say("REFUSED", why, bells=3)

    def discarded(self, what: str, kept: Kept | None) -> None:
        """An episode is gone, or the saved one `kept` is put aside."""
        if kept is not None:
            self._describe(kept, discarded=True)
        self.say(f"DISCARDED {what}")

    def _describe(self, kept: Kept, discarded: bool) -> None:
        found = {"episode": kept.path.name, "path": str(kept.path), "label": kept.label}
        found |= {"interrupted": kept.interrupted, "discarded": discarded, **kept.quality.to_dict()}
        self._quality.publish(String(data=json.dumps(found)))

    def report(self, taping: Taping, intake: Intake, error: str) -> None:
        """Diagnostics, once a second."""
        rates, self._counted = intake.received - self._counted, intake.received.copy()
        silent = [role for role in intake.needed if intake.silent(role)]
        state, take = taping.state.value, taping.take
        values = {"state": state, "episode": taping.states.name or "", "saved": taping.saved}
        values |= {f"{role} rate [Hz]": rates[role] for role in intake.names}
        level, message = diagnostics.OK, state
        if take is not None:
            values |= {f"{role} count": count for role, count in take.bag.counts.items()}
            values |= {f"{role} lost": audit.lost for role, audit in take.audits.items()}
            if any(audit.lost for audit in take.audits.values()):
                level, message = diagnostics.WARN, f"{state}: messages are lost"
        if silent:
            level, message = diagnostics.WARN, f"silent: {', '.join(silent)}"
        if error:
            level, message = diagnostics.ERROR, error
        status = diagnostics.status(self._node.get_fully_qualified_name(), level, message, **values)
        self._diagnostics.publish(diagnostics.array(self._node.get_clock().now().to_msg(), [status]))

    def end(self, taping: Taping) -> None:
        """The session ends: where its episodes are."""
        if taping.saved:
            print(f"episodes saved: {taping.saved}; look at them: irl_ros inspect {taping.out}", flush=True)

    def flush(self) -> None:
        """Before the node ends, what it said last must be out."""
        self._diagnostics.wait_for_all_acked(Duration(seconds=1))
