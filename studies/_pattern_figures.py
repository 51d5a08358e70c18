"""The figures of the study of activation patterns: each function returns one, from what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from _schemes import OPTIMISER_WORDS, Run
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from polylens.binary_approximation import BinaryApproximation
from polylens.constellations import Constellations
from polylens.first_layer_model import FirstLayerModel
from polylens.gaussian_layer import GaussianLayer
from polylens.independence import Independence
from polylens.pattern_neighbours import PatternNeighbours
from polylens.plotting import BLUE, FAINT, GREEN, GREY, INK, ORANGE, PINK, SKY, new_figure, style
from polylens.propagation import Propagation
from polylens.recorder import Recording
from polylens.second_layer_law import SecondLayerLaw

COLOURS = (INK, SKY, BLUE, ORANGE, PINK, GREEN, "#E69F00", "#5B4A9B")
MARKS = {("sgd", 0): "o", ("sgd", 1): "s", ("adam", 0): "^", ("adam", 1): "D"}


def frequencies(runs: Sequence[Run]) -> Figure:
    """Return P(active) over the units of every layer, a row a scheme: before training in grey, after it in colour."""
    layers = runs[0].depth
    with style():
        figure = new_figure(1.6 + max(0.92 * layers, 6.2), 0.9 + 0.86 * len(runs))
        axes = figure.subplots(len(runs), layers, sharex=True, squeeze=False)
        for line, run in zip(axes, runs, strict=True):
            for k, ax in enumerate(line):
                _before_and_after(ax, run.recording, k)
            words = f"{run.scheme}\ntrain {run.last('train_accuracy'):.0%}\ntest {run.last('test_accuracy'):.0%}"
            line[0].set_ylabel(words, rotation=0, ha="right", va="center", fontsize=9, labelpad=8)
        for k, ax in enumerate(axes[0]):
            ax.set_title(f"layer {k + 1}", fontsize=9.5, loc="center")
        for ax in axes[-1]:
            ax.set_xticks([0, 0.5, 1], ["0", "½", "1"], fontsize=9)
        epochs = runs[0].recording.steps[-1]
        figure.supxlabel(
            f"P(active) of units: grey before training, blue after {epochs} epochs of "
            f"{OPTIMISER_WORDS[runs[0].optimiser]}; heights are square roots of shares",
            fontsize=10,
        )
    return figure


def _before_and_after(ax: Axes, recording: Recording, layer: int) -> None:
    edges = np.linspace(0, 1, 21)
    for index, colour, filled in ((0, GREY, True), (-1, BLUE, False)):
        shares = recording[index].frequencies.active(layer).numpy()
        heights = np.sqrt(np.histogram(shares, edges)[0] / len(shares))  # roots: else a peak flattens all the rest
        ax.stairs(heights, edges, fill=filled, color=colour, alpha=0.45 if filled else 1, linewidth=1.3)
    ax.set(xlim=(-0.03, 1.03), ylim=(0, 1.03))
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="x", length=2)


def curves(groups: Mapping[str, Sequence[Run]]) -> Figure:
    """Return losses and accuracies against epochs, a column for each group of runs: training solid, test dashed."""
    with style():
        figure = new_figure(3.5 * len(groups) + 1.6, 5.4)
        axes = figure.subplots(2, len(groups), squeeze=False, sharex="col", sharey="row")
        for column, (name, runs) in enumerate(groups.items()):
            for row, what in enumerate(("loss", "accuracy")):
                _curve(axes[row, column], runs, what)
            axes[0, column].set_title(name, fontsize=10.5)
            axes[1, column].set_xlabel("epoch")
        axes[0, 0].set(ylabel="cross entropy", ylim=(0, 3.2))
        axes[1, 0].set(ylabel="accuracy", ylim=(0, 1))
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right upper", title="training —\ntest - -", alignment="left")
    return figure


def _curve(ax: Axes, runs: Sequence[Run], what: str) -> None:
    for run, colour in zip(runs, COLOURS, strict=False):
        steps = run.recording.steps
        ax.plot(steps, run.recording.scalars(f"train_{what}"), color=colour, linewidth=1.6, label=run.scheme)
        ax.plot(steps, run.recording.scalars(f"test_{what}"), color=colour, linewidth=1.1, linestyle=(0, (3, 2)))
    ax.grid(axis="y")


def trainability(
    runs: Sequence[Run], found: Mapping[str, Mapping[str, float]], within: Mapping[str, Mapping[str, float]]
) -> Figure:
    """Return final training accuracy and loss of all runs against the saturation that they began with."""
    depths = sorted({run.depth for run in runs}, reverse=True)
    with style():
        figure = new_figure(10.8, 4.5)
        for ax, what in zip(figure.subplots(1, 2), ("train_accuracy", "train_loss"), strict=True):
            for run in runs:
                mark = MARKS[run.optimiser, depths.index(run.depth)]
                ax.plot(run.saturation, run.last(what), mark, color=_colour(run, runs), markersize=7, alpha=0.85)
            c = within[what]
            part = f"{c['value']:+.2f} ({c['low']:+.2f} to {c['high']:+.2f})"
            title = f"rank correlation {found[what]['value']:+.2f};\nat one depth and optimiser {part}"
            ax.set_title(title, fontsize=10.5)
            words = {
                "train_accuracy": "training accuracy after the last epoch",
                "train_loss": "training loss after the last epoch",
            }
            ax.set(xlabel="saturation before training, mean |2 P(active) − 1|", ylabel=words[what], xlim=(-0.03, 1))
            ax.set_ylim(bottom=0)
            ax.grid()
        _key(figure, runs, depths)
    return figure


def _colour(run: Run, runs: Sequence[Run]) -> str:
    return COLOURS[list(dict.fromkeys(r.scheme for r in runs)).index(run.scheme) % len(COLOURS)]


def _key(figure: Figure, runs: Sequence[Run], depths: Sequence[int]) -> None:
    from matplotlib.lines import Line2D

    kinds = {run.scheme: Line2D([], [], marker="o", linestyle="", color=_colour(run, runs)) for run in runs}
    present = dict.fromkeys((run.optimiser, run.depth) for run in runs)
    marks = {
        f"{depth} layers, {optimiser}": Line2D([], [], marker=MARKS[optimiser, depths.index(depth)], linestyle="", color=GREY)
        for optimiser, depth in present
    }
    figure.legend([*kinds.values(), *marks.values()], [*kinds, *marks], loc="outside right center", fontsize=9.5)


def distances(recording: Recording) -> Figure:
    """Return how far random pairs are apart at every layer, before training in grey and after it in blue."""
    with style():
        figure = new_figure(10.8, 3.4)
        axes = figure.subplots(1, len(recording.layers), sharey=True, squeeze=False)[0]
        for k, ax in enumerate(axes):
            means = [_pairs(ax, recording[index].distances[k], colour) for index, colour in ((0, GREY), (-1, BLUE))]
            units = recording.layers[k].num_units
            ax.axvline(units / 2, color=ORANGE, linewidth=1.2, linestyle=(0, (4, 3)), label="half of the units")
            words = f"layer {k + 1}: mean {means[0]:.1f}, then {means[1]:.1f}"
            ax.set_title(words, fontsize=10.5)
            ax.set(xlabel=f"units that differ, of {units}", xlim=(0, None))
        handles = axes[0].patches[:2] + axes[0].lines[:1]
        words = ["before training", f"after {recording.steps[-1]} epochs", "half of the units"]
        figure.legend(handles, words, loc="outside lower center", ncols=3)
        axes[0].set_ylabel("share of pairs")
        axes[0].yaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
    return figure


def _pairs(ax: Axes, counts: Tensor, colour: str) -> float:
    """Draw distances, and return their mean."""
    width = max(1, len(counts) // 64)
    edges = np.arange(0, len(counts) + width, width) - 0.5
    shares = np.histogram(np.arange(len(counts)), edges, weights=counts.numpy())[0] / max(1, int(counts.sum()))
    mean = float((counts * torch.arange(len(counts))).sum()) / max(1, int(counts.sum()))
    ax.stairs(shares / width, edges, fill=True, color=colour, alpha=0.55)
    return mean


def independence(found: Mapping[str, Independence]) -> Figure:
    """Return the study's test of the mean distance, and the permutation test of independence below, a column an epoch."""
    with style():
        figure = new_figure(10.8, 5.6)
        axes = figure.subplots(2, len(found), squeeze=False)
        for column, (name, result) in enumerate(found.items()):
            result.fair_bits.plot(axes[0, column])
            axes[0, column].set_title(name, loc="left", fontsize=10.5)
            axes[0, column].locator_params(axis="x", nbins=5)
            _far_from_null(axes[1, column], result)
        axes[1, 0].set_ylabel("permutations and data")
        right = 1.1 * max(result.statistic for result in found.values())
        for ax in axes[1]:
            ax.set_xlim(0, right)
    return figure


