"""The two quadratic programs of maximum-margin inverse reinforcement learning, solved by Clarabel.

:func:`maximum_margin` is the margin program of Ratliff, Bagnell, Zinkevich 2006 over the constraints generated so far,
:func:`closest_mixture` the mixture of policies of Abbeel & Ng 2004, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import clarabel
import numpy as np
from scipy import sparse
from scipy.optimize import linprog

from irl_ros.learning.config import ConfigError, MaxMarginConfig

SOLVER_TOLERANCE = 1e-10
_SOLVED = ("Solved", "AlmostSolved")
_INFEASIBLE = ("PrimalInfeasible", "AlmostPrimalInfeasible")
WORSE_THAN_NO_REWARD = 1.0
"""ψ = 0 needs no more slack than this, the largest distance."""
MAX_PASSES = 10
VISIBLE_SLACK = 1e-6
"""Below this a slack is the solver's rounding."""


class SolverError(ConfigError):
    """The solver gave up on a program that has a solution; the message holds its status."""


class InfeasibleMargin(ConfigError):
    """No linear reward puts every demonstration first by its distances.

    `conflicts` are the demonstrations (by index) that would have to yield, those with the most to yield first: the
    slack they need is the least in all that makes room for a reward. Of two that contradict only each other it holds
    one or both.
    """

    def __init__(self, conflicts: Sequence[int], names: Sequence[str], n_features: int):
        self.conflicts = tuple(conflicts)
        super().__init__(
            f"the hard margin is infeasible: no linear reward of the {n_features} features puts all "
            f"{len(names)} demonstrations first. At odds with the others or with one another, worst first: "
            f"{', '.join(names[i] for i in conflicts)}. Use slack (slack = 1.0, say), so that a few demonstrations may "
            "be wrong; or leave these out; or add features that tell them from other behaviour"
        )


class Constraint(NamedTuple):
    """ψᵀ difference ≥ distance − ξ_i: demonstration i beats one policy by its distance.

    difference = μ_E,i − μ_i(π), shape (d,).
    """

    demonstration: int
    difference: np.ndarray
    distance: float


class Margin(NamedTuple):
    """Solution of the margin program: ψ (d,), slack ξ (N,), ½‖ψ‖² + C Σ ξ."""

    psi: np.ndarray
    xi: np.ndarray
    objective: float


def maximum_margin(
    constraints: Sequence[Constraint], names: Sequence[str], n_features: int, slack: float | None
) -> Margin:
    """min ½‖ψ‖² + C Σ_i ξ_i subject to the constraints and ξ ≥ 0, with C = `slack`; None: ξ = 0, the hard margin.

    `names` are the demonstrations', N of them.
    Raises InfeasibleMargin, which only the hard margin can be, and SolverError.
    """
    if not constraints:
        return Margin(np.zeros(n_features), np.zeros(len(names)), 0.0)
    d, n = n_features, 0 if slack is None else len(names)
    rows, bound = _rows(constraints, n)
    not_negative = sparse.hstack([sparse.csc_matrix((n, d)), sparse.identity(n)])
    rows, bound = sparse.vstack([rows, not_negative], format="csc"), np.concatenate([bound, np.zeros(n)])
    quadratic = sparse.diags([1.0] * d + [0.0] * n, format="csc")
    linear = np.concatenate([np.zeros(d), np.full(n, slack or 0.0)])
    solution = _solve(quadratic, linear, -rows, -bound, [clarabel.NonnegativeConeT(len(bound))])
    status = str(solution.status)
    if status in _INFEASIBLE and slack is None:
        raise InfeasibleMargin(contradictions(constraints, len(names)), names, d)
    _check(status, "the margin program")
    x = np.asarray(solution.x)
    xi = np.maximum(x[d:], 0.0) if n else np.zeros(len(names))
    return Margin(x[:d], xi, float(0.5 * x[:d] @ x[:d] + linear[d:] @ xi[:n]))


