"""Drawings of inversions: how much each layer makes errors grow on the way back, and how large they are in front of it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .invert import Inversion
from .plotting import BLUE, GREY, INK, ORANGE, _axes, draw, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@draw.register(Inversion)
def _(result: Inversion, ax: Axes | None = None) -> Axes:
    """Draw the layers as they are undone, the last first: bars for the growth of errors, a line for the predicted error.

    Of a batch, bars and line are medians, and thin lines go from the least to the greatest. A cross marks the layer at which
    most outputs stopped.
    """
    steps = result.steps
    grown = _columns([step.amplification for step in steps])
    errors = _columns([step.error for step in steps])
    with style():
        ax = _axes(ax, max(4.5, 1.5 + 0.75 * len(steps)), 3.6)
        ax.set_yscale("log")
        places = range(len(steps))
        ax.bar(places, [m for _, m, _ in grown], color=BLUE, width=0.55, alpha=0.85, label="errors grow by at most")
        ax.vlines(places, [a for a, _, _ in grown], [b for _, _, b in grown], color=INK, linewidth=1.2)
        ax.plot(places, [m for _, m, _ in errors], "o-", color=ORANGE, markersize=5, label="predicted error in front")
        ax.vlines(places, [a for a, _, _ in errors], [b for _, _, b in errors], color=ORANGE, linewidth=1.2)
        ax.axhline(1, color=GREY, linewidth=0.8)
        _mark(result, ax)
        slanted = len(steps) > 5 or max((len(step.layer) for step in steps), default=0) > 10
        names = [f"{step.layer}\n{step.kind}" for step in steps]
        ax.set_xticks(places, names, rotation=35 if slanted else 0, ha="right" if slanted else "center")
        ax.tick_params(axis="x", length=0)
        ax.grid(axis="y")
        ax.margins(y=0.18)
        ax.legend(loc="best")
        ax.set(xlabel="layer, as they are undone", title=_title(result))
    return ax


def _columns(values: list[Tensor]) -> list[tuple[float, float, float]]:
    """Return least, median and greatest of each, NaN where there is none; what is 0 or infinite has no place on the axis."""
    found = []
    for value in values:
        shown = value[torch.isfinite(value) & (value > 0)]
        some = (float(shown.min()), float(shown.median()), float(shown.max())) if shown.numel() else (math.nan,) * 3
        found.append(some)
    return found


def _mark(result: Inversion, ax: Axes) -> None:
    stopped = [o.layer for o in result.obstacles if o is not None]
    for k, step in enumerate(result.steps):
        count = stopped.count(step.layer)
        if count:
            words = f"stops {count:,}" if result.is_batch else "stops here"
            ax.annotate(
                words, (k, 1), xytext=(0, -16), textcoords="offset points", ha="center", color=ORANGE, fontweight="bold"
            )


def _title(result: Inversion) -> str:
    if result.is_batch:
        return f"The way back from {len(result):,} outputs: {result.kinds.count('unique'):,} unique"
    return f"The way back from an output: {result.kind}"