def _far_from_null(ax: Axes, result: Independence) -> None:
    """Draw the statistic and its values under permutations as lines: bars would have no width beside the distance."""
    low, high = float(result.null.min()), float(result.null.max())
    words = f"{len(result.null)} permutations: {low:.3f} to {high:.3f}"
    ax.vlines(result.null.numpy(), 0, 1, color=GREY, linewidth=1.5, label=words)
    ax.axvline(result.statistic, color=ORANGE, linewidth=2, label=f"observed {result.statistic:.2f}, p = {result.p_value:.2g}")
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.set(ylim=(0, 1), xlabel="variance of distances over that of independent units")
    ax.legend(loc="upper center", bbox_to_anchor=(0.37, 1), fontsize=9)


def constellations(found: Mapping[str, Constellations]) -> Figure:
    """Return the curves of clusters against the threshold, beside those of random patterns."""
    with style():
        figure = new_figure(10.8, 4.2)
        axes = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
        for ax, (name, result) in zip(axes, found.items(), strict=True):
            result.plot(ax, plateaus=0)
            ax.set_title(name)
            ax.legend(title="normalised integral", alignment="left", fontsize=8.5, loc="lower left")
        for ax in axes[1:]:
            ax.set_ylabel("")
        right = max(ax.get_xlim()[1] for ax in axes)
        for ax in axes:
            ax.set_xlim(0, right)
    return figure


