"""Names of a training's figures in TensorBoard: the papers' symbols where they have one.

GCL (arXiv 1603.00448): L_IOC, Z, w and z of section 4, the regularisers g_lcr and g_mono of section 5; its D_KL bound and
entropy H(q) of the policy step. AIRL and GAIL: D. Maximum margin and maximum entropy: the lecture's ψ, ξ and μ.
"""

from __future__ import annotations

SYMBOLS = {
    "loss": "L_IOC",
    "reward_gap": "ΔR",
    "lcr": "g_lcr",
    "mono": "g_mono",
    "log_z": "log_Z",
    "beta": "β",
    "effective_sample_size": "ESS_w",
    "tempered_effective_sample_size": "ESS_w^β",
    "max_weight": "max_w",
    "sd_reward": "sd_R(τ)",
    "sd_log_z": "sd_log_z(τ)",
    "kl": "D_KL",
    "entropy": "H(π)",
    "std": "σ",
    "reward": "R(τ)",
    "value_explained": "V_explained",
    "norm": "‖ψ‖",
    "slack_mean": "ξ_mean",
    "slack_max": "ξ_max",
    "slack_demonstrations": "n(ξ>0)",
    "feature_gap": "‖μ_E−μ_π‖",
    "log_likelihood": "log_p(τ_E)",
    "policy_kl": "D_KL",
    "accuracy_demonstrations": "P(D>½|demonstrations)",
    "accuracy_samples": "P(D<½|samples)",
}
"""Last part of a figure's name in metrics.jsonl → its symbol."""
LOSSES = {"discriminator": "L_D"}
"""What a group calls its loss, where it is another than L_IOC."""


def symbol(name: str) -> str:
    """TensorBoard's tag of the figure `name`, such as "weights/beta": the same group, the symbol where there is one."""
    group, slash, last = name.rpartition("/")
    if group == "health":  # checks of ours, which no paper names
        return name
    known = LOSSES.get(group) if last == "loss" else None
    return f"{group}{slash}{known or SYMBOLS.get(last, last)}"
