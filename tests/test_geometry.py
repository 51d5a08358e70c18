"""Questions to polytopes against closed forms and an oracle that enumerates vertices in rational arithmetic."""

from __future__ import annotations

import itertools
import json
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from oracles import dot, exact, hull_dimension, polytope_vertices, polytope_volume
from polylens import _hull, dense, facets, region
from polylens._types import Status
from polylens.errors import GeometryError, InputError, ShapeError
from polylens.geometry import (
    affine_hull,
    analytic_center,
    bounding_box,
    chebyshev_ball,
    dimension,
    extreme_rays,
    is_bounded,
    is_empty,
    lineality,
    sample,
    support,
    vertices,
    volume,
    width,
)
from polylens.polytope import Polytope

EMPTY = Polytope.of([[1.0, 0.0], [-1.0, 0.0]], [0.0, -1.0])
POINT = Polytope.box([1, 2], [1, 2])
PINCHED = Polytope.of([[-1.0, 0.0], [0.0, -1.0], [1.0, 1.0]], [0.0, 0.0, 0.0])  # the origin, by three rows
FLAT = Polytope.box([0, 1, 2], [2, 1, 3])
SPACE = Polytope.of(torch.zeros(0, 2), torch.zeros(0))
QUADRANT = Polytope.box([0, 0], [math.inf, math.inf])
STRIP = Polytope.box([-1, -math.inf], [1, math.inf])
INTERVAL = Polytope.of([[2.0], [-1.0], [1.0]], [6.0, 1.0, 5.0])  # -1 <= x <= 3, and x <= 5
# the unit square with every kind of row that says nothing: a duplicate, a parallel one, a redundant one, one that
# touches a corner, one that touches an edge with another length, and zeros
CLUTTERED = Polytope.of(
    [*Polytope.box([0, 0], [1, 1]).matrix.tolist(), [1, 0], [1, 0], [1, 1], [1, 1], [0, 4], [0, 0]],
    [*Polytope.box([0, 0], [1, 1]).bound.tolist(), 1, 2, 5, 2, 4, 3],
)
# A verified answer is within 1e-9 of the terms that made it (Tolerance); what follows in closed form is far closer
CLOSE = 1e-9


def random_cuts(dim: int, rows: int, seed: int) -> Polytope:
    """A box [-4, 4]^dim with integer cuts that leave the origin inside."""
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randint(-5, 6, (rows, dim), generator=generator).double()
    bound = torch.randint(3, 12, (rows,), generator=generator).double()
    return Polytope.box([-4] * dim, [4] * dim) & Polytope.of(matrix, bound)


def rational(p: Polytope) -> tuple[list[list[Fraction]], list[Fraction]]:
    return exact(p.matrix.tolist()), exact([p.bound.tolist()])[0]


