"""Section: the linear regions of a plane through three inputs, all of them, and of the segment between two."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, final

import numpy as np
import torch
from torch import Tensor

from ..complex import Complex, subdivide
from ..domain import Plane, Segment
from ..errors import GeometryError, InputError
from ..network import Network
from ..plotting.base import BLUE, INK, new_figure, picture, style
from ..plotting.complex import _CLASSES, _POLYGONS
from ..subdivision import RegionCount, count_regions
from .section import Drawing, Section, Table, number
from .subject import Example, Subject

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = np.ndarray[Any, Any]

_NAME, _TITLE = "slice", "The regions of a slice"
_SECONDS = 4.0  # spent on finding how large a window can be cut
_CELLS = 50_000  # regions of a window at most; more are too small to see
_DRAWING_SECONDS, _DRAWING = 8.0, 4.0  # spent on drawing it, which takes some times as long as finding equal maps
_FIRST, _STEP = 600, 12.0  # regions of the first window, and how many times as many the next one may have
_NEARLY = 0.6  # a window that may have more of the plane's sides than this becomes all of it
_PIXELS, _PIXEL_SECONDS = (24, 200), 0.8  # along a side of the plane where only a window of it is cut, and spent on them
_TRIED = 60  # inputs tried as corners


@final
@dataclass(frozen=True, eq=False, slots=True)
class _Slice:
    """A window of the plane through three inputs, cut; `fraction` is its part of the plane's sides, 1 for all of it."""

    plane: Plane
    window: Plane
    fraction: float
    cells: Complex
    count: RegionCount
    linear: int | None


class _Line(NamedTuple):
    """The segment between two inputs, cut, and where along it the largest output changes."""

    cells: Complex
    linear: int | None
    changes: list[float]
    seconds: float


def slices(subject: Subject) -> Section:
    """Return all regions in a plane through three inputs and along the segment between two of them, counted and drawn."""
    net = subject.net
    if not net.is_piecewise_linear:
        kinds = ", ".join(dict.fromkeys(node.step.kind for node in net.smooth_steps))
        return _nothing(f"A smooth network has no linear regions: {kinds} bends everywhere, so there is nothing to cut here.")
    if not net.gates:
        return _nothing("Without gates the network is one affine map: every slice of it is a single region.")
    corners, plane = _corners(subject)
    if len(corners) < 2:
        return _nothing("All inputs are the same point; a slice needs two or three that differ.")
    line = _line(net, *(_input(subject, e) for e in corners[:2]))
    found = None if plane is None else _slice(net, plane, line)
    words = (_lead(plane is not None), *([_window_words(found)] if found else []), _segment_words(corners, line))
    figures = [*([_plane_drawing(subject, corners, found)] if found else []), _segment_drawing(subject, corners, line)]
    tables = (_table(found),) if found else ()
    return Section(_NAME, _TITLE, words, _facts(found, line), tuple(figures), tables, _data(corners, found, line))


def _nothing(why: str) -> Section:
    return Section(_NAME, _TITLE, (why,), data={"inputs": []})


# -- which inputs


def _corners(subject: Subject) -> tuple[list[Example], Plane | None]:
    """Return two or three examples, of different classes where there are such, and the plane through them."""
    chosen: list[Example] = []
    plane = None
    for example in _candidates(subject):
        inputs = [_input(subject, e) for e in (*chosen, example)]
        if len(chosen) < 2 and not any(bool((x == inputs[-1]).all()) for x in inputs[:-1]):
            chosen.append(example)
        elif len(chosen) == 2 and inputs[0].numel() > 1 and (plane := _through(inputs)) is not None:
            return [*chosen, example], plane
    return chosen, plane


def _candidates(subject: Subject) -> list[Example]:
    """Return inputs to choose from: first one for each answer, those that are right before those that are wrong."""
    first = [e for e in subject.examples if e.is_right] + [e for e in subject.examples if not e.is_right]
    spread = torch.linspace(0, len(subject.data) - 1, min(len(subject.data), _TRIED)).round().long().tolist()
    known = {e.index for e in first}
    every = first + [Example(i, int(subject.chosen[i]), None, None) for i in spread if i not in known]
    one = {e.chosen: e for e in reversed(every)}
    return sorted(every, key=lambda e: one[e.chosen] is not e)


def _input(subject: Subject, example: Example) -> Tensor:
    return subject.data.inputs[example.index].double()


