"""Rollouts by Ray's actors, anywhere on a cluster: each holds an env of its own, policies and episodes travel as arrays.

A worker or a node may die at any time. An episode is its seed's alone, so what the dead one had been asked for is
drawn again by another, and its results, if it had any, were never received: no episode is lost or counted twice.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import irl_ros
from irl_ros.contract import ContractError
from irl_ros.learning.config import ConfigError
from irl_ros.learning.environment import EnvSpec
from irl_ros.learning.ray_cluster import connect, engine, look_in
from irl_ros.learning.rollout import Arrays, EnvWorker

IN_FLIGHT = 2
"""Chunks that a worker is asked for at a time: it draws the second while the first one's result travels."""
REMINDER = 10.0
"""[s] between two words about a cluster without a free CPU."""
PATIENCE = 300.0
"""[s] without a single worker after which sampling is given up."""
MOST_DEATHS = 3
"""Workers that the same episodes may end before they are taken for the cause; so many times over all workers may end while
they start, one after the other, before the env is."""

logger = logging.getLogger(__name__)


class _Actor(EnvWorker):
    """An env on a cluster's node."""

    def __init__(self, spec: EnvSpec, paths: Sequence[str]):
        look_in(paths)
        super().__init__(spec)

    def introduce(self) -> tuple[str, str]:
        """Where it is, and the version of what it runs."""
        return f"process {os.getpid()} on {socket.gethostname()}", irl_ros.__version__

    def draw(self, kind: str, policy: Arrays, seeds: Sequence[int]) -> list[Any]:
        return [getattr(self, kind)(policy, seed) for seed in seeds]


@dataclass(eq=False)
class _Member:
    """An actor of the pool; `where` is empty until it runs."""

    number: int
    handle: Any
    where: str = ""

    def __str__(self) -> str:
        return f"rollout worker {self.number}" + (f" ({self.where})" if self.where else "")


