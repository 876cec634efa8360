"""Who pushes a block, or picks it up and puts it down."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from irl_ros_sim.experts.human import Human, towards

DOWN = (1.0, 0.0, 0.0, 0.0)


class HandExpert(Human):
    """Moves the end effector, pointing down, as a person would: late, pausing, trembling, a little beside its aim.

    It also slips (2 · `noise` times a second, some 3 cm any way), and what it aims at wanders by some `overshoot` ·
    10 cm. It sees and mends all that: without the mending among the demonstrations their clone would not know the way
    back.
    """

    speed, slip_speed = 0.3, 0.12
    """[m/s]"""

    wander_time = 1.0
    """[s] over which the error of aim is forgotten."""

    def reset(self) -> None:
        super().reset()
        self._tremble, self._slip, self._slipping = np.zeros(3), np.zeros(3), 0
        self._aim_error = self._rng.normal(0.0, 0.1 * self._overshoot, 2)

    @abstractmethod
    def velocity(self, observation: np.ndarray) -> np.ndarray:
        """Where the end effector shall go [m/s], shape (3,)."""

    def grip(self, observation: np.ndarray) -> float:
        """The action's gripper element, where the task has one."""
        return 1.0

    def act(self, observation: np.ndarray) -> np.ndarray:
        task = self._contract.task
        self._err(task.period)
        resting = self._rests()
        velocity = np.zeros(3) if resting else self.velocity(observation)
        if self._slipping > 0:
            self._slipping -= 1
            velocity = self._slip
        tremble = np.zeros(3) if resting else self._tremble * min(1.0, 4 * np.linalg.norm(velocity) / self.speed)
        arm = self._arm_action(observation, velocity * task.period, tremble)
        return np.append(arm, self.grip(observation)) if task.gripper else arm

    def _err(self, period: float) -> None:
        """Tremble, begin to slip, let the aim wander."""
        self._shake()
        if self._rng.random() < 2 * self._noise * period:
            self._slipping, direction = round(self._rng.uniform(0.15, 0.35) / period), self._rng.normal(size=3)
            self._slip = self.slip_speed * direction / np.linalg.norm(direction)
        keep = np.exp(-period / self.wander_time)
        anew = self._rng.normal(0.0, 0.1 * self._overshoot, 2)
        self._aim_error = keep * self._aim_error + np.sqrt(1 - keep**2) * anew

    def _arm_action(self, observation: np.ndarray, step: np.ndarray, tremble: np.ndarray) -> np.ndarray:
        """The arm's elements for a step of the end effector [m] and a tremble in units of its action."""
        contract = self._contract
        if contract.task.moves_end_effector:
            return np.clip(step / contract.max_step + tremble, -1.0, 1.0)
        joints = contract.field(observation, "joint_position")
        step = step + tremble * self.speed * contract.task.period
        target = self._kinematics.solve(joints, self._kinematics.position(joints) + step, DOWN)
        return np.clip((target - joints) / contract.max_step, -1.0, 1.0)


def ramp(x: float, low: float, high: float) -> float:
    """0 below `low`, 1 above `high`, linear between them."""
    return float(np.clip((x - low) / (high - low), 0.0, 1.0))


