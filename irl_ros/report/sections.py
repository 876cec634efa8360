"""The sections of a report: what each shows, and what it says where something is missing."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from irl_ros.contract import Contract
from irl_ros.models.slices import PLANES, Slice, moved_thing, reward_slice
from irl_ros.models.tables import TablePolicy, TableReward
from irl_ros.report import figures, maps, playback
from irl_ros.report.episodes import joints_of
from irl_ros.report.exhibition import Exhibition, Section, missing, table
from irl_ros.report.health import health
from irl_ros.report.run import Run, flat

REST = 1.0
"""[s] that a moving picture's last frame stays."""
NO_REWARD = "This method learns no reward."
DISTANCE_IS_THE_TASK = ("irl_ros/Reach-v0", "irl_ros/PlanarReach-v0")
"""Env ids whose true reward is minus the distance to the goal; elsewhere it is a comparison and no more."""


def headline(show: Exhibition) -> Section:
    """What was learned from what, and success rates with their intervals."""
    facts = show.run.facts
    what = "a policy" if show.reward is None else "a reward and a policy"
    steps = facts.get("environment_steps")
    sentence = f"Learned {what} from {facts.get('demonstrations', 'an unknown number of')} demonstrations"
    sentence += f" and {steps:,} control periods of simulated experience" if steps else ""
    seconds = facts.get("training_wall_s")
    sentence += f", in {seconds:.0f} s of training." if seconds is not None else "."
    if _judged(show):
        body = _scores(show)
    else:
        body = missing("This env does not say whether an episode succeeded (no info['success']).")
    if "policy_return" in facts:
        body += f"<p>Mean return of the env's own reward: {facts['policy_return']:.3g} per episode.</p>"
    return Section("headline", "What was learned", f"<p>{escape(sentence)}</p>{body}")


def _judged(show: Exhibition) -> bool:
    """Whether the env tells success from failure."""
    return isinstance(show.played, str) or any(e.success is not None for e in show.played.episodes)


def _scores(show: Exhibition) -> str:
    rows, known = [], []
    for name, score in show.run.scores.items():
        if score is None:
            rows.append((name, "not measured in this run", ""))
        else:
            known.append(score)
            interval = f"{100 * score.low:.0f}–{100 * score.high:.0f} %"
            rows.append((name, f"{score.successes} of {score.trials} ({100 * score.rate:.0f} %)", interval))
    counts = table(rows, ("", "successful episodes", "95 % confidence (Wilson)"))
    if not known:
        return counts
    return counts + show.picture("success", figures.success_bars(known), "Success rates, 95 % Wilson intervals.")


def arm(show: Exhibition) -> Section:
    """Pictures of one episode driven by the learned policy."""
    title = "The policy at work"
    if isinstance(show.played, str):
        return Section("arm", title, missing(show.played))
    if not show.played.pictures:
        return Section("arm", title, missing(f"The env gives no pictures: {show.played.no_pictures}"))
    contract, episode = show.run.contract, show.played.episodes[0]
    chosen = playback.highlights(show.played.pictures, episode, contract)
    times = [_time(contract, picture.step) for picture in chosen]
    strip = figures.film_strip([picture.pixels for picture in chosen], times)
    outcome = {True: " It succeeds.", False: " It fails.", None: ""}[episode.success]
    caption = f"An episode that was never trained on, driven by the policy's mean.{outcome}"
    body = show.picture("arm", strip, caption)
    frames = [picture.pixels for picture in show.played.pictures]
    steps = [picture.step for picture in show.played.pictures]
    seconds = [*(contract.task.period * np.diff(steps)), REST]
    if contract.robot is not None and len(frames) > 1:
        body += show.film("arm_moving", frames, seconds, f"The same episode at the speed of the robot, {steps[-1]} periods.")
    return Section("arm", title, body)


def _time(contract: Contract, step: int) -> str:
    return f"step {step}" if contract.robot is None else f"{step * contract.task.period:.2f} s"


def paths(show: Exhibition) -> Section:
    """End effector paths of demonstrations and rollouts."""
    title, slices = "Paths of the end effector", show.run.contract.slices
    if "end_effector_position" not in slices:
        return Section("paths", title, missing("Drawn for observations that have the field end_effector_position."))
    if not show.groups:
        return Section("paths", title, show.absent)
    position, goal = slices["end_effector_position"], slices.get("goal_position")
    tracks = {name: [e.observations[:, position] for e in some] for name, some in show.groups.items()}
    goals = {
        name: [] if goal is None else [e.observations[-1, goal] for e in some] for name, some in show.groups.items()
    }
    caption = "In the base frame; demonstrations and policy rollouts have goals of their own."
    return Section("paths", title, show.absent + show.picture("paths", figures.paths(tracks, goals), caption))


