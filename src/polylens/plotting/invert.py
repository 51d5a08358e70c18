"""Drawings of inversions: how much each layer makes errors grow on the way back, and how large they are in front of it."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..invert import Inversion
from .base import BLUE, GREY, INK, ORANGE, _axes, draw, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@draw.register(Inversion)
def _(result: Inversion, ax: Axes | None = None) -> Axes:
    """Draw the layers as they are undone, the last first: bars for the growth of errors, a line for the predicted error.

    Of a batch, bars and line are medians, and thin lines go from the least to the greatest. Layers at which outputs stopped
    say how many did.
    """
    steps = result.steps
    grown = _columns([step.amplification for step in steps])
    errors = _columns([step.error for step in steps])
    with style():
        ax = _axes(ax, max(6.0, 1.5 + 0.8 * len(steps)), 3.8)
        ax.set_yscale("log")
        places = range(len(steps))
        heights = [m - 1 for _, m, _ in grown]
        ax.bar(places, heights, bottom=1, color=BLUE, width=0.55, alpha=0.85, label="errors grow by at most")
        ax.vlines(places, [a for a, _, _ in grown], [b for _, _, b in grown], color=INK, linewidth=1.2)
        ax.plot(places, [m for _, m, _ in errors], "o-", color=ORANGE, markersize=5, label="predicted error in front")
        ax.vlines(places, [a for a, _, _ in errors], [b for _, _, b in errors], color=ORANGE, linewidth=1.2)
        ax.axhline(1, color=GREY, linewidth=0.8)
        _mark(result, ax)
        names = [f"{textwrap.shorten(step.layer, 12, placeholder='...')}\n{step.kind}" for step in steps]
        ax.set_xticks(places, names, fontsize=9 if len(steps) > 6 else None)
        ax.tick_params(axis="x", length=0)
        ax.grid(axis="y")
        low, high = ax.get_ylim()
        ax.set(xlim=(-0.6, len(steps) - 0.4), ylim=(min(low, 0.1), max(high, 100) * 3))
        ax.legend(loc="upper left", bbox_to_anchor=(0, -0.22), ncols=2)
        ax.set(xlabel="layer, in the order in which they are undone", title=_title(result))
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
            below = {"xytext": (0, -15), "textcoords": "offset points", "ha": "center"}
            ax.annotate(words, (k, 1), color=ORANGE, fontweight="bold", **below)  # type: ignore[arg-type]


def _title(result: Inversion) -> str:
    if result.is_batch:
        return f"The way back from {len(result):,} outputs: {result.kinds.count('unique'):,} unique"
    return f"The way back from an output: {result.kind}"
