"""Section: how large the linear regions around the inputs are, and what bounds them."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..boundary import NearestBoundary, nearest_boundary
from ..facets import facets
from ..geometry import chebyshev_ball
from ..plotting import Panel, distance_figure, gallery
from ..polytope import Polytope
from ..region import region
from .section import Cell, Drawing, Section, Table, number
from .subject import Subject

_NAME, _TITLE = "regions", "How large the linear regions are"
_SHOWN = 6  # examples looked at closely
_FACET_ENTRIES = 30_000  # rows x inputs up to which the facets of an example are searched for
_BALL_ENTRIES = 2_000_000  # and up to which its inradius is
_MOST_ENTRIES = 100_000_000  # units x inputs beyond which the hyperplanes of one input are too many to hold
_WORK = 30_000_000_000  # multiplications spent on distances, which bounds how many inputs are measured
_FEW, _FEW_ENTRIES = 2, 5_000_000  # examples looked at where units x inputs are more than this


class _Look(NamedTuple):
    """One example's region: its row of numbers, and the nearest input across its boundary."""

    row: dict[str, Any]
    across: Tensor


def regions(subject: Subject) -> Section:
    """Return how far the boundary is from the inputs, and for some of them the region's facets and inradius."""
    net, inputs = subject.net, subject.data.inputs
    if not net.is_piecewise_linear or not net.num_units:
        why = "smooth networks have no linear regions" if not net.is_piecewise_linear else "without units there is one region"
        return Section(_NAME, _TITLE, (f"Nothing to measure here: {why}.",), data={"examples": []})
    if subject.net.num_units * inputs[0].numel() > _MOST_ENTRIES:
        text = (
            f"The hyperplanes of {net.num_units:,} units on {inputs[0].numel():,} inputs are too many to hold; left out here."
        )
        return Section(_NAME, _TITLE, (text,), data={"examples": []})
    measured = inputs[: _affordable(subject)]
    near = nearest_boundary(net, measured)
    distances = near.distance[torch.isfinite(near.distance)]
    if not len(distances):
        return Section(_NAME, _TITLE, ("No unit ever changes its piece: there is one region.",), data={"examples": []})
    domain = _domain(inputs)
    looked = [_look(subject, i, domain) for i in range(min(_looked(subject), len(subject.examples)))]
    looks = [look for look in looked if look is not None]
    lead = (
        "A linear region is the set of inputs with one activation pattern: on it the network is one affine map. The histogram"
        " shows how far inputs are from the boundary of theirs; nothing that moves an input by less changes its map."
    )
    compare = (
        f"Half of the {len(measured):,} inputs have a boundary within {number(float(distances.median()))}, in the units of the"
        f" input, whose entries run from {number(float(inputs.min()))} to {number(float(inputs.max()))}. The pictures show"
        " inputs moved just as far as that, straight to the nearest boundary."
    )
    facts = (
        ("median distance to the boundary", number(float(distances.median()))),
        ("largest", number(float(distances.max()))),
        ("inputs measured", f"{len(measured):,}"),
    )
    figures = (_histogram(distances), *([_pictures(subject, looks)] if looks else []))
    data = {"measured": len(measured), "median": float(distances.median()), "examples": [look.row for look in looks]}
    return Section(_NAME, _TITLE, (lead, compare), facts, figures, (_table(looks), _layers(near)), data)


def _looked(subject: Subject) -> int:
    large = subject.net.num_units * subject.data.inputs[0].numel() > _FEW_ENTRIES
    return _FEW if large else _SHOWN


def _affordable(subject: Subject) -> int:
    net = subject.net
    one = sum(n.step.multiply_adds([net.shape_of(i) for i in n.inputs], n.shape) for n in net.nodes)
    return max(_looked(subject), min(len(subject.data.inputs), _WORK // max(1, one * math.prod(net.input_shape))))


def _domain(inputs: Tensor) -> Polytope:
    """Return the box that the entries of all inputs span, so that regions are bounded and their sizes compare."""
    low, high, size = float(inputs.min()), float(inputs.max()), inputs[0].numel()
    return Polytope.box([low] * size, [high] * size)


def _look(subject: Subject, i: int, domain: Polytope) -> _Look | None:
    """Return an example's region in numbers, None where no unit ever changes its piece."""
    e = subject.examples[i]
    x = subject.data.inputs[e.index].double()
    here = region(subject.net, x)
    distance, unit = here.nearest
    across = here.nearest_point
    if unit is None or across is None:
        return None
    bounded = here.polytope & domain
    entries = len(bounded) * bounded.dim
    found = facets(bounded) if entries <= _FACET_ENTRIES else None
    numbers = {
        "index": e.index,
        "rows": len(bounded),
        "num_facets": None if found is None or not found.complete else found.num_facets,
        "inradius": chebyshev_ball(bounded).radius if entries <= _BALL_ENTRIES else None,
        "boundary_distance": distance,
        "boundary_unit": unit._asdict(),
        "active_units": here.num_active,
    }
    return _Look(numbers, across)


def _table(looks: list[_Look]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for look in looks:
        r = look.row
        unit = f"{r['boundary_unit']['name']}[{r['boundary_unit']['unit']}]"
        rows.append(
            (f"#{r['index']}", r["num_facets"], r["rows"], r["inradius"], r["boundary_distance"], unit, r["active_units"])
        )
    columns = ("input", "facets", "rows", "inradius", "nearest boundary", "its unit", "active units")
    return Table("Regions within the box that the data span", columns, tuple(rows))


def _layers(near: NearestBoundary) -> Table:
    counts = torch.bincount(near.layer[near.layer >= 0], minlength=len(near.names))
    rows = tuple(
        (name, int(c), f"{int(c) / max(1, int(counts.sum())):.1%}") for name, c in zip(near.names, counts, strict=True)
    )
    return Table("Which layer draws the nearest boundary", ("layer", "inputs", "share"), rows)


def _histogram(distances: Tensor) -> Drawing:
    return Drawing(
        "boundary_distances",
        distance_figure(distances),
        "Inputs by their distance to the nearest boundary of their region, on a logarithmic scale.",
        "histogram of distances to the nearest region boundary",
    )


def _pictures(subject: Subject, looks: list[_Look]) -> Drawing:
    inputs = [subject.data.inputs[look.row["index"]] for look in looks]
    top: list[Panel | None] = [Panel(f"#{look.row['index']}", x, signed=False) for look, x in zip(looks, inputs, strict=True)]
    across: list[Panel | None] = [
        Panel(f"{look.row['boundary_distance']:.2g} away", look.across.to(x), signed=False)
        for look, x in zip(looks, inputs, strict=True)
    ]
    change: list[Panel | None] = [
        Panel(f"{look.row['boundary_unit']['name']}[{look.row['boundary_unit']['unit']}]", look.across.to(x) - x, signed=True)
        for look, x in zip(looks, inputs, strict=True)
    ]
    figure = gallery([("input", top), ("on the\nboundary", across), ("difference", change)])
    caption = "Inputs, the nearest point of their region's boundary, and the difference, enlarged to full colour."
    return Drawing("across", figure, caption, "inputs beside the nearest inputs of another linear region")
