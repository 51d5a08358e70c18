"""Drawings of complexes of one and two dimensions: graphs over a segment, and maps of the plane in colours.

What varies within a cell is evaluated for every pixel and not once a cell. Up to some ten thousand cells are drawn as
polygons with their edges; more are painted onto pixels, which takes seconds for a million.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from .._subdivision.stages import jumps
from ..complex import Complex
from ..domain import Segment, _Flat
from ..errors import GeometryError, InputError
from ..gates import Choice
from .base import BLUE, GREEN, GREY, INK, ORANGE, PINK, SKY, _axes, draw, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = np.ndarray[Any, Any]
Colour = int | str | tuple[str | int, int]

_POLYGONS = 20_000  # more cells than this are painted onto pixels, without edges
_EXACT = 60_000  # up to here the boundary between classes is computed cell by cell
_PIXELS, _EVALUATED = 1000, 350  # along the longer side; fewer where more cells than _EXACT would be evaluated
_CLASSES = (BLUE, ORANGE, GREEN, "#E69F00", SKY, PINK, "#F0E442", GREY, "#7B4FA3", "#8C564B")
_BRIGHTNESS = np.array([0.299, 0.587, 0.114])  # of red, green and blue to the eye
_BATCH = 1 << 14


@draw.register(Complex)
def _(
    result: Complex,
    ax: Axes | None = None,
    *,
    colour: Colour | None = None,
    edges: bool = True,
    boundary: bool = True,
    window: Any = None,
) -> Axes:
    """Draw a complex of one or two dimensions.

    `colour` is one of: an output's number, "class" (the largest output), a unit as (layer, position), "density" (the
    logarithm of one over the volume), "active" (how many units are off their first piece), "pattern"; by default "class",
    or the output where there is only one. `edges` are drawn where they can be told apart, `boundary` is the line between
    classes, `window` ((low, high), (low, high)) what is shown of an unbounded domain. One dimension shows all outputs as
    graphs, and the colour as a strip above. The figure of an `ax` that is given is laid out anew when it is drawn, for
    labels and legend to fit, unless it has a layout of its own.

    Raises GeometryError for another dimension, InputError for another colour.
    """
    if result.dim not in (1, 2):
        raise GeometryError(
            f"plot: expected a complex of 1 or 2 dimensions; got {result.dim}; cut it with a Segment or a Plane"
        )
    outputs = math.prod(result.network.output_shape)
    chosen = colour if colour is not None else ("class" if outputs > 1 else 0)
    paint = _paint(result, chosen)
    with style():
        if result.dim == 1:
            ax = _graph(result, ax, paint if colour is not None or outputs > 1 else None, window)
        else:
            ax = _map(result, ax, paint, edges, boundary and outputs > 1, window)
    _fit(ax)
    return ax


def _fit(ax: Axes) -> None:
    """Have a figure without a layout make room for labels and legends, where all of its axes stand in a grid."""
    figure: Any = ax.figure
    free = hasattr(figure, "set_layout_engine") and figure.get_layout_engine() is None
    if free and all(a.get_subplotspec() is not None for a in figure.axes):
        figure.set_layout_engine("tight")


# -- what colours say


@dataclass(frozen=True, eq=False, slots=True)
class _Paint:
    """A quantity: `values(cells, u)` at coordinates u in cells; flat if it is one number a cell; names where it counts."""

    values: Callable[[Array, Array], Array]
    label: str
    flat: bool
    names: tuple[str, ...] | None = None
    palette: str = "viridis"


def _paint(c: Complex, colour: Colour) -> _Paint:
    outputs = math.prod(c.network.output_shape)
    if isinstance(colour, tuple) and len(colour) == 2:
        return _unit_paint(c, *colour)
    if isinstance(colour, int | np.integer) and not isinstance(colour, bool) and 0 <= colour < outputs:
        label = f"output {colour}" if outputs > 1 else "output"
        return _Paint(lambda cells, u: _outputs(c, cells, u)[:, colour], label, False)
    if colour == "class" and outputs > 1:
        names = tuple(f"class {k}" for k in range(outputs))
        return _Paint(lambda cells, u: _outputs(c, cells, u).argmax(1), "class: the largest output", False, names)
    if colour == "density":
        return _Paint(
            lambda cells, u: -np.log10(c.volumes[cells]), "density: logarithm (base 10) of 1 / volume", True, palette="magma"
        )
    if colour == "active":
        return _Paint(lambda cells, u: _active(c, cells), "active units", True, palette="cividis")
    if colour == "pattern":
        return _Paint(lambda cells, u: _shade(c, cells), "pattern", True, palette="pattern")
    several = f'an output from 0 to {outputs - 1}, "class" (the largest of them)' if outputs > 1 else "0 (the only output)"
    hint = "; a network of one output has no classes" if isinstance(colour, str) and colour == "class" else ""
    raise InputError(
        f'colour: expected {several}, a unit as (layer, position), "density", "active" or "pattern"; got {colour!r}{hint}'
    )


def _unit_paint(c: Complex, layer: str | int, unit: int) -> _Paint:
    pieces, one = c.pieces_of(layer, unit), c.patterns.layer(layer).layers[0]
    names = ("inactive", "active") if one.num_pieces == 2 else tuple(f"piece {k}" for k in range(one.num_pieces))
    return _Paint(lambda cells, u: pieces[cells], f"{one.name}[{unit}]", True, names)


def _outputs(c: Complex, cells: Array, u: Array) -> Array:
    """Return the network's outputs (points, outputs) at coordinates in cells, by maps or by evaluation: what is less work."""
    wanted, place = np.unique(cells, return_inverse=True)
    if (c.dim + 1) * len(wanted) < len(u) or _jumping(c):
        found = c.local_maps(wanted)
        weight, offset = found.weight.numpy(), found.offset.numpy()
        parts = [
            np.einsum("nod,nd->no", weight[place[k : k + _BATCH]], u[k : k + _BATCH]) + offset[place[k : k + _BATCH]]
            for k in range(0, len(u), _BATCH)
        ]
    else:
        parts = [_evaluated(c, u[k : k + _BATCH]) for k in range(0, len(u), _BATCH)]
    return np.concatenate(parts) if parts else np.zeros((0, math.prod(c.network.output_shape)))


