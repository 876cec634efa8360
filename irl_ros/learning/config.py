"""Every option of learning, with its default and its reason."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass, field
from typing import Any

from irl_ros.contract import Contract, ContractError, did_you_mean
from irl_ros.contract_yaml import task_training
from irl_ros.models.features import Features


METHODS = ("bc", "gcl", "gan_gcl", "airl", "gail", "maxent_sampled", "max_margin", "maxent")
TABULAR_ONLY = ("maxent",)
"""Methods that need finitely many states with known dynamics: a task with a grid."""
MAXENT_FORMS = ("causal", "plain")
MAXENT_REWARDS = ("linear", "neural")


class ConfigError(ValueError):
    """An unknown or contradictory option; the message names the valid ones."""


@dataclass(frozen=True)
class CloneConfig:
    """Behaviour cloning: the honest baseline, the start of every other method, and the demonstrations' density."""

    steps: int = 600
    learning_rate: float = 3e-3
    weight_decay: float = 0.1
    """Decoupled; with five demonstrations the unregularised clone is far worse."""
    input_noise: float = 0.1
    """Standard deviation added to the scaled inputs, anew in every step."""


@dataclass(frozen=True)
class RewardConfig:
    """Guided cost learning's reward step (arXiv 1603.00448, algorithm 2)."""

    updates: int = 40
    learning_rate: float = 2e-3
    weight_decay: float = 0.0
    step_decay: float = 5.0
    """The k-th reward step's learning rate is learning_rate / (1 + k / step_decay): two players that both keep moving
    never settle, and a policy as good as the demonstrations drifts off again. 0: no decay."""
    background_batches: int = 20
    """Batches of past samples kept; the fusion mixture runs over just the policies that drew them."""
    minibatch: int = 80
    """Background samples drawn for each update."""
    effective_sample_size: float = 0.5
    """Weights are tempered by the largest β ≤ 1 that keeps this fraction of the background effective. 0: untempered."""
    importance_weights: bool = True
    """Ablation, False: every background trajectory weighs the same."""
    demonstrations_in_background: bool = True
    """Ablation, False: samples and their policies alone; the paper says that the loss is unbounded then."""
    lcr: float = 100.0
    """Weight of the local-constant-rate regulariser, demonstrations and samples. At 1 and below the cost saturates
    everywhere but near the demonstrations and the policy step has nothing to climb."""
    mono: float = 1000.0
    """Weight of the monotonic regulariser, demonstrations only."""
    mono_margin: float = -0.02
    """Rise of cost per step that the monotonic regulariser allows. Negative, as in the paper's text (−1, for its scale
    of cost): the cost must fall all along a demonstration. At 0 and above (the reference code has +1) the cost flattens
    out once policy and demonstrations match on average, and some goals are no longer reached."""
    bound: float = 10.0
    """Upper bound of the quadratic cost per step."""
    w_u: float = 0.05
    """Weight of the action penalty ‖u‖². At 0.01 the policy chatters about the goal, and a command that comes one
    period late costs it a third of its reaches within 2 cm."""
    constant: bool = False
    """Ablation: the reward stays as it was drawn, so that only the policy step itself could improve the policy."""


@dataclass(frozen=True)
class AdversarialConfig:
    """The discriminators of AIRL and GAIL, on single steps, and of GAN-GCL, on trajectories.

    The regularisers lcr and mono have their options in RewardConfig, as has all of GAN-GCL's cost.
    """

    updates: int = 40
    learning_rate: float = 2e-3
    weight_decay: float = 0.0
    step_decay: float = 5.0
    """As in RewardConfig."""
    background_batches: int = 5
    """Batches of past samples that the discriminator is shown."""
    minibatch: int = 40
    """Sampled trajectories drawn for each update."""
    bound: float = 10.0
    """Bound of the reward g or of GAIL's logit, per step."""
    state_only: bool = True
    """The reward sees the contract's reward features alone; False: the executed action as well."""
    temperature: float = 0.001
    """AIRL: weight α of log π in the logit f − α log π and in the policy's reward; the paper has 1. The regularisers hold
    g to a few hundredths per step; a larger α and the policy maximises its entropy alone."""
    shaping: float = 30.0
    """AIRL: weight of (γ h(x′) − h(x))², which leaves to the potential only what g cannot say. h sees all policy inputs:
    free, it tells five demonstrations from samples by itself, and g, the reward that is saved, learns nothing."""
    match_noise: bool = True
    """GAN-GCL: log π of the demonstrations' actions in expectation over the policy's own noise added to them. A person's
    hand is steadier than an exploring policy, and log π alone would call every demonstration a sample."""
    logit_spread: float = 2.0
    """GAN-GCL: trajectories' logits are tempered by the largest β ≤ 1 that keeps their standard deviation below this."""


