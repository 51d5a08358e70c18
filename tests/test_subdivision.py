"""The cells of a domain, held against exact rational cells, closed forms, counts by hand, and the networks themselves."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from oracles import Cell, Dense, Join, Kink, Step, Sum, Winner, box, cell_volume, cells, polytope_volume
from polylens import (
    Box,
    Cells,
    Network,
    Node,
    Patterns,
    Plane,
    Polytope,
    Segment,
    Slice,
    WholeSpace,
    dense,
    facets,
    iter_cells,
    load,
    neighbour,
    patterns,
    region,
)
from polylens.domain import Domain
from polylens.errors import InputError, SmoothError
from polylens.gates import MaxPool, ReduceMax, gate
from polylens.steps import Fixed, Linear, combine, concat, gather, reshape
from polylens.steps import Step as NetworkStep
from registry import Case
from strategies import program
from test_laws import loaded, piecewise_linear
from test_real_networks import network_and_images

Key = tuple[tuple[int, ...], ...]


def network_of(steps: Sequence[Step], inputs: int) -> Network:
    """Return a program of the oracle as a network."""
    nodes: list[Node] = []
    shape, value = {0: (inputs,)}, [0]  # of the network's values; and where it has the program's

    def emit(step: NetworkStep, *sources: int) -> int:
        image = step.apply(*(torch.zeros(1, *shape[i], dtype=torch.float64) for i in sources))
        nodes.append(Node(f"step{len(nodes)}", step, sources, tuple(image.shape[1:])))
        shape[len(nodes)] = nodes[-1].shape
        return len(nodes)

    for step in steps:
        sources = (step.first, step.second) if isinstance(step, Sum | Join) else (step.source,)
        here = [value[i] for i in sources]
        if isinstance(step, Winner) and not step.largest:
            windows = (shape[here[0]][0] - step.size) // step.stride + 1
            index = tuple(i * step.stride + j for i in range(windows) for j in range(step.size))
            taken = emit(Fixed("gather", gather, {"dim": 1, "index": index}), *here)
            here = [emit(Fixed("reshape", reshape, {"shape": (windows, step.size)}), taken)]
        value.append(emit(_step(step), *here))
    return Network(tuple(nodes), (inputs,), torch.float64, torch.device("cpu"), "a program")


def _step(step: Step) -> NetworkStep:
    if isinstance(step, Dense):
        return Linear(torch.tensor(step.weight, dtype=torch.float64), torch.tensor(step.bias, dtype=torch.float64))
    if isinstance(step, Kink):
        return gate("kink", step.breakpoints, step.slopes, step.intercepts, step.inclusive)
    if isinstance(step, Sum):
        return Fixed("add", combine, {"weights": (1.0, step.factor)})
    if isinstance(step, Join):
        return Fixed("concat", concat, {"dim": 1})
    if step.largest:
        return MaxPool((step.size,), (step.stride,), (0,), (1,), False)
    return ReduceMax(2, step.size, largest=False)


def keys(found: Patterns) -> list[Key]:
    """Return patterns as tuples of pieces, gate by gate."""
    parts = [found.pieces(i).reshape(len(found), -1).long().tolist() for i in range(len(found.layers))]
    return [tuple(tuple(part[i]) for part in parts) for i in range(len(found))]


def patterns_in(net: Network, domain: Domain) -> set[Key]:
    """Return the patterns of the cells; of an unbounded domain several cells may share one."""
    return {key for part in iter_cells(net, domain) for key in keys(part.patterns)}


def volumes_by_pattern(net: Network, domain: Domain) -> Counter[Key]:
    """Return the volume of every cell by its pattern; of a bounded domain no two cells may have one pattern."""
    volumes: Counter[Key] = Counter()
    total = 0
    for part in iter_cells(net, domain):
        total += len(part)
        for key, volume in zip(keys(part.patterns), part.volumes().tolist(), strict=True):
            volumes[key] += volume
    assert total == len(volumes)
    return volumes


# -- exact cells in rationals


def agrees(steps: Sequence[Step], low: Sequence[float], high: Sequence[float]) -> None:
    """The engine's patterns are those of the exact cells, and have their volumes."""
    exact = {cell.pieces: float(cell_volume(cell)) for cell in cells(steps, box(low, high))}
    found = volumes_by_pattern(network_of(steps, len(low)), Box(low, high))
    assert set(found) == set(exact)
    total = math.prod(b - a for a, b in zip(low, high, strict=True))
    for key, volume in exact.items():
        assert abs(found[key] - volume) <= 1e-12 * total  # rounding at a few vertices, each of about 1e-15