def _evaluated(c: Complex, u: Array) -> Array:
    with torch.no_grad():
        found: Array = c.network(c.domain.embed(u).reshape(-1, *c.network.input_shape)).reshape(len(u), -1).cpu().numpy()
    return found


def _jumping(c: Complex) -> bool:
    return any(isinstance(n.step, Choice) and jumps(n.step) for n in c.network.nodes)


def _active(c: Complex, cells: Array) -> Array:
    """Return how many units are off piece 0 in cells; max-gates do not count."""
    found, total = c.patterns[torch.from_numpy(cells)], np.zeros(len(cells), np.int64)
    for layer in found.layers:
        if not layer.is_max:
            packed = found.layer(layer.name).packed.numpy().reshape(len(cells), layer.planes, layer.plane_bytes)
            total += np.bitwise_count(np.bitwise_or.reduce(packed, axis=1)).sum(1, dtype=np.int64)
    return total


def _shade(c: Complex, cells: Array) -> Array:
    """Return a number in [0, 1) for every pattern, unlike those of others."""
    mixed = np.zeros(len(cells), np.uint64)
    for column in c.words[cells].T:
        mixed = (mixed ^ column ^ (mixed >> np.uint64(31))) * np.uint64(0x9E3779B97F4A7C15)
    return ((mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9) >> np.uint64(11)).astype(float) / 2.0**53


