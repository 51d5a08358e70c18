"""Zeros: what is called exact is a zero by other arithmetic, what is called least squares is a local minimum, and so on."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import polylens as pl
from oracles import Step, relu_network
from polylens import Box, Network, Plane, Polygon, Polytope, Segment, Slice, WholeSpace, Zeros, compose, dense, zeros
from polylens._types import Tolerance
from polylens.errors import GeometryError, InputError, ShapeError
from polylens.gates import gate, threshold
from strategies import Layer, continuous_program, degenerate_network
from test_subdivision import network_of


def chain(*sizes: int, seed: int = 0, gate: str = "relu", bias: bool = True) -> Network:
    """Return a random dense network as torch's Linear would begin, in float64."""
    gen = torch.Generator().manual_seed(seed)

    def uniform(n: int, *shape: int) -> Tensor:
        return (2 * torch.rand(*shape, generator=gen, dtype=torch.float64) - 1) / math.sqrt(n)

    pairs = itertools.pairwise(sizes)
    return dense([(uniform(n, m, n), uniform(n, m) if bias else torch.zeros(m, dtype=torch.float64)) for n, m in pairs], gate)


def plain(net: Network, x: Tensor) -> Tensor:
    """Evaluate a dense ReLU network with numpy alone."""
    steps = [node.step.parameters() for node in net.nodes if node.step.kind == "linear"]
    values = x.numpy()
    for i, p in enumerate(steps):
        values = values @ p["weight"].numpy().T + p["bias"].numpy()
        values = np.maximum(values, 0) if i < len(steps) - 1 else values
    return torch.from_numpy(values)


def box(dim: int, half: float = 5.0) -> Box:
    return Box([-half] * dim, [half] * dim)


def check(found: Zeros, domain: Box | None = None) -> None:
    """Hold the laws: three disjoint groups, residuals as evaluated, nothing outside, no way down from least-squares points."""
    net, x = found.network, found.points
    assert bool((found.exact.int() + found.least_squares.int() + found.failed.int() == 1).all())
    values = (net(x) - found.target).flatten(1)
    assert torch.equal(found.residuals, values.abs().amax(1))
    assert bool((found.residuals[found.exact] <= found.allowed).all())
    assert bool((found.residuals[~found.exact] > found.allowed).all())
    if domain is not None:
        low, high = domain.embed(domain.low), domain.embed(domain.high)
        assert bool((x.flatten(1) >= low).all())
        assert bool((x.flatten(1) <= high).all())
    if bool(found.least_squares.any()):
        assert float(steepest(found, domain)) <= 1e-6


def steepest(found: Zeros, domain: Box | None, length: float = 1e-5) -> Tensor:
    """Return how steeply |f - y| falls at most, from least-squares points along 200 directions, in parts of its slope."""
    x = found.points[found.least_squares].flatten(1)[:100]
    gen = torch.Generator().manual_seed(7)
    ways = torch.randn(200, 1, x.shape[1], generator=gen, dtype=torch.float64)
    near = x + length * ways / ways.norm(dim=2, keepdim=True)
    if domain is not None:
        near = near.clamp(domain.embed(domain.low), domain.embed(domain.high))
    net = found.network

    def distance(points: Tensor) -> Tensor:
        return (net(points.reshape(-1, *net.input_shape)) - found.target).flatten(1).norm(dim=1).reshape(points.shape[:-1])

    slope = pl.linearise(net, x.reshape(-1, *net.input_shape)).weight.flatten(1).norm(dim=1)
    fall = (distance(x) - distance(near)) / length
    return (fall / (1 + slope)).max()


# -- the chain of the question: 2-8-8-8


def test_the_chain_without_biases_has_zeros_from_every_start() -> None:
    net = chain(2, 8, 8, 8, bias=False)
    found = zeros(net, box(2))
    check(found, box(2))
    assert bool(found.exact.all())
    assert float(plain(net, found.points).abs().max()) <= 1e-12


def test_the_chain_with_biases_has_least_squares_points_only() -> None:
    net = chain(2, 8, 8, 8)
    for domain in (box(2), None):
        found = zeros(net, domain)
        check(found, domain)
        assert bool(found.least_squares.all())
        assert float(plain(net, found.points).abs().amax(1).min()) > 0.01


