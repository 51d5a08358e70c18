"""For inputs of up to three entries: all inputs of the data's range that a network maps to each class, or to one value."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from ..domain import Box
from ..plotting.base import new_figure, style
from ..preimage import Preimage, preimage
from ..target import Argmax, OutputSet
from .section import Drawing
from .subject import Subject

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_INPUTS, _MOST_TARGETS = 3, 10
_SECONDS, _PIECES = 5.0, 4_000  # spent on all targets together, and pieces of one at which to stop, give or take a chunk
_POINTS = 300  # inputs drawn on top
_LEVELS = (0.1, 0.5, 0.9)  # of the outputs over the data, where there is one output and no class


class Found(NamedTuple):
    """A preimage under the name of its target, and the inputs of the data that are drawn on it."""

    name: str
    preimage: Preimage
    points: Tensor | None

    @property
    def share(self) -> float | None:
        """The part of the range, None where the preimage is thinner than it."""
        whole = self.preimage
        return whole.fraction if whole.dimension in (-1, whole.domain.dim) else None

    def row(self) -> dict[str, Any]:
        """Return its numbers."""
        found = self.preimage
        return {"target": self.name, "pieces": len(found), "dimension": found.dimension, "fraction": found.fraction} | {
            "volume": found.volume,
            "complete": found.complete,
        }


def preimages(subject: Subject) -> list[Found]:
    """Return the preimages of all classes in the range of the data, of some values where there is one output.

    Of inputs with three entries the last is held at its median. Empty for more inputs, smooth networks, and data that are
    one point.
    """
    net, inputs = subject.net, subject.data.inputs.double().flatten(1)
    if inputs.shape[1] > _MOST_INPUTS or not net.is_piecewise_linear:
        return []
    low, high = inputs.min(0).values, inputs.max(0).values
    if len(low) == _MOST_INPUTS:
        low[-1] = high[-1] = inputs[:, -1].median()
    box = Box(low.reshape(net.input_shape), high.reshape(net.input_shape))
    if not box.dim:
        return []
    chosen = _targets(subject)
    effort: dict[str, Any] = {"limit": _PIECES, "time_limit": _SECONDS / len(chosen)}
    found = list[Found]()
    for name, target, mask in chosen:
        points = inputs[mask][:_POINTS].reshape(-1, *net.input_shape) if len(low) < _MOST_INPUTS and bool(mask.any()) else None
        found.append(Found(name, preimage(net, target, box, **effort), points))
        if not found[-1].preimage.complete:
            break  # the others would take as long
    return found


def _targets(subject: Subject) -> list[tuple[str, Argmax | OutputSet, Tensor]]:
    """Return names, targets and which of the data belong to them."""
    outputs = subject.outputs.double()
    if outputs.shape[1] == 1:
        levels = torch.quantile(outputs[:100_000, 0], torch.tensor(_LEVELS, dtype=torch.float64)).unique()
        nothing = torch.zeros(len(outputs), dtype=torch.bool)
        return [(f"output {v:.3g}", OutputSet.point([v]), nothing) for v in levels.tolist()]
    classes = range(outputs.shape[1]) if outputs.shape[1] <= _MOST_TARGETS else subject.chosen.unique()[:_MOST_TARGETS].tolist()
    return [(f"class {k}", Argmax(k), subject.chosen == k) for k in classes]


def in_words(found: list[Found]) -> str:
    """Say what the picture shows, and what was left out."""
    several = found[0].name.startswith("class")
    what = "each class" if several else "some values"
    text = f"With so few entries all inputs can be had: those of the data's range that the network maps to {what}, exactly."
    if math.prod(found[0].preimage.network.input_shape) == _MOST_INPUTS:
        text += " The last entry is held at its median over the data."
    if not several:
        text += " On each of these sets the network does not tell inputs apart."
    late = [f.name for f in found if not f.preimage.complete]
    return text + (f" For {late[0]} there are more pieces than this page has time for; others were left out." if late else "")


def preimage_drawing(found: list[Found]) -> Drawing:
    """Return the preimages side by side, without the empty ones."""
    found = [f for f in found if len(f.preimage)]
    dots = " Dots are inputs of the data that the network maps there." if any(f.points is not None for f in found) else ""
    caption = (
        f"All inputs of the data's range with the output named, piece by piece, a colour for each activation pattern.{dots}"
    )
    names = ", ".join(f.name for f in found)
    return Drawing("preimages", _figure(found), caption, f"preimages of {names} in the range of the data")


def _figure(found: list[Found]) -> Figure:
    flat = found[0].preimage.domain.dim == 2
    columns = min(len(found), 5 if len(found) > 3 else 3) if flat else 1
    rows = -(-len(found) // columns)
    with style():
        figure = new_figure(10.8, (10.8 / max(columns, 3) + 0.2) * rows if flat else 1.3 * rows + 0.4)
        axes = list(figure.subplots(rows, columns, squeeze=False).flat)
        for k, ax in enumerate(axes):
            if k >= len(found):
                ax.set_axis_off()
                continue
            one = found[k]
            one.preimage.plot(ax, points=one.points)
            ax.set_title(one.name if one.share is None else f"{one.name}: {one.share:.1%}")
            ax.set(xlabel="" if k + columns < len(found) else ax.get_xlabel(), ylabel="" if k % columns else ax.get_ylabel())
    return figure
