"""What the sections of a report share: the run, its policy played once, pictures, pieces of HTML."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from irl_ros.contract import ContractError
from irl_ros.data.episode import Episode
from irl_ros.models.inference import Reward, reward_from_arrays
from irl_ros.models.tables import TableReward
from irl_ros.report import playback
from irl_ros.report.run import Run

SEEDS = range(1_900_000_000, 1_900_000_010)
"""Of the episodes that are shown: neither trained on nor evaluated."""


class Section(NamedTuple):
    id: str
    title: str
    html: str


class Exhibition:
    """A run and what several sections need of it, made once: rollouts, the reward, a place for pictures."""

    def __init__(self, run: Run, pictures: Path):
        self.run, self._pictures = run, pictures

    @property
    def title(self) -> str:
        task, robot = self.run.contract.task.name, self.run.contract.robot
        return f"{task}{f' on {robot.name}' if robot is not None else ''}, learned by {self.run.method.upper()}"

    @cached_property
    def played(self) -> playback.Playback | str:
        """Rollouts of the policy, or why there are none."""
        try:
            return playback.play(self.run.checkpoint, SEEDS)
        except (gymnasium.error.Error, ImportError, ContractError) as error:
            return f"The env {self.run.contract.task.env} cannot be made here: {error}"

    @property
    def groups(self) -> dict[str, Sequence[Episode]]:
        """Demonstrations and rollouts, as far as there are any."""
        rollouts = () if isinstance(self.played, str) else self.played.episodes
        groups = {"demonstrations": self.run.demonstrations, "policy rollouts": rollouts}
        return {name: episodes for name, episodes in groups.items() if episodes}

    @property
    def absent(self) -> str:
        """Sentences about groups that there are none of; empty when all are there."""
        reasons = [self.run.no_demonstrations, self.played if isinstance(self.played, str) else ""]
        return "".join(missing(reason) for reason in reasons if reason)

    @cached_property
    def reward(self) -> Reward | TableReward | None:
        arrays = self.run.checkpoint.reward_arrays
        return reward_from_arrays(arrays, self.run.contract) if arrays else None

    def picture(self, name: str, figure: Figure, caption: str) -> str:
        """HTML with the figure inside; saved as ``<name>.png`` too."""
        return picture(self._pictures, name, figure, caption)

    def film(self, name: str, frames: Sequence[np.ndarray], seconds: Sequence[float], caption: str) -> str:
        """HTML with a moving picture of frames (H, W, 3), each shown so long; saved as ``<name>.gif`` too."""
        first, *others = [Image.fromarray(frame).quantize(64, dither=Image.Dither.NONE) for frame in frames]
        buffer = io.BytesIO()
        milliseconds = [max(20, round(1000 * s)) for s in seconds]  # below 20 browsers take 100
        first.save(buffer, "GIF", save_all=True, append_images=others, duration=milliseconds, loop=0)
        return _shown(self._pictures / f"{name}.gif", buffer.getvalue(), caption)


def picture(directory: Path, name: str, figure: Figure, caption: str) -> str:
    """HTML with the figure inside; saved as ``<name>.png`` in `directory` too."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return _shown(directory / f"{name}.png", buffer.getvalue(), caption)


def _shown(file: Path, content: bytes, caption: str) -> str:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    source, text = f"data:image/{file.suffix[1:]};base64,{base64.b64encode(content).decode()}", escape(caption)
    return f'<figure><img alt="{text}" src="{source}"><figcaption>{text}</figcaption></figure>'


def missing(reason: str) -> str:
    return f'<p class="missing">{escape(reason)}</p>'


def table(rows: Iterable[Sequence[Any]], head: Sequence[str] = ()) -> str:
    """Rows of cells, and what stands above them."""

    def row(cells: Sequence[Any], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(_text(c))}</{tag}>" for c in cells) + "</tr>"

    return "<table>" + (row(head, "th") if head else "") + "".join(row(cells, "td") for cells in rows) + "</table>"


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