def joints(show: Exhibition) -> Section:
    """Joint positions of demonstrations and rollouts over time."""
    title, contract = "Joints", show.run.contract
    if contract.robot is None or "joint_position" not in contract.slices:
        return Section("joints", title, missing("Drawn for robots whose observation has the field joint_position."))
    if not show.groups:
        return Section("joints", title, show.absent)
    caption = "Every joint over time; demonstrations and policy rollouts have starts and goals of their own."
    return Section("joints", title, show.absent + show.picture("joints", joints_of(show.groups, contract), caption))


def reward(show: Exhibition) -> Section:
    """The learned reward around the goal, or on the grid, beside the true one."""
    if isinstance(show.reward, TableReward):
        return _grid_reward(show)
    title, contract = "The learned reward around the goal", show.run.contract
    if show.reward is None:
        return Section("reward", title, missing(NO_REWARD))
    features = ", ".join(f"<code>{escape(f)}</code>" for f in contract.task.reward_features)
    body = f"<p>The reward sees: {features}.</p>"
    note = closeness_to_true_reward(contract)
    body += f'<p class="note">{escape(note)}</p>' if note else ""
    if moved_thing(contract) is None:
        body += missing("Drawn for observations that have the field end_effector_to_goal or object_to_goal.")
    else:
        body += _slices(show) if show.groups else show.absent
    return Section("reward", title, body)


def _grid_reward(show: Exhibition) -> Section:
    contract, learned = show.run.contract, show.reward.map
    grid = contract.task.grid
    policy = TablePolicy.from_arrays(show.run.checkpoint.policy_arrays, contract)
    tracks = [contract.field(e.observations, "end_effector_position") for e in show.run.demonstrations]
    body = f"<p>The reward sees, of the cell that a move leads to: <code>{escape(grid.features)}</code>.</p>"
    if grid.features == "goal_and_zone":
        body += (
            '<p class="note">These features name the goal and the keep-out region: learning had to find their signs and '
            "sizes, not where they lie. With one feature for each cell expect less away from the demonstrations.</p>"
        )
    caption = (
        "Mean reward of the moves that end in each cell; keep-out is hatched, the goal a star. The rank correlation of "
        f"the learned reward with the true one over all cells is {maps.agreement(grid, learned):.2f}."
    )
    picture = show.picture("reward", maps.reward_maps(grid, learned, policy.greedy, tracks), caption)
    return Section("reward", "The learned reward on the grid", body + picture)


def _slices(show: Exhibition) -> str:
    contract = show.run.contract
    thing = moved_thing(contract)
    to_goal = contract.slices[f"{thing}_to_goal"]
    episodes = next(iter(show.groups.values()))  # demonstrations, if there are any
    farthest = max(np.abs(e.observations[:, to_goal]).max() for e in episodes)
    extent = max(0.1, float(np.ceil(farthest / 0.05) * 0.05))
    template = episodes[0].observations[-1]
    slices = [reward_slice(show.reward, contract, template, plane, extent) for plane in PLANES]
    tracks = [-e.observations[:, to_goal] for e in show.run.demonstrations]
    best = max(slices, key=lambda s: s.rewards.max())
    peak = _distance(best).ravel()[best.rewards.argmax()]
    known = contract.task.env.rpartition(":")[2] in DISTANCE_IS_THE_TASK
    beside = "the true reward, −distance to the goal" if known else "−distance to the goal"
    caption = (
        f"Reward of an {thing.replace('_', ' ')} at rest near the goal (star). The learned reward is highest {100 * peak:.1f} cm "
        f"from the goal; its rank correlation with {beside} over these planes is {_agreement(slices):.2f}. "
        "The rest of the observation is that of an episode's end; away from the demonstrations the reward is a guess."
    )
    return show.picture("reward", figures.reward_slices(slices, tracks, beside), caption)


def _distance(slice_: Slice) -> np.ndarray:
    """Distance [m] to the goal of every point of the slice, shape (k, k)."""
    return np.hypot(*np.meshgrid(slice_.offsets, slice_.offsets))


def _agreement(slices: Sequence[Slice]) -> float:
    """Spearman's rank correlation of the learned reward and minus the distance."""
    learned = np.concatenate([s.rewards.ravel() for s in slices])
    true = -np.concatenate([_distance(s).ravel() for s in slices])
    return float(np.corrcoef([values.argsort().argsort() for values in (learned, true)])[0, 1])


