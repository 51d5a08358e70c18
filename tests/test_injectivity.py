"""Injectivity of layers: against rational oracles, known frames, and the pairs and bounds that answers come with."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from matplotlib import pyplot
from torch import Tensor

from oracles_injectivity import box, relu_collapses, shares_an_output
from polylens import (
    Ball,
    Box,
    Injectivity,
    Plane,
    Polytope,
    Segment,
    WholeSpace,
    dense,
    is_injective,
    is_layer_injective,
    largest_bias,
    load,
    zoo,
)
from polylens.errors import GeometryError, InputError, ShapeError, UnsupportedError
from polylens.injectivity import GATES
from strategies import layer

Layer = tuple[list[list[float]], list[float]]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def output(found: Injectivity, x: Tensor) -> Tensor:
    z = x @ found.weight.T + found.bias
    return {"relu": torch.relu(z), "abs": z.abs()}.get(found.gate, z)


def check(found: Injectivity, inputs: Tensor | None = None) -> None:
    """Hold an answer to its own evidence: the pair's outputs, or the bound on inputs."""
    if found.answer is False:
        assert found.pair is not None
        assert found.direction is not None
        first, second = output(found, found.pair)
        assert float((found.pair[1] - found.pair[0]).norm()) > 1e-9
        assert torch.allclose(first, second, atol=1e-11 * float(1 + found.weight.abs().sum()))
        assert float(found.direction.norm()) == pytest.approx(1.0)
    if found.answer and inputs is not None and found.constant is not None:
        x, y = inputs.chunk(2)
        stretch = (output(found, x) - output(found, y)).norm(dim=1) / (x - y).norm(dim=1)
        assert float(stretch.min()) >= found.constant * (1 - 1e-9)


# -- against oracles


@st.composite
def small(draw: st.DrawFn, most: int = 6) -> Layer:
    n = draw(st.integers(1, 3))
    return draw(layer(n, draw(st.integers(n, most))))


@settings(max_examples=60)
@given(small())
@example(([[1.0], [-1.0]], [-1.0, 2.0]))
@example(([[0.0, 0.25, 0.25], [0.0, 0.0, 0.0], [0.0, 0.0, 0.25]], [0.0] * 3))  # a kernel vector that is 1e-16 off
@example(([[1.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -0.5]], [0.0] * 4))
@example(([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]], [0.0, 1.0, 0.0, 0.0]))
def test_relu_on_the_whole_space_is_what_rational_elimination_says(drawn: Layer) -> None:
    weight, bias = drawn
    found = is_injective(weight, bias)
    check(found)
    assert found.answer is not relu_collapses(weight, bias, [])
    assert found.answer is not None


@settings(max_examples=60)
@given(small(5), st.sampled_from([0.5, 1.0, 2.0]))
def test_relu_on_a_box_is_what_rational_elimination_says(drawn: Layer, side: float) -> None:
    weight, bias = drawn
    n = len(weight[0])
    low, high = [-side] * n, [1.0] * n
    found = is_injective(weight, bias, Box(low, high))
    check(found)
    assert found.answer is not relu_collapses(weight, bias, box(low, high, strict=True))
    assert found.answer is not None
    if found.pair is not None:
        assert bool(((found.pair >= torch.tensor(low) - 1e-12) & (found.pair <= torch.tensor(high) + 1e-12)).all())


@st.composite
def tiny(draw: st.DrawFn) -> Layer:
    n = draw(st.integers(1, 2))
    return draw(layer(n, draw(st.integers(n, 3))))


@settings(max_examples=60)
@given(tiny(), st.sampled_from(["relu", "abs"]), st.booleans())
@example(([[1.0]], [0.0]), "abs", True)
@example(([[0.25, 0.0], [0.25, 0.25], [0.0, 0.25]], [0.0, 0.0, -0.25]), "abs", True)  # rows vanish together outside alone
def test_two_inputs_share_an_output_iff_the_definition_finds_them(drawn: Layer, gate: Any, bounded: bool) -> None:
    weight, bias = drawn
    n = len(weight[0])
    low, high = [0.0] * n, [1.0] * n
    found = is_injective(weight, bias, Box(low, high) if bounded else None, gate=gate)
    check(found)
    assert found.answer is not shares_an_output(weight, bias, gate, box(low, high, strict=False) if bounded else [])
    assert found.answer is not None


