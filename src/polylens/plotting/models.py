"""Drawings of models of layers: activations beside one-sided normals, sizes of signals, signs kept, laws of random units."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from .._check import ArrayLike
from .._half_normal import Normal, folded_density, truncated_density
from ..binary_approximation import LIMIT, BinaryApproximation
from ..errors import InputError
from ..first_layer_model import FirstLayerModel
from ..gaussian_layer import GaussianLayer
from ..initialise import Initialisation
from ..propagation import Propagation
from ..second_layer_law import SecondLayerLaw
from .base import BLUE, GREEN, GREY, INK, ORANGE, _axes, draw, new_figure, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BARS = 80
_DRAWN = 2_000  # points of a scatter


@draw.register(FirstLayerModel)
def _(result: FirstLayerModel, ax: Axes | None = None) -> Axes:
    """Draw the density of the positive activations, the share of zeros as a bar at 0, and the fitted normals."""
    middles, held = (result.edges[1:] + result.edges[:-1]) / 2, result.counts
    positive = middles > 0
    total = held.sum()
    fold = -(-int(positive.sum()) // _BARS)
    heights, edges = _folded(result.edges, held, fold)
    at = torch.linspace(0, float(result.edges[-1]), 400, dtype=torch.float64)
    share = 1 - float(held[~positive].sum() / total)
    with style():
        ax = _axes(ax, 6, 3.8)
        ax.bar(
            edges[:-1], heights / float(total), width=np.diff(edges), align="edge", color=BLUE, alpha=0.35, label="activations"
        )
        half = folded_density(at, Normal(0.0, result.sigma_by_deviation))
        ax.plot(at, share * half, color=INK, linewidth=1.6, label=f"B|Y|, Y ~ N(0, {result.sigma_by_deviation:.3f}²)")
        if result.truncated is not None and abs(result.truncated.mean) > 0.05 * result.truncated.deviation:
            cut = result.truncated
            label = f"Y > 0, Y ~ N({cut.mean:.3f}, {cut.deviation:.3f}²)"
            ax.plot(at, share * truncated_density(at, cut), color=ORANGE, linewidth=1.6, linestyle="--", label=label)
        ax.set_yscale("log")
        ax.set_ylim(bottom=max(1e-6, float((share * half).min().clamp(min=1e-5))))
        ax.plot([], [], " ", label=f"zeros: {1 - share:.1%}")
        ax.legend()
        ax.set(
            xlabel="activation",
            ylabel="density",
            title=f"{result.layer}: {len(result.active):,} units, {result.inputs:,} inputs",
        )
    return ax


def _folded(edges: Tensor, counts: Tensor, fold: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the positive part of a histogram with `fold` bins joined into one, as counts per unit of length."""
    first = int((edges[:-1] < 0).sum())
    kept = (len(counts) - first) // fold * fold
    joined = counts[first : first + kept].reshape(-1, fold).sum(1)
    ends = edges[first : first + kept + 1 : fold]
    return (joined / (ends[1:] - ends[:-1])).numpy(), ends.numpy()


def distance_figure(models: dict[str, Tensor], bins: int = 40) -> Figure:
    """Return histograms of how far hyperplanes lie from the origin, one panel for each named tensor of distances."""
    with style():
        figure = new_figure(4.2 * max(1, len(models)), 3.2)
        for ax, (name, distances) in zip(
            figure.subplots(1, max(1, len(models)), squeeze=False).flat, models.items(), strict=False
        ):
            finite = distances[torch.isfinite(distances)].numpy()
            ax.set(xlabel="distance of the hyperplane from the origin", ylabel="units", title=name)
            if not len(finite):
                ax.text(0.5, 0.5, "no unit has a hyperplane", transform=ax.transAxes, ha="center")
                continue
            ax.hist(finite, bins=bins, color=BLUE, edgecolor="white", linewidth=0.5)
            ax.axvline(
                float(np.median(finite)), color=INK, linestyle="--", linewidth=1, label=f"median {np.median(finite):.3g}"
            )
            ax.legend()
    return figure


@draw.register(Propagation)
def _(result: Propagation, ax: Axes | None = None) -> Axes:
    """Draw the second moment at every layer, measured and predicted, on a logarithmic scale."""
    steps = np.arange(1, len(result.layers) + 1)
    predicted = [math.nan if row.predicted is None else row.predicted for row in result.layers]
    with style():
        ax = _axes(ax, 6, 3.4)
        ax.plot(steps, [row.second_moment for row in result.layers], "o-", color=BLUE, label="measured")
        ax.plot(steps, predicted, "D", color=ORANGE, markersize=4, label="predicted from the layer in front")
        ax.set_yscale("log")
        ax.grid(axis="y")
        ax.set_xticks(steps, [row.name for row in result.layers], rotation=45 if len(steps) > 6 else 0)
        ax.legend()
        ax.set(ylabel="E[z²]", title=f"The signal's size over {result.inputs:,} inputs")
    return ax


