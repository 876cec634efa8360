"""What every task of a simulated arm shares: action to motion, observation by the contract, a fixed horizon."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import gymnasium
import numpy as np

from irl_ros.contract import Contract, ContractError, joint_target, target_trajectory
from irl_ros.kinematics import Kinematics
from irl_ros_sim.arm import Arm


class ArmEnv(gymnasium.Env, ABC):
    """An arm under a contract. A task says where it starts, how it is judged, and what else its topics measure.

    An episode is only ever `truncated`: ending early would tell a learner the sign of the reward. The env's own reward
    and `info` are for evaluation, never for learning.
    """

    metadata = {"render_modes": ["human", "rgb_array"], "render_fps": 20}
    task = ""
    """The task's name, for an env that is made without a contract."""

    def __init__(self, robot: str = "panda", render_mode: str | None = None, contract: Contract | None = None):
        self.contract = contract if contract is not None else Contract.load(robot, self.task)
        self.render_mode = render_mode
        self.metadata = {**self.metadata, "render_fps": round(self.contract.task.rate)}
        if not self.contract.robot.workspace_lower:
            raise ContractError(f"robot {self.contract.robot.name}: {self.task} needs its workspace, where goals may lie")
        n, m = self.contract.observation_size, self.contract.action_size
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (n,), np.float64)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (m,), np.float64)
        self.kinematics = Kinematics(self.contract.robot)
        self.arm = Arm(self.contract.robot, gui=render_mode == "human")
        self._substeps = round(self.contract.task.period / self.arm.time_step)

    @abstractmethod
    def begin(self) -> np.ndarray:
        """Draw a scene from `np_random`; returns the joint positions [rad] to start at."""

    @abstractmethod
    def judge(self) -> tuple[float, dict[str, Any]]:
        """The env's own reward of the state it is in, and `info` with success and distance [m]."""

    def is_success(self) -> bool:
        """Whether the episode would count as a success if it ended now."""
        return bool(self.judge()[1]["success"])

    def show(self) -> None:
        """Put what the task is about into the picture; called after each reset, when there are pictures."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        start = self.begin()
        self.arm.reset(start)
        self._target, self._t = start, 0
        if self.render_mode is not None:
            self.show()
        return self._observe(), self.judge()[1]

    def step(self, action: np.ndarray):
        measured, _ = self.arm.state()
        asked = np.asarray(action, dtype=np.float64)
        target = joint_target(self.contract, self._target, asked, measured, self.kinematics)
        self.arm.command(target_trajectory(self.contract, self._target, target))
        self._target = target
        self._advance()
        self._t += 1
        if self.render_mode == "human":
            self.render()
        reward, info = self.judge()
        return self._observe(), reward, False, self._t >= self.contract.task.horizon, info

    def _advance(self) -> None:
        """Physics of one control period."""
        self.arm.step(self._substeps)

    def measured(self) -> dict[str, np.ndarray]:
        """What the robot's topics would say now, for :meth:`Contract.observe`."""
        position, velocity = self.arm.state()
        return {"joint_position": position, "joint_velocity": velocity}

    def end_effector(self) -> np.ndarray:
        """In the base frame [m], shape (3,)."""
        return self.kinematics.position(self.arm.state()[0])

    def _observe(self) -> np.ndarray:
        return self.contract.observe(self.measured(), self.kinematics)

    def render(self) -> np.ndarray | None:
        return self.arm.render() if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        self.arm.close()
