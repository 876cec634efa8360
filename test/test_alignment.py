"""Stamped samples to a fixed rate, against a simulated recording whose truth is known."""

from __future__ import annotations

from types import SimpleNamespace as Message

import numpy as np
import pytest

from irl_ros.contract import Contract
from irl_ros.motion import joint_target, target_trajectory
from irl_ros.data.alignment import SECOND, Sample, align
from irl_ros.data.episode import Episode, EpisodeError
from irl_ros.kinematics import Kinematics

CONTRACT = Contract.load("panda", "reach")
KINEMATICS = Kinematics(CONTRACT.robot)
NAMES = list(CONTRACT.robot.joint_names)
HOME = np.array(CONTRACT.robot.home)
GOAL = np.array([0.5, 0.1, 0.3])
PERIOD = CONTRACT.task.period
CLOCK = 1 / 120


def joint_state(position: np.ndarray, velocity: np.ndarray | None = None) -> Message:
    velocity = np.zeros(len(NAMES)) if velocity is None else velocity
    return Message(name=NAMES, position=position.copy(), velocity=velocity, effort=[])


def goal_pose(position: np.ndarray = GOAL, frame: str = CONTRACT.robot.base_frame) -> Message:
    x, y, z = position
    header = Message(stamp=Message(sec=0, nanosec=0), frame_id=frame)
    return Message(header=header, pose=Message(position=Message(x=x, y=y, z=z)))


def command(previous: np.ndarray, target: np.ndarray) -> Message:
    trajectory = target_trajectory(CONTRACT, previous, target)
    points = [
        Message(time_from_start=Message(sec=0, nanosec=round(t * SECOND)), positions=q, velocities=dq)
        for t, q, dq in zip(*trajectory)
    ]
    return Message(joint_names=NAMES, points=points)


def stamped(events: list[tuple[float, str, Message]], clock: float = 0.0) -> dict[str, list[Sample]]:
    """Events (receive time [s], role, message) to samples; `clock`: period to which receive stamps are floored."""
    samples: dict[str, list[Sample]] = {}
    for order, (time, role, message) in enumerate(sorted(events, key=lambda event: event[0])):
        stamp = np.floor(time / clock + 1e-6) * clock if clock else time
        samples.setdefault(role, []).append(Sample(1000 * SECOND + round(stamp * SECOND), order, message))
    return samples


class Truth:
    """A teleoperated arm: every state, command and what the teleoperator saw, with delays on the way to the recorder.

    The state at time s is `position(s)`; element 0 of every state's velocity carries s, so that a test can read off an
    observation when it was measured.
    """

    def __init__(self, seed: int, latency: float, jitter: float, idle: float = 0.35, periods: int = 60):
        rng = np.random.default_rng(seed)
        self.begin, self.delay, self.jitter = idle + rng.uniform(0, PERIOD), latency, jitter
        self.measured = np.arange(0.0, idle + (periods + 2) * PERIOD, 0.01)
        self.arrived = self.measured + latency + rng.uniform(0, jitter, len(self.measured))
        self.events = [(0.0, "goal_pose", goal_pose())]
        for time, arrival in zip(self.measured, self.arrived):
            velocity = np.zeros(len(NAMES))
            velocity[0] = time
            self.events.append((arrival, "joint_states", joint_state(self.position(time), velocity)))
        self.sent = self.begin + PERIOD * np.arange(periods) + rng.uniform(0, jitter, periods)
        self.actions = rng.uniform(-1, 1, (periods, len(NAMES)))
        target = self.position(self.seen(self.sent[0]))
        for time, action in zip(self.sent, self.actions):
            previous, target = target, target + action * CONTRACT.max_step
            self.events.append((time, "command", command(previous, target)))

    @staticmethod
    def position(time: float) -> np.ndarray:
        return HOME + 0.1 * np.sin(2 * time + np.arange(len(NAMES)))

    def seen(self, time: float) -> float:
        """When the newest state that had arrived at `time` was measured [s]."""
        return self.measured[np.searchsorted(self.arrived, time) - 1]

    def align(self, clock: float = 0.0) -> Episode:
        return align("truth", stamped(self.events, clock), CONTRACT, KINEMATICS)


def measured_at(episode: Episode) -> np.ndarray:
    """When the state of each observation was measured [s], shape (T+1,)."""
    return CONTRACT.field(episode.observations, "joint_velocity")[:, 0]


