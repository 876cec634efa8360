"""Maximum-entropy inverse reinforcement learning with unknown dynamics, the policy learned anew for every reward.

The lecture's "unknown dynamics" form, the one that guided cost learning makes quick: for the reward r_ψ run
maximum-entropy reinforcement learning until it converges, draw M trajectories with the policy, then

    ∇L ≃ 1/N Σ_i ∇r_ψ(τ_i) − 1/M Σ_j ∇r_ψ(τ_j)                                        (no importance weights)

(Ziebart 2010; the errata's stray minus left out.) Inside: soft Q-learning (Haarnoja et al. 2017, 1702.08165) in a
table, Q_t(s, a) ← (1 − α) Q_t + α [r(s, a) + γ log Σ_a' exp Q_{t+1}(s', a')], along fresh episodes of its own policy,
last step first. The learner sees what a gymnasium env returns and nothing of the dynamics.

Deviations:
- A reward step is preconditioned: ψ += η (C + wI)⁻¹ (∇L − wψ), C the covariance of the M trajectories' features, which
  is the Hessian of log Z where dynamics are deterministic and bounds it where they are not. Plain gradient steps
  reach the same reward with many times the env steps. η falls as 1/k, which averages the sampling noise out.
- Q starts from the last reward's: converging again is quicker than converging.
- −½ w ‖ψ‖², and starts, as in :mod:`irl_ros.learning.maxent`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import gymnasium
import numpy as np

from irl_ros.learning.config import ConfigError
from irl_ros.learning.observer import Observer, SilentObserver
from irl_ros.learning.soft_q import Sampler, Samples, SoftQ
from irl_ros.learning.tabular import MDP, TabularDemonstrations, TabularResult, checked_table
from irl_ros.learning.tabular_env import TabularEnvs

STEP_BOUND = 2.0
"""Largest ½ Δψᵀ(C + wI)Δψ of a reward step, about the KL [nats per trajectory] by which it moves the policy."""


@dataclass(frozen=True)
class MaxEntSampledConfig:
    """Options of tabular maximum-entropy IRL from samples."""

    reward_steps: int = 30
    """At most; learning ends before, when three reward steps in a row are below gap_tolerance."""
    gap_tolerance: float = 0.005
    """KL [nats per trajectory] by which a reward step would move the policy, beyond twice its sampling noise."""
    full_steps: int = 5
    """Reward steps with η = 1; from there on η falls as full_steps / k."""
    episodes: int = 256
    """Episodes, run side by side, of each update of Q."""
    gradient_episodes: int = 2048
    """M, episodes that estimate a reward step's gradient."""
    policy_tolerance: float = 1e-3
    """The policy has converged when two updates of Q in a row move it by less, mean KL(old ‖ new) [nats]."""
    most_updates: int = 60
    """Updates of Q for one reward at most."""
    exploration: float = 0.3
    """Share of uniform actions while Q is learned (not in the gradient's episodes): without them an action that looked
    bad under an earlier reward is not tried again."""
    step_power: float = 0.8
    """α = (new visits / all visits)^step_power: below 1, so that early, wrong targets are forgotten."""
    regularisation: float = 1e-3
    """w of −½ w ‖ψ‖²."""

    def __post_init__(self) -> None:
        counts = (self.reward_steps, self.full_steps, self.episodes, self.most_updates)
        if min(counts) < 1 or self.gradient_episodes < self.episodes or self.gap_tolerance < 0:
            raise ConfigError(
                "reward_steps, full_steps, episodes and most_updates must be at least 1, gradient_episodes at least "
                "episodes, gap_tolerance not negative"
            )
        if self.policy_tolerance <= 0 or not 0.5 < self.step_power <= 1 or self.regularisation < 0:
            raise ConfigError("policy_tolerance must be positive, step_power in (0.5, 1], regularisation not negative")
        if not 0 <= self.exploration <= 1:
            raise ConfigError(f"exploration must be in [0, 1], got {self.exploration}")


def learn(
    mdp: MDP,
    features: np.ndarray,
    demonstrations: TabularDemonstrations,
    config: MaxEntSampledConfig = MaxEntSampledConfig(),
    generator: np.random.Generator | None = None,
    observer: Observer | None = None,
) -> TabularResult:
    """As :func:`learn_from_samples`, in envs that hide `mdp` and start where the demonstrations start."""
    demonstrations.check(mdp)
    features = checked_table(mdp, "features", features)
    starts = np.bincount(demonstrations.states[:, 0], minlength=mdp.n_states) / len(demonstrations)
    envs = TabularEnvs(dataclasses.replace(mdp, initial=starts), config.episodes)
    generator = generator or np.random.default_rng(0)
    return learn_from_samples(envs, features, demonstrations, config, generator, observer, mdp.discount)


