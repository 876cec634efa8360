"""The methods by name."""

from __future__ import annotations

from collections.abc import Callable

from irl_ros.learning.airl import AdversarialInverseReinforcementLearning
from irl_ros.learning.gail import GenerativeAdversarialImitation
from irl_ros.learning.gan_gcl import GanGuidedCostLearning
from irl_ros.learning.gcl import GuidedCostLearning
from irl_ros.learning.max_margin_sampled import SampledMaxMargin
from irl_ros.learning.maxent_sampled import SampledMaxEnt
from irl_ros.learning.method import Method, Problem

CLONE = "bc"
"""Behaviour cloning: the loop's start without the loop."""

ALTERNATING: dict[str, Callable[[Problem], Method]] = {
    "gcl": GuidedCostLearning,
    "gan_gcl": GanGuidedCostLearning,
    "airl": AdversarialInverseReinforcementLearning,
    "gail": GenerativeAdversarialImitation,
    "maxent_sampled": SampledMaxEnt,
    "max_margin": SampledMaxMargin,
}
"""Methods that alternate reward steps and policy steps."""

TABULAR = ("max_margin", "maxent", "maxent_sampled")
"""Methods over finitely many states, on a grid: see :mod:`irl_ros.learning.tabular_run`. Those that
stand in ALTERNATING as well alternate where the task has no grid."""
