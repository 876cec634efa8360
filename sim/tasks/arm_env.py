"""What every task of a simulated arm shares: action to motion, observation by the contract, a fixed horizon."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import gymnasium
import numpy as np

from irl_ros.contract import Contract, ContractError, did_you_mean
from irl_ros.motion import gripper_target, joint_target, target_trajectory
from irl_ros.kinematics import Kinematics
from irl_ros_sim.arm import Arm

LOCKED = 3
"""Index of the joint that is dead in the variant joint_locked: the elbow of both arms of seven joints."""
PAYLOAD = 8.0
"""[kg] at the last link in the variant payload: more than the Panda is rated for, so that its motors give in."""


class ArmEnv(gymnasium.Env, ABC):
    """An arm under a contract. A task says where it starts, how it is judged, and what else its topics measure.

    An episode is only ever `truncated`: ending early would tell a learner the sign of the reward. The env's own reward
    and `info` are for evaluation, never for learning.
    """

    metadata = {"render_modes": ["human", "rgb_array"], "render_fps": 20}
    task = ""
    """The task's name, for an env that is made without a contract."""
    solver_iterations = 5
    variants: tuple[str, ...] = ("joint_locked", "payload")
    collisions = False
    """Whether the arm touches what is there; contact needs its own `solver_iterations`."""
    camera = Arm.camera

    def __init__(
        self,
        robot: str = "",
        render_mode: str | None = None,
        contract: Contract | None = None,
        randomise: bool = False,
        variant: str = "",
    ):
        """`robot` empty: the task's own. `randomise`: draw the contract's randomisation anew in every episode.
        `variant`: one of `variants`, a changed world; empty: the world of the demonstrations.
        """
        self.contract = contract if contract is not None else Contract.load(robot, self.task)
        self.render_mode = render_mode
        self.metadata = {**self.metadata, "render_fps": round(self.contract.task.rate)}
        if not self.contract.robot.workspace_lower:
            raise ContractError(f"robot {self.contract.robot.name}: {self.task} needs its workspace, where goals may lie")
        n, m = self.contract.observation_size, self.contract.action_size
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (n,), np.float64)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (m,), np.float64)
        self.kinematics = Kinematics(self.contract.robot)
        # A payload hangs at the last link's own centre of mass, so that link stays by itself.
        rigid = not (self.collisions or self.contract.needs_gripper or variant == "payload")
        self.arm = Arm(self.contract.robot, render_mode == "human", self.solver_iterations, self.collisions, rigid)
        self.arm.camera = self.camera
        self._substeps = round(self.contract.task.period / self.arm.time_step)
        self._ranges = dict(self.contract.task.randomisation) if randomise else {}
        self._noise, self._delay = 0.0, 0
        self.variant = variant
        self._change_world()
        self.build()
        self.arm.remember()

    def _change_world(self) -> None:
        """Make the world that `variant` names; a task's own variants are its own affair."""
        if self.variant and self.variant not in self.variants:
            raise ContractError(
                f"task {self.contract.task.name}: unknown variant {self.variant!r}."
                f"{did_you_mean(self.variant, self.variants)}"
            )
        if self.variant == "joint_locked":
            self.arm.lock_joint(self.contract.robot.joint_names[LOCKED])
        if self.variant == "payload":
            self.arm.add_payload(PAYLOAD)

    def build(self) -> None:
        """Put the bodies of the scene into the world, once."""

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

    def place(self) -> None:
        """Put the bodies of the drawn scene where they start; called when the arm is at its start."""

    def vary(self, drawn: dict[str, float]) -> None:
        """Take the factors of mass and friction that were drawn for an episode; absent ones are 1."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        start = self.begin()
        self._randomise()
        self.arm.reset(start)
        if self.contract.needs_gripper:
            self.arm.reset_gripper(self.start_opening())
        self.place()
        self._target, self._t = start, 0
        if self.render_mode is not None:
            self.show()
        return self._observe(), self.judge()[1]

    def start_opening(self) -> float:
        """Opening of the gripper [m] at the start of an episode: open."""
        return self.contract.robot.gripper.opening_range[1]

    def _randomise(self) -> None:
        drawn = {name: float(self.np_random.uniform(*limits)) for name, limits in self._ranges.items()}
        self.arm.set_gains(drawn.pop("gains", 1.0))
        self._noise = drawn.pop("sensor_noise", 0.0)
        self._delay = min(round(drawn.pop("latency", 0.0) / self.arm.time_step), self._substeps - 1)
        if drawn:
            self.vary(drawn)

    def step(self, action: np.ndarray):
        measured = self.measured()["joint_position"]
        asked = np.asarray(action, dtype=np.float64)
        target = joint_target(self.contract, self._target, asked, measured, self.kinematics)
        trajectory, opening = target_trajectory(self.contract, self._target, target), gripper_target(self.contract, asked)
        self._target = target
        if self._delay:
            self._advance(self._delay)
        self.arm.command(trajectory)
        if opening is not None:
            self.arm.command_gripper(opening)
        self._advance(self._substeps - self._delay)
        self._t += 1
        if self.render_mode == "human":
            self.render()
        reward, info = self.judge()
        return self._observe(), reward, False, self._t >= self.contract.task.horizon, info

    def _advance(self, substeps: int) -> None:
        """Physics of (part of) a control period."""
        self.arm.step(substeps)

    def measured(self) -> dict[str, np.ndarray]:
        """What the robot's topics would say now, for :meth:`Contract.observe`."""
        position, velocity = self.arm.state()
        if self._noise:
            position = position + self.np_random.normal(0.0, self._noise, len(position))
        found = {"joint_position": position, "joint_velocity": velocity}
        if self.contract.needs_gripper:
            found["gripper_opening"] = self.arm.finger_state()[0].sum(keepdims=True)
        return found

    def end_effector(self) -> np.ndarray:
        """In the base frame [m], shape (3,)."""
        return self.kinematics.position(self.arm.state()[0])

    def _observe(self) -> np.ndarray:
        return self.contract.observe(self.measured(), self.kinematics)

    def render(self) -> np.ndarray | None:
        return self.arm.render() if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        self.arm.close()
