"""The trajectory-centric policy step, against the known optimum, and in the loop."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import expert_demonstrations
import numpy as np
import pytest
import torch
from linear_quadratic import D, H, M, drawn, lazy, system

from irl_ros.checkpoint import Checkpoint
from irl_ros.contract import Contract
from irl_ros.control import controller as control
from irl_ros.control.gate import Command, Halt
from irl_ros.control.pilot import Pilot
from irl_ros.data.episode import Demonstrations
from irl_ros.learning.batch import Batch
from irl_ros.learning.config import CloneConfig, ConfigError, PolicyStepConfig, RewardConfig, TrainConfig
from irl_ros.learning.fusion import FusionWindow
from irl_ros.learning.linear_gaussian import Controller, Quadratic, backward
from irl_ros.learning.observer import SilentObserver
from irl_ros.learning.train import train
from irl_ros.learning.trajectory_step import TrajectoryStep, clone_controllers, expand
from irl_ros.models.features import Features
from irl_ros.models.inference import policy_from_arrays
from irl_ros.models.policies import TrajectoryPolicy

REACH = Contract.load("panda", "reach")


def rollouts(controller: Controller, n: int, seed: int) -> Batch:
    """The reward's features are the next state."""
    x, u = drawn(system(), controller, n, seed)
    ones = np.ones((n, H))
    return Batch(*(torch.as_tensor(np.asarray(a, np.float32)) for a in (x, x[:, 1:], u, ones, ones)))


def quadratic_reward(batch: Batch) -> torch.Tensor:
    return -(batch.features - 1.0).square().sum(-1) - 0.1 * batch.actions.square().sum(-1)


class Known:
    """As much of a method as the step needs: a reward that need not be learned, and the samples."""

    learned_reward = staticmethod(quadratic_reward)

    def __init__(self) -> None:
        self.window = FusionWindow(rollouts(lazy(), 1, 0), None, 3)


def test_the_step_on_rollouts_converges_to_the_optimum_of_the_true_system():
    config = PolicyStepConfig(kind="trajectory", entropy_weight=0.1, kl_bound=1.0)
    policy = TrajectoryPolicy(H, M, D)
    policy.set(*lazy())
    method = Known()
    step, generator = TrajectoryStep(policy, config, method), torch.Generator()
    rewards = []
    for k in range(25):
        batch = rollouts(Controller(*policy.controllers()), 2000, k)
        method.window.append(batch, policy)
        scale = float(quadratic_reward(batch).std())
        rewards.append(step.improve(batch, quadratic_reward(batch), k == 0, generator)["policy/reward"])
    truth, eye = system(), np.eye(M)
    M_next = np.concatenate([truth.F, np.zeros((H, M, D + M))], 1)
    M_next[:, D:, D:] = eye
    weight = np.diag([2.0] * D + [0.2] * M)
    offset = np.concatenate([truth.c - 1.0, np.zeros((H, M))], -1)
    Z = M_next.swapaxes(1, 2) @ weight @ M_next
    z0 = np.einsum("tij,ti->tj", M_next, offset @ weight)
    best = backward(truth, Quadratic(Z / scale / 0.1, z0 / scale / 0.1))
    np.testing.assert_allclose(policy.K.numpy(), best.K, atol=0.1)
    np.testing.assert_allclose(policy.k.numpy(), best.k, atol=0.15)
    assert rewards[-1] > 0.3 * rewards[0]


def test_the_expansion_keeps_what_curves_upwards():
    batch = rollouts(lazy(), 2, 0)

    def reward(b: Batch) -> torch.Tensor:  # cost 3φ₀² − φ₁² + φ₂ + u₀²
        return -(3 * b.features[..., 0] ** 2 - b.features[..., 1] ** 2 + b.features[..., 2] + b.actions[..., 0] ** 2)

    point, gradient, hessian = expand(reward, batch)
    np.testing.assert_allclose(hessian, np.broadcast_to(np.diag([6.0, 0, 0, 2, 0]), hessian.shape), atol=1e-9)
    phi, u = batch.features, batch.actions
    known = torch.stack([6 * phi[..., 0], -2 * phi[..., 1], torch.ones(2, H), 2 * u[..., 0], 0 * u[..., 1]], -1)
    np.testing.assert_allclose(gradient, known.numpy(), rtol=1e-5)
    np.testing.assert_array_equal(point, torch.cat([phi, u], -1).numpy())


def test_the_clone_is_the_demonstrations_own_controller():
    K = np.broadcast_to(0.2 * np.random.default_rng(8).normal(size=(M, D)), (H, M, D))
    shown = Controller(K, np.full((H, M), 0.3), lazy(1e-6).C)
    policy = clone_controllers(rollouts(shown, 20, 9), std=0.2)
    np.testing.assert_allclose(policy.K.numpy(), shown.K, atol=1e-3)
    np.testing.assert_allclose(policy.k.numpy(), shown.k, atol=1e-3)
    np.testing.assert_allclose(policy.log_std.exp().numpy(), 0.2, rtol=1e-6)


