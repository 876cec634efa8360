"""The benchmarks on small problems: which figures they write, that those are right, and what they say is missing."""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import gymnasium
import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmark"

NAIVE_PEER = '''
import json, sys, time
import numpy as np
problem = np.load(sys.argv[1])
P, r, p0 = problem["transition"], problem["reward"], problem["initial"]
T, S, A = int(problem["horizon"]), *P.shape[:2]
def occupancies():
    V, policy, mu, at = np.zeros(S), np.zeros((T, S, A)), np.zeros((T, S, A)), p0
    for t in reversed(range(T)):
        Q = np.array([[r[s] + sum(P[s, a, z] * V[z] for z in range(S)) for a in range(A)] for s in range(S)])
        V = np.log(np.exp(Q).sum(1))
        policy[t] = np.exp(Q - V[:, None])
    for t in range(T):
        mu[t] = at[:, None] * policy[t]
        at = np.einsum("sa,saz->z", mu[t], P)
    return mu
for line in sys.stdin:
    seconds = []
    for _ in range(int(line)):
        start = time.perf_counter()
        mu = occupancies()
        seconds.append(time.perf_counter() - start)
    np.savez(sys.argv[2], occupancy=mu)
    print(json.dumps(seconds), flush=True)
'''
"""Speaks tabular_peer.py's protocol; maximum-entropy IRL's messages as loops over states, for want of `imitation`."""


