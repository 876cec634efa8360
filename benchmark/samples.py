"""How many rollouts a method needs until the policy's mean succeeds in 95 % of fresh episodes.

    python benchmark/samples.py [--task peg_insertion] [--method gcl] [--policy-step gradient] [--seeds 0 1 2]
        [--json FILE]

Learning is never told how good it is: every iteration's policy is set aside and evaluated afterwards, on episodes that
do not count, up to the first that reaches the target. The policy at the end of all rollouts is judged as well.
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
from convergence import Keeper  # noqa: E402
from demonstrations import scripted  # noqa: E402

from irl_ros.contract import Contract  # noqa: E402
from irl_ros.contract_yaml import task_demonstrations, task_training  # noqa: E402
from irl_ros.learning.config import POLICY_STEPS, TrainConfig  # noqa: E402
from irl_ros.learning.environment import EnvSpec  # noqa: E402
from irl_ros.learning.rollout import Rollouts  # noqa: E402
from irl_ros.learning.train import EVALUATION_SEED, success_figures, train  # noqa: E402


def measure(seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Success of the clone and of one training's policies, and how many rollouts the target took."""
    contract = Contract.load("", arguments.task)
    batch, options = arguments.batch, task_training(arguments.task)
    config = TrainConfig.from_dict(
        {
            **options,
            **{"method": arguments.method, "seed": seed, "workers": arguments.workers, "device": "cpu"},
            **{"batch_episodes": batch, "checkpoint_every": 1, "evaluation_episodes": arguments.episodes},
            "environment_steps": arguments.rollouts * contract.task.horizon,
            "policy_step": {**options.get("policy_step", {}), "kind": arguments.policy_step},
        }
    )
    with tempfile.TemporaryDirectory() as directory:
        keeper = Keeper(Path(directory) / "training" / "state")
        demonstrations = scripted(contract, arguments.demonstrations or task_demonstrations(arguments.task), seed)
        train(demonstrations, config, directory, keeper)
        result = json.loads((Path(directory) / "training" / "result.json").read_text())
    curve = evaluate(contract, keeper.policies, arguments)
    return {
        "seed": seed,
        "demonstrations": len(demonstrations),
        "clone": result["behaviour_cloning_success"],
        "rollouts_to_target": batch * len(curve) if curve[-1] >= arguments.target else None,
        "rollouts": batch * len(keeper.policies),
        "policy": result["policy_success"],
        "training_wall_s": result["training_wall_s"],
        "curve": curve,
    }


def evaluate(
    contract: Contract, policies: Sequence[dict[str, np.ndarray]], arguments: argparse.Namespace
) -> list[float]:
    """Success of each policy's mean on the same fresh episodes, up to the first that reaches the target."""
    seeds = range(EVALUATION_SEED, EVALUATION_SEED + arguments.episodes)
    curve: list[float] = []
    with Rollouts(EnvSpec(contract), arguments.workers) as rollouts:
        for policy in policies:
            curve.append(success_figures(rollouts.evaluate(policy, seeds))["success"])
            if curve[-1] >= arguments.target:
                break
    return curve


def table(runs: Sequence[dict[str, Any]], target: float) -> str:
    """The runs in Markdown."""
    rows = [f"| seed | clone | rollouts to {target:.0%} | success after all | rollouts |", "|---" * 5 + "|"]
    for r in runs:
        reached = r["rollouts_to_target"] or "–"
        rows.append(f"| {r['seed']} | {r['clone']:.2f} | {reached} | {r['policy']:.2f} | {r['rollouts']} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="peg_insertion", help="name or YAML file; its training options are used")
    parser.add_argument("--method", default="gcl")
    parser.add_argument("--policy-step", choices=POLICY_STEPS, default="gradient")
    parser.add_argument("--demonstrations", type=int, default=0, help="0: as the task asks")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rollouts", type=int, default=300, help="episodes in training")
    parser.add_argument("--batch", type=int, default=20, help="episodes from one policy step to the next")
    parser.add_argument("--target", type=float, default=0.95, help="success to reach")
    parser.add_argument("--episodes", type=int, default=50, help="evaluation episodes, which do not count")
    parser.add_argument("--workers", type=int, default=1, help="simulation processes; they do not change the result")
    parser.add_argument("--json", type=Path, help="write the figures there")
    arguments = parser.parse_args()
    runs = []
    for seed in arguments.seeds:
        runs.append(measure(seed, arguments))
        print(json.dumps(runs[-1]), flush=True, file=sys.stderr)
        if arguments.json:
            settings = {k: str(v) if isinstance(v, Path) else v for k, v in vars(arguments).items()}
            arguments.json.write_text(json.dumps({"settings": settings, "runs": runs}, indent=1) + "\n")
    print(table(runs, arguments.target))


if __name__ == "__main__":
    main()
