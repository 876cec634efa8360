"""What a learned reward is worth in a changed world, beside policies as they are and the true reward.

    python benchmark/transfer.py [--seeds 0 1 2] [--variants NAME …] [--steps 20000] [--out DIRECTORY] [--json FILE]

For each seed, bc, gail, gcl and airl (state-only) learn from the same demonstrations in the world of the task. Then the
world changes (`joint_locked`, `payload`, `obstacle_moved`: detour; `other_arm`: from the Panda to the iiwa). The
policies of bc and gail are driven as they are; the rewards of gcl and airl are frozen and a policy is optimised on each
of them from that checkpoint's own, and so it is on the env's true reward, from gcl's policy. Trainings that `--out` has
already are not repeated.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch

import argparse  # noqa: E402
import dataclasses  # noqa: E402
from pathlib import Path  # noqa: E402
from statistics import median  # noqa: E402
from typing import Any  # noqa: E402

from demonstrations import scripted  # noqa: E402
from sweep import sweep  # noqa: E402

from irl_ros.checkpoint import Checkpoint  # noqa: E402
from irl_ros.contract import Contract, load_robot  # noqa: E402
from irl_ros.contract_yaml import task_demonstrations, task_training  # noqa: E402
from irl_ros.learning.config import TrainConfig  # noqa: E402
from irl_ros.learning.rollout import Rollouts  # noqa: E402
from irl_ros.learning.train import EVALUATION_SEED, success_figures, train  # noqa: E402
from irl_ros.learning.transfer import ChangedWorld, transfer  # noqa: E402

VARIANTS = {"joint_locked": "reach", "payload": "reach", "obstacle_moved": "detour", "other_arm": "reach"}
"""Variant → the task that it changes."""
AS_IS, REOPTIMISED = ("bc", "gail"), ("gcl", "airl")
COLUMNS = ("bc as is", "gail as is", "gcl re-optimised", "airl re-optimised", "true reward")


def world(task: str, variant: str) -> ChangedWorld:
    """Where the reward is to prove itself."""
    contract = Contract.load("", task)
    if variant == "other_arm":
        return ChangedWorld(dataclasses.replace(contract, robot=load_robot("iiwa")))
    return ChangedWorld(contract, variant)


def checkpoint(task: str, method: str, seed: int, arguments: argparse.Namespace) -> Checkpoint:
    """Of a training in the unchanged world; read where it has been made before."""
    directory = arguments.out / f"{task}_{method}_{seed}"
    if not (directory / "checkpoint" / "manifest.json").exists():
        contract = Contract.load("", task)
        config = TrainConfig.from_dict(
            {**task_training(task), "method": method, "seed": seed, "workers": arguments.workers, "device": "cpu"}
        )
        train(scripted(contract, task_demonstrations(task), seed), config, directory)
    return Checkpoint.load(directory / "checkpoint")


def driven(found: Checkpoint, changed: ChangedWorld, arguments: argparse.Namespace) -> float:
    """Success of a policy as it is."""
    seeds = [EVALUATION_SEED + k for k in range(arguments.episodes)]
    with Rollouts(changed.spec(), arguments.workers) as rollouts:
        return success_figures(rollouts.evaluate(found.policy_arrays, seeds))["success"]


def measure(variant: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """One row of the table for one seed."""
    task = VARIANTS[variant]
    changed, figures = world(task, variant), {}
    for method in AS_IS:
        figures[f"{method} as is"] = driven(checkpoint(task, method, seed, arguments), changed, arguments)
    options = {"seed": seed, "workers": arguments.workers, "environment_steps": arguments.steps}
    config = TrainConfig(**options, evaluation_episodes=arguments.episodes, device="cpu")
    for name, method, true in (*((f"{m} re-optimised", m, False) for m in REOPTIMISED), ("true reward", "gcl", True)):
        found = checkpoint(task, method, seed, arguments)
        directory = arguments.out / f"{variant}_{name.replace(' ', '_')}_{seed}"
        result = transfer(found, changed, config, directory, true).figures
        figures[name] = result["policy_success"]
        figures[f"{method} as is"] = result["policy_as_is_success"]
    return {"variant": variant, "task": task, "seed": seed, **figures}


def table(runs: list[dict[str, Any]]) -> str:
    """A Markdown row per variant: in each column every seed, then the median."""
    seeds = sorted({run["seed"] for run in runs})
    rows = [["variant", "task", *COLUMNS], ["---"] * (2 + len(COLUMNS))]
    for variant in dict.fromkeys(run["variant"] for run in runs):
        some = sorted((run for run in runs if run["variant"] == variant), key=lambda run: seeds.index(run["seed"]))
        cells = [" ".join(f"{r[c]:.2f}" for r in some) + f" ({median(r[c] for r in some):.2f})" for c in COLUMNS]
        rows.append([variant, VARIANTS[variant], *cells])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), metavar="NAME")
    parser.add_argument("--steps", type=int, default=TrainConfig.environment_steps, help="of each transfer")
    parser.add_argument("--episodes", type=int, default=100, help="evaluation episodes")
    parser.add_argument("--workers", type=int, default=1, help="simulation processes; they do not change the result")
    parser.add_argument("--out", type=Path, default=Path("runs/transfer"), help="trainings are written here")
    parser.add_argument("--json", type=Path, help="write every run's figures there")
    arguments = parser.parse_args()
    print(table(sweep(measure, arguments.variants, arguments)))


if __name__ == "__main__":
    main()