def same_points(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    """Say whether each point of one set has a partner in the other, within rounding."""
    if len(found) != len(wanted):
        return False
    near = torch.cdist(found, wanted, compute_mode="donot_use_mm_for_euclid_dist") < 1e-7
    return bool((near.sum(0) == 1).all() and (near.sum(1) == 1).all())


def tensor(points: object) -> torch.Tensor:
    return torch.tensor([[float(v) for v in p] for p in points], dtype=torch.float64)  # type: ignore[attr-defined]


# -- emptiness, balls, supports


@pytest.mark.parametrize("p", [POINT, PINCHED, FLAT, SPACE, QUADRANT, STRIP, INTERVAL, CLUTTERED])
def test_what_is_not_empty_shows_a_point(p: Polytope) -> None:
    found = is_empty(p)
    assert found.answer is False
    assert p.contains(found.point, tol=CLOSE)


@pytest.mark.parametrize(
    "p",
    [EMPTY, Polytope.of([[0.0, 0.0]], [-1.0]), PINCHED & Polytope.of([[-1.0, -1.0]], [-0.25])],
    ids=["gap", "zeros", "cone"],
)
def test_what_is_empty_shows_multipliers_that_prove_it_in_rationals(p: Polytope) -> None:
    found = is_empty(p)
    matrix, bound = rational(p)
    y = exact([found.multipliers.tolist()])[0]
    residue = sum(abs(dot(y, column)) for column in zip(*matrix, strict=True))
    assert found.answer is True
    assert min(y) >= 0
    assert dot(y, bound) < -residue * 10**6  # no solution with coordinates below a million, whatever was rounded


def test_chebyshev_balls_of_the_standard_bodies() -> None:
    for d in (1, 2, 3, 5):
        assert chebyshev_ball(Polytope.box([0] * d, [2] * d)).radius == pytest.approx(1.0)
        assert chebyshev_ball(Polytope.simplex(d)).radius == pytest.approx(1 / (d + math.sqrt(d)))
        assert chebyshev_ball(Polytope.cross_polytope(d)).radius == pytest.approx(1 / math.sqrt(d))


def test_the_multipliers_of_a_ball_bound_every_ball() -> None:
    p = random_cuts(3, 6, seed=0)
    ball = chebyshev_ball(p)
    y = ball.multipliers
    assert float(p.bound @ y) == pytest.approx(ball.radius)
    assert float(torch.linalg.vector_norm(p.matrix, dim=1) @ y) == pytest.approx(1.0)
    assert (y @ p.matrix).abs().max() < CLOSE
    assert float(p.distance_to_boundary(ball.center).distance) == pytest.approx(ball.radius)


def test_balls_of_flat_and_unbounded_polytopes() -> None:
    assert chebyshev_ball(FLAT).radius == 0.0
    assert chebyshev_ball(POINT).radius == 0.0
    assert chebyshev_ball(STRIP).radius == pytest.approx(1.0)
    for p in (SPACE, QUADRANT):
        ball = chebyshev_ball(p)
        assert ball.radius == math.inf
        assert ball.multipliers is None
        assert p.contains(ball.center)
    with pytest.raises(GeometryError, match="empty"):
        chebyshev_ball(EMPTY)
    with pytest.raises(GeometryError, match="empty"):
        chebyshev_ball(Polytope.of([[0.0]], [-1.0]))


def test_support_says_what_happened() -> None:
    assert support(CLUTTERED, [1, 2]).value == pytest.approx(3.0)
    assert support(POINT, [1, 1]).value == pytest.approx(3.0)
    assert support(STRIP, [1, 0]).value == pytest.approx(1.0)
    away = support(STRIP, [0.25, 1])
    assert (away.status, away.value) == (Status.UNBOUNDED, math.inf)
    assert (STRIP.matrix @ away.ray).max() <= CLOSE
    none = support(EMPTY, [0, 1])
    assert (none.status, none.value) == (Status.INFEASIBLE, -math.inf)
    with pytest.raises(ShapeError, match="direction"):
        support(STRIP, [1, 2, 3])


def test_width_is_a_distance() -> None:
    assert width(Polytope.cross_polytope(2), [5, 5]) == pytest.approx(math.sqrt(2))
    assert width(FLAT, [0, 3, 0]) == pytest.approx(0.0, abs=CLOSE)
    assert width(STRIP, [0, 1]) == math.inf
    with pytest.raises(InputError, match="other than 0"):
        width(STRIP, [0, 0])
    with pytest.raises(GeometryError, match="empty"):
        width(EMPTY, [0, 1])


def test_bounding_boxes_may_be_infinite() -> None:
    low, high = bounding_box(QUADRANT)
    assert (low.tolist(), high.tolist()) == ([0, 0], [math.inf, math.inf])
    low, high = bounding_box(INTERVAL)
    assert (low.tolist(), high.tolist()) == ([-1], [3])
    low, high = bounding_box(Polytope.simplex(3))
    assert (low.tolist(), high.tolist()) == (pytest.approx([0] * 3), pytest.approx([1] * 3))
    with pytest.raises(GeometryError, match="empty"):
        bounding_box(EMPTY)


# -- dimension, boundedness


def test_dimensions_of_degenerate_polytopes() -> None:
    wanted = {EMPTY: -1, POINT: 0, PINCHED: 0, FLAT: 2, SPACE: 2, QUADRANT: 2, STRIP: 2, INTERVAL: 1, CLUTTERED: 2}
    assert {p: dimension(p) for p in wanted} == wanted


def test_an_affine_hull_knows_its_equalities_and_proves_them() -> None:
    tilted = Polytope.of([[1.0, 1.0, 1.0], [-2.0, -2.0, -2.0]], [1.0, -2.0]) & Polytope.box([0] * 3, [1] * 3)
    hull = affine_hull(tilted)
    assert hull.dimension == 2
    assert hull.equalities.tolist() == [0, 1]
    assert (hull.multipliers[hull.equalities] > 0).all()
    assert (hull.multipliers @ tilted.matrix).abs().max() < CLOSE
    assert abs(float(hull.multipliers @ tilted.bound)) < CLOSE
    assert (hull.basis.T @ hull.basis - torch.eye(2)).abs().max() < 1e-12
    assert tilted.slack(hull.point)[2:].min() > 0.1  # well inside the relative interior
    assert tilted.slack(hull.point)[:2].abs().max() < 1e-12


def test_equalities_that_only_show_within_a_flat_are_found_and_proven() -> None:
    # x = 0 by two rows; within that, y <= x and y >= 0 leave y = 0; within that, z lies between y and x
    steps = [[1.0, 0, 0], [-1, 0, 0], [-1, 1, 0], [0, -1, 0], [0, 1, -1], [-1, 0, 1], [1, 1, 1]]
    p = Polytope.of(steps, [0, 0, 0, 0, 0, 0, 5])
    hull = affine_hull(p)
    assert hull.dimension == 0
    assert hull.equalities.tolist() == [0, 1, 2, 3, 4, 5]
    proof = hull.multipliers
    assert (proof[:6] > 0).all()
    assert proof[6] == 0
    assert (proof @ p.matrix).abs().max() < CLOSE


@st.composite
def flat_polytopes(draw: st.DrawFn) -> tuple[Polytope, torch.Tensor]:
    """Integer rows that hold at the origin, most with equality: {x : A x <= b}, b >= 0, within a drawn flat through it."""
    dim, numbers = draw(st.integers(1, 4)), st.integers(-2, 2)
    row = st.lists(numbers, min_size=dim, max_size=dim)
    flat = torch.tensor(draw(st.lists(row, min_size=1, max_size=3)), dtype=torch.float64)
    mixes = draw(st.lists(st.lists(numbers, min_size=len(flat), max_size=len(flat)), max_size=3))
    spanned = torch.tensor(mixes, dtype=torch.float64).reshape(-1, len(flat)) @ flat
    cuts = torch.tensor(draw(st.lists(row, max_size=3)), dtype=torch.float64).reshape(-1, dim)
    sides = draw(st.lists(st.integers(0, 1), min_size=len(cuts), max_size=len(cuts)))
    p = Polytope.of(torch.cat([flat, -flat, spanned, cuts]), [0.0] * (2 * len(flat) + len(spanned)) + [float(v) for v in sides])
    shift = torch.tensor(draw(st.lists(numbers, min_size=dim, max_size=dim)), dtype=torch.float64)
    return Polytope.of(p.matrix, p.bound + p.matrix @ shift), shift


@settings(max_examples=80, deadline=None)
@given(flat_polytopes())
def test_the_multipliers_of_an_affine_hull_are_positive_on_its_equalities_and_nowhere_else(
    drawn: tuple[Polytope, torch.Tensor],
) -> None:
    p, inside = drawn
    hull = affine_hull(p)
    named = torch.zeros(len(p), dtype=torch.bool)
    named[hull.equalities] = True
    named &= p.matrix.any(1)
    y = torch.zeros(len(p)).double() if hull.multipliers is None else hull.multipliers
    assert torch.equal(y > 0, named)
    assert (y @ p.matrix).abs().max() <= CLOSE * max(1.0, float(y.sum()))
    assert abs(float(y @ p.slack(inside))) <= CLOSE * max(1.0, float(y.sum()))


def test_a_thin_polytope_is_not_a_flat_one() -> None:
    assert dimension(Polytope.box([0, 0], [1, 1e-6])) == 2
    assert dimension(Polytope.box([0, 1], [1, 1 + 1e-12])) == 1


@pytest.mark.parametrize(
    ("low", "high"),
    [([1e8, 1e8], [1e8 + 0.125, 1e8 + 0.125]), ([0.0, 0.0], [1e5, 1e-4])],
    ids=["far away", "long"],
)
def test_small_and_thin_polytopes_far_away_are_full(low: list[float], high: list[float]) -> None:
    p = Polytope.box(low, high)
    sides = [b - a for a, b in zip(low, high, strict=True)]
    assert dimension(p) == 2
    assert chebyshev_ball(p).radius == pytest.approx(min(sides) / 2, rel=1e-4)  # rounding of 1e8 is 1e-8
    assert volume(p).value == pytest.approx(math.prod(sides), rel=1e-4)
    assert abs(volume(p).value - math.prod(sides)) <= volume(p).error
    assert len(vertices(p)) == 4


def test_what_counts_as_flat_says_how_much_volume_rounding_may_hide() -> None:
    thin = Polytope.box([0.0, 1.0], [1.0, 1.0 + 1e-12])
    for method in ("exact", "monte_carlo"):
        assert volume(thin, method=method).value == 0.0
        assert 1e-12 < volume(thin, method=method).error < 1e-8
    assert volume(EMPTY).error == 0.0
    beyond_the_solver = Polytope.box([-1e7, 3.0], [1e7, 3.0 + 2.0**-20])
    assert abs(volume(beyond_the_solver).value - 2e7 * 2.0**-20) <= volume(beyond_the_solver).error
    assert volume(Polytope.box([0.0, 0.0], [math.inf, 0.0])).error == math.inf


def test_boundedness_has_a_certificate_either_way() -> None:
    for p in (Polytope.simplex(4), Polytope.cross_polytope(3), PINCHED, random_cuts(3, 4, seed=1), INTERVAL):
        found = is_bounded(p)
        assert found.answer is True
        assert (found.multipliers >= 0).all()
        assert (found.multipliers @ p.matrix).abs().max() < CLOSE
        assert torch.linalg.matrix_rank(p.matrix[found.multipliers > 0]) == p.dim
    for p in (SPACE, QUADRANT, STRIP, Polytope.of([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]], [1, 1, 1])):
        found = is_bounded(p)
        assert found.answer is False
        assert torch.linalg.vector_norm(found.ray) == pytest.approx(1.0)
        assert p.matrix.shape[0] == 0 or (p.matrix @ found.ray).max() <= CLOSE