class PushExpert(HandExpert):
    """Goes high to the place behind the block, down, pushes along the line to the mark, and rises when it is there.

    Everything depends on where hand, block and mark are now: where the block slides off the line the hand rises and
    comes again. Rising, and never resting low, keeps the states of pushing free of other wishes: a clone of someone
    who backs off instead, or who rests at the block when done, stands still in between.
    """

    behind, contact = 0.06, 0.032
    """Distance of the hand behind the block's centre where it comes down, and where it touches [m]."""
    clearance = 0.075
    """Height at which the hand passes over the block, above its centre [m]."""
    push_speed = 0.15
    """[m/s]"""
    near_enough, still_near = 0.02, 0.035
    """From the mark [m]: the hand rises; and it stays up as long as the block is so near."""

    def velocity(self, observation: np.ndarray) -> np.ndarray:
        field = self._contract.field
        hand, to_mark = -field(observation, "end_effector_to_object"), field(observation, "object_to_goal")[:2]
        height, distance = float(hand[2]), float(np.linalg.norm(to_mark))
        near = self.near_enough + (self.still_near - self.near_enough) * ramp(height, 0.0, 0.5 * self.clearance)
        if distance < near:
            return np.array([0.0, 0.0, self._rise(self.clearance - height)])
        line = to_mark / distance
        across = np.array([-line[1], line[0]])
        off = float(hand[:2] @ across) - float(np.clip(self._aim_error[0], -0.02, 0.02))
        return self._follow(line, across, float(hand[:2] @ line), off, height)

    def _rise(self, climb: float) -> float:
        return float(np.clip(5.0 * climb, -0.2, 0.2))

    def _follow(self, line: np.ndarray, across: np.ndarray, along: float, off: float, height: float) -> np.ndarray:
        """The hand is `along` the line past the block's centre (negative: behind) and `off` the line [m]."""
        low = 1.0 - ramp(height, 0.012, 0.04)
        touch = self.contact + (self.behind - self.contact) * (1.0 - low)
        misplaced = ramp(float(np.hypot(off, max(0.0, along + touch - 0.008))), 0.012, 0.03)
        push = self.push_speed * line - 3.0 * off * across
        to_place = towards((-self.behind - along) * line - off * across, 4.0, self.speed)
        sideways = (1.0 - misplaced) * low * push + (1.0 - low) * to_place
        return np.append(sideways, self._rise(self.clearance * misplaced - height))


class PickPlaceExpert(HandExpert):
    """Goes over the block, down, grasps, lifts, carries, puts down, lets go and rises.

    What it does depends on where hand, block and goal are now and on the gripper's opening: a block that was lost is
    grasped again.
    """

    hover, carry = 0.07, 0.05
    """Heights above the block's centre before grasping it, and of the carried block above its goal [m]."""
    holding = 0.05
    """Openings below hold a block, if it is there [m]."""
    grasp_distance = 0.012

    def velocity(self, observation: np.ndarray) -> np.ndarray:
        to_block, to_goal, opening = self._see(observation)
        if self._placed(to_goal):
            wanted = np.array([0.0, 0.0, self.hover + to_block[2]]) * (opening > 0.06)
            return towards(wanted, 4.0, self.speed)
        return self._carry(to_goal) if self._holds(to_block, opening) else self._approach(to_block)

    def grip(self, observation: np.ndarray) -> float:
        """Closed at the block, open elsewhere and at the goal."""
        to_block, to_goal, opening = self._see(observation)
        if self._placed(to_goal):
            return 1.0
        return -1.0 if np.linalg.norm(to_block) < self.grasp_distance or self._holds(to_block, opening) else 1.0

    def _see(self, observation: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        field = self._contract.field
        to_block, to_goal = field(observation, "end_effector_to_object"), field(observation, "object_to_goal")
        return to_block, to_goal, float(field(observation, "gripper_opening")[0])

    def _placed(self, to_goal: np.ndarray) -> bool:
        return bool(np.linalg.norm(to_goal[:2]) < 0.025 and to_goal[2] > -0.012)

    def _holds(self, to_block: np.ndarray, opening: float) -> bool:
        return bool(opening < self.holding and np.linalg.norm(to_block) < 0.025)

    def _approach(self, to_block: np.ndarray) -> np.ndarray:
        """Over the block, then down, keeping the fingers clear of it."""
        off = to_block[:2] + 0.5 * np.clip(self._aim_error, -0.02, 0.02) * ramp(-to_block[2], 0.01, 0.05)
        height = self.hover * ramp(float(np.linalg.norm(off)), 0.01, 0.03)
        sideways = towards(off, 4.0, self.speed)
        if np.linalg.norm(off) > 0.03:
            sideways = sideways * ramp(-to_block[2], 0.4 * self.hover, 0.8 * self.hover)
        return np.append(sideways, np.clip(5.0 * (to_block[2] + height), -0.2, 0.2))

    def _carry(self, to_goal: np.ndarray) -> np.ndarray:
        """Up, over to the goal, down."""
        off = to_goal[:2] + 0.5 * np.clip(self._aim_error, -0.02, 0.02)
        height = self.carry * ramp(float(np.linalg.norm(off)), 0.012, 0.035)
        sideways = towards(off, 4.0, self.speed) * ramp(-to_goal[2], 0.0, 0.6 * self.carry)
        if np.linalg.norm(off) < 0.035:
            sideways = towards(off, 4.0, self.speed)
        return np.append(sideways, np.clip(5.0 * (to_goal[2] + height), -0.2, 0.2))
