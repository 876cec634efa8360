"""Every option of learning, with its default and its reason."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass, field
from typing import Any

from irl_ros.contract import Contract, ContractError, did_you_mean
from irl_ros.contract_yaml import task_training
from irl_ros.learning.method_config import ConfigError, MaxEntConfig, MaxEntSampledConfig, MaxMarginConfig
from irl_ros.models.features import Features


METHODS = ("bc", "gcl", "gan_gcl", "airl", "gail", "maxent_sampled", "max_margin", "maxent")
POLICY_STEPS = ("gradient", "trajectory")
LOCAL, RAY = ROLLOUT_BACKENDS = ("local", "ray")
TABULAR_ONLY = ("maxent",)
"""Methods that need finitely many states with known dynamics: a task with a grid."""


@dataclass(frozen=True)
class CloneConfig:
    """Behaviour cloning: the honest baseline, the start of every other method, and the demonstrations' density."""

    steps: int = 600
    learning_rate: float = 3e-3
    weight_decay: float = 0.1
    """Decoupled. On absolute inputs an unregularised clone of five demonstrations is far worse; on inputs relative to the
    goal it makes no difference."""
    input_noise: float = 0.02
    """Standard deviation added to the scaled inputs, anew in every step. On five recorded demonstrations of reach, three
    sets: 0 gives clones of 0.48 0.62 0.64, 0.02 of 0.62 0.64 0.80, 0.1 of 0.38 0.28 0.60."""


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

    kind: str = "gradient"
    """gradient: a network, by policy gradients. trajectory: linear controllers by time step, on fitted dynamics, for
    gcl; of the options below it uses initial_std, kl_bound and entropy_weight. The start has to say enough of the rest:
    a controller knows the time since it."""
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
class TrainConfig:
    """One training run."""

    method: str = "gcl"
    seed: int = 0
    environment_steps: int = 20_000
    """Control periods sampled from the env in all."""
    batch_episodes: int = 20
    workers: int = field(default_factory=lambda: min(2, os.cpu_count() or 1))
    """Env workers; neither their number nor where they run changes the result."""
    rollout_backend: str = LOCAL
    """local: processes on this machine. ray: actors on a Ray cluster (the extra irl_ros[ray])."""
    ray_address: str = "auto"
    """auto: the cluster that RAY_ADDRESS names or that runs on this machine, else one that is started here for this
    training. local: always the latter. Else host:port of a cluster's head."""
    device: str = "auto"
    randomise: bool = False
    """Draw mass, friction, gains, sensor noise and latency from the task's ranges in every simulated episode."""
    checkpoint_every: int = 5
    """Iterations between resume states."""
    evaluation_episodes: int = 100
    held_out: int | None = None
    """Demonstrations that the reward never sees, for the over-fit gap. None: one in six, so none of five."""
    stop_when_converged: bool = False
    """End as soon as the health figures, without any true reward, say that learning has converged."""
    stop_when_unhealthy: int = 0
    """End once one warning has held for so many iterations on end; 0: never. For sweeps: a run by itself may recover."""
    clone: CloneConfig = CloneConfig()
    reward: RewardConfig = RewardConfig()
    adversarial: AdversarialConfig = AdversarialConfig()
    policy_step: PolicyStepConfig = PolicyStepConfig()
    max_margin: MaxMarginConfig = MaxMarginConfig()
    maxent: MaxEntConfig = MaxEntConfig()
    maxent_sampled: MaxEntSampledConfig = MaxEntSampledConfig()
    """On a grid; elsewhere its reward's options are those of RewardConfig."""

    def __post_init__(self) -> None:
        if self.stop_when_unhealthy < 0:
            raise ConfigError("stop_when_unhealthy must be at least 0, which is never")
        if self.environment_steps < 1 or self.batch_episodes < 2 or self.workers < 1 or self.evaluation_episodes < 1:
            raise ConfigError(
                "environment_steps, workers and evaluation_episodes must be at least 1, batch_episodes 2"
            )
        step = self.policy_step.kind
        if step not in POLICY_STEPS:
            raise ConfigError(f"unknown policy_step kind {step!r}.{did_you_mean(step, POLICY_STEPS)}")
        if step == "trajectory" and self.method != "gcl":
            raise ConfigError(f"policy_step kind trajectory serves method gcl, not {self.method}: leave it at gradient")
        if self.rollout_backend not in ROLLOUT_BACKENDS:
            raise ConfigError(
                f"unknown rollout_backend {self.rollout_backend!r}.{did_you_mean(self.rollout_backend, ROLLOUT_BACKENDS)}"
            )
        if self.device not in ("auto", "cpu", "cuda"):
            raise ConfigError(f"unknown device {self.device!r}.{did_you_mean(self.device, ('auto', 'cpu', 'cuda'))}")

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_options(cls, options: Any, task: str) -> TrainConfig:
        """What the command line or the trainer node was told, over what the file of `task` asks for; "": no task.

        `options` has method, seed, steps (0: as the task asks), workers (0: one per core), rollout_backend, ray_address,
        device, held_out (-1: one in six), stop_when_converged and randomise. Raises ConfigError, ContractError.
        """
        data = task_training(task) if task else {}
        same = ("method", "seed", "rollout_backend", "ray_address", "device", "stop_when_converged")
        data.update({name: getattr(options, name) for name in same})
        data["randomise"] = options.randomise or data.get("randomise", False)
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


_KINDS: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "bool": (bool,), "str": (str,)}


def _build(kind: type, data: dict[str, Any]) -> Any:
    if not isinstance(data, dict):
        raise ConfigError(f"{kind.__name__}: {data!r} is no mapping of options to values")
    types = {f.name: f.type for f in dataclasses.fields(kind)}
    for name, value in data.items():
        if name not in types:
            raise ConfigError(f"unknown option {name!r}.{did_you_mean(name, types)}")
        if not _fits(types[name], value):
            raise ConfigError(f"option {name}: {value!r} is not a {types[name]} (YAML takes 1e-3 for text: write 0.001)")
    return kind(**data)


def _fits(annotation: str, value: Any) -> bool:
    """Whether a value is of an option's type; a section has been built by then."""
    if value is None:
        return annotation.endswith("| None")
    if annotation.startswith("tuple"):
        return isinstance(value, (list, tuple)) and all(_fits("int", v) for v in value)
    kinds = _KINDS.get(annotation.removesuffix(" | None"))
    return kinds is None or (isinstance(value, kinds) and (isinstance(value, bool) == (kinds == (bool,))))
