"""panda-gym's PandaPush-v3 with this project's eyes: its contract, and a scripted expert for demonstrations.

Its observation is the gripper's position and velocity (6) and the object's position, rotation and velocities (12); a
displacement of the gripper is the action; success is the object within 5 cm of the mark.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from irl_ros.contract import Contract
from irl_ros.learning.environment import env_contract

ENV = "panda_gym:PandaPush-v3"
HORIZON = 50
HAND, OBJECT, GOAL = "observation[0:3]", "observation[6:9]", "desired_goal"
BEHIND, HIGH, LOW = 0.06, 0.08, 0.02  # [m]


def contract() -> Contract:
    """Policy and reward see the object from the gripper and the mark from the object."""
    found = env_contract(ENV, HORIZON)
    scales = {"observation": 0.1, "achieved_goal": 0.1, "desired_goal": 0.1}
    fields = tuple(dataclasses.replace(f, scale=scales[f.name]) for f in found.task.fields)
    to_object, to_goal = f"{OBJECT} - {HAND}", f"{GOAL} - {OBJECT}"
    inputs = (to_object, f"norm({to_object})", f"unit({to_object})", to_goal, f"norm({to_goal})", f"unit({to_goal})")
    inputs += ("observation[2]", "observation[3:6]", "observation[12:15]")
    rewards = (f"next({to_goal})", f"norm(next({to_goal}))", f"next({to_object})", f"norm(next({to_object}))")
    task = dataclasses.replace(found.task, fields=fields, policy_inputs=inputs, reward_features=rewards)
    return Contract(None, task)


class PushExpert:
    """Goes behind the object as seen from the mark, lowers the gripper, pushes; again when the object slips away."""

    gain = 8.0

    def __init__(self, contract: Contract, rng: np.random.Generator, noise: float = 0.05):
        self._contract, self._rng, self._noise = contract, rng, noise

    def reset(self) -> None:
        """Forgets nothing: it looks at the state alone."""

    def act(self, observation: np.ndarray) -> np.ndarray:
        """Action in [-1, 1], shape (3,)."""
        rows = self._contract.slices
        state, goal = observation[rows["observation"]], observation[rows["desired_goal"]]
        hand, thing = state[:3], state[6:9]
        way = (goal - thing)[:2]
        far = float(np.linalg.norm(way))
        direction = way / max(far, 1e-6)
        offset = hand[:2] - thing[:2]
        along, across = float(offset @ direction), float(offset @ [-direction[1], direction[0]])
        behind = np.append(thing[:2] - BEHIND * direction, LOW)
        if far < 0.01:
            target = hand
        elif along < -0.02 and abs(across) < 0.015:  # in line: push through
            target = np.append(thing[:2] - 0.02 * direction + 0.3 * way, LOW)
        elif along < -0.03 and abs(across) < 0.05 and hand[2] < 0.05:  # low, beside the line: line up
            target = behind
        elif np.linalg.norm(hand[:2] - behind[:2]) < 0.015:
            target = behind
        else:  # above it, around the object
            target = np.append(behind[:2], HIGH)
        tremble = self._rng.normal(0.0, self._noise, 3) if far >= 0.01 else 0.0
        return np.clip(self.gain * 2 * (target - hand) + tremble, -1.0, 1.0)
