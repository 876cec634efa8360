"""Maximum-entropy inverse reinforcement learning with unknown dynamics, the policy learned anew for every reward.

The lecture's "unknown dynamics" form, the one that guided cost learning makes quick: for the reward r_ψ run
maximum-entropy reinforcement learning until it converges, draw M trajectories with the policy, then

    ∇L ≃ 1/N Σ_i ∇r_ψ(τ_i) − 1/M Σ_j ∇r_ψ(τ_j)                                        (no importance weights)

(Ziebart 2010; the errata's stray minus left out.) Inside: soft Q-learning (Haarnoja et al. 2017, 1702.08165) in a
table, Q_t(s, a) ← (1 − α) Q_t + α [r(s, a) + γ log Σ_a' exp Q_{t+1}(s', a')], along fresh episodes of its own policy,
last step first. The learner sees what a gymnasium env returns and nothing of the dynamics.

Two learners. :func:`learn` is tabular and works on states and actions of finite number. :class:`SampledMaxEnt` is a
method of :mod:`irl_ros.learning.train` for continuous ones: its inner maximum-entropy learner is the loop's KL-bounded
policy step, repeated until the learned reward of the policy's episodes rises no more.

Deviations of the tabular one:
- A reward step is preconditioned: ψ += η (C + wI)⁻¹ (∇L − wψ), C the covariance of the M trajectories' features, which
  is the Hessian of log Z where dynamics are deterministic and bounds it where they are not. η falls as 1/k, which
  averages the sampling noise out.
- Q starts from the last reward's: converging again is quicker than converging.
- −½ w ‖ψ‖², and starts, as in :mod:`irl_ros.learning.maxent`.
Deviations of the continuous one:
- The first reward step is taken on the behaviour clone's episodes, not on those of a policy converged on no reward.
- A reward step is several gradient updates on one batch, with GCL's cost and its regularisers.
- An inner loop has converged when the reward of 20 episodes rises by no more than its standard error in three policy
  steps; one that has not after MOST_POLICY_STEPS is cut off, and the metric `cut_off` counts it.
"""

from __future__ import annotations

import dataclasses

import gymnasium
import numpy as np
import torch
from torch import Tensor

from irl_ros.learning.batch import Batch
from irl_ros.learning.config import MaxEntSampledConfig, RewardConfig
from irl_ros.learning.inner_loop import InnerLoop
from irl_ros.learning.method import Problem, decay_learning_rate
from irl_ros.learning.observer import Observer, SilentObserver
from irl_ros.learning.regularisers import shape_penalty
from irl_ros.learning.soft_q import Sampler, Samples, SoftQ
from irl_ros.learning.tabular import MDP, TabularDemonstrations, TabularError, TabularResult, checked_table
from irl_ros.learning.tabular_env import TabularEnvs
from irl_ros.models.policies import GaussianPolicy
from irl_ros.models.rewards import QuadraticReward

STEP_BOUND = 2.0
"""Largest ½ Δψᵀ(C + wI)Δψ of a reward step, about the KL [nats per trajectory] by which it moves the policy."""


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
    _check_spaces(envs, features, demonstrations)
    run = _Run(envs, features, demonstrations, config, generator, discount)
    return run.learn(observer or SilentObserver())


def _check_spaces(
    envs: gymnasium.vector.VectorEnv, features: np.ndarray, demonstrations: TabularDemonstrations
) -> None:
    """TabularError where the three are not of the same states and actions."""
    spaces = (envs.single_observation_space, envs.single_action_space)
    sizes = tuple(int(space.n) if isinstance(space, gymnasium.spaces.Discrete) else None for space in spaces)
    if features.ndim != 3 or features.shape[:2] != sizes or not np.isfinite(features).all():
        raise TabularError(
            f"maxent_sampled: features must be finite and of shape (S, A, d), got {features.shape} for envs of {sizes} "
            "states and actions (None: not a Discrete space)"
        )
    for key, values, n in (("state", demonstrations.states, sizes[0]), ("action", demonstrations.actions, sizes[1])):
        for i, t in np.argwhere((values < 0) | (values >= n))[:1]:
            raise TabularError(
                f"demonstration {demonstrations.names[i]}: leaves the {key} space at t = {t}: {key} {values[i, t]}, "
                f"the envs have 0 … {n - 1}"
            )


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


def sampled_loss(
    reward: QuadraticReward, demonstrations: Batch, samples: Batch, config: RewardConfig
) -> tuple[Tensor, dict[str, float]]:
    """−L's gradient from samples of the converged policy, mean c(demonstrations) − mean c(samples), and figures."""
    demo, sample = (-reward(batch.features, batch.actions) for batch in (demonstrations, samples))
    demo_total, sample_total = (demo * demonstrations.counted).sum(-1), (sample * samples.counted).sum(-1)
    gap = sample_total.mean() - demo_total.mean()
    penalty, shape = shape_penalty(demo, demonstrations.counted, sample, samples.counted, config)
    return penalty - gap, {"maxent_sampled/reward_gap": gap.item(), **shape}


class SampledMaxEnt:
    """Reward steps between converged policies, as a :class:`irl_ros.learning.method.Method`."""

    reward_holds_entropy = False
    window = None

    def __init__(self, problem: Problem):
        config, generator = problem.config.reward, torch.Generator().manual_seed(problem.config.seed)
        self._config, self._demonstrations, self._inner = config, problem.demonstrations, InnerLoop()
        self._reward = QuadraticReward(problem.n_features, generator, bound=config.bound, w_u=config.w_u)
        self._reward.to(problem.demonstrations.inputs.device)
        optimiser = torch.optim.AdamW(self._reward.parameters(), config.learning_rate, weight_decay=config.weight_decay)
        self.networks, self.optimisers = {"reward": self._reward, "inner": self._inner}, {"reward": optimiser}

    def update(
        self, samples: Batch, policy: GaussianPolicy, iteration: int, generator: torch.Generator
    ) -> dict[str, float]:
        """A reward step where `policy` has converged on the present reward, else none; returns the health figures."""
        with torch.no_grad():
            _, metrics = sampled_loss(self._reward, self._demonstrations, samples, self._config)
            converged = self._inner.observe((self.learned_reward(samples) * samples.counted).sum(-1).cpu())
        if iteration == 0 or converged:
            metrics = self._reward_step(samples)
            self._inner.restart()
        metrics["maxent_sampled/policy_steps"] = float(self._inner.seen)
        metrics["maxent_sampled/cut_off"] = float(self._inner.cut_off)
        return {**metrics, "maxent_sampled/reward_steps": float(self._inner.reward_steps)}

    def _reward_step(self, samples: Batch) -> dict[str, float]:
        config, optimiser, metrics = self._config, self.optimisers["reward"], {}
        decay_learning_rate(optimiser, config.learning_rate, int(self._inner.reward_steps), config.step_decay)
        for _ in range(config.updates):
            loss, metrics = sampled_loss(self._reward, self._demonstrations, samples, config)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self._reward.parameters(), 10.0)
            optimiser.step()
        return metrics

    def policy_reward(self, samples: Batch, policy: GaussianPolicy) -> Tensor:
        """The policy step adds the entropy."""
        return self.learned_reward(samples)

    def learned_reward(self, batch: Batch) -> Tensor:
        return self._reward(batch.features, batch.actions)

    def reward_arrays(self) -> dict[str, np.ndarray]:
        return self._reward.arrays()