def _scale(paint: _Paint, values: Array) -> tuple[Any, Any]:
    """Return a colour map and a norm for the values that are drawn."""
    from matplotlib import colormaps
    from matplotlib.colors import BoundaryNorm, LinearSegmentedColormap, ListedColormap, Normalize, to_rgb

    if paint.names is not None:
        plain = ["#DDE2E7", BLUE] if paint.names[0] == "inactive" else [_CLASSES[k % 10] for k in range(len(paint.names))]
        colours = [tuple(0.7 * np.array(to_rgb(name)) + 0.3) for name in plain]  # so that edges stay visible
        return ListedColormap(colours), BoundaryNorm(np.arange(len(colours) + 1) - 0.5, len(colours))
    if paint.palette == "pattern":
        turn = colormaps["hsv"](np.linspace(0, 1, 64))
        soft = 0.42 * turn[:, :3] + 0.58 * np.array([0.93, 0.93, 0.93])
        return LinearSegmentedColormap.from_list("patterns", soft), Normalize(0, 1)
    seen = values[np.isfinite(values)]
    outer = [0.005, 0.995] if paint.palette == "magma" else [0.0, 1.0]  # a few slivers would take half of the colours
    low, high = (float(v) for v in np.quantile(seen, outer)) if len(seen) else (0.0, 1.0)
    if not paint.flat and low < 0 < high:
        return colormaps["RdBu_r"], Normalize(-max(-low, high), max(-low, high))
    return colormaps[paint.palette], Normalize(low, high if high > low else low + 1.0)


# -- one dimension


def _graph(c: Complex, ax: Axes | None, paint: _Paint | None, window: Any) -> Axes:
    """Draw the outputs over a segment, exact between breakpoints, which are marked below."""
    from matplotlib.collections import LineCollection

    ax = _axes(ax, 8, 3.6)
    polygons = _polygons(c, window)
    ends = np.sort(polygons.corners[:, 0].reshape(-1, 2), axis=1)
    cells = np.repeat(np.arange(len(c)), 2)
    values = _outputs(c, cells, ends.reshape(-1, 1)).reshape(len(c), 2, -1)
    for k in range(values.shape[2]):
        lines = np.stack([ends, values[:, :, k]], 2)
        name = f"output {k}" if 1 < values.shape[2] <= 10 else None
        ax.add_collection(LineCollection(list(lines), colors=_CLASSES[k % 10], linewidths=1.5, label=name, capstyle="round"))
    ax.autoscale_view()
    inner = np.unique(ends)[1:-1]
    faint = min(0.9, max(0.05, 60 / max(1, len(inner))))
    ax.vlines(inner, -0.045, -0.01, transform=ax.get_xaxis_transform(), color=INK, linewidth=0.8, alpha=faint, clip_on=False)
    ax.tick_params(axis="x", pad=9)
    if 1 < values.shape[2] <= 10:
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    ax.set_xlim(*polygons.window[0])
    ax.grid(axis="y")
    ax.set(xlabel=_label(c, 0), ylabel="outputs" if values.shape[2] > 1 else "output")
    words = f"{c.num_regions:,} activation regions, {len(inner):,} breakpoints"
    ax.set_title(words, pad=6 if paint is None else 22)
    if paint is not None:
        _strip(ax, paint, ends)
    return ax


def _strip(ax: Axes, paint: _Paint, ends: Array) -> None:
    """Draw the colour as a strip along the upper side, on a grid fine enough for what varies within a cell."""
    low, high = ends.min(), ends.max()
    u = low + (high - low) * (np.arange(2000) + 0.5) / 2000
    order = np.argsort(ends[:, 0])
    cell = order[np.searchsorted(ends[order, 0], u, side="right").clip(1) - 1]
    shown = paint.values(cell, u[:, None])
    palette, norm = _scale(paint, shown)
    strip = ax.inset_axes((0.0, 1.01, 1.0, 0.05))
    strip.imshow(shown[None], cmap=palette, norm=norm, aspect="auto", extent=(low, high, 0, 1), interpolation="nearest")
    strip.set_xlim(ax.get_xlim())
    strip.set_axis_off()


# -- two dimensions


class _Polygons(NamedTuple):
    """The corners of all cells, cell by cell in no order, cut off far outside the window; and the window (dim, 2)."""

    corners: Array
    start: Array
    window: Array


