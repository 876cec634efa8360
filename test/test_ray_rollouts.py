"""Rollouts by Ray's actors on a real cluster of two nodes: the same episodes as local ones, whatever dies meanwhile."""

from __future__ import annotations

import dataclasses
import functools
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import expert_demonstrations
import pytest
import ray_rig  # before Ray
import torch

ray = pytest.importorskip("ray")

from irl_ros.contract import Contract, ContractError  # noqa: E402
from irl_ros.learning import ray_cluster
from irl_ros.learning.batch import Featurizer  # noqa: E402
from irl_ros.learning.config import ConfigError, TrainConfig  # noqa: E402
from irl_ros.learning.environment import EnvSpec, env_contract  # noqa: E402
from irl_ros.learning.observer import SilentObserver  # noqa: E402
from irl_ros.learning.rollout import Rollouts, Trajectory, open_rollouts  # noqa: E402
from irl_ros.learning.train import train  # noqa: E402
from irl_ros.models.policies import GaussianPolicy  # noqa: E402

pytestmark = pytest.mark.ray

REACH = Contract.load("panda", "reach")
SHORT = dataclasses.replace(REACH, task=dataclasses.replace(REACH.task, horizon=8))
SEEDS = range(60)
"""Enough for a worker to die in the middle."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[ray_rig.Cluster]:
    """One node beside the head's; a test that kills nodes adds its own."""
    with ray_rig.cluster() as made:
        made.add()
        yield made


def on(cluster: ray_rig.Cluster, workers: int = 2) -> TrainConfig:
    return TrainConfig(rollout_backend="ray", ray_address=cluster.address, workers=workers)


@functools.cache  # torch's last bits depend on its number of threads, which a training changes
def arrays(contract: Contract) -> dict:
    n_inputs = Featurizer(contract, torch.device("cpu")).n_inputs
    return GaussianPolicy(n_inputs, contract.action_size, torch.Generator().manual_seed(0)).arrays()


def equal(some: list[Trajectory], others: list[Trajectory]) -> bool:
    pairs = [(x, y) for one, other in zip(some, others, strict=True) for x, y in zip(one, other)]
    return all((x == y).all() if hasattr(x, "all") else x == y for x, y in pairs)


@pytest.fixture(scope="module")
def local() -> list[Trajectory]:
    with Rollouts(EnvSpec(SHORT), 1) as rollouts:
        return rollouts.sample(arrays(SHORT), SEEDS)


def test_actors_draw_the_very_episodes_of_local_workers(cluster: ray_rig.Cluster, local: list[Trajectory]):
    policy = arrays(SHORT)
    with Rollouts(EnvSpec(SHORT), 2) as two, open_rollouts(EnvSpec(SHORT), on(cluster)) as actors:
        assert equal(local, two.sample(policy, SEEDS)) and equal(local, actors.sample(policy, SEEDS))
        assert two.evaluate(policy, range(5)) == actors.evaluate(policy, range(5))
    assert not ray.is_initialized()


def pids(rollouts: Rollouts) -> list[int]:
    """Of the actors that have started."""
    return [int(re.search(r"\d+", member.where)[0]) for member in rollouts._pool._members if member.where]


@pytest.mark.parametrize("what", ["worker", "node"])
def test_what_dies_in_the_middle_is_named_and_no_episode_is_lost_or_doubled(
    cluster: ray_rig.Cluster, local: list[Trajectory], what: str, caplog: pytest.LogCaptureFixture
):
    node, policy = cluster.add(), arrays(SHORT)
    try:
        with open_rollouts(EnvSpec(SHORT), on(cluster, workers=3)) as rollouts:
            end = time.monotonic() + 60
            while len(pids(rollouts)) < 3:
                assert time.monotonic() < end, "the workers do not start"
                rollouts.sample(policy, range(4))
            kill = node.kill if what == "node" else lambda: os.kill(pids(rollouts)[0], signal.SIGKILL)
            killer = threading.Thread(target=kill)
            killer.start()
            while "died" not in caplog.text:  # in the middle of one of these
                assert time.monotonic() < end, "nobody noticed"
                assert equal(local, rollouts.sample(policy, SEEDS))
            killer.join()
            assert equal(local, rollouts.sample(policy, SEEDS))
    finally:
        node.kill()
    assert re.search(r"rollout worker \d \(process \d+ on .*\) died; another draws its \d+ episodes: ", caplog.text)


class Killer(SilentObserver):
    """After the second iteration a worker of the head's dies, after the fourth the other node."""

    def __init__(self, head: ray_rig.Node, node: ray_rig.Node):
        self._head, self._node = head, node

    def on_progress(self, done: int, metrics: dict[str, float]) -> None:
        if metrics and done == 2:
            [worker] = self._head.actors("_Actor")
            os.kill(worker, signal.SIGKILL)
        if metrics and done == 4:
            self._node.kill()


