"""Drawings of how patterns are distributed: distances of pairs, permutations beside what was observed, a row of layers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ..hamming import Distances, Hamming
from ..independence import FairBits, Independence
from ..pattern import Frequencies
from .base import _WIDE, BLUE, FAINT, GREY, INK, ORANGE, _axes, _whole_ticks, draw, new_figure, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_FAR = 50.0  # spreads of the null beyond which it is drawn as lines
Array = np.ndarray[Any, Any]
_BARS = 90  # bars of a histogram of distances at most


def _binned(counts: Array, edges: Array) -> Array:
    """Return which share of the pairs lies between edges, which are whole numbers less a half."""
    below = np.concatenate([[0], np.cumsum(counts)])
    inner = below[np.clip(np.ceil(edges).astype(int), 0, len(counts))]
    shares: Array = np.diff(inner) / max(1, below[-1])
    return shares


def _edges(counts: Array) -> Array:
    """Return the ends of bars of equal whole width, from the nearest pair to the farthest."""
    met = np.flatnonzero(counts)
    low, high = (int(met[0]), int(met[-1])) if len(met) else (0, len(counts) - 1)
    width = max(1, math.ceil((high - low + 1) / _BARS))
    edges: Array = np.arange(low, high + width + 1, width) - 0.5
    return edges


@draw.register(Distances)
def _(result: Distances, ax: Axes | None = None) -> Axes:
    """Draw which share of the pairs is at each distance, within and between classes where labels are known."""
    with style():
        ax = _axes(ax, 6.4, 3.6)
        _histogram(result, ax)
        ax.set(xlabel=_axis(result), ylabel="share of pairs", title=_title(result))
        if result.within is not None:
            ax.legend(loc="upper left")
    return ax


def _axis(result: Distances) -> str:
    return "windows that differ" if result.name == "windows" else "units that differ"


def _title(result: Distances) -> str:
    kind = "windows" if result.name == "windows" else "units"
    return f"{result.num_units:,} {kind}" if result.name == kind else f"{result.name}: {result.num_units:,} units"


def _histogram(result: Distances, ax: Axes) -> None:
    edges = _edges(result.counts.numpy())
    if result.within is None or result.between is None:
        ax.stairs(_binned(result.counts.numpy(), edges), edges, fill=True, color=BLUE)
        ax.axvline(result.mean, color=INK, lw=1)
    else:
        for part, color, words in ((result.between, GREY, "between classes"), (result.within, BLUE, "within a class")):
            shares = _binned(part.counts.numpy(), edges)
            ax.stairs(shares, edges, fill=True, color=color, alpha=0.35)
            ax.stairs(shares, edges, color=color, lw=1.4, label=f"{words}: mean {part.mean:.1f}")
    half = result.num_units / 2
    if edges[0] <= half <= edges[-1]:
        ax.axvline(half, color=ORANGE, lw=1.2, ls=(0, (4, 3)))
    ax.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
    ax.set_ylim(0, 1.18 * ax.get_ylim()[1])
    ax.xaxis.set_major_locator(_whole_ticks())


@draw.register(Hamming)
def _(result: Hamming, ax: Axes | None = None, *, layer: str | int | None = None) -> Axes:
    """Draw the distances at one layer or, by default, those of all layers below one another, over the share of units that
    differ. Each layer has its own height; blue are pairs within a class and grey those between classes where labels are
    known; dashed: half of the units, where fair bits would have their mean."""
    if layer is not None or len(result.layers) < 2:
        return draw(result.layer(layer) if layer is not None else (result.layers or [result.units])[0], ax)
    layers = [one for one in result.layers if one.num_units]
    with style():
        ax = _axes(ax, 7.2, 1.4 + 0.55 * min(len(layers), 20))
        for i, one in enumerate(layers):
            _ridge(one, ax, len(layers) - 1 - i)
        ax.axvline(0.5, color=ORANGE, lw=1.2, ls=(0, (4, 3)))
        ax.set_yticks(range(len(layers)), [one.name for one in reversed(layers)])
        ax.tick_params(axis="y", length=0)
        ax.set(xlabel="share of units that differ", title=f"Distances of {_pairs(result)}, layer by layer")
        ax.set_xlim(0, min(1.0, 1.02 * max(0.66, ax.get_xlim()[1])))
        ax.set_ylim(-0.05, len(layers) + 0.05)
    return ax


def _pairs(result: Hamming) -> str:
    return f"{result.units.pairs:,} random pairs" if result.sampled else f"all {result.units.pairs:,} pairs"


def _ridge(one: Distances, ax: Axes, height: int) -> None:
    edges = _edges(one.counts.numpy())
    at = np.clip(edges / one.num_units, 0, 1)
    parts = [(one, BLUE)] if one.within is None or one.between is None else [(one.between, GREY), (one.within, BLUE)]
    shares = [_binned(part.counts.numpy(), edges) for part, _ in parts]
    full = max(1e-300, *(float(share.max()) for share in shares))
    for share, (_, color) in zip(shares, parts, strict=True):
        ax.stairs(
            height + 0.85 * share / full, at, baseline=height, fill=True, color=color, alpha=1 if len(parts) == 1 else 0.6
        )
    ax.axhline(height, color=FAINT, lw=0.8, zorder=0)
    place: Any = {"xycoords": ("axes fraction", "data"), "ha": "right", "va": "center", "fontsize": 9}
    place["bbox"] = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}  # the dashed line may pass behind it
    words = f"mean {one.mean:.1f} of {one.num_units:,}"
    if one.within is not None and one.between is not None:
        words = f"within {one.within.mean:.1f}, between {one.between.mean:.1f} of {one.num_units:,}"
    ax.annotate(words, (0.995, height + 0.7), color=INK, **place)


@draw.register(Independence)
def _(result: Independence, ax: Axes | None = None, *, bins: int = 30) -> Axes:
    """Draw T under permutations as a histogram of `bins` bars, and the observed value as a line."""
    with style():
        ax = _axes(ax, 6.4, 3.4)
        title = f"Are {result.num_units:,} {result.what} independent?"
        _against_null(ax, result.null.numpy(), result.statistic, result.p_value, bins)
        ax.set(xlabel=f"variance of distances over that of independent {result.what}", ylabel="permutations", title=title)
    return ax


@draw.register(FairBits)
def _(result: FairBits, ax: Axes | None = None, *, bins: int = 30) -> Axes:
    """Draw mean distances of fair bits as a histogram of `bins` bars, and the observed mean as a line."""
    with style():
        ax = _axes(ax, 6.4, 3.4)
        _against_null(ax, result.null.numpy(), result.mean, result.p_value, bins)
        ax.set(xlabel=f"mean distance of {result.pairs:,} pairs", ylabel="draws", title="Mean distance beside fair bits")
    return ax


def _against_null(ax: Axes, null: Array, observed: float, p: float, bins: int) -> None:
    if not math.isfinite(observed):
        ax.text(0.5, 0.5, "nothing ever switches", transform=ax.transAxes, ha="center")
        return
    spread = float(np.ptp(null)) if len(null) else 0.0
    if abs(observed - float(np.median(null))) > _FAR * spread:  # bars would have no width
        ax.vlines(null, 0, 1, transform=ax.get_xaxis_transform(), color=GREY, lw=2, alpha=0.5)
        ax.set_yticks([])
    else:
        ax.hist(null, bins=bins, color=GREY)
        ax.yaxis.set_major_locator(_whole_ticks())
    ax.axvline(observed, color=ORANGE, lw=2)
    ax.set_title(f"observed {observed:.4g}, p = {p:.2g}", loc="right", color=ORANGE, weight="normal", fontsize=10)
    ax.margins(x=0.08)


# -- figures of a panel a layer


def frequency_row(result: Frequencies, most: int = 24) -> Figure:
    """Return how often units are active, a narrow panel a layer side by side: P(active) upwards, numbers of units to the right.

    Units that were never active stand below 0 in grey, those that always were above 1 in orange.
    """
    count = max(1, min(len(result.layers), most))
    with style():
        figure = new_figure(_WIDE, 3.2)
        axes = figure.subplots(1, count, sharey=True, squeeze=False)[0]
        for i, ax in enumerate(axes[: len(result.layers)]):
            _upright(result, i, ax, crowded=count > 6)
        axes[0].set_ylim(-0.1, 1.1)
        axes[0].set_yticks([-0.05, 0.25, 0.5, 0.75, 1.05], ["never", "25 %", "50 %", "75 %", "always"])
        axes[0].set_ylabel("inputs on which a unit is active")
        figure.supxlabel("units", fontsize=10.5)
    return figure


def _upright(result: Frequencies, i: int, ax: Axes, crowded: bool) -> None:
    counts = result.counts[i].flatten(1)
    dead, always = counts[0] == result.total, (counts[1:] == result.total).any(0)
    share = result.active(i).flatten()[~(dead | always)].numpy()
    ax.hist(share, bins=20, range=(0, 1), color=BLUE, orientation="horizontal")
    for y, number, color in ((-0.05, int(dead.sum()), GREY), (1.05, int(always.sum()), ORANGE)):
        ax.barh(y, number, height=0.05, color=color)
    name = result.layers[i].name
    ax.set_title(name if len(name) <= 12 else f"…{name[-11:]}", fontsize=9.5 if crowded else 11.5, loc="center")
    ax.xaxis.set_major_locator(_few_whole())
    ax.tick_params(axis="x", labelsize=8.5)
    ax.tick_params(axis="y", length=2)


def _few_whole() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=2, integer=True)


def distance_figure(result: Hamming, most: int = 12) -> Figure:
    """Return the distances of pairs, a panel a layer; dashed: half of the units, where fair bits would have their mean."""
    shown = result.layers[:most]
    columns = min(3, max(1, len(shown)))
    rows = max(1, -(-len(shown) // columns))
    with style():
        figure = new_figure(_WIDE, 2.9 * rows + 0.3)
        for i, ax in enumerate(figure.subplots(rows, columns, squeeze=False).flat):
            if i >= len(shown):
                ax.set_axis_off()
                continue
            draw(shown[i], ax)
            ax.set_ylabel("share of pairs" if i % columns == 0 else "")
            ax.set_xlabel(ax.get_xlabel() if i + columns >= len(shown) else "")
            if ax.get_legend() is not None:
                ax.legend(loc="upper left", fontsize=8.5)
    return figure