@pytest.mark.parametrize("clock", [0.0, CLOCK])
@pytest.mark.parametrize("latency, jitter", [(0.0, 0.0), (0.02, 0.0), (0.0, 0.008), (0.03, 0.008)])
def test_pairing_survives_latency_jitter_and_a_coarse_clock(latency: float, jitter: float, clock: float) -> None:
    for seed in range(10):
        truth = Truth(seed, latency, jitter)
        episode = truth.align(clock)
        horizon = CONTRACT.task.horizon
        assert len(episode) == horizon
        # Command t is action t, to the last bit of rounding; the first one starts at the pose that was seen.
        np.testing.assert_allclose(episode.actions, truth.actions[:horizon], atol=1e-9)
        # No observation is newer than what the teleoperator can have seen, nor older than arrival and clock explain.
        seen = np.array([truth.seen(time) for time in truth.sent[:horizon]])
        lag = seen - measured_at(episode)[:-1]
        assert (lag > -1e-9).all()
        assert (lag < 2 * jitter + 0.01 + clock + 1e-9).all()


def test_observation_is_the_latest_sample_at_or_before_the_tick() -> None:
    truth = Truth(seed=3, latency=0.0, jitter=0.0)
    ticks = truth.begin + PERIOD * np.arange(CONTRACT.task.horizon + 1)
    expected = [truth.measured[truth.measured <= tick][-1] for tick in ticks]
    np.testing.assert_allclose(measured_at(truth.align()), expected)


def test_idle_time_before_the_first_command_is_left_out() -> None:
    truth = Truth(seed=1, latency=0.0, jitter=0.0, idle=4.0)
    episode = truth.align()
    assert measured_at(episode)[0] == pytest.approx(truth.seen(truth.begin))
    np.testing.assert_allclose(episode.actions, truth.actions[: len(episode)], atol=1e-9)


def test_a_late_first_command_does_not_shift_the_episode() -> None:
    truth = Truth(seed=5, latency=0.0, jitter=0.0)
    first = next(i for i, event in enumerate(truth.events) if event[1] == "command")
    time, role, message = truth.events[first]
    truth.events[first] = (time + 0.4 * PERIOD, role, message)
    np.testing.assert_allclose(truth.align().actions[1:], truth.actions[1 : CONTRACT.task.horizon], atol=1e-9)


def test_joints_are_found_by_name_in_any_order() -> None:
    truth = Truth(seed=2, latency=0.0, jitter=0.0)
    expected = truth.align()
    order = np.random.default_rng(0).permutation(len(NAMES))
    for _, role, message in truth.events:
        if role == "joint_states":
            message.name = [NAMES[i] for i in order] + ["gripper"]
            message.position = np.append(message.position[order], 0.0)
            message.velocity = np.append(message.velocity[order], 0.0)
    np.testing.assert_array_equal(truth.align().observations, expected.observations)


def test_a_tick_without_a_command_keeps_the_one_before() -> None:
    truth = Truth(seed=4, latency=0.0, jitter=0.0)
    lost = [i for i, event in enumerate(truth.events) if event[1] == "command"][7]
    del truth.events[lost]
    actions = truth.align().actions
    np.testing.assert_array_equal(actions[7], np.zeros(len(NAMES)))
    np.testing.assert_allclose(actions[8], np.clip(truth.actions[7] + truth.actions[8], -1, 1), atol=1e-9)


def test_latched_goal_never_goes_stale_and_a_new_one_takes_effect() -> None:
    truth = Truth(seed=6, latency=0.0, jitter=0.0)
    other = GOAL + 0.1
    truth.events.append((truth.begin + 20.5 * PERIOD, "goal_pose", goal_pose(other)))
    goals = CONTRACT.field(truth.align().observations, "goal_position")
    np.testing.assert_array_equal(goals[:21], np.tile(GOAL, (21, 1)))
    np.testing.assert_array_equal(goals[21:], np.tile(other, (len(goals) - 21, 1)))


def test_replayed_actions_give_the_commanded_targets() -> None:
    truth = Truth(seed=7, latency=0.01, jitter=0.005)
    episode = truth.align()
    targets = [m.points[0].positions for _, role, m in truth.events if role == "command"]
    target = CONTRACT.field(episode.observations, "joint_position")[0]
    for action, expected in zip(episode.actions, targets):
        target = joint_target(CONTRACT, target, action, measured=target)
        np.testing.assert_allclose(target, expected, atol=1e-9)


