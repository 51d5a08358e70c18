"""Drawings of what lies near in pattern space: clusters against thresholds, what they hold, neighbours as pictures, and
layers by what neighbours tell and by what is lost without them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from ..constellations import Constellations, Contents
from ..errors import InputError
from ..layer_usefulness import LayerUsefulness
from ..pattern_neighbours import ALL_LAYERS, NeighbourAccuracy, PatternNeighbours
from .base import BLUE, FAINT, GREEN, GREY, INK, ORANGE, PINK, SKY, _axes, _grey, _whole_ticks, draw, picture, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = np.ndarray[Any, Any]
_NULLS = {
    "marginals": (ORANGE, "independent units, same frequencies"),
    "fair": (GREY, "independent units, all pieces equally likely"),
}
_COVERING: Any = {"frameon": True, "framealpha": 0.9, "edgecolor": "none"}  # legends that a curve may pass behind
_COLOURS = [BLUE, ORANGE, GREEN, SKY, PINK, "#E69F00", "#F0E442", "#5B4A9B", "#7A5230", GREY]


@draw.register(Constellations)
def _(
    result: Constellations,
    ax: Axes | None = None,
    *,
    of: Literal["clusters", "constellations"] = "clusters",
    plateaus: int = 2,
    full: bool = False,
    log: bool = True,
) -> Axes:
    """Draw the number of clusters against the threshold, beside random patterns and with the longest plateaus shaded; or
    how many inputs constellations hold. Thresholds end behind the last merge unless `full`; numbers are on a logarithmic
    axis unless `log` is False."""
    with style():
        ax = _axes(ax, 7.2, 4.2)
        _groups(result, ax) if of == "constellations" else _clusters(result, ax, plateaus)
        ax.set_xlim(0, max(1, result.size if full else min(result.size, 1.05 * _last(result, of))))
        ax.set_xlabel(f"threshold t: units that differ, of {result.size:,}")
        ax.grid(axis="y")
        ax.xaxis.set_major_locator(_whole_ticks())
        if log:
            ax.set_ylim(0.8, 1.3 * len(result))  # first: curves of zeros alone have no limits of their own on this scale
            ax.set_yscale("log", nonpositive="mask")
        else:
            ax.set_ylim(0, 1.04 * len(result))
            ax.yaxis.set_major_locator(_whole_ticks())
        ax.legend(title=None if of == "constellations" else "normalised integral", alignment="left", loc="best", **_COVERING)
    return ax


def _last(result: Constellations, of: str) -> float:
    """Return the first threshold from which on every drawn curve is trivial."""
    tables = [] if of == "constellations" else [null.counts.numpy() for null in result.nulls]
    ends = [int((table > 1).any(0).sum()) for table in [result.counts.numpy()[None], *tables]]
    return max(1, *ends)


def _clusters(result: Constellations, ax: Axes, plateaus: int) -> None:
    thresholds = np.arange(result.size + 1)
    for null in result.nulls:
        color, words = _NULLS[null.kind]
        counts = null.counts.numpy()
        if len(counts) > 1:
            ax.fill_between(thresholds, counts.min(0), counts.max(0), step="post", color=color, alpha=0.25, linewidth=0)
        score = (float(null.scores.mean()) / max(1, result.size) - 1) / max(1, len(result) - 1)
        label = f"{words}: {score:.3f}"
        ax.step(thresholds, counts.mean(0), where="post", color=color, linestyle="--", linewidth=1.3, label=label)
    ax.step(thresholds, result.counts.numpy(), where="post", color=BLUE, linewidth=1.9, label=f"data: {result.normalised:.3f}")
    for p in [p for p in result.plateaus(plateaus) if p.is_flat] if plateaus else []:
        ax.axvspan(p.start, p.stop, color=FAINT, alpha=0.6, linewidth=0, zorder=0)
        middle, words = ((p.start + p.stop) / 2, p.clusters), f"{p.clusters:,} clusters"
        below = p.clusters**2 > len(result)  # in the upper half of a logarithmic axis, where there is room below the curve
        place: Any = {"textcoords": "offset points", "rotation": 90, "ha": "center", "va": "top" if below else "bottom"}
        ax.annotate(words, middle, (0, -6 if below else 6), color=INK, fontsize=9, **place)
    ax.set(ylabel="clusters", title=f"Clusters of {len(result):,} patterns, {result.linkage} linkage")


def _groups(result: Constellations, ax: Axes) -> None:
    thresholds, curve = np.arange(result.size + 1), result.group_curve()
    ax.step(thresholds, curve.inputs.numpy(), where="post", color=BLUE, linewidth=1.9, label="inputs in constellations")
    ax.step(thresholds, curve.constellations.numpy(), where="post", color=ORANGE, linewidth=1.5, label="constellations")
    ax.step(thresholds, curve.alone.numpy(), where="post", color=GREY, linewidth=1.3, linestyle="--", label="inputs alone")
    ax.set(ylabel="number", title=f"Constellations of {len(result):,} patterns: diameter ≤ t < distance to others")


@draw.register(Contents)
def _(result: Contents, ax: Axes | None = None, *, most: int = 25) -> Axes:
    """Draw the `most` largest clusters as bars, coloured by how many inputs of each label they hold."""
    shown, size = result.counts[:most].numpy(), len(result.cluster)
    with style():
        ax = _axes(ax, 7.2, 4)
        below = np.zeros(len(shown))
        for k, (label, column) in enumerate(zip(result.classes.tolist(), shown.T, strict=True)):
            light = k // len(_COLOURS) % 2
            color = _COLOURS[k % len(_COLOURS)]
            ax.bar(
                range(len(shown)), column, bottom=below, color=color, alpha=0.5 if light else 1, width=0.85, label=str(label)
            )
            below += column
        ax.set_xticks(
            range(len(shown)),
            [str(c) for c in result.cluster[:most].tolist()],
            fontsize=9,
            rotation=90 if len(shown) > 12 else 0,
        )
        ax.tick_params(axis="x", length=0)
        name = f"cluster, the {len(shown)} largest of {size:,}" if size > len(shown) else "cluster"
        ax.set(xlabel=name, ylabel="inputs", title=f"Clusters at threshold {result.threshold:g}")
        ax.set_title(
            f"purity {result.purity:.1%}, adjusted Rand index {result.adjusted_rand:.3f}",
            loc="right",
            weight="normal",
            fontsize=10,
        )
        ax.legend(title="label", ncols=2, loc="upper right", **_COVERING)
        ax.grid(axis="y")
        ax.yaxis.set_major_locator(_whole_ticks())
    return ax


@draw.register(PatternNeighbours)
def _(result: PatternNeighbours, ax: Axes | None = None, *, most: int = 10) -> Axes:
    """Draw the first `most` queries, each as a row: the query, then its neighbours, nearest first, over their distances.

    Neighbours of another label have it written in orange. Raises InputError where there are no pictures to draw.
    """
    if result.images is None or result.query_images is None:
        raise InputError("plot: expected images of the inputs and of the queries; give them to pattern_neighbours")
    queries = min(most, len(result))
    tiles = [
        [_tile(result.query_images[i]), *(_tile(result.images[j]) for j in result.index[i].tolist())] for i in range(queries)
    ]
    with style():
        columns = len(tiles[0])
        ax = _axes(ax, 0.6 + 0.92 * columns, 0.7 + 1.12 * queries)
        for row, line in enumerate(tiles):
            for column, tile in enumerate(line):
                left, top = column + (0.25 if column else 0), 1.25 * row
                extent = (left, left + 0.94, top + 0.94, top)
                ax.imshow(tile, cmap="gray", extent=extent, interpolation="nearest")
                words, color = _caption(result, row, column)
                ax.text(left + 0.47, top + 1.09, words, ha="center", va="center", fontsize=8.5, color=color)
        ax.set(xlim=(-0.02, columns + 0.27), ylim=(1.25 * queries, -0.05), aspect="equal")
        ax.set_axis_off()
        ax.set_title(
            "Inputs, and those whose patterns are nearest: label, distance"
            if result.labels is not None
            else "Inputs, and those whose patterns are nearest"
        )
    return ax


def _tile(image: Any) -> Array:
    values = torch.as_tensor(np.asarray(image)) if not isinstance(image, torch.Tensor) else image.detach().cpu()
    if picture(values) is None:
        values = values.reshape(1, -1)
    return np.asarray(_grey(values).numpy())


def _caption(result: PatternNeighbours, row: int, column: int) -> tuple[str, str]:
    mine = None if result.query_labels is None else int(result.query_labels[row])
    if column == 0:
        return ("" if mine is None else str(mine)), INK
    distance = int(result.distance[row, column - 1])
    if result.labels is None:
        return str(distance), INK
    theirs = int(result.labels[result.index[row, column - 1]])
    return f"{theirs}, {distance}", INK if mine is None or mine == theirs else ORANGE


@draw.register(NeighbourAccuracy)
def _(result: NeighbourAccuracy, ax: Axes | None = None) -> Axes:
    """Draw how often votes of neighbours are right, by patterns and by values, from the input to the last layer."""
    names = [line.name for line in result.table]
    apart = names[:-1] if names[-1] == ALL_LAYERS else names  # all layers together are no next layer
    with style():
        ax = _axes(ax, 7.2, 3.8)
        kinds = [("hamming", BLUE, "o", "by patterns (Hamming)"), ("euclidean", ORANGE, "s", "by values (Euclidean)")]
        for name, color, marker, words in kinds:
            rates = [np.nan if (v := getattr(line, name)) is None else 100 * v for line in result.table]
            ax.plot(range(len(apart)), rates[: len(apart)], marker=marker, color=color, linewidth=1.5, label=words)
            ax.plot(range(len(apart), len(names)), rates[len(apart) :], marker=marker, color=color)
        ax.set_xticks(range(len(names)), names, rotation=0 if len(names) <= 8 else 90)
        ax.set(ylabel="right votes, per cent", title=f"Votes of the {result.k} nearest of {result.inputs:,} inputs")
        ax.grid(axis="y")
        ax.margins(y=0.15)
        ax.legend(loc="best")
    return ax


@draw.register(LayerUsefulness)
def _(result: LayerUsefulness, ax: Axes | None = None) -> Axes:
    """Draw both scores of each layer, and beside them the accuracy lost without it (or the share of changed decisions)."""
    labelled = result.accuracy is not None
    lost = ("accuracy_lost", "accuracy lost without it") if labelled else ("decisions_changed", "decisions changed without it")
    bars = [
        ("distance_change", BLUE, "change of distances"),
        ("pattern_change", SKY, "change of patterns"),
        (lost[0], ORANGE, lost[1]),
    ]
    with style():
        ax = _axes(ax, max(7.2, 1.8 + 1.1 * len(result.table)), 3.8)
        for k, (name, color, words) in enumerate(bars):
            values = [getattr(line, name) for line in result.table]
            places = [i + 0.27 * (k - 1) for i in range(len(values))]
            drawn = ax.bar(places, [v or 0.0 for v in values], width=0.25, color=color, label=words)
            ax.bar_label(drawn, ["–" if v is None else f"{v:.2f}" for v in values], fontsize=8, padding=2)
        ax.axhline(0, color=INK, linewidth=0.6)
        ax.set_xticks(range(len(result.table)), [f"{line.name}\n{line.units:,} units" for line in result.table])
        ax.tick_params(axis="x", length=0)
        ax.set(ylabel="score, share of inputs", title=f"Usefulness of layers, {result.inputs:,} inputs")
        ax.grid(axis="y")
        ax.margins(y=0.18)
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3)
    return ax