def learn_from_samples(
    envs: gymnasium.vector.VectorEnv,
    features: np.ndarray,
    demonstrations: TabularDemonstrations,
    config: MaxEntSampledConfig,
    generator: np.random.Generator,
    observer: Observer | None = None,
    discount: float = 1.0,
) -> TabularResult:
    """Reward and policy from demonstrations and envs of Discrete states and actions; features (S, A, d).

    The metric `maxent_sampled/env_steps` says what it cost.
    """
    run = _Run(envs, features, demonstrations, config, generator, discount)
    return run.learn(observer or SilentObserver())


class _Run:
    """One learning: reward, Q, sampler."""

    def __init__(
        self,
        envs: gymnasium.vector.VectorEnv,
        features: np.ndarray,
        demonstrations: TabularDemonstrations,
        config: MaxEntSampledConfig,
        generator: np.random.Generator,
        discount: float,
    ):
        horizon = demonstrations.actions.shape[1]
        self._features, self._config = features, config
        self._weights = discount ** np.arange(horizon)
        self._q = SoftQ(horizon, *features.shape[:2], discount)
        self._sampler = Sampler(envs, horizon, generator)
        shown = Samples(demonstrations.states, demonstrations.actions)
        self._expert = self._trajectory_features(shown).mean(0)
        self._theta = np.zeros(features.shape[2])

    def learn(self, observer: Observer) -> TabularResult:
        config, metrics, cancelled, matched = self._config, {}, False, 0
        observer.on_phase("learn", config.reward_steps)
        for k in range(config.reward_steps):
            metrics = {**self._converge(), **self._reward_step(min(1.0, config.full_steps / (k + 1)))}
            metrics["maxent_sampled/env_steps"] = float(self._sampler.steps)
            metrics["maxent_sampled/reward_steps"] = k + 1.0
            small = config.gap_tolerance + len(self._theta) / config.gradient_episodes
            matched = matched + 1 if metrics["maxent_sampled/gap_kl"] < small else 0
            observer.on_progress(k + 1, metrics)
            cancelled = observer.should_stop()
            if cancelled or matched == 3:
                break
        metrics.update(self._converge())
        metrics["maxent_sampled/env_steps"] = float(self._sampler.steps)
        metrics["maxent_sampled/converged"] = float(matched == 3)
        metrics["maxent_sampled/cancelled"] = float(cancelled)
        arrays = {"theta": self._theta.copy()}
        return TabularResult(self._features @ self._theta, self._q.log_policy(), arrays, metrics)

    def _converge(self) -> dict[str, float]:
        """Soft Q-learning on the present reward until the policy stands still."""
        config, still, uniform = self._config, 0, 1 / self._features.shape[1]
        for update in range(1, config.most_updates + 1):
            policy = np.exp(self._q.log_policy())
            samples = self._sampler.draw(policy + config.exploration * (uniform - policy))
            kl = self._q.update(samples, config.step_power)
            still = still + 1 if kl < config.policy_tolerance else 0
            if still == 2:
                break
        return {"maxent_sampled/updates": float(update), "maxent_sampled/policy_kl": kl}

    def _reward_step(self, rate: float) -> dict[str, float]:
        config, policy = self._config, np.exp(self._q.log_policy())
        drawn = [self._sampler.draw(policy) for _ in range(-(-config.gradient_episodes // config.episodes))]
        samples = Samples(*(np.concatenate(parts) for parts in zip(*drawn)))
        phi = self._trajectory_features(samples)
        gap = self._expert - phi.mean(0)
        step, kl = natural_step(gap - config.regularisation * self._theta, phi, config.regularisation)
        self._theta = self._theta + rate * step
        metrics = {
            "maxent_sampled/feature_gap": float(np.abs(gap).max()),
            "maxent_sampled/gap_kl": kl,
            "maxent_sampled/reward_gap": float(self._theta @ gap),
            "maxent_sampled/soft_value_residual": self._q.residual(samples),
        }
        self._q.change_reward(self._features @ self._theta)
        return metrics

    def _trajectory_features(self, samples: Samples) -> np.ndarray:
        """Σ_t γ^t φ(s_t, a_t) of every trajectory, shape (B, d)."""
        phi = self._features[samples.states[:, :-1], samples.actions]
        return np.einsum("t,btd->bd", self._weights, phi)


def natural_step(gradient: np.ndarray, phi: np.ndarray, weight: float) -> tuple[np.ndarray, float]:
    """Δ = (C + wI)⁻¹ gradient from trajectory features φ (M, d), shortened to STEP_BOUND; and ½ Δᵀ(C + wI)Δ of the whole
    one, the KL [nats per trajectory] by which it moves the policy: d / 2M where nothing but sampling noise is left."""
    d = phi.shape[1]
    curvature = np.cov(phi, rowvar=False).reshape(d, d) + max(weight, 1e-9) * np.eye(d)
    step = np.linalg.solve(curvature, gradient)
    kl = 0.5 * float(gradient @ step)
    return step * min(1.0, np.sqrt(STEP_BOUND / max(kl, 1e-300))), kl
