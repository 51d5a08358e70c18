"""Drawings of sensitivity: inputs in grey with signed heat on top, the entries that count most; inputs that activate a unit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..activate import Activation
from ..errors import InputError
from ..sensitivity import Sensitivity, _position
from .base import BLUE, FAINT, GREY, INK, ORANGE, _axes, _few_ticks, _grey, _heat, draw, new_figure, picture, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = np.ndarray[Any, Any]
_FULL = 0.99  # the quantile of sizes that gets full colour: single entries would drown all others
_PALE = 0.55  # how far an input under heat is faded towards white
_TITLES = {
    "gradient": "gradient",
    "gradient_times_input": "gradient × input",
    "integrated_gradients": "integrated gradients",
    "guided_backprop": "guided backpropagation",
    "grad_cam": "Grad-CAM",
}


@draw.register(Sensitivity)
def _(
    result: Sensitivity, ax: Axes | None = None, *, method: str | None = None, input: int = 0, unit: int = 0, top: int = 0
) -> Axes:
    """Draw one method's values for one input and the k-th of its units: over a picture as heat, of other inputs as bars.

    Red raises the unit, blue lowers it. `top` marks so many of the entries that count most.

    Raises InputError for a method that was not asked for, or an input or unit that is not there.
    """
    method = method or result._main
    values = _chosen(result.of(method), input, unit)
    with style():
        ax = _axes(ax, 4.2, 4.2) if picture(values) is not None else _axes(ax, 7, 3.2)
        ax.set_title(f"{_TITLES[method]} for {result.unit_name(input, unit)}")
        if picture(values) is None:
            _entries(ax, values, top or 10, ranked=values.numel() > 40)
            return ax
        _overlay(ax, result.inputs[input], values)
        _mark(ax, values, top)
        ax.set_xlabel("red raises it, blue lowers it")
    return ax


@draw.register(Activation)
def _(result: Activation, ax: Axes | None = None) -> Axes:
    """Draw the input that was found: a picture in grey, other inputs as bars."""
    with style():
        image = picture(result.point)
        ax = _axes(ax, 3.6, 3.8) if image is not None else _axes(ax, 7, 3.2)
        ax.set_title(f"{result.layer} {result.unit} = {result.value:.4g}")
        if image is None:
            _entries(ax, result.point, 0, ranked=False)
            ax.set_ylabel("value")
        else:
            ax.imshow(_grey(result.point.cpu()).numpy(), cmap="gray", interpolation="nearest")
            ax.set(xticks=[], yticks=[])
            _frameless(ax)
    return ax


def sensitivity_figure(result: Sensitivity, most: int = 6, unit: int = 0, top: int = 10) -> Figure:
    """Return a row for each of the first `most` inputs: the input, one panel a method, and the `top` entries that count most.

    Inputs that are no pictures have bars, one panel a method.
    """
    methods, count = list(result.attributions), min(len(result), most)
    pictures = picture(result.inputs[0]) is not None
    with style():
        columns = len(methods) + (2 if pictures else 0)
        wide, high = (1.78, 1.95) if pictures else (3.6, 2.1)
        figure = new_figure(max(7.0, wide * columns), high * count + 0.6)
        axes = figure.subplots(count, columns, squeeze=False)
        for i, line in enumerate(axes):
            if pictures:
                _plain(line[0], result, i, unit)
            for k, method in enumerate(methods, 1 if pictures else 0):
                values = _chosen(result.of(method), i, unit)
                if pictures:
                    _overlay(line[k], result.inputs[i], values)
                else:
                    _entries(line[k], values, top, ranked=values.numel() > 40)
                    line[k].set_ylabel(result.unit_name(i, unit) if k == 0 else "")
                line[k].set_title(_TITLES[method] if i == 0 else "", fontsize=9.5, loc="center", weight="normal")
            if pictures:
                line[-1].set_title(f"top {top} entries" if i == 0 else "", fontsize=9.5, loc="center", weight="normal")
                _faded(line[-1], result.inputs[i])
                _mark(line[-1], _chosen(result.of(result._main), i, unit), top)
        if pictures:
            figure.supxlabel(f"red raises the unit, blue lowers it; top entries by {_TITLES[result._main]}", fontsize=9.5)
    return figure


def activation_figure(results: list[Activation], columns: int = 5) -> Figure:
    """Return the inputs of several answers side by side."""
    wide = picture(results[0].point) is not None
    rows, columns = -(-len(results) // columns), min(columns, len(results))
    with style():
        figure = new_figure((1.9 if wide else 4.2) * columns, (2.15 if wide else 2.4) * rows)
        axes = figure.subplots(rows, columns, squeeze=False).flat
        for k, ax in enumerate(axes):
            if k < len(results):
                draw(results[k], ax)
                ax.set_title(ax.get_title(loc="left"), fontsize=9.5, weight="normal")
            else:
                ax.set_axis_off()
    return figure


def _chosen(values: Tensor, input: int, unit: int) -> Tensor:
    if not (-len(values) <= input < len(values) and -values.shape[1] <= unit < values.shape[1]):
        raise InputError(
            f"draw: expected an input below {len(values)} and a unit below {values.shape[1]}; got {input} and {unit}"
        )
    return values[input, unit].detach().cpu()


def _plain(ax: Axes, result: Sensitivity, input: int, unit: int) -> None:
    ax.imshow(_grey(result.inputs[input].cpu()).numpy(), cmap="gray", interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    _frameless(ax)
    ax.set_title(
        f"{result.unit_name(input, unit)} = {float(result.values[input, unit]):.3g}",
        fontsize=9.5,
        loc="center",
        weight="normal",
    )


def _faded(ax: Axes, x: Tensor) -> None:
    """Draw a picture in light grey, whatever its colours are."""
    image = _grey(x.detach().cpu())
    image = image.mean(-1) if image.ndim == 3 else image
    low, high = float(image.min()), float(image.max())
    shade = (image - low) / (high - low) if high > low else torch.full_like(image, 0.5)
    ax.imshow((_PALE + (1 - _PALE) * shade).numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    _frameless(ax)


def _overlay(ax: Axes, x: Tensor, values: Tensor) -> None:
    """Draw a picture in light grey with heat on top, as opaque as it is strong."""
    import matplotlib

    _faded(ax, x)
    heat = _heat(values).numpy()
    sizes = np.abs(heat[heat != 0])
    bound = float(np.quantile(sizes, _FULL)) if len(sizes) else 1.0
    part = np.clip(heat / bound, -1, 1)
    colours = matplotlib.colormaps["RdBu_r"]((part + 1) / 2)
    colours[..., 3] = np.abs(part) ** 0.6
    ax.imshow(colours, interpolation="nearest")


def _mark(ax: Axes, values: Tensor, top: int) -> None:
    """Frame the entries of a picture that count most, red where they raise the unit."""
    from matplotlib.patches import Rectangle

    heat = _heat(values).numpy()
    order = np.argsort(-np.abs(heat), axis=None, kind="stable")[:top]
    for row, column in zip(*np.unravel_index(order, heat.shape), strict=True):
        if heat[row, column]:
            color = "#B2182B" if heat[row, column] > 0 else "#2166AC"
            place = (float(column) - 0.5, float(row) - 0.5)
            ax.add_patch(Rectangle(place, 1, 1, fill=True, facecolor=color, edgecolor="white", linewidth=0.4, alpha=0.85))


def _frameless(ax: Axes) -> None:
    for side in ax.spines.values():
        side.set_visible(False)


def _entries(ax: Axes, values: Tensor, top: int, ranked: bool) -> None:
    """Draw bars of all entries in their order, or of the `top` that count most, the first on top."""
    flat = values.reshape(-1).detach().cpu().numpy()
    shown = np.argsort(-np.abs(flat), kind="stable")[:top] if ranked else np.arange(len(flat))
    colours = [ORANGE if flat[k] < 0 else BLUE for k in shown]
    if ranked:
        ax.barh(range(len(shown)), flat[shown], color=colours, height=0.7)
        ax.set_yticks(range(len(shown)), [_position(int(k), tuple(values.shape)) for k in shown], fontsize=8)
        ax.set_ylim(len(shown) - 0.4, -0.6)
        ax.axvline(0, color=INK, linewidth=0.6)
        ax.grid(axis="x", color=FAINT)
        ax.tick_params(axis="y", length=0)
        return
    ax.bar(range(len(shown)), flat, color=colours, width=0.8)
    ax.axhline(0, color=INK, linewidth=0.6)
    ax.yaxis.set_major_locator(_few_ticks())
    ax.set_xlabel("entry of the input")
    if len(flat) <= 12:
        ax.set_xticks(range(len(flat)))
    ax.spines["bottom"].set_color(GREY)