class RayPool:
    """A :class:`~irl_ros.learning.rollout.Pool` of `workers` actors of one CPU each.

    Raises ConfigError for a cluster that cannot be reached, ContractError where a worker cannot make the env.
    """

    def __init__(self, spec: EnvSpec, workers: int, address: str):
        self._ray = ray = engine()
        self._leave = connect(address, workers)
        died = ray.exceptions
        self._errors = (died.RayActorError, died.ObjectLostError, died.OutOfMemoryError)
        self._actor = ray.remote(num_cpus=1, max_restarts=0)(_Actor)
        self._spec, self._spec_ref, self._workers = spec, ray.put(spec), workers
        self._members: list[_Member] = []
        self._asked: dict[Any, tuple[_Member, list[int]]] = {}
        """What a member was asked for: indices of episodes, none where it was asked to introduce itself."""
        self._stillborn = 0
        self._few_since: float | None = time.monotonic()
        for number in range(workers):
            self._hire(number)

    def draw(self, kind: str, policy: Arrays, seeds: Sequence[int]) -> list[Any]:
        """One result of EnvWorker's method `kind` per seed, in their order."""
        # What a draw that an error ended had asked for is none of this one's.
        self._asked = {ref: (member, chunk) for ref, (member, chunk) in self._asked.items() if not chunk}
        arrays = self._ray.put(dict(policy))
        found: dict[int, Any] = {}
        waiting, deaths = deque(self._chunks(len(seeds))), Counter[int]()
        while len(found) < len(seeds):
            while waiting and (member := self._free()) is not None:
                chunk = waiting.popleft()
                self._asked[member.handle.draw.remote(kind, arrays, [seeds[k] for k in chunk])] = member, chunk
            ref = self._next()
            member, chunk = self._asked.pop(ref)
            try:
                results = self._ray.get(ref)
            except self._errors as error:
                self._refuse_a_broken_env(error)
                chunks = [c for c in (chunk, *self._dismiss(member)) if c]
                waiting.extendleft(chunks)
                self._hire(member.number)
                self._mourn(member, chunks, error)
                self._suspect(deaths, chunks, seeds, error)
            else:
                self._welcome(member, results) if not chunk else found.update(zip(chunk, results, strict=True))
        self._tell_of_few()
        return [found[k] for k in range(len(seeds))]

    def close(self) -> None:
        """End the actors, and a cluster that was started for them."""
        for member in self._members:
            self._ray.kill(member.handle)
        self._leave()

    def _chunks(self, count: int) -> Iterator[list[int]]:
        size = max(1, count // (4 * self._workers))
        for first in range(0, count, size):
            yield list(range(first, min(first + size, count)))

    def _hire(self, number: int) -> None:
        member = _Member(number, self._actor.remote(self._spec_ref, sys.path))
        self._members.append(member)
        self._asked[member.handle.introduce.remote()] = member, []

    def _welcome(self, member: _Member, introduction: tuple[str, str]) -> None:
        self._stillborn = 0
        member.where, version = introduction
        if version != irl_ros.__version__:
            raise ConfigError(f"{member} runs irl_ros {version}, this is {irl_ros.__version__}: install the same on all nodes")

    def _dismiss(self, member: _Member) -> list[list[int]]:
        """Forget a member; returns what else it had been asked for."""
        self._members.remove(member)
        self._ray.kill(member.handle)  # one that is only out of reach must not go on
        mine = [ref for ref, (whose, _) in self._asked.items() if whose is member]
        return [self._asked.pop(ref)[1] for ref in mine]

    def _free(self) -> _Member | None:
        """The least busy member that may be asked for more; None while all have enough to do."""
        busy = Counter(id(member) for member, _ in self._asked.values())
        able = [m for m in self._members if m.where and busy[id(m)] < IN_FLIGHT]
        return min(able, key=lambda member: busy[id(member)], default=None)

    def _next(self) -> Any:
        """The next answer of any member; RuntimeError where the cluster has no room for a single one for too long."""
        end = time.monotonic() + PATIENCE
        while True:
            done, _ = self._ray.wait(list(self._asked), timeout=REMINDER)
            if done:
                return done[0]
            if any(member.where for member in self._members):
                end = time.monotonic() + PATIENCE
                continue
            state = f"no rollout worker has started yet: {self._room()}"
            if time.monotonic() > end:
                raise RuntimeError(f"{state}, and {PATIENCE:g} s are over: add a node, or ask for fewer workers")
            logger.warning("%s", state)

    def _room(self) -> str:
        total, free = (round(f().get("CPU", 0)) for f in (self._ray.cluster_resources, self._ray.available_resources))
        return f"of the cluster's {total} CPUs {free} are free"

    def _tell_of_few(self) -> None:
        """Once, where workers still wait for a CPU when all have had the time to start."""
        if self._few_since is None or time.monotonic() < self._few_since + REMINDER:
            return
        self._few_since, started = None, sum(bool(member.where) for member in self._members)
        if started < self._workers:
            logger.warning("%d of %d rollout workers have started: %s", started, self._workers, self._room())

    def _mourn(self, member: _Member, chunks: list[list[int]], error: Exception) -> None:
        reason = " ".join(str(error).split())
        lost = sum(map(len, chunks))
        logger.warning("%s died; another draws its %d episodes: %s", member, lost, reason)
        self._stillborn += not member.where
        if self._stillborn >= MOST_DEATHS * self._workers:
            raise RuntimeError(f"{self._stillborn} rollout workers one after the other died as they started") from error

    def _suspect(self, deaths: Counter[int], chunks: list[list[int]], seeds: Sequence[int], error: Exception) -> None:
        """RuntimeError for episodes that end their workers again and again."""
        deaths.update(k for chunk in chunks for k in chunk)
        if guilty := [seeds[k] for k, count in deaths.items() if count >= MOST_DEATHS]:
            raise RuntimeError(f"episodes of seeds {guilty} were with {MOST_DEATHS} workers that died") from error

    def _refuse_a_broken_env(self, error: Exception) -> None:
        if getattr(error, "actor_init_failed", False):
            env = self._spec.contract.task.env
            reason = next(line for line in reversed(str(error).splitlines()) if line.strip())
            raise ContractError(f"a rollout worker cannot make the env {env}: {reason}") from error