def closeness_to_true_reward(contract: Contract) -> str:
    """A sentence when a reward feature is a distance that tasks are judged by; empty otherwise."""
    for feature in contract.task.reward_features:
        bare = re.sub(r"\s", "", feature)
        if "norm(" in bare and any(part in bare for part in ("_to_goal", "goal_position-", "-goal_position")):
            return (
                f"The feature {feature} is nearly the true reward, which is minus a distance to the goal: learning had "
                "to find its sign and shape, not the distance itself. On raw observations alone expect less."
            )
    return ""


def along(show: Exhibition) -> Section:
    """The learned reward over time, demonstrations against rollouts."""
    title, contract = "The learned reward along episodes", show.run.contract
    if show.reward is None:
        return Section("along", title, missing(NO_REWARD))
    if not show.groups:
        return Section("along", title, show.absent)
    series = {name: [playback.rewards(show.reward, e) for e in some] for name, some in show.groups.items()}
    panels = {"learned reward per control period": series}
    if (thing := moved_thing(contract)) is not None:
        field = contract.slices[f"{thing}_to_goal"]
        panels[f"distance from {thing.replace('_', ' ')} to goal [m]"] = {
            name: [np.linalg.norm(e.observations[:, field], axis=-1) for e in some]
            for name, some in show.groups.items()
        }
    label = "control periods" if contract.robot is None else "time [s]"
    figure = figures.over_time(panels, contract.task.period, label)
    returns = "; ".join(f"{name} {np.mean([s.sum() for s in some]):.1f}" for name, some in series.items())
    caption = f"Learned reward over time. Mean learned return: {returns}."
    return Section("along", title, show.absent + show.picture("along", figure, caption))


def curves(show: Exhibition) -> Section:
    """How learning went."""
    title = "Learning curves"
    config = show.run.checkpoint.provenance.get("config", {})
    figure = figures.learning_curves(show.run.metrics, config.get("policy_step", {}).get("kl_bound"))
    if figure is None:
        reason = NO_REWARD if show.reward is None else "The run has no training/metrics.jsonl."
        return Section("curves", title, missing(f"{reason} There are no curves to draw."))
    caption = (
        "One point per iteration. The reward gap should shrink as the policy comes to behave like the demonstrations; "
        "an effective sample size near 1 at β = 1 means that one trajectory would take all the weight."
    )
    return Section("curves", title, show.picture("learning", figure, caption))


def configuration(show: Exhibition) -> Section:
    """Everything needed to run it again."""
    run = show.run
    versions = run.facts.get("versions")
    figures_ = {k: v for k, v in run.facts.items() if k not in ("versions", "episodes", "health", "findings")}
    parts = [
        f"<p>The same again:</p><pre>{escape(command(run))}</pre>",
        "<h3>Versions</h3>",
        table(versions.items()) if versions else missing("The run has no summary.json, which would hold them."),
        f"<h3>Figures</h3>{table(figures_.items())}",
        f"<details><summary>Training options</summary>{table(flat(run.checkpoint.provenance.get('config', {})))}",
        f"</details><details><summary>Contract</summary>{table(flat(run.contract.to_dict()['task']))}</details>",
        *(missing(f"Not learned from: {reason}") for reason in run.rejected),
    ]
    return Section("configuration", "Configuration", "\n".join(parts))


def command(run: Run) -> str:
    """The command line that gives such a run."""
    facts, task, robot = run.facts, run.contract.task, run.contract.robot
    options: dict[str, Any] = {"method": run.method, "seed": facts.get("seed", 0)}
    steps = run.checkpoint.provenance.get("config", {}).get("environment_steps")
    options.update({"steps": steps} if steps else {})
    if robot is None:
        where = {"env": task.env, "horizon": task.horizon, "dataset": run.dataset}
        features = [] if task.reward_features == task.policy_inputs else ["--reward-features", *task.reward_features]
        return _command("train", {**where, **options, "out": run.path}, features)
    options = {"robot": robot.name, "task": task.name, **options}
    if "deployed_episodes" in facts:
        return _command("demo", {**options, "demonstrations": facts.get("demonstrations"), "out": run.path})
    return _command("train", {"dataset": run.dataset, **options, "out": run.path})


def _command(name: str, options: Mapping[str, Any], more: Sequence[str] = ()) -> str:
    words = [word for key, value in options.items() if value is not None for word in (f"--{key}", str(value))]
    return shlex.join(["irl_ros", name, *words, *more])


SECTIONS: tuple[Callable[[Exhibition], Section], ...] = (
    headline,
    arm,
    paths,
    joints,
    reward,
    along,
    curves,
    health,
    configuration,
)
