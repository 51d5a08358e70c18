"""Drawings of reconstructions: what is left over the iterations, and pictures of truth, reconstruction and difference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from ..errors import InputError
from ..reconstruct import Reconstruction
from .base import BLUE, FAINT, GREY, ORANGE, Panel, _axes, _whole_ticks, draw, gallery, picture, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LEAST = 1e-17  # where 0 is shown on a logarithmic axis


@draw.register(Reconstruction)
def _(result: Reconstruction, ax: Axes | None = None, *, samples: int = 40) -> Axes:
    """Draw residuals, and errors where the truth is known, over the iterations: medians thick, `samples` of the batch thin.

    A line marks where descent ends and the exact finish begins; dots are where samples became exact.
    """
    with style():
        ax = _axes(ax, 7.4, 4)
        _lines(ax, result.residual_history[:samples], BLUE, result.residual_history, "residual of the features")
        if result.error_history is not None:
            _lines(ax, result.error_history[:samples], ORANGE, result.error_history, "error of the input")
        done = result.finished[:samples]
        rows = (done >= 0).nonzero().reshape(-1)
        if len(rows):
            y = _shown(result.residual_history)[rows.numpy(), done[rows].numpy()]
            ax.plot(done[rows].numpy(), y, "o", color=BLUE, markersize=3.5, alpha=0.6, label="exact")
        ax.axvline(result.descended, color=GREY, linewidth=1, linestyle="--")
        ax.annotate(
            "exact finish",
            (result.descended, 1.0),
            (-5, -4),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="right",
            va="top",
            color=GREY,
            fontsize=9.5,
        )
        ax.set_yscale("log")
        ax.grid(axis="y", color=FAINT)
        ax.legend(loc="lower left" if result.descended else "best")
        ax.set(xlabel="iteration", ylabel="relative distance")
        ax.set_title(f"{len(result):,} inputs from the features of {result.layer}: {int(result.exact.sum()):,} exact")
        ax.xaxis.set_major_locator(_whole_ticks())
    return ax


def _shown(values: Tensor) -> Any:
    return np.maximum(values.numpy(), _LEAST)


def _lines(ax: Axes, some: Tensor, color: str, every: Tensor, label: str) -> None:
    ax.plot(_shown(some).T, color=color, linewidth=0.6, alpha=0.2)
    ax.plot(_shown(every.median(0).values), color=color, linewidth=2, label=f"{label}, median")


def reconstruction_figure(result: Reconstruction, count: int = 6, image: tuple[int, int] | None = None) -> Figure:
    """Return pictures of the first `count` samples in columns: truth, reconstruction, and what differs.

    `image` (rows, columns) says how inputs are pictures where their shape does not. The number above is the error, or the
    residual without a truth, in colour where the input is the only one with its features; differences are signed.

    Raises InputError where inputs are no pictures.
    """
    shown = min(count, len(result))
    views = [_view(x, image) for x in result.points[:shown]]
    if any(picture(v) is None for v in views):
        shape = tuple(result.points.shape[1:])
        raise InputError(f"image: expected (rows, columns) for inputs of shape {shape}, which are no pictures; got {image}")
    numbers = result.residuals if result.errors is None else result.errors
    ours = [Panel(_words(result, k, float(numbers[k])), v, False, result.unique[k] is True) for k, v in enumerate(views)]
    rows: list[tuple[str, list[Panel | None]]] = []
    if result.truth is not None:
        truths = [_view(x, image) for x in result.truth[:shown]]
        rows.append(("truth", [Panel("", t, False) for t in truths]))
        differences = [Panel("", v - t, True) for v, t in zip(views, truths, strict=True)]
        rows += [("reconstruction", list(ours)), ("difference", list(differences))]
    else:
        rows.append(("reconstruction", list(ours)))
    return gallery(rows, signed="reconstruction less truth", unit="value of a pixel")


def _view(x: Tensor, image: tuple[int, int] | None) -> Tensor:
    return x if image is None else x.reshape(-1, *image)


def _words(result: Reconstruction, k: int, number: float) -> str:
    kind = "error" if result.truth is not None else "residual"
    return f"{kind} {number:.1g}"
