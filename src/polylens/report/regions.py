"""Section: how large the linear regions around the inputs are, what bounds them, and the nearest input across."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import torch
from torch import Tensor

from ..boundary import NearestBoundary, nearest_boundary
from ..explore import in_words
from ..facets import Facets, facets
from ..geometry import chebyshev_ball
from ..network import Network, patterns
from ..plotting.base import Distribution, Panel, distribution_figure, gallery
from ..polytope import Polytope, RowOrigin
from ..region import Region, region
from .section import Cell, Drawing, Section, Table, number
from .subject import Subject

_NAME, _TITLE = "regions", "How large the linear regions are"
_SHOWN = 6  # examples looked at closely
_FEW, _FEW_ENTRIES = 2, 5_000_000  # and where units x inputs are more than this
_MOST_ENTRIES = 100_000_000  # units x inputs beyond which the hyperplanes of one input are too many to hold
_WORK = 200_000_000_000  # multiplications spent on distances, which bounds how many inputs are measured: some seconds
_MAP_ENTRIES = 250_000_000  # and units x inputs, which are what takes the time in convolutions
_BALL_ENTRIES = 2_000_000  # rows x inputs up to which programs are solved at all
_BALLS, _BALL_WORK = 32, 10_000_000  # inputs whose inradius is found at most, and the rows x inputs spent on them
_FACET_INPUTS, _FACET_ENTRIES = 16, 30_000  # inputs whose facets are all found, where rows x inputs are at most this
_FACET_SECONDS = 6.0  # spent on the facets of examples where they are more
_COMPARED = 1_000  # inputs among which the closest other one is sought


@final
@dataclass(frozen=True, eq=False, slots=True)
class _Box:
    """The box that the entries of all inputs span, so that regions are bounded and what lies across is still an input."""

    low: float
    high: float
    dim: int

    @property
    def polytope(self) -> Polytope:
        return Polytope.box([self.low] * self.dim, [self.high] * self.dim)

    def __str__(self) -> str:
        return f"{number(self.low)} ≤ x ≤ {number(self.high)}"


class _Across(NamedTuple):
    """The nearest input of another region: how far its boundary is, what switches there, how many units do."""

    distance: float
    unit: RowOrigin
    point: Tensor
    switched: int


class _Look(NamedTuple):
    """One example's region: its row of numbers, what happens at its boundary, and the nearest input across."""

    row: dict[str, Any]
    words: str
    across: _Across | None


def regions(subject: Subject) -> Section:
    """Return how large regions are over the data, and for some examples what bounds them and what lies across."""
    net, inputs = subject.net, subject.data.inputs
    if not net.is_piecewise_linear or not net.num_units:
        why = "smooth networks have no linear regions" if not net.is_piecewise_linear else "without units there is one region"
        return _nothing(f"Nothing to measure here: {why}.")
    if net.num_units * inputs[0].numel() > _MOST_ENTRIES:
        return _nothing(
            f"The hyperplanes of {net.num_units:,} units on {inputs[0].numel():,} inputs are too many to hold; left out here."
        )
    measured = inputs[_spread(len(inputs), _affordable(subject))]
    near = nearest_boundary(net, measured)
    distances = near.distance[torch.isfinite(near.distance)]
    if not len(distances):
        return _nothing("No unit ever changes its piece: there is one region.")
    box = _Box(float(inputs.min()), float(inputs.max()), inputs[0].numel())
    parts = [_distances(distances), *_sizes(subject, box)]
    looks = _looks(subject, box)
    figures = [_histograms(parts), *([_pictures(subject, looks)] if any(look.across for look in looks) else [])]
    data = {
        "measured": len(measured),
        "median": float(distances.median()),
        "box": [box.low, box.high],
        "distributions": {part.title: _quantiles(part) for part in parts},
        "examples": [look.row for look in looks],
    }
    medians = [(f"median {part.title}", number(_quantiles(part)["median"])) for part in parts]
    facts = (("median distance to the boundary", medians[0][1]), *medians[1:], ("inputs measured", f"{len(measured):,}"))
    tables = (_distribution_table(parts), _table(looks, box), _layers(near))
    words = (_lead(), _compared(measured, distances), _counted(subject, box, parts, looks), _crossed(looks, box))
    return Section(_NAME, _TITLE, tuple(filter(None, words)), facts, tuple(figures), tables, data)


def _nothing(why: str) -> Section:
    return Section(_NAME, _TITLE, (why,), data={"examples": []})


