"""Domains: their coordinates, sizes and first cells, and what they say to mistakes."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from polylens import Box, Plane, Polygon, Polytope, Segment, Slice, WholeSpace, dense, iter_cells
from polylens.domain import Domain, domain_of
from polylens.errors import GeometryError, InputError, ShapeError

RANDOM = torch.Generator().manual_seed(3)
INPUT = torch.randn(3, 2, 3, 4, generator=RANDOM, dtype=torch.float64)
DIAMOND = Polytope.of([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]], [1.0] * 4)
DOMAINS: dict[str, Domain] = {
    "segment": Segment(INPUT[0], INPUT[1]),
    "plane": Plane(*INPUT),
    "plane through inputs": Plane.through(*INPUT),
    "polygon": Polygon(INPUT),
    "box": Box(INPUT[0].minimum(INPUT[1]), INPUT[0].minimum(INPUT[1]) + torch.eye(24)[:3].sum(0).reshape(2, 3, 4).double()),
    "box of one point": Box(INPUT[0], INPUT[0]),
    "slice": Slice(DIAMOND, INPUT[0], INPUT[1:].flatten(1).T),
    "flat slice": Slice(Polytope.box([0.0, 1.0, 2.0], [3.0, 1.0, 4.0])),
    "slice of one point": Slice(Polytope.box([1.0, 2.0], [1.0, 2.0])),
    "half-plane": Slice(Polytope.of([[1.0, 2.0]], [3.0])),
    "whole space": WholeSpace(3),
    "box without some sides": Box([-math.inf, 0.0, -math.inf], [1.0, 2.0, math.inf]),
}
each = pytest.mark.parametrize("domain", DOMAINS.values(), ids=list(DOMAINS))


@each
def test_coordinates_embed_into_inputs_and_back(domain: Domain) -> None:
    u = torch.randn(5, domain.dim, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x = domain.embed(u)
    assert x.shape == (5, domain.num_inputs)
    assert torch.allclose(domain.project(x), u, rtol=0.0, atol=1e-12)
    assert torch.allclose(domain.embed(u[0]), x[0], rtol=0.0, atol=1e-12)  # a product of one row may round otherwise
    assert torch.allclose(domain.project(x[0]), u[0], rtol=0.0, atol=1e-12)
    assert domain.project(x[:1]).shape == (1, domain.dim)
    assert domain.project(x[:0]).shape == (0, domain.dim)


@each
def test_what_is_off_the_flat_is_projected_at_a_right_angle(domain: Domain) -> None:
    x = torch.randn(4, domain.num_inputs, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    residue = x - domain.embed(domain.project(x))
    assert (
        float((residue @ domain.basis).abs().max() if domain.dim else 0.0) <= 1e-12 * float(x.abs().max()) * domain.num_inputs
    )


@each
def test_the_first_cells_are_simple_and_have_the_domains_volume(domain: Domain) -> None:
    net = dense([(np.ones((1, domain.num_inputs)), None)])  # without gates the cells are the first ones
    parts = list(iter_cells(net, domain))
    volume = domain.scale * sum(float(part.volumes().sum()) for part in parts)
    assert volume == domain.volume or math.isclose(volume, domain.volume, rel_tol=1e-9)
    assert math.isfinite(volume) == domain.is_bounded
    start = domain.start()
    assert start.facets.shape == (len(start.vertex), domain.dim)
    for part in parts:
        assert (np.bitwise_count(part.facets).sum(1) == domain.dim).all()


@each
def test_a_domain_describes_itself_in_words_and_in_plain_types(domain: Domain) -> None:
    assert str(domain.dim) in repr(domain)
    assert f"{domain.volume:.6g}" in domain.summary()
    assert domain.to_dict() == {
        "kind": type(domain).__name__,
        "dim": domain.dim,
        "num_inputs": domain.num_inputs,
        "volume": domain.volume,
    }


def test_volumes_are_those_of_the_input_space() -> None:
    assert Segment([0.0, 0.0], [3.0, 4.0]).volume == 5.0
    assert math.isclose(Plane([5.0, 5.0, 5.0], [1.0, 0.0, 0.0], [1.0, 2.0, 0.0]).volume, 8.0, rel_tol=1e-14)
    assert math.isclose(Polygon([[0.0, 0.0, 1.0], [4.0, 0.0, 1.0], [0.0, 3.0, 1.0]]).volume, 6.0, rel_tol=1e-14)
    assert Box([0.0, 0.0, 1.0], [2.0, 3.0, 1.0]).volume == 6.0
    assert math.isclose(Slice(DIAMOND, None, [[2.0, 0.0], [0.0, 3.0], [0.0, 0.0]]).volume, 12.0, rel_tol=1e-12)
    assert math.isclose(Slice(Polytope.box([0.0, 1.0], [3.0, 1.0])).volume, 3.0, rel_tol=1e-12)
    assert Box([1.0], [1.0]).volume == Slice(Polytope.box([1.0], [1.0])).volume == 1.0  # a point is one point
    assert WholeSpace(2).volume == Box([0.0, 0.0], [1.0, math.inf]).volume == math.inf


def ordered(corners: Tensor) -> list[list[float]]:
    return sorted([[round(v, 9) + 0.0 for v in row] for row in corners.tolist()])


def test_the_corners_of_windows_lie_where_they_were_put() -> None:
    window = Plane([1.0, 1.0, 7.0], [1.0, 0.0, 0.0], [0.0, 2.0, 0.0])
    assert ordered(window.embed(window.corners)) == [[0.0, -1.0, 7.0], [0.0, 3.0, 7.0], [2.0, -1.0, 7.0], [2.0, 3.0, 7.0]]
    turned = Plane.through([0.0, 0.0], [0.0, 4.0], [2.0, 1.0], margin=0.25)  # the longest side is 4: a margin of 1
    assert ordered(turned.embed(turned.corners)) == [[-1.0, -1.0], [-1.0, 5.0], [3.0, -1.0], [3.0, 5.0]]
    hull = Polygon([[0.0, 0.0], [2.0, 2.0], [1.0, 1.0], [2.0, 0.0], [0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    assert ordered(hull.embed(hull.corners)) == [[0.0, 0.0], [0.0, 2.0], [2.0, 0.0], [2.0, 2.0]]


def test_a_plane_through_inputs_holds_them_whatever_the_margin() -> None:
    for margin in (0.0, 0.1, 2.0):
        plane = Plane.through(*INPUT, margin=margin)
        low, high = plane.corners.min(0).values, plane.corners.max(0).values
        u = plane.project(INPUT)
        assert bool(((u >= low - 1e-9) & (u <= high + 1e-9)).all())
        assert torch.allclose(plane.embed(u), INPUT.flatten(1), rtol=0.0, atol=1e-12)


def test_a_polygon_of_many_corners_keeps_them_all() -> None:
    angle = torch.arange(100) * (2 * math.pi / 100)
    polygon = Polygon(torch.stack([angle.cos(), angle.sin(), torch.ones(100)], 1).double())
    assert len(polygon.corners) == 100
    assert math.isclose(polygon.volume, 50 * math.sin(2 * math.pi / 100), rel_tol=1e-6)  # the angles are in float32
    net = dense([([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], [0.0, 0.0]), ([[1.0, 1.0]], None)])
    assert [len(part) for part in iter_cells(net, polygon)] == [4]


def test_thin_and_long_slices_keep_their_digits() -> None:
    thin = Slice(Polytope.box([1.0, 5.0, -1e2], [1.0 + 1e-6, 6.0, 1e2]))
    net = dense([([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]], [0.0, -1.0 - 5e-7]), ([[1.0, 1.0]], None)])
    volumes = np.concatenate([part.volumes() for part in iter_cells(net, thin)])
    assert len(volumes) == 4
    assert math.isclose(volumes.sum(), thin.volume, rel_tol=1e-9)
    rescaled = Slice(Polytope.of([[1.0, 0.0], [-1.0, 0.0], [0.0, 1e-14], [0.0, -1e-14]], [1.0, 0.0, 1e-14, 0.0]))
    assert math.isclose(rescaled.volume, 1.0, rel_tol=1e-9)  # rows of any scale are rows


def test_points_may_be_tensors_arrays_or_lists_of_any_layout() -> None:
    image = np.arange(6.0).reshape(2, 3)
    frozen = image.copy()
    frozen.flags.writeable = False
    learned = torch.nn.Parameter(torch.from_numpy(image).float())
    for same in (image.tolist(), frozen, image[::-1][::-1], image.astype(np.float16), torch.from_numpy(image), learned):
        segment = Segment(same, np.zeros((2, 3)))
        assert segment.origin.tolist() == list(range(6))
        assert not segment.basis.requires_grad
    assert Segment(image[::-1], np.zeros((2, 3))).origin.tolist() == [3, 4, 5, 0, 1, 2]


def test_a_polytope_is_a_domain_and_other_things_are_not() -> None:
    assert isinstance(domain_of(DIAMOND), Slice)
    segment = Segment([0.0], [1.0])
    assert domain_of(segment) is segment
    with pytest.raises(InputError, match=r"expected Box, Segment.*got list"):
        domain_of([0.0, 1.0])  # type: ignore[arg-type]


def test_a_box_without_sides_is_the_whole_space_and_with_some_a_part_of_it() -> None:
    net = dense([([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], [0.0, 0.0, -1.0]), ([[1.0, 1.0, 1.0]], None)])

    def regions(domain: Domain) -> int:
        return len({p for part in iter_cells(net, domain) for p in part.patterns})

    free = math.inf
    assert regions(Box([-free, -free], [free, free])) == regions(WholeSpace(2)) == 7
    assert regions(Box([0.0, -free], [free, free])) == 4
    assert regions(Box([0.0, 0.0], [free, free])) == 2
    assert regions(Box([1e6, 1e6], [free, free])) == 1
    assert regions(Box([-free, 0.25], [0.25, 0.25])) == 2
    assert regions(Slice(Polytope.box([0.0, -free], [free, free]))) == 4


IMAGE = np.zeros((2, 3), np.uint8)
MISTAKES: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "segment of two shapes": (
        lambda: Segment(torch.zeros(2, 3), torch.zeros(3, 2)),
        ShapeError,
        r"one shape; got \(2, 3\) and",
    ),
    "segment of one point": (lambda: Segment([1.0], [1.0]), InputError, "two different inputs"),
    "segment of bytes": (lambda: Segment(IMAGE, IMAGE + 1), InputError, "floating-point.*uint8.*255"),
    "segment of nothing": (lambda: Segment([], []), ShapeError, "at least one entry"),
    "segment to infinity": (lambda: Segment([0.0], [math.inf]), InputError, "segment.second: expected finite"),
    "segment of words": (lambda: Segment(["a"], ["b"]), InputError, "lists of numbers"),
    "box of two shapes": (lambda: Box(torch.zeros(2, 3), torch.ones(6)), ShapeError, "one shape"),
    "box upside down": (lambda: Box([0.0, 2.0], [1.0, 1.0]), InputError, r"got 2.0 and 1.0 at entry 1; exchange"),
    "box with NaN": (lambda: Box([math.nan], [1.0]), InputError, "1 NaN"),
    "box at infinity": (lambda: Box([math.inf], [math.inf]), InputError, "expected low <= high"),
    "box of bytes": (lambda: Box(IMAGE, IMAGE + 1), InputError, "floating-point"),
    "box of too many coordinates": (lambda: Box(torch.zeros(784), torch.ones(784)).start(), GeometryError, "at most 16.*784"),
    "space of too many coordinates": (lambda: WholeSpace(784).start(), GeometryError, "at most 16"),
    "space of no dimension": (lambda: WholeSpace(0), InputError, "at least 1; got 0"),
    "space of half a dimension": (lambda: WholeSpace(1.5), InputError, "got 1.5"),  # type: ignore[arg-type]
    "plane of two shapes": (lambda: Plane([0.0, 0.0], [1.0, 0.0], [0.0]), ShapeError, "one shape"),
    "plane along one line": (lambda: Plane([0.0, 0.0], [1.0, 0.0], [2.0, 0.0]), InputError, "one line; use Segment"),
    "plane without a direction": (lambda: Plane([0.0, 0.0], [1.0, 0.0], [0.0, 0.0]), InputError, "one line"),
    "plane through one point": (lambda: Plane.through([1.0], [1.0], [1.0]), InputError, "one point"),
    "plane through a line": (lambda: Plane.through([0.0, 0.0], [1.0, 1.0], [2.0, 2.0]), InputError, "one line"),
    "plane of negative margin": (lambda: Plane.through(*INPUT, margin=-0.1), InputError, "margin of at least 0; got -0.1"),
    "polygon of two points": (lambda: Polygon([[0.0, 0.0], [1.0, 0.0]]), ShapeError, "three or more"),
    "polygon on a line": (lambda: Polygon([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]]), InputError, "one line"),
    "polygon out of a plane": (lambda: Polygon(torch.eye(4).double()), InputError, "in one plane"),
    "polygon of bytes": (lambda: Polygon(np.eye(3, dtype=np.uint8)), InputError, "floating-point"),
    "empty slice": (lambda: Slice(Polytope.of([[1.0], [-1.0]], [0.0, -1.0])), GeometryError, "empty"),
    "slice of too many dimensions": (lambda: Slice(Polytope.box([0.0] * 11, [1.0] * 11)), GeometryError, "at most 10.*11"),
    "slice along one direction twice": (lambda: Slice(DIAMOND, None, [[1.0, 1.0], [2.0, 2.0]]), InputError, "independent"),
    "slice whose basis does not fit": (lambda: Slice(DIAMOND, [0.0, 0.0], [[1.0, 0.0]]), ShapeError, "expected origin"),
    "coordinates of another dimension": (
        lambda: DOMAINS["plane"].embed([1.0, 2.0, 3.0]),
        ShapeError,
        r"\(2,\) or \(batch, 2\)",
    ),
    "inputs of another size": (lambda: DOMAINS["plane"].project(torch.zeros(2, 5)), ShapeError, "expected 24 entries a sample"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_told(name: str) -> None:
    make, error, message = MISTAKES[name]
    with pytest.raises(error, match=message):
        make()