@settings(max_examples=40)
@given(small(5))
def test_on_a_ball_the_answer_lies_between_those_of_boxes_within_and_around(drawn: Layer) -> None:
    weight, bias = drawn
    n = len(weight[0])
    found = is_injective(weight, bias, Ball([0.0] * n, 1.0))
    check(found)
    inner = 0.99 / math.sqrt(n)
    if relu_collapses(weight, bias, box([-inner] * n, [inner] * n, strict=True)):
        assert found.answer is False
    if not relu_collapses(weight, bias, box([-1.0] * n, [1.0] * n, strict=True)):
        assert found.answer is not False
    if found.pair is not None:
        assert float(found.pair.norm(dim=1).max()) <= 1 + 1e-12


# -- known answers


@pytest.mark.parametrize("n", [1, 2, 5, 40])
def test_a_basis_and_its_scaled_negative_are_injective(n: int) -> None:
    basis = normal(n, n)
    scale = torch.rand(n, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 0.5
    found = is_injective(torch.cat([basis, -scale * basis]))
    assert found.answer
    assert found.method == "lines"
    check(found, normal(400, n, seed=2))


@pytest.mark.parametrize("n", [2, 3, 4, 10, 100])
def test_a_generic_layer_of_twice_as_many_units_is_not_injective(n: int) -> None:
    found = is_injective(normal(2 * n, n, seed=n))
    assert found.answer is False
    check(found)


@pytest.mark.parametrize(("n", "m"), [(2, 3), (5, 9), (64, 127), (100, 30)])
def test_fewer_than_twice_as_many_units_are_never_injective_on_the_whole_space(n: int, m: int) -> None:
    found = is_injective(normal(m, n), normal(m, seed=1))
    assert found.answer is False
    check(found)


def test_rows_with_negative_biases_can_be_needed() -> None:
    weight, bias = [[1.0], [-1.0]], [-1.0, 2.0]
    assert is_injective(weight, bias).answer
    assert is_injective([weight[1]], [bias[1]]).answer is False
    assert is_injective(weight, [-1.0, 0.5]).answer is False


def test_rows_on_the_verge_count_as_active() -> None:
    found = is_injective([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])  # at 0 no row is positive
    assert found.answer


def test_five_gaussian_rows_in_the_plane_are_injective_with_probability_one_sixteenth() -> None:
    draws = 300
    generator = torch.Generator().manual_seed(0)
    answers = [is_injective(torch.randn(5, 2, generator=generator, dtype=torch.float64)).answer for _ in range(draws)]
    assert None not in answers
    p = 1 / 16
    assert abs(sum(map(bool, answers)) / draws - p) <= 3 * math.sqrt(p * (1 - p) / draws)


@pytest.mark.parametrize("seed", range(3))
def test_cells_flats_and_the_whole_space_agree_on_where_a_layer_collapses(seed: int) -> None:
    weight, bias = normal(9, 3, seed=seed), normal(9, seed=10 + seed)
    by_cells = is_injective(weight, bias, Ball([0.0] * 3, 0.7))
    by_flats = is_injective(weight, bias, Ball([0.0] * 3, 0.7), limit=9 * 8 // 2 * 256, starts=1)
    assert by_cells.answer is by_flats.answer
    check(by_cells)
    check(by_flats)


@pytest.mark.parametrize("gate", ["relu", "abs", "crelu"])
def test_answers_do_not_depend_on_the_unit_of_length(gate: str) -> None:
    weight = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    for bias in (torch.zeros(3), torch.tensor([2.0, 2.0, 5.0]), torch.tensor([-0.5, 0.25, 0.0])):
        answers = set()
        for unit in (1.0, 1e-6, 1e-13, 1e-50, 1e50):
            side = torch.full((2,), unit, dtype=torch.float64)
            for domain in (Box(-side, side), Polytope.box(-side, side)):
                found = is_injective(weight, unit * bias.double(), domain, gate=gate)
                answers.add((found.answer, found.method))
        assert len(answers) == 1
        assert next(iter(answers))[0] is not None


def test_fewer_cells_than_there_are_leave_a_layer_undecided() -> None:
    weight = torch.tensor([[math.cos(k), math.sin(k)] for k in range(9)], dtype=torch.float64)
    assert is_injective(weight).answer is True
    for starts in (0, 4):
        found = is_injective(weight, limit=5, starts=starts)
        assert found.answer is None
        assert (found.lowest is None) == (starts == 0)


def test_few_undecided_rows_are_asked_by_linear_programs_in_high_dimensions() -> None:
    n = 30
    weight = torch.cat([torch.eye(n, dtype=torch.float64), normal(4, n)])
    bias = torch.cat([torch.full((n,), 2.0, dtype=torch.float64), normal(4, seed=1)])
    bias[0], bias[1] = 0.5, 0.5  # these two are off somewhere in the box
    found = is_injective(weight, bias, Box(-torch.ones(n), torch.ones(n)))
    assert (found.method, found.settled, found.answer) in {
        ("flats", n - 2, True),
        ("flats", n - 2, False),
        ("search", 0, False),
    }
    check(found)
    always = is_injective(weight, bias.abs() + 3, Box(-torch.ones(n), torch.ones(n)))
    assert (always.method, always.answer) == ("lines", True)
    check(always, 2 * torch.rand(400, n, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) - 1)


@pytest.mark.parametrize("place", [None, Ball([0.0, 0.5, 0.0], 2.0), Box([0.0, 0.0, 0.0], [math.inf] * 3)])
def test_no_two_inputs_are_closer_than_the_bound_says(place: Any) -> None:
    weight, bias = normal(24, 3, seed=5), normal(24, seed=6)
    found = is_injective(weight, bias, place)
    assert found.answer
    assert found.constant is not None
    x = normal(4000, 3, seed=7)
    x = x.abs() if isinstance(place, Box) else x / x.norm(dim=1, keepdim=True) + torch.tensor([0.0, 0.5, 0.0])
    check(found, x)


def test_a_search_that_finds_nothing_leaves_a_large_layer_undecided() -> None:
    found = is_injective(normal(200, 10))
    assert found.answer is None
    assert found.lowest is not None
    assert found.lowest > 0
    assert "undecided" in found.summary()


# -- gates and domains


@pytest.mark.parametrize("gate", ["leaky_relu", "crelu", "identity"])
def test_gates_that_lose_nothing_need_rows_that_span(gate: Any) -> None:
    weight = normal(5, 3)
    found = is_injective(weight, gate=gate, slope=0.25)
    assert found.answer
    assert found.constant == pytest.approx(
        {"leaky_relu": 0.25, "crelu": math.sqrt(0.5), "identity": 1.0}[gate] * float(torch.linalg.svdvals(weight)[-1])
    )
    flat = is_injective(weight @ torch.diag(torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)), gate=gate)
    assert flat.answer is False
    check(flat)


def test_absolute_values_are_even_around_a_common_zero_and_injective_for_generic_biases() -> None:
    weight = normal(8, 3)
    assert is_injective(weight, gate="abs").answer is False
    assert is_injective(weight, normal(8, seed=1), gate="abs").answer
    x = normal(3, seed=2)
    found = is_injective(weight, -(weight @ x), Ball(x + 0.1, 1.0), gate="abs")
    assert found.answer is False
    check(found)
    assert is_injective(weight, -(weight @ x), Ball(x + 9.0, 1.0), gate="abs").answer


def test_boundaries_decide_for_absolute_values_alone() -> None:
    assert is_injective([[1.0]], domain=Box([0.0], [1.0]), gate="abs").answer
    square = Box([0.0, 0.0], [1.0, 1.0])
    assert is_injective([[1.0, 0.0], [0.0, 1.0]], domain=square, gate="abs").answer
    assert is_injective([[1.0, 0.0], [0.0, 1.0]], domain=square).answer
    assert is_injective([[1.0, 0.0], [0.0, 1.0]], [-0.1, 0.0], square).answer is False


def test_flat_domains_are_seen_within_their_flat() -> None:
    weight = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
    assert is_injective(weight).answer is False
    plane = Plane([2.0, 2.0, 5.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0])
    assert is_injective(weight, domain=plane).answer
    found = is_injective(weight, domain=Segment([1.0, 1.0, 0.0], [1.0, 1.0, 4.0]))
    assert found.answer is False
    check(found)
    assert is_injective(weight, domain=Box([1.0, 1.0, 0.0], [2.0, 2.0, 0.0])).answer
    assert is_injective(weight, domain=Box([1.0, 1.0, 3.0], [1.0, 1.0, 3.0])).answer  # one point
    assert is_injective(weight, domain=Polytope.simplex(3)).answer is False


def test_a_segment_stretches_as_its_bound_says() -> None:
    found = is_injective([[3.0, 4.0]], [0.0], Segment([0.0, 0.0], [3.0, 4.0]))
    assert found.answer
    assert found.constant == pytest.approx(2.5)  # half of what it is: nothing is known of where a row begins to be active


def test_layers_of_networks_start_from_what_their_gates_let_through() -> None:
    net = dense([(normal(12, 3), normal(12, seed=1)), (torch.eye(12, dtype=torch.float64), None), (normal(2, 12), None)])
    second = is_layer_injective(net, "relu2")  # x >= 0 passes a ReLU as it is
    assert second.answer
    assert isinstance(second.domain, Box)
    assert is_layer_injective(net, "linear3").answer is False
    first = is_layer_injective(net, 0)
    assert isinstance(first.domain, WholeSpace)
    assert first.answer is is_injective(normal(12, 3), normal(12, seed=1)).answer
    leaky = dense([(normal(4, 3), None), (normal(2, 4), None)], gate="leaky_relu")
    assert is_layer_injective(leaky, "leaky_relu1").answer


def test_a_convolution_is_asked_through_its_matrix() -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 1, bias=False), torch.nn.ReLU()).eval()
    with torch.no_grad():
        module[0].weight.copy_(torch.tensor([1.0, -2.0]).reshape(2, 1, 1, 1))
    assert is_layer_injective(load(module, torch.zeros(1, 1, 4, 4)), 0).answer