# -- how many inputs


def _spread(total: int, count: int) -> Tensor:
    """Return `count` positions evenly over 0 .. total - 1, for files may be sorted by class."""
    return torch.linspace(0, total - 1, min(total, count)).round().long()


def _looked(subject: Subject) -> int:
    large = subject.net.num_units * subject.data.inputs[0].numel() > _FEW_ENTRIES
    return min(_FEW if large else _SHOWN, len(subject.examples))


def _affordable(subject: Subject) -> int:
    net = subject.net
    one = sum(n.step.multiply_adds([net.shape_of(i) for i in n.inputs], n.shape) for n in net.nodes)
    dim, rows = math.prod(net.input_shape), sum(gate.num_units for gate in net.gates)
    most = min(_WORK // max(1, one * dim), _MAP_ENTRIES // max(1, rows * dim))
    return max(_looked(subject), min(len(subject.data.inputs), most))


# -- distributions over the data


def _distances(distances: Tensor) -> Distribution:
    return Distribution("distance", distances, "to the nearest boundary, in units of the input", True)


def _sizes(subject: Subject, box: _Box) -> list[Distribution]:
    """Return the distributions of inradius and number of facets, over as many inputs as can be afforded."""
    entries = _entries(subject.net, box.dim)
    balls = min(_BALLS, _BALL_WORK // entries) if entries <= _BALL_ENTRIES else 0
    hulls = _FACET_INPUTS if entries <= _FACET_ENTRIES else 0
    radii, counts = _measured(subject, box, balls, hulls)
    shown = [Distribution("inradius", radii, "of the region in the box, in units of the input", True)] if len(radii) else []
    return shown + ([Distribution("facets", counts, "of the region in the box", False)] if len(counts) else [])


def _entries(net: Network, dim: int) -> int:
    """Return about how many rows x inputs the polytope of one input has in the box."""
    return (sum(gate.num_units for gate in net.gates) + 2 * dim) * dim


def _measured(subject: Subject, box: _Box, balls: int, hulls: int) -> tuple[Tensor, Tensor]:
    inputs = subject.data.inputs
    spread = {count: set(_spread(len(inputs), count).tolist()) if count else set() for count in (balls, hulls)}
    radii, counts = list[float](), list[int]()
    for i in sorted(spread[balls] | spread[hulls]):
        here = region(subject.net, inputs[i].double(), domain=box.polytope)
        if i in spread[balls]:
            radii.append(chebyshev_ball(here.polytope).radius)
        if i in spread[hulls] and (found := facets(here.polytope)).complete:
            counts.append(found.num_facets)
    return torch.tensor(radii, dtype=torch.float64), torch.tensor(counts, dtype=torch.float64)


def _quantiles(part: Distribution) -> dict[str, float]:
    values = part.values.double()
    names = ("least", "median", "largest")
    return {"inputs": len(values)} | dict(zip(names, map(float, (values.min(), values.median(), values.max())), strict=True))


# -- examples


def _looks(subject: Subject, box: _Box) -> list[_Look]:
    left, looks = _FACET_SECONDS, list[_Look]()
    for example in subject.examples[: _looked(subject)]:
        start = time.monotonic()
        look = _look(subject, example.index, box, left)
        left -= time.monotonic() - start
        if look is not None:
            looks.append(look)
    return looks


def _look(subject: Subject, index: int, box: _Box, seconds: float) -> _Look | None:
    """Return an example's region in numbers, None where no unit ever changes its piece."""
    here = region(subject.net, subject.data.inputs[index].double())
    distance, unit = here.nearest
    if unit is None:
        return None
    small = (len(here.polytope) + 2 * box.dim) * box.dim <= _BALL_ENTRIES
    bounded = here.polytope & box.polytope if small else None
    found = None if bounded is None else _facets(bounded, seconds)
    across = _across(here, box)
    row = {
        "index": index,
        "rows": len(here.polytope) + 2 * box.dim,
        "num_facets": None if found is None else found.num_facets,
        "facets_complete": found is not None and found.complete,
        "inradius": None if bounded is None else chebyshev_ball(bounded).radius,
        "boundary_distance": distance,
        "boundary_unit": unit._asdict(),
        "across_distance": None if across is None else across.distance,
        "across_unit": None if across is None else across.unit._asdict(),
        "across_switched": None if across is None else across.switched,
        "active_units": here.num_active,
    }
    return _Look(row, "–" if across is None else in_words(subject.net, across.unit), across)


def _facets(bounded: Polytope, seconds: float) -> Facets | None:
    """Return the facets, those found in time where they are too many for all; None where there is no time left."""
    if len(bounded) * bounded.dim <= _FACET_ENTRIES:
        return facets(bounded)
    return facets(bounded, time_limit=seconds) if seconds > 1 else None


def _across(here: Region, box: _Box) -> _Across | None:
    """Return the nearest input in the box that lies in another region; None where the box has none.

    For each hyperplane the nearest point in the box is a projection, and the least of all is in the region's closure:
    were it beyond another hyperplane, the segment to it would have met that one sooner. The rows are tried in the order of
    their free distance until that exceeds what was found.
    """
    x, p = here.point.reshape(-1).double().cpu(), here.polytope
    norms = torch.linalg.vector_norm(p.matrix, dim=1)
    gaps = p.slack(x).clamp(min=0)
    free = torch.where(norms > 0, gaps / norms, math.inf)
    best, least = None, math.inf
    for row in free.argsort().tolist():
        if float(free[row]) >= least:
            break
        point = _projected(x, p.matrix[row], float(gaps[row]), box)
        if point is not None and (distance := float((point - x).norm())) < least:
            best, least = row, distance
    if best is None:
        return None
    beyond = _projected(x, p.matrix[best], float(gaps[best]), box, past=1e-6)
    point = (x if beyond is None else beyond).reshape(here.point.shape)
    switched = int(here.pattern.distances(patterns(here.network.double(), point[None])))
    return _Across(least, p.origins[best], point, switched) if switched else None


def _projected(x: Tensor, a: Tensor, gap: float, box: _Box, past: float = 0.0) -> Tensor | None:
    """Return the point of the box nearest to x at which a.y exceeds a.x by `gap`, and by a little more (`past` of what
    the box leaves); None where the box does not reach beyond.

    It is clip(x + t a), and a.clip(x + t a) grows piecewise linearly in t: entry k stops where it meets its side.
    """
    moving = a != 0
    ends = torch.where(a > 0, box.high - x, box.low - x)[moving] / a[moving]
    ends, order = ends.clamp(min=0).sort()
    speed = (a[moving] ** 2)[order].flip(0).cumsum(0).flip(0)  # while the entries from here on still move
    reached = (speed * torch.diff(ends, prepend=ends.new_zeros(1))).cumsum(0)
    room = float(reached[-1]) - gap if len(reached) else 0.0
    if room <= 1e-9 * max(abs(gap), float(reached[-1]) if len(reached) else 0.0):
        return None
    wanted = gap + past * room
    k = min(int(torch.searchsorted(reached, wanted)), len(ends) - 1)
    before = (float(ends[k - 1]), float(reached[k - 1])) if k else (0.0, 0.0)
    t = before[0] + (wanted - before[1]) / float(speed[k])
    return (x + t * a).clamp(box.low, box.high)


# -- words


def _lead() -> str:
    return (
        "A linear region is the set of inputs with one activation pattern: on it the network is one affine map. An input that"
        " moves by less than its distance to the boundary, in whatever direction, keeps its map. The inradius is the radius of"
        " the largest ball in the region, facets are the flat pieces of its boundary."
    )


def _compared(measured: Tensor, distances: Tensor) -> str:
    half = f"Half of the inputs have a boundary within {number(float(distances.median()))}, in units of the input."
    some = measured[_spread(len(measured), _COMPARED)].double().flatten(1)
    if len(some) < 3:
        return half
    apart = torch.cdist(some, some).fill_diagonal_(math.inf).min(1).values.median()
    times = float(apart / distances.median()) if float(distances.median()) > 0 else 0.0
    farther = f", {number(round(float(f'{times:.2g}')))} times as far" if times >= 2 else ""
    return f"{half} Half of them have no other of these inputs within {number(float(apart))}{farther}."


def _counted(subject: Subject, box: _Box, parts: list[Distribution], looks: list[_Look]) -> str:
    """Say how many inputs stand behind each figure, and why not more."""
    total, counts = len(subject.data.inputs), {part.title: len(part.values) for part in parts}
    rows = f"{looks[0].row['rows']:,} rows on {box.dim:,} inputs" if looks else "many rows"
    words = [_how_many("The distance is measured on", counts["distance"], total, "as many as take some seconds")]
    if "inradius" in counts:
        words.append(_how_many("The inradius takes a linear program each, and is found for", counts["inradius"], total))
    else:
        words.append(f"The inradius is left out: a linear program with {rows} takes too long here.")
    if "facets" in counts:
        words.append(_how_many("The facets take up to a program a row, and are found for", counts["facets"], total))
    elif any(look.row["num_facets"] for look in looks):
        words.append(
            f"Finding all facets among {rows} takes seconds to minutes an input, so there is no distribution of their number;"
            f" {_FACET_SECONDS:.0f} seconds were spent on the examples below: “≥” stands where they ran out, a dash where none"
            " were left. The command “polylens region” finds them all."
        )
    else:
        words.append(f"Facets are left out: finding them among {rows} takes too long here.")
    return " ".join(words)


def _how_many(what: str, count: int, total: int, why: str = "") -> str:
    if count >= total:
        return f"{what} all {total:,} inputs."
    return f"{what} {count:,} of the {total:,} inputs, evenly spaced{f', {why}' if why else ''}."


def _crossed(looks: list[_Look], box: _Box) -> str:
    found = [look.across for look in looks if look.across is not None]
    if not found:
        return ""
    single = sum(across.switched == 1 for across in found)
    return (
        f"The nearest input of another region that keeps to the data's range, {box}, is found exactly and checked: in"
        f" {single} of {len(found)} examples exactly one unit has switched there, the one that the table names."
    )


# -- tables and figures


def _distribution_table(parts: list[Distribution]) -> Table:
    rows = [(f"{part.title} {part.label.partition(',')[0]}", _quantiles(part)) for part in parts]
    cells = tuple((name, int(q["inputs"]), q["least"], q["median"], q["largest"]) for name, q in rows)
    return Table("Over the data", ("what", "inputs", "least", "median", "largest"), cells)


def _table(looks: list[_Look], box: _Box) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for look in looks:
        r = look.row
        numbers = (r["rows"], r["inradius"], r["active_units"], r["boundary_distance"], r["across_distance"])
        rows.append((f"#{r['index']}", _facet_cell(r), *numbers, look.words))
    columns = ("input", "facets", "of rows", "inradius", "active units", "boundary", "boundary in range", "what happens there")
    return Table(f"Regions of single inputs; facets, rows and inradius within the box {box}", columns, tuple(rows))


def _facet_cell(row: dict[str, Any]) -> Cell:
    count: int | None = row["num_facets"]
    return count if count is None or row["facets_complete"] else f"≥ {count:,}"


def _layers(near: NearestBoundary) -> Table:
    counts = torch.bincount(near.layer[near.layer >= 0], minlength=len(near.names))
    rows = tuple(
        (name, int(c), f"{int(c) / max(1, int(counts.sum())):.1%}") for name, c in zip(near.names, counts, strict=True)
    )
    return Table("Which layer draws the nearest boundary", ("layer", "inputs", "share"), rows)


def _histograms(parts: list[Distribution]) -> Drawing:
    return Drawing(
        "region_sizes",
        distribution_figure(parts),
        "How large regions are: inputs by "
        + ", by ".join(f"{part.title} {part.label.partition(',')[0]}" for part in parts)
        + ".",
        "histograms of " + ", ".join(part.title for part in parts),
    )


def _pictures(subject: Subject, looks: list[_Look]) -> Drawing:
    shown = [(look, look.across, subject.data.inputs[look.row["index"]]) for look in looks if look.across is not None]
    changes = [across.point - x.double() for _, across, x in shown]
    top: list[Panel | None] = [Panel(f"#{look.row['index']}", x, signed=False) for look, _, x in shown]
    beyond: list[Panel | None] = [Panel(f"{a.distance:.2g} away", a.point.to(x), signed=False) for _, a, x in shown]
    change: list[Panel | None] = [Panel("", c, signed=True) for c in changes]
    rows = [("input", top), ("just across\nthe boundary", beyond), ("change", change)]
    largest = max(float(c.abs().max()) for c in changes)
    caption = (
        "Inputs, and the nearest input of the same range in another linear region, just past the boundary."
        f" Where the two rows look alike, that is the finding: no entry moves by more than {number(float(f'{largest:.2g}'))}."
        " The last row shows the change in full colour."
    )
    figure = gallery(rows, signed="change of the input", unit="units of the input")
    return Drawing("across", figure, caption, "inputs, the nearest inputs of another linear region, and the difference")