def test_the_empty_polytope_is_bounded_whatever_its_rows() -> None:
    found = is_bounded(EMPTY)
    assert found.answer is True
    assert float(found.multipliers @ EMPTY.bound) < 0


# -- centres


def test_analytic_centres_in_closed_form() -> None:
    assert analytic_center(Polytope.box([0, 0], [2, 8])).tolist() == pytest.approx([1, 4])
    assert analytic_center(Polytope.simplex(4)).tolist() == pytest.approx([0.2] * 4)
    assert analytic_center(Polytope.cross_polytope(3)).abs().max() < 1e-7
    repeated = Polytope.of([[1.0], [1.0], [-1.0]], [3.0, 3.0, 0.0])  # x (3 - x)^2 is greatest at 1
    assert analytic_center(repeated).tolist() == pytest.approx([1.0])


@pytest.mark.parametrize("start", [[100.0, -3.0], [0.5, 0.5], [1.0, 1.0]], ids=["outside", "inside", "at a corner"])
def test_the_start_does_not_matter(start: list[float]) -> None:
    assert analytic_center(CLUTTERED, start=torch.tensor(start)).tolist() == pytest.approx(
        analytic_center(CLUTTERED).tolist(), abs=1e-7
    )


def test_the_centre_of_a_far_thin_box_is_inside() -> None:
    p = Polytope.box([1e6, 1e6], [1e6 + 1e-4, 1e6 + 1])
    assert (p.slack(analytic_center(p)) > 4.9e-5).all()