def robust_margin(
    constraints: Sequence[Constraint], names: Sequence[str], n_features: int, config: MaxMarginConfig
) -> Margin:
    """The margin program with the ramp loss: demonstrations that end with ξ_i > 1 are set aside, until the set stays.

    The whole constraints' ξ (N,) comes back, of those set aside too. Raises as :func:`maximum_margin`.
    """
    kept = np.ones(len(names), dtype=bool)
    for _ in range(MAX_PASSES):
        margin = maximum_margin([c for c in constraints if kept[c.demonstration]], names, n_features, config.slack)
        before, xi = kept, slack_needed(constraints, margin.psi, len(names))
        kept = xi <= WORSE_THAN_NO_REWARD
        if (kept == before).all() or config.slack is None or not config.set_aside or not kept.any():
            break
    return margin._replace(xi=xi)


def slack_needed(constraints: Sequence[Constraint], psi: np.ndarray, n_demonstrations: int) -> np.ndarray:
    """ξ_i ≥ 0 that every demonstration needs under ψ, shape (N,)."""
    xi = np.zeros(n_demonstrations)
    for c in constraints:
        xi[c.demonstration] = max(xi[c.demonstration], c.distance - psi @ c.difference)
    return xi


def closest_mixture(members: np.ndarray, target: np.ndarray) -> np.ndarray:
    """λ ≥ 0, Σ λ = 1, shape (K,), that minimises ‖Σ_k λ_k μ_k − μ_E‖²; members (K, d), target (d,)."""
    n, d = members.shape
    # The residual e is a variable of its own: squaring the members would square their condition number.
    quadratic = sparse.diags([0.0] * n + [1.0] * d, format="csc")
    equal = sparse.bmat([[members.T, -sparse.identity(d)], [np.ones((1, n)), None]])
    rows = sparse.vstack([equal, sparse.hstack([-sparse.identity(n), sparse.csc_matrix((n, d))])], format="csc")
    bound = np.concatenate([target, [1.0], np.zeros(n)])
    cones = [clarabel.ZeroConeT(d + 1), clarabel.NonnegativeConeT(n)]
    solution = _solve(quadratic, np.zeros(n + d), rows, bound, cones)
    _check(str(solution.status), "the mixture's program")
    weights = np.maximum(np.asarray(solution.x)[:n], 0.0)
    return weights / weights.sum()


def contradictions(constraints: Sequence[Constraint], n_demonstrations: int) -> tuple[int, ...]:
    """The demonstrations with ξ_i > 0 where Σ ξ is least, ‖ψ‖ no object; the largest ξ_i first. A linear program."""
    d = len(constraints[0].difference)
    rows, bound = _rows(constraints, n_demonstrations)
    price = np.concatenate([np.zeros(d), np.ones(n_demonstrations)])
    bounds = [(None, None)] * d + [(0, None)] * n_demonstrations
    solution = linprog(price, A_ub=-rows, b_ub=-bound, bounds=bounds)
    if solution.status != 0:
        raise SolverError(f"the contradicting demonstrations were not found: {solution.message}")
    xi = solution.x[d:]
    return tuple(int(i) for i in np.argsort(-xi, kind="stable") if xi[i] > VISIBLE_SLACK)


def _rows(constraints: Sequence[Constraint], n_slack: int) -> tuple[sparse.csc_matrix, np.ndarray]:
    """The constraints as rows (ψ, ξ) ≥ bound; with n_slack = 0 as rows of ψ alone."""
    difference = sparse.csc_matrix(np.stack([c.difference for c in constraints]))
    bound = np.array([c.distance for c in constraints])
    if not n_slack:
        return difference, bound
    n, owners = len(constraints), [c.demonstration for c in constraints]
    owner = sparse.csc_matrix((np.ones(n), (range(n), owners)), shape=(n, n_slack))
    return sparse.hstack([difference, owner], format="csc"), bound


def _solve(
    quadratic: sparse.csc_matrix, linear: np.ndarray, rows: sparse.csc_matrix, bound: np.ndarray, cones: list
) -> clarabel.DefaultSolution:
    """min ½ xᵀ P x + qᵀ x subject to A x + s = b, s in the cones: P `quadratic`, q `linear`, A `rows`, b `bound`."""
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.max_threads = 1
    settings.tol_feas = settings.tol_gap_abs = settings.tol_gap_rel = SOLVER_TOLERANCE
    return clarabel.DefaultSolver(quadratic, linear, rows, bound, cones, settings).solve()


def _check(status: str, program: str) -> None:
    if status not in _SOLVED:
        raise SolverError(f"{program} was not solved: Clarabel says {status}; scale the features to about unit size")