def _through(inputs: list[Tensor]) -> Plane | None:
    """Return the plane through three inputs, None where they lie on one line."""
    try:
        return Plane.through(inputs[0], inputs[1], inputs[2])
    except InputError:
        return None


# -- cutting


def _line(net: Network, first: Tensor, second: Tensor) -> _Line:
    cells = subdivide(net, Segment(first, second))
    seconds = count_regions(net, cells.domain).seconds  # counted again: the first cut in a process loads what it needs
    return _Line(cells, _linear(cells), _class_changes(cells), seconds)


def _linear(cells: Complex) -> int | None:
    """Return the number of linear regions, None for a network that jumps, whose cells do not meet."""
    try:
        return cells.linear_regions().count
    except GeometryError:
        return None


def _class_changes(line: Complex) -> list[float]:
    """Return where along a segment the largest output changes, by the exact maps of its cells."""
    found, order = line.local_maps(), np.argsort(line.middles[:, 0])
    weight, offset = found.weight[:, :, 0].numpy()[order], found.offset.numpy()[order]
    ends = [np.sort(line.cell(int(i)).vertices[:, 0])[[0, -1]] for i in order]
    changes: list[float] = []
    for (low, high), a, b in zip(ends, weight, offset, strict=True):
        leader, t = int((a * low + b).argmax()), float(low)
        while t < high:
            gain, behind = a - a[leader], (a * t + b)[leader] - (a * t + b)
            meets = np.where(gain > 0, t + behind / np.where(gain > 0, gain, 1.0), math.inf)
            if not meets.min() < high:
                break
            t, leader = float(meets.min()), int(meets.argmin())
            changes.append(t)
    return changes


def _slice(net: Network, plane: Plane, line: _Line) -> _Slice:
    """Return the plane cut, or the largest window of it that some seconds allow.

    The breakpoints of the segment say how small to begin, and what the first window took says how many regions can be drawn.
    """
    expected = (len(line.cells) / line.cells.domain.volume) ** 2 * plane.volume
    fraction = min(1.0, math.sqrt(_FIRST / expected))
    centre = plane.project(line.cells.domain.embed([line.changes[0] if line.changes else 0.5]))
    first = subdivide(net, _window(plane, centre, fraction))
    start = time.perf_counter()
    _linear(first)
    one = (time.perf_counter() - start) / len(first)
    most = int(min(_CELLS, max(_FIRST, _DRAWING_SECONDS / (_DRAWING * one))))
    fraction, cells = _largest(net, plane, centre, fraction, most)
    window = _window(plane, centre, fraction)
    return _Slice(plane, window, fraction, cells, count_regions(net, window), _linear(cells))


def _largest(net: Network, plane: Plane, centre: Tensor, fraction: float, most: int) -> tuple[float, Complex]:
    """Cut windows of growing size while time lasts, up to about `most` regions.

    Regions grow with the area and time somewhat faster, so that what a window took bounds what the next one may have.
    """
    begin = time.perf_counter()
    while True:
        start = time.perf_counter()
        cells = subdivide(net, _window(plane, centre, fraction))
        took = max(1e-3, time.perf_counter() - start)
        left = _SECONDS - (time.perf_counter() - begin)
        larger = fraction * math.sqrt(max(0.0, min(most / len(cells), 0.6 * left / took, _STEP)))
        if fraction == 1.0 or larger < 1.3 * fraction:
            return fraction, cells
        fraction = larger if larger < _NEARLY else 1.0


def _window(plane: Plane, centre: Tensor, fraction: float) -> Plane:
    """Return a window of the plane's proportions around a point, moved so that it lies in the plane's own."""
    if fraction == 1.0:
        return plane
    low, high = plane.corners.min(0).values, plane.corners.max(0).values
    half = fraction * (high - low) / 2
    x, y = plane.basis.T
    return Plane(plane.embed(centre.clamp(low + half, high - half)), half[0] * x, half[1] * y)


# -- words


def _lead(flat: bool) -> str:
    where = "In a plane through three inputs" if flat else "Between two inputs"
    return (
        f"{where} the linear regions can be had without exception: no sampling, every region is cut out exactly. Units switch"
        " along the lines; within one region the network is a single affine map."
    )


def _window_words(found: _Slice) -> str:
    linear = "" if found.linear is None or found.linear == found.count.count else f", {number(found.linear)} linear regions"
    share = found.window.volume / found.plane.volume
    if found.fraction == 1.0:
        where = "The rectangle around the three inputs holds"
    else:
        where = (
            "All regions of the rectangle around the three inputs would take too long to cut and draw on this page, so a window"
            f" of {share:.2g} of its area was cut, where the largest output changes between the first two; it holds"
        )
    return (
        f"{where} {number(found.count.count)} activation regions{linear}, counted in {found.count.seconds:.2g} s. Gate by gate,"
        f" lines in general position could make {number(float(found.count.bound))} of them."
    )


