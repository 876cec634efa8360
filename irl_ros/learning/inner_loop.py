"""When a policy has converged on a reward: for the method that waits for it before every reward step."""

from __future__ import annotations

import torch
from torch import Tensor

LOOK_BACK = 3
"""Policy steps over which the reward of the policy's episodes must rise by more than its standard error."""
MOST_POLICY_STEPS = 10


class InnerLoop(torch.nn.Module):
    """Whether the policy has converged on the present reward, judged by its episodes' rewards.

    A module for its buffers' sake: they are saved and restored with the networks.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("returns", torch.zeros(MOST_POLICY_STEPS + 1))
        self.register_buffer("seen", torch.tensor(0))
        self.register_buffer("reward_steps", torch.tensor(0))

    def observe(self, episode_rewards: Tensor) -> bool:
        """True where the policy stands still: it gained no more than a standard error in LOOK_BACK policy steps.

        episode_rewards (B,): the present reward of the episodes that the policy has just drawn.
        """
        n = int(self.seen)
        self.returns[n] = episode_rewards.mean()
        self.seen += 1
        if n < LOOK_BACK:
            return False
        error = float(episode_rewards.std()) / len(episode_rewards) ** 0.5
        return n == MOST_POLICY_STEPS or float(self.returns[n] - self.returns[n - LOOK_BACK]) <= error

    def restart(self) -> None:
        """The reward has changed."""
        self.seen.zero_()
        self.reward_steps += 1
