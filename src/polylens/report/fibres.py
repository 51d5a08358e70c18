"""Walks from inputs towards others through inputs with exactly the same output, and their picture."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from ..boundary import nearest_boundary
from ..errors import GeometryError
from ..fibre import FibreWalk, fibre_walk
from ..plotting.base import BLUE, GREY, INK, ORANGE, _grey, new_figure, picture, style
from .section import Drawing, rounded
from .subject import Subject

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PAIRS = 3
_SECONDS = 9.0  # spent on all walks together
_PILOT = 6  # bends that tell how long one takes
_NUDGE = 1e-3  # of the data's range: how far an input is moved that lies on boundaries
_VISIBLE = 0.03  # of the data's range: what differs by less looks the same
_BARS = 40  # more outputs than this are drawn as a line


class Pair(NamedTuple):
    """An input, the one that a walk was to come near, and the walk; `moved` is how far its start is off the input."""

    number: int
    aim: int
    moved: float
    walk: FibreWalk

    def row(self, subject: Subject) -> dict[str, Any]:
        """Return the numbers of the walk."""
        walk = self.walk
        apart = walk.distance if walk.to_target is None else walk.to_target
        return {
            "index": self.number,
            "towards": self.aim,
            "moved": self.moved,
            "distance": float(walk.distance[-1]),
            "from_target": float(apart[0]),
            "to_target": float(apart[-1]),
            "crossings": walk.num_crossings,
            "bends": len(walk.path) - 1,
            "largest_difference": _difference(walk),
            "largest_difference_in_own_precision": _in_own_precision(subject, walk),
            "largest_output": float(walk.outputs[0].abs().max()),
            "reason": walk.reason,
            "largest_change_of_an_entry": float((walk.end - walk.start).abs().max()),
        }

    def is_visible(self, subject: Subject) -> bool:
        """Whether the two ends can be told apart by eye."""
        low, high = data_range(subject)
        return float((self.walk.end - self.walk.start).abs().max()) >= _VISIBLE * (high - low)


def data_range(subject: Subject) -> tuple[float, float]:
    """Return the least and the largest entry of all inputs."""
    return float(subject.data.inputs.min()), float(subject.data.inputs.max())


def aims(subject: Subject, shown: Sequence[int]) -> dict[int, int]:
    """Return for inputs, by their positions, another one that differs: of another class where there is one."""
    found = dict[int, int]()
    for k, i in enumerate(shown):
        others = [j for j in (*shown[k + 1 :], *shown[:k]) if bool((subject.data.inputs[i] != subject.data.inputs[j]).any())]
        foreign = [j for j in others if int(subject.chosen[j]) != int(subject.chosen[i])]
        if others:
            found[i] = (foreign or others)[0]
    return found


def pairs(subject: Subject, towards: dict[int, int]) -> list[Pair]:
    """Return walks from some inputs, as far as they come in the time for them."""
    deadline, found = time.perf_counter() + _SECONDS, list[Pair]()
    chosen = list(towards.items())[:_PAIRS]
    for k, (index, aim) in enumerate(chosen):
        left = deadline - time.perf_counter()
        if left < 0.2 * _SECONDS / _PAIRS:
            break
        start, moved = _off_boundaries(subject, subject.data.inputs[index].double())
        walk = _walked(subject, start, subject.data.inputs[aim].double(), left / (len(chosen) - k))
        if walk is not None:
            found.append(Pair(index, aim, moved, walk))
    return found


def _off_boundaries(subject: Subject, x: Tensor) -> tuple[Tensor, float]:
    """Return an input, moved a little into the data's range if it lies on boundaries: where hundreds meet no walk gets away."""
    distance = float(nearest_boundary(subject.net, x).distance)
    low, high = data_range(subject)
    if distance > 1e-9 * (high - low):
        return x, 0.0
    random = torch.rand(x.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    inwards = torch.where(x > (low + high) / 2, -1.0, 1.0)
    moved = x + _NUDGE * (high - low) * random.to(x.device) * inwards
    return moved, float(torch.linalg.vector_norm(moved - x))


def _walked(subject: Subject, x: Tensor, aim: Tensor, seconds: float) -> FibreWalk | None:
    """Return as long a walk as some seconds allow, by what its first bends take; None where the network jumps."""
    domain = data_range(subject)
    try:
        begin = time.perf_counter()
        first = fibre_walk(subject.net, x, towards=aim, domain=domain, bends=_PILOT)
        one = (time.perf_counter() - begin) / _PILOT
        more = int(seconds / one) - _PILOT
        if first.reason != "bends" or more <= _PILOT:
            return first
        return fibre_walk(subject.net, x, towards=aim, domain=domain, bends=more)
    except GeometryError:
        return None


def _difference(walk: FibreWalk) -> float:
    """Return the largest difference between the outputs of the first and the last input."""
    return float((walk.outputs[-1] - walk.outputs[0]).abs().max())


def _in_own_precision(subject: Subject, walk: FibreWalk) -> float:
    with torch.no_grad():
        y = subject.net(walk.path[[0, -1]].to(subject.net.dtype))
    return float((y[1] - y[0]).abs().max())


# -- the picture


def fibre_drawing(subject: Subject, found: Sequence[Pair]) -> Drawing:
    """Return the two ends of each walk above their outputs, and the input that it went towards."""
    worst = max(_difference(pair.walk) for pair in found)
    caption = (
        "Each pair: an input, and another input with the same outputs, as near to the third as the walk came."
        f" The bars below are their outputs; between the two of a pair they differ by at most {rounded(worst, 1)}."
    )
    if subject.outputs.shape[1] > 1:
        caption += " The largest output is orange."
    alt = "pairs of inputs that differ, with bars of their outputs that do not"
    return Drawing("fibres", _figure(subject, found), caption, alt)


def _figure(subject: Subject, found: Sequence[Pair]) -> Figure:
    as_picture = picture(found[0].walk.start) is not None
    with style():
        figure = new_figure(10.8, 3.0 if as_picture else 3.4)
        parts: Any = figure.subfigures(1, _PAIRS, wspace=0.04)
        for part, pair in zip(parts, found, strict=False):
            _pair(subject, part.subplots(2, 3, height_ratios=[1.25, 1], sharey="none" if as_picture else "row"), pair)
    return figure


def _pair(subject: Subject, axes: Any, pair: Pair) -> None:
    walk = pair.walk
    titles = (f"#{pair.number}", "same outputs", f"towards #{pair.aim}")
    for ax, title, x in zip(axes[0], titles, (walk.start, walk.end, _aim(subject, pair)), strict=True):
        _input(ax, x, title)
    for k, y in enumerate((walk.outputs[0], walk.outputs[-1])):
        _outputs(axes[1, k], y.reshape(-1), _bounds(walk.outputs), k == 0)
    axes[1, 2].set_axis_off()
    words = f"{rounded(float(walk.distance[-1]), 3)} apart,\nno output by\nmore than\n{rounded(_difference(walk), 1)}"
    # apart from the axes, whose scale may be shared
    axes[1, 2].text(0.5, 0.5, words, transform=axes[1, 2].transAxes, fontsize=9, ha="center", va="center")


def _aim(subject: Subject, pair: Pair) -> Tensor:
    return subject.data.inputs[pair.aim].double()


def _input(ax: Axes, x: Tensor, title: str) -> None:
    ax.set_title(title, fontsize=9.5, loc="center", weight="normal", pad=4, color=ORANGE if title == "same outputs" else INK)
    if picture(x) is not None:
        ax.imshow(_grey(x).cpu().numpy(), cmap="gray", interpolation="nearest")
        ax.set_axis_off()
        return
    values = x.reshape(-1).cpu().numpy()
    ax.bar(range(len(values)), values, color=GREY, width=0.8)
    ax.axhline(0, color=INK, linewidth=0.6)
    ax.set_xticks([])
    ax.tick_params(axis="y", labelsize=8, length=2)


def _bounds(outputs: Tensor) -> tuple[float, float]:
    low, high = min(0.0, float(outputs[[0, -1]].min())), max(0.0, float(outputs[[0, -1]].max()))
    room = 0.06 * ((high - low) or 1.0)
    return low - room, high + room


def _outputs(ax: Axes, values: Tensor, bounds: tuple[float, float], first: bool) -> None:
    heights = values.cpu().numpy()
    if len(heights) <= _BARS:
        colours = [BLUE] * len(heights)
        if len(heights) > 1:
            colours[int(heights.argmax())] = ORANGE
        ax.bar(range(len(heights)), heights, color=colours, width=0.8)
    else:
        ax.plot(heights, color=BLUE, linewidth=0.8)
    ax.axhline(0, color=INK, linewidth=0.6)
    ax.set_ylim(bounds)
    ax.set_xticks(range(len(heights)) if 1 < len(heights) <= 12 else [])
    ax.tick_params(axis="x", labelsize=7, length=0)
    ax.tick_params(axis="y", labelsize=8, length=2, labelleft=first)