@settings(max_examples=100, deadline=None)
@given(steps=program(2, 4))
def test_cells_in_the_plane_are_those_of_rational_arithmetic(steps: list[Step]) -> None:
    agrees(steps, [-1.0, -1.5], [1.0, 2.0])


@settings(max_examples=60, deadline=None)
@given(steps=program(1, 4))
def test_cells_on_a_line_are_those_of_rational_arithmetic(steps: list[Step]) -> None:
    agrees(steps, [-2.0], [2.0])


@settings(max_examples=40, deadline=None)
@given(steps=program(3, 3))
def test_cells_in_space_are_those_of_rational_arithmetic(steps: list[Step]) -> None:
    exact = {cell.pieces for cell in cells(steps, box([-1.0] * 3, [1.0] * 3))}
    found = volumes_by_pattern(network_of(steps, 3), Box([-1.0] * 3, [1.0] * 3))
    assert set(found) == exact
    assert math.isclose(sum(found.values()), 8.0, rel_tol=1e-12)


@settings(max_examples=40, deadline=None)
@given(steps=program(2, 3))
def test_cells_of_the_whole_plane_are_those_of_a_huge_box_in_rational_arithmetic(steps: list[Step]) -> None:
    far = 2.0**24  # hyperplanes of such weights meet well within
    assert patterns_in(network_of(steps, 2), WholeSpace(2)) == {c.pieces for c in cells(steps, box([-far] * 2, [far] * 2))}


TIED_BUT_FOR_ROUNDING = [
    Dense(source=0, weight=[[0.0, 0.0, 0.0], [0.0, 1.0, -1.0], [0.0, 0.0, 0.0]], bias=[0.0, 0.0, 0.0]),
    Kink(source=1, breakpoints=[-0.5, 0.5], slopes=[1.0, 0.0, 1.0], intercepts=[0.5, 0.0, -0.5], inclusive=()),
    Winner(source=2, size=2, stride=1, largest=False),
]


@settings(max_examples=40, deadline=None)
@given(steps=program(3, 3), bound=st.sampled_from([0.0, 0.5, 1.0]))
@example(steps=TIED_BUT_FOR_ROUNDING, bound=0.0)  # one candidate is an exact zero, the other zero but for rounding
def test_cells_of_a_slice_are_those_of_rational_arithmetic(steps: list[Step], bound: float) -> None:
    corner = box([-1.0] * 3, [1.0] * 3)
    inside = [Fraction(-1, 4)] * 3
    domain = Cell([*corner.matrix, [Fraction(1)] * 3], [*corner.bound, Fraction(bound)], inside, ())
    matrix, limits = [[float(v) for v in row] for row in domain.matrix], [float(b) for b in domain.bound]
    sliced = Slice(Polytope.of(matrix, limits))
    found = volumes_by_pattern(network_of(steps, 3), sliced)
    assert set(found) == {cell.pieces for cell in cells(steps, domain)}
    exact = float(polytope_volume(domain.matrix, domain.bound))
    assert math.isclose(sum(found.values()), exact, rel_tol=1e-12)
    assert math.isclose(sliced.volume, exact, rel_tol=1e-9)


# -- closed forms


def count(net: Network, domain: Domain) -> int:
    """Return the number of cells."""
    return sum(len(part) for part in iter_cells(net, domain))


def layer_of(weight: Tensor, bias: Tensor | None) -> Network:
    """Return one layer of units, and a sum behind them."""
    return dense([(weight, bias), (torch.ones(1, len(weight), dtype=torch.float64), None)])