def test_a_value_that_is_reached_is_found_again() -> None:
    net = chain(2, 8, 8, 8)
    x = torch.tensor([1.5, -0.5], dtype=torch.float64)
    found = zeros(net, box(2), net(x))
    check(found, box(2))
    assert float(plain(net, found.points[found.exact]).sub(net(x)).abs().max()) <= 1e-12
    assert bool((torch.linalg.vector_norm(found.distinct().points - x, dim=1) <= 1e-9).any())


@given(degenerate_network(), st.integers(0, 3))
@settings(max_examples=60)
def test_laws_hold_on_degenerate_networks(layers: list[Layer], seed: int) -> None:
    net = dense(layers).double()
    for domain in (box(net.input_shape[0], 2.0), None):
        check(zeros(net, domain, starts=20, seed=seed), domain)


@given(degenerate_network())
@settings(max_examples=60)
def test_exact_zeros_are_zeros_in_rationals(layers: list[Layer]) -> None:
    found = zeros(dense(layers).double(), box(len(layers[0][0][0]), 2.0), starts=10)
    for x in found.points[found.exact].tolist():
        _, weight, offset = relu_network(layers, x)
        values = [sum((w * Fraction(v) for w, v in zip(row, x, strict=True)), b) for row, b in zip(weight, offset, strict=True)]
        assert max(map(abs, values)) <= 1e-12


@given(st.integers(1, 3).flatmap(lambda n: st.tuples(st.just(n), continuous_program(n, 3))))
@settings(max_examples=60)
def test_laws_hold_on_programs_of_all_gates(case: tuple[int, list[Step]]) -> None:
    inputs, steps = case
    check(zeros(network_of(steps, inputs), box(inputs, 2.0), starts=20), box(inputs, 2.0))


@pytest.mark.parametrize("target", [1.0, [1.0] + [0.0] * 7], ids=["ones", "first"])
def test_the_apex_of_cones_is_judged_by_all_regions_that_meet_there(target: float | list[float]) -> None:
    found = zeros(chain(2, 8, 8, 8, bias=False), box(2), target, starts=100)
    check(found, box(2))
    assert not bool(found.failed.any())


def test_a_way_down_behind_a_wall_that_appears_behind_another_is_found() -> None:
    net = dense([([[1.0]], [0.0]), ([[1.0]], [0.0]), ([[1.0]], None)])  # on the left the second unit has no wall at all
    found = zeros(net, target=1.0, starts=[[0.0]])
    assert found.exact.tolist() == [True]
    assert found.points.tolist() == [[1.0]]


@pytest.mark.parametrize("inputs", [2, 3, 5])
def test_the_origin_of_networks_without_biases_is_left_where_a_way_leads_down(inputs: int) -> None:
    apex = torch.zeros(1, inputs, dtype=torch.float64)
    for seed in (1, 8, 13):
        net = chain(inputs, 3, 3, 2, seed=seed, bias=False)
        for target in ([1.0, 0.5], [-0.5, 1.0], [0.5, -1.0]):
            check(zeros(net, box(inputs), target, starts=apex), box(inputs))


def test_a_unit_passes_several_breakpoints_in_one_point() -> None:
    # three pieces, of which that in the middle has no width: 0 up to 0, then z
    kink = gate("kink", [0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0])
    net = dense([([[1.0]], [0.0]), ([[1.0]], [0.0])])
    nodes = tuple(replace(n, step=kink) if n.step.kind == "relu" else n for n in net.nodes)
    assert zeros(replace(net, nodes=nodes).double(), target=1.0, starts=[[0.0]]).exact.tolist() == [True]


def test_more_than_three_inputs_at_a_point_of_many_walls_prove_nothing() -> None:
    net = chain(5, 16, 16, 16, bias=False)
    found = zeros(net, box(5), 1.0, starts=torch.zeros(1, 5, dtype=torch.float64), max_steps=2000)
    stays = (found.points == 0).flatten(1).all(1)
    assert bool((found.failed | ~stays).all())
    check(found, box(5))


def test_beside_a_jump_nothing_is_proven() -> None:
    net = dense([([[1.0]], [0.0]), ([[1.0]], [0.0])])
    nodes = tuple(replace(n, step=threshold(0.0, 2.0)) if n.step.kind == "relu" else n for n in net.nodes)
    found = zeros(replace(net, nodes=nodes).double(), Box([-1.0], [1.0]), 1.5, starts=20)  # 2 up to 0, x behind it
    assert not bool(found.exact.any())
    assert bool((found.failed | (found.points.flatten().abs() > 1e-9)).all())


