"""What networks forget: null spaces against rational ranks, constancy against exact cells of a line, second derivatives
against whole Hessians."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import matplotlib as mpl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.autograd.functional import hessian
from torch.nn.attention import SDPBackend, sdpa_kernel

from oracles import Dense, Join, Kink, Step, Sum, box, cells_with_outputs, rank, relu_network
from polylens import (
    Box,
    ConstantPolytope,
    Network,
    Node,
    NullSpace,
    Polytope,
    affine_map,
    constant_along,
    constant_polytope,
    dense,
    first_boundary,
    forgotten_by_layer,
    geometry,
    linearise,
    load,
    null_space,
    region,
    second_order,
    zoo,
)
from polylens._types import Result
from polylens.errors import InputError, ShapeError, SmoothError
from polylens.nullspace import up_to
from polylens.plotting.nullspace import null_space_figure
from polylens.steps import Linear
from registry import Case
from strategies import Layer, degenerate_network, points, program
from test_laws import every, loaded, piecewise_linear, smooth
from test_real_networks import network_and_images
from test_subdivision import network_of

REACH = 8  # how far lines are followed where the oracle needs a bounded line


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def most(values: Tensor) -> float:
    return float(values.abs().max()) if values.numel() else 0.0


# -- null spaces


@every
def test_what_is_seen_and_what_is_forgotten_split_the_input(case: Case) -> None:
    _, net = loaded(case)
    x = case.inputs(1, torch.float64, seed=3)[0]
    found, jacobian = null_space(net, x), linearise(net, x).weight
    eye = torch.eye(found.inputs, dtype=torch.float64)
    both = torch.cat([found.row_space, found.basis], 1)
    assert both.shape == eye.shape
    assert torch.allclose(both.T @ both, eye, rtol=0, atol=1e-13)  # some roundings of products of unit columns
    size = float(torch.linalg.matrix_norm(jacobian, 2))
    assert most(jacobian @ found.basis) <= float(found.tolerance) + 1e-14 * size
    assert torch.allclose(found.projector(), found.basis @ found.basis.T, rtol=0, atol=1e-13)
    v = random(*net.input_shape)
    assert torch.allclose(found.project(v).reshape(-1), found.projector() @ v.reshape(-1), rtol=0, atol=1e-12)
    assert torch.allclose(found.singular_values, torch.linalg.svdvals(jacobian), rtol=0, atol=1e-13 * (1 + size))


@given(st.data())
def test_the_rank_is_the_one_in_rationals(data: st.DataObject) -> None:
    layers: list[Layer] = data.draw(degenerate_network())
    x = data.draw(points(len(layers[0][0][0])))
    found = null_space(dense(layers), torch.tensor(x, dtype=torch.float64))
    _, weight, _ = relu_network(layers, x)
    assert int(found.rank) == rank(weight)
    assert int(found.nullity) == len(x) - rank(weight)


def test_a_batch_holds_the_null_space_of_each_point() -> None:
    net, x = zoo.digits(), zoo.digits_data().inputs[:12].double()
    x = torch.cat([x, torch.full_like(x[:1], -50.0)])  # far out other units are on
    found = null_space(net, x)
    assert len(found) == 13
    for i, point in enumerate(x):
        one, same = null_space(net, point), found[i]
        assert not same.is_batch
        assert int(one.rank) == int(same.rank) == int(found.rank[i])
        assert torch.allclose(one.singular_values, same.singular_values, atol=1e-12)
        assert torch.allclose(one.projector(), same.projector(), atol=1e-10)
        assert torch.allclose(found.project(x)[i], one.project(point), atol=1e-10)
        assert torch.allclose(found.project(x[0])[i], one.project(x[0]), atol=1e-10)
    part = found[3:5]
    assert torch.equal(part.rank, found.rank[3:5])
    assert torch.allclose(part.projector(), found.projector()[3:5])


def test_ranks_in_a_batch_may_differ() -> None:
    net = dense([([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], [0.0, 0.0]), ([[1.0, 0.0], [0.0, 1.0]], None)])
    found = null_space(net, torch.tensor([[1.0, 1.0, 0.0], [-1.0, 1.0, 0.0], [-1.0, -1.0, 0.0]]))
    assert found.rank.tolist() == [2, 1, 0]
    assert found.row_space.shape == (3, 3, 2)
    assert found.basis.shape == (3, 3, 3)
    assert [int(found.basis[i].any(0).sum()) for i in range(3)] == [1, 2, 3]
    assert torch.allclose(found.basis @ found.basis.mT, found.projector(), atol=1e-14)
    assert [found[i].basis.shape for i in range(3)] == [(3, 1), (3, 2), (3, 3)]


def test_many_points_are_worked_through_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = zoo.arrangement(6, 4), random(9, 4)
    whole, layers = null_space(net, x), forgotten_by_layer(net, x)
    monkeypatch.setattr("polylens.nullspace.MAX_BYTES", 64)
    assert torch.equal(null_space(net, x).rank, whole.rank)
    assert torch.allclose(null_space(net, x).projector(), whole.projector())
    assert torch.equal(forgotten_by_layer(net, x).rank, layers.rank)


def test_a_dead_network_forgets_everything() -> None:
    found = null_space(dense([([[1.0, 2.0]], [-9.0]), ([[1.0]], [3.0])]), torch.tensor([0.5, 0.5]))
    assert (int(found.rank), int(found.nullity), float(found.gap), float(found.tolerance)) == (0, 2, math.inf, 0.0)
    assert torch.equal(found.basis, torch.eye(2, dtype=torch.float64))
    assert torch.equal(found.projector(), torch.eye(2, dtype=torch.float64))
    assert found.project([1.0, 2.0]).tolist() == [1.0, 2.0]


def test_a_map_of_full_rank_forgets_nothing() -> None:
    found = null_space(dense([([[2.0, 0.0], [0.0, 3.0], [1.0, 1.0]], None)], gate=[]), torch.tensor([0.5, 0.5]))
    assert (int(found.rank), int(found.nullity), float(found.gap)) == (2, 0, math.inf)
    assert found.basis.shape == (2, 0)
    assert found.project([1.0, 2.0]).abs().max() <= 1e-15


def test_the_gap_tells_how_clear_the_rank_is() -> None:
    net = dense([([[4.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1e-3]], None)], gate=[])
    x = torch.zeros(3)
    exact, rough, none = (null_space(net, x, tolerance=t) for t in (None, 0.01, 8.0))
    assert (int(exact.rank), float(exact.gap), float(exact.tolerance)) == (3, math.inf, 3 * 2.0**-52 * 4)
    assert (int(rough.rank), float(rough.tolerance)) == (2, 0.01)
    assert float(rough.gap) == pytest.approx(1000.0)
    assert (int(none.rank), float(none.gap)) == (0, 2.0)  # the tolerance stands in for what is kept


def test_projecting_what_is_nearly_all_seen_leaves_nothing_of_it() -> None:
    found = null_space(zoo.digits(), zoo.digits_data().inputs[0])
    v = (1e8 * found.row_space[:, 0] + found.basis[:, 0]).reshape(found.point.shape)
    left = found.project(v).reshape(-1)
    assert float((found.row_space.T @ left).abs().max()) <= 1e-14  # one projection alone leaves the rounding of 1e8
    assert float((left - found.basis[:, 0]).abs().max()) <= 1e-6


def test_an_output_whose_terms_cancel_sees_nothing() -> None:
    net = dense([([[1.0], [1.0], [1.0]], [1.0, 1.0, 1.0]), ([[0.1, 0.2, -0.3], [1.0, 0.0, 0.0]], None)])
    assert null_space(net, torch.tensor([1.0])).singular_values.tolist() == [1.0]
    alone = dense([([[1.0], [1.0], [1.0]], [1.0, 1.0, 1.0]), ([[0.1, 0.2, -0.3]], None)])
    assert affine_map(alone, torch.tensor([1.0]), dtype=torch.float64).weight.item() != 0.0  # rounding is left
    assert int(null_space(alone, torch.tensor([1.0])).rank) == 0


def test_weights_of_single_precision_are_taken_as_the_exact_numbers_that_they_are() -> None:
    x = zoo.digits_data().inputs[:5]
    single, double = zoo.digits(), zoo.digits().double()
    a, b = null_space(single.to(dtype=torch.float32), x.float()), null_space(double, x.float())
    assert a.row_space.dtype == torch.float64
    assert torch.equal(a.singular_values, b.singular_values)


def test_each_layer_has_its_own_null_space() -> None:
    net, x = zoo.digits(), zoo.digits_data().inputs[:6].double()
    found = forgotten_by_layer(net, x)
    assert found.names == (*(g.name for g in net.gates), "output")
    for k, name in enumerate(found.names):
        layer = None if name == "output" else name
        one = null_space(net, x, layer=layer)
        assert one.layer == layer
        assert torch.equal(one.nullity, found.nullity[:, k])
    assert bool((found.nullity.diff(dim=1) >= 0).all())  # a chain brings nothing back
    assert torch.equal(forgotten_by_layer(net, x[0]).rank, found.rank[0])
    assert torch.equal(null_space(net, x, layer=0).rank, found.rank[:, 0])
    kept = null_space(net, x[0], layer=0)
    assert float(affine_map(net, x[0], 0, dtype=torch.float64).weight.matmul(kept.basis).abs().max()) <= 1e-12


def test_a_network_without_layers_forgets_nothing() -> None:
    net = Network((), (3,), torch.float64, torch.device("cpu"), "nothing")
    assert int(null_space(net, torch.zeros(3)).rank) == 3
    assert forgotten_by_layer(net, torch.zeros(3)).nullity.tolist() == [0]


@pytest.mark.parametrize(
    ("x", "error", "words"),
    [
        (torch.zeros(0, 2), InputError, "empty batch"),
        (torch.tensor([0.0, math.nan]), InputError, "NaN"),
        (torch.tensor([0, 1]), InputError, "floating-point"),
        (torch.zeros(3), ShapeError, "expected shape"),
    ],
)
def test_what_is_no_point_is_refused(x: Tensor, error: type[Exception], words: str) -> None:
    for function in (null_space, forgotten_by_layer, second_order, constant_polytope):
        with pytest.raises(error, match=words):
            function(zoo.triangle(), x)


def test_what_does_not_fit_is_refused_in_words() -> None:
    net, x = zoo.triangle(), torch.tensor([1.0, 0.0])
    with pytest.raises(InputError, match="layer: expected one of"):
        null_space(net, x, layer="nowhere")
    for function in (null_space, forgotten_by_layer, second_order):
        with pytest.raises(InputError, match="tolerance: expected a number of at least 0"):
            function(net, x, tolerance=-1.0)
        with pytest.raises(InputError, match="network: expected a Network"):
            function(nn.Linear(2, 1), x)
    one, batch = null_space(net, x), null_space(net, x[None])
    with pytest.raises(TypeError, match="no length"):
        len(one)
    with pytest.raises(TypeError, match="cannot be indexed"):
        one[0]
    for found, v in ((one, torch.zeros(3)), (batch, torch.zeros(2, 2)), (one, torch.zeros(1, 1, 2))):
        with pytest.raises(ShapeError, match="project: expected directions"):
            found.project(v)
    with pytest.raises(InputError, match="NaN"):
        one.project(torch.tensor([math.nan, 0.0]))


def test_points_that_ask_for_gradients_get_plain_answers() -> None:
    x, v = torch.tensor([1.0, -1.0], requires_grad=True), torch.tensor([0.0, 1.0], requires_grad=True)
    bent = dense([([[1.0, 0.0], [0.0, 1.0]], [0.5, 0.5]), ([[1.0, 1.0]], None)], gate="tanh")
    assert not null_space(zoo.triangle(), x).point.requires_grad
    assert not constant_polytope(zoo.triangle(), x).embed(torch.zeros(1)).requires_grad
    assert constant_along(zoo.triangle(), x, v).t_max == 2.0
    assert not second_order(bent, x).necessary_holds


# -- constancy along a line


def shifted(steps: Sequence[Step], x: Sequence[float], v: Sequence[float]) -> list[Step]:
    """Return the program of t -> f(x + t v)."""
    moved: list[Step] = [Dense(0, [[w] for w in v], list(x))]
    for step in steps:
        if isinstance(step, Sum | Join):
            moved.append(step._replace(first=step.first + 1, second=step.second + 1))
        else:
            moved.append(step._replace(source=step.source + 1))
    return moved


def exact_interval(steps: Sequence[Step], x: Sequence[float], v: Sequence[float], value: Tensor) -> tuple[Fraction, Fraction]:
    """Return the interval of constancy within [-REACH, REACH], from the exact cells of the line."""
    same = []
    for cell, forms in cells_with_outputs(shifted(steps, x, v), box([-REACH], [REACH])):
        limits = [(b / row[0], row[0] > 0) for row, b in zip(cell.matrix, cell.bound, strict=True) if row[0]]
        low, high = max(t for t, upper in limits if not upper), min(t for t, upper in limits if upper)
        if all(not row[0] and c == Fraction(float(y)) for (row, c), y in zip(forms, value, strict=True)):
            same.append((low, high))
    t_min, t_max = Fraction(0), Fraction(0)
    for low, high in sorted(same):
        t_max = high if low <= t_max < high else t_max
    for low, high in sorted(same, reverse=True):
        t_min = low if low < t_min <= high else t_min
    return t_min, t_max


def strip(x: Sequence[float], v: Sequence[float]) -> Polytope:
    """Return {y : -REACH <= t <= REACH} for the nearest x + t v."""
    row, length = torch.tensor([v, v]), REACH * sum(w * w for w in v)
    at = float(row[0] @ torch.tensor(list(x)))
    return Polytope.of(row * torch.tensor([[1.0], [-1.0]]), [at + length, length - at])


@settings(max_examples=150)
@given(st.data())
def test_the_interval_of_constancy_is_the_exact_one(data: st.DataObject) -> None:
    inputs = data.draw(st.integers(1, 3))
    steps = data.draw(program(inputs, 3))
    x = data.draw(points(inputs))
    v = data.draw(points(inputs).filter(any))
    net = network_of(steps, inputs)
    point = torch.tensor(x, dtype=torch.float64)
    want = exact_interval(steps, x, v, net(point))
    found = constant_along(net, point, torch.tensor(v, dtype=torch.float64), domain=strip(x, v))
    assert (found.t_min, found.t_max) == pytest.approx([float(t) for t in want], abs=1e-9)  # roots of dyadic forms
    for end in (found.below, found.above):
        assert (end.reason == "domain") == (abs(end.t) == REACH)
        assert (end.slope > 0) == (end.reason != "domain")


HINGES: list[Step] = [
    Dense(0, [[1.0], [1.0], [1.0], [-1.0]], [0.0, -1.0, -1.0, 3.0]),
    Kink(1, [0.0], [0.0, 1.0], [0.0, 0.0]),
    Dense(2, [[1.0, -2.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]], [0.0, 1.0]),
]  # relu(x) - relu(x - 1), by two units on one hyperplane, and a unit that nobody reads


def test_constancy_runs_across_boundaries_at_which_the_map_does_not_change() -> None:
    net = network_of(HINGES, 1)
    found = constant_along(net, torch.tensor([2.0]), torch.tensor([1.0]))
    assert (found.t_min, found.t_max, found.crossed) == (-1.0, math.inf, 1)
    assert (found.above.reason, found.above.units, found.above.crossed) == ("never ends", (), 1)
    assert found.below.reason == "the map changes"
    assert [u.unit for u in found.below.units] == [1, 2]
    assert found.below.slope == 1.0
    assert first_boundary(net, torch.tensor([2.0]), torch.tensor([1.0])).t.tolist() == [1.0]


def test_a_direction_that_the_network_sees_gives_the_point_alone() -> None:
    found = constant_along(zoo.triangle(), torch.tensor([1.0, -1.0]), torch.tensor([1.0, 0.0]))
    assert (found.t_min, found.t_max) == (0.0, 0.0)
    assert {end.reason for end in (found.below, found.above)} == {"not in the null space"}
    assert "not in the null space" in found.summary()
    wide = constant_along(zoo.triangle(), torch.tensor([1.0, -1.0]), torch.tensor([0.0, 1.0]))
    assert (wide.t_min, wide.t_max) == (-math.inf, 2.0)  # z = -x1 for as long as x2 < x1; at 2 x1 > x2 nothing more happens


def test_on_a_boundary_each_side_is_judged_for_itself() -> None:
    found = constant_along(dense([([[1.0]], [0.0]), ([[1.0]], None)]), torch.tensor([0.0]), torch.tensor([1.0]))
    assert (found.t_min, found.t_max) == (-math.inf, 0.0)
    assert found.above.reason == "the map changes"
    assert [u.unit for u in found.above.units] == [0]


def test_the_sides_of_a_domain_end_the_interval() -> None:
    net = dense([([[1.0, 0.0], [0.0, 1.0]], [0.0, -5.0]), ([[1.0, 1.0]], None)])  # a second unit wakes far outside
    x, v = torch.tensor([1.0, 0.5]), torch.tensor([0.0, 2.0])
    for domain in (Box([0.0, 0.0], [1.0, 1.0]), Polytope.box([0.0, 0.0], [1.0, 1.0]), Box([1.0, 0.0], [1.0, 1.0])):
        found = constant_along(net, x, v, domain=domain)
        assert (found.t_min, found.t_max) == (-0.25, 0.25)
        assert {end.reason for end in (found.below, found.above)} == {"domain"}
        assert [u.name for u in (*found.below.units, *found.above.units)] == ["domain", "domain"]
    open_above = constant_along(net, x, v, domain=Box([-math.inf, 0.0], [math.inf, math.inf]))
    assert (open_above.t_min, open_above.t_max, open_above.above.reason) == (-0.25, 2.25, "the map changes")


def test_rounding_in_a_direction_moves_nothing() -> None:
    net = dense([([[0.0, 1.0]], [-1.0]), ([[1.0]], None)])
    found = constant_along(net, torch.zeros(2), torch.tensor([1.0, 1e-16]))
    assert (found.t_max, found.crossed) == (math.inf, 0)
    between = dense([([[1.0, -1.0, 0.0]], [1.0]), ([[1.0]], None)])  # two small entries, equal but for rounding of the third
    v = torch.tensor([1e-6, 1e-6 + 1e-16, 1.0], dtype=torch.float64)
    assert constant_along(between, torch.zeros(3), v).below.reason == "never ends"
    assert constant_along(between, torch.zeros(3), v * torch.tensor([1.0, 1.0, 0.0])).below.reason == "not in the null space"


def test_a_jump_ends_constancy_and_says_so() -> None:
    stairs: list[Step] = [Dense(0, [[1.0]], [0.0]), Kink(1, [0.0, 2.0], [0.0, 0.0, 0.0], [0.0, 1.0, 1.0])]
    found = constant_along(network_of(stairs, 1), torch.tensor([1.0]), torch.tensor([1.0]))
    assert (found.t_min, found.t_max, found.below.slope, found.crossed) == (-1.0, math.inf, math.inf, 1)
    assert "where f jumps" in found.summary()
    assert found.to_dict()["below"]["slope"] is None


def test_constancy_of_a_layer_asks_nothing_of_what_lies_behind_it() -> None:
    module = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2), nn.Tanh())
    with torch.no_grad():
        module[0].weight.copy_(torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]]))
        module[0].bias.copy_(torch.tensor([1.0, 1.0, -1.0]))
    net, x, v = load(module, torch.zeros(1, 2)), torch.zeros(2), torch.tensor([0.0, 1.0])
    with pytest.raises(SmoothError, match="tanh"):
        constant_along(net, x, v)
    with pytest.raises(SmoothError, match="tanh"):
        constant_polytope(net, x)
    found = constant_along(net, x, v, layer=0)
    assert (found.t_min, found.t_max) == (-math.inf, 1.0)
    assert constant_polytope(net, x, layer=0).polytope.dim == 1


def test_what_is_no_line_is_refused() -> None:
    net, x = zoo.triangle(), torch.tensor([1.0, 0.0])
    with pytest.raises(InputError, match="not all zeros"):
        constant_along(net, x, torch.zeros(2))
    with pytest.raises(ShapeError, match="got a batch"):
        constant_along(net, x[None], torch.ones(2))
    with pytest.raises(InputError, match="inside the domain"):
        constant_along(net, x, torch.ones(2), domain=Box([2.0, 2.0], [3.0, 3.0]))
    with pytest.raises(InputError, match="expected a Polytope"):
        constant_along(net, x, torch.ones(2), domain="everywhere")  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="2 flattened inputs"):
        constant_along(net, x, torch.ones(2), domain=Box([0.0], [1.0]))
    with pytest.raises(InputError, match="network: expected a Network"):
        constant_along(nn.Linear(2, 1), x, torch.ones(2))  # type: ignore[arg-type]


# -- the polytope of constancy


@piecewise_linear
def test_the_network_is_constant_on_the_polytope(case: Case) -> None:
    _, net = loaded(case)
    x = case.inputs(1, torch.float64, seed=8)[0] * 0.5
    sides = Polytope.box([-3.0] * x.numel(), [3.0] * x.numel())
    found = constant_polytope(net, x, domain=sides)
    assert found.polytope.dim == int(found.null_space.nullity)
    assert torch.allclose(found.embed(torch.zeros(found.polytope.dim)), x)
    assert found.boundedness.answer is True
    if not found.polytope.dim:
        return
    z = geometry.sample(found, 10, seed=0).points
    inputs = found.embed(z)
    assert bool(region(net, x, domain=sides).polytope.contains(inputs.reshape(10, -1), 1e-9).all())
    y = net(x)
    assert float((net(inputs) - y).abs().max()) <= 1e-9 * (1 + float(y.abs().max()))
    assert bool((found.polytope.slack(found.ball.center) > 0).all())
    assert found.ball.radius > 0


@piecewise_linear
def test_within_the_region_the_interval_is_that_of_the_polytope(case: Case) -> None:
    _, net = loaded(case)
    x = case.inputs(1, torch.float64, seed=8)[0] * 0.5
    found = constant_polytope(net, x)
    if not found.polytope.dim:
        return
    z = random(found.polytope.dim, seed=4)
    v = found.embed(z) - x
    inside = [float(found.polytope.ray_exit(torch.zeros_like(z), s * z).t) for s in (-1, 1)]
    along = constant_along(net, x, v)
    assert -along.t_min >= inside[0] * (1 - 1e-9)
    assert along.t_max >= inside[1] * (1 - 1e-9)
    if not along.crossed and math.isfinite(along.t_max):
        assert along.t_max == pytest.approx(inside[1])


def test_known_polytopes_of_constancy() -> None:
    strip = constant_polytope(zoo.triangle(), torch.tensor([1.0, -1.0]))  # z = -x1 while x2 < x1: a ray
    assert (strip.polytope.dim, strip.boundedness.answer, strip.ball.radius) == (1, False, math.inf)
    dead = constant_polytope(dense([([[1.0, 0.0], [0.0, 1.0]], None), ([[1.0, 1.0]], None)]), torch.tensor([-1.0, -1.0]))
    assert (dead.polytope.dim, dead.boundedness.answer) == (2, False)  # the region itself, a cone
    assert torch.equal(dead.polytope.matrix, dead.region.polytope.matrix)
    full = constant_polytope(zoo.identity(2), torch.tensor([1.0, 1.0]))
    assert (full.polytope.dim, len(full.polytope), full.boundedness.answer) == (0, 0, True)
    assert full.embed(torch.zeros(3, 0)).tolist() == [[1.0, 1.0]] * 3
    with pytest.raises(InputError, match="z: expected"):
        full.embed(torch.zeros(2))


def test_walls_along_the_null_space_are_left_out() -> None:
    weight = random(3, 5)
    net = dense([(torch.cat([weight, -weight]), random(6, seed=1)), (random(3, 6, seed=2), None)])
    found = constant_polytope(net, torch.zeros(5))
    active = int(found.region.num_active)
    assert int(found.null_space.rank) == min(3, active)
    kept = found.polytope.matrix.norm(dim=1)
    assert not len(kept) or float(kept.min()) > 1e-6  # nothing between rounding and a wall
    if active == 3:
        assert len(found.polytope) == 0


# -- second order


@smooth
def test_second_derivatives_along_the_null_space_are_those_of_whole_hessians(case: Case) -> None:
    _, net = loaded(case)
    x = case.inputs(1, torch.float64, seed=3)[0]
    found = second_order(net, x)
    basis = found.null_space.basis
    if not basis.shape[1]:
        assert found.verdict == "nothing is forgotten"
        return

    def flat(z: Tensor) -> Tensor:
        return net.forward(z.reshape(1, *net.input_shape)).reshape(-1)

    with sdpa_kernel(SDPBackend.MATH):
        whole = torch.stack([hessian(lambda z, i=i: flat(z)[i], x.reshape(-1)) for i in range(flat(x).numel())])
    size = float(whole.abs().max())
    bent = (basis.T @ whole @ basis).abs()
    turned = torch.linalg.vector_norm(whole @ basis, dim=1)
    worst, other = found.necessary, found.sufficient
    assert worst.value == pytest.approx(float(bent[worst.output, worst.j, worst.k]), abs=1e-10 * size)
    assert other.value == pytest.approx(float(turned[other.output, other.j]), abs=1e-10 * size)
    assert worst.value <= float(bent.max()) + 1e-10 * size
    assert found.necessary_holds == (float(bent.max()) <= 1e-10 * size)
    assert found.sufficient_holds == (float(turned.max()) <= 1e-10 * size)
    assert bool((bent.amax((1, 2)) * worst.relative <= worst.value * bent.amax((1, 2)).max() + size).all())


@pytest.mark.parametrize("gate", ["tanh", "softplus", "gelu"])
def test_a_function_of_one_direction_is_constant_across_it(gate: str) -> None:
    weight = random(1, 6) * torch.tensor([[1.0, 1e3, 1e-3, 1.0, 30.0, 1.0]])
    net = dense([(weight, torch.tensor([0.3])), ([[2.0], [-1.0]], None)], gate=gate)
    found = second_order(net, torch.full((6,), 1e-4))
    assert found.directions.shape == (6, 5)
    assert found.necessary_holds
    assert found.sufficient_holds
    assert found.verdict.startswith("constant to second order")
    assert found.necessary.relative < found.tolerance / 10  # the bound is no near miss


@pytest.mark.parametrize("gate", ["tanh", "softplus", "gelu"])
def test_a_curved_level_set_breaks_the_necessary_condition(gate: str) -> None:
    net = dense([([[1.0, 0.0], [0.0, 1.0]], [0.5, 0.5]), ([[1.0, 1.0]], None)], gate=gate)
    found = second_order(net, torch.tensor([0.3, 0.1]))
    assert not found.necessary_holds
    assert not found.sufficient_holds
    assert found.necessary.relative > 1e-3
    assert (found.necessary.output, found.necessary.j, found.necessary.k) == (0, 0, 0)


class Product(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, 0:1] * x[:, 1:2]


def test_a_null_space_can_turn_where_the_output_does_not_bend() -> None:
    found = second_order(load(Product(), torch.zeros(1, 2)), torch.tensor([0.0, 1.0]))  # a b at (0, 1)
    assert found.necessary_holds
    assert not found.sufficient_holds
    assert found.sufficient.value == pytest.approx(1.0)
    assert "turns" in found.verdict


def test_second_derivatives_that_cancel_count_as_zero() -> None:
    ones = [[1.0, 0.0], [0.0, 1.0]]
    weight = torch.tensor([*ones, *ones, *ones])
    out = torch.tensor([[0.1, 0.1, 0.2, 0.2, -0.3, -0.3]], dtype=torch.float64)
    net = dense([(weight.double(), torch.full((6,), 0.5).double()), (out, None)], gate="tanh")
    assert int(null_space(net, torch.tensor([0.2, 0.1])).rank) == 0
    assert second_order(net, torch.tensor([0.2, 0.1])).sufficient.value <= 1e-15


def test_within_a_region_a_piecewise_linear_network_does_not_bend_at_all() -> None:
    found = second_order(zoo.triangle(), torch.tensor([1.0, -1.0]))
    assert found.exact
    assert found.necessary_holds
    assert found.sufficient_holds
    assert (found.necessary.value, found.sufficient.value, found.tolerance) == (0.0, 0.0, 0.0)
    assert "exactly" in found.verdict


def test_second_order_of_a_layer_and_with_random_directions() -> None:
    module = nn.Sequential(nn.Linear(9, 4), nn.ReLU(), nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
    torch.manual_seed(0)
    for p in module.parameters():
        nn.init.normal_(p)
    net = load(module, torch.zeros(1, 9))
    x = random(9, seed=5)
    assert second_order(net, x, layer=0).exact
    few, all_of_them = second_order(net, x, directions=2), second_order(net, x)
    assert few.directions.shape == (9, 2)
    assert torch.allclose(few.directions.T @ few.directions, torch.eye(2, dtype=torch.float64), atol=1e-13)
    assert float((linearise(net.double(), x).weight @ few.directions).abs().max()) <= 1e-13
    assert few.sufficient.value <= all_of_them.sufficient.value * math.sqrt(int(all_of_them.null_space.nullity)) + 1e-12
    assert torch.equal(few.directions, second_order(net, x, directions=2).directions)
    for wrong in (0, -1, 1.5, True):
        with pytest.raises(InputError, match="directions: expected a positive number"):
            second_order(net, x, directions=wrong)  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="got a batch"):
        second_order(net, x[None])
    assert second_order(net, x, tolerance=10.0).sufficient_holds


# -- results


def results() -> list[Result]:
    bent = dense([([[1.0, 0.0], [0.0, 1.0]], [0.5, 0.5]), ([[1.0, 1.0]], None)], gate="tanh")
    net, x = zoo.digits(), zoo.digits_data().inputs[:3].double()
    plain = zoo.triangle()
    return [
        null_space(net, x),
        null_space(net, x[0]),
        null_space(dense([([[1.0]], [-9.0]), ([[1.0]], None)]), torch.zeros(1)),
        forgotten_by_layer(net, x),
        forgotten_by_layer(net, x[0]),
        constant_along(plain, torch.tensor([1.0, -1.0]), torch.tensor([0.0, 1.0])),
        constant_along(plain, torch.tensor([1.0, -1.0]), torch.tensor([1.0, 1.0])),
        constant_along(dense([([[0.0]], [1.0]), ([[1.0]], None)]), torch.zeros(1), torch.ones(1)),
        constant_polytope(net, x[0]),
        constant_polytope(net, x[0], domain=Polytope.box([0.0] * 64, [1.0] * 64)),
        constant_polytope(zoo.identity(2), torch.ones(2)),
        second_order(bent, torch.zeros(2)),
        second_order(plain, torch.tensor([1.0, -1.0])),
    ]


@pytest.mark.parametrize("k", range(13))
def test_results_speak_and_draw(k: int) -> None:
    found = results()[k]
    assert repr(found) in found.summary()
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))
    before, ax = dict(mpl.rcParams), Figure().subplots()
    assert found.plot(ax) is ax
    ax.figure.canvas.draw()
    assert ax.get_xlabel()
    assert dict(mpl.rcParams) == before


def test_what_is_seen_and_forgotten_of_an_image_is_drawn() -> None:
    net, x = zoo.digits(), zoo.digits_data().inputs[:3].double()
    found = null_space(net, x)
    for part in ("input", "seen", "forgotten", 0):
        ax = Figure().subplots()
        assert found[0].plot(ax, part=part) is ax
        assert ax.images
    null_space_figure(found).canvas.draw()
    null_space_figure(null_space(zoo.triangle(), torch.ones(2))).canvas.draw()
    assert null_space(zoo.triangle(), torch.ones(2)).plot(Figure().subplots(), part="seen").patches
    for wrong in ("everything", 99, True):
        with pytest.raises(InputError, match="part: expected"):
            found[0].plot(Figure().subplots(), part=wrong)
    with pytest.raises(InputError, match="take one point"):
        found.plot(Figure().subplots(), part="seen")


# -- a trained network


@pytest.fixture(scope="module")
def mnist(data: Path) -> tuple[Network, Tensor, NullSpace]:
    net, x, _ = network_and_images(data, "mnist-net_256x2.onnx", 12)
    net = net.double()
    return net, x, null_space(net, x)


def test_a_trained_network_forgets_nearly_all_of_an_image(mnist: tuple[Network, Tensor, NullSpace]) -> None:
    net, x, found = mnist
    assert torch.equal(found.nullity, 784 - found.rank)
    assert int(found.rank.max()) <= 10
    assert float(found.gap.min()) > 1e6  # the rank is clear
    jacobians = linearise(net, x).weight
    assert torch.equal(found.rank, torch.linalg.matrix_rank(jacobians))
    assert float((jacobians @ found.project(random(*x.shape)).flatten(1)[..., None]).abs().max()) <= 1e-12


@pytest.mark.parametrize("seed", range(3))
def test_a_trained_network_is_constant_on_the_stated_interval_and_no_longer(
    mnist: tuple[Network, Tensor, NullSpace], seed: int
) -> None:
    net, x, spaces = mnist
    for i, v in enumerate(spaces.project(random(*x.shape, seed=seed))):
        found = constant_along(net, x[i], v)
        t = torch.linspace(found.t_min, found.t_max, 51, dtype=torch.float64).reshape(-1, *(1,) * v.ndim)
        assert float((net(x[i] + t * v) - net(x[i])).abs().max()) <= 1e-9
        for end, beyond in ((found.below, -1e-5), (found.above, 1e-5)):
            assert end.reason == "the map changes"
            for far in (1.0, 0.5):  # it grows linearly
                moved = net(x[i] + (end.t + far * beyond) * v) - net(x[i])
                assert float(torch.linalg.vector_norm(moved)) == pytest.approx(abs(far * beyond) * end.slope, rel=1e-4)


def test_within_the_pixels_range_the_interval_ends_at_a_side_or_at_a_unit(mnist: tuple[Network, Tensor, NullSpace]) -> None:
    net, x, _ = mnist
    sides = Polytope.box([0.0] * 784, [1.0] * 784)
    reasons = set()
    for i, point in enumerate(x):
        free = ((point > 0) & (point < 1)).reshape(-1)
        jacobian = affine_map(net, point).weight[:, free]
        w = random(int(free.sum()), seed=i)
        v = torch.zeros(784, dtype=torch.float64)
        v[free] = w - torch.linalg.pinv(jacobian) @ (jacobian @ w)
        found = constant_along(net, point, v.reshape(point.shape), domain=sides)
        assert found.t_min < 0 < found.t_max
        ends = torch.stack([point.reshape(-1) + t * v for t in (found.t_min, found.t_max)])
        assert float((-ends).max()) <= 1e-12
        assert float((ends - 1).max()) <= 1e-12
        t = torch.linspace(found.t_min, found.t_max, 21, dtype=torch.float64)[:, None]
        assert float((net((point.reshape(-1) + t * v).reshape(-1, *point.shape)) - net(point)).abs().max()) <= 1e-9
        reasons |= {end.reason for end in (found.below, found.above)}
    assert reasons <= {"domain", "the map changes"}
    assert "domain" in reasons


def test_a_trained_unit_stays_off_across_boundaries_that_do_not_wake_it(mnist: tuple[Network, Tensor, NullSpace]) -> None:
    net, x, _ = mnist
    gate = net.gates[1].name
    hidden, crossed, woken = up_to(net, gate), 0, 0
    for i, v in enumerate(random(*x.shape, seed=9)):
        here = affine_map(net, x[i], gate, at="pre")
        z = here(x[i]).reshape(-1)
        unit = int(torch.where(z < 0, z, -math.inf).argsort(descending=True)[20])  # off, and not the first to wake
        v = v + 20 * here.images()[unit] / torch.linalg.vector_norm(here.weight[unit])
        row = torch.eye(256, dtype=torch.float64)[unit : unit + 1]
        one = replace(hidden, nodes=(*hidden.nodes, Node("one", Linear(row, None), (len(hidden.nodes),), (1,))))
        assert int(null_space(one, x[i]).rank) == 0
        found = constant_along(one, x[i], v)
        crossed += found.crossed
        for end, beyond in ((found.below, -1e-7), (found.above, 1e-7)):
            if end.reason == "the map changes":
                woken += 1
                assert (end.units[0].name, end.units[0].unit) == (gate, unit)
                assert float(one(x[i] + (end.t + beyond) * v)) == pytest.approx(1e-7 * end.slope, rel=1e-4)
        t = torch.linspace(max(found.t_min, -9.0), min(found.t_max, 9.0), 51, dtype=torch.float64)
        assert not one(x[i] + t.reshape(-1, *(1,) * v.ndim) * v).gt(1e-9).any()
    assert crossed > 100
    assert woken > 5


def test_the_polytope_of_a_trained_network_holds_what_it_cannot_tell_apart(mnist: tuple[Network, Tensor, NullSpace]) -> None:
    net, x, spaces = mnist
    found: ConstantPolytope = constant_polytope(net, x[0])
    assert found.polytope.dim == int(spaces.nullity[0])
    z = random(20, found.polytope.dim)
    reach = found.polytope.ray_exit(torch.zeros_like(z), z).t
    inputs = found.embed(z * torch.where(reach < math.inf, 0.999 * reach, 1.0)[:, None])
    assert float((net(inputs) - net(x[0])).abs().max()) <= 1e-9
    assert found.boundedness.answer is False  # fewer walls than dimensions
