"""What each part of guided cost learning is worth: success on `reach` without it, per seed, median and worst.

    python benchmark/ablation.py [--seeds 0 1 2] [--steps 20000] [--only NAME …] [--json FILE]

Success is that of the policy's mean over fresh evaluation episodes after the last step, within 5 cm and within 2 cm of
the goal. An ablation that beats the whole method is marked.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch

import argparse  # noqa: E402
import dataclasses  # noqa: E402
import json  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
from pathlib import Path  # noqa: E402
from statistics import median  # noqa: E402
from typing import Any  # noqa: E402

from demonstrations import scripted  # noqa: E402

from irl_ros.contract import Contract  # noqa: E402
from irl_ros.learning.config import RewardConfig, TrainConfig  # noqa: E402
from irl_ros.learning.train import train  # noqa: E402

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
FIGURES = {"policy_success": "5 cm", "policy_success_2cm": "2 cm"}


def measure(name: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Figures of one training."""
    contract = Contract.load(arguments.robot, "reach")
    config = TrainConfig(
        seed=seed,
        environment_steps=arguments.steps,
        workers=arguments.workers,
        evaluation_episodes=arguments.episodes,
        device="cpu",
        reward=dataclasses.replace(RewardConfig(), **ABLATIONS[name]),
    )
    with tempfile.TemporaryDirectory() as directory:
        figures = train(scripted(contract, arguments.demonstrations, seed), config, directory).figures
    findings = [row["finding"]["name"] for row in figures["health"] if row["finding"] and row["finding"]["active"]]
    shown = ("behaviour_cloning_success", *FIGURES, "environment_steps", "training_wall_s")
    return {"name": name, "seed": seed, **{key: figures[key] for key in shown}, "findings": findings}


def table(runs: list[dict[str, Any]]) -> str:
    """One Markdown row per ablation and figure: each seed, median, worst."""
    seeds = sorted({run["seed"] for run in runs})
    head = ["without", "within", *(f"seed {s}" for s in seeds), "median", "worst"]
    rows = [head, ["---"] * len(head)]
    medians = {
        (run["name"], key): median([r[key] for r in runs if r["name"] == run["name"]])
        for run in runs
        for key in FIGURES
    }
    for name in dict.fromkeys(run["name"] for run in runs):
        for key, within in FIGURES.items():
            values = {run["seed"]: run[key] for run in runs if run["name"] == name}
            wins = name != WHOLE and medians[name, key] > medians.get((WHOLE, key), 1.0)
            label = "(whole method)" if name == WHOLE else f"{name}{' **(better)**' if wins else ''}"
            cells = [f"{values[s]:.2f}" if s in values else "" for s in seeds]
            rows.append([label, within, *cells, f"{medians[name, key]:.2f}", f"{min(values.values()):.2f}"])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


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
    runs: list[dict[str, Any]] = []
    for name in arguments.only:
        for seed in arguments.seeds:
            runs.append(measure(name, seed, arguments))
            print(json.dumps(runs[-1]), file=sys.stderr, flush=True)
            if arguments.json:
                arguments.json.write_text(json.dumps({"steps": arguments.steps, "runs": runs}, indent=1) + "\n")
    print(table(runs))


if __name__ == "__main__":
    main()