def test_at_the_centre_of_many_rows_the_barrier_is_level() -> None:
    generator = torch.Generator().manual_seed(0)
    cuts = torch.randn(80, 40, generator=generator).double()
    p = Polytope.box([0.0] * 40, [1.0] * 40) & Polytope.of(cuts, cuts.sum(1) / 2 + 0.1)
    center = analytic_center(p)
    pull = p.matrix / p.slack(center)[:, None]
    assert torch.linalg.vector_norm(pull.sum(0)) < 1e-6 * torch.linalg.vector_norm(pull)


@pytest.mark.parametrize("p", [EMPTY, POINT, FLAT, SPACE, QUADRANT, STRIP, Polytope.of([[0.0], [1.0], [-1.0]], [-1.0, 1, 1])])
def test_what_has_no_centre_is_refused_with_advice(p: Polytope) -> None:
    with pytest.raises(GeometryError, match="intersect with a box"):
        analytic_center(p)


# -- corners, volume


@pytest.mark.parametrize(("dim", "rows"), [(1, 3), (2, 6), (3, 6), (4, 4), (5, 2)])
def test_vertices_and_volume_of_random_cuts_are_those_of_exhaustive_enumeration(dim: int, rows: int) -> None:
    p = random_cuts(dim, rows, seed=dim)
    matrix, bound = rational(p)
    assert same_points(vertices(p), tensor(polytope_vertices(matrix, bound)))
    found, wanted = volume(p), float(polytope_volume(matrix, bound))
    assert found.value == pytest.approx(wanted, rel=1e-10)
    assert abs(found.value - wanted) <= found.error


