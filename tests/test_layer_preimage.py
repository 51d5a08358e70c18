"""Preimages of layers: every kind against vertices in rationals, every proof against plain products, and the known answers."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from oracles import dot, exact, hull_dimension, polytope_vertices
from polylens import LayerPreimage, Polytope, layer_preimage
from polylens.errors import GeometryError, InputError, ShapeError
from strategies import INTEGERS, Layer, layer, points

Rows = list[list[float]]


def tensor(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


class Truth(NamedTuple):
    """What vertices in rationals say."""

    kind: str
    dimension: int
    diameter: float


def truth(weight: Rows, bias: list[float], x: list[float], orthant: bool) -> Truth:
    """Answer from the vertices of the recession cone within a cube, and of the set within a cube around x."""
    a, (b, point) = exact(weight), exact([bias, x])
    z = [dot(row, point) + c for row, c in zip(a, b, strict=True)]
    rows = [r for row, v in zip(a, z, strict=True) for r in ([row, [-w for w in row]] if v > 0 else [row])]
    slack = [s for v in z for s in ([Fraction(0), Fraction(0)] if v > 0 else [-v])]
    n = len(point)
    unit = [[Fraction(int(i == j)) for j in range(n)] for i in range(n)]
    sides = [[s * v for v in row] for row in unit for s in (1, -1)]
    if orthant:
        rows, slack = rows + [[-v for v in row] for row in unit], slack + point
    cone = polytope_vertices(rows + sides, [Fraction(0)] * len(rows) + [Fraction(1)] * (2 * n))
    around = polytope_vertices(rows + sides, slack + [Fraction(1)] * (2 * n))
    dimension = hull_dimension(around)
    if any(any(v) for v in cone):
        return Truth("unbounded", dimension, math.inf)
    corners = polytope_vertices(rows, slack)
    far = max(sum(((p - q) ** 2 for p, q in zip(v, w, strict=True)), Fraction(0)) for v in corners for w in corners)
    return Truth("singleton" if dimension == 0 else "bounded", dimension, math.sqrt(far))


def check(found: LayerPreimage) -> None:
    """Hold the proofs against plain products, and the pair against the layer itself."""
    e, g = found.weight[found.equal], found.inequalities
    size = 1 + float(found.weight.abs().sum())
    if found.ray is not None:
        assert float(found.ray.norm()) == pytest.approx(1)
        assert bool(((e @ found.ray).abs() <= 1e-11 * size).all())
        assert bool((g.matrix @ found.ray <= 1e-11 * size).all())
    if found.multipliers is not None and found.levels is not None:
        assert bool((found.multipliers > 0).all())
        left = e.T @ found.levels + g.matrix.T @ found.multipliers
        terms = e.abs().T @ found.levels.abs() + g.matrix.abs().T @ found.multipliers
        assert bool((left.abs() <= 1e-9 * (1e-300 + terms.max())).all())  # the accuracy of proofs by multipliers
    if found.pair is not None:
        y = outputs(found, found.point)
        for z in found.pair:
            assert torch.allclose(outputs(found, z), y, rtol=1e-9, atol=1e-9 * size * (1 + float(z.norm())))
            if found.reachable is not None:
                assert bool(found.inequalities.contains(z, 1e-9 * size * (1 + float(z.norm()))))
    assert found.span <= found.diameter * (1 + 1e-9)


def outputs(found: LayerPreimage, x: Tensor) -> Tensor:
    z = found.weight @ x + found.bias
    return {"relu": torch.relu, "abs": torch.abs}.get(found.gate, lambda v: v)(z)


# -- all kinds against rationals


@st.composite
def question(draw: st.DrawFn) -> tuple[Layer, list[float], bool]:
    """Draw a damaged layer of up to three inputs and an input that often lies on hyperplanes."""
    inputs = draw(st.integers(1, 3))
    given = draw(layer(inputs, draw(st.integers(1, 6))))
    x = draw(points(inputs))
    orthant = draw(st.booleans())
    if draw(st.booleans()):  # hyperplanes through x: tight rows, and singletons that are not due to rank
        weight, _ = given
        given = weight, [min(0.0, draw(INTEGERS)) - sum(w * v for w, v in zip(row, x, strict=True)) for row in weight]
    return given, [abs(v) for v in x] if orthant else x, orthant


CROSS: Rows = [[1, 0], [-1, 0], [0, 1], [0, -1]]


@settings(max_examples=100)
@given(question())
@example(((CROSS, [-1.0, -1.0, -1.0, -1.0]), [0.0, 0.0], False))  # bounded
@example(((CROSS, [0.0, 0.0, 0.0, 0.0]), [0.0, 0.0], False))  # a singleton by its tight rows
@example(((CROSS, [0.0, 0.0, -1.0, -1.0]), [0.0, 0.0], False))  # bounded, of dimension 1
@example(((CROSS[:3], [-1.0, -1.0, -1.0]), [0.0, 0.0], False))  # unbounded: 0 on the boundary of the hull
@example((([[1, 0], [-1, 0], [1, 0], [-2, 0]], [-1.0] * 4), [0.0, 0.0], False))  # unbounded: rank
@example((([[1, 1]], [-1.0]), [0.0, 0.0], True))  # bounded on the orthant alone
@example((([[1, 1]], [0.0]), [0.0, 0.0], True))  # a singleton there
def test_kind_dimension_and_diameter_are_those_of_vertices_in_rationals(asked: tuple[Layer, list[float], bool]) -> None:
    (weight, bias), x, orthant = asked
    expected = truth(weight, bias, x, orthant)
    for in_rationals in (False, True):
        found = layer_preimage(
            tensor(weight), tensor(bias), tensor(x), reachable="orthant" if orthant else None, exact=in_rationals
        )
        assert (found.kind, found.dimension) == expected[:2]
        assert found.diameter >= expected.diameter * (1 - 1e-12)
        check(found)
        assert found.word in found.summary()


@settings(max_examples=60)
@given(question())
def test_an_output_has_the_preimage_of_its_input(asked: tuple[Layer, list[float], bool]) -> None:
    (weight, bias), x, orthant = asked
    a, b = tensor(weight), tensor(bias)
    y = torch.relu(a @ tensor(x) + b)
    found = layer_preimage(a, b, y=y, reachable="orthant" if orthant else None)
    assert found.kind == truth(weight, bias, x, orthant).kind
    assert torch.allclose(torch.relu(a @ found.point + b), y, atol=1e-8)  # the accuracy of the solver that finds one


# -- known cases


def test_a_point_is_determined_by_as_many_positive_outputs_as_inputs() -> None:
    found = layer_preimage(tensor([[1, 2], [3, 4], [-1, -1]]), None, tensor([1.0, 1.0]))
    assert found.kind == "singleton"
    assert found.dimension == 0
    assert found.diameter == 0
    assert found.pair is None


def test_a_layer_with_fewer_units_than_inputs_is_unbounded_and_on_the_orthant_need_not_be() -> None:
    a, x = torch.ones(1, 3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    assert layer_preimage(a, None, x).word == "infinite"
    found = layer_preimage(a, None, x, reachable="orthant")
    assert found.word == "finite"
    assert found.dimension == 2
    assert math.sqrt(18) <= found.diameter < 10  # a triangle with sides of length sqrt 18
    assert found.span > 2
    check(found)


def test_the_diameter_of_a_triangle_on_the_orthant_is_that_of_its_longest_side() -> None:
    found = layer_preimage(tensor([[1.0, 2.0, 4.0]]), None, tensor([1.0, 1.0, 1.0]), reachable="orthant")
    longest = math.hypot(7.0, 3.5)  # corners at 7, 3.5 and 1.75 on the axes
    assert longest <= found.diameter <= longest * (1 + 1e-9)
    assert 0.7 * longest < found.span <= longest


def test_a_polytope_that_inputs_lie_in_bounds_their_preimage() -> None:
    box = Polytope.box([-1.0] * 3, [1.0] * 3)
    found = layer_preimage(torch.ones(1, 3, dtype=torch.float64), None, tensor([0.1, 0.1, 0.1]), reachable=box)
    assert found.word == "finite"
    assert found.diameter >= 2 * math.sqrt(2)
    check(found)
    with pytest.raises(GeometryError, match="reachable"):
        layer_preimage(torch.ones(1, 3, dtype=torch.float64), None, tensor([2.0, 0.0, 0.0]), reachable=box)


def test_rows_parallel_to_equalities_do_not_count() -> None:
    # on the line where x is known, rows (k, 0) are 0: only the third row cuts, on one side
    a, b = tensor([[1, 0], [3, 0], [0, 1]]), tensor([0.0, -9.0, -1.0])
    found = layer_preimage(a, b, tensor([1.0, 0.0]))
    assert found.kind == "unbounded"
    assert found.ray is not None
    assert found.ray.tolist() == pytest.approx([0.0, -1.0])


def test_the_diameter_of_a_cube_is_not_overstated_much() -> None:
    for n in (2, 5, 10):
        a = torch.cat([torch.eye(n, dtype=torch.float64), -torch.eye(n, dtype=torch.float64)])
        found = layer_preimage(a, -torch.ones(2 * n, dtype=torch.float64), torch.zeros(n, dtype=torch.float64))
        assert found.kind == "bounded"
        assert 2 * math.sqrt(n) <= found.diameter <= 2 * n * math.sqrt(2)
        assert found.span > math.sqrt(n)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_scales_of_weights_and_inputs_change_nothing(scale: float) -> None:
    gen = torch.Generator().manual_seed(0)
    a, x = torch.randn(30, 6, generator=gen, dtype=torch.float64), torch.randn(6, generator=gen, dtype=torch.float64)
    b = -(a @ x) - torch.rand(30, generator=gen, dtype=torch.float64)
    plain = layer_preimage(a, b, x)
    assert plain.kind == "bounded"
    for other in (layer_preimage(scale * a, scale * b, x), layer_preimage(a / scale, b, scale * x)):
        assert (other.kind, other.dimension) == (plain.kind, plain.dimension)
        check(other)


def test_both_ways_to_ask_on_the_orthant_agree() -> None:
    gen = torch.Generator().manual_seed(3)
    kinds = []
    for _ in range(40):
        a = torch.randn(6, 20, generator=gen, dtype=torch.float64) + 0.25
        x = torch.relu(torch.randn(20, generator=gen, dtype=torch.float64))
        short = layer_preimage(a, None, x, reachable="orthant")  # by columns
        long = layer_preimage(a, None, x, reachable=Polytope.box([0.0] * 20, [math.inf] * 20))  # by rows
        assert (short.kind, short.dimension) == (long.kind, long.dimension)
        check(short)
        check(long)
        kinds.append(short.kind)
    assert set(kinds) == {"bounded", "unbounded"}


# -- other gates


def test_injective_gates_lose_nothing_but_what_the_matrix_loses() -> None:
    wide, tall = tensor([[1.0, 2.0, 3.0]]), tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    x = tensor([-1.0, -2.0])
    for gate in ("leaky_relu", "crelu", "identity"):
        assert layer_preimage(tall, None, x, gate=gate).kind == "singleton"
        found = layer_preimage(wide, None, tensor([-1.0, 0.0, 0.0]), gate=gate)
        assert (found.kind, found.dimension) == ("unbounded", 2)
        check(found)


def test_outputs_of_other_gates_are_undone_first() -> None:
    a, b, x = tensor([[1.0, 0.5], [0.0, 2.0]]), tensor([0.25, 0.0]), tensor([-1.0, 3.0])
    z = a @ x + b
    for gate, y in {
        "leaky_relu": torch.nn.functional.leaky_relu(z, 0.2),
        "crelu": torch.cat([torch.relu(z), torch.relu(-z)]),
        "identity": z,
    }.items():
        assert torch.allclose(layer_preimage(a, b, y=y, gate=gate, slope=0.2).point, x)  # type: ignore[arg-type]


def test_outputs_in_float32_are_met_up_to_their_rounding() -> None:
    gen = torch.Generator().manual_seed(0)
    weight, bias, x = (torch.randn(*shape, generator=gen) for shape in ((40, 5), (40,), (5,)))
    y = torch.relu(weight @ x + bias)
    found = layer_preimage(weight, bias, y=y)
    assert found.kind == "singleton"
    assert torch.allclose(found.point, x.double(), atol=1e-5)
    with pytest.raises(GeometryError, match="no input has the positive part"):
        layer_preimage(weight, bias, y=y.double())  # in float64 the same numbers contradict one another
    with pytest.raises(GeometryError, match="no input has the positive part"):
        layer_preimage(weight, bias, y=y * torch.linspace(1.0, 1.001, 40))


def test_an_absolute_value_has_an_input_for_every_sign_that_fits() -> None:
    a = tensor([[1.0, 0.0], [0.0, 1.0]])
    found = layer_preimage(a, None, tensor([3.0, 4.0]), gate="abs")
    assert found.word == "finite"
    assert found.pair is not None
    assert found.span == pytest.approx(10)  # the farthest of four is the opposite one
    check(found)
    third = torch.cat([a, tensor([[1.0, 2.0]])])
    bias = tensor([0.0, 0.0, 1.0])
    assert layer_preimage(third, bias, tensor([3.0, 4.0]), gate="abs").kind == "singleton"  # |12| for no other signs
    assert layer_preimage(a, None, tensor([0.0, 0.0]), gate="abs").kind == "singleton"
    assert layer_preimage(a[:1], None, tensor([3.0, 4.0]), gate="abs").kind == "unbounded"
    quadrant = layer_preimage(a, None, tensor([3.0, 4.0]), gate="abs", reachable="orthant")
    assert quadrant.kind == "singleton"


def test_absolute_values_without_biases_are_mirrored_in_any_dimension() -> None:
    gen = torch.Generator().manual_seed(0)
    a, x = (torch.randn(*shape, generator=gen, dtype=torch.float64) for shape in ((40, 20), (20,)))
    found = layer_preimage(a, None, x, gate="abs")
    assert found.kind == "bounded"
    assert found.span == pytest.approx(2 * float(x.norm()))
    check(found)
    b = torch.randn(40, generator=gen, dtype=torch.float64)
    assert layer_preimage(a, b, x, gate="abs").kind == "undecided"  # 2^20 signs are not tried


# -- sizes of trained layers


def test_gaussian_layers_are_settled_with_proofs_at_sizes_of_trained_ones() -> None:
    gen = torch.Generator().manual_seed(0)
    a = torch.randn(600, 120, generator=gen, dtype=torch.float64)
    kinds = set()
    for shift in (-1.0, 0.3, 0.8):
        x = torch.randn(120, generator=gen, dtype=torch.float64)
        level = torch.quantile(a @ x, 0.5 + shift / 2 - 0.01 * (shift > 0.5) if shift > 0 else 1.0)
        found = layer_preimage(a, torch.full((600,), -float(level) - 1e-3, dtype=torch.float64), x)
        assert found.kind != "undecided"
        kinds.add(found.kind)
        check(found)
    assert {"singleton", "bounded"} <= kinds


# -- errors


def test_what_cannot_be_asked_is_refused_with_reasons() -> None:
    eye = torch.eye(2, dtype=torch.float64)
    x = torch.ones(2, dtype=torch.float64)
    with pytest.raises(InputError, match="both or neither"):
        layer_preimage(eye)
    with pytest.raises(InputError, match="gate: expected one of"):
        layer_preimage(eye, None, x, gate="tanh")  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="bias"):
        layer_preimage(eye, torch.ones(3), x)
    with pytest.raises(GeometryError, match="at least 0"):
        layer_preimage(eye, None, y=tensor([-1.0, 0.0]))
    with pytest.raises(GeometryError, match="no input has the positive part"):
        layer_preimage(torch.cat([eye, eye]), None, y=tensor([1.0, 1.0, 2.0, 1.0]))
    with pytest.raises(GeometryError, match="within its inequalities"):
        layer_preimage(tensor([[1.0], [-1.0]]), tensor([1.0, 1.0]), y=tensor([0.0, 0.0]))
    with pytest.raises(InputError, match="positive number"):
        layer_preimage(eye, None, y=x, gate="leaky_relu", slope=-1.0)
    with pytest.raises(InputError, match="signs"):
        layer_preimage(eye, None, y=x, gate="abs")
    with pytest.raises(ShapeError, match="dimension 2"):
        layer_preimage(eye, None, x, reachable=Polytope.simplex(3))


def test_results_speak_and_are_plain() -> None:
    found = layer_preimage(tensor(CROSS), tensor([-1.0] * 4), tensor([0.0, 0.0]))
    assert "finite preimage (bounded)" in found.summary()
    assert found.to_dict()["word"] == "finite"
    assert list(itertools.chain(found.to_dict()["equal"], found.to_dict()["less"])) == [0, 1, 2, 3]


# -- max-pooling


def union_truth(weight: Rows, bias: list[float], x: list[float], windows: list[list[int]], relu: bool) -> str:
    """Answer from the vertices of every piece of the union, in rationals."""
    a, (b, point) = exact(weight), exact([bias, x])
    z = [dot(row, point) + c for row, c in zip(a, b, strict=True)]
    tops = [max([z[j] for j in w] + ([Fraction(0)] if relu else [])) for w in windows]
    n, corners = len(point), list[list[Fraction]]()
    unit = [[Fraction(int(i == j)) for j in range(n)] for i in range(n)]
    sides = [[s * v for v in row] for row in unit for s in (1, -1)]
    for winners in itertools.product(*[[None] if relu and t == 0 else w for w, t in zip(windows, tops, strict=True)]):
        rows = [a[j] for w in windows for j in w] + [[-v for v in a[j]] for j in winners if j is not None]
        slack = [t - b[j] for w, t in zip(windows, tops, strict=True) for j in w]
        slack += [b[j] - t for j, t in zip(winners, tops, strict=True) if j is not None]
        found = polytope_vertices(rows + sides, slack + [Fraction(1000)] * (2 * n))
        corners += found
        if found and any(any(v) for v in polytope_vertices(rows + sides, [Fraction(0)] * len(rows) + [Fraction(1)] * (2 * n))):
            return "unbounded"
    return "singleton" if all(v == corners[0] for v in corners) else "bounded"


@settings(max_examples=60)
@given(st.data(), st.booleans())
def test_kinds_under_max_pooling_are_those_of_all_pieces_in_rationals(data: st.DataObject, relu: bool) -> None:
    inputs = data.draw(st.integers(1, 2))
    weight, bias = data.draw(layer(inputs, data.draw(st.sampled_from([2, 4, 6]))))
    x = data.draw(points(inputs))
    windows = [[j, j + 1] for j in range(0, len(weight), 2)]
    gate = "relu" if relu else "identity"
    found = layer_preimage(tensor(weight), tensor(bias), tensor(x), gate=gate, windows=windows)  # type: ignore[arg-type]
    assert found.kind == union_truth(weight, bias, x, windows, relu)
    if found.pair is not None:  # both have the output of x
        pooled = [pool(found, z, windows, relu) for z in (found.point, *found.pair)]
        for y in pooled[1:]:
            assert torch.allclose(y, pooled[0], atol=1e-7 * (1 + float(found.pair.abs().max())))  # the solver's accuracy


def pool(found: LayerPreimage, x: Tensor, windows: list[list[int]], relu: bool) -> Tensor:
    z = found.weight @ x + found.bias
    return torch.stack([(z.clamp(min=0) if relu else z)[w].max() for w in windows])


def test_two_maxima_can_pin_a_point_down_or_leave_two_rays() -> None:
    # max(x, -x) = 1 leaves x = 1 and x = -1; max(x, 0 x) = 0 leaves the half-line x <= 0
    two = layer_preimage(tensor([[1], [-1]]), None, tensor([1.0]), gate="identity", windows=[[0, 1]])
    assert two.kind == "bounded"
    assert 2 <= two.diameter < 2.2  # a bound, of a simplex around it
    assert two.pair is not None
    assert sorted(two.pair.flatten().tolist()) == pytest.approx([-1, 1])
    half = layer_preimage(tensor([[1], [0]]), None, tensor([-1.0]), gate="identity", windows=[[0, 1]])
    assert half.kind == "unbounded"
    # max(x, x - 5) = 1 is attained by x = 1 alone, as max(-x, ...) = -1 says as well
    one = layer_preimage(tensor([[1], [1], [-1], [-1]]), tensor([0, -5, 0, -5]), tensor([1.0]), windows=[[0, 1], [2, 3]])
    assert one.kind == "singleton"


def test_many_windows_are_settled_without_their_choices() -> None:
    gen = torch.Generator().manual_seed(0)
    a, x = torch.randn(400, 5, generator=gen, dtype=torch.float64), torch.randn(5, generator=gen, dtype=torch.float64)
    windows = torch.arange(400).reshape(100, 4)
    found = layer_preimage(a, torch.ones(400, dtype=torch.float64), x, windows=windows)
    assert found.kind == "singleton"  # 4^100 choices; the relaxed set is a point already
    check(found)
    with pytest.raises(InputError, match="windows"):
        layer_preimage(a, None, y=x, windows=windows)
    with pytest.raises(InputError, match="below 400"):
        layer_preimage(a, None, x, windows=windows + 1)


@pytest.mark.parametrize("gate", ["relu", "abs"])
def test_kinds_do_not_depend_on_the_unit_of_length(gate: Any) -> None:
    weight = tensor([[1, 0], [-2, 0], [0, 1], [1, -1], [0, -1]])
    for bias in (
        [1.0, -2.0, 3.0, 0.0, -3.0],
        [-1.0, -2.0, 1.0, 1.0, -4.0],
        [0.0, 0.0, 0.0, 0.0, 0.0],
        [0.5, 1.0, -1.0, 0.0, 2.0],
    ):
        for x in ([1.0, 2.0], [0.0, 0.0], [-1.0, -3.0]):
            kinds = set()
            for unit in (1.0, 1e-13, 1e-40, 1e13):
                found = layer_preimage(weight, unit * tensor(bias), unit * tensor(x), gate=gate)
                kinds.add((found.kind, found.dimension))
            assert len(kinds) == 1, (bias, x)


@pytest.mark.parametrize("reachable", [None, "orthant"])
def test_an_input_with_an_output_is_found_in_any_unit_of_length(reachable: Any) -> None:
    weight, bias, x = tensor([[1, 2], [-2, 1], [0, -1], [1, -1]]), tensor([1, -2, 1, -3]), tensor([2, 1])
    for unit in (1.0, 1e-10, 1e-13, 1e8):
        y = torch.relu(weight @ x + bias) * unit
        found = layer_preimage(weight, unit * bias, y=y, reachable=reachable)
        assert float((torch.relu(weight @ found.point + unit * bias) - y).abs().max()) <= 1e-8 * unit  # the solver's accuracy
    with pytest.raises(GeometryError, match="reachable"):
        layer_preimage(weight, 1e-13 * bias, -1e-13 * x, reachable="orthant")
