"""What each part of guided cost learning is worth: success on `reach` without it, per seed, median and worst.

    python benchmark/ablation.py [--seeds 0 1 2] [--steps 20000] [--only NAME …] [--json FILE]

Success is that of the policy's mean over fresh evaluation episodes after the last step, within 5 cm and within 2 cm of
the goal. The speed is the first number of env steps, in thousands, after which the policy succeeds in 95 % of 50
episodes; learning is not told, every iteration's policy is set aside and evaluated afterwards. An ablation that beats
the whole method is marked.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch

import argparse  # noqa: E402
import dataclasses  # noqa: E402
import math  # noqa: E402
import tempfile  # noqa: E402
from collections.abc import Mapping, Sequence  # noqa: E402
from pathlib import Path  # noqa: E402
from statistics import median  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402
from convergence import Keeper  # noqa: E402
from demonstrations import scripted  # noqa: E402
from sweep import sweep  # noqa: E402

from irl_ros.contract import Contract  # noqa: E402
from irl_ros.learning.config import RewardConfig, TrainConfig  # noqa: E402
from irl_ros.learning.environment import EnvSpec  # noqa: E402
from irl_ros.learning.rollout import Rollouts  # noqa: E402
from irl_ros.learning.train import EVALUATION_SEED, success_figures, train  # noqa: E402

WHOLE = "gcl"
ABLATIONS = {
    WHOLE: {},
    "no importance weights": {"importance_weights": False},
    "no lcr": {"lcr": 0.0},
    "no mono": {"mono": 0.0},
    "no demonstrations in the background": {"demonstrations_in_background": False},
    "untempered": {"effective_sample_size": 0.0},
    "reward not learned": {"constant": True},
}
"""What is left out → the options of RewardConfig that say so. The last is the control: the policy step alone."""
SPEEDS = {"steps_to_5cm": "success", "steps_to_2cm": "success_2cm"}
REACHED, SPEED_EPISODES = 0.95, 50
FIGURES = {
    "policy_success": ("within 5 cm", 1),
    "policy_success_2cm": ("within 2 cm", 1),
    "steps_to_5cm": ("thousand steps to 95 % within 5 cm", -1),
    "steps_to_2cm": ("within 2 cm", -1),
}
"""Each figure's heading, and +1 where more is better."""


def measure(name: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Figures of one training."""
    contract = Contract.load(arguments.robot, "reach")
    config = TrainConfig(
        seed=seed,
        environment_steps=arguments.steps,
        workers=arguments.workers,
        evaluation_episodes=arguments.episodes,
        device="cpu",
        checkpoint_every=1,
        reward=dataclasses.replace(RewardConfig(), **ABLATIONS[name]),
    )
    with tempfile.TemporaryDirectory() as directory:
        keeper = Keeper(Path(directory) / "training" / "state")
        figures = train(scripted(contract, arguments.demonstrations, seed), config, directory, keeper).figures
    speed = first_reached(contract, keeper.policies, figures["environment_steps"], arguments.workers)
    findings = [row["finding"]["name"] for row in figures["health"] if row["finding"] and row["finding"]["active"]]
    kept = ("behaviour_cloning_success", "policy_success", "policy_success_2cm", "environment_steps", "training_wall_s")
    return {"name": name, "seed": seed, **{key: figures[key] for key in kept}, **speed, "findings": findings}


def first_reached(
    contract: Contract, policies: Sequence[Mapping[str, np.ndarray]], steps: int, workers: int
) -> dict[str, int | None]:
    """The env steps after which a policy first succeeds in REACHED of the episodes, per figure; None: never."""
    first: dict[str, int | None] = dict.fromkeys(SPEEDS)
    seeds = range(EVALUATION_SEED, EVALUATION_SEED + SPEED_EPISODES)
    with Rollouts(EnvSpec(contract), workers) as rollouts:
        for k, policy in enumerate(policies, 1):
            success = success_figures(rollouts.evaluate(policy, seeds))
            for name, figure in SPEEDS.items():
                if first[name] is None and success[figure] >= REACHED:
                    first[name] = k * steps // len(policies)
            if None not in first.values():
                break
    return first


def table(runs: list[dict[str, Any]]) -> str:
    """One Markdown row per ablation; every figure has its seeds, then median and worst, bold where the median wins."""
    whole = [run for run in runs if run["name"] == WHOLE]
    rows = [["without"] + [cell for title, _ in FIGURES.values() for cell in (title, "median, worst")]]
    rows.append(["---"] * len(rows[0]))
    for name in dict.fromkeys(run["name"] for run in runs):
        row, mine = ["(whole method)" if name == WHOLE else name], [run for run in runs if run["name"] == name]
        for key, (_, sign) in FIGURES.items():
            middle, wins = middling(mine, key), whole and sign * middling(mine, key) > sign * middling(whole, key)
            both = f"{shown(key, middle)}, {shown(key, sign * min(sign * value(run, key) for run in mine))}"
            row += [" ".join(shown(key, value(run, key)) for run in mine), f"**{both}**" if wins else both]
        rows.append(row)
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def value(run: dict[str, Any], key: str) -> float:
    """A run's figure; never reached is infinitely late."""
    return math.inf if run[key] is None else run[key]


def middling(runs: list[dict[str, Any]], key: str) -> float:
    return median(value(run, key) for run in runs)


def shown(key: str, number: float) -> str:
    """Steps in thousands."""
    if key not in SPEEDS:
        return f"{number:.2f}"
    return "–" if math.isinf(number) else f"{number / 1000:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=TrainConfig.environment_steps, help="control periods in training")
    parser.add_argument("--episodes", type=int, default=100, help="evaluation episodes")
    parser.add_argument("--demonstrations", type=int, default=5)
    parser.add_argument("--robot", default="panda")
    parser.add_argument("--workers", type=int, default=1, help="simulation processes; they do not change the result")
    parser.add_argument("--only", nargs="+", choices=ABLATIONS, default=list(ABLATIONS), metavar="NAME")
    parser.add_argument("--json", type=Path, help="write every run's figures there")
    arguments = parser.parse_args()
    print(table(sweep(measure, arguments.only, arguments)))


if __name__ == "__main__":
    main()
