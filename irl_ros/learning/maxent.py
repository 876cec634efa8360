"""Maximum-entropy inverse reinforcement learning with known dynamics and finitely many states.

Plain form: Ziebart, Maas, Bagnell, Dey 2008, "Maximum entropy inverse reinforcement learning" (AAAI), algorithm 1.
Causal form: Ziebart, Bagnell, Dey 2010, "Modeling interaction via the principle of maximum causal entropy" (ICML).
Neural reward: Wulfmeier, Ondruska, Posner 2015, "Maximum entropy deep inverse reinforcement learning" (1507.04888).

    L(ψ) = 1/N Σ_i r_ψ(τ_i) − log Z(ψ)                                             (the lecture's likelihood)
    ∇L   = 1/N Σ_i ∇r_ψ(τ_i) − Σ_t Σ_{s,a} μ_t(s, a) ∇r_ψ(s, a)                     (visitation form)

In the causal form log Z is E[V_0(s_0)], the soft value at the start, and L is the dual of the greatest causal entropy
under matching feature expectations. With deterministic dynamics it is the plain form.

Deviations:
- log Z is that of the demonstrations' starts, the mean of log Z(s_0) over them: a likelihood given the start. The
  lecture's α_1 = p(s_1) would also pull the start to where the reward is high.
- −½ w ‖ψ‖² is added. Without it demonstrations that never err drive ψ to infinity.
- The linear reward is learned by L-BFGS instead of gradient steps.
- A discount γ < 1 weighs the causal form's step t by γ^t (Bloem & Bambos 2014). The plain form knows none.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize

from irl_ros.learning.config import MaxEntConfig
from irl_ros.learning.observer import Observer, SilentObserver
from irl_ros.learning.tabular import (
    MDP,
    TabularDemonstrations,
    TabularError,
    TabularResult,
    checked_table,
    feature_expectations,
    occupancies,
    plain_backward,
    plain_forward,
    soft_backward,
    soft_policy,
    visits,
)
from irl_ros.models.policies import apply_network, tanh_network


class Posterior(NamedTuple):
    """Of one reward: log Z [nats], π (T, S, A), discounted visits Σ_t γ^t μ_t (S, A)."""

    log_z: float
    policy: np.ndarray
    visits: np.ndarray


def posterior(mdp: MDP, reward: np.ndarray, form: str = "causal") -> Posterior:
    """Backward and forward messages under `reward` (S, A)."""
    if form == "plain":
        log_z, log_policy = plain_backward(mdp, reward)
        policy, mu = np.exp(log_policy), plain_forward(mdp, log_z, log_policy)
    else:
        log_z, policy = soft_policy(mdp, reward)
        mu = occupancies(mdp, policy)
    return Posterior(float(mdp.initial @ log_z[0]), policy, visits(mdp, mu))


def likelihood(theta: np.ndarray, mdp: MDP, features: np.ndarray, expert: np.ndarray, form: str = "causal") -> tuple:
    """L and ∇L (d,) of the linear reward ψᵀφ: features (S, A, d), the expert's feature expectations (d,)."""
    p = posterior(mdp, features @ theta, form)
    return theta @ expert - p.log_z, expert - feature_expectations(features, p.visits)


def learn(
    mdp: MDP,
    features: np.ndarray,
    demonstrations: TabularDemonstrations,
    config: MaxEntConfig = MaxEntConfig(),
    generator: np.random.Generator | None = None,
    observer: Observer | None = None,
) -> TabularResult:
    """Reward and policy from `demonstrations`; features (S, A, d). `generator` initialises a neural reward.

    Raises TabularError where demonstrations or features do not fit, or where the plain form would be optimistic.
    """
    features = checked_table(mdp, "features", features)
    demonstrations.check(mdp)
    if config.form == "plain" and not mdp.deterministic and not config.optimistic:
        raise TabularError(
            "maxent: the plain form on stochastic dynamics is optimistic (it plans as if luck could be chosen): "
            "use form causal, or set optimistic to run it all the same"
        )
    starts = np.bincount(demonstrations.states[:, 0], minlength=mdp.n_states) / len(demonstrations)
    mdp = dataclasses.replace(mdp, initial=starts)
    progress = _Progress(observer or SilentObserver(), config)
    visited = demonstrations.occupancy(mdp)
    if config.reward == "neural":
        reward, arrays = _fit_network(mdp, features, visited, config, generator or np.random.default_rng(0), progress)
    else:
        reward, arrays = _fit_linear(mdp, features, visited, config, progress)
    health = figures(features, visited, reward, posterior(mdp, reward, config.form))
    _, log_policy = (plain_backward if config.form == "plain" else soft_backward)(mdp, reward)
    return TabularResult(reward, log_policy, arrays, {**health, **progress.outcome})


