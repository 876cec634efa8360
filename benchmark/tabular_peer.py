"""imitation's MCE IRL, timed for tabular.py and run by the Python of its own virtual environment.

    python tabular_peer.py PROBLEM.npz ANSWER.npz

Reads numbers of iterations from stdin, one a line, answers each with the seconds of every iteration as a JSON list,
and writes the occupancies (T, S, A) of the first to ANSWER.npz.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
from imitation.algorithms.mce_irl import mce_occupancy_measures, mce_partition_fh
from seals.base_envs import TabularModelMDP


def main() -> None:
    problem, answer = np.load(sys.argv[1]), Path(sys.argv[2])
    reward = problem["reward"]
    env = TabularModelMDP(
        transition_matrix=problem["transition"],
        reward_matrix=reward,
        horizon=int(problem["horizon"]),
        initial_state_dist=problem["initial"],
    )
    for line in sys.stdin:
        seconds = []
        for _ in range(int(line)):
            start = time.perf_counter()
            _, _, policy = mce_partition_fh(env, reward=reward)
            states, _ = mce_occupancy_measures(env, reward=reward, pi=policy)
            seconds.append(time.perf_counter() - start)
        if not answer.exists():
            np.savez(answer, occupancy=states[:-1, :, None] * policy)
        print(json.dumps(seconds), flush=True)


if __name__ == "__main__":
    main()
