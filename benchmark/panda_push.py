"""panda-gym's PandaPush-v3 with this project's eyes: its contract, and a scripted demonstrator.

Its observation is the gripper's position and velocity (6) and the object's position, rotation and velocities (12); a
displacement of the gripper is the action; success is the object within 5 cm of the mark.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import gymnasium
import numpy as np

from irl_ros.contract import Contract
from irl_ros.learning.environment import env_contract

ENV = "panda_push:PandaPushOn-v3"
HORIZON = 50
PERIOD = 0.04  # [s]
TRAVEL = 0.04
"""What the gripper moves in a period for an action of 1, measured in the middle of the table [m]."""
BASE, STRETCHED = np.array([-0.6, 0.0]), 0.805
"""Where the robot stands, and the gripper's distance from there at which it moves no farther out [m]."""
FACES = np.array([0.03, 0.042])
"""Distance of gripper and object along x and y where they touch [m]."""
HAND, OBJECT, GOAL = "observation[0:3]", "observation[6:9]", "desired_goal"
TRAINING = {
    "environment_steps": 20_000,
    "clone": {"steps": 3000, "weight_decay": 0.2},
    "reward": {"lcr": 10.0, "step_decay": 20.0},
    "policy_step": {"initial_std": 0.07, "discount": 0.95},
}
"""Options of TrainConfig, as the task `push` has them in its file."""


class PlayedOn(gymnasium.Wrapper):
    """Episodes run on to the horizon: ending with the success would tell the learner the sign of the reward.

    So success is what holds at the end, which is harder than once having been near the mark.
    """

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, reward, _, _, info = self.env.step(action)
        distance = float(np.linalg.norm(observation["achieved_goal"] - observation["desired_goal"]))
        return observation, reward, False, False, {**info, "distance": distance}


def _make(**options: Any) -> gymnasium.Env:
    return PlayedOn(gymnasium.make("panda_gym:PandaPush-v3", disable_env_checker=True, max_episode_steps=-1, **options))


if "PandaPushOn-v3" not in gymnasium.registry:
    gymnasium.register("PandaPushOn-v3", entry_point=_make)


def contract() -> Contract:
    """Policy and reward see the object from the gripper and the mark from the object."""
    found = env_contract(ENV, HORIZON)
    scales = {"observation": 0.1, "achieved_goal": 0.1, "desired_goal": 0.1}
    fields = tuple(dataclasses.replace(f, scale=scales[f.name]) for f in found.task.fields)
    to_object, to_goal = f"{OBJECT} - {HAND}", f"{GOAL} - {OBJECT}"
    behind, line = f"{to_object} - 0.06 * unit({to_goal})", f"unit({to_goal})"
    inputs = (line, f"norm({to_goal})", to_object, f"norm({to_object})", behind, f"norm({behind})")
    inputs += (f"dot({to_object}, {line})", f"cross({line}, cross({to_object}, {line}))")
    inputs += (f"norm(cross({to_object}, {line}))", "observation[0:3]", "observation[12:14]")
    rewards = (f"norm(next({to_goal}))", f"norm(next({to_object} - 0.035 * {line}))")
    task = dataclasses.replace(found.task, fields=fields, policy_inputs=inputs, reward_features=rewards)
    return Contract(None, task)


def ramp(x: float, low: float, high: float) -> float:
    """0 below `low`, 1 above `high`, linear between them."""
    return float(np.clip((x - low) / (high - low), 0.0, 1.0))


def towards(offset: np.ndarray, gain: float, speed: float) -> np.ndarray:
    """A velocity along `offset`, proportional to it and at most `speed`."""
    velocity = gain * offset
    return velocity * min(1.0, speed / max(float(np.linalg.norm(velocity)), 1e-9))


