"""Drawings of injectivity: how many directions the active rows span in a plane, and the largest bias at every angle."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..ball import Ball
from ..domain import Domain
from ..errors import GeometryError
from ..injectivity import Injectivity
from ..largest_bias import LargestBias
from .base import BLUE, FAINT, GREY, INK, ORANGE, _axes, draw, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = np.ndarray[Any, Any]
_PIXELS = 500
_RANKS = ("#D55E00", "#F5C9A8", "#DCEAF5")  # 0, 1 and 2 directions
_ANGLES = 1441


@draw.register(Injectivity)
def _(result: Injectivity, ax: Axes | None = None, *, window: Any = None) -> Axes:
    """Draw the plane of a ReLU layer with two inputs, coloured by the rank of its active rows; `window` is ((low, high), ...).

    Where that is 2 the layer is injective nearby. Lines are where rows begin to be active, each with ticks on its active side;
    the two ends of the thick line share an output.

    Raises GeometryError for other gates and other numbers of inputs.
    """
    if result.weight.shape[1] != 2 or result.gate != "relu":
        raise GeometryError(
            f"plot: expected a ReLU layer with 2 inputs; got {result.gate} with {result.weight.shape[1]}; ask for a Plane of"
            " the inputs, in whose coordinates the layer has two"
        )
    (left, right), (bottom, top) = window or _window(result)
    x = np.linspace(left, right, _PIXELS)
    y = np.linspace(bottom, top, _PIXELS)
    rank = _rank(result, np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)).reshape(_PIXELS, _PIXELS)
    with style():
        ax = _axes(ax, 6.6, 5)
        from matplotlib.colors import ListedColormap
        from matplotlib.patches import Patch

        ax.imshow(rank, extent=(left, right, bottom, top), origin="lower", cmap=ListedColormap(_RANKS), vmin=0, vmax=2)
        _lines(ax, result, (left, right, bottom, top))
        _edge(ax, result)
        names = [f"active rows span {k} direction{'' if k == 1 else 's'}" for k in range(3)]
        shown: list[Any] = [Patch(color=_RANKS[k], label=names[k]) for k in range(3) if bool((rank == k).any())]
        if result.pair is not None:
            low, high = result.pair.numpy()
            shown += ax.plot(*zip(low, high, strict=True), "o-", color=INK, markersize=5, linewidth=2.5, label="one output")
        ax.legend(handles=shown, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=len(shown), handlelength=1.4)
        word = {True: "Injective", False: "Not injective", None: "Undecided"}[result.answer]
        ax.set(xlim=(left, right), ylim=(bottom, top), xlabel="input 0", ylabel="input 1")
        ax.set_title(f"{word}: {len(result.weight)} rows on 2 inputs")
    return ax


def _window(result: Injectivity) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return what is shown: the domain, or where the rows and the pair lie."""
    domain = result.domain
    if isinstance(domain, Ball):
        low, high = domain.center.numpy() - 1.15 * domain.radius, domain.center.numpy() + 1.15 * domain.radius
        return (low[0], high[0]), (low[1], high[1])
    lengths = torch.linalg.vector_norm(result.weight, dim=1)
    live = lengths > 0
    feet = (-result.bias[live] / lengths[live] ** 2)[:, None] * result.weight[live]
    points = [feet] if result.pair is None else [feet, result.pair]
    sides = domain.sides
    if domain.is_bounded and len(sides):
        from ..geometry import bounding_box

        box = bounding_box(sides)
        corners = torch.cartesian_prod(*[torch.stack([a, b]) for a, b in zip(box.low, box.high, strict=True)]).reshape(
            -1, domain.dim
        )
        points = [domain.embed(corners)]
    x = torch.cat(points).numpy()
    middle, half = (x.max(0) + x.min(0)) / 2, max(0.6 * float(np.ptp(x, axis=0).max()), 0.0)
    half = half if half > 0 else 1.0
    return (middle[0] - half, middle[0] + half), (middle[1] - half, middle[1] + half)