@pytest.mark.parametrize("dim", range(1, 7))
def test_volumes_of_the_standard_bodies(dim: int) -> None:
    assert volume(Polytope.box([-1] * dim, [2] * dim)).value == pytest.approx(3.0**dim)
    assert volume(Polytope.simplex(dim)).value == pytest.approx(1 / math.factorial(dim))
    assert volume(Polytope.cross_polytope(dim)).value == pytest.approx(2**dim / math.factorial(dim))


def test_vertices_of_the_standard_bodies_come_once() -> None:
    corners = tensor(itertools.product([0, 1], repeat=4))
    assert same_points(vertices(Polytope.box([0] * 4, [1] * 4)), corners)
    assert same_points(vertices(Polytope.cross_polytope(4)), torch.cat([torch.eye(4), -torch.eye(4)]).double())
    assert same_points(vertices(CLUTTERED), tensor(itertools.product([0, 1], repeat=2)))


def test_vertices_of_flat_thin_and_single_point_polytopes() -> None:
    assert same_points(vertices(FLAT), tensor([(0, 1, 2), (0, 1, 3), (2, 1, 2), (2, 1, 3)]))
    assert vertices(POINT).tolist() == [[1.0, 2.0]]
    assert vertices(PINCHED).abs().max() < CLOSE
    thin = vertices(Polytope.box([0, 0], [1e-5, 1]))
    assert sorted(thin[:, 0].tolist()) == pytest.approx([0, 0, 1e-5, 1e-5], abs=1e-13)


def test_unbounded_polytopes_have_vertices_and_rays() -> None:
    half_strip = Polytope.box([0, 0], [math.inf, 1])
    assert same_points(vertices(half_strip), tensor([(0, 0), (0, 1)]))
    assert same_points(extreme_rays(half_strip), tensor([(1, 0)]))
    assert same_points(extreme_rays(QUADRANT), tensor([(1, 0), (0, 1)]))
    assert same_points(extreme_rays(Polytope.of([[-1.0]], [0.0])), tensor([(1,)]))
    assert extreme_rays(POINT).shape == (0, 2)
    icecream = Polytope.of([[1, 0, -1], [-1, 0, -1], [0, 1, -1], [0, -1, -1]], [0, 0, 0, 0])
    wanted = tensor(itertools.product([1, -1], [1, -1], [1])) / math.sqrt(3)
    assert same_points(extreme_rays(icecream), wanted)
    assert same_points(vertices(icecream), torch.zeros(1, 3).double())


def test_a_polytope_with_a_line_has_no_vertices() -> None:
    for p in (STRIP, SPACE):
        assert vertices(p).shape == (0, 2)
        with pytest.raises(GeometryError, match="line"):
            extreme_rays(p)


@pytest.mark.parametrize(("dim", "rank"), [(2, 1), (3, 1), (3, 2), (4, 3)])
def test_lines_in_any_direction_leave_no_vertices(dim: int, rank: int) -> None:
    generator = torch.Generator().manual_seed(dim + 10 * rank)
    for _ in range(20):
        directions = torch.randn(rank, dim, generator=generator, dtype=torch.float64)
        rows = torch.randn(3 * rank, rank, generator=generator, dtype=torch.float64) @ directions
        p = Polytope.of(torch.cat([rows, -rows]), torch.ones(6 * rank))
        along = lineality(p)
        assert along.shape == (dim, dim - rank)
        assert (p.matrix @ along).abs().max() < 1e-12
        assert vertices(p).shape == (0, dim)
        with pytest.raises(GeometryError, match="contains a line"):
            extreme_rays(p)
    assert lineality(SPACE).shape == (2, 2)
    assert lineality(QUADRANT).shape == (2, 0)