class PushExpert:
    """Flies to the place behind the object, comes down beside it and stays down: steers behind the object, circles it
    where it has slid off the line, and pushes the more gently the nearer the mark is. At the mark it rises, far.

    It acts by where gripper, object and mark are now, and its hand trembles. Rising to come again, as on this project's
    own push, costs too much of the 2 s; resting low or at the height of passing over teaches a clone to stand still,
    and so does any place on the way where its wishes are faint.
    """

    behind, clear, low, over, home = 0.07, 0.068, 0.02, 0.11, 0.2
    """Distances from the object's centre where the gripper comes down and at which it circles; heights of pushing, of
    passing over the object and of rest [m]."""
    near_enough, still_near = 0.02, 0.04
    """From the mark [m]: the gripper rises; and it stays up as long as the object is so near."""
    reach = 0.8
    """From the robot's base [m]: no place behind the object lies farther out."""
    push_speed, speed, circling, climb, dive = 0.5, 0.8, 0.5, 1.0, 0.7
    """[m/s]"""
    ahead = 0.06
    """What it foresees of the object's sliding [s]."""

    def __init__(self, contract: Contract, rng: np.random.Generator, noise: float = 0.06):
        self._contract, self._rng, self._noise = contract, rng, noise
        self.reset()

    def reset(self) -> None:
        """Forgets the last episode."""
        self._tremble = np.zeros(3)

    def act(self, observation: np.ndarray) -> np.ndarray:
        """Action in [-1, 1], shape (3,)."""
        rows = self._contract.slices
        state, goal = observation[rows["observation"]], observation[rows["desired_goal"]]
        self._tremble = 0.7 * self._tremble + 0.7 * self._rng.normal(0.0, self._noise, 3)
        return np.clip(effort(self.velocity(state, goal), state[:2]) + self._tremble, -1.0, 1.0)

    def velocity(self, state: np.ndarray, goal: np.ndarray) -> np.ndarray:
        """Where the gripper shall go [m/s], shape (3,)."""
        thing, height = state[6:9], float(state[2])
        hand, to_mark = (state[:3] - thing)[:2], (goal - thing - self.ahead * state[12:15])[:2]
        distance = float(np.linalg.norm(to_mark))
        line = to_mark / max(distance, 1e-6)
        on_top = ramp(height, 0.034, 0.042) * (1.0 - ramp(float(np.linalg.norm(hand)), 0.028, 0.036))
        high = max(ramp(height, 0.05, 0.08), on_top)
        if distance < self.near_enough + (self.still_near - self.near_enough) * high:
            return np.array([0.0, 0.0, np.clip(10.0 * (self.home - height), -self.climb, self.climb)])
        to_place = within(self.reach, thing[:2] - self.behind * line) - state[:2]
        flat = high * towards(to_place, 20.0, self.speed) + (1.0 - high) * self._beside(hand, line, distance, height)
        above = 1.0 - ramp(float(np.linalg.norm(hand / FACES)), 1.1, 1.4)
        away = max(above, ramp(float(np.linalg.norm(to_place)), 0.05, 0.09))
        wanted = self.low + (self.over - self.low) * high * away
        return np.append(flat, np.clip(20.0 * (wanted - height), -self.dive, self.climb))

    def _beside(self, hand: np.ndarray, line: np.ndarray, distance: float, height: float) -> np.ndarray:
        """Down beside the object: round it to behind it, and push; `hand` as seen from the object [m]."""
        radius = float(np.linalg.norm(hand))
        outwards = hand / radius
        angle = float(np.arctan2(outwards[0] * line[1] - outwards[1] * line[0], -outwards @ line))
        touch = float(np.min(FACES / np.maximum(np.abs(line), 1e-6)))
        descending = ramp(height, 0.038, 0.05)
        wanted = touch + max(self.clear - touch, 0.015) * max(ramp(abs(angle), 0.2, 0.7), descending)
        push = float(np.clip(4.0 * (distance - 0.01), 0.0, self.push_speed)) * (1.0 - ramp(abs(angle), 0.3, 0.8))
        push *= 1.0 - descending
        turn = float(np.clip(20.0 * angle * radius, -self.circling, self.circling))
        radial = float(np.clip(12.0 * (wanted - radius), -0.4, 0.4))
        return push * line + turn * np.array([outwards[1], -outwards[0]]) + radial * outwards


def within(reach: float, place: np.ndarray) -> np.ndarray:
    """`place`, shape (2,), or where the way to it from the robot's base leaves the reach."""
    return BASE + (place - BASE) * min(1.0, reach / float(np.linalg.norm(place - BASE)))


def effort(velocity: np.ndarray, hand: np.ndarray) -> np.ndarray:
    """The action for a velocity [m/s]: the nearly stretched arm moves outwards the less, the farther out it is."""
    stretch = float(np.linalg.norm(hand - BASE))
    radial = (hand - BASE) / stretch
    share = max(1.0 - float(np.exp(-(STRETCHED - stretch) / 0.11)), 0.15)
    more = (1.0 / share - 1.0) * float(velocity[:2] @ radial) * radial
    return (velocity + np.append(more, 0.0)) * PERIOD / TRAVEL
