"""Drawings of what lies near in pattern space: numbers of clusters against the threshold, what clusters hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .constellations import Constellations, Contents
from .plotting import BLUE, FAINT, GREEN, GREY, INK, ORANGE, PINK, SKY, _axes, _whole_ticks, draw, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = np.ndarray[Any, Any]
_NULLS = {
    "marginals": (ORANGE, "independent units, same frequencies"),
    "fair": (GREY, "independent units, all pieces equally likely"),
}
_COLOURS = [BLUE, ORANGE, GREEN, SKY, PINK, "#E69F00", "#F0E442", "#5B4A9B", "#7A5230", GREY]


@draw.register(Constellations)
def _(
    result: Constellations,
    ax: Axes | None = None,
    *,
    of: Literal["clusters", "constellations"] = "clusters",
    plateaus: int = 2,
    full: bool = False,
) -> Axes:
    """Draw the number of clusters against the threshold, beside random patterns and with the longest plateaus shaded; or
    how many inputs constellations hold. Thresholds end behind the last merge unless `full`."""
    with style():
        ax = _axes(ax, 7.2, 4.2)
        _groups(result, ax) if of == "constellations" else _clusters(result, ax, plateaus)
        ax.set_xlim(0, result.size if full else min(result.size, 1.05 * _last(result, of)))
        ax.set_xlabel(f"threshold t: units that differ, of {result.size:,}")
        ax.grid(axis="y")
        ax.margins(y=0.04)
        ax.xaxis.set_major_locator(_whole_ticks())
        ax.yaxis.set_major_locator(_whole_ticks())
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
    for p in result.plateaus(plateaus):
        ax.axvspan(p.start, p.stop, color=FAINT, alpha=0.6, linewidth=0, zorder=0)
        ax.annotate(
            f"{p.clusters:,} clusters", ((p.start + p.stop) / 2, 0.5), (0, 0), ("data", "axes fraction"), "offset points",
            rotation=90, ha="center", va="center", fontsize=9, color=INK,
        )  # fmt: skip
    ax.set(ylabel="clusters", title=f"Clusters of {len(result):,} patterns, {result.linkage} linkage")
    ax.legend(title="integral, normalised", alignment="left", loc="upper right", frameon=True, framealpha=0.9, edgecolor="none")


def _groups(result: Constellations, ax: Axes) -> None:
    thresholds, curve = np.arange(result.size + 1), result.group_curve()
    ax.step(thresholds, curve.inputs.numpy(), where="post", color=BLUE, linewidth=1.9, label="inputs in constellations")
    ax.step(thresholds, curve.constellations.numpy(), where="post", color=ORANGE, linewidth=1.5, label="constellations")
    ax.step(thresholds, curve.alone.numpy(), where="post", color=GREY, linewidth=1.3, linestyle="--", label="inputs alone")
    ax.set(
        ylabel="inputs, constellations", title=f"Constellations of {len(result):,} patterns: diameter ≤ t < distance to others"
    )
    ax.legend(loc="upper right", frameon=True, framealpha=0.9, edgecolor="none")


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
        ax.set_xticks(range(len(shown)), [str(c) for c in result.cluster[:most].tolist()], fontsize=9)
        ax.tick_params(axis="x", length=0)
        name = f"cluster, the {len(shown)} largest of {size:,}" if size > len(shown) else "cluster"
        ax.set(xlabel=name, ylabel="inputs", title=f"Clusters at threshold {result.threshold:g}")
        ax.set_title(
            f"purity {result.purity:.1%}, adjusted Rand index {result.adjusted_rand:.3f}",
            loc="right",
            weight="normal",
            fontsize=10,
        )
        ax.legend(title="label", ncols=2, loc="upper right", frameon=True, framealpha=0.9, edgecolor="none")
        ax.grid(axis="y")
        ax.yaxis.set_major_locator(_whole_ticks())
    return ax
