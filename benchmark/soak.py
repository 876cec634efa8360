"""The policy runner for an hour at 100 Hz beside a process that takes all CPU it gets: memory, and every halt in time.

    python benchmark/soak.py [--seconds 3600] [--rate 100] [--hogs 1] [--json FILE]

Every ten seconds the driver goes silent for a moment; the runner must have halted within 0.1 s (the age limit of joint
states) and a period after the last joint state, send nothing more, and go on when it is enabled again. Stamps are those
of the senders. The slope of the runner's resident memory is fitted by least squares, the first tenth left out.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch

import argparse  # noqa: E402
import contextlib  # noqa: E402
import json  # noqa: E402
import multiprocessing  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402
from driver import Driver, at_rate, driven, is_halt, reach_checkpoint, runner_command  # noqa: E402

STALE = 0.1  # [s]
BETWEEN, SILENCE = 10.0, 0.5  # [s]
TELL = 25
"""Silences between two lines of progress."""
SLACK = 0.05  # [s] the operating system's, beside a hog


def burn() -> None:
    while True:
        pass


@contextlib.contextmanager
def hogs(count: int) -> Iterator[None]:
    """Processes that take all CPU they get."""
    processes = [multiprocessing.get_context("spawn").Process(target=burn, daemon=True) for _ in range(count)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()


def resident(pid: int) -> float:
    """MiB of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def silence(driver: Driver, period: float) -> tuple[float | None, int]:
    """Go silent; how long after the last joint state the halt was sent [s], and the commands sent after it.

    None: no halt in time.
    """
    last = 1e-9 * driver.sent[-1]
    driver.forget()
    driver.silent = True
    driver.run_for(SILENCE)
    driver.silent = False
    halts = [k for k, (_, message) in enumerate(driver.received) if is_halt(message)]
    if not halts:
        return None, 0
    return 1e-9 * driver.received[halts[0]][0] - last, len(driver.received) - halts[0] - 1


def soak(pid: int, driver: Driver, options: argparse.Namespace) -> dict[str, Any]:
    """Figures of the whole time."""
    start, period = time.monotonic(), 1.0 / options.rate
    memory: list[tuple[float, float]] = []
    delays: list[float | None] = []
    spurious = after = commands = 0
    while time.monotonic() - start < options.seconds:
        driver.forget()  # before, since the machine may stall, and the arm be halted, while it is being enabled
        driver.enable()
        driver.run_for(min(BETWEEN, options.seconds / 4))
        commands += len(driver.received)
        if any(is_halt(message) for _, message in driver.received):
            spurious += 1
            continue
        delay, more = silence(driver, period)
        delays.append(delay)
        after += more
        memory.append((time.monotonic() - start, resident(pid)))
        if len(delays) % TELL == 0:
            worst = max((d for d in delays if d is not None), default=0.0)
            seconds, mib = memory[-1]
            print(f"{seconds:.0f} s: {len(delays)} silences, worst {worst:.3f} s, {mib:.1f} MiB", flush=True)
    late = sum(d is None or d > STALE + period + SLACK for d in delays)
    seconds, mib = np.array(memory[len(memory) // 10 :]).T
    slope = 3600 * float(np.polyfit(seconds, mib, 1)[0]) if len(seconds) > 1 else 0.0
    known = [d for d in delays if d is not None]
    return {
        "seconds": time.monotonic() - start,
        "commands": commands,
        "silences": len(delays),
        "missed_halts": late,
        "commands_after_halt": after,
        "longest_halt_delay_s": max(known, default=0.0),
        "other_halts": spurious,
        "resident_mib": float(mib[-1]),
        "rss_slope_mib_per_h": slope,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--rate", type=float, default=100.0, help="control rate and rate of joint states [Hz]")
    parser.add_argument("--hogs", type=int, default=1, help="processes that take all CPU they get")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        learned = reach_checkpoint(Path(directory, "training"))
        checkpoint = at_rate(learned, options.rate, Path(directory, "checkpoint"))
        with driven(runner_command(checkpoint), options.rate) as (process, driver), hogs(options.hogs):
            driver.activate()
            figures = soak(process.pid, driver, options)
    for name, value in figures.items():
        print(f"{name:22} {value:.4g}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    if figures["missed_halts"] or figures["commands_after_halt"]:
        sys.exit("a halt was missed")


if __name__ == "__main__":
    main()
