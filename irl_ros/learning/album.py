"""Histograms and pictures of a training in TensorBoard: what rewards say of whom, and where the end effector goes.

Drawn as often as a small share of the training's time pays for, and once more at its end. Nothing here draws on random
numbers: a training with an album learns the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.tensorboard import SummaryWriter

from irl_ros.data.episode import MOST_SHOWN, Demonstrations, spread
from irl_ros.learning.batch import Batch
from irl_ros.learning.method import Method
from irl_ros.learning.rollout import Trajectory
from irl_ros.models.inference import reward_from_arrays
from irl_ros.models.slices import PLANES, Slice, moved_thing, reward_slice

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHARES = {"histograms": 0.01, "pictures": 0.018}
"""Of the training's time, what each may take."""
AT_THE_END = 0.03
"""Of the training's time, what all may have taken when the last pictures are made."""
DEAREST = {"histograms": 0.03, "pictures": 0.6}
"""[s] What one is taken to cost before the first has been made."""
POINTS = 21
"""Along either axis of a reward slice."""
DEMONSTRATION, SAMPLE = "#E69F00", "#0072B2"


class Album:
    """Of one training; `demonstrations` and `batch` are the same ones."""

    def __init__(self, demonstrations: Demonstrations, batch: Batch, writer: SummaryWriter):
        self._contract, self._batch, self._writer = demonstrations.contract, batch, writer
        self._shown = spread(demonstrations.episodes, MOST_SHOWN)
        self._started = time.monotonic()
        self.spent = dict.fromkeys(SHARES, 0.0)
        """[s] by kind."""
        self._cost = dict(DEAREST)
        self._latest: Callable[[], None] | None = None

    def observe(self, iteration: int, trajectories: Sequence[Trajectory], samples: Batch, method: Method) -> None:
        """After an iteration: what its policy drew, and the method that has learned from it."""
        self._latest = lambda: self._pictures(iteration, trajectories, method)
        self._pay("histograms", lambda: self._histograms(iteration, samples, method))
        self._pay("pictures", self._latest)

    def close(self) -> None:
        """The pictures of the last iteration, if they have not been made and the training was long enough for them."""
        total = sum(self.spent.values()) + self._cost["pictures"]
        if self._latest is not None and total <= AT_THE_END * (time.monotonic() - self._started):
            self._make("pictures", self._latest)

    def _pay(self, kind: str, draw: Callable[[], None]) -> None:
        if self.spent[kind] + self._cost[kind] <= SHARES[kind] * (time.monotonic() - self._started):
            self._make(kind, draw)

    def _make(self, kind: str, draw: Callable[[], None]) -> None:
        start = time.monotonic()
        draw()
        self._cost[kind] = time.monotonic() - start
        self.spent[kind] += self._cost[kind]

    @torch.no_grad()
    def _histograms(self, iteration: int, samples: Batch, method: Method) -> None:
        for who, batch in (("demonstrations", self._batch), ("samples", samples)):
            counted = batch.counted.bool()
            reward = method.learned_reward(batch)
            self._writer.add_histogram(f"r(x,u)/{who}", reward[counted].cpu(), iteration)
            self._writer.add_histogram(f"u/{who}", batch.actions[counted].cpu(), iteration)

    def _pictures(self, iteration: int, trajectories: Sequence[Trajectory], method: Method) -> None:
        self._latest = None
        contract = self._contract
        if (thing := moved_thing(contract)) is not None:
            reward = reward_from_arrays(method.reward_arrays(), contract)
            column = contract.slices[f"{thing}_to_goal"]
            rows = np.concatenate([e.observations[:, column] for e in self._shown])
            template, extent = self._shown[0].observations[-1], max(0.1, float(np.abs(rows).max()))
            slices = [reward_slice(reward, contract, template, plane, extent, POINTS) for plane in PLANES]
            self._writer.add_image("r/around_the_goal", _slices(slices), iteration, dataformats="HWC")
        if (position := contract.slices.get("end_effector_position")) is not None:
            shown = [e.observations[:, position] for e in self._shown]
            drawn = [t.observations[: t.length + 1, position] for t in trajectories]
            self._writer.add_image("τ/end_effector", _paths(shown, drawn), iteration, dataformats="HWC")


def _slices(slices: Sequence[Slice]) -> np.ndarray:
    """Pixels (H, W, 3) of the learned reward about the goal, a panel for each slice."""

    def draw(axes: Axes, slice_: Slice) -> None:
        ends = (slice_.offsets[0], slice_.offsets[-1])
        axes.imshow(slice_.rewards, origin="lower", extent=(*ends, *ends), cmap="cividis")
        axes.set(xlabel=f"{slice_.thing} − goal: {slice_.axes[0]} [m]", ylabel=f"{slice_.axes[1]} [m]")
        lowest, highest = slice_.rewards.min(), slice_.rewards.max()
        axes.set_title(f"learned reward: {lowest:.2f} (blue) to {highest:.2f} (yellow)", fontsize=8)

    return _panels(draw, slices)


def _paths(shown: Sequence[np.ndarray], drawn: Sequence[np.ndarray]) -> np.ndarray:
    """Pixels (H, W, 3) of end effector paths (T+1, 3) [m], a panel for each plane."""

    def draw(axes: Axes, plane: tuple[str, str]) -> None:
        columns = ["xyz".index(name) for name in plane]
        for tracks, colour, label in ((drawn, SAMPLE, "samples"), (shown, DEMONSTRATION, "demonstrations")):
            for k, track in enumerate(tracks):
                axes.plot(*track[:, columns].T, color=colour, lw=1.0, label="" if k else label)
        axes.set(xlabel=f"{plane[0]} [m]", ylabel=f"{plane[1]} [m]", aspect="equal")
        axes.legend(fontsize=7)

    return _panels(draw, PLANES)


def _panels(draw: Callable[[Axes, Any], None], things: Sequence[Any]) -> np.ndarray:
    """One small panel for each thing, side by side."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # half a second, which short trainings do without
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.6 * len(things), 3.0), dpi=72)  # a layout engine would cost as much again
    canvas = FigureCanvasAgg(figure)
    for axes, thing in zip(figure.subplots(1, len(things), squeeze=False)[0], things):
        draw(axes, thing)
    figure.subplots_adjust(left=0.11, right=0.97, bottom=0.17, top=0.9, wspace=0.35)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]