# -- against the truth, cell by cell


def has_zero(net: Network, domain: Box) -> bool:
    """Say whether a network of one output has a zero: it has one iff some cell has vertices on both sides of 0."""
    return any(
        float(values.min()) <= 0 <= float(values.max())
        for cell in pl.subdivide(net, domain)
        if len(values := cell.map(torch.from_numpy(cell.vertices)))
    )


@pytest.mark.parametrize("seed", range(8))
def test_one_output_in_the_plane_is_solved_wherever_it_can_be(seed: int) -> None:
    net, domain = chain(2, 8, 8, 1, seed=seed), box(2, 3.0)
    found = zeros(net, domain, starts=300)
    check(found, domain)
    assert bool(found.exact.any()) == has_zero(net, domain)
    assert not bool(found.failed.any())


@pytest.mark.parametrize("seed", range(4))
def test_all_isolated_zeros_in_the_plane_are_found(seed: int) -> None:
    net, domain = chain(2, 10, 10, 2, seed=seed), box(2, 4.0)
    target = net(torch.tensor([0.5 * seed - 1, 1.0], dtype=torch.float64))
    truth = []
    for cell in pl.subdivide(net, domain):
        x = torch.linalg.pinv(cell.map.weight) @ (target - cell.map.offset)
        solves = float((cell.map(x) - target).abs().max()) <= 1e-9
        if solves and float((x.abs() - 4.0).max()) <= 0 and pl.patterns(net, x) == cell.pattern:
            truth.append(x)
    found = zeros(net, domain, target, starts=1000).distinct()
    apart = torch.cdist(torch.stack(truth), found.points)
    assert len(found) == len(truth) >= 1
    assert float(apart.amin(1).max()) <= 1e-8


def test_five_inputs_and_three_outputs_are_solved_from_most_starts() -> None:
    net = chain(5, 16, 16, 3)
    found = zeros(net, box(5), net(torch.tensor([1.0, -1.0, 0.5, 2.0, 0.0], dtype=torch.float64)))
    check(found, box(5))
    assert int(found.exact.sum()) >= 600
    assert int(found.failed.sum()) == 0


def test_starts_that_find_nothing_are_counted_although_zeros_exist() -> None:
    # |x| and a ramp behind 10: zero at 10 only, and a local minimum at 0 for starts on the left
    net = dense([([[1.0], [-1.0], [1.0]], [0.0, 0.0, -5.0]), ([[1.0, 1.0, -3.0]], [1.0])])  # |x| + 1 - 3 relu(x - 5)
    found = zeros(net, Box([-20.0], [20.0]), starts=torch.tensor([[-3.0], [3.0], [9.0]], dtype=torch.float64))
    assert found.least_squares.tolist() == [True, True, False]
    assert found.points[0].item() == pytest.approx(0.0, abs=1e-12)
    assert found.points[2].item() == pytest.approx(8.0, abs=1e-12)


# -- domains


def ring() -> Network:
    """Return |x| + |y| - 1, zero on a diamond."""
    return dense([([[1.0, 0], [-1.0, 0], [0, 1.0], [0, -1.0]], [0.0] * 4), ([[1.0] * 4], [-1.0])]).double()


@pytest.mark.parametrize(
    "domain",
    [
        None,
        WholeSpace(2),
        Box([0.25, -2.0], [2.0, 2.0]),
        Box([0.25, -2.0], [0.25, 2.0]),
        Box([0.0, -math.inf], [math.inf, 0.5]),
        Segment([0.0, 0.0], [2.0, 1.0]),
        Polygon([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]]),
        Plane([0.5, 0.0], [1.0, 0.0], [0.0, 1.0]),
        Polytope.simplex(2),
        Polytope.of([[1.0, 2.0], [-1.0, -2.0]], [0.5, -0.5]),
        Slice(Polytope.of([[1.0], [-1.0]], [2.0, 2.0]), [0.0, 0.0], [[1.0], [2.0]]),
    ],
    ids=lambda d: type(d).__name__,
)
def test_solutions_lie_in_the_domain(domain: pl.domain.Domain | Polytope | None) -> None:  # type: ignore[name-defined]
    found = zeros(ring(), domain, starts=100)
    assert bool(found.exact.all())
    x = found.points
    assert float((x.abs().sum(1) - 1).abs().max()) <= 1e-12
    if isinstance(domain, Polytope):
        assert bool(domain.contains(x, 1e-9).all())
    elif isinstance(domain, Segment | Slice | Plane | Polygon):
        u = domain.project(x)
        assert float((domain.embed(u) - x).abs().max()) <= 1e-12
        matrix = domain.polytope if isinstance(domain, Slice) else None
        if matrix is not None:
            assert bool(matrix.contains(u, 1e-9).all())
    elif isinstance(domain, Box):
        assert bool((x >= domain.embed(domain.low.nan_to_num(neginf=-1e9)) - 0).all())