@pytest.mark.parametrize("sides", [[1e6, 1e-3], [1.0, 1.5e-9], [1e8, 1.0], [1e-8, 1e-8]])
def test_boxes_far_longer_than_wide_keep_their_corners(sides: list[float]) -> None:
    p = Polytope.box([0.0, 0.0], sides)
    wanted = torch.tensor(list(itertools.product(*((0.0, s) for s in sides))), dtype=torch.float64)
    assert same_points(vertices(p) / torch.tensor(sides), wanted / torch.tensor(sides))
    assert len(extreme_rays(p)) == 0
    assert volume(p).value == pytest.approx(math.prod(sides))


@pytest.mark.parametrize("thickness", [1e-3, 1e-7, 1e-8])
def test_slabs_that_no_axis_meets_squarely_keep_their_corners(thickness: float) -> None:
    turn, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))
    box = Polytope.box([0.0, 0.0, 0.0], [1.0, 1.0, thickness])
    slab = Polytope.of(box.matrix @ turn.T, box.bound)
    assert same_points(vertices(slab) @ turn / torch.tensor([1, 1, thickness]), tensor(itertools.product((0, 1), repeat=3)))
    assert volume(slab).value == pytest.approx(thickness, rel=1e-5)  # a thickness of 1e-8 is known to 1e-16
    assert slab.contains(sample(slab, 8).points, tol=1e-12).all()


@pytest.mark.parametrize("width_", [1e-3, 1.0, 1e6])
def test_half_strips_of_any_width_have_two_vertices_and_a_ray(width_: float) -> None:
    p = Polytope.box([0.0, 0.0], [math.inf, width_])
    assert same_points(vertices(p) / width_, tensor([[0, 0], [0, 1]]))
    assert extreme_rays(p).tolist() == [pytest.approx([1.0, 0.0])]


def test_volumes_without_interior_or_without_end() -> None:
    assert [volume(p).value for p in (EMPTY, POINT, FLAT)] == [0.0, 0.0, 0.0]
    assert [volume(p).value for p in (SPACE, QUADRANT, STRIP)] == [math.inf] * 3
    assert volume(FLAT, method="monte_carlo").value == 0.0


def test_beyond_its_limits_the_exact_volume_names_the_way_out() -> None:
    with pytest.raises(GeometryError, match=r"dimension 7 .*monte_carlo"):
        volume(Polytope.box([0] * 8, [1] * 8))
    with pytest.raises(GeometryError, match="remove redundant rows"):
        vertices(Polytope.box([0] * 12, [1] * 12))
    with pytest.raises(InputError, match="method"):
        volume(FLAT, method="guess")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="at least 2"):
        volume(FLAT, samples=1)
    with pytest.raises(GeometryError, match="empty"):
        vertices(EMPTY)


@pytest.mark.parametrize(
    ("p", "wanted"),
    [(Polytope.simplex(4), 1 / 24), (Polytope.box([0] * 5, [1, 2, 3, 1e-3, 1]), 6e-3), (CLUTTERED, 1.0), (INTERVAL, 4.0)],
    ids=["simplex", "thin box", "cluttered square", "interval"],
)
def test_monte_carlo_volumes_are_within_their_error(p: Polytope, wanted: float) -> None:
    found = volume(p, method="monte_carlo", samples=32, seed=1)
    assert found.method == "monte_carlo"
    assert 0 < found.error < 0.2 * wanted
    assert abs(found.value - wanted) < 4 * found.error  # four standard errors, at a fixed seed


def test_a_hull_that_qhull_refuses_is_a_geometry_error() -> None:
    with pytest.raises(GeometryError, match="Qhull gave up"):
        _hull.hull_size(np.zeros((5, 3)))


# -- samples