def neighbours(found: PatternNeighbours) -> Figure:
    """Return inputs, each in front of those whose patterns are nearest."""
    with style():
        figure = new_figure(10.2, 0.6 + 1.05 * min(8, len(found)))
        found.plot(figure.subplots(), most=8)
    return figure


def hyperplanes(models: Mapping[int, Tensor]) -> Figure:
    """Return how far hyperplanes lie from the origin, beside the law of a uniform bias: flat up to sqrt(3 / n)."""
    with style():
        figure = new_figure(8.4, 3.1)
        for ax, (n, d) in zip(figure.subplots(1, len(models), squeeze=False)[0], models.items(), strict=True):
            ax.hist(d.numpy(), bins=40, density=True, color=BLUE, alpha=0.6)
            end = (3 / n) ** 0.5
            ax.plot([0, end, end], [1 / end, 1 / end, 0], color=ORANGE, linewidth=1.5, label="flat up to √(3/n)")
            ax.set_ylim(0, 1.8 / end)
            ax.set(xlabel="distance from the origin", title=f"n = {n:,}", ylabel="density of units")
            ax.legend(title=f"median {float(d.median()):.4f}; inputs of N(0, I): {n**0.5:.0f}", alignment="left", fontsize=9)
    return figure


def first_layer(found: Mapping[str, FirstLayerModel]) -> Figure:
    """Return first-layer activations beside one-sided normals."""
    with style():
        figure = new_figure(10.8, 3.9)
        for ax, (name, model) in zip(figure.subplots(1, len(found), squeeze=False)[0], found.items(), strict=True):
            model.plot(ax)
            ax.set_title(f"{name}: {len(model.active)} units", fontsize=10.5)
            ax.legend(fontsize=8.5)
    return figure


def axes_of_batch_norm(layer: GaussianLayer, points: Tensor) -> Figure:
    """Return the activations of two units, with the axes that batch norm gives them."""
    with style():
        figure = new_figure(4.8, 4.6)
        layer.plot(figure.subplots(), points=points)
    return figure


def as_bits(found: Mapping[str, BinaryApproximation]) -> Figure:
    """Return the share of signs that are kept behind layers that become their patterns."""
    with style():
        figure = new_figure(10.8, 3.7)
        axes = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
        for ax, (name, result) in zip(axes, found.items(), strict=True):
            result.plot(ax)
            ax.set_xticks(range(1, len(result.layers) + 1), [str(k + 1) for k in range(len(result.layers))])
            ax.set(title=name)
            ax.get_legend().set_visible(ax is axes[-1])
        for ax in axes[1:]:
            ax.set_ylabel("")
    return figure


def second_layer(found: Sequence[SecondLayerLaw]) -> Figure:
    """Return how often random units fire on k patterns of fair bits, beside the stated law."""
    with style():
        figure = new_figure(10.8, 5.2)
        for ax, result in zip(figure.subplots(2, len(found) // 2, squeeze=False).flat, found, strict=True):
            result.plot(ax)
            words = "the study's bias" if result.bias == 1 else "bias near 0"
            ax.set_title(f"n = {result.bits}, {words}: p {_p(result.p_value)}", fontsize=10.5)
            ax.set_ylim(0, 1.3 * ax.get_ylim()[1])
            ax.legend(fontsize=8.5, loc="upper center", ncols=2)
            ax.set_xlabel("share of patterns on which a unit fires" if result is found[-1] or result is found[-2] else "")
    return figure


def propagation(found: Mapping[str, Mapping[str, Propagation]]) -> Figure:
    """Return the second moment from layer to layer, a panel for each kind of inputs and a line for each scheme."""
    with style():
        figure = new_figure(10.8, 4.2)
        axes = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
        for ax, (inputs, schemes) in zip(axes, found.items(), strict=True):
            for (scheme, result), colour in zip(schemes.items(), COLOURS, strict=False):
                _signal(ax, result, "--" if scheme == "ours" else "-", colour, scheme)
            ax.set_yscale("log")
            ax.grid(axis="y", color=FAINT)
            ax.set(title=inputs, xlabel="layer")
        axes[0].set_ylabel("E[z²] of pre-activations")
        axes[0].plot([], [], "D", color=GREY, markersize=5, markerfacecolor="none", label="theory, from the layer in front")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=6, fontsize=9)
    return figure


def _signal(ax: Axes, result: Propagation, line: str, colour: str, scheme: str) -> None:
    rows = [row for row in result.layers if row.gate != "none"]
    steps = range(1, len(rows) + 1)
    ax.plot(steps, [row.second_moment for row in rows], line, color=colour, linewidth=1.6, label=scheme)
    theory: list[Any] = [np.nan if row.predicted is None else row.predicted for row in rows]
    ax.plot(steps, theory, "D", color=colour, markersize=5, markerfacecolor="none")


def _p(value: float) -> str:
    return f"= {value:.2g}" if value > 1e-12 else "below 1e-12"