def gaussian(units: int, dim: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(100 * dim + units)
    weight = torch.randn(units, dim, generator=generator, dtype=torch.float64)
    return weight, torch.randn(units, generator=generator, dtype=torch.float64)


ARRANGEMENTS = [(1, 12), (2, 1), (2, 20), (3, 2), (3, 12), (4, 3), (4, 10), (5, 4), (5, 9)]


@pytest.mark.parametrize(("dim", "units"), ARRANGEMENTS)
def test_hyperplanes_in_general_position_part_the_space_into_the_number_of_the_closed_form(dim: int, units: int) -> None:
    weight, bias = gaussian(units, dim)
    want = sum(math.comb(units, i) for i in range(dim + 1))
    assert len(patterns_in(layer_of(weight, bias), WholeSpace(dim))) == want
    corners = [torch.linalg.solve(weight[list(i)], -bias[list(i)]) for i in itertools.combinations(range(units), dim)]
    far = 2 * max([10.0, *(float(c.abs().max()) for c in corners)])  # every region has a corner; then it reaches into the box
    if corners:
        assert count(layer_of(weight, bias), Box([-far] * dim, [far] * dim)) == want


@pytest.mark.parametrize(("dim", "units"), ARRANGEMENTS)
def test_hyperplanes_through_the_origin_part_the_space_into_the_number_of_the_closed_form(dim: int, units: int) -> None:
    net = layer_of(gaussian(units, dim)[0], None)
    want = 2 * sum(math.comb(units - 1, i) for i in range(dim))
    assert len(patterns_in(net, WholeSpace(dim))) == want
    assert count(net, Box([-1.0] * dim, [2.0] * dim)) == want


@pytest.mark.parametrize("dim", [1, 2, 3, 4, 5])
def test_the_coordinate_hyperplanes_leave_the_orthants(dim: int) -> None:
    net = layer_of(torch.eye(dim, dtype=torch.float64), None)
    assert count(net, Box([-1.0] * dim, [1.0] * dim)) == len(patterns_in(net, WholeSpace(dim))) == 2**dim


@pytest.mark.parametrize("dim", [2, 3, 4])
def test_the_braid_arrangement_parts_the_box_into_orderings(dim: int) -> None:
    rows = [torch.eye(dim)[i] - torch.eye(dim)[j] for i, j in itertools.combinations(range(dim), 2)]
    net = layer_of(torch.stack(rows).double(), None)  # many hyperplanes through each flat, and all through one line
    assert count(net, Box([-1.0] * dim, [1.0] * dim)) == len(patterns_in(net, WholeSpace(dim))) == math.factorial(dim)


def test_the_whole_space_gives_regions_that_no_box_in_reach_holds() -> None:
    weight = torch.tensor([[1.0, 0.0], [1.0, 1e-4]], dtype=torch.float64)
    net = layer_of(weight, torch.tensor([0.0, -1e3], dtype=torch.float64))  # they cross at (0, 1e7)
    assert count(net, Box([-1e4, -1e4], [1e4, 1e4])) == 3
    assert len(patterns_in(net, WholeSpace(2))) == 4


def test_cells_of_the_whole_space_are_bounded_or_infinite() -> None:
    weight = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    net = layer_of(weight, torch.tensor([0.0, 0.0, -1.0], dtype=torch.float64))  # a triangle of area 1/2, and the rest
    volumes: Counter[Key] = Counter()
    for part in iter_cells(net, WholeSpace(2)):
        for key, volume in zip(keys(part.patterns), part.volumes().tolist(), strict=True):
            volumes[key] += volume
    assert len(volumes) == 7
    finite = {key: volume for key, volume in volumes.items() if math.isfinite(volume)}
    assert list(finite) == [((1, 1, 0),)]
    assert math.isclose(finite[((1, 1, 0),)], 0.5, rel_tol=1e-12)


# -- counts by hand

SQUARE = Box([-1.0, -1.0], [1.0, 1.0])
BY_HAND: dict[str, tuple[list[list[float]], list[float], int]] = {
    "a unit and its negative": ([[1.0, 2.0], [-1.0, -2.0]], [0.5, -0.5], 2),
    "one unit three times": ([[1.0, 2.0], [2.0, 4.0], [0.5, 1.0]], [0.5, 1.0, 0.25], 2),
    "a third and its multiple": ([[1 / 3, 0.1], [1.0, 0.3]], [0.0, 0.0], 2),
    "dead units": ([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0]], [-1.0, 0.0, 0.0], 2),
    "units that are always on": ([[0.0, 0.0], [1.0, 0.0]], [1.0, 2.0], 1),
    "parallel hyperplanes": ([[1.0, 1.0], [1.0, 1.0], [2.0, 2.0]], [0.0, 0.5, -1.5], 4),
    "a grid": ([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]], [0.5, -0.5, 0.5, -0.5], 9),
    "four lines through one point": ([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, -1.0]], [0.0] * 4, 8),
    "lines along the sides": ([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]], [-1.0, 1.0, 1.0], 1),
    "lines through corners": ([[1.0, 1.0], [1.0, -1.0], [1.0, 1.0]], [-2.0, 0.0, 0.0], 4),
    "a touched corner": ([[1.0, 1.0], [1.0, 1.0]], [2.0, -2.0], 1),
    "a thin strip": ([[1.0, 0.0], [1.0, 0.0]], [0.0, -1e-10], 3),
    "a thin strip of a large row": ([[1e6, 0.0], [1e6, 0.0]], [0.0, -1e-4], 3),
    "a thin slanted strip": ([[3.0, -1.0], [3.0, -1.0]], [0.25, 0.25 + 1e-10], 3),
    "a thin triangle": ([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]], [0.0, 0.0, 1e-9], 7),
    "a thin corner": ([[1.0, 1.0]], [-2.0 + 1e-9], 2),
    "lines parallel to 1e-11": ([[1.0, 0.0], [1.0, 1e-11]], [0.0, 0.0], 4),
    "lines parallel to 1e-11 that cross at a side": ([[1.0, 0.0], [1.0, 1e-11]], [0.0, 1e-11], 3),
    "a strip of rounding": ([[1.0, 0.1], [1.0, 0.1]], [0.3, 0.1 + 0.2], 2),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_degenerate_layers_have_the_cells_that_were_counted_by_hand(name: str) -> None:
    weight, bias, want = BY_HAND[name]
    net = layer_of(torch.tensor(weight, dtype=torch.float64), torch.tensor(bias, dtype=torch.float64))
    found = volumes_by_pattern(net, SQUARE)
    assert len(found) == want
    assert math.isclose(sum(found.values()), 4.0, rel_tol=1e-12)
    assert min(found.values()) > 0


