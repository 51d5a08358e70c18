"""Drawings of invertibility: kinds of preimages, counted by the number of positive outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..invertibility import Invertibility
from ..layer_preimage import KINDS, WORDS
from .base import BLUE, GREEN, GREY, INK, ORANGE, _axes, draw, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = np.ndarray[Any, Any]
_FAR = 3  # a line at more than so many times the positive outputs would leave the bars too little room
_NARROW = 10  # a panel shows so many counts at least
_COLOURS = {"singleton": GREEN, "bounded": BLUE, "unbounded": ORANGE, "undecided": GREY}


@draw.register(Invertibility)
def _(result: Invertibility, ax: Axes | None = None, *, layer: str | int = 0, bins: int = 40) -> Axes:
    """Draw one layer's preimages as stacked bars over the number of positive outputs, with a line at the number of inputs.

    Right of the line a preimage is a single point unless rows depend on one another: such ones are marked. A line far right
    of all bars is left out, and the legend says so.
    """
    from matplotlib.ticker import MaxNLocator

    found = result[layer]
    positive, kind = found.positive.numpy(), found.kind.numpy()
    shown = [k for k in range(len(KINDS)) if bool((kind == k).any())]
    low, high = int(positive.min()), int(positive.max())
    near = found.inputs <= _FAR * max(high, 1)
    if near:
        low, high = min(low, found.inputs), max(high, found.inputs)
    wide = -(-(high - low + 1) // bins)  # whole numbers: bars over parts of counts would differ in height by chance
    edges = np.arange(low - 0.5, high + 0.5 + wide, wide)
    with style():
        ax = _axes(ax, 7, 3.6)
        ax.hist(
            [positive[kind == k] for k in shown],
            bins=edges.tolist(),
            stacked=True,
            color=[_COLOURS[KINDS[k]] for k in shown],
            label=[f"{WORDS[KINDS[k]]}: {int((kind == k).sum()):,}" for k in shown],
        )
        if near:
            ax.axvline(found.inputs, color=INK, linewidth=1, linestyle="--", label=f"n = {found.inputs:,} inputs")
        else:
            ax.plot([], [], " ", label=f"n = {found.inputs:,} inputs, far right")
        deficient = positive[(positive >= found.inputs) & (kind != KINDS.index("singleton"))]
        if len(deficient):
            ax.plot(deficient, np.zeros(len(deficient)), "v", color=INK, clip_on=False, label="dependent rows")
        ax.legend(loc="best")
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_locator(MaxNLocator("auto", integer=True))
        if high - low < _NARROW:  # few bars fill the panel, and the legend lies on them
            ax.set_xlim((low + high - _NARROW) / 2, (low + high + _NARROW) / 2)
        outputs = "1 output" if len(kind) == 1 else f"{len(kind):,} outputs"
        title = f"Preimages of {outputs} of {found.name}, on the {found.reach}"
        ax.set(xlabel="positive outputs", ylabel="inputs", title=title)
    return ax


def invertibility_figure(result: Invertibility, *, most: int = 6) -> Figure:
    """Return the drawings of the first layers one below the other; `most` says of how many."""
    from matplotlib import pyplot

    layers = result.layers[:most]
    with style():
        figure, axes = pyplot.subplots(len(layers), 1, figsize=(7.4, 2.9 * len(layers)), squeeze=False)
        for k, ax in enumerate(axes[:, 0]):
            draw(result, ax, layer=k)
        figure.tight_layout()
    return figure