@dataclass(frozen=True)
class PolicyStepConfig:
    """KL-bounded maximum-entropy policy step."""

    initial_std: float = 0.5
    discount: float = 0.9
    gae_lambda: float = 0.95
    kl_bound: float = 0.05
    """Mean KL(old ‖ new) [nats] of one step; exceeded, the step is shortened until it holds."""
    epochs: int = 10
    minibatch: int = 250
    learning_rate: float = 1e-3
    clip: float = 0.2
    entropy_weight: float = 0.01
    value_warmup_epochs: int = 40
    """The policy waits in the first iteration until the value function has learned the learned reward."""


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


@dataclass(frozen=True)
class TrainConfig:
    """One training run."""

    method: str = "gcl"
    seed: int = 0
    environment_steps: int = 20_000
    """Control periods sampled from the env in all."""
    batch_episodes: int = 20
    workers: int = field(default_factory=lambda: min(2, os.cpu_count() or 1))
    """Env worker processes; their number does not change the result."""
    device: str = "auto"
    checkpoint_every: int = 5
    """Iterations between resume states."""
    evaluation_episodes: int = 100
    held_out: int | None = None
    """Demonstrations that the reward never sees, for the over-fit gap. None: one in six, so none of five."""
    stop_when_converged: bool = False
    """End as soon as the health figures, without any true reward, say that learning has converged."""
    clone: CloneConfig = CloneConfig()
    reward: RewardConfig = RewardConfig()
    adversarial: AdversarialConfig = AdversarialConfig()
    policy_step: PolicyStepConfig = PolicyStepConfig()
    max_margin: MaxMarginConfig = MaxMarginConfig()
    maxent: MaxEntConfig = MaxEntConfig()
    maxent_sampled: MaxEntSampledConfig = MaxEntSampledConfig()
    """On a grid; elsewhere its reward's options are those of RewardConfig."""

    def __post_init__(self) -> None:
        if self.environment_steps < 1 or self.batch_episodes < 2 or self.workers < 1 or self.evaluation_episodes < 1:
            raise ConfigError(
                "environment_steps, workers and evaluation_episodes must be at least 1, batch_episodes 2"
            )
        if self.device not in ("auto", "cpu", "cuda"):
            raise ConfigError(f"unknown device {self.device!r}.{did_you_mean(self.device, ('auto', 'cpu', 'cuda'))}")

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_options(cls, options: Any, task: str) -> TrainConfig:
        """What the command line or the trainer node was told, over what the file of `task` asks for; "": no task.

        `options` has method, seed, steps (0: as the task asks), workers (0: one per core), device, held_out (-1: one in
        six) and stop_when_converged. Raises ConfigError, ContractError.
        """
        data = task_training(task) if task else {}
        data.update({name: getattr(options, name) for name in ("method", "seed", "device", "stop_when_converged")})
        for name, value, unsaid in (
            ("environment_steps", options.steps, 0),
            ("workers", options.workers, 0),
            ("held_out", options.held_out, -1),
        ):
            if value != unsaid:
                data[name] = value
        return cls.from_dict(data)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> TrainConfig:
        """Inverse of :meth:`to_dict`; missing options keep their defaults, unknown ones raise ConfigError."""
        parts = {
            "clone": CloneConfig,
            "reward": RewardConfig,
            "adversarial": AdversarialConfig,
            "policy_step": PolicyStepConfig,
            "max_margin": MaxMarginConfig,
            "maxent": MaxEntConfig,
            "maxent_sampled": MaxEntSampledConfig,
        }
        nested = {name: _build(kind, data[name]) for name, kind in parts.items() if name in data}
        return _build(cls, {**data, **nested})


def check_method(method: str, contract: Contract) -> None:
    """ConfigError: an unknown method, or a tabular one on a continuous task; ContractError: features that cannot be."""
    if method not in METHODS:
        raise ConfigError(f"unknown method {method!r}.{did_you_mean(method, METHODS)}")
    if method in TABULAR_ONLY and contract.task.grid is None:
        raise ConfigError(
            f"method {method} needs a task with a grid of cells, such as reach_grid; {contract.task.name} is "
            "continuous: choose another method, gcl for one"
        )
    Features(contract, contract.task.reward_features)
    for text in contract.task.policy_inputs:
        if Features(contract, (text,)).needs_transition:
            raise ContractError(
                f"task {contract.task.name}: policy input {text!r} needs the action or the next observation, which a "
                "policy cannot know; only reward features may"
            )


def _build(kind: type, data: dict[str, Any]) -> Any:
    valid = [f.name for f in dataclasses.fields(kind)]
    for name in data:
        if name not in valid:
            raise ConfigError(f"unknown option {name!r}.{did_you_mean(name, valid)}")
    return kind(**data)
