"""Drawings of zeros: where searches came to rest in the plane, or how large their residuals are."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ..zeros import Zeros
from .base import BLUE, GREY, ORANGE, _axes, draw, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = np.ndarray[Any, Any]
_ZERO = 1e-17  # where residuals of exactly 0 are shown on a logarithmic axis
_MARKS = {"exact": ("o", 26), "least squares": ("s", 20), "failed": ("x", 22)}


@draw.register(Zeros)
def _(result: Zeros, ax: Axes | None = None, *, bins: int = 40) -> Axes:
    """Draw inputs of two entries as points, coloured by their residual; others as a histogram of residuals of `bins` bars."""
    with style():
        return _points(result, ax) if math.prod(result.network.input_shape) == 2 else _histogram(result, ax, bins)


def _groups(result: Zeros) -> dict[str, Array]:
    masks = {"exact": result.exact, "least squares": result.least_squares, "failed": result.failed}
    return {name: mask.cpu().numpy() for name, mask in masks.items() if bool(mask.any())}


def _logarithm(result: Zeros) -> Array:
    found: Array = np.log10(np.maximum(result.residuals.cpu().numpy(), _ZERO))
    return found


def _points(result: Zeros, ax: Axes | None) -> Axes:
    ax = _axes(ax, 6.4, 5)
    x, values = result.points.flatten(1).cpu().numpy(), _logarithm(result)
    low, high = float(values.min()), float(values.max())
    shade: Any = {"cmap": "viridis", "vmin": low, "vmax": max(high, low + 1)}
    for name, mask in _groups(result).items():
        marker, size = _MARKS[name]
        shown = ax.scatter(
            x[mask, 0], x[mask, 1], c=values[mask], s=size, marker=marker, label=f"{name}: {int(mask.sum()):,}", **shade
        )
    ax.figure.colorbar(shown, ax=ax, label="residual, as a power of 10")
    legend = ax.legend(loc="best", frameon=True, framealpha=0.9, edgecolor="none")
    for handle in legend.legend_handles:
        handle.set_color(GREY)  # type: ignore[union-attr]
    middle, half = (x.max(0) + x.min(0)) / 2, (x.max(0) - x.min(0)).max() / 2
    if half < 1e-3 * max(1.0, float(np.abs(middle).max())):  # one point but for rounding: the axes show where it is
        room = max(1.0, float(np.abs(middle).max()))
        ax.set(xlim=(middle[0] - room, middle[0] + room), ylim=(middle[1] - room, middle[1] + room))
    ax.set(xlabel="input 0", ylabel="input 1", title=f"Where {len(result):,} searches came to rest")
    ax.set_aspect("equal", "datalim")
    return ax


def _histogram(result: Zeros, ax: Axes | None, bins: int) -> Axes:
    ax = _axes(ax, 7, 3.5)
    values, groups = _logarithm(result), _groups(result)
    edges = np.linspace(values.min() - 0.1, values.max() + 0.1, bins + 1)
    colours = {"exact": BLUE, "least squares": ORANGE, "failed": GREY}
    ax.hist(
        [values[mask] for mask in groups.values()],
        bins=edges.tolist(),
        stacked=True,
        color=[colours[name] for name in groups],
        label=[f"{name}: {int(mask.sum()):,}" for name, mask in groups.items()],
    )
    ax.legend(loc="best")
    ax.set(xlabel="residual, as a power of 10", ylabel="starts", title=f"Residuals of {len(result):,} searches")
    return ax