def test_the_digits_network_loses_something_in_every_layer() -> None:
    net = zoo.digits()
    for gate in net.gates:
        found = is_layer_injective(net, gate.name)
        assert found.answer is False
        check(found)
    assert is_layer_injective(net, 0, Box(torch.zeros(64), torch.ones(64))).answer is False


# -- the largest bias


def golden() -> Tensor:
    phi = (1 + math.sqrt(5)) / 2
    corners = [v for s in (1, -1) for t in (phi, -phi) for v in ([0, s, t], [s, t, 0], [t, 0, s])]
    return unit(torch.tensor(corners, dtype=torch.float64))


def unit(rows: Tensor) -> Tensor:
    return rows / rows.norm(dim=1, keepdim=True)


EYE = torch.eye(3, dtype=torch.float64)
FRAMES = {
    "icosahedron": (golden(), 1 / math.sqrt(5)),
    "octahedron": (torch.cat([EYE, -EYE]), 0.0),
    "tetrahedron": (
        unit(torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], dtype=torch.float64)),
        -1 / math.sqrt(3),
    ),
    "three at 120 degrees": (
        torch.tensor([[math.cos(t), math.sin(t)] for t in (0, 2 * math.pi / 3, 4 * math.pi / 3)], dtype=torch.float64),
        -0.5,
    ),
}


