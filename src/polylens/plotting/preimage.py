"""Drawings of preimages in domains of one and two dimensions: pieces of every dimension, unbounded ones up to the window."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..errors import GeometryError, ShapeError
from ..preimage import Piece, Preimage
from .base import BLUE, FAINT, GREEN, GREY, INK, ORANGE, PINK, SKY, _axes, draw, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = np.ndarray[Any, Any]
Window = tuple[tuple[float, float], tuple[float, float]]
_COLOURS = (BLUE, SKY, GREEN, PINK, "#E69F00", "#7B4FA3", "#8C564B", GREY)
_EDGED = 2000  # more pieces than this are drawn without edges
_THIN = 0.004  # and so are pieces narrower than this part of the window


@draw.register(Preimage)
def _(
    result: Preimage, ax: Axes | None = None, *, window: Window | None = None, points: Any = None, label: str | None = None
) -> Axes:
    """Draw a preimage in a domain of one or two dimensions, over the domain's coordinates.

    Pieces of two dimensions are filled, in colours by their patterns; lower ones are lines and dots. `window` ((low, high),
    (low, high)) is what is shown, by default the domain, or what lies around the corners of an unbounded one. `points`,
    inputs (n, *input_shape) such as samples, are drawn on top, under the name `label`.

    Raises GeometryError for another dimension, ShapeError for points of another shape.
    """
    if result.domain.dim not in (1, 2):
        raise GeometryError(
            f"plot: expected a domain of 1 or 2 dimensions; got {result.domain.dim}; look at a Segment or a Plane"
        )
    at = _coordinates(result, points)
    shown = window or _window(result, at)
    with style():
        ax = _axes(ax, 6.4, 5.4 if result.domain.dim == 2 else 2.2)
        if result.domain.dim == 2:
            _plane(result, ax, shown)
        else:
            _line(result, ax, shown)
        if at is not None:
            ax.plot(at[:, 0], at[:, 1], ".", color=INK, ms=3, label=label or "_points", zorder=5)
        _words(result, ax)
    return ax


def _coordinates(result: Preimage, points: Any) -> Array | None:
    if points is None:
        return None
    x = torch.as_tensor(points)
    if x.ndim < 2 or x[0].numel() != result.domain.num_inputs:
        raise ShapeError(f"plot: expected points (n, *{result.network.input_shape}); got {tuple(x.shape)}")
    u: Tensor = result.domain.project(x.double().flatten(1))
    found = u.numpy()
    return found if found.shape[1] == 2 else np.concatenate([found, np.full((len(found), 1), 0.5)], 1)


def _window(result: Preimage, points: Array | None) -> Window:
    dim = result.domain.dim
    if result.domain.is_bounded:
        corners = result.domain.start().points
    else:
        of = result.arrays
        corners = np.concatenate(
            [np.zeros((1, dim)), of.points[of.weight > 0], *([points[:, :dim]] if points is not None else [])]
        )
    low, high = corners.min(0), corners.max(0)
    room = np.maximum(0.04 * (high - low), 0.0) if result.domain.is_bounded else np.maximum(0.6 * (high - low), 1.0)
    sides = [(float(a), float(b)) for a, b in zip(low - room, high + room, strict=True)]
    return (sides[0], sides[1]) if dim == 2 else (sides[0], (0.0, 1.0))


def _outline(piece: Piece, window: Window) -> Array:
    """Return the corners of a piece in order; where it has no end it goes on far behind the window."""
    vertices, rays = piece.vertices, piece.rays
    if len(rays):
        reach = 4 * (np.abs(vertices).max() + sum(b - a for a, b in window))
        far = (vertices[:, None] + reach * rays / np.abs(rays).max(1, keepdims=True)).reshape(-1, vertices.shape[1])
        vertices = np.concatenate([vertices, far])
    if piece.dimension < 2:
        along = vertices @ np.linalg.svd(vertices - vertices.mean(0))[2][0]
        return vertices[[int(along.argmin()), int(along.argmax())]]
    from .._hull import cycle

    return vertices[cycle(vertices)]


def _width(corners: Array) -> float:
    """Return about how wide a polygon is: four areas over its perimeter."""
    following = np.roll(corners, -1, 0)
    area = abs(float((corners[:, 0] * following[:, 1] - corners[:, 1] * following[:, 0]).sum())) / 2
    around = float(np.linalg.norm(following - corners, axis=1).sum())
    return 4 * area / around if around else 0.0


def _plane(result: Preimage, ax: Axes, window: Window) -> None:
    from matplotlib.collections import LineCollection, PolyCollection

    if result.domain.is_bounded:
        corners = result.domain.start().points
        from .._hull import cycle

        ax.fill(*corners[cycle(corners)].T, facecolor="none", edgecolor=FAINT, lw=1)
    pieces = [p for p in result if p.dimension == 2]
    shades = _shades(result)
    outlines = [(_outline(p, window), shades[p.index]) for p in pieces]
    thin = [len(pieces) > _EDGED or _width(corners) < _THIN * max(b - a for a, b in window) for corners, _ in outlines]
    for chosen, edge in ((False, "white"), (True, "face")):  # white edges would cover thin pieces
        drawn = [outline for outline, flag in zip(outlines, thin, strict=True) if flag == chosen]
        ax.add_collection(
            PolyCollection([c for c, _ in drawn], facecolors=[s for _, s in drawn], edgecolors=edge, linewidths=0.6)
        )
    lines = [_outline(p, window) for p in result if p.dimension == 1]
    ax.add_collection(LineCollection(lines, colors=ORANGE, linewidths=2.2, capstyle="round"))
    dots = np.array([p.vertices[0] for p in result if p.dimension == 0]).reshape(-1, 2)
    ax.plot(dots[:, 0], dots[:, 1], "o", color=ORANGE, ms=6, mec="white")
    ax.set(xlim=window[0], ylim=window[1], xlabel="coordinate 0", ylabel="coordinate 1")
    ax.set_aspect("equal", "box")


def _line(result: Preimage, ax: Axes, window: Window) -> None:
    from matplotlib.collections import PolyCollection

    shades, pieces = _shades(result), [p for p in result if p.dimension == 1]
    ends = np.array([np.sort(_outline(p, window)[:, 0]) for p in pieces]).reshape(-1, 2)
    bars = np.stack([ends[:, [0, 1, 1, 0]], np.broadcast_to([0.25, 0.25, 0.75, 0.75], (len(ends), 4))], 2)
    edge: Any = "white" if len(pieces) <= _EDGED else "face"
    ax.add_collection(PolyCollection(list(bars), facecolors=[shades[p.index] for p in pieces], edgecolors=edge, linewidths=0.6))
    dots = np.array([p.vertices[0, 0] for p in result if p.dimension == 0])
    ax.plot(dots, np.full(len(dots), 0.5), "o", color=ORANGE, ms=7, mec="white")
    ax.set(xlim=window[0], ylim=(0.0, 1.0), xlabel="coordinate", yticks=[])


def _shades(result: Preimage) -> list[str]:
    """Return a colour for every piece; those of one pattern share theirs."""
    _, which = np.unique(result.arrays.words, axis=0, return_inverse=True)
    return [_COLOURS[int(k) % len(_COLOURS)] for k in which.reshape(-1)]


def _words(result: Preimage, ax: Axes) -> None:
    if not len(result):
        title = "No input of the domain" if result.complete else f"Nothing found before the {result.reason}"
    else:
        count = f"{len(result):,} {'piece' if len(result) == 1 else 'pieces'}"
        share = result.fraction if result.dimension == result.domain.dim else None
        title = count if share is None else f"{count}, {share:.2%} of the domain"
    ax.set_title(title)
    if ax.get_legend_handles_labels()[1]:
        ax.legend(loc="best")