def _polygons(c: Complex, window: Any) -> _Polygons:
    mesh = c.mesh
    corners = mesh.points[mesh.vertex].copy()
    if c.domain.is_bounded:
        shown = np.stack([c.vertices.min(0), c.vertices.max(0)], 1)
        return _Polygons(corners, mesh.start, shown if window is None else _checked(window, c.dim))
    shown = _around(c.vertices) if window is None else _checked(window, c.dim)
    reach = 100.0 * float(np.abs(shown).max() + np.ptp(shown, axis=1).max() + np.abs(c.vertices).max())
    for i in np.flatnonzero(mesh.vertex >= mesh.finite):
        cell = int(np.searchsorted(mesh.start, i, side="right")) - 1
        here = np.arange(mesh.start[cell], mesh.start[cell + 1])
        places = here[mesh.vertex[here] < mesh.finite]
        shared = np.bitwise_count(mesh.facets[places] & mesh.facets[i]).sum(1)
        corners[i] = mesh.points[mesh.vertex[places[shared.argmax()]]] + reach * corners[i]
    return _Polygons(corners, mesh.start, shown)


def _checked(window: Any, dim: int) -> Array:
    found = np.asarray(window, float).reshape(-1, 2)
    if len(found) != dim or bool((found[:, 0] >= found[:, 1]).any()):
        raise InputError(f"window: expected (low, high) with low < high for each of {dim} dimensions; got {window!r}")
    return found


def _around(vertices: Array) -> Array:
    """Return a window around most of the vertices, with room for the unbounded cells."""
    low, high = np.quantile(vertices, [0.15, 0.85], axis=0)
    half = 0.75 * (high - low) + 0.5 * float((high - low).max()) + (1.0 if (high <= low).all() else 0.0)
    return np.stack([(low + high) / 2 - half, (low + high) / 2 + half], 1)


def _map(c: Complex, ax: Axes | None, paint: _Paint, edges: bool, boundary: bool, window: Any) -> Axes:
    polygons = _polygons(c, window)
    (left, right), (low, high) = polygons.window
    wide, tall = right - left, high - low
    equal = isinstance(c.domain, _Flat) or 0.2 < wide / tall < 5
    ax = _axes(ax, 7.2, 5.6)
    ax.set(xlim=(left, right), ylim=(low, high), xlabel=_label(c, 0), ylabel=_label(c, 1))
    ax.set_aspect("equal" if equal else "auto")
    drawn = len(c) <= _POLYGONS
    if paint.flat and drawn:
        values = paint.values(np.arange(len(c)), c.middles)
        palette, norm = _scale(paint, values)
        colours = palette(norm(values))
        _fill(ax, polygons, colours)
    else:
        values, palette, norm = _pixels(c, ax, polygons, paint)
        colours = None
    if edges and drawn:
        _edges(ax, c, polygons, colours)
    if boundary:
        _decision(c, ax, polygons)
    _key(ax, paint, palette, norm, values)
    ax.set_title(f"{c.num_regions:,} activation regions")
    return ax


def _around_cells(polygons: _Polygons) -> Array:
    """Return the incidences of each cell in order around it, cell by cell."""
    count = np.diff(polygons.start)
    cell = np.repeat(np.arange(len(count)), count)
    centre = np.add.reduceat(polygons.corners, polygons.start[:-1]) / count[:, None]
    away = polygons.corners - centre[cell]
    order: Array = np.lexsort((np.arctan2(away[:, 1], away[:, 0]), cell))
    return order


def _fill(ax: Axes, polygons: _Polygons, colours: Array) -> None:
    from matplotlib.collections import PolyCollection

    corners = np.split(polygons.corners[_around_cells(polygons)], polygons.start[1:-1])
    cells = PolyCollection(corners, facecolors=colours, edgecolors=colours, linewidths=0.2)
    cells.set_rasterized(len(colours) > 5000)
    ax.add_collection(cells, autolim=False)


