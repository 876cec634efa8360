"""What the tabular methods share: messages, occupancies, demonstrations, results.

numpy and scipy alone, float64. Time runs t = 0 … T−1 over actions; rewards r(s, a) do not depend on t.

Causal form (Ziebart, Bagnell, Dey 2010, "Modeling interaction via the principle of maximum causal entropy"):
    V_T = 0,  Q_t(s, a) = r(s, a) + γ Σ_s' P(s'|s, a) V_{t+1}(s'),  V_t(s) = log Σ_a exp Q_t(s, a),  π_t = exp(Q_t − V_t)
Plain form (Ziebart et al. 2008; the lecture's p(τ | O) ∝ p(τ) exp r(τ)), given the start:
    log β_T = 0,  log β_t(s, a) = r(s, a) + log Σ_s' P(s'|s, a) β_{t+1}(s'),  log β_t(s) = log Σ_a β_t(s, a)
The two agree where the dynamics are deterministic. Where they are not, the plain posterior is optimistic: it reweights
the dynamics as if luck could be chosen, and its policy promises what no policy can do. Use the causal form there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import sparse

from irl_ros.learning.mdp import MDP, TabularError, next_states


@dataclass(frozen=True, eq=False)
class TabularDemonstrations:
    """N demonstrations of T actions: states (N, T+1), actions (N, T), int, read-only. `names` default to numbers."""

    states: np.ndarray
    actions: np.ndarray
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        shapes = np.shape(self.states), np.shape(self.actions)
        if len(shapes[1]) != 2 or 0 in shapes[1] or shapes[0] != (shapes[1][0], shapes[1][1] + 1):
            raise TabularError(f"demonstrations: needs states (N, T+1) and actions (N, T), got {shapes[0]}, {shapes[1]}")
        names = tuple(self.names) or tuple(str(i) for i in range(shapes[0][0]))
        if len(names) != shapes[0][0]:
            raise TabularError(f"demonstrations: {len(names)} names for {shapes[0][0]} demonstrations")
        object.__setattr__(self, "names", names)
        for key in ("states", "actions"):
            object.__setattr__(self, key, self._whole_numbers(key, np.asarray(getattr(self, key))))

    def _whole_numbers(self, key: str, values: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            array = values.astype(np.int64)
        for i, t in np.argwhere(array != values)[:1]:
            raise TabularError(f"demonstration {self.names[i]}: {key}[{t}] is {values[i, t]}, not a whole number")
        array.setflags(write=False)
        return array

    def __len__(self) -> int:
        return len(self.states)

    def check(self, mdp: MDP) -> None:
        """TabularError, naming the demonstration, where these cannot have happened in `mdp`."""
        if self.actions.shape[1] != mdp.horizon:
            raise TabularError(f"demonstrations have {self.actions.shape[1]} actions, the MDP's horizon is {mdp.horizon}")
        for key, values, n in (("state", self.states, mdp.n_states), ("action", self.actions, mdp.n_actions)):
            for i, t in np.argwhere((values < 0) | (values >= n))[:1]:
                raise TabularError(
                    f"demonstration {self.names[i]}: leaves the {key} space at t = {t}: {key} {values[i, t]}, "
                    f"the MDP has 0 … {n - 1}"
                )
        for i in np.flatnonzero(mdp.initial[self.states[:, 0]] == 0)[:1]:
            raise TabularError(f"demonstration {self.names[i]}: starts in state {self.states[i, 0]}, where none can start")
        rows = self.states[:, :-1] * mdp.n_actions + self.actions
        chance = np.asarray(mdp.transition[rows.ravel(), self.states[:, 1:].ravel()]).reshape(rows.shape)
        for i, t in np.argwhere(chance == 0)[:1]:
            raise TabularError(
                f"demonstration {self.names[i]}: impossible move at t = {t}: action {self.actions[i, t]} never leads "
                f"from state {self.states[i, t]} to state {self.states[i, t + 1]}"
            )

    def some(self, rows: np.ndarray) -> TabularDemonstrations:
        """Those of the given indices."""
        return TabularDemonstrations(self.states[rows], self.actions[rows], tuple(self.names[i] for i in rows))

    def occupancy(self, mdp: MDP) -> np.ndarray:
        """Discounted visits Σ_t γ^t 1[s_t = s, a_t = a], mean over the demonstrations, shape (S, A)."""
        index = self.states[:, :-1] * mdp.n_actions + self.actions
        weights = np.broadcast_to(mdp.discounts / len(self), index.shape)
        visits = np.bincount(index.ravel(), weights.ravel(), mdp.n_states * mdp.n_actions)
        return visits.reshape(mdp.n_states, mdp.n_actions)


@dataclass(frozen=True, eq=False)
class TabularResult:
    """What a tabular method learned: reward (S, A), log π (T, S, A), the reward's parameters by name, figures."""

    reward: np.ndarray
    log_policy: np.ndarray
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)


