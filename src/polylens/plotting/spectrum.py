"""Drawings of spectra: how singular values decay over layers, what gates do to them, and what removing rows does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from ..row_removal import RowRemoval
from ..spectrum import LayerSpectrum, Spectrum
from .base import BLUE, FAINT, GREY, INK, ORANGE, _axes, _whole_ticks, draw, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = np.ndarray[Any, Any]
_PANEL = (3.6, 2.9)  # inches of one panel of the figure of gates
_VALUE, _INDEX = "singular value (output per input)", "index of the singular value"


@draw.register(Spectrum)
def _(result: Spectrum, ax: Axes | None = None, *, side: str | None = "post") -> Axes:
    """Draw the values of every layer in decreasing order, early layers dark and late ones bright: a curve, and for several
    inputs its median with a band from the least to the greatest. `side` "post" takes gates behind, "pre" in front, None both.

    Layers without a gate count as both.
    """
    gated = {layer.name for layer in result.layers if layer.side == "post"}
    layers = [one for one in result.layers if side in (None, one.side) or one.name not in gated]
    if not layers:
        raise InputError(f"side: expected 'pre', 'post' or None; got {side!r}")
    with style():
        ax = _axes(ax, 7.5, 4.2)
        for layer, colour in zip(layers, _depths(len(layers)), strict=True):
            both = side is None and layer.name in gated
            front = both and layer.side == "pre"
            _curve(ax, layer, colour, f"{layer.name}{' in front' if front else ''}", "--" if front else "-")
        _finish(ax, layers)
        many = f" at {len(result):,} inputs: median, least and greatest" if len(result) > 1 else ""
        ax.set_title(f"Singular values of the map input → layer{many}")
        _legend(ax, title="early to late layers", loc="upper left", bbox_to_anchor=(1.01, 1.02), fontsize=9, title_fontsize=9)
    return ax


@draw.register(RowRemoval)
def _(result: RowRemoval, ax: Axes | None = None) -> Axes:
    """Draw the values before and after, and the band between the bounds of interlacing."""
    pairs = zip((result.before.numpy(), result.after.numpy()), result.tolerance.numpy(), strict=True)
    before, after = (_shown(values, tolerance) for values, tolerance in pairs)
    index = np.arange(1, len(before) + 1)
    with style():
        ax = _axes(ax, 7, 4)
        floor = np.nanmin([*after, *before]) / 2 if np.isfinite([*after, *before]).any() else 1.0
        low = np.maximum(result.lower.numpy(), floor)
        ax.fill_between(index, low, np.maximum(before, low), color=FAINT, label="bounds of interlacing", linewidth=0)
        ax.plot(index, before, color=BLUE, label=f"all {len(result.kept):,} rows")
        ax.plot(index, after, color=ORANGE, label=f"the {int(result.kept.sum()):,} rows that stay")
        if result.weakest is not None:
            ax.axhline(result.weakest.bound, color=INK, linestyle="--", linewidth=1, label=f"bound by row {result.weakest.row}")
        if np.isfinite([*after, *before]).any():
            ax.set_yscale("log")
        ax.grid(axis="y")
        ax.set(xlabel=_INDEX, ylabel="singular value", title=f"Singular values when {result.removed:,} rows are removed")
        ax.xaxis.set_major_locator(_whole_ticks())
        _legend(ax, loc="lower left")
    return ax


def effect_figure(result: Spectrum, columns: int = 4) -> Figure:
    """Return one panel for every gate with the values in front of it and behind it, on one logarithmic scale."""
    from .base import _WIDE, new_figure

    pairs = _pairs(result)
    if not pairs:
        raise InputError("effect_figure: expected a spectrum with layers in front of their gates and behind; got none")
    columns = min(columns, len(pairs))
    rows = -(-len(pairs) // columns)
    with style():
        figure = new_figure(max(_WIDE, columns * _PANEL[0]), rows * _PANEL[1] + 0.4)
        axes = figure.subplots(rows, columns, squeeze=False, sharey=True)
        for ax, pair in zip(axes.flat, pairs, strict=False):
            _effect(ax, *pair)
        for ax in axes.flat[len(pairs) :]:
            ax.set_axis_off()
        for row in axes:
            row[0].set_ylabel(_VALUE)
        _legend(axes.flat[0], loc="lower left", fontsize=9)
        figure.suptitle("Effect of the gates: singular values of the map input → layer", x=0.01, ha="left", weight="bold")
    return figure


def _pairs(result: Spectrum) -> list[tuple[LayerSpectrum, LayerSpectrum]]:
    """Return what is in front of every gate, with what is behind it."""
    front = {layer.name: layer for layer in result.layers if layer.side == "pre"}
    return [(front[layer.name], layer) for layer in result.layers if layer.side == "post" and layer.name in front]


def _effect(ax: Axes, front: LayerSpectrum, behind: LayerSpectrum) -> None:
    _curve(ax, front, BLUE, "in front of the gate")
    _curve(ax, behind, ORANGE, "behind it")
    _finish(ax, [front, behind])
    on, units = float(behind.rows.double().mean()), behind.shape[0]
    ax.set(title=behind.name, ylabel="")
    ax.set_title(f"{on:,.0f} of {units:,} on", loc="right", fontsize=9, weight="normal", color=GREY)


def _curve(ax: Axes, layer: LayerSpectrum, colour: Any, label: str, line: str = "-") -> None:
    """Draw one layer: its values, or of several inputs the median and the band between the extremes."""
    values = _shown(layer.values.numpy(), layer.tolerance.numpy()[:, None])
    if not np.isfinite(values).any():
        return
    index, seen = np.arange(1, values.shape[1] + 1), np.isfinite(values)
    marker = "." if values.shape[1] <= 12 or not layer.complete else ""
    # the lower median, which is 0 and not shown where most inputs have lost the value
    middle = np.quantile(np.where(seen, values, 0.0), 0.5, axis=0, method="lower")
    middle = np.where(middle > 0, middle, np.nan)
    ax.plot(index, middle, line if layer.complete else "", marker=marker, color=colour, linewidth=1.5, label=label)
    if len(values) > 1:
        low = np.where(seen, values, np.inf).min(0)
        high = np.where(seen, values, -np.inf).max(0)
        some = seen.any(0)
        ax.fill_between(index[some], low[some], high[some], color=colour, alpha=0.22, linewidth=0)


def _shown(values: Array, tolerance: Array) -> Array:
    """Return values with NaN for those that count as 0, which a logarithmic scale cannot show."""
    shown: Array = np.where(values > tolerance, values, np.nan)
    return shown


def _finish(ax: Axes, layers: list[LayerSpectrum]) -> None:
    if any(bool((layer.values > 0).any()) for layer in layers):
        ax.set_yscale("log")
    ax.grid(axis="y")
    ax.set(xlabel=_INDEX, ylabel=_VALUE)
    ax.xaxis.set_major_locator(_whole_ticks())


def _depths(count: int) -> list[Any]:
    from matplotlib import colormaps

    return [colormaps["viridis"](t) for t in np.linspace(0.0, 0.88, max(count, 2))[:count]]


def _legend(ax: Axes, **options: Any) -> None:
    """Add a legend where something was drawn: maps that are 0 have no values for a logarithmic axis."""
    if ax.get_legend_handles_labels()[1]:
        ax.legend(**options)