def test_the_nearest_side_is_the_answer_where_zeros_are_outside() -> None:
    domain = Box([2.0, -1.0], [5.0, 1.0])
    found = zeros(ring(), domain, starts=50)
    check(found, domain)
    assert bool(found.least_squares.all())
    assert found.points.tolist() == pytest.approx(np.array([[2.0, 0.0]] * 50), abs=1e-12)


def test_rows_of_a_polytope_hold_points_back_as_sides_do() -> None:
    polytope = Polytope.of([[-1.0, -1.0], [1.0, 0.0], [0.0, 1.0]], [-3.0, 5.0, 5.0])  # x + y >= 3
    found = zeros(ring(), polytope, starts=50)
    assert bool(found.least_squares.all())
    assert found.residuals.tolist() == pytest.approx([2.0] * 50, abs=1e-12)
    assert bool(polytope.contains(found.points, 1e-12).all())


def test_inputs_of_many_entries_need_no_corners() -> None:
    net = chain(100, 30, 30, 5)
    domain = Box(torch.zeros(100), torch.ones(100))
    found = zeros(net, domain, net(torch.full((100,), 0.5, dtype=torch.float64)), starts=20)
    check(found, domain)
    assert bool(found.exact.all())


def test_images_keep_their_shape() -> None:
    torch.manual_seed(0)
    conv = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Flatten(), torch.nn.Linear(16, 2)
    ).double()
    net = pl.load(conv.eval(), torch.zeros(1, 1, 6, 6, dtype=torch.float64))
    target = net(torch.full((1, 6, 6), 0.3, dtype=torch.float64))
    found = zeros(net, Box(torch.zeros(1, 6, 6), torch.ones(1, 6, 6)), target, starts=20)
    assert found.points.shape == (20, 1, 6, 6)
    assert int(found.exact.sum()) >= 15
    with torch.no_grad():
        assert float((conv(found.points[found.exact]) - target).abs().max()) <= 1e-12


def test_feature_maps_behind_gates_of_three_pieces_are_searched() -> None:
    torch.manual_seed(0)
    conv = torch.nn.Sequential(
        torch.nn.Conv2d(1, 3, 3), torch.nn.Hardtanh(), torch.nn.Flatten(), torch.nn.Linear(27, 2)
    ).double()
    net = pl.load(conv.eval(), torch.zeros(1, 1, 5, 5, dtype=torch.float64))
    target = net(torch.full((1, 5, 5), 0.3, dtype=torch.float64))
    found = zeros(net, Box(torch.zeros(1, 5, 5), torch.ones(1, 5, 5)), target, starts=20)
    assert int(found.exact.sum()) >= 15
    with torch.no_grad():
        assert float((conv(found.points[found.exact]) - target).abs().max()) <= 1e-12


def test_a_generator_in_front_is_searched_in_its_own_coordinates() -> None:
    both = compose(([[1.0], [2.0]], None), ring())
    found = zeros(both, Box([-2.0], [2.0]), starts=20)
    assert found.distinct().points.flatten().sort().values.tolist() == pytest.approx([-1 / 3, 1 / 3], abs=1e-12)


# -- smooth networks


@pytest.mark.parametrize("gate", ["tanh", "sigmoid", "softplus"])
def test_smooth_networks_are_solved_to_rounding(gate: str) -> None:
    net = chain(5, 16, 16, 3, gate=gate)
    target = net(torch.tensor([0.5, -1.0, 2.0, 0.0, 1.0], dtype=torch.float64))
    for domain in (box(5), None):
        found = zeros(net, domain, target, starts=200)
        check(found, domain)
        assert int(found.exact.sum()) >= 150
        assert float(found.residuals[found.exact].max()) <= 1e-10


def test_smooth_networks_without_zeros_rest_at_least_squares() -> None:
    for domain in (box(2), None):
        found = zeros(chain(2, 8, 8, 8, gate="tanh"), domain, starts=200)
        assert int(found.least_squares.sum()) >= 190
        check(found, domain)