def test_a_training_goes_on_to_the_same_figures_when_a_worker_and_a_node_die(tmp_path: Path, caplog):
    demonstrations = expert_demonstrations.demonstrations(SHORT, 3)
    config = TrainConfig(environment_steps=6 * 48, batch_episodes=6, workers=2, evaluation_episodes=4, device="cpu")
    here = train(demonstrations, config, tmp_path / "local").figures
    with ray_rig.cluster() as cluster:
        node = cluster.add()
        there = train(
            demonstrations,
            dataclasses.replace(config, rollout_backend="ray", ray_address=cluster.address),
            tmp_path / "ray",
            Killer(cluster.head, node),
        ).figures
    same = [(name, value) for name, value in here.items() if name != "training_wall_s"]
    assert same == [(name, value) for name, value in there.items() if name != "training_wall_s"]
    metrics = [(tmp_path / who / "training" / "metrics.jsonl").read_text() for who in ("local", "ray")]
    assert metrics[0] == metrics[1] and len(metrics[0].splitlines()) == 6
    assert len(re.findall(r"rollout worker \d \(.*?\) died", caplog.text)) >= 2


ELSEWHERE = f"""
import gymnasium, os, small_envs
HERE = os.getpid() == {os.getpid()}
class Fails(small_envs.Drift):
    def reset(self, *, seed=None, options=None):
        self.seed = seed
        return super().reset(seed=seed, options=options)
    def step(self, action):
        if self.seed == 0: raise RuntimeError('gripper on fire')
        return super().step(action)
class Here(small_envs.Drift):
    def __init__(self, **options):
        super().__init__(**options)
        if not HERE: raise OSError('no licence on this machine')
class Falls(small_envs.Drift):
    def __init__(self, **options):
        super().__init__(**options)
        if not HERE: os._exit(3)
for env in Fails, Here, Falls:
    gymnasium.register(f'test/{{env.__name__}}-v0', env, max_episode_steps=12)
"""


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory) -> Iterator[dict[str, Contract]]:
    """Envs in a module of a user's own."""
    with pytest.MonkeyPatch.context() as patch:
        directory = tmp_path_factory.mktemp("elsewhere")
        (directory / "elsewhere.py").write_text(ELSEWHERE)
        patch.syspath_prepend(str(directory))
        yield {name: env_contract(f"elsewhere:test/{name}-v0", None) for name in ("Fails", "Here", "Falls")}


def test_an_env_that_fails_tells_why_and_none_of_its_episodes_are_taken_for_others(cluster: ray_rig.Cluster, elsewhere):
    spec, policy = EnvSpec(elsewhere["Fails"]), arrays(elsewhere["Fails"])
    with Rollouts(spec, 1) as here, open_rollouts(spec, on(cluster)) as there:
        with pytest.raises(RuntimeError, match="gripper on fire"):
            there.sample(policy, range(8))
        assert equal(here.sample(policy, [8, 9]), there.sample(policy, [8, 9]))


@pytest.mark.parametrize(
    "env, error, message",
    [
        ("Here", ContractError, "cannot make the env elsewhere:test/Here-v0: .*no licence"),
        ("Falls", RuntimeError, "3 rollout workers one after the other died as they started"),
    ],
)
def test_an_env_that_a_node_cannot_make_is_refused(cluster: ray_rig.Cluster, elsewhere, env, error, message):
    with pytest.raises(error, match=message):
        with open_rollouts(EnvSpec(elsewhere[env]), on(cluster, workers=1)) as rollouts:
            rollouts.sample(arrays(elsewhere[env]), [0])


def test_a_cluster_that_cannot_be_reached_is_an_error_in_time_that_names_the_address():
    with socket.socket() as listens, socket.socket() as closed:
        listens.bind(("127.0.0.1", 0))
        listens.listen()
        closed.bind(("127.0.0.1", 0))
        for address, why in (
            (f"127.0.0.1:{closed.getsockname()[1]}", "refused"),
            (f"127.0.0.1:{listens.getsockname()[1]}", "does not answer as Ray does"),
            ("no-such-host.invalid:6379", "no-such-host.invalid:6379: no Ray cluster can be reached there"),
            ("head", "neither auto nor local nor host:port"),
        ):
            began = time.monotonic()
            with pytest.raises(ConfigError, match=re.escape(why)) as refusal:
                open_rollouts(EnvSpec(SHORT), TrainConfig(rollout_backend="ray", ray_address=address))
            assert address in str(refusal.value) and time.monotonic() - began < 30
    assert not ray.is_initialized()


def test_auto_is_the_cluster_that_the_environment_names(cluster: ray_rig.Cluster, local: list[Trajectory], monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    with open_rollouts(EnvSpec(SHORT), TrainConfig(rollout_backend="ray", workers=1)) as rollouts:
        assert equal(local[:4], rollouts.sample(arrays(SHORT), SEEDS[:4]))
        assert len({node["NodeID"] for node in ray.nodes() if node["Alive"]}) == 2


def test_auto_is_the_cluster_that_was_started_here_unless_it_is_gone(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    assert ray_cluster._running_here() == "local"
    written = tmp_path / "ray" / "ray_current_cluster"
    written.parent.mkdir()
    with socket.socket() as head:
        head.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{head.getsockname()[1]}"
        written.write_text(address)
        assert ray_cluster._running_here() == "local", "Ray would wait for minutes"
        head.listen()
        assert ray_cluster._running_here() == address


def test_a_token_that_is_not_the_clusters_is_told(cluster: ray_rig.Cluster, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 32)
    with pytest.raises(ConfigError, match=f"{cluster.address}: no Ray cluster can be reached there: .*[Tt]oken"):
        open_rollouts(EnvSpec(SHORT), on(cluster))