@pytest.mark.parametrize("dim", [2, 10])
def test_samples_of_a_simplex_have_the_moments_of_dirichlet(dim: int) -> None:
    points = sample(Polytope.simplex(dim), 4096, seed=dim).points
    assert Polytope.simplex(dim).contains(points, tol=1e-12).all()
    mean, n = 1 / (dim + 1), dim + 1
    variance = mean * (1 - mean) / (n + 1)
    covariance = torch.cov(points.T)
    # four standard errors for as many as effectively 2000 independent points
    assert (points.mean(0) - mean).abs().max() < 4 * math.sqrt(variance / 2000)
    assert (covariance.diagonal() / variance - 1).abs().max() < 0.15
    off = covariance[~torch.eye(dim, dtype=torch.bool)]
    assert (off + mean * mean / (n + 1)).abs().max() < 4 * variance / math.sqrt(2000)


def test_samples_of_a_thin_box_in_dimension_fifty_fill_it() -> None:
    high = torch.ones(50, dtype=torch.float64)
    high[::2] = 100
    points = sample(Polytope.box(torch.zeros(50), high), 4096, seed=0).points
    ratios = points.var(0) / (high**2 / 12)
    assert ratios.min() > 0.9
    assert ratios.max() < 1.1
    assert (points.mean(0) / high - 0.5).abs().max() < 0.02


def _uniform(kind: str, dim: int, count: int) -> tuple[Polytope, torch.Tensor]:
    """Return a polytope and independent uniform points of it, by the book: scaled uniforms, or ratios of exponentials."""
    drawn = torch.rand(count, dim + 1, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    if kind == "simplex":
        gaps = -drawn.log()
        return Polytope.simplex(dim), gaps[:, :dim] / gaps.sum(1, keepdim=True)
    sides = torch.tensor([1.0, 0.01] * dim, dtype=torch.float64)[:dim] if kind == "thin box" else torch.ones(dim).double()
    return Polytope.box(torch.zeros(dim), sides), drawn[:, :dim] * sides


@pytest.mark.parametrize("dim", [2, 5])
@pytest.mark.parametrize("kind", ["box", "thin box", "simplex"])
def test_samples_cannot_be_told_from_independent_uniform_ones(kind: str, dim: int) -> None:
    p, wanted = _uniform(kind, dim, 1000)
    found = sample(p, 1000, seed=3, burn_in=200, thinning=60, chains=500).points
    joined, generator = torch.cat([found, wanted]) / wanted.std(0), torch.Generator().manual_seed(5)
    distances = torch.cdist(joined, joined)
    energy = _energy(distances, torch.arange(2000))
    shuffled = [_energy(distances, torch.randperm(2000, generator=generator)) for _ in range(100)]
    # the energy statistic lies among those of random relabellings: a permutation test at the level 1/50
    assert sum(s >= energy for s in shuffled) >= 2


def _energy(distances: torch.Tensor, order: torch.Tensor) -> float:
    d = distances[order][:, order]
    return float(2 * d[:1000, 1000:].mean() - d[:1000, :1000].mean() - d[1000:, 1000:].mean())


def test_samples_of_each_half_are_as_many_as_its_share() -> None:
    p = random_cuts(3, 6, seed=0)
    points = sample(p, 4000, seed=1).points
    for row in torch.eye(3, dtype=torch.float64):
        half = Polytope(p.matrix, p.bound, p.origins) & Polytope.of(row[None].tolist(), [0.5])
        share = volume(half).value / volume(p).value
        assert float((points @ row <= 0.5).double().mean()) == pytest.approx(share, abs=4 * 0.5 / math.sqrt(2000))


def test_samples_of_a_flat_polytope_lie_in_it() -> None:
    points = sample(FLAT, 2000, seed=0).points
    assert (points[:, 1] - 1).abs().max() < 1e-12
    assert FLAT.contains(points, tol=1e-12).all()
    assert (points.var(0)[[0, 2]] * 12).tolist() == pytest.approx([4, 1], rel=0.15)


def test_samples_of_a_point_are_the_point() -> None:
    assert sample(POINT, 3).points.tolist() == [[1.0, 2.0]] * 3


def test_samples_are_those_of_the_seed_and_tell_how_they_were_made() -> None:
    first, again = (sample(CLUTTERED, 7, seed=5, thinning=3, burn_in=11, chains=2) for _ in range(2))
    assert torch.equal(first.points, again.points)
    assert not torch.equal(first.points, sample(CLUTTERED, 7, seed=6, thinning=3, burn_in=11, chains=2).points)
    assert (first.points.shape, first.thinning, first.burn_in, first.chains) == ((7, 2), 3, 11, 2)
    generator = torch.Generator().manual_seed(5)
    assert torch.equal(first.points, sample(CLUTTERED, 7, seed=generator, thinning=3, burn_in=11, chains=2).points)


def test_what_cannot_be_sampled_is_refused() -> None:
    for p in (SPACE, QUADRANT, STRIP):
        with pytest.raises(GeometryError, match="unbounded"):
            sample(p, 2)
    with pytest.raises(GeometryError, match="empty"):
        sample(EMPTY, 2)
    for bad in (1.5, True, None):
        with pytest.raises(InputError, match="sample: n: expected a whole number"):
            sample(POINT, bad)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"expected an int or a torch\.Generator; got None"):
        sample(Polytope.simplex(2), 2, seed=None)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="sample: n: expected a whole number of at least 1"):
        sample(POINT, 0)


