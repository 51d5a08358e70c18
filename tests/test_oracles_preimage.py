"""The oracle of preimages against what is known by hand, and against the network at single points."""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oracles import Dense, Kink, Step, box, cells
from oracles_preimage import (
    Part,
    Rows,
    argmax_rows,
    box_rows,
    evaluate,
    halfspace_rows,
    in_target,
    maximal,
    measure,
    point_rows,
    preimage_cells,
    within,
)
from strategies import continuous_program

RELU = ([0.0], [0.0, 1.0], [0.0, 0.0])
FAR = 2.0**20


def layer(weight: list[list[float]], bias: list[float], out: list[list[float]], shift: list[float]) -> list[Step]:
    return [Dense(0, weight, bias), Kink(1, *RELU), Dense(2, out, shift)]


def sizes(parts: list[Part]) -> Counter[int]:
    return Counter(part.dimension for part in parts)


def test_the_triangles_preimage_is_the_rectangle() -> None:
    steps = layer([[1.0, -1.0], [2.0, -1.0]], [0.0, 0.0], [[1.0, -1.0]], [0.0])
    parts = maximal(preimage_cells(steps, box([-1.0, -2.0], [2.0, 1.0]), halfspace_rows([[1.0]], [-1.0])))
    assert {part.dimension for part in parts} == {2}
    assert sum(map(measure, parts)) == 3.0
    corners = [v for part in parts for v in part.vertices]
    assert (min(corners), max(corners)) == ((1, -2), (2, 1))


def test_the_kernel_of_two_dead_units_is_a_quadrant_and_no_more() -> None:
    steps = layer([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0], [[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0])
    parts = maximal(preimage_cells(steps, box([-FAR] * 2, [FAR] * 2), point_rows([0.0, 0.0]), endless=True))
    assert [(p.vertices, p.rays, p.lines, p.dimension) for p in parts] == [([(0, 0)], [(-1, 0), (0, -1)], [], 2)]
    assert measure(parts[0]) == math.inf


def test_a_hyperplane_within_a_strip_has_a_line_and_its_length_is_measured_where_it_ends() -> None:
    steps = layer([[1.0, 1.0], [-1.0, -1.0]], [0.0, 0.0], [[1.0, 1.0]], [0.0])  # |x1 + x2|
    plane = preimage_cells(steps, box([-FAR] * 2, [FAR] * 2), point_rows([0.0]), endless=True)
    assert [(p.vertices, p.rays, p.lines, p.dimension) for p in maximal(plane)] == [([(0, 0)], [], [(-1, 1)], 1)]
    square = maximal(preimage_cells(steps, box([-1.0] * 2, [1.0] * 2), point_rows([0.0])))
    assert sizes(square) == {1: 1}
    assert math.isclose(measure(square[0]), 2 * math.sqrt(2.0), rel_tol=1e-15)


def test_an_isolated_point_belongs_to_all_cells_around_it_and_is_kept_once() -> None:
    steps = layer([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]], [0.0] * 4, [[1.0] * 4], [0.0])  # |x1| + |x2|
    parts = preimage_cells(steps, box([-1.0] * 2, [1.0] * 2), halfspace_rows([[1.0]], [0.0]))
    assert len(parts) == 4
    assert [(p.vertices, p.dimension, measure(p)) for p in maximal(parts)] == [([(0, 0)], 0, 1.0)]


def test_what_is_never_reached_has_no_preimage() -> None:
    steps = layer([[1.0]], [0.0], [[1.0]], [0.5])
    assert preimage_cells(steps, box([-1.0], [1.0]), point_rows([0.25])) == []


def test_a_triangle_in_space_is_measured_in_its_plane() -> None:
    steps: list[Step] = [Dense(0, [[1.0, 1.0, 1.0]], [0.0])]
    parts = preimage_cells(steps, box([0.0] * 3, [1.0] * 3), point_rows([1.0]))
    assert sizes(parts) == {2: 1}
    assert math.isclose(measure(parts[0]), math.sqrt(3.0) / 2, rel_tol=1e-15)


QUARTER = st.integers(-8, 8).map(lambda k: Fraction(k, 8))


@pytest.mark.parametrize("dim", [1, 2, 3])
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_points_lie_in_a_part_exactly_when_the_network_sends_them_into_the_target(dim: int, data: st.DataObject) -> None:
    steps = data.draw(continuous_program(dim, 3))
    domain = box([-1.0] * dim, [1.0] * dim)
    points = data.draw(st.lists(st.lists(QUARTER, min_size=dim, max_size=dim), min_size=1, max_size=6))
    image = evaluate(steps, points[0])
    targets: list[Rows] = [point_rows(image), box_rows(image, [v + Fraction(1, 2) for v in image])]
    for target in targets:
        parts = preimage_cells(steps, domain, target)
        for kept in (parts, maximal(parts)):
            for point in points:
                assert in_target(steps, point, target) == any(within(part.rows, point) for part in kept)
            assert all(in_target(steps, vertex, target) for part in kept for vertex in part.vertices)


@pytest.mark.parametrize("dim", [1, 2, 3])
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_full_parts_of_the_largest_outputs_add_up_to_the_domain_where_none_tie(dim: int, data: st.DataObject) -> None:
    steps = data.draw(continuous_program(dim, 3))
    domain = box([-1.0] * dim, [1.0] * dim)
    outputs = len(evaluate(steps, [Fraction(0)] * dim))
    parts = [preimage_cells(steps, domain, argmax_rows(k, outputs)) for k in range(outputs)]
    total = sum(measure(p) for of_one in parts for p in of_one if p.dimension == dim)
    assert total >= 2.0**dim * (1 - 1e-12)  # ties on whole cells count for all that tie
    seen = {p.pieces for of_one in parts for p in of_one if p.dimension == dim}
    assert seen == {cell.pieces for cell in cells(steps, domain)}
    everything = preimage_cells(steps, domain, Rows([], []))
    assert math.isclose(sum(map(measure, everything)), 2.0**dim, rel_tol=1e-12)