def test_guided_by_hand_the_action_is_the_motion() -> None:
    truth = Truth(seed=8, latency=0.0, jitter=0.0)
    events = [event for event in truth.events if event[1] != "command"]
    events[0] = (0.123, "goal_pose", goal_pose())
    episode = align("hand", stamped(events), CONTRACT, KINEMATICS, demonstrated_by="hand_guiding")
    assert measured_at(episode)[0] == pytest.approx(0.12)
    position = CONTRACT.field(episode.observations, "joint_position")
    np.testing.assert_allclose(episode.actions * CONTRACT.max_step, np.diff(position, axis=0), atol=1e-12)


def test_a_recording_that_begins_in_a_motion_begins_where_everything_is_known() -> None:
    truth = Truth(seed=2, latency=0.0, jitter=0.0)
    whole = truth.align()
    late = truth.begin + 0.3 * PERIOD
    truth.events = [(late if role == "goal_pose" else time, role, message) for time, role, message in truth.events]
    episode = truth.align()
    np.testing.assert_allclose(episode.actions[1:-1], whole.actions[2:], atol=1e-9)
    np.testing.assert_array_equal(episode.observations[:-1], whole.observations[1:])


def test_a_first_command_with_the_stamp_of_the_first_joint_state_is_not_the_beginning() -> None:
    """By a coarse clock both are of one moment; the command was received first, so it answers nothing that is known."""
    truth = Truth(5, latency=0.0, jitter=0.0)
    samples = stamped([event for event in truth.events if event[0] > truth.sent[0] - 1e-9 or event[1] == "goal_pose"])
    first, state = samples["command"][0], samples["joint_states"][0]
    assert first.order < state.order
    samples["joint_states"][0] = state._replace(time=first.time)
    episode = align("late", samples, CONTRACT, KINEMATICS)
    np.testing.assert_allclose(episode.actions[1:20], truth.actions[2:21], atol=1e-9)


def without(role: str):
    return lambda events: [e for e in events if e[1] != role]


def gap(events):
    return [e for e in events if e[1] != "joint_states" or not 1.0 < e[0] < 1.2]


def edit(role: str, change):
    def apply(events):
        change([e for e in events if e[1] == role][0 if role == "goal_pose" else 45][2])
        return events

    return apply


def set_nan(message) -> None:
    message.position[2] = np.nan


def drop_joint(message) -> None:
    message.name, message.position, message.velocity = NAMES[:-1], message.position[:-1], message.velocity[:-1]


def foreign_frame(message) -> None:
    message.header.frame_id = "camera"


def infinite_target(message) -> None:
    message.points[0].positions[0] = np.inf


UNUSABLE = {
    "no message on joint_states": without("joint_states"),
    "no message on goal_pose": without("goal_pose"),
    "no command was recorded": without("command"),
    "a gap in joint_states": gap,
    "too short: 7 periods": lambda events: [e for e in events if e[0] < 0.35 + 8.5 * PERIOD],
    "panda_joint3 = nan": edit("joint_states", set_nan),
    "lacks panda_joint7": edit("joint_states", drop_joint),
    "'camera'": edit("goal_pose", foreign_frame),
    "panda_joint1 = inf": edit("command", infinite_target),
    "no goal_pose before": lambda events: [(e[0] + 1.0 * (e[1] == "goal_pose"), *e[1:]) for e in events],
}


@pytest.mark.parametrize("reason", UNUSABLE)
def test_what_cannot_be_used_is_rejected_by_name_and_reason(reason: str) -> None:
    truth = Truth(seed=0, latency=0.0, jitter=0.0)
    truth.events = UNUSABLE[reason](truth.events)
    with pytest.raises(EpisodeError) as error:
        truth.align()
    assert str(error.value).startswith("episode truth: ") and reason in str(error.value)


def test_a_clock_that_goes_back_is_rejected() -> None:
    samples = stamped(Truth(seed=0, latency=0.0, jitter=0.0).events)
    states = samples["joint_states"]
    states[100:] = [s._replace(time=s.time - 90 * SECOND) for s in states[100:]]
    with pytest.raises(EpisodeError, match="clock went back at message 100 of joint_states"):
        align("truth", samples, CONTRACT, KINEMATICS)


def test_motion_faster_than_the_task_allows_is_rejected_not_distorted() -> None:
    events = [(0.0, "goal_pose", goal_pose())]
    events += [(t, "joint_states", joint_state(HOME + 1.5 * t)) for t in np.arange(0, 1.0, 0.01)]
    with pytest.raises(EpisodeError, match="faster than the task allows in 100%"):
        align("fast", stamped(events), CONTRACT, KINEMATICS, demonstrated_by="hand_guiding")
