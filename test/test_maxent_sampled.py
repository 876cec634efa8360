"""Maximum-entropy IRL from samples alone: agreement with the exact one, its soft Q-learning, its steps, refusals."""

from __future__ import annotations

import dataclasses

import expert_demonstrations
import gymnasium
import numpy as np
import pytest
import torch
from small_mdps import grid, random_mdp
from test_train import BRIEF, QUICK, StopAt, lines, same_checkpoint

from irl_ros.learning import maxent
from irl_ros.learning.batch import Batch
from irl_ros.learning.config import ConfigError, RewardConfig, TrainConfig
from irl_ros.learning.inner_loop import MOST_POLICY_STEPS, InnerLoop
from irl_ros.learning.maxent_sampled import (
    MaxEntSampledConfig,
    SampledMaxEnt,
    learn,
    learn_from_samples,
    natural_step,
    sampled_loss,
)
from irl_ros.learning.mdp import MDP
from irl_ros.learning.method import Problem
from irl_ros.learning.observer import SilentObserver
from irl_ros.learning.soft_q import Sampler, SoftQ
from irl_ros.learning.tabular import (
    TabularDemonstrations,
    TabularError,
    occupancies,
    sample,
    soft_backward,
    soft_forward,
)
from irl_ros.learning.tabular_env import TabularEnvs
from irl_ros.learning.train import train
from irl_ros.models.policies import GaussianPolicy


def problem(mdp: MDP, n: int = 40) -> tuple[np.ndarray, TabularDemonstrations]:
    """Features of states, and demonstrations of an expert who is rewarded by them."""
    rng = np.random.default_rng(0)
    features = np.repeat(rng.normal(size=(mdp.n_states, 1, 3)), mdp.n_actions, axis=1)
    _, log_policy = soft_backward(mdp, features @ np.array([1.0, -0.5, 0.8]))
    return features, sample(mdp, np.exp(log_policy), n, rng)


class Counted(TabularEnvs):
    """Counts for itself how often it is stepped."""

    stepped = 0

    def step(self, actions):
        self.stepped += len(actions)
        return super().step(actions)


@pytest.mark.parametrize("slip", [0.0, 0.2])
def test_agrees_with_known_dynamics_and_says_what_it_cost(slip):
    """The learner is handed an env, not the MDP: it sees states alone."""
    mdp = grid(4, 8, slip)
    features, shown = problem(mdp)
    exact = maxent.learn(mdp, features, shown)
    config, envs = MaxEntSampledConfig(), Counted(mdp, MaxEntSampledConfig().episodes)
    sampled = learn_from_samples(envs, features, shown, config, np.random.default_rng(1))
    mu = soft_forward(mdp, exact.log_policy)
    kl = (mu * (exact.log_policy - sampled.log_policy)).sum() / mdp.horizon
    assert 0 <= kl < 0.05
    assert np.allclose(sampled.arrays["theta"], exact.arrays["theta"], atol=0.25)
    assert sampled.metrics["maxent_sampled/env_steps"] == envs.stepped > 0
    assert sampled.metrics["maxent_sampled/converged"] == 1.0


@pytest.mark.parametrize("case, tolerance", [(grid(3, 6), 0.01), (grid(3, 6, 0.2), 0.1)])
def test_soft_q_learning_finds_the_soft_values(case, tolerance):
    reward = np.random.default_rng(0).normal(size=(case.n_states, case.n_actions))
    q = SoftQ(case.horizon, case.n_states, case.n_actions, case.discount)
    sampler = Sampler(TabularEnvs(case, 256), case.horizon, np.random.default_rng(0))
    q.change_reward(reward)
    for _ in range(60):
        q.update(sampler.draw(np.full_like(q.q, 0.25)), power=0.8)
    V, log_policy = soft_backward(case, reward)
    assert q.value(0, np.zeros(1, int))[0] == pytest.approx(V[0, 0], abs=tolerance)
    reached = occupancies(case, np.full_like(q.q, 0.25)) > 1e-3
    assert np.abs(np.exp(q.log_policy()) - np.exp(log_policy))[reached].max() < tolerance
    assert abs(q.residual(sampler.draw(np.exp(q.log_policy())))) < tolerance


@pytest.mark.parametrize("discount", [1.0, 0.9])
def test_soft_q_starts_exact_for_no_reward(discount):
    mdp = MDP(random_mdp(0).transition, random_mdp(0).initial, 4, discount)
    q = SoftQ(4, mdp.n_states, mdp.n_actions, discount)
    V, _ = soft_backward(mdp, np.zeros((mdp.n_states, mdp.n_actions)))
    assert np.allclose([q.value(t, np.arange(mdp.n_states)) for t in range(5)], V, atol=1e-12)