@pytest.mark.parametrize("name", FRAMES)
def test_frames_have_their_largest_bias(name: str) -> None:
    rows, value = FRAMES[name]
    found = largest_bias(rows)
    assert found.value == pytest.approx(value, abs=1e-12)
    assert found.point is not None
    assert float(found.level(found.point)) == pytest.approx(value, abs=1e-12)
    assert largest_bias(rows, "ball").value == pytest.approx(min(value, 0.0), abs=1e-12)
    twice = largest_bias(torch.cat([rows, rows, torch.zeros_like(rows[:1])]), radius=2.0)
    assert twice.value == pytest.approx(2 * value, abs=1e-12)


@pytest.mark.parametrize("name", FRAMES)
def test_the_largest_bias_is_where_injectivity_on_the_ball_ends(name: str) -> None:
    rows, _ = FRAMES[name]
    n = rows.shape[1]
    value = largest_bias(rows, "ball").value
    for step, answer in ((-1e-6, True), (1e-6, False)):
        bias = torch.full((len(rows),), -(value + step), dtype=torch.float64)
        assert is_injective(rows, bias, Ball([0.0] * n, 1.0)).answer is answer


@pytest.mark.parametrize(("m", "n"), [(2, 1), (3, 1), (4, 2), (9, 2), (5, 3), (9, 3), (8, 4)])
def test_no_point_of_the_sphere_falls_below_the_largest_bias(m: int, n: int) -> None:
    rows = normal(m, n, seed=m)
    found = largest_bias(rows)
    assert found.point is not None
    assert float(found.level(found.point)) == pytest.approx(found.value, abs=1e-9)
    assert float(found.level(unit(normal(400, n, seed=1))).min()) >= found.value - 1e-9
    near = unit(found.point + 1e-3 * normal(100, n, seed=2))
    assert float(found.level(near).min()) >= found.value - 1e-9
    above = rows @ found.point > found.value + 1e-9
    assert set(torch.nonzero(above).reshape(-1).tolist()) <= set(found.flat.tolist())


