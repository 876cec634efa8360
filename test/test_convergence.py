"""When a training has converged without any true reward telling so, and that it ends there if asked to."""

from __future__ import annotations

from irl_ros.learning.checks import CHECKS
from irl_ros.learning.health import Course

DRIFTING = [4.46, 3.94, 2.58, 2.06, 1.95, 1.55, 1.37, 1.24, 1.2, 1.25, 0.97, 0.94, 0.95, 1.02, 1.08, 0.89, 0.95, 1.1]
DRIFTING += [0.8, 0.69, 0.81, 0.98, 0.99, 0.78, 0.83, 0.89, 0.98, 0.7, 1.23, 1.85]
DRIFTING_GAP = [0.64, 0.95, 0.4, 0.32, 0.21, 0.18, 0.19, 0.15, 0.14, 0.12, 0.1, 0.1, 0.1, 0.11, 0.1, 0.08, 0.09, 0.08]
DRIFTING_GAP += [0.09, 0.08, 0.08, 0.08, 0.1, 0.08, 0.08, 0.09, 0.08, 0.07, 0.07, 0.05]
"""Recorded on reach (seed 0, mono 100, margin 0, no decay): success 1.00 up to iteration 28, 0.00 after the 30th."""
STEADY = [4.46, 3.77, 2.74, 2.04, 1.89, 1.44, 1.36, 1.16, 1.19, 1.25, 0.96, 0.93, 0.89, 0.99, 0.91, 0.85, 0.85, 0.88]
STEADY += [0.7, 0.64, 0.7, 0.67, 0.79, 0.69, 0.71, 0.72, 0.73, 0.58, 0.53, 0.54]
"""The same with the options that are the default."""


def course(ends: list[float], gaps: list[float]) -> list[tuple[bool, float]]:
    """After every iteration: converged? and how far it has drifted."""
    states, followed = [], Course()
    for gap, end in zip(gaps, ends):
        followed.add(gap, end)
        states.append((followed.converged, followed.end_drift))
    return states


def test_the_known_drift_is_found_and_the_training_would_have_stopped_before():
    limit = next(check.limit for check in CHECKS if check.figure == "health/end_drift")
    drifting, steady = course(DRIFTING, DRIFTING_GAP), course(STEADY, DRIFTING_GAP)
    assert [k for k, (_, drift) in enumerate(drifting, 1) if drift > limit] == [30]
    assert not any(drift > limit for _, drift in steady)
    for states in (drifting, steady):
        first = next(k for k, (converged, _) in enumerate(states, 1) if converged)
        assert 10 <= first <= 20


def test_what_makes_no_progress_from_the_start_has_not_converged():
    assert not any(converged for converged, _ in course([4.0] * 30, [0.9] * 30))
    assert not any(converged for converged, _ in course([4.0 * 0.85**k for k in range(30)], DRIFTING_GAP))


def test_a_diverged_iteration_leaves_no_trace_in_the_course():
    followed = Course()
    followed.add(1.0, 2.0)
    followed.add(float("nan"), 1.0)
    assert followed.ends == [2.0] and followed.gap_remaining == 1.0