def test_the_natural_step_solves_a_gaussian_in_one_and_knows_noise():
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(3, 3))
    phi = rng.normal(size=(20_000, 3)) @ mixing
    wanted = np.array([0.5, -0.3, 0.2])
    step, _ = natural_step(np.cov(phi, rowvar=False) @ wanted, phi, 0.0)
    assert np.allclose(step, wanted, atol=1e-6)
    far, _ = natural_step(100 * np.cov(phi, rowvar=False) @ wanted, phi, 0.0)
    assert 0.5 * far @ np.cov(phi, rowvar=False) @ far == pytest.approx(2.0)
    noise = [natural_step((rng.normal(size=(500, 3)) @ mixing).mean(0), phi[:500], 0.0)[1] for _ in range(300)]
    assert np.mean(noise) == pytest.approx(3 / (2 * 500), rel=0.15)


class Corridor(gymnasium.Env):
    """A common env: five cells, two actions, ends by itself after `horizon` steps or, if `leaks`, at the far end."""

    def __init__(self, leaks: bool = False, horizon: int = 6):
        self.observation_space, self.action_space = gymnasium.spaces.Discrete(5), gymnasium.spaces.Discrete(2)
        self._leaks, self._horizon = leaks, horizon

    def reset(self, *, seed=None, options=None):
        self._cell = self._t = 0
        return 0, {}

    def step(self, action):
        self._cell, self._t = min(max(self._cell + 2 * int(action) - 1, 0), 4), self._t + 1
        return self._cell, 0.0, self._leaks and self._cell == 4, self._t == self._horizon, {}


CORRIDOR_FEATURES = np.repeat(np.eye(5)[:, None], 2, axis=1)
CORRIDOR_SHOWN = TabularDemonstrations([[0, 1, 2, 3, 4, 4, 4], [0, 0, 1, 2, 3, 4, 4]], [[1] * 6, [0, 1, 1, 1, 1, 1]])


def test_learns_in_any_env_of_discrete_states_and_actions():
    envs = gymnasium.vector.SyncVectorEnv([Corridor] * 8)
    config = MaxEntSampledConfig(reward_steps=8, episodes=8, gradient_episodes=64, regularisation=0.1)
    result = learn_from_samples(envs, CORRIDOR_FEATURES, CORRIDOR_SHOWN, config, np.random.default_rng(0))
    assert np.exp(result.log_policy[0, 0, 1]) > 0.6
    assert np.exp(result.log_policy[[2, 3], [2, 3], 1]).min() > 0.6
    assert result.reward[4, 0] > result.reward[1, 0]


def test_an_env_that_ends_early_is_refused():
    envs = gymnasium.vector.SyncVectorEnv([lambda: Corridor(leaks=True)] * 8)
    config = MaxEntSampledConfig(episodes=8, gradient_episodes=8)
    with pytest.raises(TabularError, match="an env ended at step [4-6], its horizon is 6"):
        learn_from_samples(envs, CORRIDOR_FEATURES, CORRIDOR_SHOWN, config, np.random.default_rng(0))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"reward_steps": 0}, "reward_steps"),
        ({"gradient_episodes": 10}, "gradient_episodes"),
        ({"policy_tolerance": 0.0}, "policy_tolerance"),
        ({"step_power": 0.5}, "step_power"),
        ({"exploration": 1.5}, "exploration"),
    ],
)
def test_contradictory_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        MaxEntSampledConfig(**options)


def test_demonstrations_that_do_not_fit_are_refused_before_learning():
    mdp = grid(3, 2)
    features = np.zeros((9, 4, 1))
    with pytest.raises(TabularError, match="demonstration 0: impossible move"):
        learn(mdp, features, TabularDemonstrations([[0, 8, 8]], [[0, 0]]))
    with pytest.raises(TabularError, match="features: shape"):
        learn(mdp, np.zeros((8, 4, 1)), TabularDemonstrations([[0, 3, 6]], [[0, 0]]))


def test_demonstrations_and_features_of_another_env_are_refused():
    envs, rng = gymnasium.vector.SyncVectorEnv([Corridor] * 2), np.random.default_rng(0)
    config = MaxEntSampledConfig(episodes=2, gradient_episodes=2)
    with pytest.raises(TabularError, match="for envs of .5, 2. states"):
        learn_from_samples(envs, CORRIDOR_FEATURES[:4], CORRIDOR_SHOWN, config, rng)
    with pytest.raises(TabularError, match="demonstration 0: leaves the state space at t = 1: state 7"):
        learn_from_samples(envs, CORRIDOR_FEATURES, TabularDemonstrations([[0, 7]], [[1]]), config, rng)