@draw.register(BinaryApproximation)
def _(result: BinaryApproximation, ax: Axes | None = None) -> Axes:
    """Draw the share of signs that are kept behind every layer that becomes its pattern."""
    steps = np.arange(1, len(result.layers) + 1)
    series = (
        ("this layer alone", "scaled", BLUE, "o-"),
        ("weighted by margin", "weighted", GREEN, "s-"),
        ("all layers up to it", "accumulated", ORANGE, "D-"),
        ("chance", "chance", GREY, ":"),
    )
    with style():
        ax = _axes(ax, 6, 3.4)
        for label, name, colour, line in series:
            values = [getattr(row, name) for row in result.layers]
            ax.plot(steps, [math.nan if v is None else v for v in values], line, color=colour, markersize=5, label=label)
        ax.axhline(LIMIT, color=INK, linewidth=0.8, linestyle="--", label=f"wide random layers: {LIMIT:.1%}")
        ax.set_ylim(min(0.45, ax.get_ylim()[0]), 1.01)
        ax.yaxis.set_major_formatter(lambda v, _: f"{v:.0%}")
        ax.grid(axis="y")
        ax.set_xticks(steps, [row.replaced for row in result.layers], rotation=45 if len(steps) > 6 else 0)
        ax.legend(loc="best", fontsize=8)
        ax.set(xlabel="layer that becomes its pattern", ylabel="signs kept", title="Layers as 0 and 1")
    return ax


@draw.register(SecondLayerLaw)
def _(result: SecondLayerLaw, ax: Axes | None = None) -> Axes:
    """Draw how often random units fire on k patterns, beside the stated law."""
    k = np.arange(len(result.counts)) / 2**result.bits
    with style():
        ax = _axes(ax, 6, 3.2)
        ax.bar(
            k, result.frequencies.numpy(), width=0.8 / 2**result.bits, color=BLUE, alpha=0.6, label=f"{result.draws:,} units"
        )
        ax.plot(k, result.stated.numpy(), "D", color=ORANGE, markersize=4, label="stated law")
        ax.legend()
        title = f"{result.bits} bits, bias {result.bias:g} of the weights: p {_p_value(result.p_value)}"
        ax.set(xlabel="share of patterns on which a unit fires", ylabel="share of units", title=title)
    return ax


def _p_value(p: float) -> str:
    return f"= {p:.2g}" if p > 0 else "below 1e-300"


@draw.register(Initialisation)
def _(result: Initialisation, ax: Axes | None = None) -> Axes:
    """Draw variance and share of active units of every layer that was set."""
    steps = np.arange(1, len(result.layers) + 1)
    with style():
        ax = _axes(ax, 6, 3.2)
        ax.plot(steps, [row.variance for row in result.layers], "o-", color=BLUE, label="variance")
        ax.plot(steps, [row.active for row in result.layers], "s-", color=ORANGE, label="share active")
        ax.set_ylim(bottom=0)
        ax.set_xticks(steps, [row.name for row in result.layers])
        ax.legend()
        ax.set(xlabel="layer", title=f"After initialisation on {result.inputs:,} inputs")
    return ax


@draw.register(GaussianLayer)
def _(result: GaussianLayer, ax: Axes | None = None, units: tuple[int, int] = (0, 1), points: ArrayLike | None = None) -> Axes:
    """Draw the axes that batch norm gives two units: they cross at the mean and are a deviation long.

    `points` (batch, inputs), inputs of the layer, appear as pairs of activations.
    """
    i, j = units
    if not all(-len(result.bias) <= k < len(result.bias) for k in units):
        raise InputError(f"units: expected two positions below {len(result.bias)}, the number of units; got {units}")
    with style():
        ax = _axes(ax, 4.6, 4.4)
        if points is not None:
            seen = torch.relu(torch.as_tensor(points, dtype=torch.float64) @ result.weight[[i, j]].T + result.bias[[i, j]])[
                :_DRAWN
            ]
            ax.plot(seen[:, 0], seen[:, 1], ".", color=BLUE, markersize=3, alpha=0.5, label="activations")
        x, y = float(result.mean[i]), float(result.mean[j])
        across, up = float(result.deviation[i]), float(result.deviation[j])
        for dx, dy in ((across, 0.0), (0.0, up)):
            ax.annotate(
                "", (x + dx, y + dy), (x - dx, y - dy), arrowprops={"arrowstyle": "->", "color": ORANGE, "linewidth": 2}
            )
        ax.plot([x], [y], "o", color=ORANGE, markersize=5, label="batch norm's axes: mean, one deviation")
        ax.axhline(0, color=GREY, linewidth=0.8)
        ax.axvline(0, color=GREY, linewidth=0.8)
        ax.legend(loc="upper right", fontsize=8)
        ax.set(xlabel=f"unit {i}", ylabel=f"unit {j}", title="Two units of a layer")
    return ax
