"""Measurements by name and seed, told and written down as they come."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from typing import Any


def sweep(
    measure: Callable[[str, int, Namespace], dict[str, Any]], names: Sequence[str], arguments: Namespace
) -> list[dict[str, Any]]:
    """`measure` of each name with each of the seeds; on stderr and, where asked for, in the file after each one."""
    runs: list[dict[str, Any]] = []
    for name in names:
        for seed in arguments.seeds:
            runs.append(measure(name, seed, arguments))
            print(json.dumps(runs[-1]), file=sys.stderr, flush=True)
            if arguments.json:
                arguments.json.write_text(json.dumps({"steps": arguments.steps, "runs": runs}, indent=1) + "\n")
    return runs