def _segment_words(corners: list[Example], line: _Line) -> str:
    a, b = (f"#{e.index}" for e in corners[:2])
    times = ""
    if line.changes:
        places = ", ".join(f"{t:.3f}" for t in line.changes[:6]) + (", …" if len(line.changes) > 6 else "")
        times = f" The largest output changes at {places} of the way."
    return (
        f"On the straight way from {a} to {b} the network has {number(len(line.cells) - 1)} breakpoints, found in"
        f" {line.seconds:.2g} s; between two of them all outputs are straight lines.{times}"
    )


def _facts(found: _Slice | None, line: _Line) -> tuple[tuple[str, str], ...]:
    breaks = ("breakpoints of the segment", number(len(line.cells) - 1))
    if found is None:
        return (breaks,)
    where = "plane" if found.fraction == 1.0 else "window"
    facts = [(f"activation regions of the {where}", number(found.count.count))]
    if found.linear is not None:
        facts.append(("linear regions", number(found.linear)))
    return (*facts, breaks, ("seconds for the count", f"{found.count.seconds:.2g}"))


def _table(found: _Slice) -> Table:
    where = "the plane" if found.fraction == 1.0 else "the window"
    units = {gate.name: gate.num_units for gate in found.cells.network.gates}
    rows = tuple((name, units[name], count) for name, count in found.count.per_layer)
    return Table(f"Regions of {where}, cut by the gates up to each", ("gate", "units or windows", "regions so far"), rows)


def _data(corners: list[Example], found: _Slice | None, line: _Line) -> dict[str, Any]:
    segment = {"regions": len(line.cells), "linear_regions": line.linear, "class_changes": line.changes}
    data: dict[str, Any] = {"inputs": [e.index for e in corners], "segment": segment | {"seconds": line.seconds}}
    if found is None:
        return data
    share = found.window.volume / found.plane.volume
    return data | {"plane": found.count.to_dict() | {"linear_regions": found.linear, "share_of_rectangle": share}}


# -- figures


def _plane_drawing(subject: Subject, corners: list[Example], found: _Slice) -> Drawing:
    several = subject.outputs.shape[1] > 1
    what = "by the largest output, with the boundary between classes" if several else "by the output"
    names = ", ".join(f"#{e.index}" for e in corners)
    if found.fraction == 1.0:
        caption = f"The plane through the inputs {names}: its regions {what}, and by how many units are active."
    else:
        caption = (
            f"The plane through the inputs {names}, evaluated at single points, with the window that was cut; the regions of"
            f" the window {what}; and by how many units are active."
        )
    if len(found.cells) > _POLYGONS:
        caption += " The lines between regions are too many to draw; colours tell them apart."
    alt = f"map of {found.count.count:,} linear regions in a plane through three inputs"
    return Drawing("slice", _plane_figure(subject, corners, found), caption, alt)


def _plane_figure(subject: Subject, corners: list[Example], found: _Slice) -> Figure:
    whole = found.fraction == 1.0
    with style():
        figure = new_figure(10.8 if whole else 14.6, 5.0)
        axes = list(figure.subplots(1, 2 if whole else 3).flat)
        marked = axes[0]
        if not whole:
            _overview(subject, found, axes[0])
            axes = axes[1:]
        found.cells.plot(axes[0])
        found.cells.plot(axes[1], colour="active", boundary=False)
        axes[0].set_title("Regions by largest output" if subject.outputs.shape[1] > 1 else "Regions by output")
        axes[1].set_title("Regions by active units")
        _lower_legend(axes[0])
        _mark(marked, subject, corners, found.plane if not whole else found.window)
        for ax in figure.axes:
            if ax.get_xlabel():
                ax.set(xlabel="", ylabel="")
    return figure


def _lower_legend(ax: Axes) -> None:
    """Put the legend below, where it takes no width from the panels."""
    legend = ax.get_legend()
    if legend is None:
        return
    handles = [handle for handle in legend.legend_handles if handle is not None]
    names = [text.get_text().removeprefix("class ") for text in legend.get_texts()]
    legend.remove()
    ax.legend(handles, names, loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=10, columnspacing=0.8, handlelength=1.0)