def checked_table(mdp: MDP, name: str, table: np.ndarray) -> np.ndarray:
    """`table` as float64; its shape must begin with (S, A) and its values be finite."""
    array = np.asarray(table, dtype=np.float64)
    if array.shape[:2] != (mdp.n_states, mdp.n_actions):
        raise TabularError(f"{name}: shape must begin with {(mdp.n_states, mdp.n_actions)}, got {array.shape}")
    for index in np.argwhere(~np.isfinite(array))[:1]:
        raise TabularError(f"{name}: non-finite at state {index[0]}, action {index[1]}")
    return array


def soft_backward(mdp: MDP, reward: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Causal form. reward (S, A) → soft values V (T+1, S) [nats], log π (T, S, A)."""
    return _causal_backward(mdp, reward, _log_choice)


def soft_policy(mdp: MDP, reward: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same with π (T, S, A) in place of log π: quicker where probabilities are all that is needed."""
    return _causal_backward(mdp, reward, _choice)


def plain_backward(mdp: MDP, reward: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Plain form. reward (S, A) → log β (T+1, S) [nats], log of the posterior's policy (T, S, A). γ must be 1."""
    if mdp.discount != 1:
        raise TabularError(f"the plain form knows no discount, got {mdp.discount}: use the causal form, or discount 1")
    r = np.ascontiguousarray(checked_table(mdp, "reward", reward).T)
    if mdp.deterministic:
        return _backward(mdp, r, _expectation(mdp), _log_choice)
    return _backward(mdp, r, lambda b: _log_expectation(mdp.by_action, b).reshape(r.shape), _log_choice)


def _causal_backward(mdp: MDP, reward: np.ndarray, choose: Any) -> tuple[np.ndarray, np.ndarray]:
    r = np.ascontiguousarray(checked_table(mdp, "reward", reward).T)
    expectation = _expectation(mdp)
    future = expectation if mdp.discount == 1 else lambda v: mdp.discount * expectation(v)
    return _backward(mdp, r, future, choose)


def _backward(mdp: MDP, r: np.ndarray, future: Any, choose: Any) -> tuple[np.ndarray, np.ndarray]:
    """Backward messages of both forms: Q_t = r + future(V_{t+1}) over arrays (A, S), V_t by `choose`."""
    V = np.zeros((mdp.horizon + 1, mdp.n_states))
    policy = np.empty((mdp.horizon, mdp.n_actions, mdp.n_states))
    for t in reversed(range(mdp.horizon)):
        Q = np.add(r, future(V[t + 1]), out=policy[t])
        V[t] = choose(Q)
    return V, policy.transpose(0, 2, 1)


def _choice(Q: np.ndarray) -> np.ndarray:
    """V = log Σ_a exp Q, shape (S,); Q (A, S) becomes π in place."""
    best = Q.max(0)
    Q -= best
    np.exp(Q, out=Q)
    total = Q.sum(0)
    Q /= total
    return best + np.log(total)


def _log_choice(Q: np.ndarray) -> np.ndarray:
    """V = log Σ_a exp Q, shape (S,); Q (A, S) becomes log π in place."""
    best = Q.max(0)
    V = best + np.log(np.exp(Q - best).sum(0))
    Q -= V
    return V


def _expectation(mdp: MDP) -> Any:
    """v (S,) ↦ Σ_s' P(s'|s, a) v(s'), shape (A, S)."""
    shape = (mdp.n_actions, mdp.n_states)
    if mdp.deterministic:
        following = np.ascontiguousarray(mdp.next_state.T).astype(np.intp)
        return lambda v: v.take(following)
    transition = mdp.by_action
    return lambda v: (transition @ v).reshape(shape)


def _log_expectation(transition: sparse.csr_array, log_value: np.ndarray) -> np.ndarray:
    """log Σ_s' P(row, s') exp log_value(s') of every row, without leaving log space."""
    terms, starts = np.log(transition.data) + log_value[transition.indices], transition.indptr[:-1]
    best = np.maximum.reduceat(terms, starts)
    np.exp(terms - np.repeat(best, np.diff(transition.indptr)), out=terms)
    return best + np.log(np.add.reduceat(terms, starts))


def occupancies(mdp: MDP, policy: np.ndarray) -> np.ndarray:
    """Forward pass of a policy π (T, S, A): μ_t(s, a), the probability of being in s and doing a at t, (T, S, A)."""
    push = _push(mdp)
    return _forward(mdp, policy, lambda t, moved: push(moved))


def soft_forward(mdp: MDP, log_policy: np.ndarray) -> np.ndarray:
    """Causal form. Visitation μ (T, S, A) of log π (T, S, A)."""
    return occupancies(mdp, np.exp(log_policy))


def plain_forward(mdp: MDP, log_beta: np.ndarray, log_policy: np.ndarray) -> np.ndarray:
    """Plain form. Visitation μ (T, S, A) of the posterior, from :func:`plain_backward`'s messages.

    The forward message travels normalised by the backward one, μ_t(s) = α_t(s) β_t(s) / Z(s_0): a probability that
    can underflow to 0 but never overflow. It moves by P(s'|s, a) β_{t+1}(s') / Σ P β_{t+1}, the optimistic dynamics.
    """
    if mdp.deterministic:
        return soft_forward(mdp, log_policy)
    transition = mdp.by_action
    prior, widths = np.log(transition.data), np.diff(transition.indptr)

    def push(t: int, moved: np.ndarray) -> np.ndarray:
        evidence = np.repeat(_log_expectation(transition, log_beta[t + 1]), widths)
        posterior = np.exp(prior + log_beta[t + 1][transition.indices] - evidence)
        return np.bincount(transition.indices, posterior * np.repeat(moved.ravel(), widths), mdp.n_states)

    return _forward(mdp, np.exp(log_policy), push)


def _forward(mdp: MDP, policy: np.ndarray, push: Any) -> np.ndarray:
    mu = policy.transpose(0, 2, 1).copy()
    state = mdp.initial
    for t in range(mdp.horizon):
        mu[t] *= state
        state = push(t, mu[t])
    return mu.transpose(0, 2, 1)


def _push(mdp: MDP) -> Any:
    """μ_t (A, S) ↦ the state's probabilities at t + 1, shape (S,)."""
    if mdp.deterministic:
        following = mdp.next_state.T.ravel()
        return lambda moved: np.bincount(following, moved.ravel(), mdp.n_states)
    arriving = mdp.by_action.T.tocsr()
    return lambda moved: arriving @ moved.ravel()


def visits(mdp: MDP, mu: np.ndarray) -> np.ndarray:
    """Discounted visits Σ_t γ^t μ_t(s, a), shape (S, A): with a reward their product is the expected return."""
    return np.einsum("t,tsa->sa", mdp.discounts, mu)


def feature_expectations(features: np.ndarray, visit: np.ndarray) -> np.ndarray:
    """E[Σ_t γ^t φ(s_t, a_t)], shape (d,), from features (S, A, d) and discounted visits (S, A)."""
    return np.tensordot(visit, features, 2)


def value_iteration(mdp: MDP, reward: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Optimal values V (T+1, S) and the greedy policy's actions (T, S), the first of equals.

    `reward` has shape (S, A), or (T, S, A) where it depends on the time.
    """
    each = [checked_table(mdp, "reward", table) for table in np.reshape(reward, (-1, *np.shape(reward)[-2:]))]
    r = np.broadcast_to(np.stack([table.T for table in each]), (mdp.horizon, mdp.n_actions, mdp.n_states))
    expectation = _expectation(mdp)
    V = np.zeros((mdp.horizon + 1, mdp.n_states))
    greedy = np.empty((mdp.horizon, mdp.n_states), dtype=np.int64)
    for t in reversed(range(mdp.horizon)):
        Q = r[t] + mdp.discount * expectation(V[t + 1])
        greedy[t] = Q.argmax(0)
        V[t] = Q.max(0)
    return V, greedy


def one_hot(mdp: MDP, greedy: np.ndarray) -> np.ndarray:
    """A deterministic policy's actions (T, S) as probabilities (T, S, A)."""
    return np.eye(mdp.n_actions)[greedy]


def sample(mdp: MDP, policy: np.ndarray, n: int, generator: np.random.Generator) -> TabularDemonstrations:
    """`n` trajectories of a policy π (T, S, A)."""
    states = np.empty((n, mdp.horizon + 1), dtype=np.int64)
    actions = np.empty((n, mdp.horizon), dtype=np.int64)
    states[:, 0] = generator.choice(mdp.n_states, size=n, p=mdp.initial / mdp.initial.sum())
    for t in range(mdp.horizon):
        chance = policy[t, states[:, t]].cumsum(1)
        actions[:, t] = (generator.random((n, 1)) * chance[:, -1:] >= chance).sum(1)
        states[:, t + 1] = next_states(mdp, states[:, t], actions[:, t], generator)
    return TabularDemonstrations(states, actions)
