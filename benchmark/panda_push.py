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
TRAINING = {"clone": {"steps": 2000}, "policy_step": {"initial_std": 0.15, "discount": 0.95}}
"""Options of TrainConfig, as the task `push` has them in its file."""


def contract() -> Contract:
    """Policy and reward see the object from the gripper and the mark from the object."""
    found = env_contract(ENV, HORIZON)
    scales = {"observation": 0.1, "achieved_goal": 0.1, "desired_goal": 0.1}
    fields = tuple(dataclasses.replace(f, scale=scales[f.name]) for f in found.task.fields)
    to_object, to_goal = f"{OBJECT} - {HAND}", f"{GOAL} - {OBJECT}"
    behind, line = f"{to_object} - 0.06 * unit({to_goal})", f"unit({to_goal})"
    inputs = (line, f"norm({to_goal})", to_object, f"norm({to_object})", behind, f"norm({behind})")
    inputs += (f"dot({to_object}, {line})", f"cross({line}, cross({to_object}, {line}))")
    inputs += (f"norm(cross({to_object}, {line}))", "observation[2]", "observation[12:14]")
    rewards = (f"norm(next({to_goal}))", f"norm(next({to_object} - 0.035 * {line}))")
    task = dataclasses.replace(found.task, fields=fields, policy_inputs=inputs, reward_features=rewards)
    return Contract(None, task)


class PushExpert:
    """Goes behind the object as seen from the mark, lowers the gripper, pushes; again when the object slips away.

    It looks ahead to where the object slides, and pushes the more gently the nearer the mark is.
    """

    ahead = 0.12  # [s]

    def __init__(self, contract: Contract, rng: np.random.Generator, noise: float = 0.05):
        self._contract, self._rng, self._noise = contract, rng, noise

    def reset(self) -> None:
        """Forgets nothing: it looks at the state alone."""

    def act(self, observation: np.ndarray) -> np.ndarray:
        """Action in [-1, 1], shape (3,)."""
        rows = self._contract.slices
        state, goal = observation[rows["observation"]], observation[rows["desired_goal"]]
        hand, thing = state[:3], state[6:9]
        way = (goal - thing - self.ahead * state[12:15])[:2]
        far = float(np.linalg.norm(way))
        if far < 0.015:
            return np.zeros(3)
        direction = way / far
        across = np.array([-direction[1], direction[0]])
        offset = hand[:2] - thing[:2]
        along, aside = float(offset @ direction), float(offset @ across)
        tremble = self._rng.normal(0.0, self._noise, 3)
        if along < -0.02 and abs(aside) < 0.012 and hand[2] < 0.04:  # in line, behind: push
            push = np.clip(6.0 * far, 0.15, 0.6) * direction - 15.0 * aside * across
            return np.clip(np.append(push, 20.0 * (LOW - hand[2])) + tremble, -1.0, 1.0)
        behind = thing[:2] - BEHIND * direction
        apart = float(np.linalg.norm(hand[:2] - behind))
        low = apart < 0.02 or (hand[2] < 0.04 and along < -0.04 and apart < 0.05)
        target = np.append(behind, LOW if low else HIGH)
        lift = not low and hand[2] < 0.06
        step = 15.0 * (target - hand) * (np.array([0.2, 0.2, 1.0]) if lift else 1.0)
        return np.clip(step + tremble, -1.0, 1.0)