def _rank(result: Injectivity, x: Array) -> Array:
    """Return the rank of the active rows at points (points, 2): 2 where two of them are not parallel."""
    weight, bias = result.weight.numpy(), result.bias.numpy()
    live = weight.any(1)
    active = x @ weight[live].T + bias[live] >= 0
    angle = np.mod(np.arctan2(weight[live, 1], weight[live, 0]), math.pi)
    first = np.where(active.any(1), angle[active.argmax(1)], 0.0) if len(angle) else np.zeros(len(x))
    apart = np.abs(np.sin(angle[None] - first[:, None])) > 1e-9
    rank: Array = active.any(1).astype(int) + (active & apart).any(1)
    return rank


def _lines(ax: Axes, result: Injectivity, window: tuple[float, float, float, float]) -> None:
    """Draw where each row begins to be active, with short ticks on its active side."""
    left, right, bottom, top = window
    width = max(right - left, top - bottom)
    middle = np.array([(left + right) / 2, (bottom + top) / 2])
    for row, offset in zip(result.weight.numpy(), result.bias.numpy(), strict=True):
        size = float(np.linalg.norm(row))
        if size == 0:
            continue
        normal, along = row / size, np.array([-row[1], row[0]]) / size
        foot = middle - (float(normal @ middle) + offset / size) * normal
        ends = np.stack([foot - 2 * width * along, foot + 2 * width * along])
        ax.plot(ends[:, 0], ends[:, 1], color=GREY, linewidth=1)
        for t in np.linspace(-1, 1, 33) * width:
            tick = np.stack([foot + t * along, foot + t * along + 0.012 * width * normal])
            ax.plot(tick[:, 0], tick[:, 1], color=GREY, linewidth=0.8)


def _edge(ax: Axes, result: Injectivity) -> None:
    """Draw the boundary of a ball or of a bounded domain of two dimensions."""
    domain = result.domain
    if isinstance(domain, Ball):
        turn = np.linspace(0, 2 * math.pi, 361)
        circle = domain.center.numpy() + domain.radius * np.stack([np.cos(turn), np.sin(turn)], 1)
        ax.plot(circle[:, 0], circle[:, 1], color=INK, linewidth=1.2)
    elif isinstance(domain, Domain) and domain.is_bounded and domain.dim == 2:
        from .._hull import cycle
        from ..geometry import vertices

        corners = domain.embed(vertices(domain.sides)).numpy()
        around = corners[cycle(corners)]
        ax.fill(around[:, 0], around[:, 1], fill=False, edgecolor=INK, linewidth=1.2)


@draw.register(LargestBias)
def _(result: LargestBias, ax: Axes | None = None) -> Axes:
    """Draw the largest alpha at every angle of the circle, for rows of two entries, and where it is least."""
    if result.weight.shape[1] != 2 or result.point is None:
        raise GeometryError(f"plot: expected rows of 2 entries that span the plane; got {tuple(result.weight.shape)}")
    angle = np.linspace(-math.pi, math.pi, _ANGLES)
    circle = result.radius * np.stack([np.cos(angle), np.sin(angle)], 1)
    rows = circle @ result.weight.numpy().T
    with style():
        ax = _axes(ax, 7, 3.8)
        for k, value in enumerate(rows.T):
            ax.plot(np.degrees(angle), value, color=FAINT, linewidth=1, label="single rows" if k == 0 else None)
        ax.plot(np.degrees(angle), result.level(circle).numpy(), color=BLUE, linewidth=2, label="largest alpha that spans")
        ax.axhline(result.value, color=ORANGE, linewidth=1, linestyle="--", label=f"everywhere: {result.value:.4g}")
        if bool(result.point.any()):
            where = math.degrees(math.atan2(float(result.point[1]), float(result.point[0])))
            ax.plot([where], [result.value], "o", color=ORANGE)
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=3)
        ax.set(xlim=(-180, 180), xticks=range(-180, 181, 60), xlabel="angle of x in degrees", ylabel="alpha")
        ax.set_title(f"The largest bias of {len(result.weight)} rows")
    return ax
