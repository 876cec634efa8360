"""Tabular maximum-entropy IRL: time per iteration beside `imitation`'s MCE IRL, and memory at 100,000 states.

    python benchmark/tabular.py [--json FILE] [--peer-environment DIRECTORY]

One iteration is a backward and a forward pass under a new reward: 400 states, horizon 40, 4 actions, float64, one
thread on either side. The two take turns, so that a busy machine slows both; the ratio is that of the medians, and of
two gridworlds, one slippery and one not, the smaller counts. `imitation` lives in a virtual environment of its own,
made when it is missing; where it cannot be made, the figures that need it are null and the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import peers

os.environ.update(peers.THREADS)  # before numpy

import numpy as np  # noqa: E402
from scipy import sparse  # noqa: E402

from irl_ros.learning.maxent import MaxEntConfig, learn, posterior  # noqa: E402
from irl_ros.learning.tabular import MDP, sample, soft_backward, soft_forward  # noqa: E402

PEER = "tabular_peer.py"
SIDE, HORIZON, SLIP = 20, 40, 0.2
ROUNDS, ITERATIONS = 9, 10
LARGE = (400, 250)
MOVES = ((1, 0), (-1, 0), (0, 1), (0, -1))


def grid(width: int, height: int, horizon: int, slip: float) -> MDP:
    """Cells and four moves that stop at the border; with probability `slip` a move is a random one."""
    cells = np.stack(np.divmod(np.arange(width * height), height), 1)
    arrived = np.clip(cells[:, None] + np.array(MOVES), 0, [width - 1, height - 1])
    following = arrived @ [height, 1]
    initial = np.full(len(cells), 1 / len(cells))
    if not slip:
        return MDP.from_next_state(following, initial, horizon)
    columns = np.concatenate([following[..., None], np.repeat(following[:, None], 4, axis=1)], -1).ravel()
    chances = np.tile([1 - slip, *[slip / 4] * 4], following.size)
    rows = np.repeat(np.arange(following.size), 5)
    return MDP(sparse.csr_array((chances, (rows, columns)), (following.size, len(cells))), initial, horizon)


def own_seconds(mdp: MDP, reward: np.ndarray, iterations: int) -> list[float]:
    seconds = []
    for _ in range(iterations):
        start = time.perf_counter()
        posterior(mdp, reward)
        seconds.append(time.perf_counter() - start)
    return seconds


def compare(python: Path, slip: float) -> dict[str, float]:
    """Milliseconds per iteration on either side, their ratio, the largest difference of occupancies."""
    mdp = grid(SIDE, SIDE, HORIZON, slip)
    reward = np.random.default_rng(0).normal(size=mdp.n_states)  # the peer's rewards are of states
    table = np.repeat(reward[:, None], mdp.n_actions, axis=1)
    with tempfile.TemporaryDirectory() as directory:
        problem, answer = Path(directory, "problem.npz"), Path(directory, "answer.npz")
        dense = mdp.transition.toarray().reshape(mdp.n_states, mdp.n_actions, mdp.n_states)
        np.savez(problem, transition=dense, reward=reward, initial=mdp.initial, horizon=HORIZON)
        peer, ours, theirs = peers.Peer(python, PEER, problem, answer), [], []
        try:
            peer.ask(1), own_seconds(mdp, table, 1)  # both warm
            for _ in range(ROUNDS):
                ours += own_seconds(mdp, table, ITERATIONS)
                theirs += peer.ask(ITERATIONS)
        finally:
            peer.close()
        occupancy = np.load(answer)["occupancy"]
    mu = soft_forward(mdp, soft_backward(mdp, table)[1])
    own_ms, peer_ms = 1e3 * statistics.median(ours), 1e3 * statistics.median(theirs)
    difference = float(np.abs(mu - occupancy).max())
    return {"own_ms": own_ms, "peer_ms": peer_ms, "ratio": peer_ms / own_ms, "difference": difference}


def large(width: int, height: int) -> dict[str, float]:
    """Learn on a large grid for a few iterations; the peak is that of this whole process."""
    mdp = grid(width, height, HORIZON, SLIP)
    generator = np.random.default_rng(0)
    features = np.repeat(generator.normal(size=(mdp.n_states, 1, 8)), mdp.n_actions, axis=1)
    uniform = np.full((HORIZON, mdp.n_states, mdp.n_actions), 1 / mdp.n_actions)
    demonstrations = sample(mdp, uniform, 20, generator)
    del uniform
    start = time.perf_counter()
    result = learn(mdp, features, demonstrations, MaxEntConfig(iterations=3))
    seconds = (time.perf_counter() - start) / result.metrics["maxent/iterations"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"states": mdp.n_states, "peak_mib": peak, "iteration_s": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    peers.add_argument(parser)
    parser.add_argument("--only-large", type=int, nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only_large:
        print(json.dumps(large(*arguments.only_large)))
        return
    python = peers.python(arguments.peer_environment)
    cases = {"slippery": compare(python, SLIP), "deterministic": compare(python, 0.0)} if python else {}
    command = [sys.executable, __file__, "--only-large", *map(str, LARGE)]
    alone = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    figures = {
        "imitation_ratio": min((case["ratio"] for case in cases.values()), default=None),
        "max_occupancy_difference": max((case["difference"] for case in cases.values()), default=None),
        **{f"states_100k_{name}": value for name, value in json.loads(alone.stdout).items() if name != "states"},
        **{f"{name}_{key}": value for name, case in cases.items() for key, value in case.items()},
    }
    for name, value in figures.items():
        print(f"{name:28} {'missing' if value is None else format(value, '.4g')}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")
    if not python:
        sys.exit(
            f"imitation_ratio and max_occupancy_difference are missing: no imitation 1.0.1 in "
            f"{arguments.peer_environment}, and it could not be made there (why is above)"
        )


if __name__ == "__main__":
    main()
