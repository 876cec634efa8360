"""When a policy has converged on a reward: for the method that waits for it before every reward step."""

from __future__ import annotations

import torch
from torch import Tensor

LOOK_BACK = 3
"""Policy steps over which the reward of the policy's episodes must rise by more than its standard error."""
MOST_POLICY_STEPS = 40
"""Here a policy that still improves is cut off. On `reach` inner loops end by themselves after 3 to 12."""


class InnerLoop(torch.nn.Module):
    """Whether the policy has converged on the present reward, judged by its episodes' rewards.

    A module for its buffers' sake: they are saved and restored with the networks.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("returns", torch.zeros(MOST_POLICY_STEPS + 1))
        self.register_buffer("seen", torch.tensor(0))
        self.register_buffer("reward_steps", torch.tensor(0))
        self.register_buffer("cut_off", torch.tensor(0))

    def observe(self, episode_rewards: Tensor) -> bool:
        """True where the policy stands still: it gained no more than a standard error in LOOK_BACK policy steps.

        True as well where it is cut off, which is counted. episode_rewards (B,): the present reward of the episodes
        that the policy has just drawn.
        """
        n = int(self.seen)
        self.returns[n] = episode_rewards.mean()
        self.seen += 1
        if n < LOOK_BACK:
            return False
        error = float(episode_rewards.std()) / len(episode_rewards) ** 0.5
        stands_still = float(self.returns[n] - self.returns[n - LOOK_BACK]) <= error
        self.cut_off += n == MOST_POLICY_STEPS and not stands_still
        return stands_still or n == MOST_POLICY_STEPS

    def restart(self) -> None:
        """The reward has changed."""
        self.seen.zero_()
        self.reward_steps += 1