# -- against the oracle


@st.composite
def small_polytopes(draw: st.DrawFn) -> Polytope:
    """Integer rows within a box, often empty, flat or a point: opposite pairs and zeros are likely."""
    dim = draw(st.integers(1, 3))
    rows = draw(st.lists(st.lists(st.integers(-2, 2), min_size=dim + 1, max_size=dim + 1), max_size=4))
    if rows and draw(st.booleans()):
        rows.append([-v for v in draw(st.sampled_from(rows))])  # an equality
    cut = Polytope.of(torch.tensor(rows).reshape(-1, dim + 1)[:, :dim], torch.tensor(rows).reshape(-1, dim + 1)[:, dim])
    return Polytope.box([-3] * dim, [3] * dim) & cut


@settings(max_examples=60, deadline=None)
@given(small_polytopes(), st.lists(st.integers(-3, 3), min_size=3, max_size=3))
def test_emptiness_dimension_vertices_and_support_are_the_oracles(p: Polytope, c: list[int]) -> None:
    corners = polytope_vertices(*rational(p))
    assert is_empty(p).answer is (not corners)
    assert dimension(p) == hull_dimension(corners)
    found = support(p, c[: p.dim])
    if corners:
        assert same_points(vertices(p), tensor(corners))
        assert found.value == pytest.approx(float(max(dot([Fraction(v) for v in c[: p.dim]], x) for x in corners)), abs=1e-8)
    else:
        assert found.status is Status.INFEASIBLE


def test_a_region_answers_as_its_polytope_does() -> None:
    here = region(dense([([[1.0, 0.0], [-1.0, 0.0]], [0.0, 2.0]), ([[1.0, 1.0]], None)]), torch.tensor([0.5, 0.0]))
    boxed = region(here.network, here.point, domain=Polytope.box([-5.0, -1.0], [5.0, 1.0]))
    assert lineality(here).shape == (2, 1)
    assert not is_bounded(here).answer
    assert volume(boxed).value == pytest.approx(4.0)
    assert chebyshev_ball(boxed).radius == pytest.approx(1.0)
    assert boxed.polytope.contains(sample(boxed, 5).points).all()
    with pytest.raises(InputError, match="volume: expected a Polytope or a Region; got int"):
        volume(3)  # type: ignore[arg-type]


def test_errors_are_headed_by_what_was_asked() -> None:
    for name, ask in {"vertices": vertices, "extreme_rays": extreme_rays, "affine_hull": affine_hull, "facets": facets}.items():
        with pytest.raises(GeometryError, match=f"^{name}: expected a polytope with points"):
            ask(EMPTY)
    with pytest.raises(GeometryError, match=r"^sample: expected a polytope with points"):
        sample(EMPTY, 2)


def test_answers_describe_themselves_in_plain_types() -> None:
    answers = [
        is_empty(EMPTY),
        chebyshev_ball(CLUTTERED),
        support(STRIP, [0, 1]),
        affine_hull(FLAT),
        is_bounded(STRIP),
        volume(INTERVAL),
        sample(POINT, 2),
    ]
    for answer in answers:
        assert answer.summary()
        assert json.loads(json.dumps(answer.to_dict()))
    assert support(STRIP, [0, 1]).to_dict()["status"] == "unbounded"