def _overview(subject: Subject, found: _Slice, ax: Axes) -> None:
    """Draw the plane by evaluating points of it, and the window that was cut."""
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Polygon

    low, high = found.plane.corners.min(0).values, found.plane.corners.max(0).values
    x, y = (np.linspace(float(low[k]), float(high[k]), _side(subject)) for k in (0, 1))
    u = torch.from_numpy(np.stack(np.meshgrid(x, y), 2).reshape(-1, 2))
    values = _evaluated(subject, found.plane.embed(u)).reshape(len(y), len(x), -1)
    several = values.shape[2] > 1
    shown = values.argmax(2) if several else values[:, :, 0]
    colours: dict[str, Any] = {"cmap": "viridis"}
    if several:
        shown = shown % len(_CLASSES)
        colours = {"cmap": ListedColormap(list(_CLASSES)), "vmin": -0.5, "vmax": len(_CLASSES) - 0.5, "alpha": 0.7}
    extent = (float(low[0]), float(high[0]), float(low[1]), float(high[1]))
    ax.imshow(shown, origin="lower", extent=extent, interpolation="nearest", **colours)
    corners = found.plane.project(found.window.embed(found.window.corners))
    ax.add_patch(Polygon(corners.numpy(), fill=False, edgecolor=INK, linewidth=1.6))
    ax.set_title("The plane, evaluated at points")


def _side(subject: Subject) -> int:
    """Return how many points along a side can be evaluated in the time for them."""
    one = max(1e-9, subject.seconds["outputs"] / len(subject.data))
    return int(min(_PIXELS[1], max(_PIXELS[0], math.sqrt(_PIXEL_SECONDS / one))))


def _evaluated(subject: Subject, x: Tensor) -> Array:
    net, kind = subject.net, subject.data.inputs.dtype
    with torch.no_grad():
        parts = [net(part.to(kind).reshape(-1, *net.input_shape)).flatten(1).cpu() for part in x.split(500)]
    values: Array = torch.cat(parts).numpy()
    return values


def _mark(ax: Axes, subject: Subject, corners: list[Example], plane: Plane) -> None:
    """Mark the inputs, with small pictures where they are pictures."""
    middle = plane.corners.mean(0)
    for example in corners:
        x = _input(subject, example)
        at = plane.project(x)
        spot = (float(at[0]), float(at[1]))
        away = [1.0 if float(d) >= 0 else -1.0 for d in (middle - at)]  # into the picture
        ax.plot(*spot, "o", color="white", markeredgecolor=INK, markersize=7, zorder=6)
        image = picture(x)
        if image is not None:
            _pinned(ax, image, spot, (30 * away[0], 30 * away[1]))
        shift = (10 * away[0], 10 * away[1]) if image is None else (30 * away[0], 54 * away[1])
        name = f"#{example.index}" + ("" if example.label is None else f", label {example.label}")
        box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.8}
        middles: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 9, "bbox": box, "zorder": 8}
        ax.annotate(name, spot, shift, textcoords="offset points", **middles)


def _pinned(ax: Axes, image: Tensor, spot: tuple[float, float], shift: tuple[float, float]) -> None:
    """Put a small picture beside a spot."""
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    low, high = float(image.min()), float(image.max())
    shown = ((image - low) / max(high - low, 1e-30)).numpy()
    thumb = OffsetImage(shown, zoom=34.0 / max(shown.shape[:2]), cmap="gray", interpolation="nearest")
    box = AnnotationBbox(thumb, spot, shift, boxcoords="offset points", pad=0.12, bboxprops={"edgecolor": BLUE}, zorder=7)
    ax.add_artist(box)


def _segment_drawing(subject: Subject, corners: list[Example], line: _Line) -> Drawing:
    a, b = (f"#{e.index}" for e in corners[:2])
    with style():
        figure = new_figure(10.8, 3.9)
        ax = line.cells.plot(figure.subplots())
        ax.set(xlabel=f"position between {a} (0) and {b} (1)", title="")
        for t in line.changes[:20]:
            ax.axvline(t, color=INK, linewidth=0.9, linestyle=":")
    caption = (
        f"The outputs on the straight way from {a} to {b}, exact at every point; ticks below are the breakpoints, where units"
        " switch."
        + (" The strip above names the largest output, dotted lines mark where it changes." if len(line.changes) else "")
    )
    return Drawing("segment", figure, caption, f"the outputs between two inputs, with {len(line.cells) - 1} breakpoints")
