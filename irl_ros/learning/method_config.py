"""Options of the methods that have sections of their own in :class:`irl_ros.learning.config.TrainConfig`."""

from __future__ import annotations

from dataclasses import dataclass

from irl_ros.contract import did_you_mean

MAXENT_FORMS = ("causal", "plain")
MAXENT_REWARDS = ("linear", "neural")


class ConfigError(ValueError):
    """An unknown or contradictory option; the message names the valid ones."""


@dataclass(frozen=True)
class MaxMarginConfig:
    """Maximum-margin feature matching, on a grid and elsewhere."""

    slack: float | None = 1.0
    """C, the price of slack per demonstration; None: the hard margin, where no demonstration may be wrong. Counts
    against ½‖ψ‖², so it belongs to features of about unit size."""
    set_aside: bool = True
    """Leave out demonstrations with ξ_i > 1; False: Ratliff's hinge for all. Needs slack."""
    tolerance: float = 1e-4
    """ε: constraints may be violated by this much, of distances in [0, 1]; the matching ends below it too."""
    rounds: int = 200
    """Most rounds of constraint generation: N + 1 value iterations and one quadratic program each."""
    matching_rounds: int = 100
    """Most policies that the mixture tries, the margin's own aside."""
    policy_steps: int = 2
    """Without a grid: policy steps, of a batch of episodes each, from one constraint to the next."""

    def __post_init__(self) -> None:
        if self.slack is not None and not self.slack > 0:
            raise ConfigError(f"slack must be positive, or None for the hard margin; got {self.slack}")
        if not self.tolerance > 0 or min(self.rounds, self.matching_rounds, self.policy_steps) < 1:
            raise ConfigError("tolerance must be positive; rounds, matching_rounds and policy_steps at least 1")


@dataclass(frozen=True)
class MaxEntConfig:
    """Options of tabular maximum-entropy IRL."""

    reward: str = "linear"
    """linear: r = ψᵀφ(s, a). neural: a small tanh network over φ(s, a)."""
    form: str = "causal"
    """causal: right for every dynamics. plain: Ziebart 2008, for deterministic ones."""
    optimistic: bool = False
    """Run the plain form on stochastic dynamics all the same: a policy that counts on being lucky."""
    iterations: int = 300
    tolerance: float = 1e-6
    """Learning ends when no element of L's gradient is larger."""
    regularisation: float = 1e-4
    """w of −½ w ‖ψ‖², ψ all parameters. The policy's features may miss the demonstrations' by wψ: what these never do
    must cost enough to outweigh what no demonstration was tempted by."""
    hidden: tuple[int, ...] = (32, 32)
    learning_rate: float = 1e-2
    """Adam's, for the neural reward."""

    def __post_init__(self) -> None:
        for value, valid in ((self.form, MAXENT_FORMS), (self.reward, MAXENT_REWARDS)):
            if value not in valid:
                raise ConfigError(f"unknown option {value!r}.{did_you_mean(value, valid)}")
        object.__setattr__(self, "hidden", tuple(self.hidden))  # JSON knows lists alone
        if self.iterations < 1 or self.tolerance < 0 or self.regularisation < 0 or self.learning_rate <= 0:
            raise ConfigError(
                "iterations must be at least 1, tolerance and regularisation not negative, learning_rate positive"
            )


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