def test_degenerate_units_of_a_second_layer_cut_nothing_twice() -> None:
    first = [[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]
    second = [[1.0, 1.0, 0.0, 0.0], [1.0, -1.0, 0.0, 0.0], [0.0, 0.0, 1.0, -1.0], [0.0, 0.0, -1.0, 0.0]]
    net = dense([(first, [0.0] * 4), (second, [-0.5, 0.0, 0.0, 0.25]), ([[1.0] * 4], [0.0])])
    # by hand: |x| - 0.5 cuts each half of x, y - 0.25 the upper half of y; y - y is zero and x is cut at 0 already
    assert count(net, SQUARE) == 4 * 3


def test_a_clip_has_three_cells_and_its_constant_parts_cut_no_further() -> None:
    net = dense([([[4.0]], [0.0]), ([[1.0]], [0.5]), ([[1.0]], [0.0])], ["hardtanh", "relu", None])
    found = volumes_by_pattern(net, Box([-1.0], [1.0]))
    assert {key: round(volume, 12) for key, volume in found.items()} == {
        ((0,), (0,)): 0.75,
        ((1,), (0,)): 0.125,
        ((1,), (1,)): 0.375,
        ((2,), (1,)): 0.75,
    }


def test_a_maximum_has_one_cell_for_every_winner_and_no_walls_inside_them() -> None:
    rows = [[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0], [0.5, 0.25]]  # the last one wins nowhere
    steps: list[Step] = [Dense(0, rows, [0.0] * 5), Winner(1, 5, 1)]
    found = volumes_by_pattern(network_of(steps, 2), SQUARE)
    assert {key: round(volume, 12) for key, volume in found.items()} == {((i,),): 1.0 for i in range(4)}


def test_of_candidates_that_tie_on_a_whole_cell_the_lowest_wins() -> None:
    steps: list[Step] = [
        Dense(0, [[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0]),
        Kink(1, [0.0], [0.0, 1.0], [0.0, 0.0]),
        Winner(2, 2, 1),  # both candidates are 0 where both coordinates are negative
    ]
    found = volumes_by_pattern(network_of(steps, 2), SQUARE)
    halves = {((1, 1), (0,)): 0.5, ((1, 1), (1,)): 0.5}
    rounded = {key: round(volume, 12) for key, volume in found.items()}
    assert rounded == {((0, 0), (0,)): 1.0, ((1, 0), (0,)): 1.0, ((0, 1), (1,)): 1.0, **halves}


def test_a_network_without_gates_is_one_cell() -> None:
    net = dense([([[1.0, 2.0]], [0.0])])
    found = list(iter_cells(net, SQUARE))
    assert [len(part) for part in found] == [1]
    assert found[0].patterns.layers == ()
    assert found[0].volumes().tolist() == [4.0]


def test_a_point_is_a_domain_of_one_cell() -> None:
    net = dense([([[1.0, 2.0], [1.0, -1.0]], [0.0, 0.0]), ([[1.0, 1.0]], None)])
    parts = list(iter_cells(net, Box([1.0, -0.25], [1.0, -0.25])))
    assert [keys(part.patterns) for part in parts] == [[((1, 1),)]]


@given(seed=st.integers(0, 10**6), scale=st.sampled_from([2.0**-30, 1.0, 2.0**40]), shift=st.sampled_from([0.0, 1e3]))
@settings(max_examples=25, deadline=None)
def test_the_number_of_cells_depends_neither_on_units_order_nor_on_the_scale_of_rows_or_inputs(
    seed: int, scale: float, shift: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    w, v = (torch.randn(6, n, generator=generator, dtype=torch.float64) for n in (2, 6))
    b, c = (torch.randn(6, generator=generator, dtype=torch.float64) for _ in range(2))
    head = torch.ones(1, 6, dtype=torch.float64)
    order, rows = torch.randperm(6, generator=generator), torch.rand(6, generator=generator, dtype=torch.float64) + 0.5
    plain = dense([(w, b), (v, c), (head, None)])
    moved = b - w.sum(1) * shift / scale
    other = dense([((rows[:, None] * w / scale)[order], (rows * moved)[order]), ((v / rows)[:, order], c), (head, None)])
    low, high = -1.0, 2.0
    box_moved = Box([low * scale + shift] * 2, [high * scale + shift] * 2)
    assume_visible = shift * 2.0**-52 < 1e-6 * scale  # a box that has moved by 1e12 sizes has no digits left for its cells
    if assume_visible:
        assert count(other, box_moved) == count(plain, Box([low] * 2, [high] * 2))


# -- networks whose counts are known

RANDOM = [
    pytest.param((3, 64, 64, 1), 93_425),
    pytest.param((5, 20, 20, 1), 76_348),
    pytest.param((6, 20, 20, 1), 455_258, marks=pytest.mark.slow),
    pytest.param((2, 512, 512, 1), 159_254, marks=pytest.mark.slow),
]


def random_network(sizes: Sequence[int]) -> Network:
    torch.manual_seed(0)
    layers = [nn.Linear(n, m).double() for n, m in itertools.pairwise(sizes)]
    return dense([(layer.weight, layer.bias) for layer in layers])


@pytest.mark.parametrize(("sizes", "want"), RANDOM)
def test_random_networks_have_as_many_regions_as_two_other_programs_counted(sizes: tuple[int, ...], want: int) -> None:
    dim, total, volume = sizes[0], 0, 0.0
    for part in iter_cells(random_network(sizes), Box([-1.0] * dim, [1.0] * dim)):
        total, volume = total + len(part), volume + (float(part.volumes().sum()) if dim < 6 else 0.0)
    assert total == want
    assert math.isclose(volume, 2.0**dim, rel_tol=1e-9) or dim == 6  # volumes of cells in 6-D take minutes


def test_walking_across_facets_meets_the_cells_and_no_others() -> None:
    net = random_network((3, 7, 7, 1))
    start = region(net, torch.full((3,), 0.1, dtype=torch.float64), domain=Polytope.box([-1.0] * 3, [1.0] * 3))
    seen, waiting = {start.pattern}, [start]
    while waiting:
        here = waiting.pop()
        found = facets(here.polytope)
        for number in range(len(found.normals)):
            row = int(torch.nonzero(found.facet_of_row == number)[0])
            if here.polytope.origins[row].name == "domain":
                continue
            there = neighbour(here, number, found)
            if there.pattern not in seen:
                seen.add(there.pattern)
                waiting.append(there)
    cells_found = {p for part in iter_cells(net, Box([-1.0] * 3, [1.0] * 3)) for p in part.patterns}
    assert cells_found == seen


# -- every kind of layer


def centres(part: Cells, domain: Domain, net: Network) -> Tensor:
    """Return the mean of the vertices of every cell, as inputs."""
    share = np.repeat(1.0 / np.diff(part.start), np.diff(part.start))
    places = part.points[part.vertex] / part.weight[part.vertex, None]
    means = np.add.reduceat(places * share[:, None], part.start[:-1], axis=0)
    return domain.embed(means).reshape(len(part), *net.input_shape)


def samples(domain: Segment | Plane, number: int) -> Tensor:
    """Return random coordinates in a segment or a rectangle."""
    generator = torch.Generator().manual_seed(11)
    u = torch.rand(number, domain.dim, generator=generator, dtype=torch.float64)
    if isinstance(domain, Segment):
        return u
    a, b, _, d = domain.corners
    return a + u[:, :1] * (b - a) + u[:, 1:] * (d - a)


def check_against_network(net: Network, domain: Segment | Plane, number: int) -> int:
    """Volumes add up; patterns are those at the cells' centres; those of random points are among them. Return the count."""
    seen, total, volume = set[bytes](), 0, 0.0
    for part in iter_cells(net, domain):
        assert bool(patterns(net, centres(part, domain, net)).matches(part.patterns).all())
        seen |= {row.tobytes() for row in part.patterns.packed.numpy()}
        total, volume = total + len(part), volume + domain.scale * float(part.volumes().sum())
    assert total == len(seen)
    assert math.isclose(volume, domain.volume, rel_tol=1e-9)
    x = domain.embed(samples(domain, number)).reshape(number, *net.input_shape)
    assert {row.tobytes() for row in patterns(net, x).packed.numpy()} <= seen
    return total


@piecewise_linear
def test_cells_of_every_kind_of_layer_agree_with_the_network_on_a_segment(case: Case) -> None:
    _, net = loaded(case)
    a, b = case.inputs(2, torch.float64, seed=21)
    check_against_network(net, Segment(3 * a, 3 * b), 400)


@piecewise_linear
def test_cells_of_every_kind_of_layer_agree_with_the_network_in_a_plane(case: Case) -> None:
    _, net = loaded(case)
    found = check_against_network(net, Plane(*case.inputs(3, torch.float64, seed=22)), 400)
    assert found > 1 or not net.gates


def test_networks_that_are_smooth_or_of_other_inputs_are_refused() -> None:
    with pytest.raises(SmoothError):
        list(iter_cells(dense([([[1.0]], [0.0]), ([[1.0]], None)], "tanh"), Box([0.0], [1.0])))
    with pytest.raises(InputError, match=r"2 entries.*got 1"):
        list(iter_cells(dense([([[1.0, 1.0]], [0.0])]), Box([0.0], [1.0])))


def test_a_network_in_single_precision_is_cut_as_the_reals_that_it_holds() -> None:
    net = load(nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 1)), torch.zeros(1, 2))
    assert net.dtype == torch.float32
    assert volumes_by_pattern(net, SQUARE) == volumes_by_pattern(net.double(), SQUARE)


# -- real networks


def breakpoints(net: Network, segment: Segment) -> tuple[Tensor, Patterns]:
    """Return where the cells of a segment end, from 0 to 1, and their patterns in that order."""
    ends, found = [], []
    for part in iter_cells(net, segment):
        ends.append(torch.from_numpy(part.points[part.vertex, 0].reshape(-1, 2)).sort(1).values)
        found.append(part.patterns)
    sides, order = torch.cat(ends)[:, 0].sort()
    stops = torch.cat(ends)[order, 1]
    assert torch.equal(sides[1:], stops[:-1])
    return torch.cat([sides, stops[-1:]]), Patterns.concat(found)[order]


def pre_activations(net: Network, x: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return every gate's input of a dense network, and the sums of the magnitudes of the terms that it is made of."""
    found: list[tuple[Tensor, Tensor]] = []

    def visit(node: Node, inputs: list[Tensor]) -> None:
        if isinstance(node.step, Linear):
            weight, bias = node.step.weight, node.step.bias
            terms = inputs[0].abs() @ weight.abs().T + (0.0 if bias is None else bias.abs())
            found.append((node.step.apply(*inputs), terms))

    net.forward(x, visit)
    return found[: len(net.gates)]


def test_every_breakpoint_between_two_images_lies_on_a_hyperplane_and_none_is_missing(data: Path) -> None:
    net, images, _ = network_and_images(data, "mnist-net_256x4.onnx", 2)
    net = net.double()
    segment = Segment(images[0], images[1])
    t, found = breakpoints(net, segment)
    assert len(found) > 200
    at = segment.embed(t[1:-1, None]).reshape(-1, *net.input_shape)
    for i, (z, terms) in enumerate(pre_activations(net, at)):
        pieces = found.pieces(i).reshape(len(found), -1)
        flips = pieces[1:] != pieces[:-1]
        assert float((z.abs() / terms)[flips].max()) <= 1e-12
    inner = segment.embed(((t[1:] + t[:-1]) / 2)[:, None]).reshape(-1, *net.input_shape)
    assert bool(patterns(net, inner).matches(found).all())

    low = torch.linspace(0, 1, 4001, dtype=torch.float64)[:-1]
    high = low + 1 / 4000
    while float((high - low).max()) > 1e-11:  # halve what has two patterns, keep the halves that do
        middle = (low + high) / 2
        low, high = torch.cat([low, middle]), torch.cat([middle, high])
        ends = [patterns(net, segment.embed(v[:, None]).reshape(-1, *net.input_shape)) for v in (low, high)]
        apart = ~ends[0].matches(ends[1])
        low, high = low[apart], high[apart]
    nearest = (((low + high) / 2)[:, None] - t).abs().min(1).values
    assert len(low) > 200
    assert float(nearest.max()) <= 2e-11


def test_cells_of_a_plane_through_three_images_agree_with_the_network(data: Path) -> None:
    net, images, _ = network_and_images(data, "mnist-net_256x4.onnx", 3)
    net = net.double()
    window = Plane.through(*images)
    x, y = (window.corners[1] - window.corners[0]) / 2, (window.corners[3] - window.corners[0]) / 2
    part = Plane(window.origin, 0.3 * window.basis @ x, 0.3 * window.basis @ y)
    assert check_against_network(net, part, 2000) > 3000


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mnist-net_256x4.onnx", "Convnet_maxpool.onnx", "resnet_2b.onnx"])
def test_cells_of_whole_planes_through_three_images_agree_with_the_network(data: Path, name: str) -> None:
    net, images, _ = network_and_images(data, name, 3)
    centre = images.mean(0)
    small = {"mnist-net_256x4.onnx": 1.0, "Convnet_maxpool.onnx": 0.1, "resnet_2b.onnx": 0.03}[name]
    window = Plane.through(*(centre + small * (image - centre) for image in images))
    assert check_against_network(net.double(), window, 2000) > 1000


def test_cells_of_a_small_window_of_a_convolutional_network_agree_with_it(data: Path) -> None:
    net, images, _ = network_and_images(data, "cifar_base_kw.onnx", 3)
    window = Plane(images[0], 0.01 * (images[1] - images[0]), 0.01 * (images[2] - images[0]))
    assert check_against_network(net.double(), window, 300) > 20


def test_cells_of_a_box_of_a_collision_avoidance_network_agree_with_it(data: Path) -> None:
    net = load(next(iter(sorted((data / "acasxu" / "onnx").glob("*.onnx"))))).double()
    low, high = [0.2, -0.1, 0.1, 0.1, 0.1], [0.26, -0.05, 0.15, 0.15, 0.15]
    domain, total, volume = Box(low, high), 0, 0.0
    for part in iter_cells(net, domain):
        assert bool(patterns(net, centres(part, domain, net)).matches(part.patterns).all())
        total, volume = total + len(part), volume + float(part.volumes().sum())
    assert total > 100
    assert math.isclose(volume, domain.volume, rel_tol=1e-9)


def test_entries_of_different_sizes_keep_their_cells() -> None:
    net = dense([([[0.0, 1.0]], [-1e-7]), ([[1.0]], None)])
    assert sum(map(len, iter_cells(net, Box([0.0, 0.0], [1e6, 1.0])))) == 2
    thin = Slice(Polytope.box([1.0, 5.0, -1e6], [1.0 + 1e-6, 6.0, 1e6]))
    flat = dense([([[1.0, 0.0, 0.0]], [0.0]), ([[1.0]], None)])
    assert sum(float(c.volumes().sum()) for c in iter_cells(flat, thin)) == pytest.approx(
        thin.volume, rel=1e-8
    )  # 1e6 + 1e-6 - 1e6