def test_torch_and_numpy_are_one_policy_and_the_last_controller_stays():
    contract = dataclasses.replace(REACH, task=dataclasses.replace(REACH.task, policy_inputs=("end_effector_to_goal",)))
    rng, m = np.random.default_rng(10), contract.action_size
    root = rng.normal(size=(H, m, m))
    policy = TrajectoryPolicy(H, m, 3)
    policy.set(rng.normal(size=(H, m, 3)), rng.normal(size=(H, m)), root @ root.swapaxes(1, 2) + np.eye(m))
    inference = policy_from_arrays(policy.arrays(), contract)
    observations = rng.normal(size=(H, contract.observation_size))
    samples = [inference.sample(o, rng, t) for t, o in enumerate(observations)]
    x = Features(contract, contract.task.policy_inputs)(observations)
    log_prob = policy.log_prob(torch.as_tensor(x), torch.as_tensor(np.array([a for a, _ in samples])))
    np.testing.assert_allclose(log_prob.numpy(), [p for _, p in samples], rtol=1e-5)
    np.testing.assert_array_equal(inference.mean(observations[0], H + 5), inference.mean(observations[0], H - 1))
    assert not np.allclose(inference.mean(observations[0], 0), inference.mean(observations[0], 1))


BRIEF = Contract(REACH.robot, dataclasses.replace(REACH.task, horizon=10))
QUICK = TrainConfig(
    environment_steps=160,
    batch_episodes=4,
    workers=1,
    device="cpu",
    checkpoint_every=2,
    evaluation_episodes=2,
    clone=CloneConfig(steps=10),
    reward=RewardConfig(updates=3, background_batches=4, minibatch=4),
    policy_step=PolicyStepConfig(kind="trajectory", initial_std=0.1),
)
"""Four iterations of 40 steps: enough to compare, not to learn."""


class StopAfterTwo(SilentObserver):
    done = 0

    def on_progress(self, done: int, metrics: dict[str, float]) -> None:
        self.done = done

    def should_stop(self) -> bool:
        return self.done >= 2


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Demonstrations, Path]:
    demonstrations, directory = expert_demonstrations.demonstrations(BRIEF, 4), tmp_path_factory.mktemp("trained")
    train(demonstrations, QUICK, directory)
    return demonstrations, directory


def test_training_moves_the_controllers_within_the_bound_and_resumes_to_the_same_ones(trained, tmp_path):
    demonstrations, directory = trained
    assert train(demonstrations, QUICK, tmp_path, StopAfterTwo()).cancelled
    train(demonstrations, QUICK, tmp_path, resume=True)
    lines = [(d / "training/metrics.jsonl").read_text().splitlines() for d in (directory, tmp_path)]
    assert lines[0] == lines[1] and len(lines[0]) == 4
    bound = QUICK.policy_step.kl_bound
    assert all(0.9 * bound < json.loads(line)["policy/kl"] <= bound for line in lines[0])
    arrays = [Checkpoint.load(d / "checkpoint").policy_arrays for d in (directory, tmp_path)]
    for name in ("K", "k", "C"):
        np.testing.assert_array_equal(arrays[0][name], arrays[1][name])


def test_a_checkpoint_drives_by_the_time_since_enable(trained):
    checkpoint = Checkpoint.load(trained[1] / "checkpoint")
    sent: list[Command | Halt] = []
    pilot = Pilot(control.Controller(checkpoint), sent.append)
    policy = policy_from_arrays(checkpoint.policy_arrays, checkpoint.contract)
    home = np.array(BRIEF.robot.home)
    now = 0.0
    for _ in range(2):  # enabled again it starts again
        pilot.inputs.update("joint_states", {"joint_position": home, "joint_velocity": np.zeros(7)}, now)
        pilot.inputs.update("goal_pose", {"goal_position": np.array([0.5, 0.0, 0.4])}, now)
        pilot.enable(now)
        observation = pilot.controller.observe(pilot.inputs.measured)
        for step in range(3):
            pilot.tick(lambda: now)
            expected = np.clip(policy.mean(observation, step), -1, 1)
            np.testing.assert_allclose(sent[-1].action, expected)
        pilot.disable("done", now)
    means = [policy.mean(observation, step) for step in range(3)]
    assert not np.allclose(means[0], means[1]) and not np.allclose(means[1], means[2])


def test_kinds_and_methods_that_cannot_be_are_refused_by_name():
    with pytest.raises(ConfigError, match="trajectroy.*trajectory"):
        TrainConfig(policy_step=PolicyStepConfig(kind="trajectroy"))
    with pytest.raises(ConfigError, match="gcl, not airl"):
        TrainConfig(method="airl", policy_step=PolicyStepConfig(kind="trajectory"))
