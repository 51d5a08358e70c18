"""Exact preimages, held against rational arithmetic, sets known by hand, and the networks themselves."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from oracles import Dense, Kink, Step, Winner, box
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
)
from polylens import (
    Argmax,
    Box,
    Gaussian,
    GaussianNoise,
    Merged,
    Network,
    OutputSet,
    Plane,
    Polygon,
    Polytope,
    Preimage,
    Segment,
    Slice,
    Softmax,
    WholeSpace,
    dense,
    load,
    merge,
    preimage,
    zoo,
)
from polylens.errors import GeometryError, InputError, ShapeError, SmoothError
from strategies import INTEGERS, QUARTERS, continuous_program, program
from test_subdivision import network_of

FAR = 2.0**24  # a box in which hyperplanes of small weights meet
ROUNDING = 1e-9  # of coordinates and outputs of order 1: vertices are solutions of small systems with condition below 1e5


def tensor(rows: Sequence[Any]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def layer(weight: Sequence[Sequence[float]], bias: Sequence[float], out: Sequence[Sequence[float]]) -> list[Step]:
    """Return the steps of one hidden layer of ReLU units, and sums behind it."""
    return [Dense(0, weight, bias), Kink(1, [0.0], [0.0, 1.0], [0.0, 0.0]), Dense(2, out, [0.0] * len(out))]


def below(rows: Rows) -> OutputSet:
    """Return a target of the oracle as one of the library."""
    columns = len(rows.matrix[0])
    matrix = tensor([[float(v) for v in row] for row in rows.matrix]).reshape(-1, columns)
    return OutputSet.halfspaces(matrix, tensor([float(b) for b in rows.bound]))


# -- against rational arithmetic

Corners = tuple[tuple[float, ...], ...]


def corners(points: Any) -> Corners:
    """Return points in an order of their own, rounded so that rounding does not tell equal ones apart."""
    return tuple(sorted(tuple(round(float(v), 7) + 0.0 for v in point) for point in points))


def directions(rays: Any) -> Corners:
    """Return rays as `corners`, their largest entry 1 in size."""
    ways = [[float(v) for v in ray] for ray in rays]
    return corners([[v / max(map(abs, way)) for v in way] for way in ways])


def shapes(found: Preimage | Merged) -> Counter[tuple[int, Corners, Corners]]:
    """Return dimension, vertices and rays of the pieces."""
    return Counter((p.dimension, corners(p.vertices.tolist()), directions(p.rays.tolist())) for p in found)


def shapes_of(parts: Sequence[Part]) -> Counter[tuple[int, Corners, Corners]]:
    return Counter((p.dimension, corners(p.vertices), directions(p.rays)) for p in parts)


def agrees(steps: Sequence[Step], low: Sequence[float], high: Sequence[float], target: Rows) -> None:
    """The pieces are the maximal parts of closed cells: as many of every dimension, of their volumes, at their corners."""
    want = maximal(preimage_cells(steps, box(low, high), target))
    found = preimage(network_of(steps, len(low)), below(target), Box(low, high))
    assert found.complete
    assert found.is_empty is (not want)
    assert Counter(map(int, found.dimensions)) == Counter(p.dimension for p in want)
    for dimension in range(len(low) + 1):
        exact = sum(measure(p) for p in want if p.dimension == dimension)
        total = float(found.volumes[found.dimensions == dimension].sum())
        assert math.isclose(total, exact, rel_tol=ROUNDING, abs_tol=ROUNDING), dimension
    assert shapes(found) == shapes_of(want)
    assert math.isclose(found.volume, sum(measure(p) for p in want if p.dimension == len(low)), abs_tol=ROUNDING)
    if want:
        assert found.witness is not None
        assert meets(found.network(found.witness[None]), target)


def meets(outputs: Tensor, target: Rows) -> bool:
    """Return whether outputs meet the rows of a target, but for rounding."""
    matrix = tensor([[float(v) for v in row] for row in target.matrix])
    excess = outputs.double().flatten(1) @ matrix.T - tensor([float(b) for b in target.bound])
    return bool((excess <= ROUNDING * (1 + matrix.abs().sum(1))).all())


@st.composite
def target_of(draw: st.DrawFn, steps: list[Step], dim: int) -> Rows:
    """Draw a target that touches or holds the output at a dyadic point: a point, a box, halfspaces, or ties of the largest."""
    at = draw(st.lists(st.integers(-4, 4).map(lambda k: Fraction(k, 4)), min_size=dim, max_size=dim))
    image = evaluate(steps, at)
    kind = draw(st.sampled_from(["point", "box", "halfspaces", "halfspace", "argmax"]))
    if kind == "point":
        return point_rows(image)
    if kind == "box":
        room = [draw(st.sampled_from([Fraction(0), Fraction(1, 2), Fraction(2)])) for _ in image]
        return box_rows(image, [y + r for y, r in zip(image, room, strict=True)])
    if kind == "argmax" and len(image) > 1:
        return argmax_rows(draw(st.integers(0, len(image) - 1)), len(image))
    rows = [[draw(st.one_of(INTEGERS, QUARTERS)) for _ in image] for _ in range(2 if kind == "halfspaces" else 1)]
    bounds = [sum((Fraction(w) * y for w, y in zip(row, image, strict=True)), Fraction(0)) for row in rows]
    return halfspace_rows(rows, [float(b) for b in bounds])


@st.composite
def question(draw: st.DrawFn, dim: int, units: int) -> tuple[list[Step], Rows]:
    steps = draw(continuous_program(dim, units))
    return steps, draw(target_of(steps, dim))


@settings(max_examples=80, deadline=None)
@given(asked=question(1, 4))
def test_pieces_on_a_line_are_those_of_rational_arithmetic(asked: tuple[list[Step], Rows]) -> None:
    agrees(asked[0], [-2.0], [2.0], asked[1])


@settings(max_examples=80, deadline=None)
@given(asked=question(2, 4))
def test_pieces_in_the_plane_are_those_of_rational_arithmetic(asked: tuple[list[Step], Rows]) -> None:
    agrees(asked[0], [-1.0, -1.5], [1.0, 2.0], asked[1])


@settings(max_examples=30, deadline=None)
@given(asked=question(3, 3))
def test_pieces_in_space_are_those_of_rational_arithmetic(asked: tuple[list[Step], Rows]) -> None:
    agrees(asked[0], [-1.0] * 3, [1.0] * 3, asked[1])


@settings(max_examples=40, deadline=None)
@given(steps=program(2, 4), data=st.data())
def test_jumps_do_not_change_the_full_dimensional_volume(steps: list[Step], data: st.DataObject) -> None:
    target = data.draw(target_of(steps, 2))
    exact = sum(measure(p) for p in preimage_cells(steps, box([-1.0] * 2, [1.0] * 2), target) if p.dimension == 2)
    found = preimage(network_of(steps, 2), below(target), Box([-1.0] * 2, [1.0] * 2))
    assert math.isclose(found.volume, exact, abs_tol=ROUNDING)


@settings(max_examples=40, deadline=None)
@given(
    asked=question(2, 3), points=st.lists(st.tuples(*[st.integers(-8, 8).map(lambda k: k / 8)] * 2), min_size=1, max_size=20)
)
def test_a_preimage_contains_the_points_that_rational_arithmetic_sends_into_the_target(
    asked: tuple[list[Step], Rows], points: list[tuple[float, float]]
) -> None:
    steps, target = asked
    found = preimage(network_of(steps, 2), below(target), Box([-1.0] * 2, [1.0] * 2))
    assert found.contains(tensor(points)).tolist() == [in_target(steps, point, target) for point in points]


def unbiased(data: st.DataObject, sizes: Sequence[int]) -> list[Step]:
    """Draw a chain without biases, its last layer a sum."""
    steps: list[Step] = []
    for inputs, outputs in itertools.pairwise(sizes):
        weight = [[data.draw(INTEGERS) for _ in range(inputs)] for _ in range(outputs)]
        steps.append(Dense(len(steps), weight, [0.0] * outputs))
        steps.append(Kink(len(steps), [0.0], [0.0, 1.0], [0.0, 0.0]))
    return steps[:-1] if data.draw(st.booleans()) else steps


GRID = [[Fraction(i, 2), Fraction(j, 2)] for i, j in itertools.product(range(-6, 7), repeat=2)]


def is_the_kernel(steps: Sequence[Step], dim: int, points: Sequence[Sequence[Fraction]]) -> None:
    """The preimage of 0 in the whole space has the maximal cones of rational arithmetic, and their points."""
    outputs = len(evaluate(steps, [Fraction(0)] * dim))
    zero = point_rows([0.0] * outputs)
    want = maximal(preimage_cells(steps, box([-FAR] * dim, [FAR] * dim), zero, endless=True))
    found = preimage(network_of(steps, dim), 0.0, WholeSpace(dim))
    assert found.complete
    assert max(map(int, found.dimensions)) == max(p.dimension for p in want)
    assert Counter(map(int, found.dimensions)) == Counter(p.dimension for p in want)
    if not any(p.lines for p in want):  # rays of what contains a line are not unique
        assert shapes(found) == shapes_of(want)
    inside = found.contains(tensor([[float(v) for v in p] for p in points]))
    assert inside.tolist() == [in_target(steps, p, zero) for p in points]


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_kernels_of_chains_without_bias_in_the_plane_are_the_cones_of_rational_arithmetic(data: st.DataObject) -> None:
    is_the_kernel(unbiased(data, [2, 3, 3, 2]), 2, GRID)


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_kernels_of_chains_without_bias_in_space_are_the_cones_of_rational_arithmetic(data: st.DataObject) -> None:
    points = [[Fraction(v) for v in p] for p in itertools.product(range(-2, 3), repeat=3)]
    is_the_kernel(unbiased(data, [3, 3, 2]), 3, points)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_kernel_of_a_chain_of_eights_without_bias_is_that_of_rational_arithmetic(seed: int) -> None:
    random = np.random.default_rng(seed)
    steps: list[Step] = []
    for inputs in (2, 8, 8):
        steps.append(Dense(len(steps), random.standard_normal((8, inputs)).tolist(), [0.0] * 8))
        steps.append(Kink(len(steps), [0.0], [0.0, 1.0], [0.0, 0.0]))
    is_the_kernel(steps, 2, GRID)


# -- known by hand


def test_the_preimage_of_the_triangle_is_the_rectangle() -> None:
    found = preimage(zoo.triangle(), OutputSet.halfspaces([[1.0]], [-1.0]), Box([-1.0, -2.0], [2.0, 1.0]))
    assert found.is_empty is False
    assert {int(d) for d in found.dimensions} == {2}
    assert math.isclose(found.volume, 3.0, rel_tol=1e-12)
    assert math.isclose(found.fraction, 1 / 3, rel_tol=1e-12)
    x = torch.rand(1000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3 + tensor([-1.0, -2.0])
    assert torch.equal(found.contains(x), x[:, 0] >= 1)


def kernel(steps: Sequence[Step]) -> Preimage:
    """Return the preimage of 0 in the whole plane."""
    return preimage(network_of(steps, 2), 0.0, WholeSpace(2))


def test_the_kernel_of_two_units_is_the_quadrant_where_both_are_dead() -> None:
    found = kernel(layer([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0], [[1.0, 0.0], [0.0, 1.0]]))
    assert shapes(found) == {(2, ((0.0, 0.0),), ((-1.0, 0.0), (0.0, -1.0))): 1}
    assert found.volume == math.inf


def test_the_kernel_of_a_dead_network_is_the_whole_space() -> None:
    steps: list[Step] = layer([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]], [0.0] * 4, [[-1.0] * 4])
    found = kernel([*steps, Kink(3, [0.0], [0.0, 1.0], [0.0, 0.0])])
    x = 1e3 * torch.randn(500, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert bool(found.contains(x).all())
    assert set(map(int, found.dimensions)) == {2}
    assert found.volume == math.inf


def test_a_kernel_can_be_an_isolated_point() -> None:
    found = kernel(layer([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]], [-1.0, 1.0, -0.5, 0.5], [[1.0] * 4]))
    assert shapes(found) == {(0, ((1.0, 0.5),), ()): 1}
    assert found.volumes.tolist() == [1.0]  # counting measure
    assert found.witness is not None
    assert torch.allclose(found.witness, tensor([1.0, 0.5]), atol=1e-12)


def test_an_empty_kernel_is_certified() -> None:
    steps = layer([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0], [[1.0, 1.0]])
    found = kernel([*steps[:2], Dense(2, [[1.0, 1.0]], [1.0])])
    assert found.is_empty is True
    assert found.complete
    assert found.witness is None
    assert len(found) == 0
    assert found.volume == 0.0
    assert not found.contains([[0.0, 0.0], [-1.0, -1.0]]).any()


def test_a_kernel_contains_inputs_whose_output_is_the_rounding_of_its_terms() -> None:
    found = preimage(dense([([[0.1, 0.2]], [-0.3])]), 0.0, Box([0.0, 0.0], [2.0, 2.0]))
    assert float(found.network(tensor([1.0, 1.0]))) == 0.1 + 0.2 - 0.3 != 0.0
    assert bool(found.contains([1.0, 1.0]))
    assert bool(found.contains(found.sample(1000)).all())
    assert not bool(found.contains([1.0, 1.00001]))


def test_a_kernel_contains_inputs_at_which_a_hidden_unit_is_the_rounding_of_its_terms() -> None:
    found = preimage(dense([([[0.1, 0.2]], [-0.3]), ([[1.0]], None)]), 0.0, Box([1.0, 1.0], [2.0, 2.0]))
    assert bool(found.contains([1.0, 1.0]))
    assert not bool(found.contains([1.0, 1.00001]))


def test_a_kernel_can_be_a_strip_without_ends() -> None:
    found = kernel(layer([[1.0, 0.0], [-1.0, 0.0]], [-1.0, -1.0], [[1.0, 1.0]]))
    assert found.dimensions.tolist() == [2]
    assert found.volume == math.inf
    assert found.contains([[1.0, 1e6], [-1.0, -1e6], [0.5, 0.0], [1.25, 0.0]]).tolist() == [True, True, True, False]


def test_a_kernel_can_be_a_strip_with_one_end() -> None:
    found = kernel(layer([[1.0, 0.0], [-1.0, 0.0], [0.0, -1.0]], [-1.0, -1.0, 0.0], [[1.0, 1.0, 1.0]]))
    assert shapes(found) == {(2, ((-1.0, 0.0), (1.0, 0.0)), ((0.0, 1.0),)): 1}


def test_a_union_of_targets_is_counted_once() -> None:
    net = zoo.identity(2)
    square, other = OutputSet.box([0.0, 0.0], [2.0, 2.0]), OutputSet.box([1.0, 1.0], [3.0, 3.0])
    found = preimage(net, square | other, Box([-4.0, -4.0], [4.0, 4.0]))
    assert math.isclose(found.volume, 7.0, rel_tol=1e-12)
    listed = preimage(net, [square, other], Box([-4.0, -4.0], [4.0, 4.0]))
    assert math.isclose(listed.volume, 7.0, rel_tol=1e-12)
    x = found.sample(2000, seed=1)
    overlap = ((x >= 1) & (x <= 2)).all(1).double().mean()
    assert abs(float(overlap) - 1 / 7) <= 5 * math.sqrt(1 / 7 * 6 / 7 / 2000)


def test_everything_has_the_whole_domain_as_preimage() -> None:
    found = preimage(zoo.arrangement(5, 3), OutputSet.everything(1), Box([-1.0] * 3, [1.0] * 3))
    assert math.isclose(found.volume, 8.0, rel_tol=1e-12)
    assert math.isclose(found.fraction, 1.0, rel_tol=1e-12)


@pytest.mark.parametrize("target", [1.0, [1.0], tensor([1.0]), OutputSet.point([1.0]), OutputSet.box([1.0], [1.0])], ids=repr)
def test_a_point_is_given_in_many_ways(target: Any) -> None:
    found = preimage(zoo.absolute_value(), target, Box([-2.0], [2.0]))
    assert shapes(found) == {(0, ((-1.0,),), ()): 1, (0, ((1.0,),), ()): 1}


def test_a_polytope_is_a_target() -> None:
    found = preimage(zoo.absolute_value(), Polytope.box([0.5], [1.0]), Box([-2.0], [2.0]))
    assert shapes(found) == {(1, ((-1.0,), (-0.5,)), ()): 1, (1, ((0.5,), (1.0,)), ()): 1}


# -- domains

DISTANCE = layer([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]], [0.0] * 4, [[1.0] * 4])  # |x1| + |x2|
BALL = OutputSet.halfspaces([[1.0]], [1.0])


@pytest.mark.parametrize(
    ("domain", "volume", "dim"),
    [
        (Box([-2.0, -2.0], [2.0, 2.0]), 2.0, 2),
        (Box([-2.0, 0.5], [2.0, 0.5]), 1.0, 1),
        (Segment([-2.0, -2.0], [2.0, 2.0]), math.sqrt(2.0), 1),
        (Plane([0.5, 0.5], [0.5, 0.0], [0.0, 0.5]), 0.5, 2),
        (Polygon([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]]), 0.5, 2),
        (Polytope.of([[-1.0, 0.0]], [0.0]), 1.0, 2),
        (Slice(Polytope.box([-1.0], [1.0]), origin=[0.0, 0.0], basis=[[1.0], [0.5]]), 4 / 3 * math.sqrt(1.25), 1),
        (WholeSpace(2), 2.0, 2),
    ],
    ids=["box", "flat box", "segment", "plane", "polygon", "polytope", "slice", "whole space"],
)
def test_volumes_are_in_units_of_the_input_on_every_domain(domain: Any, volume: float, dim: int) -> None:
    found = preimage(network_of(DISTANCE, 2), BALL, domain)
    assert set(map(int, found.dimensions)) == {dim}
    assert math.isclose(found.volume, volume, rel_tol=1e-9)
    x = found.sample(200)
    assert x.shape == (200, 2)
    assert bool((x.abs().sum(1) <= 1 + ROUNDING).all())
    assert bool(found.contains(x).all())
    assert not bool(found.contains([[5.0, 5.0]]).any())


def test_images_keep_their_shape() -> None:
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2), torch.nn.ReLU(), torch.nn.Linear(2, 1)).double()
    with torch.no_grad():
        net[1].weight.copy_(tensor([[1.0, 1.0, 1.0, 1.0], [1.0, -1.0, 1.0, -1.0]]))
        net[1].bias.zero_()
        net[3].weight.fill_(1.0)
        net[3].bias.zero_()
    images = load(net.eval(), torch.zeros(1, 1, 2, 2, dtype=torch.float64))
    found = preimage(images, OutputSet.halfspaces([[-1.0]], [-1.0]), Box(-torch.ones(1, 2, 2), torch.ones(1, 2, 2)))
    x = found.sample(50)
    assert x.shape == (50, 1, 2, 2)
    assert bool((net(x) >= 1 - ROUNDING).all())
    assert found.witness is not None
    assert found.witness.shape == (1, 2, 2)


# -- the union property

ZOO: dict[str, tuple[Network, int]] = {
    "absolute value": (zoo.absolute_value(), 1),
    "identity 1": (zoo.identity(1), 1),
    "identity 2": (zoo.identity(2), 2),
    "identity 3": (zoo.identity(3), 3),
    "identity 4": (zoo.identity(4), 4),
    "triangle": (zoo.triangle(), 2),
    "sawtooth": (zoo.sawtooth(5), 1),
    "arrangement 1": (zoo.arrangement(6, 1), 1),
    "arrangement 2": (zoo.arrangement(12, 2), 2),
    "arrangement 3": (zoo.arrangement(9, 3), 3),
    "arrangement 4": (zoo.arrangement(7, 4), 4),
}


@pytest.mark.parametrize("name", ZOO)
def test_samples_are_sent_into_the_target_and_points_outside_are_not(name: str) -> None:
    net, dim = ZOO[name]
    domain = Box([-1.0] * dim, [1.0] * dim)
    random = torch.Generator().manual_seed(3)
    x = torch.rand(4000, dim, generator=random, dtype=torch.float64) * 2 - 1
    y = net(x).reshape(len(x), -1)
    row = torch.randn(1, y.shape[1], generator=random, dtype=torch.float64)
    bound = (y @ row.T).median(0).values
    found = preimage(net, OutputSet.halfspaces(row, bound), domain)
    samples = found.sample(500, seed=4)
    assert bool((net(samples).reshape(500, -1) @ row.T <= bound + ROUNDING).all())
    assert bool((samples.abs() <= 1).all())
    inside = found.contains(x)
    assert torch.equal(inside, (y @ row.T <= bound).flatten())
    share = float(inside.double().mean())
    assert abs(found.fraction - share) <= 5 * math.sqrt(share * (1 - share) / len(x))
    other = preimage(net, OutputSet.halfspaces(-row, -bound), domain)
    level = preimage(net, OutputSet.halfspaces(torch.cat([row, -row]), torch.cat([bound, -bound])), domain)
    total = found.volume + other.volume - level.volume  # where the map is constant on a cell the level has a volume
    assert math.isclose(total, 2.0**dim, rel_tol=1e-9)


@pytest.mark.parametrize("name", ZOO)
def test_the_preimage_of_an_image_contains_its_point(name: str) -> None:
    net, dim = ZOO[name]
    x = torch.rand(1, dim, generator=torch.Generator().manual_seed(5), dtype=torch.float64) * 2 - 1
    y = net(x)
    found = preimage(net, y.reshape(-1), Box([-1.0] * dim, [1.0] * dim))
    assert found.is_empty is False
    assert bool(found.contains(x).all())
    samples = found.sample(100, seed=6)
    assert float((net(samples).reshape(100, -1) - y.reshape(1, -1)).abs().max()) <= ROUNDING
    assert max(map(int, found.dimensions)) >= dim - y.numel()


def classes(seed: int, dim: int, units: int, outputs: int) -> Network:
    random = torch.Generator().manual_seed(seed)
    sizes = [(units, dim), (units, units), (outputs, units)]
    weights = [torch.randn(s, generator=random, dtype=torch.float64) / math.sqrt(s[1]) for s in sizes]
    return dense([(w, torch.randn(len(w), generator=random, dtype=torch.float64) / 2) for w in weights])


@pytest.mark.parametrize(("dim", "units"), [(1, 8), (2, 10), (3, 6), (4, 4)])
def test_classes_divide_the_domain_as_sampling_finds(dim: int, units: int) -> None:
    net = classes(dim, dim, units, 4)
    domain = Box([-2.0] * dim, [2.0] * dim)
    x = torch.rand(20000, dim, generator=torch.Generator().manual_seed(7), dtype=torch.float64) * 4 - 2
    winners = net(x).argmax(1)
    total = 0.0
    for k in range(4):
        found = preimage(net, Argmax(k), domain)
        total += found.volume
        share = float((winners == k).double().mean())
        error = math.sqrt(max(share * (1 - share), 1 / len(x)) / len(x))
        assert abs(found.volume / 4.0**dim - share) <= 5 * error
        assert torch.equal(found.contains(x), winners == k)
        if found.volume:
            assert bool((net(found.sample(200, seed=k)).argmax(1) == k).all())
    assert math.isclose(total, 4.0**dim, rel_tol=1e-9)


@settings(max_examples=40, deadline=None)
@given(steps=program(2, 4))
def test_classes_add_up_to_the_domain_and_ties_go_to_the_lowest_index(steps: list[Step]) -> None:
    net = network_of(steps, 2)
    domain = Box([-1.0, -1.0], [1.0, 1.0])
    outputs = math.prod(net.output_shape)
    found = [preimage(net, Argmax(k), domain) for k in range(outputs)]
    assert math.isclose(sum(f.volume for f in found), 4.0, rel_tol=1e-9)
    for k, of_class in enumerate(found):
        for piece in of_class:
            if piece.dimension == 2:
                inside = piece.vertices.mean(0).tolist()
                image = evaluate(steps, inside)
                assert image.index(max(image)) == k


def test_of_classes_that_tie_everywhere_the_lowest_has_everything() -> None:
    net = dense([([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]], [0.0, 0.0, -4.0])])
    domain = Box([-1.0, -1.0], [1.0, 1.0])
    assert [preimage(net, Argmax(k), domain).volume for k in range(3)] == [4.0, 0.0, 0.0]


def test_a_margin_keeps_the_rest_away() -> None:
    net = zoo.identity(2)
    found = preimage(net, Argmax(0, margin=1.0), Box([0.0, 0.0], [2.0, 2.0]))
    assert math.isclose(found.volume, 0.5, rel_tol=1e-12)


# -- samples


def chi_square(counts: Tensor, shares: Tensor) -> float:
    """Return how many standard deviations the chi-square statistic lies above its mean."""
    want = shares / shares.sum() * counts.sum()
    statistic = float(((counts - want) ** 2 / want).sum())
    freedom = len(counts) - 1
    return (statistic - freedom) / math.sqrt(2 * freedom)


def cells_of(x: Tensor, low: Sequence[float], high: Sequence[float], parts: int) -> Tensor:
    """Return how many points fall into each of parts x parts x ... boxes."""
    a, b = tensor(low), tensor(high)
    index = ((x - a) / (b - a) * parts).long().clamp(0, parts - 1)
    weights = parts ** torch.arange(x.shape[1])
    return torch.bincount((index * weights).sum(1), minlength=parts ** x.shape[1]).double()


def test_samples_fill_the_rectangle_evenly() -> None:
    found = preimage(zoo.triangle(), OutputSet.halfspaces([[1.0]], [-1.0]), Box([-1.0, -2.0], [2.0, 1.0]))
    counts = cells_of(found.sample(20000, seed=0), [1.0, -2.0], [2.0, 1.0], 6)
    assert chi_square(counts, torch.ones(36, dtype=torch.float64)) < 5


def test_samples_of_a_simplex_are_uniform_in_three_dimensions() -> None:
    net = dense([([[1.0, 1.0, 1.0]], [0.0])])
    found = preimage(net, OutputSet.halfspaces([[1.0]], [1.0]), Box([0.0] * 3, [1.0] * 3))
    x = found.sample(20000, seed=1)
    largest = x.sum(1).sort().values ** 3  # uniform on [0, 1] where x is uniform
    steps = torch.arange(1, 20001, dtype=torch.float64) / 20000
    assert float((largest - steps).abs().max()) < 2.2 / math.sqrt(20000)  # Kolmogorov: exceeded once in 8 000


def test_pieces_are_sampled_by_their_volumes() -> None:
    net = zoo.identity(1)
    edges = [(-3.0, -1.0), (0.0, 0.5), (1.0, 4.0)]
    target = [OutputSet.box([a], [b]) for a, b in edges]
    x = preimage(net, target, Box([-5.0], [5.0])).sample(20000, seed=2).flatten()
    counts = tensor([float(((x >= a) & (x <= b)).sum()) for a, b in edges])
    assert int(counts.sum()) == 20000
    assert chi_square(counts, tensor([b - a for a, b in edges])) < 5


def test_samples_of_a_segment_are_uniform_along_it() -> None:
    net = dense([([[1.0, 1.0]], [0.0])])
    x = preimage(net, 0.5, Box([0.0, 0.0], [1.0, 1.0])).sample(20000, seed=3)
    assert float((x.sum(1) - 0.5).abs().max()) <= ROUNDING
    steps = torch.arange(1, 20001, dtype=torch.float64) / 20000
    assert float((x[:, 0].sort().values * 2 - steps).abs().max()) < 2.2 / math.sqrt(20000)


def test_what_is_thinner_than_the_rest_is_never_sampled() -> None:
    net = network_of(layer([[1.0], [1.0]], [0.0, -1.0], [[-1.0, 1.0]]), 1)  # 0 up to 0, -x from there to 1
    found = preimage(net, [OutputSet.point([0.0]), OutputSet.point([-0.5])], Box([-1.0], [1.0]))
    assert Counter(map(int, found.dimensions)) == {1: 1, 0: 1}
    assert float(found.sample(1000, seed=0).max()) <= ROUNDING


def test_isolated_points_are_sampled_alike() -> None:
    x = preimage(zoo.absolute_value(), 1.0, Box([-2.0], [2.0])).sample(4000, seed=4).flatten()
    assert bool(((x.abs() - 1).abs() <= ROUNDING).all())
    assert abs(float((x > 0).double().mean()) - 0.5) <= 5 * 0.5 / math.sqrt(4000)


def test_samples_follow_their_seed() -> None:
    found = preimage(zoo.triangle(), OutputSet.halfspaces([[1.0]], [-1.0]), Box([-1.0, -2.0], [2.0, 1.0]))
    assert torch.equal(found.sample(20, seed=5), found.sample(20, seed=5))
    assert not torch.equal(found.sample(20, seed=5), found.sample(20, seed=6))
    assert found.sample(0).shape == (0, 2)


# -- samples under a prior and a likelihood


def furthest(x: Tensor, cdf: Tensor) -> float:
    """Return the Kolmogorov statistic of samples, whose distribution function at them is `cdf`, times sqrt(n)."""
    values = cdf[x.argsort()]
    steps = torch.arange(1, len(x) + 1, dtype=torch.float64) / len(x)
    return float(torch.maximum((values - steps).abs(), (values - steps + 1 / len(x)).abs()).max()) * math.sqrt(len(x))


FURTHEST = 2.2  # exceeded once in 8 000 draws (Kolmogorov)


def normal_cdf(x: Tensor) -> Tensor:
    return (1 + torch.erf(x / math.sqrt(2.0))) / 2


def cdf_on(x: Tensor, density: Callable[[Tensor], Tensor], low: float, high: float) -> Tensor:
    """Return the distribution function at x of a density on an interval, from a fine grid."""
    count = 200_000
    grid = low + (torch.arange(count, dtype=torch.float64) + 0.5) * (high - low) / count
    total = density(grid).cumsum(0)
    return (total / total[-1])[((x - low) / (high - low) * count).long().clamp(0, count - 1)]


@pytest.mark.parametrize("target", [OutputSet.halfspaces([[-1.0, 1.0, 0.0]], [0.0]), OutputSet.box([-9.0] * 3, [9.0] * 3)])
@pytest.mark.parametrize("temperature", [1.0, 0.25])
def test_samples_under_softmax_have_the_density_of_a_grid(target: OutputSet, temperature: float) -> None:
    net, n = classes(2, 2, 10, 3), 20000
    found = preimage(net, target, Box([-2.0, -2.0], [2.0, 2.0]))
    x = found.sample(n, likelihood=Softmax(0, temperature), seed=10)
    axis = (torch.arange(800, dtype=torch.float64) + 0.5) / 200 - 2
    grid = torch.cartesian_prod(axis, axis)
    y = net(grid)
    density = torch.softmax(y / temperature, 1)[:, 0] * target.contains(y)
    shares = density.reshape(8, 100, 8, 100).sum((1, 3)).T.flatten() / density.sum()  # x varies fastest in `cells_of`
    counts = cells_of(x, [-2.0, -2.0], [2.0, 2.0], 8)
    seen = shares * n >= 20
    assert int(counts[~seen].sum()) <= float((shares[~seen] * n).sum()) * 2 + 20
    assert chi_square(counts[seen], shares[seen]) < 5


def test_samples_under_noise_have_the_density_of_a_grid() -> None:
    found = preimage(zoo.absolute_value(), OutputSet.box([0.0], [2.0]), Box([-2.0], [2.0]))
    x = found.sample(20000, likelihood=GaussianNoise([1.0], 0.25), seed=11).flatten()
    assert furthest(x, cdf_on(x, lambda v: torch.exp(-0.5 * ((v.abs() - 1) / 0.25) ** 2), -2.0, 2.0)) < FURTHEST


def test_samples_behind_a_jump_are_weighed_by_the_outputs_on_their_own_side() -> None:
    shrink = Kink(0, [-0.5, 0.5], [1.0, 0.0, 1.0], [0.0, 0.0, 0.0], (0,))
    net = network_of([shrink, Dense(1, [[8.0], [0.0]], [0.0, 0.0])], 1)
    found = preimage(net, OutputSet.box([-9.0, -9.0], [9.0, 9.0]), Box([-1.0], [1.0]))
    x = found.sample(20000, likelihood=Softmax(0), seed=12).flatten()
    assert furthest(x, cdf_on(x, lambda v: torch.sigmoid(8 * torch.where(v.abs() > 0.5, v, 0.0)), -1.0, 1.0)) < FURTHEST


def test_a_normal_prior_on_a_half_plane_has_the_moments_of_the_closed_form() -> None:
    n = 40000
    found = preimage(zoo.identity(2), OutputSet.halfspaces([[-1.0, 0.0]], [0.0]), WholeSpace(2))
    x = found.sample(n, prior=Gaussian([0.0, 1.0], [1.0, 2.0]), seed=13)
    assert bool((x[:, 0] >= 0).all())
    mean, variance = math.sqrt(2 / math.pi), 1 - 2 / math.pi  # of |z|, z normal
    assert abs(float(x[:, 0].mean()) - mean) <= 5 * math.sqrt(variance / n)
    assert abs(float(x[:, 0].var()) - variance) <= 5 * math.sqrt((3 - 4 / math.pi - variance) / n)
    assert furthest(x[:, 0], 2 * normal_cdf(x[:, 0]) - 1) < FURTHEST
    assert furthest(x[:, 1], normal_cdf((x[:, 1] - 1) / 2)) < FURTHEST


def test_a_normal_prior_on_bounded_pieces_is_a_truncated_one() -> None:
    found = preimage(zoo.identity(1), [OutputSet.box([0.5], [2.0]), OutputSet.box([-3.0], [-1.0])], Box([-4.0], [4.0]))
    x = found.sample(20000, prior=Gaussian(0.25, 0.75), seed=14).flatten()
    inside = lambda v: ((v >= 0.5) & (v <= 2.0)) | ((v >= -3.0) & (v <= -1.0))  # noqa: E731
    assert bool(inside(x).all())
    density = lambda v: torch.where(inside(v), torch.exp(-0.5 * ((v - 0.25) / 0.75) ** 2), 0.0)  # noqa: E731
    assert furthest(x, cdf_on(x, density, -4.0, 4.0)) < FURTHEST


def test_a_normal_prior_on_a_segment_is_normal_along_it() -> None:
    found = preimage(dense([([[1.0, 1.0]], [0.0])]), 0.5, Box([-2.0, -2.0], [2.0, 2.0]))
    x = found.sample(20000, prior=Gaussian(), seed=15)
    assert float((x.sum(1) - 0.5).abs().max()) <= ROUNDING
    along = (x[:, 0] - x[:, 1]) / math.sqrt(2.0)
    end = 3.5 / math.sqrt(2.0)
    low, high = normal_cdf(tensor([-end, end]))
    assert furthest(along, (normal_cdf(along) - low) / (high - low)) < FURTHEST


def disc(count: int, generator: torch.Generator) -> Tensor:
    """Draw from the disc of radius 2."""
    radius, angle = torch.rand(2, count, generator=generator, dtype=torch.float64)
    return 2 * radius.sqrt()[:, None] * torch.stack([torch.cos(2 * math.pi * angle), torch.sin(2 * math.pi * angle)], 1)


def test_a_prior_of_the_callers_is_kept_where_it_meets_the_preimage() -> None:
    found = preimage(zoo.identity(2), OutputSet.halfspaces([[1.0, -1.0]], [0.0]), WholeSpace(2))
    x = found.sample(20000, prior=disc, seed=16)
    assert bool((x[:, 0] <= x[:, 1]).all())
    radius = x.square().sum(1)
    assert furthest(radius, radius / 4) < FURTHEST


def test_a_prior_and_a_likelihood_are_multiplied() -> None:
    found = preimage(zoo.identity(1), OutputSet.halfspaces([[-1.0]], [0.0]), WholeSpace(1))
    x = found.sample(20000, prior=Gaussian(), likelihood=GaussianNoise([1.0], 1.0), seed=17).flatten()
    middle, scale = 0.5, math.sqrt(0.5)  # of the product of two normal densities
    low = normal_cdf(tensor([-middle / scale]))
    assert furthest(x, (normal_cdf((x - middle) / scale) - low) / (1 - low)) < FURTHEST


def test_a_prior_that_never_meets_the_preimage_is_refused() -> None:
    level = preimage(zoo.identity(2), [0.0, 0.0], Box([-1.0, -1.0], [1.0, 1.0]))
    with pytest.raises(GeometryError, match="dimension"):
        level.sample(10, prior=disc)
    with pytest.raises(InputError, match="std"):
        level.sample(10, prior=Gaussian(0.0, 0.0))
    with pytest.raises(InputError, match="temperature"):
        Softmax(0, 0.0)


# -- parts of the work


def test_pieces_are_described_by_rows_and_corners_alike() -> None:
    net = classes(1, 2, 8, 3)
    found = preimage(net, Argmax(1), Box([-2.0, -2.0], [2.0, 2.0]))
    assert len(found) == len(list(found)) == len(found.dimensions) == len(found.volumes)
    for piece, volume in zip(found, found.volumes.tolist(), strict=True):
        assert bool(piece.polytope.contains(piece.vertices, ROUNDING).all())
        assert math.isclose(piece.volume, volume, rel_tol=1e-12)
        middle = torch.from_numpy(piece.vertices).mean(0)
        assert float((net(middle[None])[0] - piece.map(middle)).abs().max()) <= ROUNDING
    assert found[0].volume == float(found.volumes[0])


def test_two_workers_find_what_one_finds() -> None:
    net = classes(3, 3, 8, 3)
    one, two = (preimage(net, Argmax(0), Box([-1.0] * 3, [1.0] * 3), n_jobs=jobs) for jobs in (1, 2))
    assert shapes(one) == shapes(two)


def test_a_limit_leaves_an_honest_part() -> None:
    net = classes(4, 2, 250, 3)  # more cells than a chunk holds
    domain = Box([-2.0, -2.0], [2.0, 2.0])
    whole = preimage(net, Argmax(0), domain)
    part = preimage(net, Argmax(0), domain, limit=5)
    assert whole.complete
    assert not part.complete
    assert part.reason
    assert part.is_empty in (False, None)
    assert part.volume <= whole.volume
    with pytest.raises(InputError, match="limit"):  # of what was not seen nobody knows the share
        part.sample(50)


def test_results_are_plain_text_and_plain_types() -> None:
    for target in (0.0, 7.0):
        found = preimage(zoo.absolute_value(), target, Box([-2.0], [2.0]))
        assert json.loads(json.dumps(found.to_dict()))
        assert found.summary()


# -- refusals


def test_smooth_networks_are_refused_by_name() -> None:
    net = dense([([[1.0]], [0.0]), ([[1.0]], [0.0])], "tanh")
    with pytest.raises(SmoothError, match=net.smooth_steps[0].name):
        preimage(net, 0.0, Box([-1.0], [1.0]))


@pytest.mark.parametrize(
    ("target", "error"),
    [
        ([1.0, 2.0], ShapeError),
        (OutputSet.box([0.0, 0.0], [1.0, 1.0]), ShapeError),
        (Polytope.box([0.0, 0.0], [1.0, 1.0]), ShapeError),
        (Argmax(3), InputError),
        ("y0 >= 1", InputError),
        (object(), InputError),
        (math.nan, InputError),
    ],
    ids=["two numbers", "a box", "a polytope", "an index", "text", "a thing", "nan"],
)
def test_targets_that_do_not_fit_are_refused(target: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        preimage(zoo.absolute_value(), target, Box([-1.0], [1.0]))


def test_domains_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ShapeError):
        preimage(zoo.absolute_value(), 0.0, Box([-1.0, -1.0], [1.0, 1.0]))
    with pytest.raises(InputError, match="domain"):
        preimage(zoo.absolute_value(), 0.0, [(-1.0, 1.0)])  # type: ignore[arg-type]


def test_points_of_another_shape_are_refused() -> None:
    with pytest.raises(ShapeError):
        preimage(zoo.absolute_value(), 0.0, Box([-1.0], [1.0])).contains([[0.0, 0.0, 0.0]])


def test_an_empty_preimage_has_no_samples() -> None:
    with pytest.raises(GeometryError, match="empty"):
        preimage(zoo.absolute_value(), -1.0, Box([-1.0], [1.0])).sample(10)


def test_an_unbounded_preimage_has_no_uniform_samples() -> None:
    with pytest.raises(GeometryError, match="unbounded"):
        preimage(zoo.absolute_value(), OutputSet.halfspaces([[-1.0]], [-1.0]), WholeSpace(1)).sample(10)


@pytest.mark.parametrize("n", [-1, 1.5])
def test_a_number_of_samples_is_a_whole_number(n: Any) -> None:
    with pytest.raises(InputError):
        preimage(zoo.absolute_value(), 0.5, Box([-1.0], [1.0])).sample(n)


# -- what once went wrong


def test_a_kernel_can_be_a_segment() -> None:
    weight = [[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]
    found = kernel(layer(weight, [0.0, 0.0, -1.0, -1.0], [[1.0] * 4]))  # |x1| and what |x2| exceeds 1 by
    assert shapes(found) == {(1, ((0.0, -1.0), (0.0, 1.0)), ()): 1}
    assert math.isclose(float(found.volumes[0]), 2.0, rel_tol=1e-12)
    assert found.volume == 0.0
    assert found.is_empty is False


def test_a_kernel_can_be_pieces_of_every_dimension() -> None:
    steps = layer([[1.0]] * 5, [2.0, 1.0, 0.0, -1.0, -2.0], [[1.0, -2.0, 2.0, -2.0, 1.0]])  # teeth over [-2, 0] and [0, 2]
    found = preimage(network_of(steps, 1), 0.0, WholeSpace(1))
    want = {(1, ((-2.0,),), ((-1.0,),)): 1, (0, ((0.0,),), ()): 1, (1, ((2.0,),), ((1.0,),)): 1}
    assert shapes(merge(found)) == want


def test_merging_keeps_the_set() -> None:
    net = classes(2, 2, 10, 3)
    found = preimage(net, Argmax(2), Box([-2.0, -2.0], [2.0, 2.0]))
    merged = merge(found)
    assert 0 < len(merged) <= len(found)
    assert math.isclose(merged.volume, found.volume, rel_tol=1e-9)
    x = torch.rand(5000, 2, generator=torch.Generator().manual_seed(8), dtype=torch.float64) * 4 - 2
    assert torch.equal(merged.contains(x), found.contains(x))


def test_the_merged_preimage_of_the_triangle_is_one_rectangle() -> None:
    found = preimage(zoo.triangle(), OutputSet.halfspaces([[1.0]], [-1.0]), Box([-1.0, -2.0], [2.0, 1.0]))
    whole = merge(found)
    assert len(whole) == 1
    assert corners(whole[0].vertices.tolist()) == ((1.0, -2.0), (1.0, 1.0), (2.0, -2.0), (2.0, 1.0))
    assert math.isclose(whole.volume, 3.0, rel_tol=1e-12)


def test_a_class_that_is_not_there_is_refused() -> None:
    level = preimage(zoo.identity(2), [0.0, 0.0], Box([-1.0, -1.0], [1.0, 1.0]))
    with pytest.raises(InputError, match="class"):
        level.sample(10, likelihood=Softmax(5))


ONLY_ROUNDING_IS_LEFT = [
    Dense(0, [[-1.0], [-1.0]], [0.5, -0.5]),
    Kink(1, [0.0], [0.0, 1.0], [0.0, 0.0]),
    Winner(2, 2, 1, True),
]


def test_entries_that_hold_but_rounding_where_cells_were_dropped_leave_outputs_their_digits() -> None:
    agrees(ONLY_ROUNDING_IS_LEFT, [-2.0], [2.0], box_rows([Fraction(1, 4)], [Fraction(3, 4)]))
    agrees(ONLY_ROUNDING_IS_LEFT, [-2.0], [2.0], point_rows([0.5]))


def test_isolated_points_behind_a_minimum_are_those_of_rational_arithmetic() -> None:
    steps = [
        Dense(0, [[0.0, -2.0, -2.0], [1.0, 0.0, 2.0], [-2.0, 1.0, 0.0]], [-1.0, 1.5, -1.0]),
        Kink(1, [0.0], [-1.0, 1.0], [0.0, 0.0]),
        Winner(2, 3, 1, False),
    ]
    agrees(steps, [-1.0] * 3, [1.0] * 3, point_rows([1.0]))


def test_a_network_whose_samples_have_an_output_without_axes_has_preimages() -> None:
    class Largest(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = torch.nn.Linear(1, 2)

        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(self.fc(x)).sum(1)

    net = load(Largest().double().eval(), torch.zeros(1, 1, dtype=torch.float64))
    preimage(net, OutputSet.box([0.25], [0.75]), Box([-2.0], [2.0]))


def on_pictures(gate: torch.nn.Module, pool: torch.nn.Module, features: int) -> Network:
    """Return a convolutional network of three classes on pictures of 4 x 4 pixels."""
    generator = torch.Generator().manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3, padding=1), gate, pool, torch.nn.Flatten(), torch.nn.Linear(features, 3))
    for parameter in net.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) / 2
    return load(net.double().eval(), torch.zeros(1, 1, 4, 4, dtype=torch.float64))


@pytest.mark.parametrize("pool", [torch.nn.Identity(), torch.nn.MaxPool2d(2)], ids=["no pool", "pool"])
@pytest.mark.parametrize(
    "gate", [torch.nn.ReLU(), torch.nn.Hardtanh(), torch.nn.PReLU(2), torch.nn.Hardshrink(0.5)], ids=lambda g: type(g).__name__
)
def test_classes_of_pictures_fill_a_plane_of_them(gate: torch.nn.Module, pool: torch.nn.Module) -> None:
    net = on_pictures(gate, pool, 32 if isinstance(pool, torch.nn.Identity) else 8)
    generator = torch.Generator().manual_seed(1)
    centre, first, second = (2 * torch.randn(1, 4, 4, generator=generator, dtype=torch.float64) for _ in range(3))
    plane = Plane(centre, first, second)
    found = [preimage(net, Argmax(k), plane) for k in range(3)]
    assert math.isclose(sum(f.volume for f in found), plane.volume, rel_tol=1e-9)
    for k, of in enumerate(found):
        if not of.is_empty:
            assert (net(of.sample(200)).argmax(1) == k).all()


def test_a_dead_unit_of_large_weights_makes_no_output_uncertain() -> None:
    net = dense([([[1.0], [1e6]], [1.0, -1e8]), ([[1.0, 1e6]], [0.0])])  # x + 1 on [0, 1]
    found = preimage(net, 1.5, Box([0.0], [1.0]))
    assert [p.vertices.tolist() for p in found] == [[[0.5]]]
    assert math.isclose(preimage(net, OutputSet.box([1.9], [3.0]), Box([0.0], [1.0])).volume, 0.1, rel_tol=1e-9)


def test_a_limit_that_is_not_needed_leaves_a_complete_preimage() -> None:
    assert preimage(zoo.identity(1), OutputSet.box([0.0], [1.0]), Box([0.0], [1.0]), limit=1).complete


FAR_AND_THIN = [
    (Box([1e6], [1e6 + 1e-3]), OutputSet.box([1e6], [1e6 + 5e-4]), 1, 2),
    (Box([0.0, 0.0], [1e6, 1e-6]), OutputSet.parse(["y0 == 500000"], 2), 1, 2),
    (Box([0.0, 0.0], [1e6, 1e-6]), OutputSet.parse(["y0 + 1e12*y1 <= 5e5"], 2), 2, 3),
    (Box([1000.0, 1000.0], [1000.0 + 1e-6] * 2), OutputSet.everything(2), 2, 4),
]


@pytest.mark.parametrize(("domain", "target", "dim", "count"), FAR_AND_THIN)
def test_corners_are_told_apart_in_domains_that_are_far_or_thin(domain: Box, target: OutputSet, dim: int, count: int) -> None:
    found = preimage(zoo.identity(domain.dim), target, domain)
    assert [(p.dimension, len(p.vertices)) for p in found] == [(dim, count)]
    drawn = found.sample(50)
    assert found.contains(drawn).all()
    assert len(drawn.unique(dim=0)) == 50


def test_parts_of_a_union_that_lie_in_others_are_left_out() -> None:
    cross = [OutputSet.point([0.0, 0.0]), OutputSet.parse(["y0 == 0"], 2), OutputSet.parse(["y1 == 0"], 2)]
    found = preimage(zoo.identity(2), cross, Box([-1.0, -1.0], [1.0, 1.0]))
    assert set(found.dimensions.tolist()) == {1}
    assert math.isclose(float(found.volumes.sum()), 4.0, rel_tol=1e-12)


def test_a_tie_of_overlapping_sets_is_listed_once() -> None:
    net = dense([([[1.0, 0.0]], [-5.0]), ([[1.0]], [1.0])])  # 1 on the whole square
    found = preimage(net, [OutputSet.box([0.0], [1.0]), OutputSet.box([0.5], [2.0])], Box([0.0, 0.0], [1.0, 1.0]))
    assert [(t.outputs, t.included) for t in found.ties] == [((0,), True)]


def test_the_far_tail_of_a_normal_prior_is_drawn_exactly() -> None:
    found = preimage(zoo.absolute_value(), OutputSet.box([1.0], [2.0]), Box([-2.0], [2.0]))
    drawn = found.sample(4000, Gaussian(mean=0.0, std=0.05)).abs() - 1.0  # twenty standard deviations away
    rate = 1.0 / 0.05**2  # by which the density falls at 1; the tail there is nearly exponential
    assert math.isclose(float(drawn.mean()), 1.0 / rate, rel_tol=0.06)  # 4 standard errors of 1.6 %
    assert float(drawn.min()) >= 0.0


def test_a_prior_that_misses_the_set_is_one_error() -> None:
    found = preimage(zoo.identity(1), OutputSet.box([0.5], [1.0]), Box([0.0], [1.0]))
    with pytest.raises(GeometryError, match="hardly meets"):
        found.sample(10, lambda n, generator: torch.zeros(n, 1, dtype=torch.float64))


# -- witnesses and what computing them leaves of a 0


@pytest.mark.parametrize("kind", ["abs", "leaky_relu", "pool"])
@pytest.mark.parametrize("seed", range(6))
def test_a_witness_at_the_origin_is_contained_though_its_entries_are_roundings(kind: str, seed: int) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        middle = [nn.Unflatten(1, (1, 6)), nn.MaxPool1d(2), nn.Flatten()] if kind == "pool" else []
        gate = nn.LeakyReLU(0.1) if kind == "leaky_relu" else _Abs()
        last = nn.Linear(3 if kind == "pool" else 6, 3, bias=False)
        module = nn.Sequential(nn.Linear(2, 6, bias=False), gate, *middle, last).double().eval()
        net = load(module, torch.zeros(1, 2, dtype=torch.float64))
    found = preimage(net, 0.0, Box([-1.0, -3.0], [2.0, 1.0]))
    witness = found.witness
    assert witness is not None
    assert bool(found.contains(witness))
    assert not bool(found.contains(witness + 1e-3))


class _Abs(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.abs()
