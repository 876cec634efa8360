"""Demonstrations in the forms of other libraries. Run by the Python of an environment that has the library:

    python exchange_forms.py write|read minari|lerobot|imitation SOURCE OUT

It uses numpy and that library, nothing of irl_ros: neither has to bear the other's pins. The other side of every form
is a plain directory, which :mod:`irl_ros.exchange` writes and reads: one npz file per episode (observations (T+1, n),
actions (T, m), float64) and about.json. A copy of about.json lies beside the library's own files as irl_ros.json: names
and labels have no place in all of the forms.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

PLAIN, OURS = "about.json", "irl_ros.json"
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # everything lies on this disk; nothing is looked up elsewhere


class Episode(NamedTuple):
    """observations (T+1, n), actions (T, m)."""

    observations: np.ndarray
    actions: np.ndarray
    terminated: bool = False


class FormError(Exception):
    """Something that the form cannot hold or does not have; the message says what."""


def plain_episodes(source: Path) -> Iterator[Episode]:
    for file in sorted(source.glob("*.npz")):
        with np.load(file, allow_pickle=False) as arrays:
            yield Episode(arrays["observations"], arrays["actions"], bool(arrays["terminated"]))


def write_plain(episodes: Iterable[Episode], ours: Path, out: Path) -> None:
    """`ours` is the irl_ros.json that an export left; without one the episodes are numbered and have no labels. One that
    names more episodes than there are is refused: which of them went is not known."""
    about = json.loads(ours.read_text()) if ours.is_file() else {}
    known = about.get("episodes", [])
    for k, episode in enumerate(episodes):
        entry = known[k] if k < len(known) else {"name": f"episode_{k:04d}", "success": None}
        arrays = {**episode._asdict(), "terminated": entry.get("terminated", episode.terminated)}
        if entry["success"] is not None:
            arrays["success"] = np.array(entry["success"])
        np.savez(out / f"{Path(entry['name']).name}.npz", **arrays)
    count = len(list(out.glob("*.npz")))
    if count < len(known):
        whose = f"{ours} has names and labels of {len(known)} episodes, and {count} are there"
        raise FormError(f"{whose}; without that file they are numbered")
    if about:
        (out / PLAIN).write_text(json.dumps(about))


def write_minari(source: Path, out: Path) -> None:
    """Rewards are NaN: nobody gave any, and a zero would be believed."""
    os.environ["MINARI_DATASETS_PATH"] = str(out)
    import minari
    from gymnasium.spaces import Box
    from minari.data_collector import EpisodeBuffer

    about, buffers = read_about(source), []
    for episode in plain_episodes(source):
        length = len(episode.actions)
        ends = np.arange(length) == length - 1
        buffers.append(
            EpisodeBuffer(
                observations=episode.observations,
                actions=episode.actions,
                rewards=[float("nan")] * length,
                terminations=(ends & episode.terminated).tolist(),
                truncations=(ends & (not episode.terminated)).tolist(),
            )
        )
    n, m = buffers[0].observations.shape[1], buffers[0].actions.shape[1]
    minari.create_dataset_from_buffers(
        about["dataset_id"],
        buffers,
        observation_space=Box(-np.inf, np.inf, (n,), np.float64),
        action_space=Box(-np.inf, np.inf, (m,), np.float64),
        algorithm_name="demonstrations recorded by irl_ros",
        description="Rewards are NaN: demonstrations carry none.",
        data_format="hdf5",
    )


def read_minari(source: Path) -> Iterator[Episode]:
    from minari import MinariDataset

    found = sorted(path.parent for path in source.rglob("metadata.json"))
    if len(found) != 1:
        raise FormError(f"{len(found)} Minari data sets below {source}, not one: {', '.join(map(str, found))}")
    for episode in MinariDataset(found[0]):
        arrays = episode.observations, episode.actions
        if not all(isinstance(a, np.ndarray) and a.ndim == 2 for a in arrays):
            raise FormError("its observations or actions are no vectors")
        yield Episode(*arrays, bool(np.any(episode.terminations)))


def write_lerobot(source: Path, out: Path) -> None:
    """A frame for each action; where an episode ended stands in `next.observation.state`."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    about, dataset = read_about(source), None
    names = {"observation.state": about["observation_names"], "action": about["action_names"]}
    names["next.observation.state"] = names["observation.state"]
    features: dict[str, Any] = {
        key: {"dtype": "float64", "shape": (len(of),), "names": list(of)} for key, of in names.items()
    }
    features["next.done"] = {"dtype": "bool", "shape": (1,), "names": None}
    if about["rate"] != int(about["rate"]):
        raise FormError(f"LeRobotDataset counts whole frames a second; the task's rate is {about['rate']:g}")
    dataset = LeRobotDataset.create(
        about["dataset_id"], int(about["rate"]), features, root=out, robot_type=about["robot"], use_videos=False
    )
    for episode in plain_episodes(source):
        for t, action in enumerate(episode.actions):
            frame = {
                "observation.state": episode.observations[t],
                "next.observation.state": episode.observations[t + 1],
                "action": action,
                "next.done": np.array([t == len(episode.actions) - 1]),
            }
            dataset.add_frame({**frame, "task": about["task"]})
        dataset.save_episode()
    dataset.finalize()


def read_lerobot(source: Path) -> Iterator[Episode]:
    """Without `next.observation.state`, as in most data sets, the last action is left out: where it led is not said."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    dataset = LeRobotDataset("irl_ros/local", root=source)
    keys = [k for k in ("observation.state", "action", "next.observation.state") if k in dataset.features]
    if keys[:2] != ["observation.state", "action"]:
        raise FormError(f"it needs observation.state and action; it has {', '.join(dataset.features)}")
    frames = dataset.hf_dataset.with_format("arrow")
    for entry in dataset.meta.episodes:
        table = frames[entry["dataset_from_index"] : entry["dataset_to_index"]]
        columns = {key: np.array(table[key].to_pylist(), np.float64) for key in keys}
        state, action = columns["observation.state"], columns["action"]
        after = columns.get("next.observation.state")
        if after is None:
            yield Episode(state, action[:-1])
        else:
            yield Episode(np.concatenate([state, after[-1:]]), action)


def write_imitation(source: Path, out: Path) -> None:
    from imitation.data import serialize
    from imitation.data.types import Trajectory

    found = [Trajectory(e.observations, e.actions, None, e.terminated) for e in plain_episodes(source)]
    serialize.save(out, found)


def read_imitation(source: Path) -> Iterator[Episode]:
    from imitation.data import serialize

    for trajectory in serialize.load(source):
        yield Episode(np.asarray(trajectory.obs), np.asarray(trajectory.acts), bool(trajectory.terminal))


def read_about(source: Path) -> dict[str, Any]:
    return json.loads((source / PLAIN).read_text())


WRITERS = {"minari": write_minari, "lerobot": write_lerobot, "imitation": write_imitation}
READERS = {"minari": read_minari, "lerobot": read_lerobot, "imitation": read_imitation}


def main(action: str, form: str, source: Path, out: Path) -> None:
    if action == "write":
        WRITERS[form](source, out)
        shutil.copyfile(source / PLAIN, out / OURS)
    else:
        write_plain(READERS[form](source), source / OURS, out)


if __name__ == "__main__":
    try:
        main(sys.argv[1], sys.argv[2], Path(sys.argv[3]).resolve(), Path(sys.argv[4]).resolve())
    except FormError as error:
        sys.exit(str(error))