def benchmark(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(variable, "1")  # the benchmark sets them; to be put back
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module(name)


def python_of_ours(environment: Path) -> None:
    """A peers' environment that is this one."""
    (environment / "bin").mkdir(parents=True)
    python = environment / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    (environment / "ready").touch()


@pytest.fixture
def tabular(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """benchmark/tabular.py with sizes that take no time."""
    module = benchmark("tabular", monkeypatch)
    for name, value in {"SIDE": 4, "HORIZON": 6, "ROUNDS": 2, "ITERATIONS": 2, "LARGE": (12, 10)}.items():
        monkeypatch.setattr(module, name, value)
    return module


def run(module: ModuleType, environment: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ["tabular.py", "--json", str(path), "--peer-environment", str(environment)]
    monkeypatch.setattr(sys, "argv", options)
    module.main()


def test_the_tabular_benchmark_writes_its_figures_and_agrees_with_a_naive_peer(tabular, tmp_path, monkeypatch):
    peer, environment = tmp_path / "peer.py", tmp_path / "environment"
    peer.write_text(NAIVE_PEER)
    python_of_ours(environment)
    monkeypatch.setattr(tabular, "PEER", peer)
    run(tabular, environment, tmp_path / "figures.json", monkeypatch)
    found = json.loads((tmp_path / "figures.json").read_text())
    assert found["max_occupancy_difference"] < 1e-12
    assert found["imitation_ratio"] == min(found["slippery_ratio"], found["deterministic_ratio"]) > 1
    assert found["states_100k_peak_mib"] > 10 and found["states_100k_iteration_s"] > 0


def test_without_a_peer_the_figures_that_need_it_are_missing_by_name(tabular, tmp_path, monkeypatch, capfd):
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match="imitation_ratio and max_occupancy_difference are missing: no imitation 1.0.1"):
        run(tabular, tmp_path / "file" / "environment", tmp_path / "figures.json", monkeypatch)
    written = json.loads((tmp_path / "figures.json").read_text())
    assert written["imitation_ratio"] is written["max_occupancy_difference"] is None
    assert written["states_100k_peak_mib"] > 10
    assert "imitation_ratio              missing" in capfd.readouterr().out


def test_the_ablation_table_marks_what_beats_the_whole_method(monkeypatch):
    ablation = benchmark("ablation", monkeypatch)
    rows = {"gcl": (0.9, 0.8, 3000), "no lcr": (1.0, 0.8, 4000), "no mono": (0.5, 0.2, None)}
    runs = [
        {
            "name": name,
            "seed": seed,
            "policy_success": success,
            "policy_success_2cm": near - 0.1 * seed,
            "steps_to_5cm": steps,
            "steps_to_2cm": None,
        }
        for name, (success, near, steps) in rows.items()
        for seed in (0, 1, 2)
    ]
    whole, lcr, mono = (line.split(" | ") for line in ablation.table(runs).splitlines()[2:])
    assert whole[0] == "| (whole method)" and whole[1] == "0.90 0.90 0.90" and whole[2] == "0.90, 0.90"
    assert whole[3:5] == ["0.80 0.70 0.60", "0.70, 0.60"] and whole[5:7] == ["3 3 3", "3, 3"]
    assert lcr[2] == "**1.00, 1.00**" and lcr[4] == "0.70, 0.60" and lcr[6] == "4, 4"
    assert mono[2] == "0.50, 0.50" and mono[5:7] == ["– – –", "–, –"]


@pytest.mark.parametrize("target, rollouts, judged", [("0.5", 4, 2), ("0.9", None, 3)])
def test_the_samples_benchmark_counts_rollouts_to_the_target(monkeypatch, tmp_path, capsys, target, rollouts, judged):
    """Three iterations of two rollouts whose policies succeed in 0.25, 0.5 and 0.75 of the episodes."""
    samples = benchmark("samples", monkeypatch)

    def train(demonstrations, config, directory, keeper) -> None:
        assert len(demonstrations) == 1 and config.environment_steps == 6 * 50 and config.checkpoint_every == 1
        keeper.policies += [{"success": success} for success in (0.25, 0.5, 0.75)]
        (Path(directory) / "training").mkdir()
        figures = {"behaviour_cloning_success": 0.0, "policy_success": 0.75, "training_wall_s": 1.0}
        (Path(directory) / "training" / "result.json").write_text(json.dumps(figures))

    class Rollouts(contextlib.nullcontext):
        def __init__(self, spec, workers):
            super().__init__(self)

        def evaluate(self, policy, seeds):
            return policy

    monkeypatch.setattr(samples, "train", train)
    monkeypatch.setattr(samples, "Rollouts", Rollouts)
    monkeypatch.setattr(samples, "success_figures", dict)
    options = ["--task", "reach", "--demonstrations", "1", "--seeds", "3", "--rollouts", "6", "--batch", "2"]
    path = tmp_path / "figures.json"
    monkeypatch.setattr(sys, "argv", ["samples.py", *options, "--target", target, "--json", str(path)])
    samples.main()
    (run,) = json.loads(path.read_text())["runs"]
    assert (run["rollouts_to_target"], run["rollouts"], len(run["curve"])) == (rollouts, 6, judged)
    assert f"| 3 | 0.00 | {rollouts or '–'} | 0.75 | 6 |" in capsys.readouterr().out


SLEEPING_PEER = """
import json, sys, time
for line in sys.stdin:
    time.sleep(0.01 * int(line))
    print(0.01 * int(line), flush=True)
"""
"""Speaks simulation_peer.py's protocol: a hundred env steps a second."""


def test_the_simulation_benchmark_writes_its_ratios(monkeypatch, tmp_path):
    simulation = benchmark("simulation", monkeypatch)
    (tmp_path / "peer.py").write_text(SLEEPING_PEER)
    python_of_ours(tmp_path / "environment")
    monkeypatch.setattr(simulation, "PEER", tmp_path / "peer.py")
    options = ["--rounds", "1", "--steps", "20", "--json", str(tmp_path / "figures.json")]
    monkeypatch.setattr(sys, "argv", ["simulation.py", *options, "--peer-environment", str(tmp_path / "environment")])
    simulation.main()
    found = json.loads((tmp_path / "figures.json").read_text())
    assert found["panda_gym_steps_per_s"] == pytest.approx(100)
    assert found["panda_gym_ratio"] == pytest.approx(found["ours_steps_per_s"] / 100)
    assert found["pybullet_ratio"] == pytest.approx(found["ours_steps_per_s"] / found["bare_steps_per_s"])
    assert found["same_world_ratio"] == pytest.approx(found["ours_steps_per_s"] / found["same_world_steps_per_s"])
    for key, who in (("two_worker_ratio", "ours"), ("two_process_limit", "bare")):
        two, one = (found[f"{who}_{n}_steps_per_s"] for n in ("two_processes", "one_process"))
        assert found[key] == pytest.approx(two / one)


def test_the_transfer_table_has_every_seed_and_the_median(monkeypatch):
    transfer = benchmark("transfer", monkeypatch)
    runs = [
        {"variant": variant, "seed": seed, **{column: 0.1 * seed + shift for column in transfer.COLUMNS}}
        for variant, shift in (("payload", 0.0), ("obstacle_moved", 0.5))
        for seed in (0, 1, 2)
    ]
    first, second = (line.strip("| ").split(" | ") for line in transfer.table(runs).splitlines()[2:])
    assert first[:3] == ["payload", "reach", "0.00 0.10 0.20 (0.10)"] and len(first) == 2 + len(transfer.COLUMNS)
    assert second[:3] == ["obstacle_moved", "detour", "0.50 0.60 0.70 (0.60)"]


def test_learning_counts_env_steps_to_success(monkeypatch):
    learning = benchmark("learning", monkeypatch)
    runs = [{"curve": {"1000": 0.2, "2000": s}, "cpu_s": c} for s, c in ((0.96, 10), (0.9, 30), (0.97, 20))]
    row = learning.row("reach", 5, "irl_ros", "gcl", runs)
    assert row == ["reach", "5", "irl_ros gcl", "0.96 0.90 0.97", "0.96, 0.90", "2000 – 2000", "20"]


@pytest.mark.parametrize("task, told, steps", [("push", None, 19_200), ("reach", None, 20_000), ("push", 300, 300)])
def test_learning_takes_the_env_steps_that_the_task_asks_for(monkeypatch, task, told, steps):
    assert benchmark("learning", monkeypatch).env_steps(task, told) == steps


def test_panda_push_does_not_end_with_its_success(monkeypatch):
    panda_push = benchmark("panda_push", monkeypatch)

    class Ending(gymnasium.Env):
        def step(self, action):
            near = {"achieved_goal": np.array([0.1, 0.0, 0.0]), "desired_goal": np.array([0.1, 0.04, 0.0])}
            return near, 0.0, True, True, {"is_success": True}

    _, _, terminated, truncated, info = panda_push.PlayedOn(Ending()).step(np.zeros(3))
    assert not terminated and not truncated
    assert info["is_success"] and info["distance"] == pytest.approx(0.04)


def test_panda_pushs_demonstrator_leaves_the_object_at_the_mark(monkeypatch):
    pytest.importorskip("panda_gym")
    panda_push = benchmark("panda_push", monkeypatch)
    contract = panda_push.contract()
    demonstrations = importlib.import_module("demonstrations")
    monkeypatch.setattr(demonstrations, "FAILURES", 1)  # of 20, so 0.95
    expert = panda_push.PushExpert(contract, np.random.default_rng(0))
    assert len(demonstrations.demonstrate(contract, expert, 19, 0)) == 19


def test_the_dataset_benchmark_writes_its_figures(monkeypatch, tmp_path):
    dataset = benchmark("dataset", monkeypatch)
    monkeypatch.setattr(dataset, "DISTINCT", 2)
    monkeypatch.setattr(dataset, "FAST_RATE", 200)
    monkeypatch.setattr(dataset, "BATCHES", (1, 3))
    monkeypatch.setattr(dataset, "measured", dataset._measured)  # a process each would take seconds to start
    monkeypatch.setattr("sys.argv", ["dataset.py", "--episodes", "20", "--read", "5", "--json", str(tmp_path / "f.json")])
    dataset.main()
    figures = json.loads((tmp_path / "f.json").read_text())
    # Of 20 the failures are the 10th and the 20th.
    assert (figures["episodes"], figures["listed"], figures["unusable"]) == (20, 18, 0)
    assert figures["times_real_time"] > 1 and figures["times_real_time_at_1_khz"] > 1
    assert figures["process_mib"] > 10 and {"batch_1_peak_mib", "batch_3_peak_mib"} <= figures.keys()


@pytest.mark.full
@pytest.mark.ray
def test_the_scaling_benchmark_writes_its_figures(monkeypatch, tmp_path):
    pytest.importorskip("ray")
    scaling = benchmark("scaling", monkeypatch)
    options = ["--rounds", "1", "--iterations", "2", "--batch", "2", "--json", str(tmp_path / "figures.json")]
    monkeypatch.setattr(sys, "argv", ["scaling.py", *options])
    scaling.main()
    found = json.loads((tmp_path / "figures.json").read_text())
    for way in ("local_1", "local_2", "ray_1", "ray_2", "large_batch"):
        assert found[way]["steps_per_s"] > 0 and 0 < found[way]["idle"] < 1 and found[way]["bytes_per_step"] > 100
    assert found["ray_two_worker_ratio"] == found["ray_2"]["steps_per_s"] / found["ray_1"]["steps_per_s"]
