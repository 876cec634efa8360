"""What a graph of nodes is: data that a starter reads."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from irl_ros import ros_domain

FREE_DOMAIN = -1
"""A domain that is chosen when the graph starts."""
SIMULATED_ARM = "arm_sim"
"""Executable of the simulated arm."""
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""Set for every node where the user has not: many processes with small networks are fastest with a thread each."""


@dataclass(frozen=True)
class Node:
    """A process: `python -m module`, the package's `executable`, under the node name `name`."""

    module: str
    executable: str
    name: str
    parameters: Mapping[str, bool | int | float | str]
    remappings: tuple[tuple[str, str], ...] = ()
    namespace: str = ""
    params_file: str = ""
    terminal: bool = False
    """Whether it reads the terminal's stdin."""
    patience: float = 5.0
    """[s] from SIGINT to SIGTERM when it is stopped, and half of it again to SIGKILL."""


@dataclass(frozen=True)
class Stage:
    """Nodes that run together until the leader exits: 0 leads on, anything else fails the graph with that code.

    Any other node's exit fails the graph too. Without a leader the stage runs until it is stopped.
    """

    name: str
    nodes: tuple[Node, ...]
    leader: str | None = None


@dataclass(frozen=True)
class Graph:
    """Stages, one after the other."""

    name: str
    stages: tuple[Stage, ...]
    domain: int = FREE_DOMAIN
    """ROS domain of a graph with a simulated arm. Any other graph runs in the caller's."""

    @property
    def simulated(self) -> bool:
        """Whether the graph has a simulated arm: then none of its nodes may meet a real one."""
        return any(node.executable == SIMULATED_ARM for stage in self.stages for node in stage.nodes)


@contextlib.contextmanager
def environment(graph: Graph) -> Iterator[tuple[dict[str, str], str]]:
    """Yield what is added to the environment of the graph's nodes, and a sentence about it for the user.

    A simulation's domain is held until the end of the block. Raises DomainError.
    """
    if not graph.simulated:
        yield {}, ""
        return
    ros_domain.check_environment()
    if graph.domain != FREE_DOMAIN:
        said = f"simulating in ROS domain {graph.domain}, as told; it ends when another robot's nodes are found there"
        yield {"ROS_DOMAIN_ID": str(graph.domain)}, said
        return
    with ros_domain.free_domain() as domain:
        variables = ros_domain.apart(domain)
        watch = f"ROS_DOMAIN_ID={domain} ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST"
        said = f"simulating in ROS domain {domain}, apart from every robot; to look on in another terminal: export {watch}"
        yield variables, said


def write_parameters(node: Node, directory: Path) -> list[Path]:
    """The node's parameter files in the order they are read: the graph's, written into `directory`, then the user's.

    A file keeps types that the command line would guess at ("007" stays a string). JSON is YAML.
    """
    path = directory / f"{node.name}.yaml"
    path.write_text(json.dumps({"/**": {"ros__parameters": dict(node.parameters)}}, indent=1, allow_nan=False))
    return [path, *([Path(node.params_file)] if node.params_file else [])]
