"""Success against env steps and CPU time: this project's methods beside imitation 1.0.1's BC, GAIL and AIRL.

    python benchmark/learning.py [--tasks reach push panda_push] [--seeds 0 1 2] [--steps N] [--peer-steps N]
        [--counts 1 2 3 5 10 20] [--json FILE] [--peer-environment DIRECTORY]

Same env, same demonstrations, same policy inputs, same evaluation episodes: `reach` with 5 demonstrations, `push` and
panda-gym's PandaPush-v3 with 50, each for as many env steps as the task itself asks for. `--counts` draws the other
curve, success against the number of demonstrations, on reach. PandaPush needs panda-gym beside this package
(`pip install --no-deps panda-gym==3.0.7`); its success is the object's place after all 50 periods.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch

import argparse  # noqa: E402
import functools  # noqa: E402
import importlib.util  # noqa: E402
import json  # noqa: E402
import resource  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
from pathlib import Path  # noqa: E402
from statistics import median  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402
import panda_push  # noqa: E402
import peers  # noqa: E402
from convergence import Keeper  # noqa: E402
from demonstrations import demonstrate, scripted  # noqa: E402

from irl_ros.contract import Contract  # noqa: E402
from irl_ros.contract_yaml import task_training  # noqa: E402
from irl_ros.data.episode import Demonstrations  # noqa: E402
from irl_ros.learning.config import TrainConfig  # noqa: E402
from irl_ros.learning.environment import EnvSpec  # noqa: E402
from irl_ros.learning.rollout import Rollouts  # noqa: E402
from irl_ros.learning.train import EVALUATION_SEED, success_figures, train  # noqa: E402
from irl_ros.models.features import Features  # noqa: E402

OURS, PEERS = ("bc", "gcl", "airl", "gail"), ("bc", "gail", "airl")
TASKS = {"reach": 5, "push": 50, "panda_push": 50}
"""Task → number of demonstrations."""


def demonstrated(task: str, count: int, seed: int) -> Demonstrations:
    """The same for everybody."""
    if task != "panda_push":
        return scripted(Contract.load("", task), count, seed)
    if importlib.util.find_spec("panda_gym") is None:
        sys.exit("panda_push needs panda-gym: pip install --no-deps panda-gym==3.0.7")
    contract = panda_push.contract()
    return demonstrate(contract, panda_push.PushExpert(contract, np.random.default_rng(seed)), count, seed)


def training(task: str) -> dict[str, Any]:
    """The options of TrainConfig that the task asks for."""
    return dict(panda_push.TRAINING) if task == "panda_push" else task_training(task)


def env_steps(task: str, told: int | None) -> int:
    """As many as were `told`, else as the task asks for."""
    return told or TrainConfig.from_dict(training(task)).environment_steps


def ours(demonstrations: Demonstrations, task: str, method: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Success by env steps of one of this project's methods, and the CPU seconds of learning alone."""
    own = training(task) | {"method": method, "seed": seed, "workers": 1, "device": "cpu"}
    own |= {"environment_steps": env_steps(task, options.steps), "evaluation_episodes": 1, "checkpoint_every": 1}
    config = TrainConfig.from_dict(own)
    contract = demonstrations.contract
    before = cpu()
    with tempfile.TemporaryDirectory() as directory:
        keeper = Keeper(Path(directory) / "training" / "state")
        last = train(demonstrations, config, directory, keeper).checkpoint
        spent = cpu() - before
        policies = keeper.policies or [load_policy(last)]
    per_iteration = config.batch_episodes * contract.task.horizon if keeper.policies else 0
    seeds = range(EVALUATION_SEED, EVALUATION_SEED + options.episodes)
    every = max(1, options.every // max(per_iteration, 1))
    numbers = sorted({*range(every, len(policies) + 1, every), len(policies)})
    with Rollouts(EnvSpec(contract), 1) as rollouts:
        curve = {k * per_iteration: success_figures(rollouts.evaluate(policies[k - 1], seeds))["success"] for k in numbers}
    return {"curve": curve, "cpu_s": spent}


def load_policy(checkpoint: Path) -> dict[str, np.ndarray]:
    from irl_ros.checkpoint import Checkpoint

    return Checkpoint.load(checkpoint).policy_arrays


def cpu() -> float:
    """CPU seconds of this process and of its ended children."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def theirs(
    python: Path, demonstrations: Demonstrations, task: str, method: str, seed: int, options: argparse.Namespace
) -> dict[str, Any]:
    """The same of one of imitation's."""
    contract = demonstrations.contract
    features = Features(contract, contract.task.policy_inputs)
    arrays = {f"inputs_{k}": features(e.observations).astype(np.float32) for k, e in enumerate(demonstrations)}
    arrays |= {f"actions_{k}": e.actions.astype(np.float32) for k, e in enumerate(demonstrations)}
    with tempfile.TemporaryDirectory() as directory:
        data, problem = Path(directory, "demonstrations.npz"), Path(directory, "problem.json")
        np.savez(data, **arrays)
        problem.write_text(
            json.dumps(
                {
                    **{"method": method, "seed": seed, "env": contract.task.env, "contract": contract.to_dict()},
                    **{"demonstrations": str(data), "count": len(demonstrations), "bc_epochs": 60},
                    **{"steps": env_steps(task, options.peer_steps or options.steps), "every": options.every},
                    **{"episodes": options.episodes, "evaluation_seed": EVALUATION_SEED},
                }
            )
        )
        command = [python, Path(__file__).with_name("learning_peer.py"), problem]
        environment = {k: v for k, v in {**os.environ, **peers.THREADS}.items() if k != "PYTHONPATH"}
        answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return json.loads(answer.stdout.splitlines()[-1])


def row(task: str, count: int, who: str, method: str, runs: list[dict[str, Any]]) -> list[str]:
    """Of the table: last success per seed, median, worst, env steps to 0.95, CPU seconds."""
    last = [list(run["curve"].values())[-1] for run in runs]
    reached = [next((int(k) for k, s in run["curve"].items() if s >= 0.95), None) for run in runs]
    return [
        task,
        str(count),
        f"{who} {method}",
        " ".join(f"{s:.2f}" for s in last),
        f"{median(last):.2f}, {min(last):.2f}",
        " ".join("–" if k is None else str(k) for k in reached),
        f"{median(run['cpu_s'] for run in runs):.0f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, help="env steps (default: what the task's own training asks for)")
    parser.add_argument("--peer-steps", type=int, help="env steps of the peers (default: as ours)")
    parser.add_argument("--every", type=int, default=2_000, help="env steps between two evaluations")
    parser.add_argument("--episodes", type=int, default=100, help="evaluation episodes")
    parser.add_argument("--ours", nargs="*", choices=OURS, default=OURS, help="this project's methods")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=PEERS, help="imitation's methods")
    parser.add_argument("--counts", type=int, nargs="+", help="numbers of demonstrations, on reach alone")
    parser.add_argument("--json", type=Path, help="write every run's figures there")
    peers.add_argument(parser)
    options = parser.parse_args()
    python = peers.python(options.peer_environment) if options.peers else None
    problems = [("reach", n) for n in options.counts] if options.counts else [(t, TASKS[t]) for t in options.tasks]
    figures: list[dict[str, Any]] = []
    print("| task | demonstrations | method | success | median, worst | env steps to 0.95 | CPU s |\n" + "|---" * 7 + "|")
    for task, count in problems:
        demonstrations = {seed: demonstrated(task, count, seed) for seed in options.seeds}
        contestants = [("irl_ros", m) for m in options.ours] + [("imitation", m) for m in options.peers if python]
        for who, method in contestants:
            runs = []
            for seed, given in demonstrations.items():
                own = who == "irl_ros"
                compete = ours if own else functools.partial(theirs, python)
                run = compete(given, task, method, seed, options)
                runs.append({"task": task, "demonstrations": count, "who": who, "method": method, "seed": seed, **run})
            figures += runs
            print("| " + " | ".join(row(task, count, who, method, runs)) + " |", flush=True)
            if options.json:
                options.json.write_text(json.dumps(figures, indent=1) + "\n")
    if options.peers and not python:
        sys.exit(f"the peers' rows are missing: no imitation in {options.peer_environment}; why is above")


if __name__ == "__main__":
    main()