def test_a_smooth_network_is_held_by_the_sides() -> None:
    net = dense([([[1.0]], [0.0]), ([[1.0]], [0.0])], gate="tanh")
    found = zeros(net, Box([1.0], [2.0]), starts=10)
    assert found.points.flatten().tolist() == pytest.approx([1.0] * 10)
    assert bool(found.least_squares.all())


# -- what is asked, and what comes back


def test_the_answer_depends_on_the_seed_alone() -> None:
    net = chain(5, 8, 3)
    first, again, other = (zeros(net, box(5), starts=20, seed=s) for s in (1, 1, 2))
    assert torch.equal(first.points, again.points)
    assert not torch.equal(first.points, other.points)


def test_starts_that_are_zeros_stay_where_they_are() -> None:
    x = torch.tensor([[0.5, 0.5], [0.0, -1.0]], dtype=torch.float64)
    assert torch.equal(zeros(ring(), starts=x).points, x)


def test_the_number_of_starts_may_be_one_of_numpy() -> None:
    assert len(zeros(ring(), starts=np.int64(5))) == 5


def test_a_larger_tolerance_lets_more_pass() -> None:
    net = chain(2, 8, 8, 8)
    assert not bool(zeros(net, box(2), starts=20).exact.any())
    assert bool(zeros(net, box(2), starts=20, tolerance=Tolerance(1e16)).exact.all())


def test_one_round_is_not_enough_for_all() -> None:
    found = zeros(chain(5, 16, 16, 3), box(5), starts=50, max_steps=1)
    assert int(found.failed.sum()) > 10
    assert int(found.steps.max()) == 1


def test_distinct_keeps_one_of_each_group() -> None:
    found = zeros(ring(), Segment([0.0, 0.0], [2.0, 1.0]), starts=50)
    assert len(found.distinct()) == 1
    assert len(found.distinct(radius=0.0)) <= 50
    with pytest.raises(InputError, match="radius"):
        found.distinct(-1.0)


def test_regions_are_those_of_the_points() -> None:
    found = zeros(ring(), box(2), starts=10)
    assert found.regions == pl.patterns(ring(), found.points)


def test_a_result_says_how_many_of_which() -> None:
    found = zeros(ring(), box(2), starts=10)
    assert repr(found) == "Zeros(10 starts: 10 exact, 0 least-squares, 0 failed)"
    assert "residuals from" in found.summary()
    assert "steps: " in found.summary()
    plainly = found.to_dict()
    assert plainly["num_exact"] == len(plainly["points"]) == 10


@pytest.mark.parametrize("inputs", [2, 3])
def test_drawings_show_points_in_the_plane_and_residuals_otherwise(inputs: int) -> None:
    from matplotlib import pyplot

    ax = zeros(chain(inputs, 8, 2), box(inputs), starts=50).plot()
    assert ax.get_xlabel() == ("input 0" if inputs == 2 else "residual, as a power of 10")
    ax.figure.canvas.draw()  # type: ignore[union-attr]
    pyplot.close("all")


def test_what_does_not_fit_is_refused() -> None:
    net = ring()
    with pytest.raises(ShapeError, match="target"):
        zeros(net, target=[1.0, 2.0])
    for truth in (True, np.True_, torch.tensor([True])):
        with pytest.raises(InputError, match=r"target.*truth"):
            zeros(net, target=truth)
    with pytest.raises(InputError, match=r"target.*NaN"):
        zeros(net, target=math.nan)
    with pytest.raises(ShapeError, match="starts"):
        zeros(net, starts=torch.zeros(3, 3))
    with pytest.raises(InputError, match=r"starts.*outside"):
        zeros(net, box(2, 1.0), starts=torch.full((3, 2), 4.0))
    with pytest.raises(InputError, match="starts"):
        zeros(net, starts=0)
    with pytest.raises(InputError, match="max_steps"):
        zeros(net, max_steps=0)
    with pytest.raises(ShapeError, match="domain"):
        zeros(net, box(3))
    with pytest.raises(InputError, match="domain"):
        zeros(net, "box")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="single point"):
        zeros(net, Box([1.0, 1.0], [1.0, 1.0]))
    with pytest.raises(GeometryError, match="empty"):
        zeros(net, Polytope.box([1.0, 1.0], [0.0, 0.0]))
    with pytest.raises(InputError, match="Network"):
        zeros("net")  # type: ignore[arg-type]
