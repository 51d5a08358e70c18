"""Drawings of what a network forgets: singular values, dimensions by layer, f along a direction, walls, second derivatives."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from ..constancy import Constancy, ConstantPolytope
from ..errors import InputError
from ..nullspace import Forgotten, NullSpace
from ..second_order import SecondOrder
from .base import BLUE, FAINT, GREY, ORANGE, Panel, _axes, _grey, _heat, _whole_ticks, draw, gallery, picture, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Part = Literal["singular values", "input", "seen", "forgotten"]

_PALETTE = (BLUE, ORANGE, "#009E73", "#CC79A7", "#56B4E9")


@draw.register(NullSpace)
def _(result: NullSpace, ax: Axes | None = None, *, part: Part | int = "singular values") -> Axes:
    """Draw the singular values with the tolerance (each point of a batch in one line), or a picture of one point.

    `part` is "singular values"; "input"; "seen" or "forgotten", the parts of the input in the row space and in the null space;
    or a number k: the k-th strongest direction that the network sees. All but the first need one point, not a batch.

    Raises InputError for another part, or a picture of a batch.
    """
    if part == "singular values":
        return _singular_values(result, ax)
    if result.is_batch:
        raise InputError(f"part: expected 'singular values' for a batch; got {part!r}; take one point: [0]")
    panel = _panel(result, part)
    with style():
        ax = _axes(ax, 4, 4)
        ax.set_title(panel.title)
        image = picture(panel.values)
        if image is None:
            values = panel.values.reshape(-1).cpu().numpy()
            ax.bar(range(len(values)), values, color=BLUE)
            ax.set(xlabel="entry of the input", ylabel="value")
            return ax
        if panel.signed:
            shown = _heat(panel.values)
            bound = float(shown.abs().max()) or 1.0
            ax.imshow(shown.cpu().numpy(), cmap="RdBu_r", vmin=-bound, vmax=bound, interpolation="nearest")
        else:
            ax.imshow(_grey(panel.values).cpu().numpy(), cmap="gray", interpolation="nearest")
        ax.set(xticks=[], yticks=[], xlabel="red up, blue down" if panel.signed else "as it is")
    return ax


def null_space_figure(result: NullSpace, most: int = 8, directions: int = 3) -> Figure:
    """Return inputs with what the network sees of them, what it forgets, and the strongest directions that it sees.

    One column for each of the first `most` points, one row for each of the first `directions`.
    """
    ones = [result[i] for i in range(min(len(result), most))] if result.is_batch else [result]
    count = min(directions, max(int(one.rank) for one in ones))
    parts: list[tuple[str, Part | int]] = [("input", "input"), ("seen", "seen"), ("forgotten", "forgotten")]
    parts += [(f"direction {k}", k) for k in range(count)]
    if len(ones) == 1:  # side by side: a column of its own would leave the page empty
        panels = [Panel("input", ones[0].point.detach(), False), *(_panel(ones[0], part) for _, part in parts[1:])]
        return gallery(
            [("", panels)],
            signed="part of the input or direction",
            unit="units of the input",
        )
    rows = [(name, [_panel(one, part) if _has(one, part) else None for one in ones]) for name, part in parts]
    return gallery(rows, signed="part of the input or direction", unit="units of the input")


def _has(result: NullSpace, part: Part | int) -> bool:
    return not isinstance(part, int) or part < int(result.rank)


def _panel(result: NullSpace, part: Part | int) -> Panel:
    point = result.point.detach()
    if part == "input":
        return Panel("", point, False)
    forgotten = result.project(point)
    if part == "seen":
        return Panel(f"seen: {_share(point - forgotten, point)}", point - forgotten, True)
    if part == "forgotten":
        return Panel(f"forgotten: {_share(forgotten, point)}", forgotten, True)
    rank = int(result.rank)
    if isinstance(part, bool) or not isinstance(part, int) or not 0 <= part < rank:
        known = "'singular values', 'input', 'seen', 'forgotten'" + (f" or a number below {rank}" if rank else "")
        raise InputError(f"part: expected {known}; got {part!r}")
    return Panel(f"σ = {float(result.singular_values[part]):.3g}", result.row_space[:, part].reshape(point.shape), True)


def _share(part: Tensor, whole: Tensor) -> str:
    """Return how much of the squared length of the input a part has."""
    total = float(whole.square().sum())
    return f"{float(part.square().sum()) / total:.0%}" if total else "0 %"


def _singular_values(result: NullSpace, ax: Axes | None) -> Axes:
    values = result.singular_values.reshape(-1, result.singular_values.shape[-1]).cpu().numpy()
    tolerance = result.tolerance.reshape(-1).cpu().numpy()
    shown = np.where(values > 0, values, np.nan)  # a logarithmic scale has no place for 0
    steps = np.arange(1, values.shape[1] + 1)
    with style():
        ax = _axes(ax, 6, 3.6)
        for row in shown:
            ax.plot(steps, row, marker="o", markersize=4, linewidth=1.2, color=BLUE, alpha=0.85 if len(shown) == 1 else 0.35)
        if (tolerance > 0).any():
            low, high = float(tolerance[tolerance > 0].min()), float(tolerance.max())
            if low < high:
                ax.axhspan(low, high, color=ORANGE, alpha=0.2)
            ax.axhline(high, color=ORANGE, linewidth=1.2)
            ax.annotate(
                "counts as 0 below", (0.99, high), (0, 3), xycoords=("axes fraction", "data"),
                textcoords="offset points", ha="right", color=ORANGE,
            )  # fmt: skip
        if np.isfinite(shown).any() or (tolerance > 0).any():
            ax.set_yscale("log")
        ax.grid(axis="y")
        zeros = int((values == 0).sum())
        below = f"; {zeros} of them are 0, not drawn" if zeros else ""
        ax.set(xlabel=f"index of the singular value{below}", ylabel="singular value (output per input)")
        ax.set_title(repr(result).removeprefix("NullSpace(").removesuffix(")") + " forgotten")
        ax.xaxis.set_major_locator(_whole_ticks())
    return ax


@draw.register(Forgotten)
def _(result: Forgotten, ax: Axes | None = None) -> Axes:
    """Draw how many dimensions are forgotten up to each layer; over a batch the mean, with the least and the largest."""
    nullity = result.nullity.reshape(-1, len(result.names)).double().cpu()
    mean, low, high = nullity.mean(0), nullity.min(0).values, nullity.max(0).values
    with style():
        ax = _axes(ax, 7, 1.2 + 0.32 * min(len(result.names), 30))
        places = range(len(result.names))
        ax.barh(places, [result.inputs] * len(result.names), color=FAINT, height=0.7, label="seen")
        bars = ax.barh(places, mean.numpy(), color=BLUE, height=0.7, label="forgotten")
        if len(nullity) > 1:
            spread = torch.stack([mean - low, high - mean]).numpy()
            ax.errorbar(mean.numpy(), places, xerr=spread, fmt="none", ecolor=ORANGE, elinewidth=1.4, capsize=2)
        if len(result.names) <= 30:
            ax.set_yticks(places, result.names)
            ax.bar_label(bars, [f"{m:.4g}" for m in mean.tolist()], label_type="center", color="white")
        ax.set_ylim(len(result.names) - 0.4, -0.6)
        ax.tick_params(axis="y", length=0)
        ax.set(xlabel=f"dimensions, of {result.inputs}", title="Forgotten up to each layer")
    return ax


@draw.register(Constancy)
def _(result: Constancy, ax: Axes | None = None, *, samples: int = 401) -> Axes:
    """Draw how far f(x + t v) is from f(x) around the interval on which it does not move, which is shaded."""
    ends = [t for t in (result.t_min, result.t_max) if math.isfinite(t)]
    reach = max([abs(t) for t in ends] + [0.0]) or 1.0
    low = result.t_min - 0.4 * reach if math.isfinite(result.t_min) else -2 * reach
    high = result.t_max + 0.4 * reach if math.isfinite(result.t_max) else 2 * reach
    t = torch.linspace(low, high, samples, dtype=torch.float64, device=result.point.device)
    with torch.no_grad():
        inputs = result.point + t.reshape(-1, *(1,) * result.point.ndim) * result.direction
        moved = torch.linalg.vector_norm((result.network(inputs) - result.network(result.point)).reshape(samples, -1), dim=1)
    with style():
        ax = _axes(ax, 6.5, 3.4)
        ax.axvspan(max(low, result.t_min), min(high, result.t_max), color=BLUE, alpha=0.12, linewidth=0)
        ax.plot(t.cpu().numpy(), moved.cpu().numpy(), color=BLUE, linewidth=1.5)
        for end, side in ((result.below, "right"), (result.above, "left")):
            if math.isfinite(end.t):
                ax.axvline(end.t, color=ORANGE, linewidth=1)
                name = f"{end.units[0].name}[{end.units[0].unit}]" if end.units else end.reason
                ax.annotate(
                    name, (end.t, 0.97), (3 if side == "left" else -3, 0), xycoords=("data", "axes fraction"),
                    textcoords="offset points", ha=side, va="top", color=ORANGE, fontsize=9,
                )  # fmt: skip
        ax.set(xlabel="t", ylabel="|f(x + t v) − f(x)|", title="Constant where shaded", xlim=(low, high))
    return ax


@draw.register(ConstantPolytope)
def _(result: ConstantPolytope, ax: Axes | None = None) -> Axes:
    """Draw the distances to the walls within the null space, from the nearest on, by the layer that they come from."""
    p = result.polytope
    distance = p.bound.clamp(min=0) / torch.linalg.vector_norm(p.matrix, dim=1)
    order = distance.argsort()
    distance, layers = distance[order].numpy(), p.origins.layer[order].numpy()
    with style():
        ax = _axes(ax, 6, 3.4)
        for i, layer in enumerate(sorted(set(layers.tolist()))):
            here = np.flatnonzero(layers == layer)
            name = p.origins.names[layer] if layer >= 0 else "domain"
            color = _PALETTE[i % len(_PALETTE)] if layer >= 0 else GREY
            ax.plot(here + 1, distance[here], ".", markersize=3, color=color, label=name)
        if len(distance):
            ax.set_yscale("log" if (distance > 0).all() else "symlog", **({} if (distance > 0).all() else {"linthresh": 1e-3}))
            ax.legend(markerscale=3)
        ax.grid(axis="y")
        ax.set(xlabel="wall, the nearest first", ylabel="distance within the null space")
        ax.set_title(f"Walls around {p.dim} dimensions on which f is constant")
    return ax


@draw.register(SecondOrder)
def _(result: SecondOrder, ax: Axes | None = None) -> Axes:
    """Draw the worst violations in parts of their terms, against the part that counts as 0."""
    parts = {"necessary: v_j·H v_k": result.necessary.relative, "sufficient: |H v_j|": result.sufficient.relative}
    floor = 1e-18  # a logarithmic scale has no place for 0
    values = [min(max(v, floor), 10.0) for v in parts.values()]
    with style():
        ax = _axes(ax, 6.5, 1.9)
        colors = [BLUE if v <= result.tolerance else ORANGE for v in parts.values()]
        ax.barh(range(2), values, left=floor, color=colors, height=0.55)
        if result.tolerance > 0:
            ax.axvline(result.tolerance, color=GREY, linewidth=1.2, linestyle="--")
        ax.set_xscale("log")
        ax.set(xlim=(floor, 20.0), ylim=(1.5, -0.5), xlabel="worst violation, in parts of its terms (dashed: counts as 0)")
        ax.set_yticks(range(2), list(parts))
        ax.tick_params(axis="y", length=0)
        ax.set_title(result.verdict[0].upper() + result.verdict[1:])
    return ax
