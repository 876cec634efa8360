"""Transfer: a learned reward is frozen and a policy is optimised on it in a changed world.

What a reward is worth beyond the policy that was learned with it (AIRL, arXiv 1710.11248, section 7.2): a policy knows
how, a reward knows what for. The policy starts from the checkpoint's; with `true_reward` the env's own reward takes the
learned one's place, the oracle that a transfer is held against.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from irl_ros.checkpoint import Checkpoint, CheckpointError
from irl_ros.contract import Contract
from irl_ros.learning.batch import Batch, Featurizer
from irl_ros.learning.config import TrainConfig
from irl_ros.learning.environment import EnvSpec
from irl_ros.learning.metrics import MetricsLog
from irl_ros.learning.observer import Observer, SilentObserver
from irl_ros.learning.policy_step import PolicyStep
from irl_ros.learning.resume import load_state, save_state
from irl_ros.learning.rollout import Rollouts, open_rollouts
from irl_ros.learning.train import EVALUATION_SEED, Result, device, episode_seed, success_figures, write_json
from irl_ros.models.policies import GaussianPolicy, ValueFunction
from irl_ros.models.rewards import load_reward

SEED_OFFSET = 7_000_000
"""Episodes of a transfer are others than those of the training with the same seed."""


@dataclass(frozen=True)
class ChangedWorld:
    """Where the reward is to prove itself: the contract's robot and task, and one of its env's variants."""

    contract: Contract
    variant: str = ""

    def spec(self) -> EnvSpec:
        """The env; ContractError for a variant that it does not have."""
        spec = EnvSpec(self.contract, {"variant": self.variant} if self.variant else {})
        spec.make().close()
        return spec


class FrozenReward:
    """A reward that learns nothing, with what resume states ask of a method."""

    window = None
    optimisers: Mapping[str, torch.optim.Optimizer] = {}

    def __init__(self, arrays: Mapping[str, np.ndarray], on: torch.device):
        self._reward = load_reward(arrays).to(on)
        self.networks = {"reward": self._reward}

    @torch.no_grad()
    def policy_reward(self, samples: Batch) -> Tensor:
        """The learned reward of samples, shape (B, H)."""
        return self._reward(samples.features, samples.actions)


def transfer(
    checkpoint: Checkpoint,
    world: ChangedWorld,
    config: TrainConfig,
    directory: str | Path,
    true_reward: bool = False,
    observer: Observer | None = None,
    resume: bool = False,
) -> Result:
    """Optimise the checkpoint's policy on its frozen reward in `world`; writes below `directory` as `train` does.

    Raises CheckpointError for a checkpoint without a network's policy and reward, ContractError for an unknown variant.
    """
    if not checkpoint.reward_arrays:
        raise CheckpointError("this checkpoint holds no reward (behaviour cloning learns none): nothing to transfer")
    torch.set_num_threads(1)  # small networks: more threads only wait for one another
    run = _Transfer(checkpoint, world, config, Path(directory), true_reward, observer or SilentObserver())
    return run.run(resume)


class _Transfer:
    """One transfer's state and its phases."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        world: ChangedWorld,
        config: TrainConfig,
        directory: Path,
        true_reward: bool,
        observer: Observer,
    ):
        self._checkpoint, self._world, self._config = checkpoint, world, config
        self._directory, self._true_reward, self._observer = directory, true_reward, observer
        chosen = device(config.device)
        self._featurizer = Featurizer(world.contract, chosen)
        steps = config.batch_episodes * world.contract.task.horizon
        self._iterations, self._iteration = math.ceil(config.environment_steps / steps), 0
        try:
            self._method = FrozenReward(checkpoint.reward_arrays, chosen)
            self._policy = GaussianPolicy.from_arrays(checkpoint.policy_arrays).to(chosen)
        except (ValueError, KeyError, IndexError) as error:
            raise CheckpointError(f"only networks' policies and rewards are transferred: {error}") from None
        self._check_widths()
        with torch.no_grad():
            self._policy.log_std.fill_(math.log(config.policy_step.initial_std))
        value = ValueFunction(self._featurizer.n_inputs, self._generator(0)).to(chosen)
        self._step = PolicyStep(self._policy, value, config.policy_step)

    def _check_widths(self) -> None:
        contract, first = self._world.contract, self._policy.mean[0].in_features
        found = first, len(self._policy.log_std)
        wanted = self._featurizer.n_inputs, contract.action_size
        if found != wanted:
            raise CheckpointError(
                f"the checkpoint's policy has {found[0]} inputs and {found[1]} actions, {contract.robot.name} on "
                f"{contract.task.name} needs {wanted[0]} and {wanted[1]}: choose a robot with as many joints"
            )

    def run(self, resume: bool) -> Result:
        start, training = time.monotonic(), self._directory / "training"
        if resume:
            self._iteration = load_state(training / "state", self._step, self._method, self._identity())["iteration"]
        log = MetricsLog(training, keep=self._iteration)
        with open_rollouts(self._world.spec(), self._config) as rollouts:
            cancelled = self._optimise(rollouts, log)
            log.close()
            if cancelled:
                return Result(None, cancelled=True)
            figures = self._evaluate(rollouts)
        figures["training_wall_s"] = round(time.monotonic() - start, 2)
        self._save()
        write_json(training / "result.json", figures)
        return Result(self._directory / "checkpoint", figures)

    def _optimise(self, rollouts: Rollouts, log: MetricsLog) -> bool:
        """Iterate to the end; True when the observer stopped it, with the state on disk."""
        self._observer.on_phase("optimise", self._iterations)
        while self._iteration < self._iterations:
            if self._observer.should_stop():
                progress = {"iteration": self._iteration}
                save_state(self._directory / "training/state", self._step, self._method, self._identity(), progress)
                return True
            metrics = self._iterate(rollouts)
            self._iteration += 1
            log.write(self._iteration, metrics)
            self._observer.on_progress(self._iteration, metrics)
        return False

    def _iterate(self, rollouts: Rollouts) -> dict[str, float]:
        n, first = self._config.batch_episodes, SEED_OFFSET + self._iteration * self._config.batch_episodes
        seeds = [episode_seed(self._config.seed, first + k) for k in range(n)]
        trajectories = rollouts.sample(self._policy.arrays(), seeds)
        samples = self._featurizer.trajectories(trajectories)
        reward = self._method.policy_reward(samples)
        if self._true_reward:
            reward = torch.as_tensor(np.stack([t.env_rewards for t in trajectories])).to(reward)
        return self._step.improve(samples, reward, self._iteration == 0, self._generator(self._iteration + 1))

    def _evaluate(self, rollouts: Rollouts) -> dict[str, Any]:
        """Success in the changed world of the policy as it was and as it is now, on the same fresh episodes."""
        seeds = [EVALUATION_SEED + k for k in range(self._config.evaluation_episodes)]
        self._observer.on_phase("evaluate", 2)
        before = success_figures(rollouts.evaluate(self._checkpoint.policy_arrays, seeds))
        self._observer.on_progress(1, {})
        after = success_figures(rollouts.evaluate(self._policy.arrays(), seeds))
        self._observer.on_progress(2, {})
        contract = self._world.contract
        return {
            "method": self._checkpoint.provenance.get("method"),
            "task": contract.task.name,
            "robot": contract.robot.name,
            "variant": self._world.variant,
            "reward": "true" if self._true_reward else "learned",
            "seed": self._config.seed,
            "policy_as_is_success": before["success"],
            "policy_success": after["success"],
            "policy_success_2cm": after["success_2cm"],
            "policy_median_distance": after["median_distance"],
            "policy_episodes": len(seeds),
            "environment_steps": self._iteration * self._config.batch_episodes * contract.task.horizon,
        }

    def _save(self) -> None:
        robot = self._world.contract.robot
        transferred = {"variant": self._world.variant, "robot": robot.name, "config": self._config.to_dict()}
        dataclasses.replace(
            self._checkpoint,
            contract=self._world.contract,
            policy_arrays=self._policy.arrays(),
            urdf=robot.urdf_path().read_text(),
            provenance={**self._checkpoint.provenance, "transfer": transferred},
        ).save(self._directory / "checkpoint")

    def _generator(self, stream: int) -> torch.Generator:
        return torch.Generator().manual_seed(episode_seed(self._config.seed, SEED_OFFSET + stream) ^ 0x5EED)

    def _identity(self) -> dict[str, Any]:
        """What a resume state must agree with."""
        world = {"contract": self._world.contract.to_dict(), "variant": self._world.variant}
        config = {k: v for k, v in self._config.to_dict().items() if k not in ("environment_steps", "workers")}
        return {**world, "config": config, "true_reward": self._true_reward}
