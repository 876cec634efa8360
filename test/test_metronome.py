"""Ticks keep the control rate, and come right after joint states where these allow it."""

from __future__ import annotations

import numpy as np
import pytest

from irl_ros.control.metronome import LATE, WINDOW, Metronome

PERIOD = 0.01


def ticks(
    arrivals: np.ndarray, until: float, stall: tuple[float, float] = (0.0, 0.0)
) -> tuple[np.ndarray, np.ndarray]:
    """When a loop would tick, and how old the newest joint state is then [s]; nothing happens during `stall`, of what
    came meanwhile the newest is found after it."""
    metronome, now, found, ages = Metronome(PERIOD, 0.0), 0.0, [], []
    queue, last = list(arrivals), -np.inf

    def awake(moment: float) -> float:
        return stall[1] if stall[0] < moment < stall[1] else moment

    while now < until:
        if queue and awake(queue[0]) <= awake(metronome.deadline):
            while len(queue) > 1 and awake(queue[1]) == awake(queue[0]):
                queue.pop(0)
            last = queue.pop(0)
            now = awake(last)
            if not metronome.arrived(now):
                continue
        else:
            now = max(awake(metronome.deadline), now)
        found.append(now)
        ages.append(now - awake(last))
        metronome.ticked(now)
    return np.array(found), np.array(ages)


@pytest.mark.parametrize("rate", [100.0, 200.0, 500.0, 99.9, 100.1])
@pytest.mark.parametrize("phase", [0.0, 0.3, 0.7])
def test_in_phase_with_joint_states_that_fit(rate: float, phase: float):
    jitter = np.random.default_rng(0).uniform(-2e-4, 2e-4, 4000)
    arrivals = np.arange(4000) / rate + phase / rate + jitter
    found, ages = ticks(arrivals, min(4.0, arrivals[-1]))
    settled = found > 0.5
    assert np.median(ages[settled]) == 0.0 and np.mean(ages[settled] > 0) < 0.02
    assert np.mean(np.diff(found[settled])) == pytest.approx(PERIOD, rel=0.002)
    assert np.abs(np.diff(found[settled]) - PERIOD).max() < 2 * WINDOW * PERIOD + 1e-9


@pytest.mark.parametrize("rate", [30.0, 70.0, 125.0, 160.0, 1000.0])
def test_a_plain_timer_where_they_do_not_fit(rate: float):
    found, _ = ticks(np.arange(1000) / rate, 3.0)
    assert np.abs(np.diff(found[20:]) - PERIOD).max() < 1e-9


def test_silence_and_return():
    """Without joint states the timer goes on at its rate; when they come back ticks fall in with them again."""
    arrivals = np.concatenate([np.arange(0.0, 1.0, 0.01), np.arange(2.0037, 3.5, 0.01)])
    found, ages = ticks(arrivals, 3.4)
    assert np.diff(found).max() < 1.3 * PERIOD and np.diff(found).min() > 0.7 * PERIOD
    assert np.mean(ages[found > 2.5] > 0) < 0.02


@pytest.mark.parametrize("late", [0.003, 0.009, 0.5])
def test_after_a_stall_it_does_not_hurry(late: float):
    """Two ticks close together would send two steps at once."""
    metronome = Metronome(PERIOD, 0.0)
    metronome.ticked(PERIOD + late)
    assert metronome.deadline == pytest.approx(2 * PERIOD + late)


@pytest.mark.parametrize("rate", [100.0, 200.0, 500.0])
@pytest.mark.parametrize("late", [0.003, 0.005, 0.008, 0.012])
@pytest.mark.parametrize("begin", [0.9951, 0.9999, 1.0001, 1.0051])
def test_after_a_stall_it_is_soon_in_phase_again(rate: float, late: float, begin: float):
    """Ticks that go by the timer act on joint states up to a period old."""
    arrivals = np.arange(0.0, 3.0, 1.0 / rate)
    found, ages = ticks(arrivals, 2.9, (begin, begin + late))
    again = found > begin + late + 16 * PERIOD
    assert ages[again].max() == 0.0
    assert np.diff(found[found > 0.5]).min() > (1.0 - LATE) * PERIOD - 1e-9, "two close together"
