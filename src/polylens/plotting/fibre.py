"""Drawings of walks on a fibre: pictures on the way above their equal outputs, paths in the plane, distances and drift."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..fibre import FibreWalk
from .base import BLUE, FAINT, GREY, INK, ORANGE, _axes, _grey, draw, new_figure, picture, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = np.ndarray[Any, Any]
_FEW = 40  # outputs up to which each has a bar


@draw.register(FibreWalk)
def _(result: FibreWalk, ax: Axes | None = None, *, pictures: int = 6) -> Axes:
    """Draw inputs of two entries as a path in the plane, picture-like ones as a strip, others by distance and drift.

    A strip shows `pictures` inputs, evenly spaced by distance walked, and the target where there is one; `walk_figure` has
    their outputs below.
    """
    with style():
        if math.prod(result.path.shape[1:]) == 2:
            return _path(result, ax)
        return _distances(result, ax) if picture(result.start) is None else _strip(result, ax, pictures)


def walk_figure(result: FibreWalk, pictures: int = 6) -> Figure:
    """Return inputs along the walk, evenly spaced by distance walked, each above its outputs.

    Inputs that are no pictures are drawn as curves over their entries.
    """
    shown = [(f"{float(result.distance[k]):.3g} away", result.path[k], result.outputs[k]) for k in _along(result, pictures)]
    if shown:
        shown[0] = ("start", *shown[0][1:])
    with style():
        figure = new_figure(1.75 * max(4, len(shown)) + 0.6, 3.6)
        axes = figure.subplots(2, len(shown), squeeze=False, height_ratios=[1.5, 1], sharey="row")
        for k, (title, values, outputs) in enumerate(shown):
            _input(axes[0, k], values, title)
            _outputs(axes[1, k], outputs.reshape(-1), k == 0)
        figure.suptitle(_title(result), x=0.01, ha="left", fontsize=11.5, weight="bold")
    return figure


def _title(result: FibreWalk) -> str:
    drift = float(result.drift.max())
    return f"{result.num_crossings:,} regions entered; outputs differ by at most {drift:.1g}"


def _along(result: FibreWalk, count: int) -> list[int]:
    """Return points on the way, evenly spaced by the length of the path, the first and the last among them."""
    steps = torch.linalg.vector_norm(result.path.diff(dim=0).flatten(1), dim=1)
    walked = torch.cat([steps.new_zeros(1), steps.cumsum(0)])
    wanted = torch.linspace(0, float(walked[-1]), max(2, count), dtype=walked.dtype, device=walked.device)
    nearest = (walked[None] - wanted[:, None]).abs().argmin(1)
    nearest[-1] = len(walked) - 1
    return sorted(set(nearest.tolist()))


def _input(ax: Axes, values: torch.Tensor, title: str) -> None:
    ax.set_title(title, fontsize=9.5, loc="center", weight="normal", pad=4)
    if picture(values) is not None:
        ax.imshow(_grey(values).cpu().numpy(), cmap="gray", interpolation="nearest")
        ax.set_axis_off()
        return
    ax.plot(values.reshape(-1).cpu().numpy(), color=BLUE, linewidth=0.9, marker="o", markersize=2)
    ax.axhline(0, color=INK, linewidth=0.6)


def _outputs(ax: Axes, values: torch.Tensor, first: bool) -> None:
    heights = values.cpu().numpy()
    if len(heights) <= _FEW:
        colours = [GREY] * len(heights)
        if len(heights):
            colours[int(heights.argmax())] = ORANGE
        ax.bar(range(len(heights)), heights, color=colours, width=0.8)
    else:
        ax.plot(heights, color=GREY, linewidth=0.8)
    ax.axhline(0, color=INK, linewidth=0.6)
    if 1 < len(heights) <= 12:
        ax.set_xticks(range(len(heights)))
        ax.tick_params(axis="x", labelsize=8, length=0)
    ax.set_ylabel("output" if first else "")


def _strip(result: FibreWalk, ax: Axes | None, count: int) -> Axes:
    """Draw pictures side by side on one pair of axes, in units of their width."""
    ax = _axes(ax, 1.6 * (count + (result.target is not None)) + 0.2, 2.3)
    shown = [(f"{float(result.distance[k]):.3g} away", result.path[k]) for k in _along(result, count)]
    shown[0] = ("start", result.start)
    if result.target is not None:
        shown.append(("target", result.target))
    gap = 0.08
    for k, (title, values) in enumerate(shown):
        image = _grey(values).cpu().numpy()
        high = image.shape[0] / image.shape[1]
        left = k * (1 + gap) + (0.25 if title == "target" else 0.0)
        ax.imshow(
            image, cmap="gray", vmin=0 if image.ndim == 2 and image.min() >= 0 else None, extent=(left, left + 1, 0, high)
        )
        colour = ORANGE if title == "target" else INK
        ax.text(left + 0.5, -0.05, title, ha="center", va="top", fontsize=9.5, color=colour)
    ax.set(xlim=(0, left + 1), ylim=(-0.2, high))
    ax.set_aspect("equal")
    ax.set_axis_off()
    ax.set_title(_title(result))
    return ax


def _path(result: FibreWalk, ax: Axes | None) -> Axes:
    """Draw the path in the plane, with the points at which another region is entered."""
    ax = _axes(ax, 5.6, 5)
    points = result.path.flatten(1).cpu().numpy()
    ax.plot(*points.T, color=BLUE, linewidth=1.8, zorder=2)
    crossed = points[result.crossings.numpy()]
    ax.scatter(crossed[:, 0], crossed[:, 1], s=22, color="white", edgecolors=BLUE, zorder=3, label="another region")
    ax.scatter(points[0, 0], points[0, 1], s=46, color=INK, zorder=4, label="start")
    ax.scatter(points[-1, 0], points[-1, 1], s=46, color=ORANGE, zorder=4, label="end")
    if result.target is not None:
        aim = result.target.reshape(-1).cpu().numpy()
        ax.scatter(aim[0], aim[1], marker="x", s=50, color=GREY, zorder=4, label="target")
    if result.ray is not None:
        way = result.ray.reshape(-1).cpu().numpy()
        spread = float(np.ptp(points, axis=0).max()) or 1.0
        tip = points[-1] + way / np.linalg.norm(way) * 0.25 * spread
        ax.annotate("", tip, points[-1], arrowprops={"arrowstyle": "->", "color": BLUE, "linewidth": 1.8})
        ax.plot(*tip, alpha=0)  # so that the axes make room for it
    ax.grid(color=FAINT)
    ax.margins(0.1)
    ax.set_aspect("equal", adjustable="datalim")
    ax.set(xlabel="x1", ylabel="x2", title=_title(result))
    ax.legend(fontsize=9)
    return ax


def _distances(result: FibreWalk, ax: Axes | None) -> Axes:
    """Draw how far every point is from the start, and on a second, logarithmic axis how much the output is off."""
    ax = _axes(ax, 6.6, 3.6)
    entered = np.cumsum([bool(units) for units in result.crossed])
    many = entered[-1] > 0
    steps: Array = entered if many else np.arange(len(result.path))
    ax.plot(steps, result.distance.cpu().numpy(), color=BLUE, linewidth=1.6)
    ax.set_ylabel("distance from the start", color=BLUE)
    ax.set_xlabel("regions entered" if many else "bend")
    drift: Any = ax.twinx()
    drift.spines["right"].set_visible(True)
    drift.semilogy(steps, result.drift.clamp(min=1e-17).cpu().numpy(), ".", color=ORANGE, markersize=3)
    drift.set_ylim(1e-17, 1e-6)
    drift.set_ylabel("largest difference of an output", color=ORANGE)
    ax.set_title(_title(result))
    return ax