def _edges(ax: Axes, c: Complex, polygons: _Polygons, colours: Array | None) -> None:
    """Draw the edges, dark on light cells and white on dark ones; dark where colours vary within cells (None).

    Walls between the cones of an unbounded domain are no edges: no unit switches there.
    """
    from matplotlib.collections import LineCollection
    from matplotlib.colors import to_rgba

    count = len(polygons.start) - 1
    width = float(np.clip(14.0 / math.sqrt(count), 0.08, 0.8))
    light = np.ones(count, bool) if colours is None else colours[:, :3] @ _BRIGHTNESS > 0.5
    ink = np.where(light[:, None], to_rgba(INK, 0.55), to_rgba("white", 0.9))
    here = _around_cells(polygons)
    after = np.arange(1, len(here) + 1)
    after[polygons.start[1:] - 1] = polygons.start[:-1]
    there = here[after]
    walls = np.uint64((1 << c.domain.start().walls) - 1)
    kept = (c.mesh.facets[here, 0] & c.mesh.facets[there, 0] & walls) == 0
    lines = np.stack([polygons.corners[here], polygons.corners[there]], 1)[kept]
    ink = np.repeat(ink, np.diff(polygons.start), axis=0)[kept]
    edges = LineCollection(lines, colors=ink, linewidths=width, capstyle="round")
    edges.set_rasterized(count > 5000)
    ax.add_collection(edges, autolim=False)


def _grid(polygons: _Polygons, pixels: int) -> tuple[Array, Array, Array]:
    """Return the cell under every pixel of the window, the pixels' coordinates, and the extent of the picture."""
    from .._kernels.raster import painted

    low, span = polygons.window[:, 0], np.ptp(polygons.window, axis=1)
    size = float(span.max()) / pixels
    stretch = np.array([1.0, 1.0])
    if span.min() < 0.2 * span.max():  # the axes differ in scale: as many pixels along both
        stretch = span / span.max()
    columns, rows = (max(1, math.ceil(n)) for n in span / stretch / size)
    image = painted(polygons.corners / stretch, polygons.start, low / stretch, size, (rows, columns))
    step = size * stretch
    x, y = (low[k] + step[k] * (np.arange(n) + 0.5) for k, n in enumerate((columns, rows)))
    u = np.stack(np.meshgrid(x, y), 2)
    return image, u, np.array([low[0], low[0] + columns * step[0], low[1], low[1] + rows * step[1]])


def _pixels(c: Complex, ax: Axes, polygons: _Polygons, paint: _Paint) -> tuple[Array, Any, Any]:
    """Paint the window pixel by pixel; return the values (NaN outside the domain), the colours and their scale."""
    image, u, extent = _grid(polygons, _PIXELS if paint.flat or len(c) <= _EXACT else _EVALUATED)
    seen = image >= 0
    values = np.full(image.shape, np.nan)
    values[seen] = paint.values(image[seen], u[seen])
    palette, norm = _scale(paint, values)
    colours = palette(norm(np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)))
    colours[~seen] = 0.0
    ax.imshow(colours, origin="lower", extent=tuple(extent), aspect=ax.get_aspect(), interpolation="antialiased", zorder=0)
    ax.set(xlim=polygons.window[0], ylim=polygons.window[1])
    return values, palette, norm


# -- the line between classes


def _decision(c: Complex, ax: Axes, polygons: _Polygons) -> None:
    from matplotlib.collections import LineCollection

    if len(c) > _EXACT:
        _traced(c, ax, polygons)
        return
    lines = LineCollection(_segments(c, polygons), colors="white", linewidths=3.2, capstyle="round")
    ax.add_collection(lines, autolim=False)
    lines = LineCollection(_segments(c, polygons), colors=INK, linewidths=1.5, capstyle="round")
    ax.add_collection(lines, autolim=False)


def _segments(c: Complex, polygons: _Polygons) -> list[Array]:
    """Return where two outputs are equal and no other is larger, cell by cell."""
    count = np.diff(polygons.start)
    cell = np.repeat(np.arange(len(count)), count)
    y = _outputs(c, cell, polygons.corners)
    leader = y.argmax(1)
    first = leader[polygons.start[:-1]]
    mixed = np.flatnonzero(np.logical_or.reduceat(leader != first[cell], polygons.start[:-1]))
    found = []
    for i in mixed:
        here = slice(polygons.start[i], polygons.start[i + 1])
        found += _within_cell(polygons.corners[here], y[here])
    return found


