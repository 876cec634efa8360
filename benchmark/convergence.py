"""Where training would end by itself, and how good the policy is there beside the best of the whole training.

    python benchmark/convergence.py [--seeds 0 1 2] [--steps 30000] [--every 2] [--flat-reward] [--json FILE]

Learning is never told how good it is: every iteration's policy is set aside and evaluated afterwards. `--flat-reward`
trains with a monotonic margin of 0 and undiminished reward steps, a recipe whose policy is known to drift off.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch

import argparse  # noqa: E402
import json  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
from collections.abc import Sequence  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402
from demonstrations import scripted  # noqa: E402

from irl_ros.checkpoint import load_groups  # noqa: E402
from irl_ros.contract import Contract  # noqa: E402
from irl_ros.learning.config import RewardConfig, TrainConfig  # noqa: E402
from irl_ros.learning.diagnostics import Finding  # noqa: E402
from irl_ros.learning.environment import EnvSpec  # noqa: E402
from irl_ros.learning.observer import SilentObserver  # noqa: E402
from irl_ros.learning.resume import KIND  # noqa: E402
from irl_ros.learning.rollout import Rollouts  # noqa: E402
from irl_ros.learning.train import EVALUATION_SEED, success_figures, train  # noqa: E402

FLAT = RewardConfig(mono=100.0, mono_margin=0.0, step_decay=0.0)


class Keeper(SilentObserver):
    """Keeps every iteration's policy, when learning would first have ended, and when the policy was said to drift."""

    def __init__(self, state: Path):
        self._state = state
        self.policies: list[dict[str, np.ndarray]] = []
        self.converged: int | None = None
        self.drifts: int | None = None

    def on_progress(self, done: int, metrics: dict[str, float]) -> None:
        if metrics:
            self.policies.append(load_groups(self._state, KIND, ("network_policy",))[0]["network_policy"])

    def on_health(self, findings: Sequence[Finding], converged: bool) -> None:
        iteration = len(self.policies)
        if converged and self.converged is None:
            self.converged = iteration
        if self.drifts is None and any(f.active and f.figure == "health/end_drift" for f in findings):
            self.drifts = iteration


def measure(seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Success of every policy of one training, and the iteration it would have stopped after."""
    contract = Contract.load("panda", "reach")
    config = TrainConfig(
        seed=seed,
        environment_steps=arguments.steps,
        workers=arguments.workers,
        evaluation_episodes=1,
        device="cpu",
        checkpoint_every=1,
        reward=FLAT if arguments.flat_reward else RewardConfig(),
    )
    with tempfile.TemporaryDirectory() as directory:
        keeper = Keeper(Path(directory) / "training" / "state")
        train(scripted(contract, 5, seed), config, directory, keeper)
    chosen = keeper.converged or len(keeper.policies)
    success = evaluate(contract, keeper.policies, chosen, arguments)
    at, best = success[chosen], max(s["success"] for s in success.values())
    return {
        "seed": seed,
        "converged_after": keeper.converged,
        "drift_found_after": keeper.drifts,
        "success": at["success"],
        "best_success": best,
        "last_success": success[max(success)]["success"],
        "success_2cm": at["success_2cm"],
        "best_success_2cm": max(s["success_2cm"] for s in success.values()),
        "curve": {str(k): s["success"] for k, s in success.items()},
    }


def evaluate(
    contract: Contract, policies: Sequence[dict[str, np.ndarray]], chosen: int, arguments: argparse.Namespace
) -> dict[int, dict[str, float | None]]:
    """Success figures by iteration: of the chosen one, the last one and every so many."""
    numbers = sorted({chosen, len(policies), *range(arguments.every, len(policies) + 1, arguments.every)})
    seeds = range(EVALUATION_SEED, EVALUATION_SEED + arguments.episodes)
    with Rollouts(EnvSpec(contract), arguments.workers) as rollouts:
        return {k: success_figures(rollouts.evaluate(policies[k - 1], seeds)) for k in numbers}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=30_000, help="control periods in training")
    parser.add_argument("--every", type=int, default=2, help="evaluate every so many iterations")
    parser.add_argument("--episodes", type=int, default=100, help="evaluation episodes")
    parser.add_argument("--workers", type=int, default=1, help="simulation processes; they do not change the result")
    parser.add_argument("--flat-reward", action="store_true", help="the recipe that is known to drift off")
    parser.add_argument("--json", type=Path, help="write the figures there")
    arguments = parser.parse_args()
    runs = []
    for seed in arguments.seeds:
        runs.append(measure(seed, arguments))
        print(json.dumps(runs[-1]), flush=True, file=sys.stderr)
        if arguments.json:
            arguments.json.write_text(json.dumps({"steps": arguments.steps, "runs": runs}, indent=1) + "\n")
    print("| seed | converged after | success there | best | at the end | drift found after |\n" + "|---" * 6 + "|")
    for r in runs:
        end = f"{r['success']:.2f} | {r['best_success']:.2f} | {r['last_success']:.2f} | {r['drift_found_after'] or '–'}"
        print(f"| {r['seed']} | {r['converged_after'] or '–'} | {end} |")


if __name__ == "__main__":
    main()