@settings(max_examples=30)
@given(small(6))
def test_degenerate_rows_have_a_largest_bias_that_sampling_does_not_undercut(drawn: Layer) -> None:
    rows = torch.tensor(drawn[0], dtype=torch.float64)
    found = largest_bias(rows)
    if torch.linalg.matrix_rank(rows) < rows.shape[1]:
        assert found.value == -math.inf
        assert found.point is None
        return
    assert found.point is not None
    assert float(found.level(found.point)) == pytest.approx(found.value, abs=1e-9)
    assert float(found.level(unit(normal(60, rows.shape[1]))).min()) >= found.value - 1e-9


def test_a_frame_too_large_for_all_its_hyperplanes_is_refused() -> None:
    with pytest.raises(InputError, match="raise the limit"):
        largest_bias(normal(40, 6))


# -- what answers say


def test_answers_are_plain_and_drawn() -> None:
    open_space = is_injective(normal(6, 2), normal(6, seed=1))
    ball = is_injective(normal(6, 2), normal(6, seed=1), Ball([0.0, 0.0], 1.0))
    square = is_injective(normal(6, 2), normal(6, seed=1), Box([-1.0, -1.0], [1.0, 1.0]))
    for found in (open_space, ball, square):
        json.dumps(found.to_dict(), allow_nan=False)
        assert found.summary().startswith(("injective", "not injective"))
        assert found.plot().get_title(loc="left")
    bias = largest_bias(normal(6, 2))
    json.dumps(bias.to_dict(), allow_nan=False)
    assert "iff alpha <=" in bias.summary()
    assert bias.plot().get_title(loc="left")
    assert "do not span" in largest_bias([[1.0, 0.0]]).summary()
    pyplot.close("all")


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(GeometryError, match="2 inputs"):
        is_injective(normal(6, 3)).plot()
    with pytest.raises(GeometryError, match="2 entries"):
        largest_bias(normal(6, 3)).plot()


def test_wrong_questions_are_refused() -> None:
    assert set(GATES) == {"relu", "leaky_relu", "crelu", "abs", "identity"}
    with pytest.raises(InputError, match="gate"):
        is_injective(normal(3, 2), gate="tanh")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="slope"):
        is_injective(normal(3, 2), gate="leaky_relu", slope=-1.0)
    with pytest.raises(ShapeError, match="weight"):
        is_injective([1.0, 2.0])
    with pytest.raises(ShapeError, match="bias"):
        is_injective(normal(3, 2), [1.0])
    with pytest.raises(ShapeError, match="domain"):
        is_injective(normal(3, 2), domain=Ball([0.0], 1.0))
    with pytest.raises(InputError, match="radius"):
        Ball([0.0], 0.0)
    with pytest.raises(InputError, match="sphere"):
        largest_bias(normal(3, 2), "cube")  # type: ignore[arg-type]
    with pytest.raises(UnsupportedError, match="ReLU, LeakyReLU, Abs, a strictly increasing gate"):
        is_layer_injective(dense([(normal(3, 2), None), (normal(1, 3), None)], gate="gelu"), 0)