class Impatient(SilentObserver):
    def should_stop(self) -> bool:
        return True


def test_an_observer_can_stop_and_the_seed_decides():
    mdp = grid(3, 4, 0.1)
    features, shown = problem(mdp, 10)
    config = MaxEntSampledConfig(episodes=16, gradient_episodes=64)
    first, again = (learn(mdp, features, shown, config, np.random.default_rng(0), Impatient()) for _ in range(2))
    assert first.metrics["maxent_sampled/reward_steps"] == 1.0 and first.metrics["maxent_sampled/cancelled"] == 1.0
    assert np.array_equal(first.log_policy, again.log_policy)


# ── the continuous learner: reward steps between converged policies ───────────────────────────────────────────────────


def batch(n: int, seed: int, shift: float = 0.0) -> Batch:
    """`n` random trajectories of five steps whose two features are about `shift`."""
    g, ones = torch.Generator().manual_seed(seed), torch.ones(n, 5)
    features = shift + torch.randn(n, 5, 2, generator=g)
    return Batch(torch.randn(n, 6, 3, generator=g), features, torch.zeros(n, 5, 2), ones, ones)


def sampled_maxent(**options) -> tuple[SampledMaxEnt, GaussianPolicy]:
    g = torch.Generator().manual_seed(0)
    config = TrainConfig(method="maxent_sampled", reward=RewardConfig(updates=3, **options))
    return SampledMaxEnt(Problem(batch(4, 0, 1.0), config, 0.9, g)), GaussianPolicy(3, 2, g)


def test_the_inner_loop_ends_when_the_policy_gains_no_more():
    inner, noise = InnerLoop(), torch.linspace(-1, 1, 20)
    rising = [inner.observe(10.0 * k + noise) for k in range(6)]
    assert rising == [False] * 6
    assert [inner.observe(50.0 + noise) for _ in range(3)] == [False, False, True]
    inner.restart()
    assert [inner.observe(noise) for _ in range(4)] == [False, False, False, True]
    assert int(inner.reward_steps) == 1 and int(inner.cut_off) == 0


def test_the_inner_loop_ends_at_last_and_says_so():
    inner, noise = InnerLoop(), torch.linspace(-1, 1, 20)
    answers = [inner.observe(10.0 * k + noise) for k in range(MOST_POLICY_STEPS + 1)]
    assert answers == [False] * MOST_POLICY_STEPS + [True] and int(inner.cut_off) == 1


def test_the_reward_moves_only_between_converged_policies():
    method, policy = sampled_maxent()
    moved = []
    for iteration in range(9):
        before = method.reward_arrays()
        metrics = method.update(batch(20, 7, -1.0), policy, iteration, torch.Generator().manual_seed(iteration))
        after = method.reward_arrays()
        moved.append(any(not np.array_equal(before[name], after[name]) for name in after))
    # the same episodes again and again: nothing gained, so a step whenever LOOK_BACK policy steps are over
    assert moved == [True, False, False, False, True, False, False, False, True]
    assert metrics["maxent_sampled/reward_steps"] == 3.0


def test_the_loss_is_the_lectures_gradient_without_weights():
    method, _ = sampled_maxent()
    reward, shown, drawn = method.networks["reward"], batch(4, 0, 1.0), batch(20, 7, -1.0)
    loss, metrics = sampled_loss(reward, shown, drawn, RewardConfig(lcr=0.0, mono=0.0))
    gap = method.learned_reward(shown).sum(-1).mean() - method.learned_reward(drawn).sum(-1).mean()
    assert loss.item() == pytest.approx(-gap.item(), rel=1e-6)  # descending it raises the demonstrations' reward
    assert metrics["maxent_sampled/reward_gap"] == pytest.approx(gap.item(), rel=1e-6)


def test_cancelled_within_an_inner_loop_and_resumed_is_as_if_nothing_had_happened(tmp_path):
    shown = expert_demonstrations.demonstrations(BRIEF, 2)
    config = dataclasses.replace(QUICK, method="maxent_sampled")
    through, resumed = tmp_path / "through", tmp_path / "resumed"
    train(shown, config, through)
    assert train(shown, config, resumed, StopAt(2)).cancelled
    train(shown, config, resumed, resume=True)
    assert lines(resumed) == lines(through) and same_checkpoint(resumed, through)
    counted = [line["maxent_sampled/policy_steps"] for line in lines(through)]
    assert counted == [0, 1, 2, 3]  # the inner loop's memory went over the gap
