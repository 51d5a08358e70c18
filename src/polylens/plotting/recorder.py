"""Drawings of recordings: how balanced layers are, how far apart images, and losses, step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from ..recorder import Recording
from .base import ORANGE, _axes, draw, new_figure, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WORDS = {
    "saturation": ("mean |2 P(active) − 1|", "Saturation: 0 balanced, 1 no unit switches"),
    "distances": ("mean distance, in parts of the units", "Hamming distance of random pairs"),
}


@draw.register(Recording)
def _(result: Recording, ax: Axes | None = None, *, of: str = "saturation") -> Axes:
    """Draw saturation, distances or one of the caller's scalars against the steps, a line for each layer."""
    if not len(result):
        raise InputError("plot: expected a recording of one step or more; got none")
    known = [*_WORDS, *_scalars(result)]
    if of not in known:
        raise InputError(f"of: expected one of {known}; got {of!r}")
    with style():
        ax = _axes(ax, 6, 3.4)
        if of in _WORDS:
            values = getattr(result, of)().numpy()
            colours = _depths(values.shape[1])
            for k, layer in enumerate(result.layers):
                ax.plot(result.steps, values[:, k], "o-", markersize=3, color=colours[k], label=layer.name)
            ax.set_ylim(0, 1.02 if of == "saturation" else max(0.55, 1.05 * float(np.nanmax(values, initial=0.0))))
            ax.set(ylabel=_WORDS[of][0], title=_WORDS[of][1])
        else:
            ax.plot(result.steps, result.scalars(of).numpy(), "o-", markersize=3, color=ORANGE)
            ax.set(ylabel=of, title=of)
        if of in _WORDS and 1 < len(result.layers) <= 12:
            ax.legend(fontsize=7, ncols=2 if len(result.layers) > 6 else 1)
        ax.set(xlabel="step")
        ax.grid(axis="y")
    return ax


def recording_figure(result: Recording) -> Figure:
    """Return saturation, distances and every scalar of a recording side by side."""
    panels = ["saturation", "distances", *_scalars(result)]
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    with style():
        figure = new_figure(4.2 * columns, 3.2 * rows)
        axes = figure.subplots(rows, columns, squeeze=False).flat
        for ax, of in zip(axes, panels, strict=False):
            draw(result, ax, of=of)
        for ax in list(axes)[len(panels) :]:
            ax.set_axis_off()
    return figure


def _scalars(result: Recording) -> list[str]:
    """Return the names of the caller's own numbers, in the order in which they first came."""
    return list(dict.fromkeys(name for s in result.snapshots for name in s.scalars))


def _depths(count: int) -> list[Any]:
    """Return a colour for each layer, dark for the first."""
    import matplotlib

    return [matplotlib.colormaps["viridis"](0.05 + 0.85 * k / max(1, count - 1)) for k in range(count)]
