"""Learning from demonstration on ROS 2: inverse reinforcement learning from topics to a driving policy.

From bags to a policy in Python, without ROS: :class:`Demonstrations`, :func:`train`, :class:`Checkpoint` and
:class:`Controller` are here as they are used; what each of them needs (torch, for one) is imported with the first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from irl_ros.checkpoint import Checkpoint
    from irl_ros.contract import Contract
    from irl_ros.control.controller import Controller
    from irl_ros.data.episode import Demonstrations
    from irl_ros.learning.config import TrainConfig
    from irl_ros.learning.train import train

__version__ = "0.1.0"
__all__ = ["Checkpoint", "Contract", "Controller", "Demonstrations", "TrainConfig", "train"]

_HOMES = {
    "Checkpoint": "irl_ros.checkpoint",
    "Contract": "irl_ros.contract",
    "Controller": "irl_ros.control.controller",
    "Demonstrations": "irl_ros.data.episode",
    "TrainConfig": "irl_ros.learning.config",
    "train": "irl_ros.learning.train",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'irl_ros' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(_HOMES[name]), name)
