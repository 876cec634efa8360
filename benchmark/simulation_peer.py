"""panda-gym's PandaReach, stepped for simulation.py and run by the Python of the peers' environment.

    python simulation_peer.py PHYSICS_STEPS TIME_STEP

With that many physics steps of that length [s] per action. Reads numbers of env steps from stdin, one a line, and
answers each with the seconds of CPU time they took.
"""

import os
import sys
import time

import gymnasium
import numpy as np
import panda_gym  # noqa: F401  registers the env


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # PyBullet prints its arguments
    env = gymnasium.make("PandaReach-v3", control_type="joints")
    simulation = env.unwrapped.sim
    simulation.n_substeps, simulation.timestep = int(sys.argv[1]), float(sys.argv[2])
    simulation.physics_client.setTimeStep(simulation.timestep)
    actions = np.random.default_rng(0).uniform(-1, 1, (50, *env.action_space.shape)).astype(np.float32)
    for line in sys.stdin:
        start = time.process_time()
        for k in range(int(line)):
            if k % 50 == 0:
                env.reset(seed=k)
            env.step(actions[k % 50])
        print(time.process_time() - start, file=answers, flush=True)


if __name__ == "__main__":
    main()
