"""Where one long bag is cut into episodes: by marks in it, by labels, by pauses of the arm, or by a table of times."""

from __future__ import annotations

import csv
from array import array
from bisect import bisect_right
from pathlib import Path

import numpy as np

from irl_ros import messages
from irl_ros.contract import Contract
from irl_ros.data.bag import decode
from irl_ros.data.clocks import SECOND
from irl_ros.data.foreign import Cut, Foreign
from irl_ros.data.listing import BagError

STILL = 0.02
"""[rad/s] A joint slower than this stands still."""
SPEED_OVER = 0.1
"""[s] over which speed is taken: from one sample to the next, at 1 kHz, an encoder's noise looks like motion."""
EPOCH = 1e8
"""[s] From here on a time in a table counts from 1970, not from the bag's first message."""
MARGIN = 0.2
"""[s] kept before and after a motion."""


def whole(bag: Foreign) -> list[Cut]:
    """The bag is one episode."""
    return [Cut(bag.start, bag.end)]


def by_pauses(bag: Foreign, contract: Contract, pause: float) -> list[Cut]:
    """Cut where the arm stands still for `pause` [s] or more."""
    kind, names = contract.robot.joint_states.type, contract.robot.joint_names
    taken, flat = array("q"), array("f")
    for time, _, data in bag.messages(["joint_states"]):
        message = decode(bag.path, bag.names["joint_states"], kind, data)
        try:
            position, _ = messages.joint_state(message, names, require_velocity=False)
        except messages.MessageError as error:
            raise BagError(f"{bag.path}: {error}") from None
        taken.append(time)
        flat.extend(position)
    times, positions = np.array(taken), np.array(flat).reshape(len(taken), len(names))
    before = np.maximum(np.searchsorted(times, times - round(SPEED_OVER * SECOND), side="right") - 1, 0)
    lasted = np.maximum((times - times[before]) / SECOND, SPEED_OVER)
    moving = times[np.abs(positions - positions[before]).max(1) / lasted > STILL]
    if not len(moving):
        return []
    breaks = np.flatnonzero(np.diff(moving) > pause * SECOND)
    margin = round(MARGIN * SECOND)
    starts, ends = moving[[0, *(breaks + 1)]], moving[[*breaks, -1]]
    return [Cut(max(int(s) - margin, bag.start), min(int(e) + margin, bag.end)) for s, e in zip(starts, ends)]


def by_events(bag: Foreign, start: str, stop: str) -> list[Cut]:
    """From the last message on topic `start` to the next one on `stop`. A service's call leaves up to four messages,
    and one that was started twice was begun anew."""
    starts, cuts, last = [time for time, _ in bag.events[start]], [], -1
    for end, _ in bag.events[stop]:
        k = bisect_right(starts, end) - 1
        if k >= 0 and starts[k] > last:
            cuts.append(Cut(starts[k], end))
        last = end
    return cuts


def by_label(bag: Foreign, topic: str) -> list[Cut]:
    """An episode ends with each std_msgs/Bool on `topic`, which says whether it succeeded; the next begins there."""
    cuts, begin = [], bag.start
    for time, data in bag.events[topic]:
        cuts.append(Cut(begin, time, bool(decode(bag.path, topic, "std_msgs/msg/Bool", data).data)))
        begin = time
    return cuts


def by_table(bag: Foreign, file: Path) -> list[Cut]:
    """Rows of start, end and, if known, success (1 or 0), in seconds from the bag's first message or from 1970."""
    try:
        with open(file, newline="") as stream:
            rows = [row for row in csv.reader(stream) if row and not row[0].lstrip().startswith("#")]
        if rows and not _is_number(rows[0][0]):
            rows = rows[1:]  # a head
        cuts = [
            Cut(
                _instant(bag, float(row[0])),
                _instant(bag, float(row[1])),
                bool(int(row[2])) if len(row) > 2 and row[2].strip() else None,
            )
            for row in rows
        ]
    except (OSError, ValueError, IndexError) as error:
        raise BagError(f"{file}: needs rows of start, end and perhaps 1 or 0 for success, in seconds: {error}") from None
    wrong = [k for k, cut in enumerate(cuts, start=1) if not bag.start <= cut.start < cut.end]
    if wrong:
        raise BagError(f"{file}: row {wrong[0]}: its end must lie after its start, and both after the bag's beginning")
    return cuts


def _instant(bag: Foreign, seconds: float) -> int:
    return round(seconds * SECOND) + (0 if seconds >= EPOCH else bag.start)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
