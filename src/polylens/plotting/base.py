"""Drawings of results: the only module that knows matplotlib, which it imports when asked to draw.

`draw` dispatches on the type of the result. One style for all, set locally: matplotlib's own settings stay as they are.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import singledispatch
from typing import TYPE_CHECKING, Any, final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..affine import AffineMap
from ..errors import InputError
from ..network import Network
from ..pattern import Frequencies, Patterns

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = npt.NDArray[Any]

# Okabe and Ito's palette, which people with any colour vision tell apart
BLUE, ORANGE, GREEN, SKY, PINK, GREY = "#0072B2", "#D55E00", "#009E73", "#56B4E9", "#CC79A7", "#8A8F98"
INK, FAINT = "#1F2933", "#D5DAE0"

_STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 10.5,
    "axes.titlesize": 11.5,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": FAINT,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.hashsalt": "polylens",
}
_WIDE = 10.8  # inches: a figure as wide as the report's page, so that text has one size in all of them
_LABELLED = 30  # more bars than this lose their labels
_RASTER = (400, 1200)  # a raster of more patterns and units than this is drawn evenly thinned


@contextmanager
def style() -> Iterator[None]:
    """Set the house style within the block only."""
    import matplotlib

    with matplotlib.rc_context(_STYLE):
        yield


@singledispatch
def draw(result: object, ax: Axes | None = None, **options: Any) -> Axes:
    """Draw a result on `ax`, a new figure's when None, and return the Axes.

    Options are the drawing's own: `layer` for Patterns and Frequencies, `label` and `color` for AffineMap.

    Raises InputError for a type that has no drawing.
    """
    known = sorted(t.__name__ for t in draw.registry if t is not object)
    raise InputError(f"draw: expected one of {', '.join(known)}; got {type(result).__name__}")


def _axes(ax: Axes | None, width: float, height: float) -> Axes:
    if ax is not None:
        return ax
    from matplotlib import pyplot

    return pyplot.subplots(figsize=(width, height), layout="constrained")[1]


@draw.register(Network)
def _(result: Network, ax: Axes | None = None) -> Axes:
    """Draw how many units each layer has, the first layer on top."""
    layers = result.gates
    with style():
        ax = _axes(ax, 7, 1 + 0.3 * min(len(layers), _LABELLED))
        bars = ax.barh(range(len(layers)), [layer.num_units for layer in layers], color=BLUE, height=0.7)
        if len(layers) <= _LABELLED:
            ax.set_yticks(range(len(layers)), [f"{layer.name} ({layer.kind})" for layer in layers])
            ax.bar_label(bars, [f"{layer.num_units:,}" for layer in layers], padding=4)
        else:
            ax.set_ylabel("layer, in order of evaluation")
        ax.set_ylim(len(layers) - 0.4, -0.6)
        ax.margins(x=0.12)
        ax.tick_params(axis="y", length=0)
        ax.set(xlabel="units", title="Units behind each gate" if layers else "This network has no gates")
        ax.xaxis.set_major_locator(_whole_ticks())
    return ax


@draw.register(Patterns)
def _(result: Patterns, ax: Axes | None = None, layer: str | int | None = None) -> Axes:
    """Draw a raster: one row an input, one column a unit, dark where the unit is off its first piece."""
    names = range(len(result.layers)) if layer is None else [layer]
    columns = [result.pieces(name).flatten(1).numpy() for name in names]
    raster = np.concatenate(columns, 1) if columns else np.zeros((len(result), 0), bool)
    rows, units = _thinned(raster.shape[0], _RASTER[0]), _thinned(raster.shape[1], _RASTER[1])
    with style():
        ax = _axes(ax, 9, 3.5)
        extent = (0, max(1, raster.shape[1]), len(raster), 0)
        shown = raster[np.ix_(rows, units)] > 0
        ax.imshow(shown, cmap=_two_tone(), vmin=0, vmax=1, aspect="auto", interpolation="nearest", extent=extent)
        for cut in np.cumsum([c.shape[1] for c in columns])[:-1]:
            ax.axvline(cut, color=ORANGE, linewidth=1)
        ax.set(xlabel="unit (lines part the layers)" if len(columns) > 1 else "unit", ylabel="input")
        ax.set_title(f"Activation patterns of {len(result):,} inputs; dark: active")
    return ax


def _thinned(count: int, most: int) -> Array:
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int)) if count else np.zeros(0, int)


def _two_tone() -> Any:
    from matplotlib.colors import ListedColormap

    return ListedColormap(["#EEF1F4", BLUE])


@draw.register(Frequencies)
def _(result: Frequencies, ax: Axes | None = None, layer: str | int = 0) -> Axes:
    """Draw the histogram of how often the units of one layer are active, dead and always-on units set apart."""
    i = _position(result, layer)
    name, counts = result.layers[i].name, result.counts[i].flatten(1)
    dead, always = counts[0] == result.total, (counts[1:] == result.total).any(0)
    mixed = result.active(i).flatten()[~(dead | always)].numpy()
    with style():
        ax = _axes(ax, 5, 3)
        ax.hist(mixed, bins=20, range=(0, 1), color=BLUE, edgecolor="white", linewidth=0.6)
        ends = [(-0.06, int(dead.sum()), GREY), (1.06, int(always.sum()), ORANGE)]
        for x, count, color in ends:
            ax.bar(x, count, width=0.05, color=color)
        top = max(1.0, ax.get_ylim()[1])
        for x, count, color in ends:
            ax.annotate(f"{count:,}", (x, count), (0, 2), textcoords="offset points", ha="center", color=color, fontsize=9)
        ax.set_ylim(0, 1.08 * top)
        ax.set_xlim(-0.12, 1.12)
        ax.set_xticks([-0.06, 0.25, 0.5, 0.75, 1.06], ["never", "25 %", "50 %", "75 %", "always"])
        ax.grid(axis="y")
        ax.set(xlabel="inputs on which a unit is active", ylabel="units")
        ax.set_title(f"{name}: {counts.shape[1]:,} units")
        ax.yaxis.set_major_locator(_whole_ticks())
    return ax


def _position(result: Frequencies, layer: str | int) -> int:
    names = [known.name for known in result.layers]
    if isinstance(layer, int) and -len(names) <= layer < len(names):
        return layer % len(names)
    if layer not in names:
        raise InputError(f"layer: expected one of {names} or a position below {len(names)}; got {layer!r}")
    return names.index(str(layer))


@draw.register(AffineMap)
def _(result: AffineMap, ax: Axes | None = None, label: str | None = None, color: str | None = None, marker: str = "o") -> Axes:
    """Draw the singular values of a map, or of each map of a batch, in decreasing order on a logarithmic scale."""
    values = result.singular_values().reshape(-1, min(result.weight.shape[-2:])).numpy()
    with style():
        ax = _axes(ax, 6, 3.6)
        shown = np.where(values > 0, values, np.nan)  # a logarithmic scale has no place for 0
        steps = np.arange(1, values.shape[1] + 1)
        for i, row in enumerate(shown):
            ax.plot(
                steps,
                row,
                marker=marker,
                markersize=4,
                linewidth=1.3,
                color=color or BLUE,
                label=None if i else label,
                alpha=0.85,
            )
        if np.isfinite(shown).any():
            ax.set_yscale("log")
        ax.grid(axis="y")
        ax.set(xlabel="index of the singular value", ylabel="singular value (output per input)", title="Singular values")
        ax.xaxis.set_major_locator(_whole_ticks())
    return ax


# -- figures of several panels; no pyplot state knows them, and they go with their last reference


def new_figure(width: float, height: float) -> Figure:
    """Return a figure outside pyplot's register, of `width` x `height` inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def frequency_figure(result: Frequencies, most: int = 24) -> Figure:
    """Return the histograms of the first `most` layers side by side."""
    count = min(len(result.layers), most)
    columns = min(3, max(1, count))
    rows = max(1, -(-count // columns))
    with style():
        figure = new_figure(_WIDE, 2.7 * rows + 0.2)
        axes = figure.subplots(rows, columns, squeeze=False).flat
        for i, ax in enumerate(axes):
            if i < count:
                draw(result, ax, layer=i)
                ax.set_ylabel("units" if i % columns == 0 else "")
                ax.set_xlabel("inputs on which a unit is active" if i + columns >= count else "")
            else:
                ax.set_axis_off()
    return figure


def network_figure(net: Network) -> Figure:
    """Return the overview of the units behind each gate."""
    with style():
        figure = new_figure(_WIDE, 1.1 + 0.32 * min(len(net.gates), _LABELLED))
        draw(net, figure.subplots())
    return figure


@final
@dataclass(frozen=True, eq=False, slots=True)
class Panel:
    """One cell of a gallery: a title above it and values of one sample, shown as a picture or as signed weights."""

    title: str
    values: Tensor
    signed: bool
    emphasis: bool = False


def picture(values: Tensor) -> Tensor | None:
    """Return the sample as a picture (H, W) or (H, W, 3), guessed from its shape; None when it is none.

    Taken as pictures: matrices, channels first or last where there are 1, 3 or more than 4 rows and columns beside
    them, and vectors whose length is a square of at least 8 x 8 or three times one (channels first).
    """
    shape = [n for n in values.shape if n != 1]
    x = values.reshape(shape)
    if x.ndim == 1:
        for channels in (1, 3):
            side = math.isqrt(len(x) // channels)
            if side >= 8 and channels * side * side == len(x):
                return picture(x.reshape(channels, side, side))
        return None
    if x.ndim == 2 and min(x.shape) >= 4:
        return x
    if x.ndim != 3 or sorted(x.shape)[1] < 4:
        return None
    if x.shape[-1] == 3:
        return x
    return x.permute(1, 2, 0) if x.shape[0] == 3 else x.mean(0)


def gallery(
    rows: Sequence[tuple[str, Sequence[Panel | None]]], *, signed: str = "weight", unit: str = "output per input"
) -> Figure:
    """Return panels in rows with a label each, one column a sample: pictures grey, signed weights red (up) and blue (down).

    The weights of a column share one symmetric scale, so that weak columns can be seen beside strong ones; what full
    colour means is written below each, and it is the 99th percentile of their size, for single entries would drown all
    others. Samples that are no pictures are drawn as bars over their entries. `signed` says what the signed values are,
    and `unit` in what.
    """
    as_picture = all(picture(p.values) is not None for _, panels in rows for p in panels if p is not None)
    columns = max(len(panels) for _, panels in rows)
    with style():
        width = 1.15 if as_picture else 2.1
        figure = new_figure(max(_WIDE, 1.2 + width * columns + 0.9), 0.5 + (1.5 if as_picture else 1.9) * len(rows))
        axes = figure.subplots(len(rows), max(columns, 5), squeeze=False)
        bounds = [_full_colour([panels[k] for _, panels in rows]) for k in range(columns)]
        for line, (label, panels) in zip(axes, rows, strict=True):
            line[0].set_ylabel(label, rotation=0, ha="right", va="center", labelpad=10, fontsize=10.5, weight="bold")
            for k, ax in enumerate(line):
                _panel(ax, panels[k] if k < columns else None, bounds[k] if k < columns else 1.0, as_picture)
        if as_picture:
            _colour_scale(figure, axes, bounds, signed)
        else:
            figure.supxlabel(f"entry of the input; {signed} in {unit}, blue up and orange down", fontsize=10)
    return figure


def _full_colour(panels: Sequence[Panel | None]) -> float:
    """Return the size of a weight that gets full colour."""
    sizes = [_heat(p.values).abs().flatten() for p in panels if p is not None and p.signed]
    present = torch.cat(sizes) if sizes else torch.zeros(0)
    present = present[present > 0]
    return float(np.quantile(present.cpu().numpy(), 0.99)) if len(present) else 1.0


def _heat(values: Tensor) -> Tensor:
    """Return signed weights as they are drawn: summed over colour channels, so that no sign is lost in mixing."""
    image = picture(values)
    if image is None:
        return values.flatten()
    return image.sum(-1) if image.ndim == 3 else image


def _panel(ax: Axes, panel: Panel | None, bound: float, as_picture: bool) -> None:
    ax.set_xticks([])
    ax.set_yticks([])
    for side in ax.spines.values():
        side.set_visible(False)
    if panel is None:
        ax.set_box_aspect(1)
        return
    ax.set_title(panel.title, fontsize=9.5, loc="center", color=ORANGE if panel.emphasis else INK, weight="normal", pad=4)
    if not as_picture:
        _bars(ax, panel)
    elif panel.signed:
        ax.imshow(_heat(panel.values).numpy(), cmap="RdBu_r", vmin=-bound, vmax=bound, interpolation="nearest")
    else:
        ax.imshow(_grey(panel.values).numpy(), cmap="gray", interpolation="nearest")


def _grey(values: Tensor) -> Tensor:
    """Return a picture for display; colours are stretched to [0, 1] where they leave it, as normalised inputs do."""
    image = picture(values)
    if image is None or image.ndim == 2:
        return values if image is None else image
    low, high = float(image.min()), float(image.max())
    return image if low >= 0 and high <= 1 else (image - low) / max(high - low, 1e-30)


def _bars(ax: Axes, panel: Panel) -> None:
    flat = panel.values.flatten()
    color = [ORANGE if v < 0 else BLUE for v in flat.tolist()] if panel.signed else GREY
    if len(flat) <= 100:
        ax.bar(range(len(flat)), flat.numpy(), color=color, width=0.8)
    else:
        ax.plot(flat.numpy(), color=BLUE if panel.signed else GREY, linewidth=0.8)
    ax.axhline(0, color=INK, linewidth=0.6)
    ax.yaxis.set_major_locator(_few_ticks())
    ax.tick_params(axis="y", labelsize=8, length=2)
    place = ax.get_subplotspec()
    if len(flat) <= 12 and place is not None and place.is_last_row():
        ax.set_xticks(range(len(flat)))
        ax.tick_params(axis="x", labelsize=8, length=0)


def _few_ticks() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(3)


def _whole_ticks() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=6, integer=True, steps=[1, 2, 5, 10])


def _colour_scale(figure: Figure, axes: Array, bounds: Sequence[float], signed: str) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    for ax, bound in zip(axes[-1], bounds, strict=False):
        ax.set_xlabel(f"±{bound:.2g}", fontsize=9, labelpad=4)
    scale = ScalarMappable(Normalize(-1, 1), "RdBu_r")
    bar = figure.colorbar(scale, ax=list(axes.flat), fraction=0.03, pad=0.015, shrink=0.6, aspect=24, extend="both")
    words = f"{signed}, in units of the number below its column"
    bar.set_label(textwrap.fill(words, 18) if len(axes) == 1 else words, fontsize=9.5)  # one row is not tall enough for it
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8.5, length=2)


@final
@dataclass(frozen=True, eq=False, slots=True)
class Distribution:
    """What a histogram shows: a `title`, the words below its axis, and the finite `values`: lengths on a logarithmic axis, or
    whole numbers on a plain one."""

    title: str
    values: Tensor
    label: str
    logarithmic: bool


def distribution_figure(parts: Sequence[Distribution]) -> Figure:
    """Return histograms side by side, each with its median marked; on a logarithmic axis zeros go to the first bar."""
    with style():
        figure = new_figure(_WIDE, 3.1)
        for ax, part in zip(figure.subplots(1, len(parts), squeeze=False).flat, parts, strict=True):
            values = part.values.double()
            ax.hist(_within_axis(values, part.logarithmic).numpy(), bins=_edges(values, part.logarithmic), color=BLUE)
            if part.logarithmic:
                ax.set_xscale("log")
            middle = float(values.median())
            ax.axvline(max(middle, ax.get_xlim()[0]), color=ORANGE, lw=1.5)
            ax.set_title(part.title)
            ax.set_title(f"median {middle:.3g}", loc="right", color=ORANGE, weight="normal", fontsize=10)
            ax.set_xlabel(part.label)
            ax.set_ylabel(f"inputs, of {len(values):,}")
            ax.yaxis.set_major_locator(_whole_ticks())
    return figure


def _within_axis(values: Tensor, logarithmic: bool) -> Tensor:
    positive = values[values > 0]
    return values.clamp(min=float(positive.min()) if len(positive) else 1e-12) if logarithmic else values


def _edges(values: Tensor, logarithmic: bool) -> list[float]:
    """Return the ends of the bars: about as many as the square root of the number of values, 30 at most."""
    count, shown = min(30, max(5, round(math.sqrt(len(values)) * 1.5))), _within_axis(values, logarithmic)
    if logarithmic:
        low, high = float(shown.min().log10()), float(shown.max().log10())
        edges: list[float] = torch.logspace(low - 0.05, high + 0.05, count + 1, dtype=torch.float64).tolist()
        return edges
    low, high = float(shown.min()) - 0.5, float(shown.max()) + 0.5
    return np.linspace(low, high, 1 + (int(high - low) if high - low <= 30 else count)).tolist()


def decay_figure(maps: Sequence[tuple[str, AffineMap, bool]]) -> Figure:
    """Return the singular values of several maps, each with its name and whether it stands out (drawn orange).

    The maps whose last values are the largest and the smallest are labelled.
    """
    with style():
        figure = new_figure(_WIDE, 4.2)
        ax = figure.subplots()
        for _, one, apart in maps:
            draw(one, ax, color=ORANGE if apart else BLUE)
        last = [float(one.singular_values()[-1]) for _, one, _ in maps]
        for i in {last.index(max(last)), last.index(min(last))}:
            end = (min(maps[i][1].weight.shape), last[i])
            if last[i] > 0:
                ax.annotate(
                    maps[i][0], end, (8, 0), textcoords="offset points", va="center", color=ORANGE if maps[i][2] else BLUE
                )
        ax.set_title("")
    return figure


def saved(figure: Figure, save: Callable[[Figure], None]) -> None:
    """Write a figure through `save` in the house style, which matters for fonts and for reproducible SVG."""
    with style():
        save(figure)