def figures(features: np.ndarray, visited: np.ndarray, reward: np.ndarray, p: Posterior) -> dict[str, float]:
    """Health of a reward (S, A): its likelihood [nats per demonstration], feature gap, reward gap expert − policy."""
    gap = feature_expectations(features, visited - p.visits)
    return {
        "maxent/log_likelihood": float((reward * visited).sum() - p.log_z),
        "maxent/log_z": p.log_z,
        "maxent/feature_gap": float(np.abs(gap).max()),
        "maxent/reward_gap": float((reward * (visited - p.visits)).sum()),
    }


class _Progress:
    """Tells the observer of every iteration; knows whether it wants to stop, and how learning ended."""

    def __init__(self, observer: Observer, config: MaxEntConfig):
        self._observer = observer
        self.outcome = {"maxent/iterations": 0.0, "maxent/converged": 0.0, "maxent/cancelled": 0.0}
        observer.on_phase("learn", config.iterations)

    def step(self, metrics: dict[str, float]) -> bool:
        """One more iteration is through; True where the observer wants to stop."""
        self.outcome["maxent/iterations"] += 1
        self._observer.on_progress(int(self.outcome["maxent/iterations"]), metrics)
        cancelled = self._observer.should_stop()
        self.outcome["maxent/cancelled"] = float(cancelled)
        return cancelled


def _fit_linear(
    mdp: MDP, features: np.ndarray, visited: np.ndarray, config: MaxEntConfig, progress: _Progress
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    expert = feature_expectations(features, visited)
    last: dict[str, float] = {}

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = likelihood(theta, mdp, features, expert, config.form)
        last.update({"maxent/log_likelihood": value, "maxent/feature_gap": float(np.abs(gradient).max())})
        weight = config.regularisation
        return -value + 0.5 * weight * theta @ theta, -gradient + weight * theta

    def after(intermediate_result: Any) -> None:
        if progress.step(last):
            raise StopIteration

    options = {"maxiter": config.iterations, "gtol": config.tolerance, "ftol": 0.0, "maxcor": 30}
    found = minimize(loss, np.zeros(len(expert)), jac=True, method="L-BFGS-B", callback=after, options=options)
    progress.outcome["maxent/converged"] = float(np.abs(loss(found.x)[1]).max() <= config.tolerance)
    return features @ found.x, {"theta": found.x}


class NetworkReward(torch.nn.Module):
    """r(s, a) = network((φ(s, a) − mean) / scale), float64."""

    def __init__(self, features: np.ndarray, hidden: tuple[int, ...], generator: torch.Generator):
        super().__init__()
        flat = features.reshape(-1, features.shape[-1])
        self.network = tanh_network([flat.shape[1], *hidden, 1], generator, last_gain=0.1)
        scale = flat.std(0)
        self.register_buffer("mean", torch.as_tensor(flat.mean(0)))
        self.register_buffer("scale", torch.as_tensor(np.where(scale > 0, scale, 1.0)))
        self.double()

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Reward, shape (S, A), of features (S, A, d)."""
        return apply_network(self.network, (features - self.mean) / self.scale).squeeze(-1)


def network_loss(
    network: NetworkReward, mdp: MDP, features: torch.Tensor, visited: np.ndarray, config: MaxEntConfig
) -> tuple[torch.Tensor, dict[str, float]]:
    """A loss whose gradient is −∇L: Σ_{s,a} (Σ_t γ^t μ_t − expert's visits) r_ψ, the visits held still."""
    reward = network(features)
    p = posterior(mdp, reward.detach().numpy(), config.form)
    metrics = figures(features.numpy(), visited, reward.detach().numpy(), p)
    decay = sum(parameter.square().sum() for parameter in network.parameters())
    loss = (torch.as_tensor(p.visits - visited) * reward).sum() + 0.5 * config.regularisation * decay
    return loss, metrics


def _fit_network(
    mdp: MDP,
    features: np.ndarray,
    visited: np.ndarray,
    config: MaxEntConfig,
    generator: np.random.Generator,
    progress: _Progress,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    seeded = torch.Generator().manual_seed(int(generator.integers(2**62)))
    network, inputs = NetworkReward(features, config.hidden, seeded), torch.tensor(features)
    optimiser = torch.optim.Adam(network.parameters(), config.learning_rate)
    for _ in range(config.iterations):
        loss, metrics = network_loss(network, mdp, inputs, visited, config)
        optimiser.zero_grad()
        loss.backward()
        largest = max(float(parameter.grad.abs().max()) for parameter in network.parameters())
        progress.outcome["maxent/converged"] = float(largest <= config.tolerance)
        if progress.step(metrics) or largest <= config.tolerance:
            break
        optimiser.step()
    with torch.no_grad():
        reward = network(inputs).numpy()
    return reward, {name: value.numpy().copy() for name, value in network.state_dict().items()}
