"""Reach: bring the end effector to a goal position."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from irl_ros.contract import Contract, ContractError, joint_target, target_trajectory
from irl_ros.kinematics import Kinematics
from irl_ros_sim.arm import Arm

SUCCESS_DISTANCE = 0.05
START_NOISE = 0.1


class ReachEnv(gymnasium.Env):
    """A goal drawn from the robot's workspace box, an arm near its home pose, a fixed horizon.

    An episode is only ever `truncated`: ending early would tell a learner the sign of the reward. The env's own reward
    (minus the distance to the goal [m]), ``info["success"]`` (within 5 cm) and ``info["distance"]`` [m] are for
    evaluation, never for learning.
    """

    metadata = {"render_modes": ["human", "rgb_array"], "render_fps": 20}

    def __init__(self, robot: str = "panda", render_mode: str | None = None, contract: Contract | None = None):
        self.contract = contract if contract is not None else Contract.load(robot, "reach")
        self.render_mode = render_mode
        self.metadata = {**self.metadata, "render_fps": round(self.contract.task.rate)}
        if not self.contract.robot.workspace_lower:
            raise ContractError(f"robot {self.contract.robot.name}: reach needs its workspace, where goals may lie")
        n, m = self.contract.observation_size, self.contract.action_size
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (n,), np.float64)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (m,), np.float64)
        self.kinematics = Kinematics(self.contract.robot)
        self.arm = Arm(self.contract.robot, gui=render_mode == "human")
        self._substeps = round(self.contract.task.period / self.arm.time_step)
        self._marker: int | None = None
        self.goal = np.array(self.contract.robot.workspace_lower)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        robot = self.contract.robot
        start = np.array(robot.home) + self.np_random.uniform(-START_NOISE, START_NOISE, robot.n_joints)
        start = np.clip(start, robot.position_lower, robot.position_upper)
        self.goal = self._draw_goal(self.kinematics.position(start))
        self.arm.reset(start)
        self._target, self._t = start, 0
        self._show_goal()
        return self._observe(), self._info()

    def _draw_goal(self, hand: np.ndarray) -> np.ndarray:
        """A goal that the arm has not reached already: farther than twice the success distance."""
        robot = self.contract.robot
        while True:
            goal = self.np_random.uniform(robot.workspace_lower, robot.workspace_upper)
            if np.linalg.norm(goal - hand) > 2 * SUCCESS_DISTANCE:
                return goal

    def step(self, action: np.ndarray):
        measured, _ = self.arm.state()
        target = joint_target(self.contract, self._target, np.asarray(action, dtype=np.float64), measured)
        self.arm.command(target_trajectory(self.contract, self._target, target))
        self._target = target
        self.arm.step(self._substeps)
        self._t += 1
        if self.render_mode == "human":
            self.render()
        observation, info = self._observe(), self._info()
        return observation, -info["distance"], False, self._t >= self.contract.task.horizon, info

    def measured(self) -> dict[str, np.ndarray]:
        """What the robot's topics would say now, for :meth:`Contract.observe`."""
        position, velocity = self.arm.state()
        return {"joint_position": position, "joint_velocity": velocity, "goal_position": self.goal}

    def is_success(self) -> bool:
        """Whether the end effector is within 5 cm of the goal now."""
        return self._distance() < SUCCESS_DISTANCE

    def _distance(self) -> float:
        return float(np.linalg.norm(self.kinematics.position(self.arm.state()[0]) - self.goal))

    def _observe(self) -> np.ndarray:
        return self.contract.observe(self.measured(), self.kinematics)

    def _info(self) -> dict[str, Any]:
        distance = self._distance()
        return {"success": distance < SUCCESS_DISTANCE, "distance": distance}

    def _show_goal(self) -> None:
        if self.render_mode is None:
            return
        if self._marker is None:
            self._marker = self.arm.add_marker(self.goal)
        self.arm.move_marker(self._marker, self.goal)

    def render(self) -> np.ndarray | None:
        return self.arm.render() if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        self.arm.close()