def _within_cell(corners: Array, y: Array) -> list[Array]:
    """Return the segments at which the largest output changes within one cell, from the outputs at its corners."""
    found, leaders = [], np.flatnonzero(y.max(0) >= y.max(1).min())  # others are nowhere the largest
    for k, a in enumerate(leaders):
        for b in leaders[k + 1 :]:
            lead = y[:, a] - y[:, b]
            up, down = np.flatnonzero(lead > 0), np.flatnonzero(lead <= 0)
            if not len(up) or not len(down):
                continue
            i, j = (g.reshape(-1) for g in np.meshgrid(up, down))
            t = (lead[i] / (lead[i] - lead[j]))[:, None]
            at, height = (1 - t) * corners[i] + t * corners[j], (1 - t) * y[i] + t * y[j]
            p, q = _farthest(at)
            low, high = _where_largest(height[p], height[q], int(a), leaders)
            if high > low:
                found.append(np.stack([at[p] + low * (at[q] - at[p]), at[p] + high * (at[q] - at[p])]))
    return found


def _farthest(at: Array) -> tuple[int, int]:
    """Return the two ends of points on one line."""
    spread = at - at[0]
    along = spread @ spread[np.square(spread).sum(1).argmax()]
    return int(along.argmin()), int(along.argmax())


def _where_largest(first: Array, last: Array, a: int, leaders: Array) -> tuple[float, float]:
    """Return the part of a segment, as two numbers from 0 to 1, in which output a is not below the other leaders."""
    low, high, size = 0.0, 1.0, 1e-9 * float(np.abs(first).max() + np.abs(last).max())
    for c in leaders:
        start, end = first[a] - first[c] + size, last[a] - last[c] + size
        if start < 0 and end < 0:
            return 1.0, 0.0
        if start < 0:
            low = max(low, start / (start - end))
        elif end < 0:
            high = min(high, start / (start - end))
    return low, high


def _traced(c: Complex, ax: Axes, polygons: _Polygons) -> None:
    """Draw the line between classes along pixels, where there are too many cells to cut each."""
    image, u, _ = _grid(polygons, _EVALUATED)
    seen = image >= 0
    classes = np.full(image.shape, -1)
    classes[seen] = _outputs(c, image[seen], u[seen]).argmax(1)
    for k in np.unique(classes[seen])[1:]:
        for colour, width in (("white", 2.6), (INK, 1.2)):
            ax.contour(u[0, :, 0], u[:, 0, 1], classes == k, levels=[0.5], colors=colour, linewidths=width)


# -- words


def _key(ax: Axes, paint: _Paint, palette: Any, norm: Any, values: Array) -> None:
    """Add a legend of the names that occur among the values, or a colour bar."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.patches import Patch
    from matplotlib.ticker import MaxNLocator

    if paint.palette == "pattern":
        return
    if paint.names is not None and len(paint.names) <= 10:
        occurring = np.unique(values[np.isfinite(values)]).astype(int)
        patches = [Patch(facecolor=palette(norm(k)), label=paint.names[k]) for k in occurring]
        title = None if paint.label.startswith("class") else paint.label
        ax.legend(handles=patches, title=title, loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0)
        return
    bar = ax.figure.colorbar(ScalarMappable(norm, palette), ax=ax, fraction=0.045, pad=0.02)
    bar.set_label(paint.label)
    bar.outline.set_visible(False)
    if paint.names is not None or paint.label == "active units":
        bar.ax.yaxis.set_major_locator(MaxNLocator(integer=True))


def _label(c: Complex, k: int) -> str:
    """Return what coordinate k of the domain is, in words."""
    column = c.domain.basis[:, k]
    entry = torch.nonzero(column).reshape(-1)
    if isinstance(c.domain, Segment):
        return "position on the segment: 0 at its first input, 1 at its second"
    if isinstance(c.domain, _Flat):
        return f"{('first', 'second')[k]} coordinate of the plane, in units of the input"
    if len(entry) == 1 and float(column[entry[0]]) == 1.0:
        return f"input {int(entry[0])}"
    return f"coordinate {k}"
